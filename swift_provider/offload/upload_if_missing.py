"""Makes sure that Swift holds a file, with as few requests as that takes."""

from __future__ import annotations

from enum import Enum

from swift_provider.client import FileSource, ObjectInfo, Place
from swift_provider.errors import KeptError, ObjectExistsError, ObjectNotFoundError
from swift_provider.offload.bandwidth import Bandwidth
from swift_provider.offload.disk import Expected
from swift_provider.offload.listing_hints import Hint, Unlisted

#: A file larger than this gets a HEAD before its upload, although the listing lacks it. The
#: HEAD costs little beside the upload, and saves it if the listing was late.
HEAD_FIRST_BYTES = 1024 * 1024


class Outcome(Enum):
    """Why Swift holds the file now, or would."""

    PRESENT = "it was there before"
    UPLOADED = "it was uploaded"
    REPLACED = "it was uploaded and replaced a wrong or unreliable object"


class UploadIfMissing:
    """Decides for each file which requests are needed, and sends them.

    :param proof: whether only Swift's answer about the object itself counts. Otherwise a
        row of the listing with the same length and MD5 is enough, though it may be stale.
    :param dry_run: ask Swift, but upload nothing.
    :param bandwidth: of the run; ``None`` for no limit.
    """

    def __init__(
        self, store: Place, *, proof: bool, dry_run: bool, bandwidth: Bandwidth | None = None
    ) -> None:
        self._bandwidth = bandwidth
        self._store = store
        self._proof = proof
        self._dry_run = dry_run

    async def ensure(self, file: Expected, source: FileSource, hint: Hint) -> Outcome:
        """Make sure that Swift holds exactly this file, and will go on holding it.

        * The listing lacks the object: a PUT that does not overwrite. Where Swift would
          overwrite all the same (Ceph RGW), a HEAD first: the listing may be wrong, and the
          object may be the better copy.
        * The listing has the object: a HEAD and a comparison, or only the comparison.
        * The listing does not tell: a HEAD, then a PUT if there is no object.

        :param source: opened, and checked against the database.
        :raises KeptError: if Swift holds something else, which may be the better copy.
        :raises ObjectExistsError: if Swift neither finds an object nor takes one.
        :raises FileChangedError: if the file changes meanwhile.
        :raises OSError: if it cannot be read.
        :raises SwiftProviderError: if Swift fails for good.
        """
        if (
            hint is Unlisted.ABSENT
            and source.size <= HEAD_FIRST_BYTES
            and not self._dry_run
            and await self._store.keeps_existing()
        ):
            return await self.act(file, source, Outcome.UPLOADED)
        return await self.act(file, source, await self.look(file, source, hint))

    async def look(self, file: Expected, source: FileSource, hint: Hint) -> Outcome:
        """Find out what :meth:`act` has to do. The errors are those of :meth:`ensure`.

        The HEAD asks all replicas. An object with the same bytes that cannot be relied on
        (see :meth:`.Place.flaw`) is to be uploaded again.
        """
        if not isinstance(hint, Unlisted) and not self._proof:
            name = self._store.object_name(file.path)
            listed = ObjectInfo(name, hint.size, hint.etag, "", hint.last_modified)
            if await self._store.same_content(listed, source):
                return Outcome.PRESENT
        try:
            info = await self._store.head(file.path, newest=True)
        except ObjectNotFoundError:
            return Outcome.UPLOADED
        return await self._compare(file, source, info)

    async def act(self, file: Expected, source: FileSource, outcome: Outcome) -> Outcome:
        """Do what :meth:`look` has found out.

        :returns: another outcome if somebody else has stored an object meanwhile.
        """
        if outcome is Outcome.UPLOADED:
            try:
                await self._put(file, source, if_absent=True)
            except ObjectExistsError:
                outcome = await self._compare(file, source, await self._store.existing(file.path))
        if outcome is Outcome.REPLACED:
            await self._put(file, source, if_absent=False)
        return outcome

    async def _compare(self, file: Expected, source: FileSource, info: ObjectInfo) -> Outcome:
        same = await self._store.same_content(info, source)
        flaw = await self._store.flaw(info)
        if same and flaw is None:
            return Outcome.PRESENT
        if not same and not self._is_wrong(file, info):
            also = "" if flaw is None else f", and it cannot be relied on: {flaw}"
            raise KeptError(f"Swift has another file under this name{also}")
        return Outcome.REPLACED

    async def _put(self, file: Expected, source: FileSource, *, if_absent: bool) -> None:
        if not self._dry_run:
            if self._bandwidth is not None:
                await self._bandwidth.take(source.size)
            await self._store.put(file.path, source, if_absent=if_absent)

    @staticmethod
    def _is_wrong(file: Expected, info: ObjectInfo) -> bool:
        """Whether the database shows that the object is wrong and the file is right.

        :func:`.checked_file.open_checked` has compared the file with the database. So if the
        SHA-256 is known, the file has the right content, and the object differs from it.
        Without a SHA-256, only an object of a wrong length is surely wrong.
        """
        if file.sha256 is not None:
            return True
        return bool(file.lengths) and info.size is not None and info.size not in file.lengths
