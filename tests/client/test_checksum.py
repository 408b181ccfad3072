"""Sums of plain and of segmented objects, fed in pieces of any size."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from typing import Any

import pytest

from swift_provider.client import FileSource
from swift_provider.client.answers import ObjectInfo
from swift_provider.client.checksum import (
    Checksum,
    SegmentsChecksum,
    file_matches,
    proof_for,
    segment_sizes,
)

CONTENT = random.Random(1).randbytes(1000)


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def slo_etag(sizes: list[int], content: bytes = CONTENT) -> str:
    """As Swift computes it from its segments."""
    sums, start = "", 0
    for size in sizes:
        sums += md5(content[start : start + size])
        start += size
    return md5(sums.encode())


def info(etag: str, size: int | None = len(CONTENT), **facts: Any) -> ObjectInfo:
    return ObjectInfo("name", size, etag, "text/plain", "", **facts)


def fed(checksum: Checksum, content: bytes, piece: int) -> bool:
    for start in range(0, len(content), piece):
        checksum.update(content[start : start + piece])
    return checksum.right()


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def known(facts: ObjectInfo) -> Checksum:
    """The checksum that an object's headers offer."""
    checksum = proof_for(facts)
    assert checksum is not None
    return checksum


def plain() -> Checksum:
    return known(info(md5(CONTENT)))


def ours() -> Checksum:
    sizes = [300, 300, 300, 100]
    return known(info(slo_etag(sizes), static_large=True, segment_size=300, attempt="a"))


def exact() -> Checksum:
    """Segments which end just where the content does."""
    return known(info(slo_etag([250] * 4), static_large=True, segment_size=250, attempt="a"))


def foreign() -> Checksum:
    sizes = [1, 600, 398, 1]
    return SegmentsChecksum(slo_etag(sizes), sizes)


KINDS = [plain, ours, exact, foreign]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("piece", [1, 7, 250, 300, 301, 999, 1000])
def test_right_bytes_in_any_pieces(kind: Callable[[], Checksum], piece: int) -> None:
    """Right bytes are accepted, whatever pieces they come in."""
    assert fed(kind(), CONTENT, piece)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("piece", [7, 300, 1000])
@pytest.mark.parametrize("at", [0, 299, 300, 999])
def test_one_bit_is_enough(kind: Callable[[], Checksum], piece: int, at: int) -> None:
    """A flipped bit anywhere is found."""
    assert not fed(kind(), flipped(CONTENT, at), piece)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT[:900], CONTENT + b"x", b""])
def test_too_little_or_too_much(kind: Callable[[], Checksum], content: bytes) -> None:
    """A missing end, a missing segment and an additional byte are found."""
    assert not fed(kind(), content, 300)


def test_swapped_segments_are_found() -> None:
    """Segments in the wrong order are found."""
    swapped = CONTENT[300:600] + CONTENT[:300] + CONTENT[600:]
    assert not fed(ours(), swapped, 100)


@pytest.mark.parametrize("sizes", [[0, 400, 600], [400, 0, 0, 600], [400, 600, 0], [0, 1000, 0]])
@pytest.mark.parametrize("piece", [7, 400, 1000])
def test_empty_segments_count(sizes: list[int], piece: int) -> None:
    """Swift accepts them in a manifest, and their MD5s are part of its ETag."""
    assert fed(SegmentsChecksum(slo_etag(sizes), sizes), CONTENT, piece)
    assert not fed(SegmentsChecksum(slo_etag(sizes), [400, 600]), CONTENT, piece)
    assert not fed(SegmentsChecksum(slo_etag(sizes), sizes), CONTENT[:-1], piece)


def test_only_empty_segments() -> None:
    """An object of nothing but empty segments has an ETag, too."""
    assert fed(SegmentsChecksum(slo_etag([0, 0], b""), [0, 0]), b"", 1)
    assert not fed(SegmentsChecksum(slo_etag([0, 0], b""), [0]), b"", 1)


def test_an_empty_object() -> None:
    """The checksum of an empty object is right."""
    assert fed(known(info(md5(b""), 0)), b"", 1)


@pytest.mark.parametrize(
    "facts",
    [
        {"static_large": True},
        {"dynamic_large": True},
        {"static_large": True, "segment_size": 300, "attempt": "a", "size": None},
        {"static_large": True, "segment_size": 300},
        {"etag": "not-an-md5-17"},
        {"etag": ""},
    ],
)
def test_what_cannot_be_proven_says_so(facts: dict[str, Any]) -> None:
    """There is no checksum where the ETag cannot be computed from the content."""
    assert proof_for(info(**{"etag": md5(b"something else"), **facts})) is None


def test_the_sizes_of_segments() -> None:
    """The last segment is the rest; an empty file has no segments."""
    assert list(segment_sizes(1000, 300)) == [300, 300, 300, 100]
    assert list(segment_sizes(900, 300)) == [300, 300, 300]
    assert list(segment_sizes(1, 300)) == [1]
    assert list(segment_sizes(0, 300)) == []


def test_a_file_is_compared_byte_for_byte(
    make_file: Callable[[bytes], FileSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is read to its end, in pieces."""
    monkeypatch.setattr("swift_provider.client.checksum.READ_BYTES", 64)
    for kind in KINDS:
        assert file_matches(make_file(CONTENT), kind())
        assert not file_matches(make_file(flipped(CONTENT, 999)), kind())
        assert not file_matches(make_file(CONTENT[:-1]), kind())
