"""Growth: what a file costs when there are many, and ``update-db`` over millions of rows."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg2
import yaml

from tests.bench import peers
from tests.bench.measure import CandidateError, run
from tests.bench.results import OURS, Comparison, Metric, Run, Say, Target, alternate
from tests.bench.rows import database_with_rows
from tests.bench.stub import CONTAINER, Stub, running_stub
from tests.offload.synapse_store import OLD
from tests.servers import process
from tests.servers.postgres import Postgres, running_postgres

S3 = "s3_media_upload"
#: Of the files, which are all alike but for their names and first bytes.
FILE_BYTES = 2_000
#: In a list, of each media: its file, and the folder of its thumbnails.
LINES = 2
FRESH, AGAIN, WRITE = "fresh", "again", "write"

_UPDATE_METRICS = [
    Metric("wall", "wall s"),
    Metric("cpu", "CPU s"),
    Metric("peak", "peak MB"),
]
_FILE_METRICS = [
    Metric("per_file", "wall ms per file"),
    Metric("cpu_per_file", "CPU ms per file"),
    Metric("peak", "peak MB"),
]


def compare(folder: Path, *, quick: bool, say: Say) -> Iterator[Comparison]:
    """Files first, then rows.

    :param folder: for databases and media stores.
    """
    with running_postgres() as postgres:
        yield _files(postgres, folder, quick, say)
        yield _rows(postgres, folder, quick, say)


# Files


def _files(postgres: Postgres, folder: Path, quick: bool, say: Say) -> Comparison:
    comparison = Comparison(
        "Growth with files",
        "swift_media_upload upload --delete of small files, to nginx's memory: nothing there "
        "before, nothing left on disk afterwards.",
        _FILE_METRICS,
    )
    rounds = {1_000: 2, 10_000: 1} if quick else {1_000: 3, 10_000: 3, 100_000: 1}
    comparison.digest = [
        (_file_case(count), key) for count in rounds for key in ("per_file", "peak")
    ]
    try:
        stub = running_stub()
    except peers.MissingPeerError as error:
        comparison.missing["nginx"] = str(error)
        return comparison
    with stub as stub:
        for count, times in rounds.items():
            case = _file_case(count)
            alternate(comparison, {OURS: _upload(case, count, postgres, folder, stub)}, times, say)
    return comparison


def _upload(case: str, count: int, postgres: Postgres, folder: Path, stub: Stub) -> Run:
    def once(turn: int) -> Mapping[str, Mapping[str, float]]:
        stub.empty()
        work = folder / f"files-{count}-{turn}"
        base = work / "media_store"
        arguments = database_with_rows(postgres, f"files_{count}_{turn}", 0, FILE_BYTES)
        ids = _write_media(base, count)
        _insert_ids(arguments, ids)
        script = _ours(work, arguments)
        env = _stub_cloud(work, stub)
        run([*script, "update", base, "1d"], work, env)
        used = run([*script, "upload", base, CONTAINER, "--delete", "--cloud", "stub"], work, env)
        left = sum(1 for path in base.rglob("*") if path.is_file())
        there = sum(1 for path in stub.objects.rglob("*") if path.is_file())
        if left or there != count:
            raise CandidateError(f"{there} of {count} objects are there, {left} files left")
        _check_objects(stub, ids)
        sample = {"per_file": 1000 * used.wall / count, "cpu_per_file": 1000 * used.cpu / count}
        return {case: {**sample, "peak": used.peak_mb}}

    return once


def _file_case(count: int) -> str:
    return f"{count:,} files"


def _content(number: int) -> bytes:
    return number.to_bytes(8, "big") * (FILE_BYTES // 8)


def _write_media(base: Path, count: int) -> list[str]:
    """Local media whose ids are their MD5s, as the stub wants them; returns the ids."""
    ids = []
    for number in range(count):
        content = _content(number)
        media_id = hashlib.md5(content).hexdigest()
        path = base / "local_content" / media_id[:2] / media_id[2:4] / media_id[4:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        ids.append(media_id)
    return ids


def _check_objects(stub: Stub, ids: list[str]) -> None:
    """:raises CandidateError: if an object has not the file's bytes."""
    for number, media_id in enumerate(ids):
        path = stub.objects / "local_content" / media_id[:2] / media_id[2:4] / media_id[4:]
        if path.read_bytes() != _content(number):
            raise CandidateError(f"{media_id} has other bytes")


def _stub_cloud(work: Path, stub: Stub) -> dict[str, str]:
    clouds = {"stub": {"auth_type": "none", "auth": {"endpoint": stub.http}}}
    path = work / "clouds.yaml"
    path.write_text(yaml.safe_dump({"clouds": clouds}))
    return {"OS_CLIENT_CONFIG_FILE": str(path)}


# Rows


def _rows(postgres: Postgres, folder: Path, quick: bool, say: Say) -> Comparison:
    million = 1_000_000
    rounds = {100_000: 2, million: 2} if quick else {100_000: 3, million: 3, 5 * million: 1}
    comparison = Comparison(
        "Growth with rows",
        "update-db from PostgreSQL into a cache that is empty (fresh), or complete (again), and "
        "write of the list to a file. The lists of both are compared.",
        _UPDATE_METRICS,
        _ROW_TARGETS,
    )
    comparison.digest = [
        *((_row_case(million, what), "wall") for what in (FRESH, AGAIN, WRITE)),
        *((_row_case(count, FRESH), "peak") for count in rounds),
    ]
    for count, times in rounds.items():
        arguments = database_with_rows(postgres, f"rows_{count}", count, FILE_BYTES)
        lists: dict[str, Path] = {}
        candidates: dict[str, Run] = {
            OURS: _update(OURS, count, arguments, folder, _ours, lists),
        }
        try:
            peers.S3.script("s3_media_upload")
            candidates[S3] = _update(S3, count, arguments, folder, _s3, lists)
        except peers.MissingPeerError as error:
            comparison.missing[S3] = str(error)
        alternate(comparison, candidates, times, say, f"{count:,} rows")
    return comparison


def _update(
    name: str,
    count: int,
    arguments: dict[str, Any],
    folder: Path,
    prepare: Callable[[Path, dict[str, Any]], list[Any]],
    lists: dict[str, Path],
) -> Run:
    def once(turn: int) -> Mapping[str, Mapping[str, float]]:
        work = folder / f"rows-{count}-{name}-{turn}"
        script = prepare(work, arguments)
        listed = work / "list"
        samples = {}
        for what, command in (
            (FRESH, ["update-db", "1d"]),
            (AGAIN, ["update-db", "1d"]),
            (WRITE, ["write", listed]),
        ):
            samples[_row_case(count, what)] = run([*script, *command], work).sample()
        _check_list(listed, count, lists)
        return samples

    return once


def _row_case(count: int, what: str) -> str:
    return f"{count:,} rows, {what}"


def _check_list(listed: Path, count: int, lists: dict[str, Path]) -> None:
    """:raises CandidateError: if it is not complete, or not the list that the first one wrote."""
    with listed.open() as file:
        lines = sum(1 for _ in file)
    if lines != LINES * count:
        raise CandidateError(f"the list has {lines} lines, not {LINES} for each of {count} rows")
    first = lists.setdefault("sorted", listed.with_name("sorted"))
    mine = listed.with_name("mine")
    run(["sort", "-o", mine, listed], listed.parent, {"LC_ALL": "C"})
    if not first.exists():
        mine.rename(first)
    elif first.read_bytes() != mine.read_bytes():
        raise CandidateError("the list differs from the other candidate's")
    listed.unlink()


# Both


def _ours(work: Path, arguments: dict[str, Any]) -> list[Any]:
    work.mkdir(exist_ok=True)
    (work / "database.yaml").write_text(yaml.safe_dump(arguments))
    return [sys.executable, process.ROOT / "scripts" / "swift_media_upload", "--no-progress"]


def _s3(work: Path, arguments: dict[str, Any]) -> list[Any]:
    work.mkdir(exist_ok=True)
    (work / "database.yaml").write_text(yaml.safe_dump(arguments))
    return [*peers.S3.script("s3_media_upload"), "--no-progress"]


def _insert_ids(arguments: dict[str, Any], ids: list[str]) -> None:
    connection = psycopg2.connect(**arguments)
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO local_media_repository (media_id, media_length, created_ts, "
            f"last_access_ts) SELECT unnest(%s), {FILE_BYTES}, {OLD}, {OLD}",
            (ids,),
        )
    connection.close()


_MILLION_FRESH, _MILLION_AGAIN = (_row_case(1_000_000, what) for what in (FRESH, AGAIN))
_ROW_TARGETS = [
    Target("a million rows, fresh: of s3_media_upload's time", _MILLION_FRESH, "wall", S3, 0.5),
    Target("a million rows, again: of s3_media_upload's time", _MILLION_AGAIN, "wall", S3, 0.5),
    Target("a million rows, fresh: peak MB", _MILLION_FRESH, "peak", at_most=80),
]
