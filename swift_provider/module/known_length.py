"""The length of a file, by Synapse's database.

A client's response has it as its announced length. Where Synapse pulls a file back to its
disk, only the database can tell whether the object in Swift is the right one.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from synapse.media._base import FileInfo

from swift_provider.module.client_request import request_in_context

_THUMBNAIL_OF = re.compile(r"/_matrix/[^?]*/thumbnail/[^/?]+/([^/?]+)")


async def known_length(store: Any, file_info: FileInfo) -> int | None:
    """Look it up.

    Other servers' media are in the database under their id, and on the disk under another
    name. Only the request tells the id.

    :param store: Synapse's main data store.
    :returns: ``None`` if the database does not tell, and for a thumbnail, which may be of
        another length: see :func:`~swift_provider.module.announced_length.agree_on_length`.
    """
    if file_info.thumbnail is not None:
        return None
    if file_info.server_name is None:
        media = await store.get_local_media(file_info.file_id)
    else:
        media_id = _media_id_in_request()
        if media_id is None:
            return None
        media = await store.get_cached_remote_media(file_info.server_name, media_id)
        if media is not None and media.filesystem_id != file_info.file_id:
            return None
    length: int | None = None if media is None else media.media_length
    return length


def _media_id_in_request() -> str | None:
    request = request_in_context()
    match = None if request is None else _THUMBNAIL_OF.match(request.url)
    return None if match is None else unquote(match[1])
