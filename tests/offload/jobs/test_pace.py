"""What a run with ``--bwlimit`` does with the files that wait for their turn when it has to end."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

import pytest

from tests.offload.conftest import Objects, Script
from tests.offload.mirrors import Mirrors
from tests.offload.synapse_store import SynapseStore

SIZE, FILES = 1_000_000, 20
#: The second file is due after 20 seconds.
PACE = ("--bwlimit", "50K", "--threadpool-size", str(FILES))


@pytest.fixture(params=["upload", "restore"])
def moving(
    request: pytest.FixtureRequest, offload: Script, store: SynapseStore, objects: Objects
) -> Any:
    """A command that has files to move, and what counts those that have moved."""
    paths = [store.add_local(f"abcdef{number:02}", os.urandom(SIZE)) for number in range(FILES)]
    if request.param == "upload":
        return ("upload", store.base, "--all", *PACE), objects.names
    for path in paths:
        objects[path] = (store.base / path).read_bytes()
        (store.base / path).unlink()
    return ("restore", store.base, *PACE), store.files


def _interrupt(run: Any, moved: Any) -> dict[str, Any]:
    """Send SIGINT once the first file has moved; returns the summary."""
    deadline = time.monotonic() + 60
    while not moved():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    run.send_signal(signal.SIGINT)
    told, errors = run.communicate(timeout=60)
    assert run.returncode == 130, errors
    summary: dict[str, Any] = json.loads(told)
    return summary


def test_max_duration_begins_no_file_that_waits(offload: Script, moving: Any) -> None:
    """Those that wait are for the next run, and do not all start at once; no failure."""
    command, moved = moving
    summary = offload.json(*command, "--max-duration", "6s")
    assert summary["ended_early"]
    assert len(moved()) <= 1
    assert set(summary["skipped"]) <= {"not begun, left for the next run"}


def test_ctrl_c_begins_no_file_that_waits(offload: Script, moving: Any) -> None:
    """As above."""
    command, moved = moving
    summary = _interrupt(offload.start(*command, "--json"), moved)
    assert len(moved()) == 1
    assert summary["skipped"]["not begun, left for the next run"] > 0
    assert summary["failed"] == {}


def test_ctrl_c_with_mirrors(mirrors: Mirrors, store: SynapseStore) -> None:
    """A file takes its turn once for each place: one has got it, and the other waits."""
    path = store.add_local("abcdef", os.urandom(SIZE))
    run = mirrors.script.start("upload", store.base, "--all", "--delete", "--json", *PACE)
    summary = _interrupt(run, lambda: mirrors.a.names() | mirrors.b.names())
    assert len(mirrors.a.names()) + len(mirrors.b.names()) == 1
    assert (summary["uploaded"], summary["skipped"], summary["failed"]) == (1, {}, {})
    reasons = {one["reason"]: one["lacking"] for one in summary["members"].values()}
    assert reasons == {None: 0, "not begun, left for the next run": 1}
    assert store.files() == {path}
