"""What the last run did, in a file of the media store: for other processes, and after a restart.

The process that holds the lock writes it before and after each run. Nothing depends on it:
without the file, the tasks of each day are done again.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NoReturn

from swift_provider.keeper.lock import FOLDER
from swift_provider.keeper.marks import Mark, mark_time, seconds_of
from swift_provider.keeper.messages import Task

_NAME = "local_disk.json"
#: The reason of a trouble: the disk is over its limits, but only because of media that were
#: accessed too recently to go. It ends by itself.
OVER_FOR_NOW = "over for now"
#: The file has some hundred bytes. More is not ours.
_MOST_BYTES = 1 << 20


@dataclass
class State:
    """All times are seconds since the epoch. None that is read is in the future.

    :ivar holder: the name of the process that held the lock.
    :ivar pid: its number.
    :ivar container: of the entry with ``local_disk``.
    :ivar limits: the options of ``local_disk``.
    :ivar since: when the module first kept this media store within its budget.
    :ivar written: when the file was written.
    :ivar running: the run in progress: ``began`` and ``tasks``; ``None`` if there is none.
    :ivar run: the last run: ``began``, ``ended``, ``tasks``, ``died`` (``None``, or how the
        child process died) and ``report``, with the names of a :class:`Report`.
    :ivar last_success: when the last run ended that had no trouble and came within the limits.
    :ivar troubles: what is wrong now: ``reason``, ``text`` and ``since`` of each.
    :ivar done: when each task was last done, by its name.
    :ivar ended_well: the process ended in order, and left no uploads to repair.
    """

    holder: str = ""
    pid: int = 0
    container: str = ""
    limits: dict[str, Any] = field(default_factory=dict)
    since: float = 0.0
    written: float = 0.0
    running: dict[str, Any] | None = None
    run: dict[str, Any] | None = None
    last_success: float | None = None
    troubles: list[dict[str, Any]] = field(default_factory=list)
    done: dict[str, float] = field(default_factory=dict)
    ended_well: bool = False


def load_state(media_store: str) -> State | None:
    """The state of a media store; ``None`` if there is none, or none that can be read. Blocking."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(state_path(media_store), flags)
        with os.fdopen(descriptor, "rb") as file:
            values = json.loads(file.read(_MOST_BYTES), parse_constant=_refuse)
    except (OSError, ValueError, RecursionError):
        return None
    state = _checked(values)
    if state is not None:
        state.done.pop(Task.PRUNE.value, None)
        pruned = mark_time(media_store, Mark.PRUNED)
        if pruned is not None:
            state.done[Task.PRUNE.value] = seconds_of(pruned)
    return state


def save_state(media_store: str, state: State) -> None:
    """Replace the file, all of it at once. Blocking.

    :raises OSError: if it cannot be written. The old file is still there then.
    """
    path = state_path(media_store)
    os.makedirs(os.path.dirname(path), mode=0o750, exist_ok=True)
    # The processes of two containers may have the same number.
    temporary = f"{path}~{secrets.token_hex(4)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(temporary, flags, 0o640)
        with os.fdopen(descriptor, "w") as file:
            json.dump(asdict(state), file)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def remove_leftovers(media_store: str) -> None:
    """Remove what a process left that was killed while it wrote the file. Blocking.

    Only the process that holds the lock may call it.
    """
    for path in glob.glob(f"{glob.escape(state_path(media_store))}~*"):
        with contextlib.suppress(OSError):
            os.unlink(path)


def state_path(media_store: str) -> str:
    """The file's name."""
    return os.path.join(media_store, FOLDER, _NAME)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def _checked(values: object) -> State | None:
    """Another version, or anything, may have written the file: take the fields that fit."""
    if not isinstance(values, Mapping):
        return None
    state = State()
    for name in ("holder", "container"):
        if isinstance(values.get(name), str):
            setattr(state, name, values[name])
    if _is_count(values.get("pid")):
        state.pid = values["pid"]
    for name in ("since", "written", "last_success"):
        when = _time(values.get(name))
        if when is not None:
            setattr(state, name, when)
    for name in ("running", "run"):
        setattr(state, name, _run(values.get(name)))
    state.limits = {
        key: value for key, value in _mapping(values.get("limits")).items() if _is_limit(key, value)
    }
    troubles = values.get("troubles")
    state.troubles = [
        {"reason": one["reason"], "text": one.get("text"), "since": _time(one.get("since"))}
        for one in (troubles if isinstance(troubles, list) else [])
        if isinstance(one, dict) and isinstance(one.get("reason"), str)
    ]
    times = {task: _time(when) for task, when in _mapping(values.get("done")).items()}
    state.done = {task: when for task, when in times.items() if when is not None}
    state.ended_well = values.get("ended_well") is True
    return state


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _run(value: object) -> dict[str, Any] | None:
    if not isinstance(value, dict):
        return None
    times = {name: _time(value[name]) for name in ("began", "ended") if name in value}
    died = value.get("died")
    tasks = value.get("tasks")
    rest: dict[str, Any] = {}
    if "died" in value:
        rest["died"] = died if isinstance(died, str) else None
    if "tasks" in value:
        names = tasks if isinstance(tasks, list) else []
        rest["tasks"] = [name for name in names if isinstance(name, str)]
    return {**value, **times, **rest}


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _is_limit(name: str, value: object) -> bool:
    if name == "prune":
        return isinstance(value, bool)
    is_share = name == "min_free" and isinstance(value, float) and 0 <= value <= 1
    return value is None or is_share or _is_count(value)


def _time(value: object) -> float | None:
    """A time that is not in the future: the clock may have been ahead."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        return None
    return float(min(value, time.time()))
