"""The figures of one run, as they are counted; nothing here is for a screen yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from swift_provider.offload.media_names import LOCAL, REMOTE
from swift_provider.offload.stats.amounts import Amount, total
from swift_provider.offload.stats.inventory import Inventory

THUMBNAILS = "thumbnails"
#: Files on the disk whose media have no row in the database.
NO_ROW = "without a row"
KINDS = (LOCAL, REMOTE, THUMBNAILS)
#: How many of the largest origins are told.
ORIGINS = 10

#: An origin, empty for this server, and what came from it.
Origin = tuple[str, Amount]


@dataclass
class DatabaseFigures:
    """What the database says.

    :ivar by_step: of each kind, by steps; see :mod:`.media_rows`.
    :ivar pending: uploads that Synapse is still waiting for; not among the others.
    :ivar origins: the largest ones, without thumbnails.
    """

    by_step: dict[str, list[Amount]]
    pending: int
    origins: list[Origin]

    @classmethod
    def of(cls, inventory: Inventory, thumbnails: Sequence[Amount]) -> DatabaseFigures:
        """:param thumbnails: by steps."""
        steps = len(thumbnails)
        by_step = {kind: [Amount()] * steps for kind in (LOCAL, REMOTE)}
        inventory.run(
            "CREATE TABLE groups AS SELECT origin, step, length IS NULL AS pending, "
            "count(*) AS number, sum(length) AS size FROM media GROUP BY 1, 2, 3"
        )
        for is_local, step, number, size in inventory.run(
            "SELECT origin = '', step, sum(number), sum(size) FROM groups "
            "WHERE NOT pending GROUP BY 1, 2"
        ):
            by_step[LOCAL if is_local else REMOTE][step] = Amount(number, size)
        pending = inventory.amount("SELECT sum(number), 0 FROM groups WHERE pending").number
        origins = _largest(
            inventory,
            "SELECT origin, sum(number), sum(size) AS bytes FROM groups WHERE NOT pending",
        )
        return cls({**by_step, THUMBNAILS: list(thumbnails)}, pending, origins)

    def kind(self, kind: str) -> Amount:
        """All of a kind."""
        return total(self.by_step[kind])

    def idle(self, kind: str, step: int) -> Amount:
        """Those of a kind that were not accessed since the time of a step."""
        return total(self.by_step[kind][step:])


@dataclass
class DiskFigures:
    """What is on the disk; bytes are those that files take, as ``du`` counts.

    :ivar freed: what offloading would free, by steps.
    :ivar origins: the largest ones, with thumbnails.
    """

    base_path: str
    by_kind: dict[str, Amount]
    freed: list[Amount]
    origins: list[Origin]

    @classmethod
    def of(cls, inventory: Inventory, base_path: str, steps: int) -> DiskFigures:
        """:param steps: how many there are, with 0."""
        by_kind = dict.fromkeys((*KINDS, NO_ROW), Amount())
        for has_row, is_content, is_local, *amount in inventory.run(
            "SELECT file NOT NULL, name = '', origin = '', count(*), sum(taken) "
            "FROM files LEFT JOIN known ON file = files.rowid GROUP BY 1, 2, 3"
        ):
            kind = (LOCAL if is_local else REMOTE) if is_content else THUMBNAILS
            kind = kind if has_row else NO_ROW
            by_kind[kind] = by_kind[kind].plus(Amount(*amount))
        goes = [Amount()] * steps
        for step, *amount in inventory.run(
            "SELECT step, count(*), sum(taken) FROM known JOIN files ON files.rowid = file "
            "GROUP BY step"
        ):
            goes[step] = Amount(*amount)
        freed = [total(goes[step:]) for step in range(steps)]
        origins = _largest(inventory, "SELECT origin, count(*), sum(taken) AS bytes FROM files")
        return cls(base_path, by_kind, freed, origins)

    @property
    def all(self) -> Amount:
        """All files."""
        return total(list(self.by_kind.values()))


@dataclass
class PlaceFigures:
    """What a listing of one place in Swift has; the other figures compare with it.

    :ivar name: what people call the place.
    :ivar error: why the listing failed; the figures do not count then.
    :ivar listed: all objects of media; ``not_media`` is how many others there are.
    :ivar same: files on the disk that have an object of the same length; bytes on the disk.
    :ivar different: those that have one of another length.
    :ivar missing: those that have none.
    :ivar only_listed: objects without a file on the disk.
    :ivar nowhere: contents that the database has, neither on the disk nor listed.
    :ivar unknown: objects whose media have no row.
    """

    name: str
    container: str
    error: str | None = None
    not_media: int = 0
    listed: Amount = field(default_factory=Amount)
    same: Amount = field(default_factory=Amount)
    different: Amount = field(default_factory=Amount)
    missing: Amount = field(default_factory=Amount)
    only_listed: Amount = field(default_factory=Amount)
    nowhere: Amount = field(default_factory=Amount)
    unknown: Amount = field(default_factory=Amount)

    def count(self, inventory: Inventory, place: int) -> None:
        """Fill in the figures.

        :param place: the number of the place in the inventory.
        """
        key = "origin, filesystem_id, name"
        inventory.run(f"CREATE INDEX IF NOT EXISTS objects_idx ON objects (place, {key})")
        inventory.run("CREATE INDEX IF NOT EXISTS media_idx ON media (origin, filesystem_id)")
        both = f"FROM files CROSS JOIN objects USING ({key}) WHERE place = ?"
        counts = "SELECT count(*), sum(taken)"
        self.same = inventory.amount(f"{counts} {both} AND files.size = objects.size", place)
        self.different = inventory.amount(f"{counts} {both} AND files.size <> objects.size", place)
        on_disk = inventory.amount(f"{counts} FROM files")
        self.missing = on_disk.minus(self.same).minus(self.different)
        counts = "SELECT count(*), sum(size) FROM objects WHERE place = ?"
        self.listed = inventory.amount(counts, place)
        in_both = inventory.amount(f"SELECT count(*), sum(objects.size) {both}", place)
        self.only_listed = self.listed.minus(in_both)
        of_media = "origin = media.origin AND filesystem_id = media.filesystem_id AND name = ''"
        self.nowhere = inventory.amount(
            "SELECT count(*), sum(length) FROM media WHERE length IS NOT NULL "
            f"AND NOT EXISTS (SELECT 1 FROM files WHERE {of_media}) "
            f"AND NOT EXISTS (SELECT 1 FROM objects WHERE place = ? AND {of_media})",
            place,
        )
        self.unknown = inventory.amount(
            f"{counts} AND NOT EXISTS (SELECT 1 FROM media WHERE media.origin = objects.origin "
            "AND media.filesystem_id = objects.filesystem_id)",
            place,
        )


@dataclass
class Figures:
    """All of it.

    :ivar disk: ``None`` if there is no media store on this machine.
    :ivar places: in Swift; empty if nobody asked for them.
    """

    database: DatabaseFigures
    disk: DiskFigures | None
    places: list[PlaceFigures]


def _largest(inventory: Inventory, select: str) -> list[Origin]:
    sql = f"{select} GROUP BY origin ORDER BY bytes DESC, origin LIMIT {ORIGINS}"
    return [(origin, Amount(number, size)) for origin, number, size in inventory.run(sql)]
