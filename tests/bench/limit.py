"""The client's limit: small objects against a stub that is never the limit, near and far."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench import peers
from tests.bench.objects import (
    BOTO3,
    RCLONE,
    SWIFTCLIENT,
    Do,
    Objects,
    candidates,
    check_files,
)
from tests.bench.results import Comparison, Metric, Run, Say, Target, alternate
from tests.bench.stub import ACCOUNT, Stub, running_stub
from tests.servers import process

OBJECT_BYTES = 60_000
OPERATIONS = ("PUT", "GET", "HEAD")
ROUND_TRIP_SECONDS = 0.05
#: Looked at once more after a GET.
CHECKED = 100

_METRICS = [
    Metric("rate", "objects/s", more_is_better=True),
    Metric("cpu", "CPU s per 1000"),
    Metric("peak", "peak MB"),
]


def compare(*, quick: bool, say: Say) -> Iterator[Comparison]:
    """Near, then far."""
    near = Comparison(
        "Small objects, fast server",
        f"Objects of {OBJECT_BYTES // 1000} KB in nginx's memory, the MD5 of each taken, c at a "
        "time. CPU is the client's, while it works; rclone's figures are those of its whole "
        "life, and its GET is a HEAD and a GET.",
        _METRICS,
        _TARGETS,
        digest=[(f"{what} c=40", key) for key in ("rate", "cpu") for what in OPERATIONS],
    )
    far = Comparison(
        "Small objects, 50 ms away",
        f"The same through a relay that adds a round trip of {ROUND_TRIP_SECONDS * 1000:.0f} ms.",
        _METRICS,
        digest=[(f"{what} c=40", "rate") for what in OPERATIONS],
    )
    near_count, far_count, rounds = (1000, 200, 2) if quick else (2000, 400, 3)
    with tempfile.TemporaryDirectory(prefix="swift-bench-", dir="/dev/shm") as name:
        folder = Path(name)
        found, missing = candidates(folder)
        near.missing = far.missing = missing
        try:
            stub = running_stub()
        except peers.MissingPeerError as error:
            near.missing = {**missing, "nginx": str(error)}
            yield near
            return
        with stub as stub:
            objects = Objects(folder / "objects", near_count, OBJECT_BYTES)
            _measure(near, found, objects, stub, stub.http, (1, 10, 40), rounds, say)
            yield near
            objects.names = objects.names[:far_count]
            with _far_away(folder, stub) as url:
                _measure(far, found, objects, stub, url, (10, 40), rounds, say)
            yield far


def _measure(
    comparison: Comparison,
    found: dict[str, Do],
    objects: Objects,
    stub: Stub,
    url: str,
    concurrencies: tuple[int, ...],
    rounds: int,
    say: Say,
) -> None:
    for operation in OPERATIONS:
        for concurrency in concurrencies:
            case = f"{operation} c={concurrency}"
            runs: dict[str, Run] = {
                name: _run(case, name, do, objects, stub, url, operation, concurrency)
                for name, do in found.items()
                if not (name == RCLONE and operation == "HEAD")
            }
            alternate(comparison, runs, rounds, say, case)


def _run(
    case: str,
    name: str,
    do: Do,
    objects: Objects,
    stub: Stub,
    url: str,
    operation: str,
    concurrency: int,
) -> Run:
    def run(turn: int) -> dict[str, dict[str, float]]:
        if operation == "PUT":
            stub.empty()
        else:
            _fill(stub, objects)
        job = objects.job(operation, url, concurrency, CHECKED if turn == 0 else 0)
        used, seconds, cpu = do(job)
        if operation == "PUT":
            check_files(stub.objects, objects.names, f"{name}'s upload")
        count = len(objects.names)
        rate, per_1000 = count / seconds, cpu / count * 1000
        return {case: {"rate": rate, "cpu": per_1000, "peak": used.peak_mb}}

    return run


def _fill(stub: Stub, objects: Objects) -> None:
    """Have all objects there, without a candidate's help."""
    for name in objects.names:
        if not (stub.objects / name).exists():
            (stub.objects / name).hardlink_to(objects.folder / name)


@contextlib.contextmanager
def _far_away(folder: Path, stub: Stub) -> Iterator[str]:
    """The stub's storage URL by way of the relay."""
    port = process.free_port()
    command = [sys.executable, "-m", "tests.bench.relay", str(port), str(stub.http_port)]
    command.append(str(ROUND_TRIP_SECONDS))
    child = process.Process("relay", command, folder, env={"PYTHONPATH": str(process.ROOT)})
    with process.stopping(child):
        child.wait_for_port(port)
        yield f"http://{process.LOOPBACK}:{port}{ACCOUNT}"


_PUT, _GET = "PUT c=40", "GET c=40"
_TARGETS = [
    Target("PUT, c=40: CPU s per 1000", _PUT, "cpu", at_most=0.50),
    Target("GET, c=40: CPU s per 1000", _GET, "cpu", at_most=0.42),
    Target("PUT, c=40: objects/s, of python-swiftclient's", _PUT, "rate", SWIFTCLIENT, at_least=3),
    Target("GET, c=40: objects/s, of python-swiftclient's", _GET, "rate", SWIFTCLIENT, at_least=3),
    Target("PUT, c=40: objects/s, of boto3's", _PUT, "rate", BOTO3, at_least=7),
    Target("GET, c=40: objects/s, of boto3's", _GET, "rate", BOTO3, at_least=7),
]
