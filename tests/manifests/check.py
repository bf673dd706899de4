"""The manifests in install/ and the Helm chart: they say the same, the schemas take them, and podeip reads what they set.

    check.py --tools DIR --podeip EXECUTABLE

DIR holds directories with `helm` and `kubectl` in them; each is tried. See scripts/test.
"""

import argparse
import base64
import json
import re
import subprocess
import tempfile
from pathlib import Path

import kubernetes_validate
import yaml
from cloudcoil.models.prometheus_operator import v1 as prometheus_operator

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
INSTALL = ROOT / "install"
CHART = INSTALL / "helm" / "podeip"
EVERYTHING = ["--values", str(HERE / "everything.yaml")]
OFF = ["--set", "enableEipPool=false"]
# The oldest and the newest whose schemas there are.
KUBERNETES = ["1.25", "1.37"]

# --set, and a word of what helm must say. The rest of the values is as in everything.yaml.
REFUSED = {
    "clusterid=c1": "clusterid",
    "image.name=podeip": "name",
    "clusterID=acs:c1": "clusterID",
    "clusterID=": "clusterID is empty",
    "networkController.vpcID=vpc-1": "vpcID",
    "networkController.eipController.garbageCollectionPeriodInMinutes=0": "garbageCollectionPeriodInMinutes",
    "networkController.eipController.garbageCollectionPeriodInMinutes=1m": "garbageCollectionPeriodInMinutes",
    "customStatefulWorkloadKinds=CloneSet": "customStatefulWorkloadKinds",
    "enableRRSA=yes": "enableRRSA",
    "rrsaRoleName=": "rrsaRoleName",
    "credential.accessKey=": "credential",
    "credential.accessSecret=": "credential",
    "kubeClientQPS=0": "kubeClientQPS",
    "kubeClientQPS=0.0": "kubeClientQPS",
    "kubeClientQPS=fast": "kubeClientQPS",
    "kubeClientBurst=0": "kubeClientBurst",
    "enableEipPool=maybe": "enableEipPool",
    "eniConf.access_secret=x": "access_secret",
    "eniConf.cluster_id=c2": "cluster_id",
    "image.pullPolicy=Sometimes": "pullPolicy",
    "monitoring.podMonitor=1": "podMonitor",
}


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def settings_in(document: dict) -> None:
    """Puts the JSON of an `eni_conf` in the place of its text, for its layout does not matter."""
    for field, decode in [("data", str if document["kind"] == "ConfigMap" else base64.b64decode), ("stringData", str)]:
        values = document.get(field) or {}
        if "eni_conf" in values:
            values["eni_conf"] = json.loads(decode(values["eni_conf"]))


def objects(text: str) -> dict:
    found = {}
    for document in yaml.safe_load_all(text):
        if document is None:
            continue
        settings_in(document)
        key = (document["kind"], document["metadata"].get("namespace"), document["metadata"]["name"])
        assert key not in found, f"{key} is there twice"
        found[key] = document
    return found


def template(tools: Path, chart: Path, *arguments: str) -> dict:
    return objects(run(tools / "helm", "template", "podeip", chart, "--include-crds", *arguments))


def kustomize(kubectl: str | Path, directory: Path) -> dict:
    return objects(run(kubectl, "kustomize", directory))


def assert_same(left: dict, right: dict, what: str) -> None:
    assert left.keys() == right.keys(), f"{what}: {sorted(left.keys() ^ right.keys(), key=str)}"
    for key, wanted in right.items():
        assert left[key] == wanted, f"{what}: {key}\n{yaml.dump(left[key])}\n-- and --\n{yaml.dump(wanted)}"


def without_rules(rendered: dict) -> dict:
    """Kustomize has no way to make the PrometheusRule of a file of rules."""
    rendered = dict(rendered)
    rule = rendered.pop(("PrometheusRule", "kube-system", "podeip"))
    assert rule["spec"] == yaml.safe_load((INSTALL / "monitoring" / "alerts.yaml").read_text())
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    return rendered


def check_chart(tools: Path) -> None:
    assert_same(template(tools, CHART, *OFF), kustomize(tools / "kubectl", INSTALL), "as it stands")
    everything = template(tools, CHART, *EVERYTHING)
    assert_same(without_rules(everything), kustomize(tools / "kubectl", HERE / "overlay"), "everything set")
    # Texts, as a shell gives them.
    typed = [*EVERYTHING, "--set", "kubeClientQPS=2.5", "--set", "kubeClientBurst=20"]
    rendered = template(tools, CHART, *typed)["ConfigMap", "kube-system", "podeip"]
    assert float(rendered["data"]["eni_conf"]["kube_client_qps"]) == 2.5, rendered
    run(tools / "helm", "lint", "--strict", CHART, *EVERYTHING)
    with tempfile.TemporaryDirectory() as directory:
        run(tools / "helm", "package", CHART, "--destination", directory)
        [package] = Path(directory).iterdir()
        assert_same(template(tools, package, *EVERYTHING), everything, "the package")


def check_refusals(tools: Path) -> None:
    for setting, word in REFUSED.items():
        command = [tools / "helm", "template", "podeip", CHART, *EVERYTHING, "--set", setting]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode != 0, f"{setting} is taken"
        told = [line for line in done.stderr.splitlines() if "symbolic link" not in line]
        assert word in "\n".join(told), f"{setting}: {told}"


def leaves(values: dict, schema: dict, above: str = "") -> set[str]:
    """The names of all values, down to where the schema lets anything stand."""
    found = set()
    for key, value in values.items():
        inner = schema["properties"][key]
        if isinstance(value, dict) and "properties" in inner:
            found |= leaves(value, inner, f"{above}{key}.")
        else:
            found.add(above + key)
    return found


def check_values() -> None:
    """No value is forgotten by the schema, the comparison or the documentation."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = leaves(yaml.safe_load((CHART / "values.yaml").read_text()), schema)
    assert leaves(yaml.safe_load((HERE / "everything.yaml").read_text()), schema) == values
    documented = set(re.findall(r"^\| `([^`]+)`", (ROOT / "docs" / "helm.md").read_text(), re.MULTILINE))
    assert documented == values, documented ^ values


def check_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    [version] = re.findall(r'^version = "(.+)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)
    assert chart["version"] == chart["appVersion"] == version, f"{chart} and {version}"


def check_keys(podeip: str, rendered: dict) -> None:
    """Each key of `eni_conf` is one that podeip reads: it refuses a value that no key can have."""
    merged = {}
    for kind, name in [("ConfigMap", "podeip"), ("Secret", "podeip-credential")]:
        merged |= rendered[kind, "kube-system", name]["data"]["eni_conf"]
    assert len(merged) > 10, merged
    accepted, answer = takes(podeip, merged)
    assert accepted, answer
    for key in merged:
        accepted, answer = takes(podeip, {**merged, key: [[]]})
        assert not accepted and f'key "{key}"' in answer, f"{key}: {answer}"


def takes(podeip: str, settings: dict) -> tuple[bool, str]:
    """Whether podeip renders these settings in a directory of their own, and what it says."""
    with tempfile.TemporaryDirectory() as directory:
        source, target = Path(directory, "podeip.json"), Path(directory, "eni_conf")
        source.write_text(json.dumps(settings))
        paths = ["--config", target, "--kubeconfig", Path(directory, "kubeconfig"), "--state-dir", Path(directory, "state"),
                 "--conf-dir", Path(directory, "net.d"), "--bin-dir", Path(directory, "bin"),
                 "--service-account", Path(directory, "account")]
        command = [podeip, "install", "--settings-from", source, *paths]
        # It fails for want of a cluster, after the settings.
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stderr
        return target.exists(), answer


def prometheus_takes(document: dict) -> None:
    """The model passes over what it does not know: nothing may be missing from what it read."""
    model = getattr(prometheus_operator, document["kind"])
    read = model.model_validate(document).model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert read == document, f"not known: {yaml.dump(document)}\n-- read as --\n{yaml.dump(read)}"


def check_schemas(texts: list[str]) -> None:
    for text in texts:
        for document in filter(None, yaml.safe_load_all(text)):
            if document["apiVersion"].startswith("monitoring.coreos.com/"):
                prometheus_takes(document)
            # The simulated API server checks PodEIPs by their definition.
            elif document["kind"] != "PodEIP":
                for version in KUBERNETES:
                    kubernetes_validate.validate(document, version, strict=True)


def check_that_schemas_refuse() -> None:
    """Or all that passes would mean nothing."""
    daemonset = (INSTALL / "daemonset.yaml").read_text()
    monitor = (INSTALL / "monitoring" / "podmonitor.yaml").read_text()
    for text, old, new in [
        (daemonset, "hostPID: true", "hostPid: true"),
        (daemonset, "terminationGracePeriodSeconds: 30", "terminationGracePeriodSeconds: 30s"),
        (monitor, "relabelings:", "relabelConfigs:"),
    ]:
        try:
            assert old in text
            check_schemas([text.replace(old, new)])
        except (kubernetes_validate.ValidationError, AssertionError):
            continue
        raise AssertionError(f"{new} is taken")


def plain_manifests() -> list[str]:
    not_objects = {"kustomization.yaml", "metrics.yaml", "alerts.yaml"}
    files = [*INSTALL.glob("*.yaml"), *INSTALL.glob("samples/*.yaml"), *INSTALL.glob("monitoring/*.yaml")]
    return [file.read_text() for file in files if file.name not in not_objects]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tools", type=Path, required=True)
    parser.add_argument("--podeip", required=True)
    options = parser.parse_args()
    check_version()
    check_values()
    found = sorted(options.tools.glob("*/helm"))
    assert found, f"no helm below {options.tools}"
    for helm in found:
        check_chart(helm.parent)
        check_refusals(helm.parent)
    rendered = template(found[-1].parent, CHART, *EVERYTHING)
    check_keys(options.podeip, rendered)
    # The one that is installed may be an old one.
    assert_same(kustomize("kubectl", INSTALL), kustomize(found[-1].with_name("kubectl"), INSTALL), "kubectl of this machine")
    check_that_schemas_refuse()
    helm = [run(file, "template", "podeip", CHART, "--include-crds", *EVERYTHING) for file in found]
    check_schemas(plain_manifests() + helm)
    print(f"{len(rendered)} objects by helm and kustomize, {len(REFUSED)} values refused")


main()
