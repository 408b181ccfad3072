"""A set of two mirrors, against what one place costs: twice for uploads, once for downloads."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests.bench import peers
from tests.bench.objects import Do, Objects, check_files, driver
from tests.bench.results import OURS, Comparison, Metric, Run, Say, Target, alternate
from tests.bench.stub import Stub, running_stub

SINGLE = "single places"
MIRROR = "mirror"
#: Bytes, how many objects, how many at once.
SIZES = {"60 KB": (60_000, 2000, 40), "5 MB": (5_000_000, 60, 8)}

_METRICS = [Metric("cpu", "CPU s per 1000"), Metric("rate", "objects/s", more_is_better=True)]


def compare(*, quick: bool, say: Say) -> Iterator[Comparison]:
    """Uploads, then downloads, by size."""
    comparison = Comparison(
        "Two mirrors",
        f"Against nginx in memory. '{OURS}' is a set of two members. '{SINGLE}' is the same "
        "client with one place: for a PUT, first to the one container and then to the other, "
        "the CPU of both added; for a GET, from one. CPU is the client's, while it works.",
        _METRICS,
        _TARGETS,
        digest=[(case, "cpu") for case in _cases()],
    )
    rounds = 2 if quick else 5
    with tempfile.TemporaryDirectory(prefix="swift-bench-", dir="/dev/shm") as name:
        folder = Path(name)
        try:
            stub = running_stub()
        except peers.MissingPeerError as error:
            comparison.missing = {"nginx": str(error)}
            yield comparison
            return
        do = driver(sys.executable, "our_objects", folder)
        with stub as stub:
            for title, (size, count, at_once) in SIZES.items():
                objects = Objects(folder / title.replace(" ", ""), count, size, distinct=20)
                for operation in ("PUT", "GET"):
                    case = f"{operation} {title}"
                    runs: dict[str, Run] = {
                        OURS: _run(case, do, objects, stub, operation, at_once, mirrored=True),
                        SINGLE: _run(case, do, objects, stub, operation, at_once, mirrored=False),
                    }
                    alternate(comparison, runs, rounds, say, case)
            yield comparison


def _cases() -> list[str]:
    return [f"{operation} {title}" for title in SIZES for operation in ("PUT", "GET")]


def _run(
    case: str, do: Do, objects: Objects, stub: Stub, operation: str, at_once: int, *, mirrored: bool
) -> Run:
    def run(_turn: int) -> dict[str, dict[str, float]]:
        folders = [stub.objects, stub.container(MIRROR)]
        if operation == "PUT":
            stub.empty()
        else:
            _fill(folders, objects)
        job = objects.job(operation, stub.http, at_once)
        if mirrored:
            jobs = [replace(job, mirrors=(MIRROR,))]
        elif operation == "PUT":
            jobs = [job, replace(job, container=MIRROR)]
        else:
            jobs = [job]
        took = [do(one)[1:] for one in jobs]
        if operation == "PUT":
            for folder in folders:
                check_files(folder, objects.names, "the upload")
        count = len(objects.names)
        cpu = sum(one[1] for one in took)
        rate = count / sum(one[0] for one in took)
        return {case: {"cpu": cpu / count * 1000, "rate": rate}}

    return run


def _fill(folders: list[Path], objects: Objects) -> None:
    """Have all objects there, without a candidate's help."""
    for folder in folders:
        folder.mkdir(exist_ok=True)
        for name in objects.names:
            if not (folder / name).exists():
                (folder / name).hardlink_to(objects.folder / name)


_TARGETS = [
    Target(
        f"{case}: CPU of that of single places",
        case,
        "cpu",
        SINGLE,
        at_most=1.1 if case.startswith("PUT") else 1.05,
    )
    for case in _cases()
]
