"""``python -m tests.bench``: runs the comparisons and writes a report, for ``scripts/bench``."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.bench import (
    counting,
    growth,
    keeping,
    large,
    limit,
    mirrored,
    offload,
    peers,
    plots,
    report,
    synapse_media,
)
from tests.bench.machine import machine, versions
from tests.bench.results import Comparison
from tests.bench.services import Cluster, running_cluster
from tests.servers import process
from tests.servers.process import ROOT

#: Letters as on the command line.
COMPARISONS = {
    "a": "bulk offload to a real Swift",
    "b": "the client's limit, against a fast stub",
    "c": "one large object",
    "d": "inside a real Synapse",
    "e": "growth with the number of files and rows",
    "f": "keeping the disk within its budget",
    "g": "two mirrors",
    "h": "counting all media",
}


def say(text: str) -> None:
    """To the terminal, at once."""
    print(text, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """:returns: 0 if every candidate that could be had was measured; 1 if one failed."""
    options = _options(argv)
    folder = options.out.resolve()
    found = machine()
    for key, value in found.items():
        say(f"{key}: {value}")
    say(report.CAVEAT)
    comparisons: list[Comparison] = []
    with (
        tempfile.TemporaryDirectory(prefix="swift-bench-") as name,
        _cluster(Path(name)) as cluster,
    ):
        for letter in options.only:
            say(f"\n{letter}. {COMPARISONS[letter]}")
            began = time.monotonic()
            scratch = Path(name, letter)
            scratch.mkdir()
            for comparison in _run(letter, cluster, scratch, options.quick):
                comparisons.append(comparison)
                say("\n" + report.section(comparison))
            say(f"\nThis took {time.monotonic() - began:.0f} s.")
            # After each, so that an interrupted run leaves what it has found.
            path = report.write(folder, found, {**versions(), **peers.known()}, comparisons)
    for comparison in comparisons:
        plots.write(folder, comparison)
    say(f"\nThe report is {path}; raw numbers and plots are beside it.")
    return 1 if any(comparison.failed for comparison in comparisons) else 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    letters = ", ".join(f"{letter}: {what}" for letter, what in COMPARISONS.items())
    parser.add_argument("--quick", action="store_true", help="less of everything: a first answer")
    parser.add_argument(
        "--only",
        default="".join(COMPARISONS),
        metavar="LETTERS",
        help=f"which comparisons ({letters})",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=ROOT / ".bench" / "results",
        metavar="FOLDER",
        help="where results.rst, results.json and the plots go (default: .bench/results)",
    )
    options = parser.parse_args(argv)
    if not options.only or set(options.only) - COMPARISONS.keys():
        parser.error(f"--only takes letters of {''.join(COMPARISONS)}")
    return options


@contextlib.contextmanager
def _cluster(folder: Path) -> Iterator[Callable[[], Cluster]]:
    """A cluster that is started when the first comparison asks for it."""
    with contextlib.ExitStack() as stack:
        started: list[Cluster] = []

        def cluster() -> Cluster:
            if not started:
                say("  starting Keystone and Swift")
                started.append(stack.enter_context(running_cluster(folder)))
            return started[0]

        yield cluster


def _run(
    letter: str, cluster: Callable[[], Cluster], folder: Path, quick: bool
) -> Iterator[Comparison]:
    if letter == "a":
        yield offload.compare(cluster(), folder, quick=quick, say=say)
    elif letter == "b":
        yield from limit.compare(quick=quick, say=say)
    elif letter == "c":
        yield large.compare(quick=quick, say=say)
    elif letter == "d":
        yield from synapse_media.compare(cluster(), folder, quick=quick, say=say)
    elif letter == "e":
        yield from growth.compare(folder, quick=quick, say=say)
    elif letter == "f":
        yield from keeping.compare(cluster(), folder, quick=quick, say=say)
    elif letter == "g":
        yield from mirrored.compare(quick=quick, say=say)
    else:
        yield counting.compare(folder, quick=quick, say=say)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONPATH", str(ROOT))
    try:
        sys.exit(main())
    except process.ServiceError as error:
        sys.exit(f"scripts/bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
