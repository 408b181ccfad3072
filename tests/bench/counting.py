"""Counting all media: ``stats`` over a million rows, with and without a media store."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.bench.measure import CandidateError, run
from tests.bench.results import OURS, Comparison, Metric, Run, Say, Target, alternate
from tests.bench.rows import database_with_rows, local_rows, media_id, origin, sqlite_copy
from tests.servers import process
from tests.servers.postgres import running_postgres

UPDATE, SELECT = "update-db", "SELECT count, sum"
FILE_BYTES = 2_000
POSTGRES, SQLITE = "PostgreSQL", "SQLite"

_METRICS = [
    Metric("wall", "wall s"),
    Metric("cpu", "CPU s"),
    Metric("peak", "peak MB"),
]


def compare(folder: Path, *, quick: bool, say: Say) -> Comparison:
    """:param folder: for the databases and the media store."""
    rows, files = (100_000, 10_000) if quick else (1_000_000, 100_000)
    rounds = 2 if quick else 3
    comparison = Comparison(
        "Counting media",
        f"swift_media_upload stats: {rows:,} media in the database, {files:,} files of "
        f"{FILE_BYTES // 1000} KB on the disk, or none. Beside it update-db, which reads the same "
        "rows into its cache, and a SELECT that only counts the rows and adds up their lengths.",
        _METRICS,
    )
    base = folder / "media_store"
    write_files(base, rows, files)
    with running_postgres() as postgres:
        arguments = database_with_rows(postgres, "counted", rows, FILE_BYTES)
        database = folder / "homeserver.db"
        sqlite_copy(arguments, database)
        for engine, section in (
            (POSTGRES, arguments),
            (SQLITE, {"sqlite": {"database": str(database)}}),
        ):
            without, with_files = f"{engine}, no files", f"{engine}, {files:,} files"
            comparison.targets += [
                Target(f"{without}: of update-db's time", without, "wall", UPDATE, 2),
                Target(f"{with_files}: peak MB", with_files, "peak", at_most=80),
            ]
            comparison.digest = [
                *comparison.digest,
                *((case, key) for case in (without, with_files) for key in ("wall", "peak")),
            ]
            work = folder / engine
            work.mkdir()
            (work / "database.yaml").write_text(yaml.safe_dump(section))
            candidates: dict[str, Run] = {
                OURS: _stats(work, base, rows, files, without, with_files),
                UPDATE: _peer(work, without, [*_script(), "update-db", "1d"]),
                SELECT: _peer(
                    work,
                    without,
                    [sys.executable, "-m", "tests.bench.drivers.plain_select", "database.yaml"],
                    f"{rows} {rows * FILE_BYTES}",
                ),
            }
            alternate(comparison, candidates, rounds, say, engine)
    return comparison


def write_files(base: Path, rows: int, files: int) -> None:
    """The files of some of the media of :func:`.database_with_rows`, of both kinds."""
    local = local_rows(files)
    for number in range(1, files + 1):
        name = media_id(number if number <= local else number - local)
        root = "local_content" if number <= local else f"remote_content/{origin(number - local)}"
        path = base / root / name[:2] / name[2:4] / name[4:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * FILE_BYTES)


def _script() -> list[Any]:
    return [sys.executable, process.ROOT / "scripts" / "swift_media_upload", "--no-progress"]


def _stats(work: Path, base: Path, rows: int, files: int, without: str, with_files: str) -> Run:
    def once(turn: int) -> Mapping[str, Mapping[str, float]]:
        samples = {}
        for case, arguments in ((without, []), (with_files, [base])):
            used = run([*_script(), "stats", *arguments, "--json"], work, _ENV)
            _check(json.loads(used.output), rows, files if arguments else None)
            samples[case] = used.sample()
        return samples

    return once


def _check(told: dict[str, Any], rows: int, files: int | None) -> None:
    """:raises CandidateError: if it counted wrongly."""
    database = told["database"]
    if database["local"]["number"] + database["remote"]["number"] != rows:
        raise CandidateError(f"not all of {rows} rows were counted: {database}")
    if files is not None and told["disk"]["would_free"]["1y"]["files"] != files:
        raise CandidateError(f"not all of {files} files were counted: {told['disk']}")


def _peer(work: Path, case: str, command: list[Any], output: str | None = None) -> Run:
    def once(turn: int) -> Mapping[str, Mapping[str, float]]:
        (work / "cache.db").unlink(missing_ok=True)
        used = run(command, work, _ENV)
        if output is not None and used.output.strip() != output:
            raise CandidateError(f"it says {used.output}")
        return {case: used.sample()}

    return once


_ENV = {"PYTHONPATH": str(process.ROOT)}
