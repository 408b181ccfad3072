"""Media inside a real Synapse: our module, the S3 sibling's, and Synapse's own ``file_system``."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.bench.houses import (
    COLD,
    DISK,
    FLOOR,
    HOT,
    LARGE_BYTES,
    REDIRECT,
    S3,
    SIBLING,
    SMALL_BYTES,
    House,
    Role,
    running_houses,
    secure,
)
from tests.bench.measure import CandidateError
from tests.bench.results import Comparison, Metric, Run, Say, Target, alternate
from tests.bench.services import Cluster

UPLOAD_BYTES = 100_000
SLOW_READERS, SLOW_RATE = 200, 100_000
UPLOADS = 500

_METRICS = [
    Metric("rate", "requests/s", more_is_better=True),
    Metric("mbs", "MB/s", more_is_better=True),
    Metric("per_1000", "CPU s per 1000"),
    Metric("per_gib", "CPU s per GiB"),
    Metric("probe_p99", "other request p99 ms"),
    Metric("late_p50", "reactor late p50 ms"),
    Metric("late_p99", "p99 ms"),
    Metric("late_max", "max ms"),
    Metric("grew", "memory grew MB"),
    Metric("first_byte", "first byte ms"),
    Metric("times_idle", "times idle"),
]


#: How small files and large ones are served; the same again over TLS.
_WAYS: dict[str, tuple[int, Sequence[Role]]] = {
    "5 KB": (SMALL_BYTES, (COLD, SIBLING, DISK)),
    "5 KB again": (SMALL_BYTES, (HOT, SIBLING, DISK)),
    "20 MB": (LARGE_BYTES, (HOT, SIBLING, DISK)),
    "20 MB redirected": (LARGE_BYTES, (REDIRECT, DISK)),
}
_PLAIN_ROLES = (HOT, COLD, REDIRECT, SIBLING, DISK)
_ROLES = (*_PLAIN_ROLES, *(secure(role) for role in (HOT, COLD, REDIRECT, SIBLING)))


def compare(cluster: Cluster, folder: Path, *, quick: bool, say: Say) -> Iterator[Comparison]:
    """:param folder: for the homeservers."""
    comparison = Comparison(
        "Inside Synapse",
        f"Media that are in the provider only, downloaded by c clients: {SMALL_BYTES // 1000} KB "
        f"and {LARGE_BYTES // 1_000_000} MB files, from a one-node Swift. CPU is Synapse's. "
        "“Again”: our module has them in memory. “Redirected”: it sends the clients to Swift. "
        "TLS: between Synapse and Swift. "
        "“Other request” is one for /_matrix/client/versions meanwhile; “late” is a timer of 5 ms "
        "inside Synapse. Both use processor time, so they have downloads of their own, after "
        "those that the other columns are from. "
        f"{SLOW_READERS} slow readers take {SLOW_RATE // 1000} KB/s each.",
        _METRICS,
        _TARGETS,
        digest=_DIGEST,
    )
    small, large, rounds = (400, 24, 2) if quick else (1200, 60, 3)
    with running_houses(_ROLES, cluster, folder, comparison, say) as houses:
        by_role = {_key(house.role): house for house in houses}

        def each(roles: Sequence[Role]) -> list[House]:
            return [by_role[_key(role)] for role in roles if _key(role) in by_role]

        for clients in (1, 40, 200):
            share = 4 if clients == 1 else 1
            for way, (size, roles) in _WAYS.items():
                count = (small if size == SMALL_BYTES else large) // share
                for tls in (False, True) if clients == 40 else (False,):
                    case = f"{way}{' TLS' if tls else ''} c={clients}"
                    chosen = each([secure(role) for role in roles] if tls else roles)
                    runs = {
                        house.role.candidate: _downloads(case, house, size, count, clients)
                        for house in chosen
                    }
                    alternate(comparison, runs, rounds, say, case)
        usual = each((HOT, SIBLING, DISK))
        seconds = 6 if quick else 12
        runs = {house.role.candidate: _slow(house, seconds) for house in usual}
        alternate(comparison, runs, rounds, say, _SLOW)
        runs = {house.role.candidate: _first_byte(house) for house in each((COLD, SIBLING, DISK))}
        alternate(comparison, runs, rounds, say, _UPLOADS)
    yield comparison


def _key(role: Role) -> str:
    return repr(role)


def _downloads(case: str, house: House, size: int, count: int, clients: int) -> Run:
    plan = {"paths": house.paths[size], "size": size, "count": count, "clients": clients}

    def once(turn: int) -> Mapping[str, Mapping[str, float]]:
        seen, inside = house.measure("downloads", watch=False, **plan)
        sample = {"grew": inside["grew"]}
        if size == SMALL_BYTES:
            sample["rate"] = count / seen["seconds"]
            sample["per_1000"] = inside["cpu"] / count * 1000
        else:
            sample["mbs"] = seen["bytes"] / 1e6 / seen["seconds"]
            sample["per_gib"] = inside["cpu"] / (seen["bytes"] / (1 << 30))
        seen, inside = house.measure("downloads", watch=True, **plan)
        probe = sorted(seen["probe"]) or [0.0]
        sample["probe_p99"] = 1000 * probe[int(len(probe) * 0.99)]
        for key in ("late_p50", "late_p99", "late_max"):
            sample[key] = inside[key]
        return {case: sample}

    return once


def _slow(house: House, seconds: int) -> Run:
    def once(turn: int) -> Mapping[str, Mapping[str, float]]:
        seen, inside = house.measure(
            "slow",
            paths=house.paths[LARGE_BYTES],
            clients=SLOW_READERS,
            rate=SLOW_RATE,
            seconds=seconds,
        )
        if seen["cut_off"]:
            raise CandidateError(f"{seen['cut_off']} slow readers were cut off")
        kept = ("grew", "late_p50", "late_p99", "late_max")
        return {_SLOW: {key: inside[key] for key in kept}}

    return once


def _first_byte(house: House) -> Run:
    def once(turn: int) -> Mapping[str, Mapping[str, float]]:
        seen, _ = house.measure(
            "first_byte",
            paths=house.paths[SMALL_BYTES],
            count=40,
            uploads=UPLOADS,
            upload_size=UPLOAD_BYTES,
        )
        if not seen["busy"]:
            raise CandidateError("no file was asked for while uploads waited")
        idle, busy = (statistics.median(seen[key]) for key in ("idle", "busy"))
        return {_UPLOADS: {"first_byte": busy * 1000, "times_idle": busy / idle}}

    return once


_SLOW = f"{SLOW_READERS} slow readers"
_UPLOADS = f"{UPLOADS} uploads wait"
_DIGEST = [
    *((f"{way} c=40", "rate") for way in ("5 KB", "5 KB again")),
    *((f"{way} c=40", "per_1000") for way in ("5 KB", "5 KB again")),
    ("20 MB c=1", "mbs"),
    ("20 MB c=40", "mbs"),
    *((f"20 MB{how} c=40", "per_gib") for how in ("", " redirected", " TLS")),
    ("20 MB c=40", "probe_p99"),
    ("20 MB c=40", "grew"),
    (_SLOW, "grew"),
    (_SLOW, "late_max"),
    (_UPLOADS, "first_byte"),
]


def _targets(tls: str) -> list[Target]:
    def case(way: str) -> str:
        return f"{way}{tls} c=40"

    return [
        Target(f"20 MB{tls}: CPU per GiB, of file_system's", case("20 MB"), "per_gib", FLOOR, 1.3),
        Target(
            f"20 MB redirected{tls}: CPU per GiB, of file_system's",
            case("20 MB redirected"),
            "per_gib",
            FLOOR,
            0.1,
        ),
        Target(
            f"5 KB again{tls}: requests/s, of file_system's",
            case("5 KB again"),
            "rate",
            FLOOR,
            at_least=1,
        ),
        Target(
            f"5 KB again{tls}: CPU per 1000, of file_system's",
            case("5 KB again"),
            "per_1000",
            FLOOR,
            1,
        ),
        Target(f"5 KB{tls}: CPU s per 1000", case("5 KB"), "per_1000", at_most=1.6),
        Target(
            f"20 MB{tls}: other request's p99, of the sibling's",
            case("20 MB"),
            "probe_p99",
            S3,
            0.5,
        ),
    ]


_TARGETS = [
    Target("20 MB: MB/s, of the S3 sibling's", "20 MB c=40", "mbs", S3, at_least=2),
    *_targets(""),
    *_targets(" TLS"),
    Target(f"{_SLOW}: memory grew by MB", _SLOW, "grew", at_most=20),
    Target(f"{_UPLOADS}: first byte, times idle", _UPLOADS, "times_idle", at_most=3),
]
