"""The job ``restore``: downloads the files of Synapse's media that are not whole on disk.

Only what the database knows is restored. First the content of each media, whether or not
the listing names its object. Then the thumbnails that both the database and the listing
have: Synapse can make the others again. Other objects stay in Swift, because Synapse has
deleted their media. A run may take days, so the database is asked again before each file
gets its name.

A file on disk that is not what the database says is replaced, and a content is kept under
another name. :mod:`swift_provider.offload.new_file` checks each file before it gets its
name.

Of several places the first one that has the right object is used. One that has a wrong object,
or fails, is passed over. If no place delivers the file, each is asked again alone, with all
retries.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from swift_provider.client import ListedObject, Store
from swift_provider.errors import (
    BadFileError,
    DiskFullError,
    KeptError,
    ObjectNotFoundError,
    RequestRefusedError,
    SwiftProviderError,
)
from swift_provider.offload.arriving_file import open_arriving
from swift_provider.offload.bandwidth import Bandwidth
from swift_provider.offload.contents import DELETED_MEANWHILE, KnownMedia
from swift_provider.offload.database import Database, reason_to_skip
from swift_provider.offload.disk import Expected, is_thumbnail
from swift_provider.offload.jobs.job import Job
from swift_provider.offload.jobs.listed import listed_anywhere
from swift_provider.offload.jobs.members import OF_SWIFT, Member, NoMemberError
from swift_provider.offload.media_names import ROOTS, media_of_object, shown
from swift_provider.offload.new_file import MediaStore, check_length
from swift_provider.offload.parallel import Items, in_parallel
from swift_provider.offload.progress import Progress
from swift_provider.offload.sorted_media import SortedMedia
from swift_provider.offload.tally import Tally
from swift_provider.offload.wanted_media import Wanted
from swift_provider.sizes import readable

RESTORED = "Restored"
#: In place of it, with ``--dry-run``, which looks for media only: their thumbnails come with them.
MISSING_MEDIA = "Media missing on disk"
PRESENT_MEDIA = "Media already on disk"
MENDED = "Restored in place of a bad file"
PRESENT = "Already on disk"
DELETED = "Left in Swift, deleted in Synapse"


@dataclass(frozen=True)
class Options:
    """The options of the command.

    :ivar base_path: Synapse's media store.
    :ivar wanted: which media to restore.
    :ivar dry_run: only count what is missing on disk.
    """

    base_path: str
    wanted: Wanted = field(default_factory=Wanted)
    dry_run: bool = False


class Restore(Job[Tally]):
    """One run."""

    def __init__(
        self,
        reactor: Any,
        store: Store,
        database: Database,
        options: Options,
        progress: Progress,
        bandwidth: Bandwidth | None = None,
    ) -> None:
        super().__init__(reactor, store, progress, Tally(), bandwidth)
        dry = (MISSING_MEDIA, PRESENT_MEDIA)
        wet = (RESTORED, MENDED, PRESENT, DELETED)
        for name in dry if options.dry_run else wet:
            self.tally.counts[name] = 0
        if not options.dry_run:
            self.tally.sizes[RESTORED] = 0
        self._database = database
        self._options = options
        self._disk = MediaStore(options.base_path)

    async def _work(self) -> None:
        if (complaint := self._disk.complaint) is not None:
            self.progress.note(complaint)
        wanted = self._options.wanted
        with closing(SortedMedia()) as plan:
            known = KnownMedia(self.threads.lookups, self._database, plan, wanted)
            self.progress.expect(await known.read())
            await self._look_for_room(known)
            if self._options.dry_run or self._stopping:
                return
            await self._restore_all(known, known.contents(self._pass_over))
            if not self._stopping:
                self.progress.expect(None)
                thumbnails = self._known_thumbnails(known, plan)
                await self._restore_all(
                    known, thumbnails if wanted.everything else known.thumbnails()
                )

    async def _look_for_room(self, known: KnownMedia) -> None:
        """Find out how many bytes are missing on disk, by the lengths alone.

        :raises DiskFullError: if the disk has not so much space.
        """
        base_path, missing, there = self._disk.base_path, 0, 0
        sizes: Counter[str] = Counter()
        pages = known.contents(lambda reason: None)
        async for page in pages:
            if self._stopping:
                break
            lacking = await self.threads.lookups.run(_missing, base_path, page)
            missing += len(lacking)
            there += len(page) - len(lacking)
            for file in lacking:
                sizes[file.path.partition("/")[0]] += max(file.lengths, default=0)
        if self._options.dry_run:
            self.tally.counts[MISSING_MEDIA] = missing
            self.tally.sizes[MISSING_MEDIA] = sizes.total()
            self.tally.counts[PRESENT_MEDIA] = there
        text = await self.threads.lookups.run(_no_room, base_path, sizes)
        if text is not None:
            if not self._options.dry_run:
                raise DiskFullError(text)
            self.progress.note(f"Without --dry-run, restore would refuse: {text}")

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
            async for page in listed_anywhere(self.members, f"{root}/"):
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
        self.progress.advance(1, counts[RESTORED], self.tally.failures, self.tally.sizes[RESTORED])

    async def _make_whole(self, known: KnownMedia, file: Expected) -> None:
        on_disk = await self._flaw_on_disk(file)
        if on_disk is None:
            self.tally.counts[PRESENT] += 1
            return
        bad = isinstance(on_disk, BadFileError)
        if bad:
            self.progress.note(f"On disk, but {on_disk}: {shown(file.path)}")
        if await self._fetch(known, file, bad=bad):
            return
        if not await known.still_has(file):
            self._pass_over(DELETED_MEANWHILE)
            return
        if is_thumbnail(file.path):
            everything = self._options.wanted.everything
            self._skip(
                file.path, "listed, but not in Swift any more" if everything else "not in Swift"
            )
            return
        where = "bad on disk, and not" if bad else "neither on disk nor"
        raise KeptError(f"{where} in Swift")

    async def _flaw_on_disk(self, file: Expected) -> BadFileError | FileNotFoundError | None:
        """Why a file has to be downloaded; ``None`` if it is whole on disk."""
        try:
            (await self.threads.open_checked(self._disk.base_path, file)).close()
        except (BadFileError, FileNotFoundError) as error:
            return error
        return None

    async def _fetch(self, known: KnownMedia, file: Expected, *, bad: bool) -> bool:
        """Download one file from the first place that has the right object.

        :param bad: there is a bad file with the name.
        :returns: whether any place has an object.
        :raises KeptError: if none has one that is what the database says.
        :raises NoMemberError: if one of several failed, and no other one has it.
        """
        if self.members.several:
            # The set passes over a place that fails, or delivers next to nothing.
            try:
                mirror = await self._download(known, file, self._store, in_place_of_a_bad_one=bad)
            except ObjectNotFoundError:
                return False
            except (*OF_SWIFT, KeptError):
                # Another place may have another object, or may only need more time: the set leaves
                # a place out after three failures, and gives it few seconds to answer.
                pass
            else:
                self.members.answered(mirror)
                return True
        errors: list[SwiftProviderError] = []
        wrong: list[KeptError] = []
        for member in self.members.all:
            fetch = partial(self._fetch_from, known, file, bad)
            try:
                answers = await self.members.each(fetch, [member])
            except KeptError as error:
                wrong.append(error)
                if self.members.several:
                    self.progress.note(f"{error}: {shown(file.path)}")
                continue
            errors += answers.errors.values()
            if True in answers.results.values():
                return True
        if errors:
            raise NoMemberError(errors)
        if wrong:
            raise wrong[0]
        return False

    async def _fetch_from(
        self, known: KnownMedia, file: Expected, bad: bool, member: Member
    ) -> bool:
        """``False`` if this place has no such object."""
        try:
            await self._download(known, file, member.place, in_place_of_a_bad_one=bad)
        except ObjectNotFoundError:
            return False
        except RequestRefusedError as error:
            flaw = await member.place.flaw(await member.place.head(file.path, newest=True))
            if flaw is None:
                raise
            raise KeptError(f"Swift refuses to deliver it: {flaw}") from error
        return True

    async def _download(
        self, known: KnownMedia, file: Expected, store: Store, *, in_place_of_a_bad_one: bool
    ) -> str:
        """Download one file.

        :returns: which of several places answered; see :attr:`.ObjectInfo.mirror`.
        :raises KeptError: if the object is not what the database says.
        """
        await self.bandwidth.take(max(file.lengths, default=0))
        # Swift's own MD5 decides what comes to the disk, not metadata that may be wrong.
        download = await store.get(file.path, prove=True)
        mirror = download.info.mirror
        try:
            check_length(file, download.info.size)
            new = await open_arriving(self.threads, self._disk, file)
            try:
                await download.deliver(new)
                await new.flush()
                if not await self._is_still_needed(known, file, bad=in_place_of_a_bad_one):
                    return mirror
                # Synapse can make a thumbnail again.
                keep_bad = in_place_of_a_bad_one and not is_thumbnail(file.path)
                kept = await new.keep(keep_bad=keep_bad)
            finally:
                await new.close()
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
        self.tally.sizes[RESTORED] += new.size
        return mirror

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


def _no_room(base_path: str, sizes: Mapping[str, int]) -> str | None:
    """Why files cannot be stored; ``None`` if each disk has room. Blocks.

    :param sizes: how many bytes are missing below each root, which may be a link or a mount.
    """
    own = os.stat(base_path).st_dev
    folders = {own: base_path}
    missing: Counter[int] = Counter()
    for root, size in sizes.items():
        folder = f"{base_path}/{root}"
        disk = os.stat(folder).st_dev if os.path.isdir(folder) else own
        folders.setdefault(disk, folder)
        missing[disk] += size
    for disk, size in missing.items():
        usage = shutil.disk_usage(folders[disk])
        # Some network file systems say 0 for everything.
        if usage.total and size > usage.free:
            return (
                f"the disk has no room: {readable(size)} are missing in {folders[disk]}, without "
                f"thumbnails, and {readable(usage.free)} are free"
            )
    return None


def _missing(base_path: str, page: list[Expected]) -> list[Expected]:
    """Those files that are not on disk, or not as long as they should be. Blocks."""
    missing = []
    for file in page:
        try:
            size = os.lstat(f"{base_path}/{file.path}").st_size
        except OSError:
            size = -1
        if size not in file.lengths:
            missing.append(file)
    return missing
