"""When ``prune`` refuses to delete, because the database is probably not the right one.

An object carries the name of the homeserver that stored it, so another homeserver's is
never deleted. What is left to fear is a database that does not know this homeserver's
media: an old copy, a replica that stopped, or the database of another homeserver.

Hardest to tell is the database of a copy of the homeserver that is in use, such as one for
tests. Everything about it is right, but it knows no media that the homeserver stored after
the copy was made. The right database knows newer media than most of those that an admin has
deleted. So local media are counted from the newest back, and the counts of known and unknown
ones are compared at the end of each day:

* A known media counts on the day when Synapse stored it, by the database. The date of its
  object would not do: the script may have uploaded years of media on one day.
* An unknown media counts on the day of its object. When Synapse stored it nobody knows, but
  not later. So soon after the upload of old media the rule may refuse for deleted ones that
  are older than they seem. That costs an option; the other mistake costs the media.
* An admin deletes a few new media. So two may be unknown in any case, and three for each
  known one of the same day or later. If 20 or more are unknown, they may be half of the
  newest. A media that was stored and deleted today counts too.

Remote media come back from their own servers, and whole histories of them are purged, also
soon after their upload. For them both kinds count by their objects' dates, and only from 20 on.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

from swift_provider.client import ListedObject, ObjectInfo
from swift_provider.errors import LooksWrongError
from swift_provider.offload.disk import is_thumbnail
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

#: The largest share of the newest media that may be unknown, if at least so many are.
MAX_SHARE_OF_NEWEST = {LOCAL: ((3, 0.75), (20, 0.5)), REMOTE: ((20, 0.5),)}

_OTHERS_SHOWN = 3


@dataclass(frozen=True)
class Wording:
    """What an objection is about, and how a person can answer it.

    :ivar things: what would be deleted.
    :ivar place: where they are.
    :ivar again: what to do once the database shows that it is in use.
    :ivar allow: what to do if the database is right, for the shares that would be deleted.
    """

    things: str
    place: str
    again: str
    allow: Callable[..., str]


OF_OBJECTS = Wording(
    "objects", "prefix", "run prune again", lambda *shares: f"give {_enough(*shares)}"
)
#: For the module, which has no such options.
OF_MODULE = Wording(
    "objects",
    "prefix",
    "the next prune goes on",
    lambda *shares: f"run 'swift_media_upload prune --delete {_enough(*shares)}' yourself",
)
OF_FILES = Wording(
    "files",
    "media store",
    "the next run removes them",
    lambda *shares: "remove the files of deleted media yourself",
)


@dataclass
class Found:
    """What the first two passes found, by kind of media. An attempt to upload an object, of
    which only segments are there, counts as an object.

    :ivar known: objects of media that Synapse knows.
    :ivar doomed: objects that may be deleted.
    :ivar unmarked: those of them that do not say which homeserver stored them.
    :ivar known_by_day: media that Synapse knows, by the day when Synapse stored them (local
        ones; from the database), or Swift did (remote ones).
    :ivar unknown_by_day: media that it does not know, by the day when Swift stored them; those
        with young objects too.
    :ivar newest: when the newest of ``doomed`` was stored.
    :ivar others: the other homeservers whose objects, or segments, are in the same place.
    """

    known: Counter[str] = field(default_factory=Counter)
    doomed: Counter[str] = field(default_factory=Counter)
    unmarked: Counter[str] = field(default_factory=Counter)
    known_by_day: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    unknown_by_day: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    newest: datetime = _BEFORE_ALL
    others: set[str] = field(default_factory=set)

    def share(self, kind: str) -> float:
        """The share of a kind's objects that may be deleted, 0 to 1."""
        objects = self.doomed[kind] + self.known[kind]
        return self.doomed[kind] / objects if objects else 0.0

    def add_known(self, kind: str, listed: ListedObject) -> None:
        """Count an object of media that Synapse knows."""
        self.known[kind] += 1
        if kind == REMOTE and not is_thumbnail(listed.name):
            self.known_by_day[kind][listed.last_modified[:10]] += 1

    def add_unknown(self, kind: str, path: str, info: ObjectInfo) -> None:
        """Count an object of media that it does not know, of any age."""
        if not is_thumbnail(path):
            self.unknown_by_day[kind][f"{stored_at(info):%Y-%m-%d}"] += 1

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


def objection(
    found: Found, activity: datetime | None, options: Options, wording: Wording = OF_OBJECTS
) -> str | None:
    """Why nothing may be deleted; ``None`` if nothing is against it.

    :param activity: when Synapse last recorded that media were stored or looked at.
    """
    return (
        other_homeserver(found, options)
        or _older_database(found, activity, wording)
        or _share_too_large(found, options, wording)
        or _newest_unknown(found, options, wording)
    )


def doubt_everywhere(
    found: Found, activity: datetime | None, options: Options, wording: Wording = OF_OBJECTS
) -> str | None:
    """What speaks against deleting from any place, not only from the one that was looked at;
    ``None`` if nothing does. It is part of :func:`objection`.

    That is what speaks against the database itself. Another homeserver that stores into one
    place may have objects in the others, where they may have lost their marks.
    """
    return (
        other_homeserver(found, options)
        or _older_database(found, activity, wording)
        or _newest_unknown(found, options, wording)
    )


def other_homeserver(found: Found, options: Options) -> str | None:
    """Whether objects without a mark may be those of another homeserver; ``None`` if not."""
    if not (options.unmarked and found.others):
        return None
    names = ", ".join(shown(name) for name in sorted(found.others)[:_OTHERS_SHOWN])
    return (
        f"another homeserver ({names}) has objects or segments in the same place, so those without "
        "a mark may be its own: run prune without --unmarked"
    )


def _older_database(found: Found, activity: datetime | None, wording: Wording) -> str | None:
    # A database that knew this object's media when it was stored, and has deleted them
    # since, is at least as new as the object. Synapse records within a minute that media
    # were looked at, so the database of a homeserver in use is always newer than objects
    # of yesterday. The newest row's creation would not do: a purge deletes rows.
    if not found.doomed.total() or (activity and activity >= found.newest + CLOCKS_DIFFER):
        return None
    last = f"last at {_shown_time(activity)}" if activity else "never"
    return (
        f"the database is older than the {wording.things}: the newest of these was stored at "
        f"{_shown_time(found.newest)}, but in the database media were stored or looked at {last}. "
        "Is it a copy, or a replica that stopped? If it is the right database, look "
        f"at any picture in Matrix, wait two minutes, and {wording.again}"
    )


def _share_too_large(found: Found, options: Options, wording: Wording) -> str | None:
    for kind in (LOCAL, REMOTE):
        doomed, share = found.doomed[kind], found.share(kind)
        allowed = MAX_SHARE[kind]
        # Without marks the share is all that tells the wrong database from the right one.
        if doomed < FEW and not found.unmarked[kind]:
            allowed = MAX_SHARE_OF_FEW
        if options.max_share is not None:
            allowed = options.max_share
        if share > allowed:
            return (
                f"{doomed} of {doomed + found.known[kind]} {wording.things} of {kind} media "
                f"({share:.0%}) are of media that Synapse does not know: is this the right "
                f"database, and the right {wording.place}? If so, {wording.allow(share)}"
            )
    return None


def _newest_unknown(found: Found, options: Options, wording: Wording) -> str | None:
    if options.max_share is not None or not found.doomed.total():
        return None
    for kind, limits in MAX_SHARE_OF_NEWEST.items():
        days_of_known, days_of_unknown = found.known_by_day[kind], found.unknown_by_day[kind]
        known = unknown = 0
        for day in sorted({*days_of_known, *days_of_unknown}, reverse=True):
            known += days_of_known[day]
            unknown += days_of_unknown[day]
            if any(unknown >= few and unknown > share * (known + unknown) for few, share in limits):
                return (
                    f"of the {known + unknown} {kind} media that were stored since {day}, Synapse "
                    f"does not know {unknown}: is the database that of a copy of this homeserver, "
                    f"such as one for tests? If not, {wording.allow(*map(found.share, MAX_SHARE))}"
                )
    return None


def _enough(*shares: float) -> str:
    """The option that allows these shares."""
    return f"--max-share {min(max(shares) + 0.005, 1):.2f}"


def _shown_time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
