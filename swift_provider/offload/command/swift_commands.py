"""The commands that talk to Swift: ``upload``, ``verify``, ``prune``, ``restore``, ``sync``."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from typing import Any, Protocol

from twisted.internet import reactor
from twisted.internet.task import LoopingCall

from swift_provider.client import Patience, Place, Store, open_store
from swift_provider.config import Settings
from swift_provider.errors import ConfigError
from swift_provider.offload.bandwidth import Bandwidth
from swift_provider.offload.cache import Cache
from swift_provider.offload.command.console import print_json
from swift_provider.offload.command.durations import duration
from swift_provider.offload.command.exit_status import DONE, SOME_FAILED, WRONG_USAGE, status_of
from swift_provider.offload.command.inputs import Inputs
from swift_provider.offload.command.local_commands import since, update_on
from swift_provider.offload.command.run_job import run
from swift_provider.offload.command.stalls import Stalls
from swift_provider.offload.database import Database
from swift_provider.offload.disk_access import check_may_delete, check_may_write
from swift_provider.offload.jobs import prunable
from swift_provider.offload.jobs import restore as restoring
from swift_provider.offload.jobs import sync as syncing
from swift_provider.offload.jobs import upload as uploading
from swift_provider.offload.jobs.job import Job
from swift_provider.offload.jobs.prune import AskOthers, Prune, nobody
from swift_provider.offload.jobs.prune_each import PruneEach
from swift_provider.offload.jobs.restore import Restore
from swift_provider.offload.jobs.sync import Sync
from swift_provider.offload.jobs.upload import Upload
from swift_provider.offload.jobs.verify import Verify
from swift_provider.offload.lock import RunLock, check_not_kept
from swift_provider.offload.print_line import print_line
from swift_provider.offload.progress import Progress
from swift_provider.offload.tally import Tally
from swift_provider.offload.wanted_media import Wanted


class Runnable(Protocol):
    """A job; see :class:`.Job`."""

    progress: Progress
    begun: bool

    @property
    def tally(self) -> Tally: ...

    def stop(self) -> None: ...

    async def run(self) -> Any: ...


def upload(inputs: Inputs) -> int:
    """``upload BASE_PATH [CONTAINER]``."""
    return _upload(inputs, None)


def offload(inputs: Inputs) -> int:
    """``offload BASE_PATH DURATION [CONTAINER]``."""
    since(inputs)  # Report a mistake before the work begins.
    return _upload(inputs, partial(update_on, inputs))


def _upload(inputs: Inputs, update: Callable[[str], dict[str, Any]] | None) -> int:
    """:param update: what to do first, with the media store; returns its figures."""
    arguments = inputs.arguments
    _check_duration(inputs)
    options = uploading.Options(
        base_path=inputs.base_path(),
        delete=arguments.delete,
        dry_run=arguments.dry_run,
        everything=arguments.all,
        enough=1 if arguments.delete_when == "any" else None,
    )
    if options.delete:
        inputs.check_place()
        _check_not_kept(inputs, options.base_path, "upload --delete")
        check_may_delete(options.base_path)
    store = _store(inputs)
    with ExitStack() as stack:
        stack.enter_context(closing(inputs.lock(options.base_path)))
        if options.delete and not options.dry_run:  # Synapse may have begun meanwhile.
            check_not_kept(options.base_path, "upload --delete")
        updated = {} if update is None else {"update": update(options.base_path)}
        cache = stack.enter_context(closing(Cache(arguments.cache_db)))
        database = stack.enter_context(closing(inputs.database()))
        total = None if arguments.all else cache.count()
        if total == 0 and cache.count(with_deleted=True) == 0:
            if not cache.updated:
                print_line("The cache is empty: run 'update' first", sys.stderr)
            elif not arguments.quiet:
                print_line(
                    "Nothing to upload: at the last 'update', all media had been accessed within "
                    "its DURATION",
                    sys.stderr,
                )
        with closing(inputs.progress(total)) as progress:
            bandwidth = inputs.bandwidth = Bandwidth(reactor, arguments.bwlimit)
            job = Upload(reactor, store, database, cache, options, progress, bandwidth)
            unreadable = any(figures["unreadable"] for figures in updated.values())

            def judge(tally: Tally) -> int:
                return status_of(tally) or (SOME_FAILED if unreadable else DONE)

            return _run(inputs, store, job, database, judge, updated)


def _check_not_kept(inputs: Inputs, base_path: str, command: str) -> None:
    """As :func:`.check_not_kept`; with ``--dry-run``, only say so."""
    try:
        check_not_kept(base_path, command)
    except ConfigError as error:
        if not inputs.arguments.dry_run:
            raise
        if inputs.note is not None:
            inputs.note(f"Without --dry-run: {error}")


def _check_duration(inputs: Inputs) -> None:
    """:raises ConfigError: before the work begins, if ``--max-duration`` is wrong."""
    if inputs.arguments.max_duration is not None:
        duration(inputs.arguments.max_duration)


def verify(inputs: Inputs) -> int:
    """``verify BASE_PATH [CONTAINER]``."""
    base_path = inputs.base_path(may_be_empty=True)
    store = _store(inputs)
    # It changes nothing in the media store, so it does not lock it: it may run for hours.
    with (
        closing(RunLock(inputs.arguments.cache_db)),
        closing(inputs.database()) as database,
        closing(inputs.progress(None)) as progress,
    ):
        deep = inputs.arguments.deep
        job = Verify(reactor, store, database, base_path, progress, deep=deep)

        def judge(tally: Tally) -> int:
            return status_of(tally) or (SOME_FAILED if job.holes else DONE)

        return _run(inputs, store, job, database, judge)


def prune(inputs: Inputs) -> int:
    """``prune [CONTAINER]``."""
    arguments = inputs.arguments
    min_age = duration(arguments.min_age)
    if min_age < prunable.YOUNG:
        raise ConfigError(f"--min-age {arguments.min_age} is less than a day, which is the least")
    options = prunable.Options(
        arguments.delete and not arguments.dry_run,
        arguments.unmarked,
        arguments.max_share,
        min_age,
    )
    configured = [place for entry in inputs.entries() for place in entry.members]
    store = _store(inputs)
    with (
        closing(RunLock(arguments.cache_db)),
        closing(inputs.database()) as database,
        closing(inputs.progress(None, "objects")) as progress,
    ):
        make = partial(_prune, configured, database, options, as_json=arguments.json)
        if len(store.members) == 1:
            return _run(inputs, store, make(store.members[0], progress), database)
        job = PruneEach(store, make, progress)

        def judge(tally: Tally) -> int:
            refused = job.tally.refused and not tally.interrupted
            return WRONG_USAGE if refused else status_of(tally)

        return _run(inputs, store, job, database, judge)


def _prune(
    configured: Sequence[Settings],
    database: Database,
    options: prunable.Options,
    place: Place,
    progress: Progress,
    ask_others: AskOthers = nobody,
    *,
    as_json: bool,
) -> Prune:
    show = progress.note if as_json else progress.show
    return Prune(
        reactor,
        place,
        database,
        options,
        progress,
        show,
        configured=configured,
        ask_others=ask_others,
    )


def restore(inputs: Inputs) -> int:
    """``restore BASE_PATH [CONTAINER]``."""
    arguments = inputs.arguments
    base_path = inputs.base_path(may_be_empty=True)
    _check_duration(inputs)
    wanted = Wanted(arguments.media, arguments.user, inputs.server_name())
    options = restoring.Options(base_path, wanted, arguments.dry_run)
    _check_not_kept(inputs, base_path, "restore")
    check_may_write(base_path)
    store = _store(inputs)
    with ExitStack() as stack:
        # An upload at the same time would delete the restored files.
        stack.enter_context(closing(inputs.lock(base_path)))
        if not options.dry_run:  # Synapse may have begun meanwhile.
            check_not_kept(base_path, "restore")
        stack.enter_context(closing(RunLock(inputs.arguments.cache_db)))
        database = stack.enter_context(closing(inputs.database()))
        progress = stack.enter_context(closing(inputs.progress(None, "files")))
        bandwidth = inputs.bandwidth = Bandwidth(reactor, arguments.bwlimit)
        job = Restore(reactor, store, database, options, progress, bandwidth)
        return _run(inputs, store, job, database)


def sync(inputs: Inputs) -> int:
    """``sync``."""
    arguments = inputs.arguments
    options = syncing.Options(
        arguments.source, arguments.target, arguments.dry_run, arguments.proof
    )
    store = _store(inputs, database=False)
    with (
        closing(RunLock(arguments.cache_db)),
        closing(inputs.progress(None, "objects")) as progress,
    ):
        job = Sync(store.members, options, progress)

        def judge(tally: Tally) -> int:
            return status_of(tally) or (SOME_FAILED if job.tally.differing else DONE)

        return _run(inputs, store, job, None, judge)


def _store(inputs: Inputs, *, database: bool = True) -> Store:
    """The store; says what the run uses.

    :param database: whether the run reads the database.
    """
    store = open_store(
        reactor,
        inputs.settings(),
        patience=Patience.SCRIPT,
        shares_reactor=False,
        observers=inputs.watch,
        owner=inputs.server_name(),
    )
    clouds = [place.client.cloud.title_and_source for place in store.members]
    inputs.announce(database=database, clouds=clouds)
    return store


def _run(
    inputs: Inputs,
    store: Store,
    job: Runnable,
    database: Database | None,
    judge: Callable[[Tally], int] = status_of,
    before: Mapping[str, Any] | None = None,
) -> int:
    """Run the reactor until a job is over, close the store, and show the figures.

    :param database: what the job reads, if any; a signal ends its current query.
    :param judge: returns the exit status for the figures.
    :param before: figures of what was done before, for ``--json``.
    :returns: the exit status.
    """

    text = getattr(inputs.arguments, "max_duration", None)
    seconds = None if text is None else duration(text).total_seconds()
    stalls = Stalls(job.progress, inputs.waits_for, time.monotonic)

    async def work() -> None:
        looking = LoopingCall(stalls.look)
        looking.clock = reactor
        looking.start(1.0, now=False)
        ending = None
        if seconds is not None and isinstance(job, Job):
            why = f"Ended after {inputs.arguments.max_duration}, as --max-duration says"
            ending = reactor.callLater(seconds, job.end_early, why)
        try:
            await job.run()
        finally:
            looking.stop()
            if ending is not None and ending.active():
                ending.cancel()
            await store.close()

    def stop() -> None:
        job.stop()
        if database is not None:
            database.stop()  # Its answers are mostly for files that the job would begin.

    def show() -> int:
        job.progress.close()
        tally, as_json = job.tally, inputs.arguments.json
        status = judge(tally)
        if tally.stopped is not None and not job.begun:
            inputs.summary = tally.stopped
        else:
            inputs.summarize(tally.lines(alone=True))
        if as_json:
            stopped = tally.stopped
            error = {} if stopped is None else {"error": f"{stopped}{inputs.remedy()}"}
            print_json({**(before or {}), **tally.as_mapping(), **error}, status)
        elif tally.stopped is not None and not job.begun:
            remedy = inputs.remedy()
            print_line(f"swift_media_upload: {tally.stopped}{remedy}", sys.stderr)
        else:
            print_line(inputs.summary if inputs.arguments.quiet else "\n".join(tally.lines()))
        return status

    def last_words() -> None:
        job.tally.interrupted = True
        job.tally.finish()
        show()

    run(reactor, work, stop, last_words, job.progress.note)
    return show()
