"""Writes what was found: tables in reStructuredText, raw numbers as JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.bench.results import Comparison, Metric

CAVEAT = (
    "Clients and servers share this one machine, and all traffic stays on it: only ratios between "
    "lines of one table carry over to another machine, absolute figures do not. "
    "Differences below about 20 % are noise."
)


def write(
    folder: Path,
    machine: Mapping[str, str],
    versions: Mapping[str, str],
    comparisons: Sequence[Comparison],
) -> Path:
    """Write ``results.json``, ``results.rst`` and ``digest.rst``, the tables of RESULTS.rst.

    :returns: the second.
    """
    folder.mkdir(parents=True, exist_ok=True)
    raw = {
        "machine": machine,
        "versions": versions,
        "caveat": CAVEAT,
        "comparisons": [comparison.as_mapping() for comparison in comparisons],
    }
    (folder / "results.json").write_text(json.dumps(raw, indent=2) + "\n")
    (folder / "digest.rst").write_text("\n\n".join(map(digest, comparisons)) + "\n")
    path = folder / "results.rst"
    path.write_text(text(machine, versions, comparisons))
    return path


def text(
    machine: Mapping[str, str],
    versions: Mapping[str, str],
    comparisons: Sequence[Comparison],
) -> str:
    """The whole report in reStructuredText."""
    about = [f"* {key}: {value}" for key, value in machine.items()]
    about.append("* " + ", ".join(f"{name} {version}" for name, version in versions.items()))
    parts = ["\n".join(about), CAVEAT]
    parts += [section(comparison) for comparison in comparisons]
    return "\n\n".join(parts) + "\n"


def section(comparison: Comparison) -> str:
    """A comparison's heading, table, and what has to be said about it."""
    parts = [comparison.title + "\n" + "-" * len(comparison.title), comparison.about]
    rows = measured(comparison)
    if rows:
        shown = [metric for metric in comparison.metrics if _has(comparison, metric)]
        parts.append(table(["case", "candidate", *(metric.title for metric in shown)], rows))
        parts.append("Median (smallest to largest).")
    judged = [_judged(comparison, number) for number in range(len(comparison.targets))]
    if judged:
        parts.append(table(["to be reached", "wanted", "measured", ""], judged))
    parts += [f"*{name}* is missing: {why}" for name, why in comparison.missing.items()]
    parts += [
        f"*{name}* does not count: {' '.join(why.split())[:300]}"
        for name, why in comparison.failed.items()
    ]
    return "\n\n".join(parts)


def digest(comparison: Comparison) -> str:
    """A comparison's heading and medians, with a column for each candidate."""
    candidates = list(dict.fromkeys(name for case in comparison.samples.values() for name in case))
    titles = {metric.key: metric.title for metric in comparison.metrics}
    rows = []
    for case, key in comparison.digest:
        medians = [comparison.median(case, name, key) for name in candidates]
        cells = ["–" if median is None else number(median) for median in medians]
        rows.append([f"{case}: {titles[key]}", *cells])
    return f"**{comparison.title}**\n\n" + table(["", *candidates], rows)


def measured(comparison: Comparison) -> list[list[str]]:
    """The table's rows."""
    shown = [metric for metric in comparison.metrics if _has(comparison, metric)]
    rows = []
    for case, candidates in comparison.samples.items():
        for candidate, values in candidates.items():
            cells = [spread(values.get(metric.key, [])) for metric in shown]
            rows.append([case, candidate, *cells])
    return rows


def spread(values: Sequence[float]) -> str:
    """Median and extremes."""
    if not values:
        return "–"
    middle = number(statistics.median(values))
    if len(values) == 1:
        return middle
    return f"{middle} ({number(min(values))} to {number(max(values))})"


def number(value: float) -> str:
    """Three digits that count, without an exponent."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A simple table; in its first column an empty cell is "..", or it would continue a row."""
    widths = [max(len(row[i]) for row in [head, *rows]) or 2 for i in range(len(head))]
    rule = "  ".join("=" * width for width in widths)

    def line(cells: Sequence[str]) -> str:
        filled = [cells[0] or "..", *cells[1:]]
        padded = [cell.ljust(width) for cell, width in zip(filled, widths, strict=True)]
        return "  ".join(padded).rstrip()

    return "\n".join([rule, line(head), rule, *(line(row) for row in rows), rule])


def _has(comparison: Comparison, metric: Metric) -> bool:
    return any(
        metric.key in values
        for candidates in comparison.samples.values()
        for values in candidates.values()
    )


def _judged(comparison: Comparison, position: int) -> list[str]:
    target = comparison.targets[position]
    value: Any = comparison.judged(target)
    if target.at_most is not None:
        wanted = f"at most {number(target.at_most)}"
    else:
        wanted = f"at least {number(target.at_least or 0)}"
    if value is None:
        return [target.text, wanted, "–", "not measured"]
    return [
        target.text,
        wanted,
        number(value),
        "reached" if target.reached(value) else "**missed**",
    ]
