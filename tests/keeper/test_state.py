"""What the last run did, as the file in the media store tells it."""

from __future__ import annotations

import errno
import json
import os
import time
from pathlib import Path

import pytest

from swift_provider.keeper import (
    FOLDER,
    Mark,
    State,
    clear_mark,
    load_state,
    mark_time,
    remove_leftovers,
    save_state,
    seconds_of,
    set_mark,
)


def file_of(media_store: Path) -> Path:
    return media_store / FOLDER / "local_disk.json"


@pytest.fixture
def media_store(tmp_path: Path) -> Path:
    (tmp_path / FOLDER).mkdir()
    return tmp_path


def test_what_was_saved_is_loaded(media_store: Path) -> None:
    """All fields come back; others than the owner and the group may not read them."""
    state = State(
        holder="media1",
        pid=12,
        limits={"max_size": 5},
        since=1.5,
        run={"ended": 3.0},
        last_success=2.5,
        running={"began": 4.0, "tasks": ["keep"]},
        troubles=[{"reason": "swift", "text": "away", "since": 2.0}],
        done={"repair": 7.0},
        ended_well=True,
    )
    before = os.umask(0)
    try:
        save_state(str(media_store), state)
    finally:
        os.umask(before)
    assert load_state(str(media_store)) == state
    assert file_of(media_store).stat().st_mode & 0o777 == 0o640
    assert os.listdir(media_store / FOLDER) == ["local_disk.json"]


def test_there_is_no_state(tmp_path: Path) -> None:
    """Before the first run there is none."""
    assert load_state(str(tmp_path)) is None


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"null", b'"x"'])
def test_a_broken_file_is_no_state(media_store: Path, content: bytes) -> None:
    """What nobody can read counts as none."""
    file_of(media_store).write_bytes(content)
    assert load_state(str(media_store)) is None


def test_fields_of_another_version(media_store: Path) -> None:
    """Unknown fields, and those of another type, are passed over."""
    values = {
        "holder": 7,
        "pid": 5,
        "new": 1,
        "done": {"prune": "x", "repair": 3},
        "run": [],
        "last_success": "x",
        "since": 4,
    }
    file_of(media_store).write_text(json.dumps(values))
    assert load_state(str(media_store)) == State(pid=5, done={"repair": 3.0}, since=4)


def test_a_file_that_cannot_be_written(media_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old file stays, and no other is left."""
    save_state(str(media_store), State(pid=1))

    def refuse(*_: object) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="quota"):
        save_state(str(media_store), State(pid=2))
    assert os.listdir(media_store / FOLDER) == ["local_disk.json"]
    loaded = load_state(str(media_store))
    assert loaded is not None
    assert loaded.pid == 1


@pytest.mark.parametrize(
    "text",
    [
        '{"done": {"prune": 1' + "0" * 400 + "}}",
        "[" * 100_000,
        '{"since": NaN}',
        '{"since": 1e400, "last_success": -1, "pid": -5, "holder": [], "written": true}',
        '{"limits": {"older_than": "x", "max_size": "50G", "min_free": [], "prune": 3}}',
        '{"run": {"ended": "x", "tasks": 5, "died": 7}, "running": {"began": 1e300}}',
        '{"troubles": [5, {}, {"reason": 5}, {"reason": "x", "since": "x"}], "done": []}',
    ],
)
def test_nonsense(media_store: Path, text: str) -> None:
    """What is left has the right types, and no time in the future."""
    file_of(media_store).write_text(text)
    state = load_state(str(media_store)) or State()
    assert 0 <= state.since <= time.time()
    assert (state.last_success, state.holder, state.pid) == (None, "", 0)
    assert set(state.limits.values()) <= {None, False}
    assert (state.run or {}).get("ended") is None
    assert (state.running or {"began": 0})["began"] <= time.time()
    assert all(one == {"reason": "x", "text": None, "since": None} for one in state.troubles)


def test_a_clock_that_was_ahead(media_store: Path) -> None:
    """A time in the future counts as now."""
    later = time.time() + 1e7
    save_state(str(media_store), State(since=later, done={"repair": later}))
    state = load_state(str(media_store))
    assert state is not None
    assert state.since <= time.time()
    assert state.done["repair"] <= time.time()
    assert seconds_of(int(later * 1e9)) <= time.time()


def test_the_folder_is_made(tmp_path: Path) -> None:
    """A person may have deleted it."""
    save_state(str(tmp_path), State(pid=3))
    assert load_state(str(tmp_path)) is not None


def test_leftovers(media_store: Path) -> None:
    """A process was killed while it wrote the file."""
    (media_store / FOLDER / "local_disk.json~12").touch()
    save_state(str(media_store), State())
    remove_leftovers(str(media_store))
    assert os.listdir(media_store / FOLDER) == ["local_disk.json"]


def test_marks(tmp_path: Path) -> None:
    """A mark that was set again since it was seen is not cleared; when objects were pruned is
    part of the state.
    """
    store = str(tmp_path)
    assert mark_time(store, Mark.REPAIR) is None
    clear_mark(store, Mark.REPAIR, None)
    set_mark(store, Mark.REPAIR)
    seen = mark_time(store, Mark.REPAIR)
    assert seen is not None
    clear_mark(store, Mark.REPAIR, seen - 1)
    assert mark_time(store, Mark.REPAIR) == seen
    clear_mark(store, Mark.REPAIR, seen)
    assert mark_time(store, Mark.REPAIR) is None
    set_mark(store, Mark.PRUNED)
    save_state(store, State(done={"prune": 5.0}))
    state = load_state(store)
    assert state is not None
    assert time.time() - 60 < state.done["prune"] <= time.time()
