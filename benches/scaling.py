"""How the time and memory of scoring grow: one plot each against samples, features, classes, layers.

    cargo build --release --example score_speed
    python benches/scaling.py [--rounds 5]       # writes docs/scaling-*.svg and prints the numbers

Run by hand, beside `benches/peers.py`, whose heads it uses: random weights, half of the units active.
"""

import argparse
import os
import statistics
import tempfile

import numpy
import onnx

import peers

HERE = os.path.dirname(os.path.abspath(__file__))
# samples, widths; one of them varies in each plot
BASE = (512, [2048, 512, 100])
AXES = {
    "samples": [(count, BASE[1]) for count in (128, 256, 512, 1024, 2048, 4096)],
    "features": [(BASE[0], [width, 512, 100]) for width in (512, 1024, 2048, 4096, 8192, 16384)],
    "classes": [(BASE[0], [2048, 512, count]) for count in (10, 50, 100, 250, 500, 1000)],
    "layers": [(BASE[0], [2048] + [512] * count + [100]) for count in (1, 2, 3, 4, 5, 6)],
}
NORMS = ["2", "inf", "1,2,inf"]
COLOURS = {"2": "#3b6fb6", "inf": "#c25b2f", "1,2,inf": "#4b8a4b"}


def size(axis, setting):
    samples, widths = setting
    return {"samples": samples, "features": widths[0], "classes": widths[-1], "layers": len(widths) - 1}[axis]


def measure(setting, options):
    """Median seconds and peak MB for each set of norms."""
    samples, widths = setting
    generator = numpy.random.default_rng(0)
    layers = []
    for inputs, outputs in zip(widths, widths[1:]):
        weight = generator.standard_normal((outputs, inputs), numpy.float32) * numpy.float32((2 / inputs) ** 0.5)
        layers.append((weight, numpy.zeros(outputs, numpy.float32)))
    with tempfile.TemporaryDirectory() as folder:
        path, rows = os.path.join(folder, "head.onnx"), os.path.join(folder, "features.f32")
        onnx.save(peers.head(layers)[0], path)
        generator.random((samples, widths[0]), numpy.float32).tofile(rows)
        found = {}
        for norms in NORMS:
            runs = [peers.ours(path, rows, norms, options, 1024) for _ in range(options.rounds)]
            found[norms] = (statistics.median(run[0] for run in runs), max(run[1] for run in runs))
    return found


def panel(title, unit, axis, points, left):
    """Lines over a logarithmic grid, with one of slope 1 for comparison."""
    width, height, top = 320, 220, 40
    xs = [x for x, _ in points]
    ys = [y for _, values in points for y in values.values()]
    low_x, high_x, low_y, high_y = min(xs), max(xs), min(ys) / 1.5, max(ys) * 1.5
    place = lambda value, low, high, length: numpy.log(value / low) / numpy.log(high / low) * length
    at = lambda x, y: (left + place(x, low_x, high_x, width), top + height - place(y, low_y, high_y, height))
    parts = [
        f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="none" stroke="#888"/>',
        f'<text x="{left}" y="{top - 12}">{title}</text>',
    ]
    for x in xs:
        parts.append(f'<text x="{at(x, low_y)[0]:.0f}" y="{top + height + 16}" text-anchor="middle">{x:,}</text>')
    step = 10 ** numpy.floor(numpy.log10(low_y))
    while step <= high_y:
        for value in (step, 2 * step, 5 * step):
            if low_y <= value <= high_y:
                y = at(low_x, value)[1]
                parts.append(f'<line x1="{left}" x2="{left + width}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
                parts.append(f'<text x="{left - 6}" y="{y + 4:.0f}" text-anchor="end">{value:g} {unit}</text>')
        step *= 10
    for norms in NORMS:
        line = " ".join("{:.1f},{:.1f}".format(*at(x, values[norms])) for x, values in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{COLOURS[norms]}" stroke-width="2"/>')
    start = points[0][1][NORMS[0]]
    until = min(high_x, low_x * high_y / start)
    (x1, y1), (x2, y2) = at(low_x, start), at(until, start * until / low_x)
    parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#aaa" stroke-dasharray="4"/>')
    return parts


def plot(axis, points):
    times = [(x, {norms: seconds for norms, (seconds, _) in values.items()}) for x, values in points]
    memory = [(x, {norms: peak for norms, (_, peak) in values.items()}) for x, values in points]
    parts = panel(f"seconds against {axis}", "s", axis, times, 70)
    parts += panel(f"peak memory against {axis}", "MB", axis, memory, 490)
    for number, norms in enumerate(NORMS):
        parts.append(f'<text x="{70 + 110 * number}" y="300" fill="{COLOURS[norms]}">p = {norms}</text>')
    parts.append('<text x="420" y="300" fill="#888">dashed: linear</text>')
    text = "\n".join(parts)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" width="830" height="310" font-family="sans-serif" '
        f'font-size="12"><rect width="830" height="310" fill="white"/>\n{text}\n</svg>\n'
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--binary", default="target/release/examples/score_speed")
    parser.add_argument("--only", default=",".join(AXES))
    options = parser.parse_args()
    for axis in options.only.split(","):
        points = []
        for setting in AXES[axis]:
            found = measure(setting, options)
            points.append((size(axis, setting), found))
            told = ", ".join(f"p = {norms} {seconds:.3f} s {peak:.0f} MB" for norms, (seconds, peak) in found.items())
            print(f"{axis} {size(axis, setting)}: {told}", flush=True)
        with open(os.path.join(HERE, f"../docs/scaling-{axis}.svg"), "w") as file:
            file.write(plot(axis, points))


if __name__ == "__main__":
    main()
