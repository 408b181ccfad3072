"""Which objects and segments ``prune`` may delete: by their age and their marks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime

from swift_provider.client import ObjectInfo, Place
from swift_provider.config import Settings

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
    :ivar min_age: younger objects stay; at least :data:`YOUNG`.
    """

    delete: bool
    unmarked: bool
    max_share: float | None
    min_age: timedelta = field(default_factory=lambda: YOUNG)

    @property
    def left(self) -> str:
        """What to count an object as that is too young."""
        if self.min_age == YOUNG:
            return LEFT
        return f"Left alone, younger than {self.min_age / YOUNG:g} days"


def stored_at(info: ObjectInfo) -> datetime:
    """When an object was stored; the far future if unreadable, so that it counts as young."""
    try:
        moment = parsedate_to_datetime(info.last_modified)
    except (TypeError, ValueError):
        return datetime.max.replace(tzinfo=timezone.utc)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)


def is_young(info: ObjectInfo, now: datetime, min_age: timedelta) -> bool:
    """Whether an object must stay because of its age alone."""
    return stored_at(info) > now - min_age


class Prunable:
    """Tells what may be deleted in one run.

    :param store: its ``owner`` is the homeserver.
    :param configured: all places that Synapse's configuration names.
    :ivar others: the other homeservers whose marks it has seen.
    """

    def __init__(
        self, store: Place, options: Options, now: datetime, configured: Sequence[Settings] = ()
    ) -> None:
        self.others: set[str] = set()
        self._owner = store.owner
        self._container = store.container
        # Whether the accounts are the same is not asked: segments that stay harm nothing.
        self._shares_segments = any(
            other.container != store.container
            and other.segment_container == store.segments.container
            and other.prefix == store.object_name("")
            for other in configured
        )
        self._unmarked = options.unmarked
        self._min_age = options.min_age
        self._left = options.left
        self._now = now

    def why_not(self, info: ObjectInfo) -> str | None:
        """What to count an object as that must stay; ``None`` if it may be deleted."""
        if info.owner not in ("", self._owner):
            self.others.add(info.owner)
            return OTHERS
        if is_young(info, self._now, self._min_age):
            return self._left
        if not info.owner and not self._unmarked:
            return UNMARKED
        return None

    def why_not_segment(self, info: ObjectInfo) -> str | None:
        """The same for a segment. Its manifest may be in another container, which another place
        may use: without a mark nothing shows to which place it belongs.
        """
        reason = self.why_not(info)
        if info.manifest_container not in ("", self._container):
            return ELSEWHERE
        if not info.manifest_container and self._shares_segments:
            return ELSEWHERE
        if not info.manifest_container and not self._unmarked:
            return UNMARKED
        return reason
