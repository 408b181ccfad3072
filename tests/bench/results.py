"""What a comparison found: samples by case and candidate, and the figures to reach."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.bench.measure import CandidateError

OURS = "ours"

#: Values by metric, of one run.
Sample = Mapping[str, float]
#: Runs one candidate in one round, and tells its samples by case.
Run = Callable[[int], Mapping[str, Sample]]
#: Says something to the person at the terminal.
Say = Callable[[str], None]


@dataclass(frozen=True)
class Metric:
    """One column.

    :param key: as in the samples.
    :param title: with the unit.
    """

    key: str
    title: str
    more_is_better: bool = False


@dataclass(frozen=True)
class Target:
    """A figure to reach: ours as a part of a peer's, or as it is.

    :param against: the peer; ``None`` to take ours as it is.
    :param at_most: ours must not be above it; ``None`` if ``at_least`` is given.
    :param against_case: the peer's case, where it is not the same.
    """

    text: str
    case: str
    metric: str
    against: str | None = None
    at_most: float | None = None
    at_least: float | None = None
    against_case: str | None = None

    def reached(self, value: float) -> bool:
        """Whether a value is good enough."""
        if self.at_most is not None:
            return value <= self.at_most
        return self.at_least is not None and value >= self.at_least


@dataclass
class Comparison:
    """One comparison's results.

    :param samples: lists of values by case, candidate and metric; a candidate's
        list is as long as the number of its rounds that counted.
    :param missing: candidates that could not be had, and how to get them.
    :param failed: candidates whose result does not count, and why.
    :param digest: cases, and the keys of their metrics, that a reader in a hurry wants.
    """

    title: str
    about: str
    metrics: list[Metric]
    targets: list[Target] = field(default_factory=list)
    samples: dict[str, dict[str, dict[str, list[float]]]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    digest: Sequence[tuple[str, str]] = ()

    def add(self, case: str, candidate: str, sample: Sample) -> None:
        """Note one round's sample."""
        into = self.samples.setdefault(case, {}).setdefault(candidate, {})
        for key, value in sample.items():
            into.setdefault(key, []).append(value)

    def drop(self, candidate: str, why: str, cases: Iterable[str], what: str = "") -> None:
        """Forget a candidate's samples of these cases: they do not count.

        :param what: was being compared, for the report; empty for all of it.
        """
        self.failed[f"{candidate}, {what}" if what else candidate] = why
        for case in cases:
            self.samples[case].pop(candidate, None)

    def median(self, case: str, candidate: str, metric: str) -> float | None:
        """``None`` if there is nothing that counts."""
        values = self.samples.get(case, {}).get(candidate, {}).get(metric)
        return statistics.median(values) if values else None

    def judged(self, target: Target) -> float | None:
        """A target's value now; ``None`` if it could not be measured."""
        ours = self.median(target.case, OURS, target.metric)
        if ours is None or target.against is None:
            return ours
        case = target.against_case or target.case
        theirs = self.median(case, target.against, target.metric)
        return ours / theirs if theirs else None

    def as_mapping(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "title": self.title,
            "about": self.about,
            "samples": self.samples,
            "missing": self.missing,
            "failed": self.failed,
            "targets": [
                {
                    "text": target.text,
                    "value": value,
                    "at_most": target.at_most,
                    "at_least": target.at_least,
                    "reached": value is not None and target.reached(value),
                }
                for target in self.targets
                for value in [self.judged(target)]
            ],
        }


def order(names: Iterable[str], turn: int) -> list[str]:
    """The candidates of a round: each round begins with another one."""
    listed = list(names)
    start = turn % len(listed) if listed else 0
    return listed[start:] + listed[:start]


def alternate(
    comparison: Comparison, candidates: Mapping[str, Run], rounds: int, say: Say, what: str = ""
) -> Comparison:
    """Run all candidates in turn, so many rounds: A B C, B C A, C A B…

    What is noisy on this machine is then noisy for all of them. A candidate
    that fails once is out, and none of these results of it counts.

    :param what: is compared, if it is a part of the comparison.
    """
    cases: dict[str, set[str]] = {name: set() for name in candidates}
    out: set[str] = set()
    for turn in range(rounds):
        for name in order(candidates, turn):
            if name in out:
                continue
            try:
                samples = candidates[name](turn)
            except CandidateError as error:
                comparison.drop(name, str(error), cases[name], what)
                out.add(name)
                say(f"  {name}: does not count: {error}")
                continue
            for case, sample in samples.items():
                comparison.add(case, name, sample)
            cases[name].update(samples)
            say(f"  round {turn + 1} of {rounds}, {name}: {brief(comparison, samples)}")
    return comparison


def brief(comparison: Comparison, samples: Mapping[str, Sample]) -> str:
    """One line about a round: of each case the first metric that it has."""
    parts = []
    for case, sample in samples.items():
        metric = next(one for one in comparison.metrics if one.key in sample)
        parts.append(f"{case}: {sample[metric.key]:.3g} {metric.title}")
    return "; ".join(parts)
