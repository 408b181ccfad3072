"""Gets one file into Swift, or finds it there: the decision which requests that takes."""

from __future__ import annotations

from enum import Enum

from swift_provider.client import FileSource, ObjectInfo, SwiftClient
from swift_provider.errors import ObjectExistsError, ObjectNotFoundError
from swift_provider.offload.disk import Expected, KeptError
from swift_provider.offload.listing import Hint, Unlisted

#: A HEAD before the upload of a larger file costs next to nothing, and spares the
#: upload if the listing was late.
HEAD_FIRST_BYTES = 1024 * 1024


class Outcome(Enum):
    """How it came that Swift has the file."""

    PRESENT = "already there"
    UPLOADED = "uploaded"
    REPLACED = "uploaded in the place of an object that was wrong"


class Placing:
    """What is to be done with each file.

    :param prefix: goes before each object's name.
    :param proof: whether a file may be deleted afterwards, so that only Swift's own
        answer about the object will do. Otherwise a row of the listing that shows
        the same length and MD5 is enough to let an object be.
    :param dry_run: ask, but store nothing.
    """

    def __init__(
        self, client: SwiftClient, container: str, prefix: str, *, proof: bool, dry_run: bool
    ) -> None:
        self._client = client
        self._container = container
        self._prefix = prefix
        self._proof = proof
        self._dry_run = dry_run

    async def ensure(self, file: Expected, source: FileSource, hint: Hint) -> Outcome:
        """Make sure that Swift holds exactly this file.

        Absent from the listing: one PUT, which an existing object refuses.
        Listed: one HEAD and a comparison, or none at all. Unknown: HEAD, then PUT.

        :param source: opened and checked against the database.
        :raises KeptError: if Swift holds something else that may be the better copy.
        :raises FileChangedError: if the file changes meanwhile.
        :raises OSError: if it cannot be read.
        :raises SwiftProviderError: if Swift fails for good.
        """
        name = self._prefix + file.path
        if hint is Unlisted.ABSENT and source.size <= HEAD_FIRST_BYTES:
            try:
                return await self._put(name, source)
            except ObjectExistsError:
                pass  # the listing was late
        elif not isinstance(hint, Unlisted) and not self._proof:
            listed = ObjectInfo(name, hint.size, hint.etag, "", hint.last_modified)
            if await self._same(listed, source):
                return Outcome.PRESENT
        try:
            info = await self._client.head_object(self._container, name)
        except ObjectNotFoundError:
            return await self._put(name, source)
        if await self._same(info, source):
            return Outcome.PRESENT
        if not self._is_wrong(file, info):
            raise KeptError("Swift has another file under this name")
        await self._store(name, source, if_absent=False)
        return Outcome.REPLACED

    async def _same(self, info: ObjectInfo, source: FileSource) -> bool:
        return await self._client.same_content(info, self._container, source)

    async def _put(self, name: str, source: FileSource) -> Outcome:
        await self._store(name, source, if_absent=True)
        return Outcome.UPLOADED

    async def _store(self, name: str, source: FileSource, *, if_absent: bool) -> None:
        if not self._dry_run:
            await self._client.put_object(self._container, name, source, if_absent=if_absent)

    @staticmethod
    def _is_wrong(file: Expected, info: ObjectInfo) -> bool:
        """Whether the database shows that the object is not the media, while the file is.

        The file has the right length, or it would not have come this far. If its
        SHA-256 is known, it was right as well.
        """
        if not file.lengths:
            return False
        if file.sha256 is not None:
            return True
        return info.size is not None and info.size not in file.lengths
