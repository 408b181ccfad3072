"""Notes what each command did last, in a small file beside the cache, for ``status``.

Nothing depends on the file: what cannot be written is not noted, and what cannot be read counts
as nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

#: The file's name is the cache's, and this.
SUFFIX = ".runs"
#: More is not ours.
_MOST_BYTES = 1 << 20
#: The longest text that is kept of a run.
_MOST_CHARACTERS = 2000


@dataclass(frozen=True)
class LastRun:
    """One run. Times are seconds since the epoch.

    :ivar status: the exit status.
    :ivar text: what it did, or the error that ended it.
    """

    began: float
    ended: float
    status: int
    text: str


def note_run(cache_path: str, command: str, run: LastRun) -> None:
    """Replace what is noted about a command. Never fails."""
    runs = {name: asdict(one) for name, one in last_runs(cache_path).items()}
    runs[command] = {**asdict(run), "text": run.text[:_MOST_CHARACTERS]}
    temporary = f"{cache_path}{SUFFIX}~{secrets.token_hex(4)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(temporary, flags, 0o640), "w", encoding="utf-8") as file:
            json.dump(runs, file)
        os.replace(temporary, f"{cache_path}{SUFFIX}")
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def last_runs(cache_path: str) -> dict[str, LastRun]:
    """The last run of each command, by its name."""
    try:
        with open(f"{cache_path}{SUFFIX}", "rb") as file:
            found = json.loads(file.read(_MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, Mapping):
        return {}
    runs = {str(name): _checked(one) for name, one in found.items()}
    return {name: run for name, run in runs.items() if run is not None}


def why_unreadable(cache_path: str) -> str | None:
    """What keeps this user from reading the file; ``None`` if nothing does."""
    path = f"{cache_path}{SUFFIX}"
    try:
        with open(path, "rb"):
            return None
    except FileNotFoundError:
        return None
    except OSError as error:
        return (
            f"the last runs are not known: {path}: {error.strerror}. Run as the user who ran the "
            "commands, or delete it"
        )


def _checked(values: Any) -> LastRun | None:
    """``None`` if another version, or anything else, wrote it."""
    try:
        began, ended = float(values["began"]), float(values["ended"])
        return LastRun(began, ended, int(values["status"]), str(values["text"]))
    except (KeyError, TypeError, ValueError):
        return None
