"""One large object up and down, plain and with TLS, MD5 taken on the way."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from tests.bench import peers
from tests.bench.drivers.job import Job
from tests.bench.measure import CandidateError, run
from tests.bench.objects import RCLONE, REQUESTS, Do, Objects, candidates, check_files
from tests.bench.results import OURS, Comparison, Metric, Run, Say, Target, alternate
from tests.bench.stub import Stub, running_stub

GIB = 1 << 30
CURL = "curl | md5sum"
CURL_UP = "md5sum, curl -T"

_METRICS = [
    Metric("rate", "MB/s", more_is_better=True),
    Metric("cpu", "CPU s per GiB"),
    Metric("peak", "peak MB"),
]


def compare(*, quick: bool, say: Say) -> Comparison:
    """All of it in memory: client and server are the limit, not a disk."""
    size, rounds = (GIB // 2, 2) if quick else (2 * GIB, 3)
    comparison = Comparison(
        "One large object",
        f"{size / GIB:.3g} GiB to and from nginx's memory. Each candidate takes the MD5, and drops "
        "what it gets. Time and CPU of rclone and curl are those of the whole process; of those "
        "written in Python, the interpreter's start is left out.",
        _METRICS,
        _TARGETS,
        digest=[
            (f"{what} {scheme}", key)
            for key in ("rate", "cpu")
            for scheme in ("http", "https")
            for what in ("PUT", "GET")
        ],
    )
    with tempfile.TemporaryDirectory(prefix="swift-bench-", dir="/dev/shm") as name:
        folder = Path(name)
        found, missing = candidates(folder)
        comparison.missing = {n: why for n, why in missing.items() if n in (RCLONE, REQUESTS)}
        try:
            stub = running_stub()
        except peers.MissingPeerError as error:
            comparison.missing["nginx"] = str(error)
            return comparison
        with stub as stub:
            objects = Objects(folder / "objects", 1, size)
            for scheme, url in (("http", stub.http), ("https", stub.https)):
                for operation in ("PUT", "GET"):
                    job = replace(objects.job(operation, url, 1), ca=str(stub.ca))
                    case = f"{operation} {scheme}"
                    runs = _runs(case, job, found, folder, stub, size)
                    alternate(comparison, runs, rounds, say, case)
    return comparison


def _runs(
    case: str, job: Job, found: Mapping[str, Do], folder: Path, stub: Stub, size: int
) -> dict[str, Run]:
    name = job.names[0]
    runs: dict[str, Callable[[int], tuple[float, float, float]]] = {
        candidate: lambda turn, do=found[candidate]: _driven(do, job, turn)
        for candidate in (OURS, REQUESTS)
        if candidate in found
    }
    if RCLONE in found:
        runs[RCLONE] = lambda turn: _rclone(found[RCLONE], job, folder, turn)
    runs[CURL_UP if job.operation == "PUT" else CURL] = lambda turn: _curl(job, folder)

    def whole(do: Callable[[int], tuple[float, float, float]]) -> Run:
        def once(turn: int) -> dict[str, dict[str, float]]:
            there = stub.objects / name
            if job.operation == "PUT":
                there.unlink(missing_ok=True)
            elif not there.exists():
                there.hardlink_to(Path(job.folder, name))
            wall, cpu, peak = do(turn)
            if job.operation == "PUT":
                check_files(stub.objects, [name], "the upload")
            return {case: {"rate": size / 1e6 / wall, "cpu": cpu / (size / GIB), "peak": peak}}

        return once

    return {candidate: whole(do) for candidate, do in runs.items()}


def _driven(do: Do, job: Job, turn: int) -> tuple[float, float, float]:
    # The drivers end with an error unless the MD5 is right.
    used, seconds, cpu = do(replace(job, check=0 if turn else 1))
    return seconds, cpu, used.peak_mb


def _rclone(do: Do, job: Job, folder: Path, turn: int) -> tuple[float, float, float]:
    if job.operation == "PUT":
        return _driven(do, job, turn)
    program = peers.rclone()
    env = {
        "RCLONE_CONFIG": "",
        "RCLONE_SWIFT_AUTH_TOKEN": "none",
        "RCLONE_SWIFT_STORAGE_URL": job.storage_url,
        "RCLONE_SWIFT_AUTH": f"{job.storage_url}/auth",
    }
    listed = folder / "rclone-names"
    listed.write_text(job.names[0])
    # Named on the command line, an object would be looked for in a listing.
    only = f"--files-from '{listed}' --no-traverse --ca-cert '{job.ca}'"
    command = f"'{program}' cat ':swift:{job.container}' {only}"
    if turn == 0:
        _check_md5(run(["sh", "-c", f"{command} | md5sum"], folder, env).output, job)
    # It checks the MD5 itself, and ends with an error if it is wrong.
    used = run(["sh", "-c", f"{command} >/dev/null"], folder, env)
    return used.wall, used.cpu, used.peak_mb


def _curl(job: Job, folder: Path) -> tuple[float, float, float]:
    curl = peers.curl()
    name = job.names[0]
    url = f"{job.storage_url}/{job.container}/{name}"
    get = f"'{curl}' -sSf --cacert '{job.ca}'"
    if job.operation == "PUT":
        command = f"md5sum <'{job.path(name)}' && {get} -T '{job.path(name)}' '{url}'"
    else:
        command = f"{get} '{url}' | md5sum"
    used = run(["sh", "-c", command], folder)
    _check_md5(used.output, job)
    return used.wall, used.cpu, used.peak_mb


def _check_md5(output: str, job: Job) -> None:
    """:raises CandidateError: if md5sum does not say what it must."""
    if output.split()[0] != job.names[0][:32]:
        raise CandidateError(f"the bytes have the MD5 {output.strip()}")


_TARGETS = [
    Target("GET http: MB/s, of curl | md5sum", "GET http", "rate", CURL, at_least=0.9),
    Target("PUT http: MB/s, of rclone's", "PUT http", "rate", RCLONE, at_least=0.9),
    Target("GET https: MB/s, of curl | md5sum", "GET https", "rate", CURL, at_least=0.9),
    Target("PUT https: MB/s, of rclone's", "PUT https", "rate", RCLONE, at_least=0.9),
]
