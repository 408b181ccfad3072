"""What all jobs that talk to Swift have in common: threads, counting, errors, stopping."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable
from typing import Any, Generic, TypeVar

from swift_provider.client import Store
from swift_provider.errors import (
    AccessDeniedError,
    AuthError,
    CacheError,
    ConfigError,
    ContainerNotFoundError,
    DatabaseUnavailableError,
    DiskFullError,
    FileChangedError,
    InsufficientStorageError,
    KeptError,
    SwiftProviderError,
    TemporaryError,
)
from swift_provider.offload.job_threads import JobThreads
from swift_provider.offload.media_names import shown
from swift_provider.offload.progress import Progress
from swift_provider.offload.tally import Tally

#: Errors that would fail every other file too.
CONCERNS_ALL = (
    AuthError,
    ContainerNotFoundError,
    InsufficientStorageError,
    DatabaseUnavailableError,
    CacheError,
    DiskFullError,
)
#: After this many temporary errors without a success in between, Swift counts as down. The
#: client has retried each of them for minutes.
TEMPORARY_ERRORS_IN_A_ROW = 20
#: After this many objects denied without a success in between, Swift counts as denying all.
#: One object alone may be denied, by a proxy or by a rule of the cluster.
DENIALS_IN_A_ROW = 5

Result = TypeVar("Result")
TallyType = TypeVar("TallyType", bound=Tally)


class Job(ABC, Generic[TallyType]):
    """One run of one command.

    :param store: its ``width`` is the number of files that the job handles at once.
    :param tally: filled while the job runs.
    :ivar threads: for the job's blocking work; :meth:`run` stops them at its end.
    :ivar begun: whether the job got past the check of the container.
    """

    def __init__(self, reactor: Any, store: Store, progress: Progress, tally: TallyType) -> None:
        self.threads = JobThreads(reactor)
        self.progress = progress
        self.tally = tally
        self.begun = False
        self._store = store
        self._stopping = False
        self._failures_in_a_row = 0
        self._denials_in_a_row = 0
        self._may_check = True

    def stop(self) -> None:
        """End soon: finish the files in flight, begin no others, and retry nothing."""
        self._stopping = True
        self.tally.interrupted = True
        self._store.hurry()

    async def run(self) -> TallyType:
        """Do the job.

        An error that concerns one file is counted; one that concerns all files ends the
        run early.

        :returns: the figures, also if the run ended early.
        :raises ConfigError: if a setting or an option is more likely a mistake than meant.
        """
        try:
            await self._check_container()
            if not self._stopping:
                self.begun = True
                await self._work()
        except ConfigError:
            raise
        except SwiftProviderError as error:
            # The list of files comes from the database or a listing: no more files.
            if not self.tally.interrupted:
                self._stop_for(error)
        finally:
            self.threads.stop()
            self.tally.finish()
        return self.tally

    @abstractmethod
    async def _work(self) -> None:
        """Handle all files, or return early once ``_stopping`` is set."""

    def _is_stopping(self) -> bool:
        return self._stopping

    async def _check_container(self) -> None:
        # An ACL may allow this user the objects and not the container. If it allows
        # neither, the first few objects fail and end the run.
        try:
            await self._store.check()
        except AccessDeniedError:
            self._may_check = False

    async def _attempt(self, path: str, work: Awaitable[Result]) -> Result | None:
        """Handle one file; if that fails, count and print the failure.

        :returns: ``None`` if it failed.
        """
        try:
            result = await work
        except CONCERNS_ALL as error:
            self._fail(path, _reason(error), str(error))
            self._stop_for(error)
        except AccessDeniedError as error:
            self._fail(path, _reason(error), str(error))
            await self._denied(error)
        except KeptError as error:
            self._fail(path, str(error))
        except FileChangedError:
            self._fail(path, "the file changed during the run")
        except SwiftProviderError as error:
            self._fail(path, _reason(error), str(error))
            self._failures_in_a_row += isinstance(error, TemporaryError)
            if self._failures_in_a_row >= TEMPORARY_ERRORS_IN_A_ROW:
                self._stop_for(error)
        except OSError as error:
            self._fail(path, str(error.strerror), str(error))
        else:
            self._failures_in_a_row = 0
            self._denials_in_a_row = 0
            return result
        return None

    async def _denied(self, error: AccessDeniedError) -> None:
        """Swift denied one object: stop if it seems to deny them all."""
        self._denials_in_a_row += 1
        if self._denials_in_a_row >= DENIALS_IN_A_ROW:
            self._stop_for(error)
        elif self._may_check and not self._stopping:
            try:
                await self._store.check()
            except SwiftProviderError as refused:
                self._stop_for(refused)

    def _skip(self, what: str, reason: str) -> None:
        self.tally.skipped[reason] += 1
        self.progress.note(f"Skipped: {shown(what)}: {reason}")

    def _fail(self, path: str, reason: str, detail: str | None = None) -> None:
        self.tally.failed[reason] += 1
        self.progress.note(f"Failed: {shown(path)}: {detail or reason}")

    def _stop_for(self, error: SwiftProviderError) -> None:
        self._stopping = True
        if self.tally.stopped is None:
            self.tally.stopped = str(error)


def _reason(error: SwiftProviderError) -> str:
    """The reason to count a failure under, without the file's name."""
    return getattr(error, "reason", None) or str(error)
