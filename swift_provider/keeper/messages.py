"""What goes through the pipes between the module and the child process, a JSON line each.

The module writes one :class:`Order` to the child's standard input and keeps the pipe open.
The child writes a :class:`Report` to its standard output every few seconds, and a last one at
the end. An order holds credentials, so it goes through a pipe: arguments and environment of a
process can be listed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import Enum
from typing import Any, NoReturn

from swift_provider.config import LocalDiskSettings, Settings

#: Why ``REPAIR`` has left alone a file that Swift lacks: its upload may be on its way.
JUST_WRITTEN = "written just now"
#: Options that are of no use to the child.
_NOT_SENT = ("redirect", "memory_cache", "local_disk", "mirrors")


class BadMessageError(Exception):
    """A line is no such message. The text does not quote it."""


class Task(str, Enum):
    """What a run does, in this order."""

    #: Measure what media and thumbnails take, and remove from the disk until it is within
    #: its limits. Uploads what Swift lacks of what it removes.
    KEEP = "keep"
    #: Upload the media on the disk that Swift lacks.
    REPAIR = "repair"
    #: Remove files from the disk whose media Synapse does not know.
    ORPHANS = "orphans"
    #: Delete objects from Swift whose media Synapse does not know.
    PRUNE = "prune"


class Trouble(str, Enum):
    """Why a run ended early, or a task was not done."""

    #: Another run uses the media store, such as ``swift_media_upload``.
    BUSY = "busy"
    #: Swift is unreachable, or it fails.
    SWIFT = "swift"
    #: Synapse's database is unreachable, or it fails.
    DATABASE = "database"
    #: The disk cannot be read, or it is full and the run needs a temporary file.
    DISK = "disk"
    #: What a person has to change: credentials, rights, the container, an option.
    REFUSED = "refused"
    #: The package was upgraded since Synapse started.
    VERSION = "version"


@dataclass(frozen=True)
class Order:
    """One run.

    :ivar version: the module's.
    :ivar environment: the variables that Synapse was started with.
    :ivar settings: of the entry; only what a :class:`.client.Place` needs.
    :ivar limits: of ``local_disk``.
    :ivar server_name: the homeserver.
    :ivar media_store: Synapse's media store.
    :ivar database: Synapse's ``database`` section: ``name`` and ``args``.
    :ivar tasks: what to do.
    :ivar repair_kinds: which media the task :attr:`Task.REPAIR` uploads: ``local``, ``remote``.
    :ivar quiet_seconds: what was accessed more recently stays.
    :ivar young_seconds: a file without a row in the database stays if it is younger.
    :ivar written_since: seconds since the epoch. Content that was written later, and long after
        its media were stored, was brought back for a thumbnail.
    """

    version: str
    environment: Mapping[str, str] = field(repr=False)
    settings: Settings
    limits: LocalDiskSettings
    server_name: str
    media_store: str
    database: Mapping[str, Any] = field(repr=False)
    tasks: frozenset[Task]
    repair_kinds: frozenset[str]
    quiet_seconds: float
    young_seconds: float
    written_since: float

    def to_line(self) -> bytes:
        """The message, with the line break."""
        values = {option.name: getattr(self, option.name) for option in fields(self)}
        entry, *mirrors = map(_sent, self.settings.members)
        values |= {
            "environment": dict(self.environment),
            "settings": entry,
            "mirrors": mirrors,
            "limits": asdict(self.limits),
            "tasks": sorted(task.value for task in self.tasks),
            "repair_kinds": sorted(self.repair_kinds),
        }
        # YAML makes a date of an unquoted 2024-01-31, although it may be a password.
        return json.dumps(values, default=str).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Order:
        """:raises BadMessageError: if the line is no such message."""
        try:
            values = json.loads(line)
            mirrors = tuple(Settings(**options) for options in values.pop("mirrors"))
            values["settings"] = Settings(**values["settings"], mirrors=mirrors)
            values["limits"] = LocalDiskSettings(**values["limits"])
            values["tasks"] = frozenset(map(Task, values["tasks"]))
            values["repair_kinds"] = frozenset(values["repair_kinds"])
            return cls(**values)
        except (ValueError, TypeError, KeyError) as error:
            raise BadMessageError(f"not an order ({type(error).__name__})") from None


@dataclass
class Report:
    """What a run has done so far.

    :ivar final: whether this is the last report.
    :ivar looked_at: media that were looked at, to remove or to upload them.
    :ivar uploaded: files that Swift lacked.
    :ivar removed: files that were removed from the disk.
    :ivar freed: the bytes they took.
    :ivar orphans: those of ``removed`` whose media Synapse does not know.
    :ivar pruned: objects and segments that were deleted from Swift.
    :ivar failed: files that failed, by reason.
    :ivar skipped: files that were left alone without an error, by reason.
    :ivar on_disk: bytes that media and thumbnails take; ``None`` before they are measured.
    :ivar files: how many files they are; likewise.
    :ivar over: bytes that the disk is over its limits at the end; 0 if it is within them.
    :ivar quiet: bytes that could not be removed because they were accessed too recently.
    :ivar seconds: how long the run has taken.
    :ivar idle: for how many seconds it has got no further, nor calculated anything.
    :ivar answered: :attr:`Trouble.SWIFT`, :attr:`Trouble.DATABASE`: which of them the run spoke
        with, to the end of a task.
    :ivar done: the tasks that were done to their end.
    :ivar troubles: what was not done, and why, with the remedy.
    """

    final: bool = False
    looked_at: int = 0
    uploaded: int = 0
    uploaded_bytes: int = 0
    removed: int = 0
    freed: int = 0
    orphans: int = 0
    pruned: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    on_disk: int | None = None
    files: int | None = None
    over: int = 0
    quiet: int = 0
    seconds: float = 0.0
    idle: float = 0.0
    answered: list[Trouble] = field(default_factory=list)
    done: list[Task] = field(default_factory=list)
    troubles: dict[Trouble, str] = field(default_factory=dict)

    def to_line(self) -> bytes:
        """The message, with the line break."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Report:
        """Fields that another version has added are left out.

        :raises BadMessageError: if the line is no such message.
        """
        known = {one.name for one in fields(cls)}
        try:
            found = json.loads(line, parse_constant=_refuse)
            values = {key: value for key, value in found.items() if key in known}
            for key, value in values.items():
                _check(key, value)
            values["answered"] = list(map(Trouble, values.get("answered", ())))
            values["done"] = list(map(Task, values["done"]))
            values["troubles"] = {
                Trouble(key): str(text) for key, text in values["troubles"].items()
            }
            return cls(**values)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise BadMessageError(f"not a report ({type(error).__name__})") from None


def _sent(settings: Settings) -> dict[str, Any]:
    names = (option.name for option in fields(Settings))
    return {name: getattr(settings, name) for name in names if name not in _NOT_SENT}


#: More than any disk has. A larger number is no figure.
_MOST = 1 << 63
_COUNTS_BY_REASON = ("failed", "skipped")
_NULLABLE = ("on_disk", "files")
_FRACTIONS = ("seconds", "idle")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def _check(key: str, value: object) -> None:
    """:raises ValueError: if it is no value of a report's field."""
    if key in ("done", "troubles", "answered"):
        return  # Checked when they are converted.
    if key == "final":
        fits = isinstance(value, bool)
    elif key in _COUNTS_BY_REASON:
        fits = isinstance(value, dict) and all(map(_is_count, value.values()))
    elif key in _FRACTIONS:
        fits = isinstance(value, (int, float)) and 0 <= value < _MOST
    else:
        fits = _is_count(value) or (value is None and key in _NULLABLE)
    if not fits:
        raise ValueError(key)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and 0 <= value < _MOST
