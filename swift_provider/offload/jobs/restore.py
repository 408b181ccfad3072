"""The job ``restore``: downloads the files of Synapse's media that are not whole on disk.

Only what the database knows is restored. First the content of each media, whether or not
the listing names its object. Then the thumbnails that both the database and the listing
have: Synapse can make the others again. Other objects stay in Swift, because Synapse has
deleted their media. A run may take days, so the database is asked again before each file
gets its name.

A file on disk that is not what the database says is replaced, and a content is kept under
another name. :mod:`swift_provider.offload.new_file` checks each file before it gets its
name.
"""

from __future__ import annotations

import errno
from collections.abc import AsyncGenerator
from contextlib import closing
from functools import partial
from typing import Any

from swift_provider.client import ListedObject, Store
from swift_provider.errors import (
    BadFileError,
    DiskFullError,
    KeptError,
    ObjectNotFoundError,
    RequestRefusedError,
)
from swift_provider.offload.contents import DELETED_MEANWHILE, KnownMedia
from swift_provider.offload.database import Database
from swift_provider.offload.disk import Expected, is_thumbnail
from swift_provider.offload.feed import reason_to_skip
from swift_provider.offload.jobs.job import Job
from swift_provider.offload.media_names import ROOTS, media_of_object, shown
from swift_provider.offload.new_file import MediaStore, NewFile
from swift_provider.offload.parallel import Items, in_parallel
from swift_provider.offload.progress import Progress
from swift_provider.offload.sorted_media import SortedMedia
from swift_provider.offload.tally import Tally

RESTORED = "Restored"
RESTORED_BYTES = "Restored bytes"
MENDED = "Restored in place of a bad file"
PRESENT = "Already on disk"
DELETED = "Left in Swift, deleted in Synapse"


class Restore(Job[Tally]):
    """One run.

    :param base_path: Synapse's media store.
    """

    def __init__(
        self, reactor: Any, store: Store, database: Database, base_path: str, progress: Progress
    ) -> None:
        super().__init__(reactor, store, progress, Tally())
        for name in (RESTORED, RESTORED_BYTES, MENDED, PRESENT, DELETED):
            self.tally.counts[name] = 0
        self._database = database
        self._disk = MediaStore(base_path)

    async def _work(self) -> None:
        if (complaint := self._disk.complaint) is not None:
            self.progress.note(complaint)
        with closing(SortedMedia()) as plan:
            known = KnownMedia(self.threads.lookups, self._database, plan)
            await self._restore_all(known, known.contents(self._pass_over))
            if not self._stopping:
                await self._restore_all(known, self._known_thumbnails(known, plan))

    async def _restore_all(
        self, known: KnownMedia, pages: AsyncGenerator[list[Expected], None]
    ) -> None:
        items = Items(pages)
        restore = partial(self._restore, known)
        try:
            await in_parallel(self._store.width, items.take, restore, self._is_stopping)
        finally:
            await items.close()

    def _pass_over(self, reason: str) -> None:
        self.tally.skipped[reason] += 1

    async def _known_thumbnails(
        self, known: KnownMedia, plan: SortedMedia
    ) -> AsyncGenerator[list[Expected], None]:
        """The listed thumbnails that the database knows; reports all other objects."""
        for root in ROOTS:
            async for page in self._store.list(f"{root}/"):
                left_out: list[tuple[str, str]] = []
                yield await known.ask(self._look, plan, page, left_out)
                for path, reason in left_out:
                    self._skip(path, reason)

    def _look(
        self, plan: SortedMedia, page: list[ListedObject], left_out: list[tuple[str, str]]
    ) -> list[Expected]:
        """Those of a page; runs in a thread.

        :param left_out: gets the names and reasons to report.
        """
        owners = {listed.name: media_of_object(listed.name) for listed in page}
        planned = plan.media_of({owner for owner in owners.values() if owner is not None})
        facts = self._database.facts(list(planned.values()))
        found = []
        for path, owner in owners.items():
            if owner is None:
                left_out.append((path, "a name that Synapse would not use"))
                continue
            media = planned.get(owner)
            known = None if media is None else facts.get((media.origin, media.media_id))
            if media is None or known is None or reason_to_skip(media, known) is not None:
                self.tally.counts[DELETED] += 1
            elif is_thumbnail(path):
                lengths = known.thumbnails.get(path.rpartition("/")[2])
                if lengths is None:
                    left_out.append((path, "a thumbnail that Synapse does not know"))
                else:
                    found.append(Expected(path, frozenset(lengths)))
        return found

    async def _restore(self, known: KnownMedia, file: Expected) -> None:
        await self._attempt(file.path, self._make_whole(known, file))
        counts = self.tally.counts
        self.progress.advance(1, counts[RESTORED], self.tally.failures, counts[RESTORED_BYTES])

    async def _make_whole(self, known: KnownMedia, file: Expected) -> None:
        on_disk = await self._flaw_on_disk(file)
        if on_disk is None:
            self.tally.counts[PRESENT] += 1
            return
        bad = isinstance(on_disk, BadFileError)
        if bad:
            self.progress.note(f"On disk, but {on_disk}: {shown(file.path)}")
        try:
            await self._fetch(known, file, in_place_of_a_bad_one=bad)
        except ObjectNotFoundError as error:
            if not await known.still_has(file):
                self._pass_over(DELETED_MEANWHILE)
                return
            if is_thumbnail(file.path):
                self._skip(file.path, "listed, but not in Swift any more")
                return
            where = "bad on disk, and not" if bad else "neither on disk nor"
            raise KeptError(f"{where} in Swift") from error
        except RequestRefusedError as error:
            flaw = await self._store.flaw(await self._store.head(file.path, newest=True))
            if flaw is None:
                raise
            raise KeptError(f"Swift refuses to deliver it: {flaw}") from error

    async def _flaw_on_disk(self, file: Expected) -> BadFileError | FileNotFoundError | None:
        """Why a file has to be downloaded; ``None`` if it is whole on disk."""
        try:
            (await self.threads.open_checked(self._disk.base_path, file)).close()
        except (BadFileError, FileNotFoundError) as error:
            return error
        return None

    async def _fetch(
        self, known: KnownMedia, file: Expected, *, in_place_of_a_bad_one: bool
    ) -> None:
        """Download one file.

        :raises KeptError: if the object is not what the database says.
        """
        # Swift's own MD5 decides what comes to the disk, not metadata that may be wrong.
        download = await self._store.get(file.path, prove=True)
        try:
            new = NewFile(self._disk, file)
            try:
                new.check_length(download.info.size)
                await download.deliver(new)
                if not await self._is_still_needed(known, file, bad=in_place_of_a_bad_one):
                    return
                # Synapse can make a thumbnail again.
                keep_bad = in_place_of_a_bad_one and not is_thumbnail(file.path)
                kept = await self.threads.lookups.run(partial(new.keep, keep_bad=keep_bad))
            finally:
                new.close()
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFullError(f"the local disk is full: {file.path}") from error
            raise
        finally:
            download.abandon()
        if kept is not None:
            self.progress.note(f"The bad file is kept: {shown(kept)}")
        self.tally.counts[RESTORED] += 1
        self.tally.counts[MENDED] += in_place_of_a_bad_one
        self.tally.counts[RESTORED_BYTES] += new.size

    async def _is_still_needed(self, known: KnownMedia, file: Expected, *, bad: bool) -> bool:
        """Whether a file that was downloaded shall get its name; counts it if not.

        :param bad: there was a bad file with the name before the download.
        """
        if bad and await self._flaw_on_disk(file) is None:
            # Synapse, or a run on another host, has mended it: the good one is none to set aside.
            self.tally.counts[PRESENT] += 1
            return False
        if not await known.still_has(file):
            self._pass_over(DELETED_MEANWHILE)
            return False
        return True
