"""Runs the real jobs against the world, and judges them while they run."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import timedelta
from typing import Any
from unittest.mock import patch

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from swift_provider.errors import ConfigError
from swift_provider.offload.cache import Cache
from swift_provider.offload.command.exit_status import DONE, WRONG_USAGE, status_of
from swift_provider.offload.database import Database
from swift_provider.offload.database_config import DatabaseConfig
from swift_provider.offload.disk_plan import DiskPlan, Need
from swift_provider.offload.jobs import keep, offloading, orphans, prunable, prune, update
from swift_provider.offload.jobs import restore as restoring
from swift_provider.offload.jobs import upload as uploading
from swift_provider.offload.jobs.job import Job
from swift_provider.offload.jobs.restore import Restore
from swift_provider.offload.jobs.verify import Verify
from swift_provider.offload.media_ages import local_ages, remote_ages
from swift_provider.offload.media_names import LOCAL, REMOTE
from swift_provider.offload.media_walk import walk
from swift_provider.offload.progress import Progress
from tests.model.judge import Violation
from tests.model.lying_store import LyingMirrors, LyingStore
from tests.model.swift import HERE, Swift
from tests.model.turns import Turns
from tests.model.world import SYNAPSE, World

#: A job may be killed or stopped at any of so many first calls.
_FIRST_TURNS = 60
#: The share of requests that fail.
_TROUBLE = (0.0, 0.0, 0.03, 0.15)
_OUTAGE = 0.9
#: No time passes while a job runs.
_CLOCK = Clock()


def _run(
    world: World,
    make: Callable[[Any, Database], Job[Any]],
    config: DatabaseConfig | None = None,
    owner: str | None = HERE,
    swifts: Sequence[Swift] | None = None,
) -> tuple[Job[Any], int | None]:
    """Run a job to its end, or until it is killed or stopped.

    :param make: called with the store and the database.
    :returns: the job, and its exit status; ``None`` if it was killed.
    """
    rng, judge = world.rng, world.judge
    swifts = swifts or world.swifts
    turns = Turns(rng)
    width = rng.choice((1, 2, 4))
    stores = [
        LyingStore(
            swift,
            turns,
            rng,
            trouble=rng.choice(_TROUBLE if len(swifts) == 1 else (*_TROUBLE, _OUTAGE)),
            width=width,
            owner=owner,
        )
        for swift in swifts
    ]
    store = stores[0] if len(stores) == 1 else LyingMirrors(stores)
    killed_at = rng.randrange(_FIRST_TURNS) if rng.random() < 0.25 else -1
    stopped_at = rng.randrange(_FIRST_TURNS) if rng.random() < 0.1 else -1
    busy = rng.choice((0.0, 0.0, 0.1))
    judge.touched.clear()
    for swift in world.swifts:
        swift.has_hidden = False

    def between(number: int) -> bool:
        if number == stopped_at:
            job.stop()
        if rng.random() < busy:
            judge.end()
            world.event(rng.choice(SYNAPSE))
            judge.begin()
        return number != killed_at

    with closing(Database(config or world.homeserver.store.config)) as database:
        job = make(store, database)
        threads = job.threads
        threads.lookups = threads.hashing = threads.writing = turns  # type: ignore[assignment]
        judge.begin()
        outcomes: list[Any] = []
        world.runs.append(turns)
        ended = Deferred.fromCoroutine(job.run()).addBoth(outcomes.append)
        by_itself = turns.take(ended, between)
        judge.end()
    if not by_itself:
        return job, None
    if isinstance(outcomes[0], Failure):
        if outcomes[0].check(ConfigError) is None:
            outcomes[0].raiseException()
        return job, WRONG_USAGE
    return job, status_of(job.tally)


def _untouched(world: World) -> list[str]:
    return [path for path in world.homeserver.files if path not in world.judge.touched]


def _must(truth: bool, path: str, what: str) -> None:
    if not truth:
        raise Violation(f"status 0, but {what}: {path}")


def run_update(world: World) -> None:
    """``update``: both halves."""
    days = world.rng.choice((0, 1, 3))
    before = world.now_ms - int(timedelta(days=days).total_seconds() * 1000) + (days == 0)
    world.judge.begin()
    with (
        closing(Cache(str(world.folder / "cache.db"))) as cache,
        closing(Database(world.homeserver.store.config)) as database,
    ):
        update.update_db(database, cache, before)
        if world.rng.random() < 0.7:
            base_path = os.fspath(world.homeserver.base)
            update.check_deleted(cache, base_path, lambda count: None, lambda line: None)
    world.judge.end()


def run_upload(world: World) -> None:
    """``upload``, with or without ``--delete``, ``--all``, ``--dry-run``."""
    rng, homeserver = world.rng, world.homeserver
    options = uploading.Options(
        os.fspath(homeserver.base),
        delete=rng.random() < 0.6,
        dry_run=rng.random() < 0.1,
        everything=rng.random() < 0.6,
        enough=rng.choice((None, None, 1)),
    )
    world.judge.enough = options.enough or len(world.swifts)
    old = set(homeserver.files)
    disk = homeserver.on_disk()
    owner = HERE if rng.random() < 0.85 else None
    with (
        closing(Cache(str(world.folder / "cache.db"))) as cache,
        # The disk's clock is not the model's: thumbnails without a row count as old.
        patch.object(offloading, "is_young", lambda base_path, path, seconds: False),
    ):
        _, status = _run(
            world,
            lambda store, database: uploading.Upload(
                _CLOCK, store, database, cache, options, Progress()
            ),
            owner=owner,
        )
    world.judge.enough = len(world.swifts)
    if options.dry_run and homeserver.on_disk().keys() < disk.keys() and not world.judge.touched:
        raise Violation("a dry run deleted files")
    if status != DONE or options.dry_run or not options.everything:
        return
    for path in old.intersection(_untouched(world), disk):
        for swift in world.swifts:
            _must(swift.whole(path) == disk[path], path, f"not in {swift.name}")
        _must(not options.delete or homeserver.read(path) is None, path, "not deleted")


def run_verify(world: World) -> None:
    """``verify``, with or without ``--deep``."""
    deep = world.rng.random() < 0.5
    homeserver = world.homeserver
    old = set(homeserver.files)
    base_path = os.fspath(homeserver.base)
    job, status = _run(
        world,
        lambda store, database: Verify(_CLOCK, store, database, base_path, Progress(), deep=deep),
    )
    if status != DONE or job.holes:  # type: ignore[attr-defined]
        return
    for path in old.intersection(_untouched(world)):
        if "thumbnail" in path:
            continue
        file, disk = homeserver.files[path], homeserver.read(path)
        right = disk is None or (
            disk == file.content if file.proven else len(disk) == len(file.content)
        )
        _must(right, path, "wrong on disk")
        wholes = [swift.whole(path) for swift in world.swifts]
        in_all = [one is not None and len(one) == len(file.content) for one in wholes]
        hidden = any(swift.has_hidden for swift in world.swifts)
        _must(hidden or len(set(in_all)) == 1, path, "lacking in one place")
        for swift in world.swifts:
            stored = swift.whole(path)
            if disk is None:
                # If it downloads nothing, it sees only the length.
                _must(stored is not None and len(stored) == len(file.content), path, "nowhere")
                _must(not (deep and file.proven) or stored == file.content, path, "wrong in Swift")
                continue
            same_length = stored is not None and len(stored) == len(disk)
            seen = same_length and not swift.has_hidden
            _must(not seen or stored == disk, path, "different in Swift")


def run_restore(world: World) -> None:
    """``restore``."""
    homeserver = world.homeserver
    old = set(homeserver.files)
    base_path = os.fspath(homeserver.base)
    _, status = _run(
        world,
        lambda store, database: Restore(
            _CLOCK, store, database, restoring.Options(base_path), Progress()
        ),
    )
    if status != DONE:
        return
    for path in old.intersection(_untouched(world)):
        if "thumbnail" in path:
            continue
        file, disk = homeserver.files[path], homeserver.read(path)
        _must(disk is not None, path, "not on disk")
        right = disk == file.content if file.proven else len(disk or b"") == len(file.content)
        _must(right, path, "wrong on disk")


def run_prune(world: World) -> None:
    """``prune``, sometimes with an old copy of the database."""
    rng = world.rng
    options = prunable.Options(
        delete=rng.random() < 0.8,
        unmarked=rng.random() < 0.3,
        max_share=rng.choice((None, None, 1.0)),
    )
    config = None
    if world.copies and rng.random() < 0.5:
        path = str(rng.choice(world.copies))
        config = DatabaseConfig("sqlite3", {"database": path}, "copy")
    world.judge.may_delete = options.delete
    with patch.object(prune, "now", lambda: world.now):
        _run(
            world,
            lambda store, database: prune.Prune(
                _CLOCK, store, database, options, Progress(), lambda name: None
            ),
            config,
            owner=HERE if rng.random() < 0.9 else None,
            swifts=[world.any_swift()],
        )
    world.judge.may_delete = True


def run_keep(world: World) -> None:
    """What ``local_disk`` does: remove, repair, or remove what Synapse does not know."""
    rng, base_path = world.rng, os.fspath(world.homeserver.base)
    need = Need(
        space=rng.choice((0, 1, 5_000, 10**9)),
        older_before_ms=rng.choice((None, world.now_ms - 86_400_000)),
        written_since_ms=rng.choice((0, 2**60)),
        # The disk's clock is not the model's: only what Synapse is writing is too young.
        quiet_seconds=-60,
        young_seconds=-60,
    )
    what = rng.choice(("keep", "keep", "repair", "orphans"))

    def is_young(base_path: str, path: str, seconds: float) -> bool:
        return path in world.homeserver.unfinished

    with (
        closing(DiskPlan()) as plan,
        closing(Database(world.homeserver.store.config)) as another,
        patch.object(keep, "is_young", is_young),
        patch.object(offloading, "is_young", is_young),
    ):
        plan.add(walk(base_path, lambda path, reason: None))
        plan.match(LOCAL, local_ages(another))
        plan.match(REMOTE, remote_ages(another))

        def make(store: Any, database: Database) -> Job[Any]:
            if what == "keep":
                ages = another
                return keep.Keep(_CLOCK, store, database, ages, plan, base_path, need, Progress())
            if what == "repair":
                kinds = frozenset((LOCAL, REMOTE))
                return keep.Repair(
                    _CLOCK, store, database, plan, base_path, kinds, 2.0**60, Progress()
                )
            search = orphans.Search(plan, database, base_path, HERE, need.young_seconds)
            return orphans.Orphans(_CLOCK, store, search, another, Progress())

        _run(world, make)


JOBS = (run_update, run_upload, run_upload, run_verify, run_restore, run_prune, run_keep, run_keep)
