"""CRC-32 of files, and of parts that are joined."""

from __future__ import annotations

import random
import zlib

import pytest

from swift_provider.client.crc32 import crc32_of, joined_crc32
from swift_provider.errors import FileChangedError
from tests.client.trouble import MakeFile, content_of

SIZES = [0, 1, 2, 3, 255, 4096, 65_537, 1_000_000]


@pytest.mark.parametrize("first", SIZES)
@pytest.mark.parametrize("second", SIZES)
def test_joined(first: int, second: int) -> None:
    """It is the CRC-32 of both parts together."""
    one, other = random.Random(first).randbytes(first), random.Random(-second).randbytes(second)
    joined = joined_crc32(zlib.crc32(one), zlib.crc32(other), len(other))
    assert joined == zlib.crc32(one + other)


def test_joined_to_much() -> None:
    """The size of the second part may be that of a very large file: the order of the
    polynomial is 2^32 - 1, and so many bytes of nothing change nothing.
    """
    noughts = joined_crc32(0x12345678, 0, 2**32 - 1)
    assert noughts == 0x12345678
    assert joined_crc32(0x12345678, 0, 2**32) == joined_crc32(0x12345678, 0, 1)


@pytest.mark.parametrize("size", [0, 1, 256 * 1024, 256 * 1024 + 1, 3_000_000])
def test_of_a_file(make_file: MakeFile, size: int) -> None:
    """A file is read to its end, whatever its size."""
    assert crc32_of(make_file(content_of(size))) == zlib.crc32(content_of(size))


@pytest.mark.parametrize("size", [999, 1001])
def test_of_a_file_that_changes(make_file: MakeFile, size: int) -> None:
    """A file that was written to has no CRC-32, so that it is not even sent."""
    source = make_file(content_of(1000))
    with open(source.path, "r+b") as file:
        file.truncate(size)
    with pytest.raises(FileChangedError):
        crc32_of(source)
