"""Where Synapse keeps media, as paths relative to its media store.

The rules are those of Synapse's ``synapse/media/filepath.py``. The parts of a path come
from database rows, and a remote server chooses some of their values. So a part is
accepted only if Synapse itself would accept it. Previews of web pages (``url_cache``)
never go to a storage provider and have no path here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from swift_provider.config import MEDIA_FOLDERS
from swift_provider.errors import UnsafeNameError

LOCAL = "local"
REMOTE = "remote"

#: The media store's folders that hold media.
ROOTS = MEDIA_FOLDERS

# The characters of Synapse's ALLOWED_CHARACTERS; a file name has at most 255 of them.
_PART = r"(?!\.{1,2}(?:/|\Z))[A-Za-z0-9_.\[\]:-]{1,255}"
_SERVER_NAME = re.compile(_PART + r"\Z")
_FILE_ID = re.compile(
    r"(?!\.\.)[A-Za-z0-9_.\[\]:-]{2}(?!\.\.)[A-Za-z0-9_.\[\]:-]{2}" + _PART + r"\Z"
)
#: Linux's PATH_MAX. Swift's limit for the name of an object is 1024 bytes.
_SHOWN_CHARACTERS = 4096


class Media(NamedTuple):
    """One row of Synapse's ``local_media_repository`` or ``remote_media_cache``.

    :ivar origin: the remote server's name; empty for local media.
    :ivar filesystem_id: the path is made from it; for local media it is the media id.
    :ivar kind: :data:`LOCAL` or :data:`REMOTE`.
    """

    origin: str
    media_id: str
    filesystem_id: str
    kind: str

    def __str__(self) -> str:
        return (
            f"{shown(self.origin)}/{shown(self.media_id)}" if self.origin else shown(self.media_id)
        )


class Places(NamedTuple):
    """Where Synapse keeps one media.

    :ivar content: path of the file.
    :ivar thumbnails: path of the folder with the thumbnails.
    """

    content: str
    thumbnails: str

    def on(self, base_path: str) -> Places:
        """The same paths below a media store."""
        return Places(f"{base_path}/{self.content}", f"{base_path}/{self.thumbnails}")


def places(origin: str, filesystem_id: str, kind: str) -> Places:
    """Where Synapse keeps a media.

    :raises UnsafeNameError: if Synapse would not use the names in a path.
    """
    if _FILE_ID.match(filesystem_id) is None:
        raise UnsafeNameError(f"not a file that Synapse would make: {shown(filesystem_id)}")
    tail = f"{filesystem_id[:2]}/{filesystem_id[2:4]}/{filesystem_id[4:]}"
    if kind == LOCAL and origin == "":
        return Places(f"local_content/{tail}", f"local_thumbnails/{tail}")
    if kind == REMOTE and _SERVER_NAME.match(origin) is not None:
        return Places(f"remote_content/{origin}/{tail}", f"remote_thumbnail/{origin}/{tail}")
    raise UnsafeNameError(f"not a server's media: {shown(kind)}, {shown(origin)}")


def thumbnail_names(
    width: int, height: int, content_type: str, method: str, kind: str
) -> Iterator[str]:
    """The names that a thumbnail's file may have in the folder of its media.

    Older versions of Synapse left the method out of the names of remote thumbnails, and
    Synapse still reads such files. A row that cannot have a file yields nothing.
    """
    top_level, slash, sub = content_type.partition("/")
    stem = f"{width}-{height}-{top_level}-{sub}"
    if not slash or _SERVER_NAME.match(f"{stem}-{method}") is None:
        return
    yield f"{stem}-{method}"
    if kind == REMOTE:
        yield stem


def is_plain_name(name: str) -> bool:
    """Whether Synapse would use this name for a thumbnail's file.

    Not for ``.nfs…``, which NFS makes of a deleted file that somebody has open.
    """
    return _SERVER_NAME.match(name) is not None and not name.startswith(".")


def media_of_object(path: str) -> tuple[str, str, str] | None:
    """The media to which a relative path belongs.

    :returns: kind, origin and filesystem id; ``None`` if Synapse keeps no media there.
    """
    root, _, rest = path.partition("/")
    parts = rest.split("/")
    is_thumbnail = root in ("local_thumbnails", "remote_thumbnail")
    kind = REMOTE if root.startswith("remote_") else LOCAL
    expected = 3 + (kind == REMOTE) + is_thumbnail
    if root not in ROOTS or len(parts) != expected:
        return None
    origin = parts.pop(0) if kind == REMOTE else ""
    filesystem_id = "".join(parts[:3])
    try:
        found = places(origin, filesystem_id, kind)
    except UnsafeNameError:
        return None
    if is_thumbnail and not is_plain_name(parts[3]):
        return None
    whole = f"{found.thumbnails}/{parts[3]}" if is_thumbnail else found.content
    return (kind, origin, filesystem_id) if whole == path else None


def shown(name: str) -> str:
    """An unchecked name, safe to print: in full, with control characters escaped.

    Only a name that is longer than the path of any file or object is shortened.
    """
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name[:_SHOWN_CHARACTERS])
    return text + "..." if len(name) > _SHOWN_CHARACTERS else text
