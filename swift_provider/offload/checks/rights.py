"""Tries the rights in a container with one small object, which is removed in every case."""

from __future__ import annotations

import os
import secrets
from contextlib import closing

from swift_provider.client import FileSource, Place, WholeDownload
from swift_provider.errors import (
    AccessDeniedError,
    ConfigError,
    ObjectNotFoundError,
    SwiftProviderError,
)
from swift_provider.offload.checks.findings import Findings
from swift_provider.offload.checks.steps import NotAskedError, Steps, StoppedError

FOLDER = ".swift_provider/"
_CONTENT = b"swift_media_upload check\n"


class Trial:
    """Writes, reads, lists and deletes an object of a name of its own.

    :param prefix: put before the subject of each finding.
    :param left: gets the object's name while the object may be there.
    """

    def __init__(
        self, place: Place, steps: Steps, findings: Findings, left: set[str], prefix: str = ""
    ) -> None:
        self._place = place
        self._steps = steps
        self._findings = findings
        self._left = left
        self._prefix = prefix
        self._path = f"{FOLDER}check-{secrets.token_hex(8)}"
        self._version = ""
        self.shown = f"{place.container}/{place.object_name(self._path)}"
        #: A place that does not answer is not asked any more.
        self._answers = True

    async def run(self, *, may_look: bool) -> bool:
        """Try all rights, and add what was found.

        :param may_look: whether the user was allowed to look at the container.
        :returns: whether an object could be written.
        :raises StoppedError: if the checks were stopped.
        """
        before = len(self._findings.found)
        self._left.add(self.shown)
        error = await self._write()
        try:
            if error is None:
                await self._read()
            elif isinstance(error, AccessDeniedError) and not may_look:
                self._findings.wrong(
                    f"{self._prefix}container",
                    "this user may neither look at the container nor write to it: give it a role "
                    "or an ACL; or correct container, project or storage_url, if they lead to "
                    f"another project ({error.text()})",
                    by_server=True,
                )
                return False
            else:
                self._failed("write", error)
            if self._answers:
                await self._list()
        finally:
            if error is None or (error.temporary and not isinstance(error, NotAskedError)):
                await self._delete(error)
            else:
                self._left.discard(self.shown)
        if len(self._findings.found) == before:
            self._findings.ok(
                self._prefix.strip() or "rights",
                f"write, read, list and delete were tried in {self._place.container}",
            )
        return error is None

    async def look(self) -> None:
        """Try only what an entry needs where Synapse stores nothing. Changes nothing."""
        before = len(self._findings.found)
        try:
            await self._steps.run(self._place.head(self._path))
        except ObjectNotFoundError:
            pass  # This user may read: otherwise the answer is 403.
        except SwiftProviderError as error:
            self._failed("read", error)
        if self._answers:
            await self._list()
        if len(self._findings.found) == before:
            self._findings.ok(
                "rights",
                f"read and list were tried in {self._place.container}, where Synapse stores "
                "nothing",
            )

    async def _write(self) -> SwiftProviderError | None:
        """:returns: why it failed, if it did."""
        descriptor = os.memfd_create("check")
        os.write(descriptor, _CONTENT)
        try:
            with closing(FileSource(descriptor, self._path)) as source:
                written = await self._steps.run(self._place.put(self._path, source))
        except SwiftProviderError as error:
            return error
        except StoppedError:  # nothing was sent
            self._left.discard(self.shown)
            raise
        self._version = written.version
        return None

    async def _read(self) -> None:
        try:
            download = await self._steps.run(self._place.get(self._path, prove=True))
            if not isinstance(download, WholeDownload) or download.content != _CONTENT:
                self._findings.wrong(
                    f"{self._prefix}read",
                    "Swift returns other bytes than were stored: look for a proxy or a cache in "
                    "between",
                )
            download.abandon()
            info = await self._steps.run(self._place.head(self._path, newest=True))
            flaw = await self._steps.run(self._place.flaw(info))
            if flaw is not None:
                self._findings.wrong(
                    f"{self._prefix}expiry",
                    f"a new object is not kept: {flaw}. Ask the cloud's operator, or take another "
                    "container",
                    by_server=True,
                )
        except SwiftProviderError as error:
            self._failed("read", error)

    async def _list(self) -> None:
        async def listed() -> None:
            async for _page in self._place.list(self._path):
                pass

        try:
            await self._steps.run(listed())
        except SwiftProviderError as error:
            self._failed("list", error)

    async def _delete(self, written: SwiftProviderError | None) -> None:
        """:param written: why the write failed; then nobody knows whether it did."""
        try:
            await self._steps.remove(self._place.delete_plain(self._path, self._version))
        except ObjectNotFoundError:
            if written is not None:
                self._findings.note(
                    f"{self._prefix}delete",
                    f"the test object {self.shown} is not there, but its upload ended without an "
                    "answer, so it may still appear: look for it later",
                )
        except SwiftProviderError as error:
            maybe = "" if written is None else "if it was stored at all, "
            command = f"swift delete {self._place.container} {self.shown.partition('/')[2]}"
            self._findings.wrong(
                f"{self._prefix}delete",
                f"the test object could not be removed, {maybe}so remove it: {command} "
                f"({error.text()})",
                by_server=True,
            )
            return
        self._left.discard(self.shown)

    def _failed(self, right: str, error: SwiftProviderError) -> None:
        self._answers = self._answers and not error.temporary
        if isinstance(error, AccessDeniedError):
            self._findings.wrong(
                f"{self._prefix}{right}",
                f"this user may not {right}: give it a role, or an ACL on the container, that "
                f"allows it ({error.text()})",
                by_server=True,
            )
        elif isinstance(error, ConfigError):
            self._findings.failed(f"{self._prefix}{right}", error)
        else:
            self._findings.wrong(f"{self._prefix}{right}", error.text(), by_server=True)
