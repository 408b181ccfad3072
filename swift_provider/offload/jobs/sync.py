"""The job ``sync``: copies between places in Swift what one of them lacks.

The listings of all places are read side by side. They are only hints: what one of them
lacks, or has with another length or ETag, is asked for by name, of all replicas. An object that
Swift has lost, or will delete, may still be listed: only ``--proof``, which asks for each object,
finds it.

An object is only overwritten by a whole one with the same content, if it cannot be relied on
itself. If two places have different ones, both stay, and are named: a flawed one may be the
right one.

Synapse may write meanwhile: what it stores first stays. Synapse itself never deletes an
object. If ``prune`` deletes one while it is copied, the copy either fails, or is complete
and is an object of no media, which the next ``prune`` finds: it compares every place with
the database.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from swift_provider.client import Place, copy, unreliable
from swift_provider.errors import (
    ConfigError,
    KeptError,
    ObjectExistsError,
    ObjectNotFoundError,
    SwiftProviderError,
)
from swift_provider.offload.jobs.listings_beside import Beside, beside
from swift_provider.offload.jobs.members import NoMemberError
from swift_provider.offload.jobs.sync_found import Found, look_the_same, same_content
from swift_provider.offload.jobs.sync_places import ASKED, READ, WRITTEN, SyncPlaces
from swift_provider.offload.jobs.sync_tally import SyncTally
from swift_provider.offload.media_names import ROOTS, media_of_object, shown
from swift_provider.offload.parallel import Items, in_parallel
from swift_provider.offload.progress import Progress

GONE = "deleted meanwhile"
LOST = "it is listed, and Swift does not find it"
INCOMPARABLE = (
    "cut in different ways, and nothing shows whether the content is the same; verify --deep "
    "compares each with the database"
)


@dataclass(frozen=True)
class Options:
    """The options of the command.

    :ivar source: the name of the only place to copy from; ``None`` for each of them.
    :ivar target: likewise, to copy to.
    :ivar dry_run: count, but copy nothing.
    :ivar proof: ask about each object, also where the listings show equal ones.
    """

    source: str | None = None
    target: str | None = None
    dry_run: bool = False
    proof: bool = False


class Sync:
    """One run.

    :param members: the places.
    :ivar begun: whether the job got past the check of the containers.
    :raises ConfigError: if there is nothing to copy between, or a name is unknown.
    """

    def __init__(self, members: Sequence[Place], options: Options, progress: Progress) -> None:
        sources, targets = _chosen(members, options)
        self.progress = progress
        self.begun = False
        self._dry_run = options.dry_run
        self._proof = options.proof
        self.tally = SyncTally(
            dry_run=options.dry_run, targets=tuple(place.name for place in targets)
        )
        self._places = SyncPlaces(
            [place for place in members if place in sources or place in targets],
            sources,
            targets,
            self.tally,
            progress.note,
            self._stop_for,
        )
        self._stopping = False

    def stop(self) -> None:
        """End soon: finish the objects in flight, begin no others, and retry nothing."""
        self._stopping = True
        self.tally.interrupted = True
        for place in self._places.all:
            place.hurry()

    async def run(self) -> SyncTally:
        """Do the job. An error that concerns one object is counted; one that concerns all of a
        place leaves it out. If nothing is left to copy between, the run ends early.

        :returns: the figures, also if the run ended early.
        :raises ConfigError: if two places lead to the same objects.
        """
        try:
            await self._places.check(dry_run=self._dry_run)
            if not self._stopping:
                self.begun = True
                await self._work()
        except ConfigError:
            raise
        except SwiftProviderError as error:
            if not self.tally.interrupted:
                self._stop_for(error)
        finally:
            self.tally.finish()
        return self.tally

    async def _work(self) -> None:
        items = Items(self._candidates())
        width = max(place.width for place in self._places.in_use)
        try:
            await in_parallel(width, items.take, self._handle, lambda: self._stopping)
        finally:
            await items.close()

    # What is to be looked at

    async def _candidates(self) -> AsyncGenerator[list[Beside], None]:
        for root in ROOTS:
            places = self._places.in_use
            async for page in beside(places, f"{root}/", self._places.leave_out):
                if self._stopping:
                    return
                candidates = [row for row in page if self._is_candidate(places, row)]
                self._advance(len(page) - len(candidates))
                yield candidates

    def _is_candidate(self, places: Sequence[Place], row: Beside) -> bool:
        """:param places: those whose listings the row is of."""
        if media_of_object(row.path) is None:
            self.tally.foreign += 1
            return False
        by_place = dict(zip(places, row.listed, strict=True))
        if not any(by_place[place] for place in self._places.sources):
            return False
        self.tally.looked += 1
        if self._proof:
            return True
        listed = [by_place[place] for place in self._places.in_use]
        if all(by_place[place] for place in self._places.targets) and look_the_same(listed):
            self.tally.present += 1
            return False
        return True

    # One object

    async def _handle(self, row: Beside) -> None:
        path = row.path
        try:
            await self._level(path)
        except SwiftProviderError as error:
            self._fail(path, error)
        self._advance(1)

    async def _level(self, path: str) -> None:
        """Bring one object to all targets that lack it."""
        places, targets = self._places.in_use, self._places.targets
        found = [one for place in places if (one := await self._look(place, path)) is not None]
        sources = self._places.sources
        originals = [one for one in found if one.place in sources and one.whole]
        if not originals:
            flaws = [f"{one.place.name}: {one.flaw}" for one in found if one.flaw is not None]
            if flaws:
                raise KeptError(f"no whole object to copy: {'; '.join(flaws)}")
            if len(found) == len(places):
                await self._gone(path, sources)
            return
        wanting = [one for one in found if one.place in targets and not one.whole]
        if not self._agree(path, [one for one in found if one.whole], wanting):
            return
        if not wanting and len(found) == len(places):
            self.tally.present += 1
        for target in wanting:
            if self._stopping:
                return
            if target.place not in self._places.in_use:
                continue
            if target.info is None or self._may_replace(path, originals[0], target):
                await self._bring(path, originals, target)

    async def _look(self, place: Place, path: str) -> Found | None:
        """:returns: ``None`` if the place does not say; that is counted."""
        try:
            try:
                info = await place.head(path, newest=True)
            except ObjectNotFoundError:
                found = Found(place, None, None)
            else:
                found = Found(place, info, await unreliable(place, info))
        except SwiftProviderError as error:
            error.mirror = place.name
            self._fail(path, error)
            self._places.failed(place, ASKED, error)
            return None
        self._places.succeeded(place, ASKED)
        return found

    async def _gone(self, path: str, sources: Sequence[Place]) -> None:
        """No place to copy from finds an object: it was deleted, unless one still lists it."""
        for place in sources:
            if await self._is_listed(place, path):
                error = KeptError(LOST)
                error.mirror = place.name
                self._fail(path, error)
                return
        self._skip(GONE)

    async def _is_listed(self, place: Place, path: str) -> bool:
        try:
            async for page in place.list(path):
                if any(row.name == path for row in page):
                    return True
        except SwiftProviderError as error:
            error.mirror = place.name
            raise
        return False

    def _agree(self, path: str, whole: list[Found], wanting: list[Found]) -> bool:
        """Whether whole objects are the same; count and print it if that is not known.

        :param wanting: the targets that get none of them then.
        """
        first, *others = whole
        incomparable = None
        for other in others:
            assert first.info is not None
            assert other.info is not None
            same = same_content(first.info, other.info)
            if same is False:
                self._differ(path, first, other)
                return False
            if same is None:
                incomparable = other
        if incomparable is None:
            return True
        names = f"{first.place.name} and {incomparable.place.name}"
        self._fail(path, KeptError(f"{names}: {INCOMPARABLE}"))
        for target in wanting:
            self.tally.lack(target.place.name, INCOMPARABLE)
            self.progress.note(f"Not in {target.place.name}: {shown(path)}: {INCOMPARABLE}")
        return False

    def _may_replace(self, path: str, original: Found, flawed: Found) -> bool:
        """Whether an object that cannot be relied on has the content of the original; count
        and print it if that is not known.
        """
        assert original.info is not None
        assert flawed.info is not None
        if same_content(original.info, flawed.info):
            return True
        self._differ(path, original, flawed)
        return False

    def _differ(self, path: str, one: Found, other: Found) -> None:
        self.tally.differing += 1
        self.progress.note(f"Different: {shown(path)}: {one}, {other}")

    async def _bring(self, path: str, originals: Sequence[Found], target: Found) -> None:
        """:param originals: whole objects with the same content."""
        assert originals[0].info is not None
        size = originals[0].info.size or 0
        tally, name = self.tally, target.place.name
        if not self._dry_run and not await self._copied(path, originals, target):
            return
        tally.copied[name] += 1
        tally.copied_bytes[name] += size
        if target.flaw is not None:
            tally.replaced += 1
            self.progress.note(f"Replaced in {name}, because {target.flaw}: {shown(path)}")

    async def _copied(self, path: str, originals: Sequence[Found], target: Found) -> bool:
        """Copy an object from the first place that delivers it.

        :returns: ``False`` if there is no copy; that is counted.
        """
        errors: list[SwiftProviderError] = []
        for source in (original.place for original in originals):
            try:
                await copy(source, target.place, path, if_absent=target.info is None)
            except ObjectExistsError:
                await self._count_existing(path, target.place)
                return False
            except ObjectNotFoundError:
                # It is being deleted: a copy from another place would undo that.
                await self._gone(path, [source])
                return False
            except SwiftProviderError as error:
                if error.mirror != source.name:
                    self._fail(path, error)
                    self._places.failed(target.place, WRITTEN, error)
                    return False
                self._places.failed(source, READ, error)
                errors.append(error)
            else:
                self._places.succeeded(source, READ)
                self._places.succeeded(target.place, WRITTEN)
                for failed in errors:
                    self.progress.note(f"Copied from {source.name}: {shown(path)}: {failed}")
                return True
        self._fail(path, NoMemberError(errors))
        return False

    async def _count_existing(self, path: str, target: Place) -> None:
        """A target says that it has an object by now."""
        try:
            await target.existing(path)
        except SwiftProviderError as error:
            error.mirror = target.name
            self._fail(path, error)
            self._places.failed(target, ASKED, error)
        else:
            self.tally.present += 1  # Somebody else was faster.

    # Counting

    def _advance(self, count: int) -> None:
        tally = self.tally
        self.progress.advance(
            count, tally.copied.total(), tally.failures, tally.copied_bytes.total()
        )

    def _skip(self, reason: str) -> None:
        self.tally.skipped[reason] += 1

    def _fail(self, path: str, error: SwiftProviderError) -> None:
        reason = getattr(error, "reason", None) or error.text()
        self.tally.failed[f"{error.mirror}: {reason}" if error.mirror else reason] += 1
        self.progress.note(f"Failed: {shown(path)}: {error}")

    def _stop_for(self, error: SwiftProviderError) -> None:
        self._stopping = True
        if self.tally.stopped is None:
            self.tally.stopped = str(error)


def _chosen(
    members: Sequence[Place], options: Options
) -> tuple[tuple[Place, ...], tuple[Place, ...]]:
    """The places to copy from, and to copy to."""
    if len(members) < 2:
        raise ConfigError(
            "sync copies between several places, and the entry in media_storage_providers names "
            "only one: add the others under 'mirrors'"
        )
    by_name = {place.name: place for place in members}
    for option, name in (("--from", options.source), ("--to", options.target)):
        if name is not None and name not in by_name:
            known = ", ".join(by_name)
            raise ConfigError(f"{option} {name}: there is no such place; the entry has {known}")
    if options.source is not None and options.source == options.target:
        raise ConfigError(f"--from and --to name the same place, {options.source}")
    sources = tuple(members) if options.source is None else (by_name[options.source],)
    targets = tuple(members) if options.target is None else (by_name[options.target],)
    if options.source is not None:
        targets = tuple(place for place in targets if place not in sources)
    elif options.target is not None:
        sources = tuple(place for place in sources if place not in targets)
    return sources, targets
