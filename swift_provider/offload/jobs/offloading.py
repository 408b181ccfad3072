"""What the jobs have in common that take files of media off the disk.

A local file is deleted only after Swift has shown in this run that it holds the same
bytes and will go on holding them (see :mod:`swift_provider.offload.upload_if_missing`),
and only if the file has not changed since it was compared. So the process can be killed
at any time without loss.

Of several places each has to show it, unless the run was told that one is enough. A place
that fails does not keep the others from getting the file.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

from swift_provider.client import FileSource, Store
from swift_provider.errors import AccessDeniedError, NotBegunError, SwiftProviderError
from swift_provider.offload.bandwidth import Bandwidth
from swift_provider.offload.disk import YOUNG_SECONDS, Expected, is_thumbnail, is_young, remove
from swift_provider.offload.jobs.job import NOT_BEGUN, Job
from swift_provider.offload.jobs.members import (
    Answers,
    Member,
    NoMemberError,
    reason_of,
    without_name,
)
from swift_provider.offload.jobs.upload_tally import UploadTally
from swift_provider.offload.listing_hints import Hint, Unlisted
from swift_provider.offload.media_names import Media, shown
from swift_provider.offload.progress import Progress
from swift_provider.offload.upload_if_missing import Outcome, UploadIfMissing


class Offloading(Job[UploadTally]):
    """One run.

    :param base_path: Synapse's media store.
    :param delete: delete each local file that Swift is proven to hold.
    :param enough: how many of several places have to be proven to hold it; ``None`` for all.
    :param proof: see :class:`.UploadIfMissing`.
    :param dry_run: count, but neither upload nor delete.
    :param young_seconds: a file without a row stays if it is younger.
    :param bandwidth: see :class:`.Job`.
    """

    def __init__(
        self,
        reactor: Any,
        store: Store,
        progress: Progress,
        base_path: str,
        *,
        delete: bool,
        proof: bool,
        enough: int | None = None,
        dry_run: bool = False,
        young_seconds: float = YOUNG_SECONDS,
        bandwidth: Bandwidth | None = None,
    ) -> None:
        super().__init__(reactor, store, progress, UploadTally(dry_run=dry_run), bandwidth)
        self._base_path = base_path
        self._delete = delete
        self._dry_run = dry_run
        self._young_seconds = young_seconds
        self._enough = len(self.members.all) if enough is None else enough
        self._upload_if_missing = {
            member: UploadIfMissing(
                member.place, proof=proof, dry_run=dry_run, bandwidth=self.bandwidth
            )
            for member in self.members.all
        }

    async def _may_go(self, media: Media, file: Expected) -> bool:
        """Asked just before a file is deleted."""
        return True

    async def _offload(
        self,
        media: Media,
        file: Expected,
        hints: Mapping[Member, Hint],
        of: Collection[Member] | None = None,
        *,
        holders: Collection[Member] = (),
    ) -> bool:
        """Upload one file, then delete it if asked to.

        :param of: to these places only; ``None`` for all.
        :param holders: further places, which have an object already.
        :returns: whether it is gone from the disk.
        """
        in_thread = self.threads.lookups.run
        self.tally.found += 1
        try:
            # No length means that the database does not mention the file.
            if not file.lengths and await in_thread(
                is_young, self._base_path, file.path, self._young_seconds
            ):
                what = "a thumbnail" if is_thumbnail(file.path) else "a file"
                self._skip(file.path, f"{what} that Synapse may be making just now")
                return False
            source = await self.threads.open_checked(self._base_path, file)
        except FileNotFoundError:
            return self._gone_meanwhile()
        with source:
            proven = await self._ensure(file, source, hints, of, holders)
            if not self._delete or proven < self._enough:
                return False
            try:
                if not await self._may_go(media, file):
                    return False
                if not self._dry_run:
                    taken = await in_thread(remove, self._base_path, file.path, source)
                    self.tally.freed += taken
            except FileNotFoundError:
                return self._gone_meanwhile()
            self.tally.deleted += 1
            self.tally.deleted_bytes += source.size
        return True

    async def _ensure(
        self,
        file: Expected,
        source: FileSource,
        hints: Mapping[Member, Hint],
        of: Collection[Member] | None,
        holders: Collection[Member],
    ) -> int:
        """Make sure that each place holds a file.

        :returns: how many of these do.
        :raises NoMemberError: if none of several does; or if one whose object may be the better
            copy cannot be asked.
        :raises NotBegunError: if the run ends before the file's turn.
        :raises Exception: as :meth:`.UploadIfMissing.ensure`.
        """
        into = self.members.all if of is None else of
        seen = await self._look(file, source, hints, [*into, *holders])
        into_seen = [one for one in into if one in seen.results]
        unknown = [
            error
            for one, error in seen.errors.items()
            if one in holders or not isinstance(_hint(hints, one), Unlisted)
        ]
        if unknown and any(seen.results[one] is not Outcome.PRESENT for one in into_seen):
            # The object there may be the better copy.
            raise NoMemberError(unknown)
        outcomes: list[Outcome] = []
        not_begun: list[Member] = []
        ensure = partial(self._ensure_in, file, source, hints, seen.results, outcomes, not_begun)
        everywhere = False
        try:
            answers = await self.members.each(ensure, into_seen)
            answers.errors |= {one: seen.errors[one] for one in into if one in seen.errors}
            everywhere = not answers.errors and not not_begun
        finally:
            self._count(outcomes, source.size, everywhere=everywhere)
        self._note_errors(answers.errors)
        for member in not_begun:
            del answers.results[member]
            if outcomes:
                self.tally.lack(member.name, NOT_BEGUN)
        if not_begun and not outcomes and not answers.errors:
            raise NotBegunError
        if not holders:
            answers.or_fail()
        self._lacking(file.path, answers.errors)
        return len(outcomes)

    async def _look(
        self,
        file: Expected,
        source: FileSource,
        hints: Mapping[Member, Hint],
        of: Collection[Member],
    ) -> Answers[Outcome | None]:
        """Find out what each place needs, before anything is stored in one of them.

        Without a SHA-256 nothing tells whether the file or an object that differs from it is
        right, and a bad file must not get into another place.

        :returns: ``None`` for a place that need not be asked.
        :raises KeptError: if an object differs and may be the better copy.
        """
        if not self.members.several or file.sha256 is not None:
            return Answers(dict.fromkeys(of))

        async def look(member: Member) -> Outcome | None:
            return await self._upload_if_missing[member].look(file, source, _hint(hints, member))

        return await self.members.each(look, of, shows_health=False)

    async def _ensure_in(
        self,
        file: Expected,
        source: FileSource,
        hints: Mapping[Member, Hint],
        seen: Mapping[Member, Outcome | None],
        outcomes: list[Outcome],
        not_begun: list[Member],
        member: Member,
    ) -> None:
        """:param outcomes: gets that of this place, also if another one fails the file.
        :param not_begun: gets the place if the run ends before the file's turn there.
        """
        place, outcome = self._upload_if_missing[member], seen[member]
        try:
            if outcome is None:
                outcome = await place.ensure(file, source, _hint(hints, member))
            else:
                outcome = await place.act(file, source, outcome)
        except NotBegunError:
            not_begun.append(member)
        else:
            outcomes.append(outcome)

    def _note_errors(self, errors: Mapping[Member, SwiftProviderError]) -> None:
        for error in errors.values():
            if isinstance(error, AccessDeniedError):
                self.denied.add(reason_of(error))

    def _lacking(self, path: str, errors: Mapping[Member, SwiftProviderError]) -> None:
        """Count a file that some places have, and others lack, or may lack."""
        self.temporary_failures += any(error.temporary for error in errors.values())
        for member, error in errors.items():
            reason = without_name(error)
            self.tally.lack(member.name, reason)
            if member.left_out is None:
                self.progress.note(f"Not in {member.name}: {shown(path)}: {reason}")

    def _gone_meanwhile(self) -> bool:
        """Synapse, or another run, has deleted the file."""
        self.tally.skipped["gone from the disk meanwhile"] += 1
        return True

    def _count(self, outcomes: Collection[Outcome], size: int, *, everywhere: bool) -> None:
        """Count a file by what came of it in each place that holds it now.

        :param everywhere: whether these are all places.
        """
        if all(outcome is Outcome.PRESENT for outcome in outcomes):
            self.tally.present += everywhere
            return
        self.tally.uploaded += 1
        self.tally.uploaded_bytes += size
        self.tally.replaced += Outcome.REPLACED in outcomes

    def _leave_out(self, what: str, reason: str, is_failure: bool) -> None:
        if is_failure:
            self._fail(what, reason)
        else:
            self._skip(what, reason)


def _hint(hints: Mapping[Member, Hint], member: Member) -> Hint:
    return hints.get(member, Unlisted.UNKNOWN)
