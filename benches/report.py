"""Makes Markdown tables of what benches/speed.rs measured, and plots.

The tables go to standard output. A row that misses its target says so. With --keep DOCUMENT they also take the place of the
last run's in that document, between two comments; plots and figures go to the directory of the document's name.
"""

import argparse
import json
import os
import pathlib
import platform
import sys

# Each is a ratio of podeip to its reference, at most.
WALL_OF_GO = 0.30
MEMORY_OF_GO = 0.5
OF_LEAST = 1.10
OF_ONE = 1.3
OF_FEW = 2.0
OF_FLOOR = 1.2

# What is between them in a document is of the last run that was kept.
BEGIN = "<!-- scripts/bench --keep: begin -->"
END = "<!-- scripts/bench --keep: end -->"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=pathlib.Path)
    parser.add_argument("figures", type=pathlib.Path)
    arguments = parser.parse_args()
    parts = json.loads(arguments.figures.read_text())["parts"]
    tables = [TABLES[name](parts[name]) for name in TABLES if name in parts]
    sys.stdout.write("\n\n".join([machine()] + tables) + "\n")
    if arguments.keep:
        keep(arguments.keep, parts)


def keep(document, measured):
    directory = document.with_suffix("")
    directory.mkdir(exist_ok=True)
    file = directory / "speed.json"
    parts = (json.loads(file.read_text())["parts"] if file.exists() else {}) | measured
    file.write_text(json.dumps({"machine": machine(), "parts": parts}, indent=2) + "\n")
    plots = plot(parts, directory)
    sections = [machine() + "."]
    for name in TABLES:
        sections.append(TABLES[name](parts[name]))
        if name in plots:
            sections.append(f"![{plots[name]}]({directory.name}/{name}.svg)")
    text = document.read_text()
    if BEGIN not in text or END not in text:
        sys.exit(f"{document} has no place for the tables: between {BEGIN} and {END}")
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    document.write_text(before + BEGIN + "\n\n" + "\n\n".join(sections) + "\n\n" + END + after)


def machine():
    model = next((line.split(":", 1)[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} × {model}, {memory:.0f} GiB, Linux {platform.release()}"


def table(title, columns, rows):
    lines = [f"**{title}**", "", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def held(ratio, target):
    return f"{ratio:.2f}" if ratio <= target else f"{ratio:.2f} (missed)"


def pass_through(part):
    ours, *others = part["plugins"]
    rows = [[ours["plugin"], f"{ours['wall_ms']:.2f}", f"{ours['cpu_ms']:.2f}", str(ours["peak_rss_kib"]), "", ""]]
    for it in others:
        ratios = [held(ours["wall_ms"] / it["wall_ms"], WALL_OF_GO),
                  held(ours["peak_rss_kib"] / it["peak_rss_kib"], MEMORY_OF_GO)]
        rows.append([it["plugin"], f"{it['wall_ms']:.2f}", f"{it['cpu_ms']:.2f}", str(it["peak_rss_kib"]), *ratios])
    columns = ["plugin", "wall, ms", "CPU, ms", "peak RSS, KiB", f"podeip's wall (≤ {WALL_OF_GO:.2f})",
               f"podeip's RSS (≤ {MEMORY_OF_GO})"]
    return table(f"A pod that asks for nothing (medians of {part['rounds']} interleaved runs)", columns, rows)


def serial(part):
    rows = []
    for it in part["rows"]:
        row = [f"{it['binding_ms']:.0f}"]
        for verb in ("add", "del"):
            row += [f"{it[verb]['least_ms']:.0f}", f"{it[verb]['median_ms']:.0f}", held(it[verb]["ratio"], OF_LEAST)]
        rows.append(row + [f"{it['add']['first_ratio']:.2f}", f"{it['describes_per_add']:.1f}"])
    columns = ["cloud binds in, ms", "ADD at least", "ADD", f"ratio (≤ {OF_LEAST:.2f})", "DEL at least", "DEL",
               f"ratio (≤ {OF_LEAST:.2f})", "the node's first ADD", "looks per ADD"]
    title = (f"With an EIP, beside the calls and waits that must follow one another ({part['cloud_call_ms']:.0f} ms for a "
             f"call to the cloud, {part['kube_call_ms']:.0f} ms to the API server)")
    return table(title, columns, rows)


def at_once(part):
    rows = [["1", f"{part['alone_ms']:.0f}", "1"]]
    rows += [[str(it["pods"]), f"{it['wall_ms']:.0f}", held(it["ratio"], OF_ONE)] for it in part["rows"]]
    return table("Pods that start at once on one node", ["pods", "until the last one has its EIP, ms",
                                                         f"ratio to one (≤ {OF_ONE})"], rows)


def state_size(part):
    rows = []
    for it in part["rows"]:
        row = [str(it["attachments"])]
        for kind in ("add", "plain"):
            row += [f"{it[kind]['cpu_ms']:.1f}", held(it[kind]["ratio"], OF_FEW)]
        rows.append(row)
    columns = ["attachments", "CPU of an ADD with EIP, ms", f"ratio (≤ {OF_FEW:.0f})", "of one without, ms",
               f"ratio (≤ {OF_FEW:.0f})"]
    return table("A node with many attachments", columns, rows)


def scale(part):
    rows = []
    for it in part["rows"]:
        calls = it["calls"]
        row = [str(it["pods"]), f"{it['killed_share']:.0%}", f"{it['floor_s']:.0f}", f"{it['half_bound_s']:.0f}",
               f"{it['wall_s']:.0f}", held(it["ratio"], OF_FLOOR), str(it["adds"]), str(it["killed"]),
               ", ".join(f"{count} × code {code}" for code, count in it["failed"].items()) or "0"]
        for action in ("AllocateEipAddress", "AssociateEipAddress", "DescribeEipAddresses"):
            row.append(f"{calls[action]['made']} ({calls[action]['throttled']})")
        rows.append(row + [str(it["bought_twice"]), str(it["left"])])
    columns = ["pods", "of the ADDs killed", "at least, s", "half of them bound, s", "all bound, s",
               f"ratio (≤ {OF_FLOOR})", "ADDs", "killed", "failed", "Allocate (throttled)", "Associate (throttled)",
               "Describe (throttled)", "bought twice", "left over"]
    return table("Pods that start at once in a cluster, ten on a node, under the limits of a real account", columns, rows)


TABLES = {"pass-through": pass_through, "serial": serial, "at-once": at_once, "state-size": state_size,
          "scale": scale}


def plot(parts, directory):
    import matplotlib
    matplotlib.use("svg")
    # So that two runs with equal figures give equal files.
    matplotlib.rcParams["svg.hashsalt"] = "podeip"
    import matplotlib.pyplot as plt

    drawn = {}

    def draw(name, title, xlabel, ylabel, lines, target, logarithmic=False):
        figure, axes = plt.subplots(figsize=(6, 3.5))
        for label, xs, ys in lines:
            axes.plot(xs, ys, marker="o", label=label)
        axes.plot(*target, linestyle="--", linewidth=1, color="gray", label="target")
        if logarithmic:
            axes.set_xscale("log")
        axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
        axes.set_ylim(bottom=0)
        axes.legend()
        figure.tight_layout()
        figure.savefig(directory / f"{name}.svg", metadata={"Date": None})
        plt.close(figure)
        drawn[name] = title

    def level(xs, target):
        return [xs[0], xs[-1]], [target, target]

    rows = parts["serial"]["rows"]
    bindings = [it["binding_ms"] for it in rows]
    draw("serial", "ADD and DEL beside the least possible", "ms until the cloud has bound or unbound", "ratio",
         [(verb.upper(), bindings, [it[verb]["ratio"] for it in rows]) for verb in ("add", "del")],
         level(bindings, OF_LEAST))
    rows = parts["at-once"]["rows"]
    pods = [1] + [it["pods"] for it in rows]
    draw("at-once", "Pods that start at once on one node", "pods", "ratio to one",
         [("ADD", pods, [1] + [it["ratio"] for it in rows])], level(pods, OF_ONE))
    rows = parts["state-size"]["rows"]
    sizes = [it["attachments"] for it in rows]
    draw("state-size", "A node with many attachments", "attachments", "CPU, ratio to 10",
         [("ADD with EIP", sizes, [it["add"]["ratio"] for it in rows]),
          ("ADD without", sizes, [it["plain"]["ratio"] for it in rows])], level(sizes, OF_FEW), logarithmic=True)
    rows = parts["scale"]["rows"]
    lines = []
    for share in sorted({it["killed_share"] for it in rows}):
        of = [it for it in rows if it["killed_share"] == share]
        label = f"{share:.0%} of the ADDs killed" if share else "none killed"
        lines.append((label, [it["pods"] for it in of], [it["wall_s"] for it in of]))
    unkilled = [it for it in rows if not it["killed_share"]]
    target = ([it["pods"] for it in unkilled], [it["floor_s"] * OF_FLOOR for it in unkilled])
    draw("scale", "Pods that start at once in a cluster", "pods", "s until all are bound", lines, target, logarithmic=True)
    return drawn


if __name__ == "__main__":
    main()
