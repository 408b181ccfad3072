"""A homeserver, a place in Swift, and the time; and the events that are no job's work."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from random import Random

from tests.model.homeserver import Homeserver, Media
from tests.model.judge import Judge
from tests.model.swift import CONTAINER, HERE, OTHER, SEGMENT_BYTES, Row, Stored, Swift, md5
from tests.model.turns import Turns

_BEGIN = datetime(2026, 1, 1, tzinfo=timezone.utc)
ELSEWHERE = "another-container"


class World:
    """All there is.

    :ivar runs: the calls of all runs; those of killed ones are still pending.
    :ivar copies: of the database, the oldest first.
    """

    def __init__(self, folder: Path, rng: Random) -> None:
        self.rng = rng
        self.folder = folder
        self.now = _BEGIN
        self.runs: list[Turns] = []
        self.copies: list[Path] = []
        self.homeserver = Homeserver(folder, rng)
        self.swift = Swift(rng, lambda: self.now, rng.choice((0.0, 0.2, 0.6)))
        #: The place in Swift, and sometimes a mirror of it.
        self.swifts = [self.swift]
        if rng.random() < 0.5:
            late = rng.choice((0.0, 0.2, 0.6))
            self.swifts.append(Swift(rng, lambda: self.now, late, "mirror"))
        self.judge = Judge(self.homeserver, self.swifts)

    def close(self) -> None:
        """Unwind what was killed, and close the database."""
        for turns in self.runs:
            turns.bury()
        self.homeserver.close()

    @property
    def now_ms(self) -> int:
        """The time as Synapse writes it."""
        return int(self.now.timestamp() * 1000)

    def event(self, event: Callable[[World], None]) -> None:
        """Let an event happen; what it destroys, no job has lost."""
        event(self)
        self.judge.after_event()

    def any_media(self) -> Media | None:
        return self.rng.choice(self.homeserver.media) if self.homeserver.media else None

    def any_swift(self) -> Swift:
        return self.rng.choice(self.swifts)

    def any_object(self, swift: Swift, *, large: bool = False) -> str | None:
        """The path of an object that is not another homeserver's."""
        paths = [
            path
            for path, stored in swift.media.objects.items()
            if stored.owner != OTHER and (stored.rows or not large)
        ]
        return self.rng.choice(paths) if paths else None

    def put_large(
        self, swift: Swift, path: str, content: bytes, owner: str, container: str
    ) -> Stored:
        """Place segments, and make the manifest that joins them."""
        attempt = f"{self.rng.getrandbits(128):032x}"
        rows = []
        for offset in range(0, len(content), SEGMENT_BYTES):
            data = content[offset : offset + SEGMENT_BYTES]
            rows.append(Row(f"{path}/{attempt}/{offset // SEGMENT_BYTES:08}", len(data), md5(data)))
            segment = Stored(data, self.now, owner, manifest_container=container)
            swift.segments.put(rows[-1].name, segment)
        return Stored(b"", self.now, owner, rows=tuple(rows), attempt=attempt)


# Time


def wait(world: World) -> None:
    """Minutes to days pass. What has begun in Swift or in Synapse ends within minutes."""
    for swift in world.swifts:
        swift.store_what_was_coming()
    while world.homeserver.pending:
        finish(world)
    world.now += timedelta(hours=world.rng.choice((0.1, 3, 25, 50)))


# What Synapse and its users do


def upload(world: World) -> None:
    world.homeserver.upload(world.now_ms)


def fetch(world: World) -> None:
    world.homeserver.fetch(world.now_ms)


def reserve(world: World) -> None:
    world.homeserver.reserve(world.now_ms)


def receive(world: World) -> None:
    """A file is on disk and in Swift, but does not have a row yet."""
    path, content = world.homeserver.receive()
    world.any_swift().media.put(path, Stored(content, world.now, HERE))


def finish(world: World) -> None:
    if world.homeserver.pending:
        world.homeserver.finish(world.now_ms)


def thumbnail(world: World) -> None:
    if media := world.any_media():
        world.homeserver.add_thumbnail(media)


def remake_thumbnail(world: World) -> None:
    media = world.any_media()
    if media and len(media.paths) > 1:
        world.judge.touched.update(media.paths)
        world.homeserver.remake_thumbnail(media)


def access(world: World) -> None:
    if media := world.any_media():
        world.homeserver.access(media, world.now_ms)


def purge(world: World) -> None:
    if media := world.any_media():
        world.judge.touched.update(media.paths)
        world.homeserver.purge(media)


def fetch_again(world: World) -> None:
    """Remote media are purged, and fetched under the same id into another file."""
    media = world.any_media()
    if media and media.origin:
        world.judge.touched.update(media.paths)
        world.homeserver.purge(media)
        world.homeserver.fetch(world.now_ms, media.origin, media.media_id)


def pull_back(world: World) -> None:
    """Somebody looks at a media whose files are in Swift only."""
    if media := world.any_media():
        world.homeserver.access(media, world.now_ms)
        for path in media.paths:
            content = world.any_swift().served(path)
            if content is not None and world.homeserver.read(path) is None:
                world.judge.touched.add(path)
                world.homeserver.pull_back(path, content)


#: These happen also while a job runs.
SYNAPSE = (
    *(upload, fetch, reserve, receive, finish, thumbnail, remake_thumbnail),
    *(access, purge, fetch_again, pull_back),
)


# What happens from outside


def copy_database(world: World) -> None:
    world.copies.append(world.folder / f"copy{len(world.copies)}.db")
    world.homeserver.copy_database(world.copies[-1])


def damage(world: World) -> None:
    if media := world.any_media():
        world.homeserver.damage(world.rng.choice(media.paths))


def lose_object(world: World) -> None:
    swift = world.any_swift()
    if path := world.any_object(swift):
        swift.media.remove(path)


def alter_object(world: World) -> None:
    """Other bytes take the place of an object's, mostly as many."""
    swift = world.any_swift()
    path = world.any_object(swift)
    content = swift.served(path) if path else None
    if path and content:
        data = bytes([content[0] ^ 1]) + content[1:]
        data = data[: world.rng.choice((1, None, None))]
        swift.media.put(path, Stored(data, world.now, swift.media.objects[path].owner))


def expire(world: World) -> None:
    """Somebody sets X-Delete-At on an object or on a segment."""
    swift = world.any_swift()
    if path := world.any_object(swift):
        rows = swift.media.objects[path].rows
        name = world.rng.choice(rows).name if rows else ""
        if name in swift.segments.objects and world.rng.random() < 0.5:
            swift.segments.change(name, expires=True)
        else:
            swift.media.change(path, expires=True)


def vanish(world: World) -> None:
    """Swift deletes what has expired."""
    swift = world.any_swift()
    for place in (swift.media, swift.segments):
        for name in [name for name, stored in place.objects.items() if stored.expires]:
            place.remove(name)


def forget_marks(world: World) -> None:
    """A POST replaces an object's metadata."""
    swift = world.any_swift()
    if path := world.any_object(swift):
        swift.media.change(path, owner="", attempt="", expires=False)


def lose_manifest(world: World) -> None:
    """A manifest is lost, or deleted without its segments."""
    swift = world.any_swift()
    if path := world.any_object(swift, large=True):
        swift.media.remove(path)


def hurt_segment(world: World) -> None:
    """A segment is lost, or other bytes take its place."""
    swift = world.any_swift()
    if path := world.any_object(swift, large=True):
        name = world.rng.choice(swift.media.objects[path].rows or ()).name
        segment = swift.segments.objects.get(name)
        if segment is None:
            return
        if world.rng.random() < 0.5:
            swift.segments.remove(name)
        else:
            data = bytes([segment.data[0] ^ 1]) + segment.data[1:]
            swift.segments.change(name, data=data)


def other_homeserver(world: World) -> None:
    """Another homeserver stores an object in the same container."""
    swift = world.any_swift()
    path = f"local_content/ot/he/r{world.rng.randrange(10**6)}"
    content = world.rng.randbytes(world.rng.choice((5, 20)))
    if len(content) > SEGMENT_BYTES:
        swift.media.put(path, world.put_large(swift, path, content, OTHER, CONTAINER))
    else:
        swift.media.put(path, Stored(content, world.now, OTHER))


def other_container(world: World) -> None:
    """This homeserver's objects of another container have their segments in the same one."""
    swift = world.any_swift()
    if media := world.any_media():
        world.put_large(swift, media.paths[0], world.rng.randbytes(20), HERE, ELSEWHERE)


OUTSIDE = (
    *(copy_database, damage, lose_object, alter_object, expire, vanish, forget_marks),
    *(alter_object, lose_manifest, hurt_segment, hurt_segment, other_homeserver, other_container),
)
