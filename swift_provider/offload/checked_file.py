"""Opens a file of a media if it is what Synapse's database says."""

from __future__ import annotations

import errno
import hashlib
import zlib

from swift_provider.client import FileSource
from swift_provider.errors import BadFileError, KeptError
from swift_provider.offload.disk import Expected

_READ_BYTES = 256 * 1024


def open_checked(base_path: str, file: Expected) -> FileSource:
    """Open a file, and check that it is what the database says. Blocks.

    Synapse writes a file under its final name. So a file that is shorter than the database
    says is one that Synapse is still writing, or one that a crash cut short.

    :returns: the caller closes it. If its SHA-256 was compared, each later reading has to have
        the same bytes (:attr:`.FileSource.crc32`).
    :raises BadFileError: if it is something else.
    :raises KeptError: if it is no regular file, or cannot be read.
    :raises FileChangedError: if it shrinks meanwhile.
    :raises FileNotFoundError: if there is no such file any more.
    """
    try:
        source = FileSource.open(f"{base_path}/{file.path}")
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EINVAL, errno.ENXIO):
            raise KeptError("not a regular file") from error
        raise KeptError(f"cannot be read: {error.strerror}") from error
    try:
        if file.lengths and source.size not in file.lengths:
            raise BadFileError("its length is not the one in Synapse's database")
        if file.sha256 is not None:
            sha256, source.crc32 = _hashes(source)
            if sha256 != file.sha256.lower():
                raise BadFileError("its SHA-256 is not the one in Synapse's database")
    except OSError as error:
        source.close()
        raise KeptError(f"cannot be read: {error.strerror}") from error
    except BaseException:
        source.close()
        raise
    return source


def _hashes(source: FileSource) -> tuple[str, int]:
    """:returns: SHA-256 and CRC-32 of one reading."""
    sha256, crc32 = hashlib.sha256(), 0
    for offset in range(0, source.size, _READ_BYTES):
        data = source.read_at(offset, min(_READ_BYTES, source.size - offset))
        sha256.update(data)
        crc32 = zlib.crc32(data, crc32)
    return sha256.hexdigest(), crc32
