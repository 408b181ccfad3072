"""The process that keeps the disk within its budget: what a run costs, and its plan."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from swift_provider.keeper import Report
from tests.bench.beside_runs import meanwhile
from tests.bench.kept_store import AGES, BETWEEN, LARGE_BYTES, SMALL_BYTES, KeptStore, Size
from tests.bench.measure import CandidateError, Usage, run
from tests.bench.results import OURS, Comparison, Metric, Run, Say, Target, alternate
from tests.bench.services import CLOUD, Cluster
from tests.servers import process
from tests.servers.postgres import running_postgres

UPLOAD, BOTH = "upload --delete", "update, upload --delete"
NOTHING, TOO_YOUNG, FREES = "nothing to do", "older_than finds nothing", "frees"

#: As the module starts it.
COMMAND = (sys.executable, "-m", "swift_provider.offload.keeper")
#: No disk is so large.
FAR_AWAY = 10**18
#: The child's own; here the peer has it too.
NICE = ("nice", "-n", "19")

_METRICS = [
    Metric("wall", "wall s"),
    Metric("cpu", "CPU s"),
    Metric("peak", "peak MB"),
]


def compare(cluster: Cluster, folder: Path, *, quick: bool, say: Say) -> Iterator[Comparison]:
    """:param folder: for the media store and the homeserver."""
    size = Size(100_000, 10_000, 200) if quick else Size(1_000_000, 100_000, 1_000)
    rounds = 2 if quick else 3
    with running_postgres() as postgres:
        say("  writing files and rows, and uploading some")
        store = KeptStore(folder, cluster, postgres, size)
        yield runs(store, folder, rounds, say)
        seconds, rounds = (5, 2) if quick else (10, 6)
        yield meanwhile(store, postgres, folder, seconds, rounds, say)
    yield plans((500_000,) if quick else (1_000_000, 5_000_000), folder, say)


# What a run costs


def runs(store: KeptStore, folder: Path, rounds: int, say: Say) -> Comparison:
    """Runs that find nothing, and such as free something, which the script does too."""
    size = store.size
    freed = f"{size.large * LARGE_BYTES / 1e9:.3g} GB"
    frees = f"{FREES} {freed}"
    comparison = Comparison(
        "Keeping the disk",
        f"One run of local_disk's process: {size.rows:,} media in PostgreSQL, {size.small:,} "
        f"files of {SMALL_BYTES // 1000} KB on the disk, and {size.large:,} of "
        f"{LARGE_BYTES // 1_000_000} MB that nobody has accessed for longer and that a one-node "
        f"Swift has already: they are the {freed}. The process's whole life is measured; all "
        "have the lowest priority. The script needs its update before each upload.",
        _METRICS,
        _run_targets(frees),
        digest=[(case, key) for case in (NOTHING, TOO_YOUNG, frees) for key in ("wall", "peak")],
    )
    candidates: dict[str, Run] = {
        OURS: _keeper(store, folder, frees),
        UPLOAD: _script(store, folder, frees, with_update=False),
        BOTH: _script(store, folder, frees, with_update=True),
    }
    return alternate(comparison, candidates, rounds, say)


def _keeper(store: KeptStore, folder: Path, frees: str) -> Run:
    def once(turn: int) -> Mapping[str, Mapping[str, float]]:
        store.put_back()
        samples = {}
        for case, limits in (
            (NOTHING, {"max_size": FAR_AWAY}),
            (TOO_YOUNG, {"older_than": AGES}),
            (frees, {"max_size": store.budget}),
        ):
            used = run(COMMAND, folder, _OUR_ENV, stdin=store.order(**limits))
            samples[case] = used.sample()
            _check(store, _last_report(used), store.large_taken if case == frees else 0)
        _check_freed(store)
        return samples

    return once


def _last_report(used: Usage) -> Report:
    return Report.from_line(used.output.splitlines()[-1].encode())


def _check(store: KeptStore, report: Report, freed: int) -> None:
    """:raises CandidateError: if a run did not do what it had to."""
    if report.troubles or report.failed or report.uploaded or report.freed != freed:
        raise CandidateError(f"not {freed} bytes were freed: {report}")


def _check_freed(store: KeptStore) -> None:
    """:raises CandidateError: if other files are left than should be, or Swift's are damaged."""
    small, large = store.is_left()
    if small != store.size.small or large:
        raise CandidateError(f"{small} small files and {large} large ones are left on the disk")
    store.container.check(store.large)


def _script(store: KeptStore, folder: Path, frees: str, *, with_update: bool) -> Run:
    script = [*NICE, sys.executable, process.ROOT / "scripts" / "swift_media_upload"]
    env = {**_OUR_ENV, "OS_CLIENT_CONFIG_FILE": str(store.cluster.clouds_yaml)}

    def once(turn: int) -> Mapping[str, Mapping[str, float]]:
        store.put_back()
        work = folder / f"script-{with_update}-{turn}"
        work.mkdir()
        (work / "database.yaml").write_text(yaml.safe_dump(store.database))
        options = ["--no-progress"]
        update = run([*script, *options, "update", store.base, BETWEEN], work, env)
        place = [store.container.name, "--cloud", CLOUD]
        upload = run([*script, *options, "upload", store.base, *place, "--delete"], work, env)
        _check_freed(store)
        if not with_update:
            return {frees: upload.sample()}
        return {
            frees: {
                "wall": update.wall + upload.wall,
                "cpu": update.cpu + upload.cpu,
                "peak": max(update.peak_mb, upload.peak_mb),
            }
        }

    return once


_OUR_ENV = {"PYTHONPATH": str(process.ROOT)}


def _run_targets(frees: str) -> list[Target]:
    return [
        Target(f"{NOTHING}: peak MB", NOTHING, "peak", at_most=80),
        Target(f"{TOO_YOUNG}: peak MB", TOO_YOUNG, "peak", at_most=80),
        Target(f"{frees}: peak MB", frees, "peak", at_most=80),
        Target(f"{frees}: wall time, of {UPLOAD}'s", frees, "wall", UPLOAD, at_most=1.5),
        Target(f"{frees}: wall time, of {BOTH}'s", frees, "wall", BOTH, at_most=1),
        Target(f"{frees}: CPU, of {BOTH}'s", frees, "cpu", BOTH, at_most=1),
    ]


# Memory and time of the plan


def plans(counts: tuple[int, ...], folder: Path, say: Say) -> Comparison:
    """The list of what is on the disk, which is the part that grows with it."""
    comparison = Comparison(
        "The plan of a run",
        "The list that a run makes of all media on the disk (a temporary SQLite database), alone "
        "in a process: a file and a row for each media, in two orders; then it is asked for all "
        "that a daily run asks for: what goes, what Swift may lack, what Synapse does not know.",
        _METRICS,
        [Target(f"{_plan_case(counts[-1])}: peak MB", _plan_case(counts[-1]), "peak", at_most=80)],
        digest=[(_plan_case(count), key) for count in counts for key in ("wall", "peak")],
    )
    for count in counts:
        alternate(comparison, {OURS: _plan(count, folder)}, 1, say)
    return comparison


def _plan(count: int, folder: Path) -> Run:
    def once(turn: int) -> Mapping[str, Mapping[str, float]]:
        command = [sys.executable, "-m", "tests.bench.drivers.disk_plan", str(count)]
        used = run(command, folder, {**_OUR_ENV, "SQLITE_TMPDIR": os.fspath(folder)})
        if used.output.split() != [str(count)] * 2:
            raise CandidateError(f"not all of {count} media were found: {used.output}")
        return {_plan_case(count): used.sample()}

    return once


def _plan_case(count: int) -> str:
    return f"{count:,} media"
