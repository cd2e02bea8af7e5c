"""The report of a run as Markdown: `summary.py REPORT.json EXITCODE`."""

import json
import sys
from pathlib import Path


def row(*cells):
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def percent(value):
    return "" if value is None else f"{value:.2f} %"


def summary(report):
    before, after = report["input"], report["output"]
    lines = ["", row("", "before", "after"), row("---", "---:", "---:")]
    lines += [row(name, f"{before[name]:,}", f"{after[name]:,}") for name in ("parameters", "bytes")]
    lines += [row(f"neurons of {layer['name']}", layer["width"], layer["kept"]) for layer in report["layers"]]
    for name, what in (("accuracy", "accuracy"), ("agreement", "same class as before")):
        found = report.get(name)
        if found:
            label = f"{what}, {found['samples']:,} samples"
            lines.append(row(label, percent(found["original"]), percent(found.get("output"))))
    for check in (report.get("verification") or {}).get("checks", []):
        verdict = "holds" if check["passed"] else "**does not hold**"
        lines.append(f"\nproof in {check['engine']}: {check['what']}: {verdict}")
    return lines


def main():
    path, code = Path(sys.argv[1]), int(sys.argv[2])
    verdict = {0: "done", 1: "a check or the budget was not met"}.get(code, "an error; see the log")
    lines = [f"### onnx-prune: {verdict}"]
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if text.strip():
        lines += summary(json.loads(text))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
