"""``python -m tests.bench.drawings``: draws results.json as three SVG files, for RESULTS.rst.

Needs nothing beside Python. Bars are medians; thin lines go from the smallest to the largest.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

HERE = Path(__file__).parent

COLOURS = {"ours": "#1b6ca8", "S3 sibling": "#e08a1e", "file_system": "#8a8a8a"}
WIDTH, LEFT, RIGHT, TOP = 760, 190, 90, 86
BAR, GAP = 17, 16

#: File name, title, what the axis shows, the metric's key, and the cases with their labels.
PLOTS: tuple[tuple[str, str, str, str, dict[str, str]], ...] = (
    (
        "requests",
        "5 KB files that only Swift has: requests/s",
        "Requests per second; more is better",
        "rate",
        {
            "5 KB c=40": "cold, 40 clients",
            "5 KB c=200": "cold, 200 clients",
            "5 KB again c=40": "hot, 40 clients",
            "5 KB again c=200": "hot, 200 clients",
        },
    ),
    (
        "processor",
        "20 MB files, 40 clients: processor time of Synapse",
        "CPU seconds per GiB; less is better",
        "per_gib",
        {
            "20 MB c=40": "streamed, plain",
            "20 MB TLS c=40": "streamed, TLS",
            "20 MB redirected c=40": "redirected, plain",
            "20 MB redirected TLS c=40": "redirected, TLS",
        },
    ),
    (
        "latency",
        "A trivial request to Synapse beside downloads",
        "99th percentile in ms; less is better",
        "probe_p99",
        {
            "5 KB c=40": "5 KB cold, 40 clients",
            "5 KB again c=40": "5 KB hot, 40 clients",
            "20 MB c=40": "20 MB, 40 clients",
            "20 MB redirected c=40": "20 MB redirected, 40",
            "20 MB c=200": "20 MB, 200 clients",
        },
    ),
)


def main(folder: Path = HERE) -> None:
    """Draw all plots.

    :param folder: where the files go.
    """
    stored = json.loads((HERE / "results.json").read_text())
    for name, title, axis, key, cases in PLOTS:
        (folder / f"{name}.svg").write_text(draw(stored, title, axis, key, cases))


def draw(
    stored: Mapping[str, Any], title: str, axis: str, key: str, cases: Mapping[str, str]
) -> str:
    """One plot as SVG.

    :param stored: what results.json holds.
    :param cases: names in it, and how the plot calls them.
    """
    samples = stored["samples"]
    groups = {
        label: {name: values[key] for name, values in samples[case].items() if values.get(key)}
        for case, label in cases.items()
    }
    most = max(max(values) for group in groups.values() for values in group.values())
    scale = (WIDTH - LEFT - RIGHT) / most
    parts, y = [], TOP
    for label, group in groups.items():
        middle = y + BAR * len(group) / 2 + 5
        parts.append(_text(LEFT - 10, middle, label, anchor="end"))
        for name, values in group.items():
            parts.append(_bar(y, name, values, scale))
            y += BAR
        y += GAP
    height = y + 26
    source = f"{axis} (measured {stored['date']}, recorded in commit {stored['commit']})"
    legend, x = [], LEFT
    for name, colour in COLOURS.items():
        legend.append(f'<rect x="{x}" y="56" width="12" height="12" fill="{colour}"/>')
        legend.append(_text(x + 18, 67, name))
        x += 130
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="14">'
    )
    lines = [
        head,
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        _text(20, 30, title, size=18),
        *legend,
        *parts,
        f'<line x1="{LEFT}" y1="{TOP - 6}" x2="{LEFT}" y2="{y - GAP + 6}" stroke="#444"/>',
        _text(20, height - 12, source, size=12),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _bar(y: float, name: str, values: Sequence[float], scale: float) -> str:
    median = statistics.median(values)
    width, low, high = (LEFT + scale * value for value in (median, min(values), max(values)))
    line = y + BAR / 2
    shown = f"{median:.0f}" if median >= 10 else f"{median:.2f}"
    return (
        f'<rect x="{LEFT}" y="{y + 1}" width="{width - LEFT:.1f}" height="{BAR - 2}" '
        f'fill="{COLOURS[name]}"/>'
        f'<line x1="{low:.1f}" y1="{line}" x2="{high:.1f}" y2="{line}" stroke="#222"/>'
        + _text(max(width, high) + 6, y + BAR - 4, shown, size=13)
    )


def _text(x: float, y: float, text: str, *, size: int = 14, anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="#222">'
        f"{escape(text)}</text>"
    )


if __name__ == "__main__":
    main()
