"""When ``prune`` refuses to delete, because the database is probably not the right one.

An object carries the name of the homeserver that stored it, so another homeserver's is
never deleted. What is left to fear is a database that does not know this homeserver's
media: an old copy, a replica that stopped, or the database of another homeserver.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

from swift_provider.client import ListedObject, ObjectInfo
from swift_provider.errors import LooksWrongError
from swift_provider.offload.jobs.prunable import Options, stored_at
from swift_provider.offload.media_names import LOCAL, REMOTE, shown

_BEFORE_ALL = datetime.min.replace(tzinfo=timezone.utc)

#: The clocks of Swift and Synapse may differ by less than this.
CLOCKS_DIFFER = timedelta(hours=1)

#: The largest share of a kind's objects that may be deleted. Remote media come back from
#: their own servers, local media do not; and admins purge remote media in bulk.
MAX_SHARE = {LOCAL: 0.05, REMOTE: 0.2}

#: A small homeserver may delete a larger share, if it is of fewer objects than this: one
#: local media has about five. Not all of them, because a wrong database knows none.
FEW = 20
MAX_SHARE_OF_FEW = 0.5

#: The same for the newest objects, if at least :data:`FEW` are unknown. The database of a
#: copy of the homeserver that lives on knows none of the media that are newer than the copy.
MAX_SHARE_OF_NEWEST = 0.5

_OTHERS_SHOWN = 3


@dataclass
class Found:
    """What the first two passes found; the counters are by kind of media.

    :ivar known: objects of media that Synapse knows.
    :ivar doomed: objects that may be deleted.
    :ivar unmarked: those of them that do not say which homeserver stored them.
    :ivar known_by_day: objects of media that Synapse knows, by the day when they were stored.
    :ivar unknown_by_day: the same for media that it does not know, young objects too.
    :ivar newest: when the newest of ``doomed`` was stored.
    :ivar others: the other homeservers whose objects are in the same place.
    """

    known: Counter[str] = field(default_factory=Counter)
    doomed: Counter[str] = field(default_factory=Counter)
    unmarked: Counter[str] = field(default_factory=Counter)
    known_by_day: Counter[str] = field(default_factory=Counter)
    unknown_by_day: Counter[str] = field(default_factory=Counter)
    newest: datetime = _BEFORE_ALL
    others: set[str] = field(default_factory=set)

    def add_known(self, kind: str, listed: ListedObject) -> None:
        """Count an object of media that Synapse knows."""
        self.known[kind] += 1
        self.known_by_day[listed.last_modified[:10]] += 1

    def add_unknown(self, info: ObjectInfo) -> None:
        """Count an object of media that it does not know, of any age."""
        self.unknown_by_day[f"{stored_at(info):%Y-%m-%d}"] += 1

    def add_doomed(self, kind: str, info: ObjectInfo) -> None:
        """Count an object that may be deleted."""
        self.doomed[kind] += 1
        self.unmarked[kind] += not info.owner
        self.newest = max(self.newest, stored_at(info))


def check_homeserver(owner: str | None, of_database: str | None, options: Options) -> None:
    """Check that the database is that of the homeserver.

    :param owner: the homeserver, from its configuration; ``None`` if unknown.
    :param of_database: the homeserver whose users are in the database, likewise.
    :raises LooksWrongError: if the two differ, or without an owner.
    """
    if owner is None and options.delete and not options.unmarked:
        raise LooksWrongError(
            "prune deletes only objects that this homeserver stored, and its name is not known: "
            "give --homeserver-config-path with the file that has server_name (with Debian's "
            "package also /etc/matrix-synapse/conf.d); or give --unmarked, for objects that name "
            "no homeserver"
        )
    if owner and of_database and owner != of_database:
        raise LooksWrongError(
            f"the database is that of the homeserver {shown(of_database)}, but server_name is "
            f"{shown(owner)}: give the configuration of one homeserver with "
            "--homeserver-config-path"
        )


def objection(found: Found, activity: datetime | None, options: Options) -> str | None:
    """Why nothing may be deleted; ``None`` if nothing is against it.

    :param activity: when Synapse last recorded that media were stored or looked at.
    """
    if options.unmarked and found.others:
        names = ", ".join(shown(name) for name in sorted(found.others)[:_OTHERS_SHOWN])
        return (
            f"another homeserver ({names}) has objects in the same place, so those without a "
            "mark may be its own: run prune without --unmarked"
        )
    return (
        _older_database(found, activity)
        or _share_too_large(found, options)
        or _newest_unknown(found, options)
    )


def _older_database(found: Found, activity: datetime | None) -> str | None:
    # A database that knew this object's media when it was stored, and has deleted them
    # since, is at least as new as the object. Synapse records within a minute that media
    # were looked at, so the database of a homeserver in use is always newer than objects
    # of yesterday. The newest row's creation would not do: a purge deletes rows.
    if not found.doomed.total() or (activity and activity >= found.newest + CLOCKS_DIFFER):
        return None
    last = f"last at {_shown_time(activity)}" if activity else "never"
    return (
        f"the database is older than the objects: the newest of these was stored at "
        f"{_shown_time(found.newest)}, but according to the database media were {last} stored "
        "or looked at. Is it a copy, or a replica that stopped? If it is the right database, look "
        "at any picture in Matrix, wait two minutes, and run prune again"
    )


def _share_too_large(found: Found, options: Options) -> str | None:
    for kind in (LOCAL, REMOTE):
        doomed = found.doomed[kind]
        objects = doomed + found.known[kind]
        share = doomed / objects if objects else 0.0
        allowed = MAX_SHARE[kind]
        # Without marks the share is all that tells the wrong database from the right one.
        if doomed < FEW and not found.unmarked[kind]:
            allowed = MAX_SHARE_OF_FEW
        if options.max_share is not None:
            allowed = options.max_share
        if share > allowed:
            return (
                f"{doomed} of {objects} objects of {kind} media ({share:.0%}) are of media that "
                "Synapse does not know: is this the right database, and the right prefix? "
                f"If so, give --max-share {min(share + 0.005, 1):.2f}"
            )
    return None


def _newest_unknown(found: Found, options: Options) -> str | None:
    if options.max_share is not None or not found.doomed.total():
        return None
    known = unknown = 0
    for day in sorted({*found.known_by_day, *found.unknown_by_day}, reverse=True):
        known += found.known_by_day[day]
        unknown += found.unknown_by_day[day]
        if unknown >= FEW and unknown > MAX_SHARE_OF_NEWEST * (known + unknown):
            return (
                f"of the {known + unknown} objects that were stored since {day}, {unknown} are of "
                "media that Synapse does not know: is the database that of a copy of this "
                "homeserver, such as one for tests? If not, give --max-share 0.05"
            )
    return None


def _shown_time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
