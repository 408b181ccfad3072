"""The parts of ``scripts/soak`` with two Swifts: a minute of each, and what makes them fail."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.servers import process
from tests.soak import health, load
from tests.soak.health import Health
from tests.soak.judge import judge_member, judge_same_names
from tests.soak.load import Load
from tests.soak.record import Record, Stored


def _soak(folder: Path, part: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak", "1.5", "--part", part, "--out", folder],
        cwd=process.ROOT,
        env=process.child_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    report = json.loads((folder / f"soak-{part}.json").read_text())
    assert report["wrong"] == []
    side = report["homeserver"]
    assert side["came_back_right"] == side["stored_files"] > 0
    return report


def test_one_of_two_swifts_fails_and_no_client_notices(tmp_path: Path) -> None:
    """No upload and no download fails, and at the end both have every file."""
    report = _soak(tmp_path, "mirrors")
    assert set(report["right_in"].values()) == {report["homeserver"]["stored_files"]}
    assert set(report["deleted_from"].values()) == {report["homeserver"]["done"].get("deletion", 0)}
    assert report["trouble"]


def test_a_move_to_another_swift_loses_nothing(tmp_path: Path) -> None:
    """``sync`` is killed, and runs to its end; the new Swift alone has every byte."""
    report = _soak(tmp_path, "move")
    assert report["sync"]["killed"] > 0
    assert report["right_in_new"] == report["homeserver"]["stored_files"]
    assert 0 < report["right_in_new_after_sync"] < report["right_in_new"]


class Member:
    """A member that has these objects; an exception stands for one that breaks off."""

    def __init__(self, name: str, **contents: bytes | Exception) -> None:
        self.name = name
        self.account = self
        self._contents = {f"local_content/ab/cd/{key}": each for key, each in contents.items()}

    def content(self, container: str, name: str) -> bytes | None:
        content = self._contents.get(name)
        if isinstance(content, Exception):
            raise content
        return content

    def names(self, container: str) -> set[str]:
        return set(self._contents)


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        ({"e": b"right"}, None),
        ({"e": b"other"}, "other bytes"),
        ({}, "has no"),
        ({"e": requests.ConnectionError("cut")}, "not all"),
    ],
)
def test_a_member_that_lacks_a_file_is_a_failure(
    contents: dict[str, bytes | Exception], words: str | None
) -> None:
    """Although the homeserver may have got it from the other one."""
    record = Record()
    record.store(Stored("mxc://x/abcde", 5, hashlib.sha256(b"right").hexdigest()))
    right = judge_member(Member("one", **contents), record)  # type: ignore[arg-type]
    assert right == (words is None)
    assert len(record.wrong) == 1 - right
    assert all(str(words) in text for text in record.wrong)


def test_an_object_in_one_member_only_is_a_failure() -> None:
    """Thumbnails are not in the record, but have to be in both."""
    record = Record()
    members = Member("one", a=b"", b=b""), Member("other", b=b"")
    judge_same_names(members, record)  # type: ignore[arg-type]
    assert record.wrong == ["other lacks 1 objects, such as local_content/ab/cd/a"]


class Told:
    """A homeserver with these metrics."""

    def __init__(self, up: dict[str, float], debts: dict[str, float]) -> None:
        self._metrics = {"synapse_swift_member_up": up, "synapse_swift_member_debts": debts}

    def by_member(self, name: str) -> dict[str, float]:
        return self._metrics[name]


@pytest.mark.parametrize(
    ("up", "debts", "well"),
    [
        ({"a": 1.0, "b": 1.0}, {"a": 0.0, "b": 0.0}, True),
        ({"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 0.0}, False),
        ({"a": 1.0, "b": 1.0}, {"a": 0.0, "b": 3.0}, False),
        ({"a": 1.0}, {"a": 0.0}, False),
        ({}, {}, False),
    ],
)
def test_a_set_that_does_not_become_well_is_a_failure(
    up: dict[str, float], debts: dict[str, float], well: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member that is not used, one that lacks something, or no metric at all."""
    monkeypatch.setattr(health, "WELL_SECONDS", 0.0)
    monkeypatch.setattr(health, "_POLL_SECONDS", 0.0)
    record = Record()
    Health(Told(up, debts), record, ("a", "b")).wait_until_well("a test")  # type: ignore[arg-type]
    assert len(record.wrong) == (not well)
    assert all("a test" in text for text in record.wrong)


class Uploading:
    """A homeserver that has so much left to do at each look."""

    def __init__(self, *looks: float) -> None:
        self._looks = iter(looks)

    def metrics(self) -> dict[str, float]:
        others = ("synapse_swift_exchanges_in_flight", "synapse_swift_exchanges_waiting")
        return {"synapse_swift_uploads_waiting": next(self._looks), **dict.fromkeys(others, 0.0)}


@pytest.mark.parametrize(
    ("looks", "seconds", "idle"), [((2, 1, 0), 30.0, True), ((1,), 0.0, False)]
)
def test_uploads_that_do_not_end_are_a_failure(
    looks: tuple[float, ...], seconds: float, idle: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without load Synapse has to come to an end."""
    monkeypatch.setattr(health, "WELL_SECONDS", seconds)
    monkeypatch.setattr(health, "_POLL_SECONDS", 0.0)
    record = Record()
    Health(Uploading(*looks), record, ("a", "b")).wait_until_idle()  # type: ignore[arg-type]
    assert len(record.wrong) == (not idle)


class Failing:
    """A homeserver that answers every client with 503."""

    def client(self, token: str) -> Failing:
        return self

    def upload(self, content: bytes, content_type: str) -> str:
        answer = requests.Response()
        answer.status_code = 503
        raise requests.HTTPError("busy", response=answer)


@pytest.mark.parametrize("may_fail", [True, False])
def test_an_upload_that_fails_is_a_failure_if_it_must_not(
    may_fail: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one member is well all the time, no client may see an error."""
    monkeypatch.setattr(load, "PAUSE_SECONDS", 0.001)
    record = Record()
    clients = Load(Failing(), "token", record, float("inf"), 1, may_fail=may_fail)  # type: ignore[arg-type]
    clients.start()
    try:
        _wait_for(record)
    finally:
        clients.stop()
    assert (record.wrong == []) == may_fail
    assert all(text.startswith("upload failed: HTTP 503") for text in record.wrong)


def _wait_for(record: Record) -> None:
    deadline = time.monotonic() + 30
    while not record.as_mapping()["errors"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
