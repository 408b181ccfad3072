"""The commands that talk to Swift: ``upload``, ``verify``, ``prune``, ``restore``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import closing
from typing import Any

from twisted.internet import reactor

from swift_provider.client import Patience, Store
from swift_provider.offload.cache import Cache
from swift_provider.offload.command.console import print_json
from swift_provider.offload.command.exit_status import DONE, SOME_FAILED, status_of
from swift_provider.offload.command.inputs import Inputs
from swift_provider.offload.command.run_job import run
from swift_provider.offload.database import Database
from swift_provider.offload.jobs import prunable
from swift_provider.offload.jobs import upload as uploading
from swift_provider.offload.jobs.job import Job
from swift_provider.offload.jobs.prune import Prune
from swift_provider.offload.jobs.restore import Restore
from swift_provider.offload.jobs.upload import Upload
from swift_provider.offload.jobs.verify import Verify
from swift_provider.offload.lock import RunLock, StoreLock


def upload(inputs: Inputs) -> int:
    """``upload BASE_PATH [CONTAINER]``."""
    arguments = inputs.arguments
    options = uploading.Options(
        base_path=inputs.base_path(),
        delete=arguments.delete,
        dry_run=arguments.dry_run,
        everything=arguments.all,
    )
    if options.delete:
        inputs.check_place()
    store = _store(inputs)
    with (
        closing(StoreLock(options.base_path)),
        closing(Cache(arguments.cache_db)) as cache,
        closing(inputs.database()) as database,
    ):
        total = None if arguments.all else cache.count()
        if total == 0 and cache.count(with_deleted=True) == 0:
            why = (
                "The last 'update' found no media that are old enough"
                if cache.updated
                else "The cache is empty: run 'update' first"
            )
            print(why, file=sys.stderr)
        with closing(inputs.progress(total)) as progress:
            job = Upload(reactor, store, database, cache, options, progress)
            return _run(inputs, store, job, database)


def verify(inputs: Inputs) -> int:
    """``verify BASE_PATH [CONTAINER]``."""
    base_path = inputs.base_path(may_be_empty=True)
    store = _store(inputs)
    with (
        closing(StoreLock(base_path)),
        closing(RunLock(inputs.arguments.cache_db)),
        closing(inputs.database()) as database,
        closing(inputs.progress(None)) as progress,
    ):
        deep = inputs.arguments.deep
        job = Verify(reactor, store, database, base_path, progress, deep=deep)
        return _run(inputs, store, job, database, lambda: SOME_FAILED if job.holes else DONE)


def prune(inputs: Inputs) -> int:
    """``prune [CONTAINER]``."""
    arguments = inputs.arguments
    options = prunable.Options(arguments.delete, arguments.unmarked, arguments.max_share)
    store = _store(inputs)
    with (
        closing(RunLock(arguments.cache_db)),
        closing(inputs.database()) as database,
        closing(inputs.progress(None)) as progress,
    ):
        show = progress.note if arguments.json else progress.show
        job = Prune(reactor, store, database, options, progress, show)
        return _run(inputs, store, job, database)


def restore(inputs: Inputs) -> int:
    """``restore BASE_PATH [CONTAINER]``."""
    base_path = inputs.base_path(may_be_empty=True)
    store = _store(inputs)
    with (
        # An upload at the same time would delete the restored files.
        closing(StoreLock(base_path)),
        closing(RunLock(inputs.arguments.cache_db)),
        closing(inputs.database()) as database,
        closing(inputs.progress(None)) as progress,
    ):
        job = Restore(reactor, store, database, base_path, progress)
        return _run(inputs, store, job, database)


def _store(inputs: Inputs) -> Store:
    return Store.from_settings(
        reactor,
        inputs.settings(),
        patience=Patience.SCRIPT,
        shares_reactor=False,
        owner=inputs.server_name(),
    )


def _run(
    inputs: Inputs,
    store: Store,
    job: Job[Any],
    database: Database,
    otherwise: Callable[[], int] = lambda: DONE,
) -> int:
    """Run the reactor until a job is over, close the store, and show the figures.

    :param database: what the job reads; a signal ends its current query.
    :param otherwise: the exit status if the job did all its work and nothing failed.
    :returns: the exit status.
    """

    async def work() -> None:
        try:
            await job.run()
        finally:
            await store.close()

    def stop() -> None:
        job.stop()
        database.stop()  # Its answers are only for files that the job would begin.

    def show() -> int:
        job.progress.close()
        tally, as_json = job.tally, inputs.arguments.json
        status = status_of(tally) or otherwise()
        if as_json:
            error = {} if tally.stopped is None else {"error": tally.stopped}
            print_json({**tally.as_mapping(), **error}, status)
        elif tally.stopped is not None and not job.begun:
            print(f"swift_media_upload: {tally.stopped}", file=sys.stderr, flush=True)
        else:
            print("\n".join(tally.lines()), flush=True)
        return status

    def last_words() -> None:
        job.tally.interrupted = True
        job.tally.finish()
        show()

    run(reactor, work, stop, last_words, job.progress.note)
    return show()
