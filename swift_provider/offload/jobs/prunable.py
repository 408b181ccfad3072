"""Which objects and segments ``prune`` may delete: by their age and their marks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime

from swift_provider.client import ObjectInfo, Store

#: Synapse may store an object before it writes the media's row.
YOUNG = timedelta(days=1)

LEFT = "Left alone, younger than a day"
OTHERS = "Left alone, of another homeserver"
UNMARKED = "Left alone, unmarked"
ELSEWHERE = "Left alone, segments of another container"
WANTED = "Left alone, segments of media without an object"


@dataclass(frozen=True)
class Options:
    """The options of the command.

    :ivar delete: delete the objects instead of only printing their names.
    :ivar unmarked: those too that do not say which homeserver stored them.
    :ivar max_share: the largest share of a kind's objects that may be deleted, 0 to 1;
        ``None`` for the usual ones.
    """

    delete: bool
    unmarked: bool
    max_share: float | None


def stored_at(info: ObjectInfo) -> datetime:
    """When an object was stored; the far future if unreadable, so that it counts as young."""
    try:
        moment = parsedate_to_datetime(info.last_modified)
    except (TypeError, ValueError):
        return datetime.max.replace(tzinfo=timezone.utc)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)


def is_young(info: ObjectInfo, now: datetime) -> bool:
    """Whether an object must stay because of its age alone."""
    return stored_at(info) > now - YOUNG


class Prunable:
    """Tells what may be deleted in one run.

    :param store: its ``owner`` is the homeserver.
    """

    def __init__(self, store: Store, options: Options, now: datetime) -> None:
        self._owner = store.owner
        self._container = store.container
        self._unmarked = options.unmarked
        self._now = now

    def why_not(self, info: ObjectInfo) -> str | None:
        """What to count an object as that must stay; ``None`` if it may be deleted."""
        if info.owner not in ("", self._owner):
            return OTHERS
        if is_young(info, self._now):
            return LEFT
        if not info.owner and not self._unmarked:
            return UNMARKED
        return None

    def why_not_segment(self, info: ObjectInfo) -> str | None:
        """The same for a segment. Its manifest may be in another container."""
        if info.manifest_container not in ("", self._container):
            return ELSEWHERE
        if not info.manifest_container and not self._unmarked:
            return UNMARKED
        return self.why_not(info)
