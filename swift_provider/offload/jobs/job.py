"""What all jobs that talk to Swift have in common: threads, counting, errors, stopping."""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from typing import Any, Generic, TypeVar

from swift_provider.client import Store
from swift_provider.errors import (
    AccessDeniedError,
    CacheError,
    ConfigError,
    DatabaseUnavailableError,
    DiskFailsError,
    DiskFullError,
    FileChangedError,
    KeptError,
    NewerObjectError,
    NotBegunError,
    ReadingsDifferError,
    SwiftProviderError,
    TemporaryError,
)
from swift_provider.offload.bandwidth import Bandwidth
from swift_provider.offload.job_threads import JobThreads
from swift_provider.offload.jobs.members import (
    DENIALS_IN_A_ROW,
    SWIFT_CONCERNS_ALL,
    TEMPORARY_ERRORS_IN_A_ROW,
    Members,
    reason_of,
)
from swift_provider.offload.media_names import shown
from swift_provider.offload.progress import Progress
from swift_provider.offload.tally import Tally

#: Errors that would fail every other file too.
CONCERNS_ALL = (*SWIFT_CONCERNS_ALL, DatabaseUnavailableError, CacheError, DiskFullError)
#: Errors of the disk about one file, or one folder, that last until a person ends them.
_DENIED = (errno.EACCES, errno.EPERM)
#: Errors that the disk has with every file.
_DISK_FAILS = (errno.EROFS, errno.EIO, errno.ESTALE, errno.ENOTCONN)
#: After this many of them without a success in between, the run ends.
DISK_ERRORS_IN_A_ROW = 5

#: Why files were skipped that waited for their turn when the run was told to end.
NOT_BEGUN = "not begun, left for the next run"
#: And those about which the database could not be asked any more.
NOT_FINISHED = "not finished, left for the next run"

Result = TypeVar("Result")
TallyType = TypeVar("TallyType", bound=Tally)


class Job(ABC, Generic[TallyType]):
    """One run of one command.

    :param store: its ``width`` is the number of files that the job handles at once.
    :param tally: filled while the job runs.
    :param bandwidth: how many bytes it may move; ``None`` for no limit.
    :ivar members: the places in Swift.
    :ivar threads: for the job's blocking work; :meth:`run` stops them at its end.
    :ivar begun: whether the job got past the check of the container.
    :ivar stopped_by: the error that ended the run early; ``None`` if there was none.
    :ivar temporary_failures: how many files failed that another run may handle.
    :ivar denied: for which reasons Swift or the disk denied single files.
    """

    #: Whether the run ends as soon as one of several places is left out.
    needs_every_member = False
    #: Whether one of several places is left out, too, if a person has to correct a mistake about
    #: it. Otherwise the run does not begin then.
    leaves_out_mistakes = False

    def __init__(
        self,
        reactor: Any,
        store: Store,
        progress: Progress,
        tally: TallyType,
        bandwidth: Bandwidth | None = None,
    ) -> None:
        self.bandwidth = bandwidth or Bandwidth(reactor)
        self.members = Members(reactor, store, tally, progress.note, self._left_out)
        self.threads = JobThreads(reactor)
        self.progress = progress
        self.tally = tally
        self.begun = False
        self.stopped_by: SwiftProviderError | None = None
        self.denied: set[str] = set()
        self.temporary_failures = 0
        self._store = store
        self._stopping = False
        self._failures_in_a_row = 0
        self._denials_in_a_row = 0
        self._disk_errors_in_a_row = 0

    def stop(self) -> None:
        """End soon: finish the files in flight, begin no others, and retry nothing."""
        self._stopping = True
        self.tally.interrupted = True
        self._store.hurry()
        self.bandwidth.stop()

    def end_early(self, why: str) -> None:
        """End soon, because it was told to run only for a while: begin no other files."""
        self._stopping = True
        self.tally.ended_early = why
        self.bandwidth.stop()

    async def run(self) -> TallyType:
        """Do the job.

        An error that concerns one file is counted; one that concerns all files ends the
        run early.

        :returns: the figures, also if the run ended early.
        :raises ConfigError: if a setting or an option is more likely a mistake than meant.
        """
        try:
            await self.members.check(leave_out_mistakes=self.leaves_out_mistakes)
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
            self.members.finish()
            self.threads.stop()
            self.tally.finish()
        return self.tally

    @abstractmethod
    async def _work(self) -> None:
        """Handle all files, or return early once ``_stopping`` is set."""

    def _is_stopping(self) -> bool:
        return self._stopping

    def _left_out(self, error: SwiftProviderError) -> None:
        """One of several places is left out of the rest of the run."""
        if self.needs_every_member or not self.members.in_use:
            self._stop_for(error)

    async def _attempt(self, path: str, work: Awaitable[Result]) -> Result | None:
        """Handle one file; if that fails, count and print the failure.

        :returns: ``None`` if it failed.
        """
        try:
            result = await work
        except CONCERNS_ALL as error:
            if self.tally.interrupted and isinstance(error, DatabaseUnavailableError):
                # The signal that ends the run has ended its query, too.
                self.tally.skipped[NOT_FINISHED] += 1
                return None
            self._fail(path, reason_of(error), str(error))
            self._stop_for(error)
        except AccessDeniedError as error:
            self._fail(path, reason_of(error), str(error))
            self.denied.add(reason_of(error))
            await self._denied(error)
        except NotBegunError:
            self.tally.skipped[NOT_BEGUN] += 1
        except KeptError as error:
            self._fail(path, str(error))
        except ReadingsDifferError as error:
            self._fail(path, "two readings of the file differ", str(error))
        except FileChangedError:
            self._fail(path, "the file changed during the run")
        except SwiftProviderError as error:
            self._fail(path, reason_of(error), str(error))
            self._failures_in_a_row += isinstance(error, (TemporaryError, NewerObjectError))
            self.temporary_failures += error.temporary
            if self._failures_in_a_row >= TEMPORARY_ERRORS_IN_A_ROW:
                self._stop_for(error)
        except OSError as error:
            self._fail(path, str(error.strerror), str(error))
            if error.errno in _DENIED:
                self.denied.add(f"the disk: {error.strerror}")
            self._disk_errors_in_a_row += error.errno in _DISK_FAILS
            if self._disk_errors_in_a_row >= DISK_ERRORS_IN_A_ROW:
                self._stop_for(DiskFailsError(f"the disk fails: {error}"))
        else:
            self._failures_in_a_row = 0
            self._disk_errors_in_a_row = 0
            self._denials_in_a_row = 0
            return result
        return None

    async def _denied(self, error: AccessDeniedError) -> None:
        """Swift denied one object: stop if it seems to deny them all."""
        self._denials_in_a_row += 1
        if self._denials_in_a_row >= DENIALS_IN_A_ROW:
            self._stop_for(error)
        elif self.members.all[0].may_check and not self._stopping:
            try:
                await self.members.all[0].place.check()
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
        self.bandwidth.stop()
        if self.stopped_by is None:
            self.stopped_by = error
            self.tally.stopped = str(error)
