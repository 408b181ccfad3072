"""The figures of ``stats``, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from swift_provider.offload.command.tables import Row, Table, drawn
from swift_provider.offload.media_names import LOCAL, REMOTE
from swift_provider.offload.stats.amounts import Amount, total
from swift_provider.offload.stats.figures import (
    KINDS,
    NO_ROW,
    THUMBNAILS,
    DatabaseFigures,
    DiskFigures,
    Figures,
    Origin,
    PlaceFigures,
)
from swift_provider.sizes import readable

_LABELS = {
    LOCAL: "local media",
    REMOTE: "remote media",
    THUMBNAILS: "thumbnails",
    NO_ROW: "without a row",
}
_THIS_SERVER = "(this server)"
_NO_DISK = "There is no media store on this machine: nothing is said of the disk"


def text(figures: Figures, durations: Sequence[str], width: int) -> list[str]:
    """Tables, at most so wide.

    :param durations: of the steps from 1 on.
    """
    database, disk = figures.database, figures.disk
    tables = _database(database, durations)
    if disk is None:
        tables.append(_origins("Largest in the database", "media", database.origins))
    else:
        tables += _disk(disk, durations)
    tables += [_place(place, disk is not None) for place in figures.places]
    lines = drawn(tables, width)
    return [*lines, "", _NO_DISK] if disk is None else lines


def as_mapping(figures: Figures, durations: Sequence[str]) -> dict[str, Any]:
    """The exact numbers, for ``--json``."""
    database, disk = figures.database, figures.disk
    return {
        "database": {
            **{
                kind: {
                    **_mapping(database.kind(kind), "number"),
                    "not_accessed_for": {
                        duration: _mapping(database.idle(kind, step), "number")
                        for step, duration in enumerate(durations, 1)
                    },
                }
                for kind in KINDS
            },
            "pending_uploads": database.pending,
            "largest_origins": _origin_mappings(database.origins, "number"),
        },
        "disk": None
        if disk is None
        else {
            "base_path": disk.base_path,
            **{
                kind.replace(" ", "_"): _mapping(amount, "files")
                for kind, amount in disk.by_kind.items()
            },
            "would_free": {
                duration: _mapping(disk.freed[step], "files")
                for step, duration in enumerate(durations, 1)
            },
            "largest_origins": _origin_mappings(disk.origins, "files"),
        },
        "swift": [_place_mapping(place) for place in figures.places],
    }


def _database(database: DatabaseFigures, durations: Sequence[str]) -> list[Table]:
    pending = f"Uploads that Synapse is still waiting for: {database.pending:,}"
    kinds = [(_LABELS[kind], database.kind(kind)) for kind in KINDS]

    def idle(step: int) -> Amount:
        media = database.idle(LOCAL, step).plus(database.idle(REMOTE, step))
        return Amount(media.number, media.size + database.idle(THUMBNAILS, step).size)

    steps = [(duration, idle(step)) for step, duration in enumerate(durations, 1)]
    return [
        _table(
            "In Synapse's database",
            "number",
            _with_all(kinds),
            notes=[pending] * (database.pending > 0),
        ),
        _table("Not accessed for", "media", steps, whole=idle(0)),
    ]


def _disk(disk: DiskFigures, durations: Sequence[str]) -> list[Table]:
    kinds = [
        (_LABELS[kind], amount)
        for kind, amount in disk.by_kind.items()
        if kind != NO_ROW or amount.number
    ]
    steps = [(duration, disk.freed[step]) for step, duration in enumerate(durations, 1)]
    return [
        _table("On this disk", "files", _with_all(kinds)),
        _table("Offloading would free", "files", steps, whole=disk.all),
        _origins("Largest on this disk", "files", disk.origins),
    ]


def _origins(title: str, unit: str, origins: Sequence[Origin]) -> Table:
    return _table(title, unit, [(name or _THIS_SERVER, amount) for name, amount in origins])


def _place(place: PlaceFigures, with_disk: bool) -> Table:
    title = f"Listed in {place.name}"
    if place.error is not None:
        return _table(title, "files", [], notes=[f"It cannot be listed: {place.error}"])
    rare = [
        ("on disk, other length listed", place.different),
        ("neither" if with_disk else "not listed", place.nowhere),
        ("listed, without a row", place.unknown),
    ]
    usual = [
        ("on disk and listed", place.same),
        ("only on disk", place.missing),
        ("only listed", place.only_listed),
    ]
    rows = usual if with_disk else [("listed", place.listed)]
    return _table(title, "files", rows + [row for row in rare if row[1].number])


def _with_all(rows: list[tuple[str, Amount]]) -> list[tuple[str, Amount]]:
    return [*rows, ("all", total([amount for _, amount in rows]))]


def _table(
    title: str,
    unit: str,
    rows: Sequence[tuple[str, Amount]],
    *,
    whole: Amount | None = None,
    notes: Sequence[str] = (),
) -> Table:
    """:param whole: what a full bar stands for; ``None`` for the largest row."""
    made = [
        Row(label, (f"{amount.number:,}", readable(amount.size)), amount.size)
        for label, amount in rows
    ]
    return Table((title, unit, "size"), made, 0 if whole is None else whole.size, notes)


def _mapping(amount: Amount, unit: str) -> dict[str, int]:
    return {unit: amount.number, "bytes": amount.size}


def _origin_mappings(origins: Sequence[Origin], unit: str) -> list[dict[str, Any]]:
    return [{"origin": name, **_mapping(amount, unit)} for name, amount in origins]


def _place_mapping(place: PlaceFigures) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": place.name, "container": place.container}
    if place.error is not None:
        return {**shown, "error": place.error}
    return {
        **shown,
        "listed": _mapping(place.listed, "objects"),
        "not_media": place.not_media,
        "on_disk_and_listed": _mapping(place.same, "files"),
        "on_disk_and_listed_with_another_length": _mapping(place.different, "files"),
        "only_on_disk": _mapping(place.missing, "files"),
        "only_listed": _mapping(place.only_listed, "objects"),
        "neither": _mapping(place.nowhere, "media"),
        "listed_without_a_row": _mapping(place.unknown, "objects"),
    }
