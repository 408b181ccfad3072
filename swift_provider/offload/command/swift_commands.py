"""The commands that talk to Swift: ``upload``, ``verify``, ``prune``, ``restore``."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from typing import Any

from twisted.internet import reactor

from swift_provider.client import Patience, SwiftClient
from swift_provider.offload.cache import Cache
from swift_provider.offload.command.exit_status import DONE, SOME_FAILED, status_of
from swift_provider.offload.command.inputs import Wiring
from swift_provider.offload.command.run_job import run
from swift_provider.offload.jobs import prune as pruning
from swift_provider.offload.jobs import upload as uploading
from swift_provider.offload.jobs.job import Job
from swift_provider.offload.jobs.prune import Prune
from swift_provider.offload.jobs.restore import Restore
from swift_provider.offload.jobs.upload import Upload
from swift_provider.offload.jobs.verify import Verify, Where
from swift_provider.offload.lock import RunLock
from swift_provider.offload.tally import Tally


def upload(wiring: Wiring) -> int:
    """``upload BASE_PATH [CONTAINER]``."""
    arguments = wiring.arguments
    base_path = wiring.base_path()
    client = _client(wiring)
    options = uploading.Options(
        base_path=base_path,
        container=client.settings.container,
        prefix=client.settings.prefix,
        delete=arguments.delete,
        dry_run=arguments.dry_run,
        everything=arguments.all,
    )
    with (
        closing(Cache(arguments.cache_db)) as cache,
        closing(wiring.database()) as database,
    ):
        total = None if arguments.all else cache.count()
        if total == 0 and cache.count(with_deleted=True) == 0:
            why = (
                "The last 'update' found no media that are old enough"
                if cache.updated
                else "The cache is empty: run 'update' first"
            )
            print(why, file=sys.stderr)
        with closing(wiring.progress(total)) as progress:
            return _run(wiring, client, Upload(client, database, cache, options, progress))


def verify(wiring: Wiring) -> int:
    """``verify BASE_PATH [CONTAINER]``."""
    base_path = wiring.base_path(may_be_empty=True)
    client = _client(wiring)
    where = Where(base_path, client.settings.container, client.settings.prefix)
    with (
        closing(RunLock(wiring.arguments.cache_db)),
        closing(wiring.database()) as database,
        closing(wiring.progress(None)) as progress,
    ):
        job = Verify(client, database, where, progress)
        return _run(wiring, client, job) or (SOME_FAILED if job.holes else DONE)


def prune(wiring: Wiring) -> int:
    """``prune [CONTAINER]``."""
    arguments = wiring.arguments
    client = _client(wiring)
    options = pruning.Options(
        client.settings.container, client.settings.prefix, arguments.delete, arguments.max_share
    )
    with (
        closing(RunLock(arguments.cache_db)),
        closing(wiring.database()) as database,
        closing(wiring.progress(None)) as progress,
    ):
        show = progress.note if arguments.json else print
        return _run(wiring, client, Prune(client, database, options, progress, show))


def restore(wiring: Wiring) -> int:
    """``restore BASE_PATH [CONTAINER]``."""
    base_path = wiring.base_path(may_be_empty=True)
    client = _client(wiring)
    container, prefix = client.settings.container, client.settings.prefix
    with (
        # An upload at the same time would delete what this restores.
        closing(RunLock(wiring.arguments.cache_db)),
        closing(wiring.progress(None)) as progress,
    ):
        return _run(wiring, client, Restore(client, base_path, container, prefix, progress))


def _client(wiring: Wiring) -> SwiftClient:
    return SwiftClient.from_settings(
        reactor, wiring.settings(), patience=Patience.SCRIPT, shares_reactor=False
    )


def _run(wiring: Wiring, client: SwiftClient, job: Job[Any]) -> int:
    """Run the reactor until a job is over, and show its summary.

    :returns: the exit status.
    """

    async def work() -> None:
        try:
            await job.run()
        finally:
            await client.close()

    def show() -> None:
        stopped = job.summary.stopped
        if stopped is not None and not job.begun and not wiring.arguments.json:
            print(f"swift_media_upload: {stopped}", file=sys.stderr, flush=True)
        else:
            _print_summary(job.summary, as_json=wiring.arguments.json)

    def last_words() -> None:
        job.summary.interrupted = True
        job.summary.finish()
        show()

    run(reactor, work, job.stop, last_words)
    job.progress.close()
    show()
    return status_of(job.summary)


def _print_summary(summary: Tally, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(summary.as_mapping(), indent=2), flush=True)
    else:
        print("\n".join(summary.lines()), flush=True)
