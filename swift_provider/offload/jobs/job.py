"""What the jobs that talk to Swift have in common: counting, complaining, stopping."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable
from typing import Generic, TypeVar

from swift_provider.client import SwiftClient
from swift_provider.errors import (
    AccessDeniedError,
    AuthError,
    ConfigError,
    ContainerNotFoundError,
    FileChangedError,
    InsufficientStorageError,
    SwiftProviderError,
    TemporaryError,
)
from swift_provider.offload.cache import CacheError
from swift_provider.offload.database import DatabaseUnavailableError
from swift_provider.offload.disk import DiskFullError, KeptError
from swift_provider.offload.media_names import shown
from swift_provider.offload.progress import Progress
from swift_provider.offload.tally import Tally

#: Errors that the next file would meet as well.
CONCERNS_ALL = (
    AuthError,
    AccessDeniedError,
    ContainerNotFoundError,
    InsufficientStorageError,
    DatabaseUnavailableError,
    CacheError,
    DiskFullError,
)
#: Each has been tried again for minutes by then: Swift is down, not one object.
TEMPORARY_ERRORS_IN_A_ROW = 20

#: Not by the script: a misspelt CONTAINER would take all media to where Synapse never looks.
NOT_CREATED = (
    "there is no container '{}' here: Synapse creates it when it starts (create_container); "
    "or check its name, the project and the region"
)

Result = TypeVar("Result")
TallyType = TypeVar("TallyType", bound=Tally)


class Job(ABC, Generic[TallyType]):
    """One run of one command.

    :param client: its ``threadpool_size`` is also the number of files in work at once.
    :param summary: filled while the job runs.
    :ivar begun: Swift let it get as far as its own work.
    """

    def __init__(
        self, client: SwiftClient, container: str, progress: Progress, summary: TallyType
    ) -> None:
        self._client = client
        self._container = container
        self.progress = progress
        self._stopping = False
        self._failures_in_a_row = 0
        self.begun = False
        self.summary = summary

    def stop(self) -> None:
        """Finish the files in work, begin no other, and wait for no better times."""
        self._stopping = True
        self.summary.interrupted = True
        self._client.hurry()

    async def run(self) -> TallyType:
        """Do it. What concerns one file is counted, what concerns all ends the run.

        :returns: the figures, also of a run that ended early.
        :raises ConfigError: if what is asked for cannot be meant.
        """
        try:
            await self._check_container()
            if not self._stopping:
                self.begun = True
                await self._work()
        except ConfigError:
            raise
        except SwiftProviderError as error:
            # Without the database or a listing there is no next file.
            if not self.summary.interrupted:
                self._stop_for(error)
        finally:
            self.summary.finish()
        return self.summary

    @abstractmethod
    async def _work(self) -> None:
        """The job itself, until it is done or :attr:`_stopping`."""

    def _is_stopping(self) -> bool:
        return self._stopping

    async def _check_container(self) -> None:
        try:
            await self._client.head_container(self._container)
        except AccessDeniedError:
            # An ACL may allow objects only. If not even those, the first of them will tell.
            pass
        except ContainerNotFoundError as error:
            if self._client.settings.create_container:
                error.reason = NOT_CREATED.format(self._container)
            raise

    async def _attempt(self, path: str, work: Awaitable[Result]) -> Result | None:
        """Do something with one file, and count it if that fails.

        :returns: ``None`` if it failed.
        """
        try:
            result = await work
        except CONCERNS_ALL as error:
            self._fail(path, _reason(error), str(error))
            self._stop_for(error)
        except KeptError as error:
            self._fail(path, str(error))
        except FileChangedError:
            self._fail(path, "it changed meanwhile")
        except SwiftProviderError as error:
            self._fail(path, _reason(error), str(error))
            self._failures_in_a_row += isinstance(error, TemporaryError)
            if self._failures_in_a_row >= TEMPORARY_ERRORS_IN_A_ROW:
                self._stop_for(error)
        except OSError as error:
            self._fail(path, str(error.strerror), str(error))
        else:
            self._failures_in_a_row = 0
            return result
        return None

    def _skip(self, what: str, reason: str) -> None:
        self.summary.skipped[reason] += 1
        self.progress.note(f"Skipped: {shown(what)}: {reason}")

    def _fail(self, path: str, reason: str, detail: str | None = None) -> None:
        self.summary.failed[reason] += 1
        self.progress.note(f"Failed: {shown(path)}: {detail or reason}")

    def _stop_for(self, error: SwiftProviderError) -> None:
        self._stopping = True
        if self.summary.stopped is None:
            self.summary.stopped = str(error)


def _reason(error: SwiftProviderError) -> str:
    """A reason to count under: the same for all files that fail alike."""
    return getattr(error, "reason", None) or str(error)
