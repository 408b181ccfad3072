"""The job ``verify``: counts for each media that Synapse knows where an intact copy is.

It compares the database with the disk and with Swift. It asks Swift about each object,
because a listing may be late, and about each segment of a large one. It compares the
content of an object with the file on disk; if there is none, only the length with the
database. If asked to, it also downloads each object and compares its content with the
database. Thumbnails are left out, because Synapse can make them again from the media.

Other runs, and Synapse, may move files meanwhile: a media is looked at again before it is called
lost or different, if its file has appeared, changed or gone.

Of several places it asks each one, side by side. If their facts show that two have different
bytes, and neither the file on disk nor the database shows which are right, none is called whole.
"""

from __future__ import annotations

from contextlib import closing
from functools import partial
from itertools import combinations
from typing import Any

from swift_provider.client import FileSource, ObjectInfo, Store
from swift_provider.errors import KeptError, ObjectNotFoundError
from swift_provider.offload.checked_object import content_flaw
from swift_provider.offload.contents import DELETED_MEANWHILE, KnownMedia
from swift_provider.offload.database import Database
from swift_provider.offload.disk import Expected, stamp
from swift_provider.offload.jobs.job import Job
from swift_provider.offload.jobs.members import Answers, Member, NoMemberError, without_name
from swift_provider.offload.jobs.verify_tally import (
    DIFFERENT,
    MISSING,
    UNKNOWN,
    WHOLE,
    WRONG,
    VerifyTally,
)
from swift_provider.offload.media_names import shown
from swift_provider.offload.parallel import Items, in_parallel
from swift_provider.offload.progress import Progress
from swift_provider.offload.sorted_media import SortedMedia

BOTH_EQUAL = "On disk and in Swift"
ONLY_DISK = "Only on disk"
ONLY_SWIFT = "Only in Swift"
#: Only of several places.
NOT_EVERYWHERE = "On disk, and in Swift but not everywhere"
#: Only of several places: one has it, and another did not say.
NOT_KNOWN = "On disk and in Swift, but not known of every place"
BOTH_DIFFERENT = "On disk and in Swift but different"
BAD_FILE = "Wrong or unreadable on disk, whole in Swift"
BAD_OBJECT = "Wrong in Swift, not on disk"
#: Only of several places.
DIFFERENT_COPIES = "Different in Swift, not whole on disk"
NOWHERE = "Nowhere"
#: Synapse cannot serve these media, or may serve wrong bytes.
HOLES = (BOTH_DIFFERENT, BAD_FILE, BAD_OBJECT, DIFFERENT_COPIES, NOWHERE)
#: How often a media is looked at whose file on disk changes each time.
LOOKS = 3
#: How many of them the summary names; the messages name all.
MOST_LOST = 100_000
DOWNLOADED_BYTES = "Downloaded bytes"


class Verify(Job[VerifyTally]):
    """One run; ``tally.counts`` has the media by where an intact copy is.

    :param base_path: Synapse's media store.
    :param deep: download the objects.
    """

    def __init__(
        self,
        reactor: Any,
        store: Store,
        database: Database,
        base_path: str,
        progress: Progress,
        *,
        deep: bool = False,
    ) -> None:
        super().__init__(reactor, store, progress, VerifyTally())
        self._outcomes = [BOTH_EQUAL, NOT_EVERYWHERE, NOT_KNOWN, ONLY_DISK, ONLY_SWIFT, *HOLES]
        if not self.members.several:
            self._outcomes.remove(NOT_EVERYWHERE)
            self._outcomes.remove(NOT_KNOWN)
            self._outcomes.remove(DIFFERENT_COPIES)
        if not deep:
            self._outcomes.remove(BAD_OBJECT)
        for outcome in self._outcomes:
            self.tally.counts[outcome] = 0
        if deep:
            self.tally.counts[DOWNLOADED_BYTES] = 0
        self._database = database
        self._base_path = base_path
        self._deep = deep

    @property
    def holes(self) -> int:
        """How many media Synapse cannot serve, or may serve wrongly."""
        return sum(self.tally.counts[outcome] for outcome in HOLES)

    async def _work(self) -> None:
        with closing(SortedMedia()) as plan:
            known = KnownMedia(self.threads.lookups, self._database, plan)
            self.progress.expect(await known.read())
            items = Items(known.contents(self._pass_over))
            verify = partial(self._verify, known)
            try:
                await in_parallel(self._store.width, items.take, verify, self._is_stopping)
            finally:
                await items.close()

    def _pass_over(self, reason: str) -> None:
        self.tally.skipped[reason] += 1

    async def _verify(self, known: KnownMedia, file: Expected) -> None:
        outcome = await self._attempt(file.path, self._judge(known, file))
        if outcome is not None:
            self.tally.counts[outcome] += 1
            self.tally.sizes[outcome] += max(file.lengths, default=0)
            if outcome in HOLES:
                if len(self.tally.lost) < MOST_LOST:
                    self.tally.lost.append({"path": file.path, "what": outcome})
                self.progress.note(f"{outcome}: {shown(file.path)}")
        counts = self.tally.counts
        files = sum(counts[outcome] for outcome in self._outcomes)
        self.progress.advance(1, files, self.tally.failures, counts[DOWNLOADED_BYTES])

    async def _judge(self, known: KnownMedia, file: Expected) -> str | None:
        """The outcome; ``None`` for a hole that is none, because Synapse deleted the media."""
        outcome, seen = await self._look(file)
        lacking = self._lacking(seen)
        if (outcome in HOLES or lacking) and not await known.still_has(file):
            self._pass_over(DELETED_MEANWHILE)
            return None
        if self.members.several:
            self._count(file, seen, lacking)
        return outcome

    async def _look(self, file: Expected) -> tuple[str, Answers[str]]:
        """Look again if it seems to be a hole, and the file on disk is not what it was before."""
        looks = 0
        while True:
            before = await self._stamp(file)
            outcome, seen = await self._look_once(file)
            looks += 1
            if outcome not in HOLES or looks == LOOKS or await self._stamp(file) == before:
                return outcome, seen

    async def _stamp(self, file: Expected) -> tuple[int, ...] | None:
        return await self.threads.lookups.run(stamp, self._base_path, file.path)

    async def _look_once(self, file: Expected) -> tuple[str, Answers[str]]:
        # The disk first: an upload may move the file to Swift meanwhile, where it is seen
        # then. In the other order it could be missed in both places.
        try:
            source = await self.threads.open_checked(self._base_path, file)
        except FileNotFoundError:
            seen = await self._see(file, None)
            return self._outcome_without_file(seen, ONLY_SWIFT, BAD_OBJECT), seen
        except KeptError as error:
            # Synapse serves what is on its disk, whatever Swift has.
            self.progress.note(f"On disk, but {error}: {shown(file.path)}")
            seen = await self._see(file, None)
            if_wrong = BAD_FILE if WHOLE in seen.results.values() else NOWHERE
            return self._outcome_without_file(seen, BAD_FILE, if_wrong), seen
        with source:
            seen = await self._see(file, source)
        found = seen.results.values()
        if WRONG in found:
            return BOTH_DIFFERENT, seen
        if WHOLE not in found:
            return ONLY_DISK, seen
        if MISSING in found:
            return NOT_EVERYWHERE, seen
        return NOT_KNOWN if seen.errors else BOTH_EQUAL, seen

    @staticmethod
    def _outcome_without_file(seen: Answers[str], if_whole: str, if_wrong: str) -> str:
        found = seen.results.values()
        if DIFFERENT in found:
            return DIFFERENT_COPIES
        if WRONG in found:
            return if_wrong
        return if_whole if WHOLE in found else NOWHERE

    async def _see(self, file: Expected, source: FileSource | None) -> Answers[str]:
        """What each place has.

        :raises NoMemberError: if one of several may have the object and does not say, and none
            has it for sure.
        """
        infos: dict[Member, ObjectInfo] = {}
        seen = await self.members.each(partial(self._see_in, file, source, infos))
        if source is None:
            _mark_different(seen, infos)
        if seen.errors and not {WHOLE, WRONG, DIFFERENT}.intersection(seen.results.values()):
            raise NoMemberError(list(seen.errors.values()))
        return seen

    async def _see_in(
        self,
        file: Expected,
        source: FileSource | None,
        infos: dict[Member, ObjectInfo],
        member: Member,
    ) -> str:
        """:param infos: gets the facts of a whole object."""
        info, wrong = await self._look_at_object(file, member)
        if info is None:
            return MISSING
        if wrong:
            return WRONG
        if source is not None and not await member.place.same_content(info, source):
            return WRONG
        infos[member] = info
        return WHOLE

    @staticmethod
    def _lacking(seen: Answers[str]) -> list[Member]:
        """The places that lack an object which another one has."""
        if WHOLE not in seen.results.values():
            return []
        return [member for member, found in seen.results.items() if found == MISSING]

    def _count(self, file: Expected, seen: Answers[str], lacking: list[Member]) -> None:
        """Count what each of several places has."""
        members = self.tally.members
        for member, found in seen.results.items():
            members[member.name].counts[found] += 1
            if found in (WRONG, DIFFERENT):
                self.progress.note(f"{found} in {member.name}: {shown(file.path)}")
        for member in lacking:
            self.tally.lack(member.name)
            self.progress.note(f"Lacking in {member.name}: {shown(file.path)}")
        for member, error in seen.errors.items():
            members[member.name].counts[UNKNOWN] += 1
            if member.left_out is None:
                reason = without_name(error)
                self.progress.note(f"{UNKNOWN} of {member.name}: {shown(file.path)}: {reason}")

    def _note(self, member: Member, line: str) -> None:
        self.progress.note(f"{member.name}: {line}" if self.members.several else line)

    async def _look_at_object(
        self, file: Expected, member: Member
    ) -> tuple[ObjectInfo | None, bool]:
        """The object, as of :meth:`_whole_object`, and whether its content is wrong."""
        info = await self._whole_object(file, member)
        wrong = False
        if self._deep and info is not None:
            try:
                wrong = await self._has_wrong_content(file, member)
            except ObjectNotFoundError:
                # Swift puts a replica aside if it finds damage in it while it is read.
                self._note(member, f"No longer in Swift after it was read: {shown(file.path)}")
                info = None
        return info, wrong

    async def _has_wrong_content(self, file: Expected, member: Member) -> bool:
        flaw = await content_flaw(member.place, file, self._downloaded)
        if flaw is not None:
            self._note(member, f"In Swift, but {flaw}: {shown(file.path)}")
        return flaw is not None

    def _downloaded(self, count: int) -> None:
        self.tally.counts[DOWNLOADED_BYTES] += count

    async def _whole_object(self, file: Expected, member: Member) -> ObjectInfo | None:
        """The object; ``None`` if there is none, or if it is not whole or will not last."""
        try:
            info = await member.place.head(file.path, newest=True)
        except ObjectNotFoundError:
            return None
        if info.size not in file.lengths:
            flaw = "with a wrong length"
        elif info.dynamic_large:
            # Swift joins what a listing names at that moment.
            flaw = "as a dynamic large object, whose content nothing proves"
        elif (found := await member.place.flaw(info)) is not None:
            flaw = f"but {found}"
        else:
            return info
        self._note(member, f"In Swift {flaw}: {shown(file.path)}")
        return None


def _mark_different(seen: Answers[str], infos: dict[Member, ObjectInfo]) -> None:
    """Call whole objects different if any two of them surely are.

    :param infos: the facts of the whole ones.
    """
    pairs = combinations(infos.values(), 2)
    if any(one.is_plain and other.is_plain and one.etag != other.etag for one, other in pairs):
        seen.results.update(dict.fromkeys(infos, DIFFERENT))
