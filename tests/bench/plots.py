"""Bars of the first metric of each comparison, by case and candidate, as PNG."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

import matplotlib

from tests.bench.results import Comparison

matplotlib.use("Agg")

from matplotlib import pyplot


def write(folder: Path, comparison: Comparison, metrics: int = 2) -> list[Path]:
    """One picture for each of the first metrics of a comparison.

    :returns: the files.
    """
    written = []
    for metric in comparison.metrics[:metrics]:
        cases = [
            case
            for case, candidates in comparison.samples.items()
            if any(metric.key in values for values in candidates.values())
        ]
        if not cases:
            continue
        stem = re.sub(r"[^a-z0-9]+", "-", f"{comparison.title} {metric.key}".lower()).strip("-")
        path = folder / f"{stem}.png"
        _bars(path, comparison, metric.key, metric.title, cases)
        written.append(path)
    return written


def _bars(path: Path, comparison: Comparison, key: str, title: str, cases: list[str]) -> None:
    names = list(dict.fromkeys(name for case in cases for name in comparison.samples[case]))
    figure, axes = pyplot.subplots(figsize=(max(6.0, 1.6 * len(cases) + 2), 4.5))
    width = 0.8 / len(names)
    for index, name in enumerate(names):
        places, heights, below, above = [], [], [], []
        for place, case in enumerate(cases):
            values = comparison.samples[case].get(name, {}).get(key)
            if not values:
                continue
            middle = statistics.median(values)
            places.append(place - 0.4 + width * (index + 0.5))
            heights.append(middle)
            below.append(middle - min(values))
            above.append(max(values) - middle)
        axes.bar(places, heights, width, yerr=[below, above], label=name, capsize=2)
    axes.set_xticks(range(len(cases)), cases, rotation=20, ha="right")
    axes.set_ylabel(title)
    axes.set_title(comparison.title)
    axes.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
