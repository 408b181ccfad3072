"""Manifests as the cluster shows them, and as this client's metadata describes them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from swift_provider.client.answers import ObjectInfo
from swift_provider.client.manifest import Row, rows_of_ours, rows_shown

MD5 = "0123456789abcdef0123456789abcdef"
ROW = {"name": "/segments/a/0", "bytes": 7, "hash": MD5}


def test_the_rows_that_are_shown() -> None:
    """Whole objects, parts of them, manifests, and bytes in the manifest itself."""
    shown = [ROW, {**ROW, "range": "0-3"}, {**ROW, "sub_slo": True}, {"data": "eA=="}]
    whole = Row("segments", "a/0", 7, MD5)
    partial = whole._replace(is_whole=False)
    assert rows_shown(json.dumps(shown).encode()) == [
        whole,
        partial,
        partial,
        Row("", "", 0, "", is_whole=False),
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"5",
        b"{}",
        b"[5]",
        b"[" * 100_000,
        b'[{"name": "/c/a", "bytes": %b, "hash": "x"}]' % (b"5" * 5000),
        *(
            json.dumps([{**ROW, key: value}]).encode()
            for key, value in (
                ("name", ""),
                ("name", "/c"),
                ("name", "/c/"),
                ("name", "//a"),
                ("name", None),
                ("name", "/c/" + chr(0xD800)),
                ("bytes", 1e999),
                ("bytes", -1),
                ("bytes", None),
                ("hash", None),
            )
        ),
    ],
    ids=range(16),
)
def test_rows_that_cannot_be_read(body: bytes) -> None:
    """Anything else is no manifest, and no error of Python."""
    assert rows_shown(body) is None


def info_of(size: int, segment_size: int) -> ObjectInfo:
    facts: dict[str, Any] = {"static_large": True, "attempt": "1", "segment_size": segment_size}
    return ObjectInfo("name", size, MD5, "", "", **facts)


def test_the_rows_of_ours() -> None:
    """Made from the metadata that this client sets."""
    rows = rows_of_ours(info_of(10, 4), "segments")
    assert rows is not None
    assert [(row.name, row.size) for row in rows] == [
        ("name/1/00000000", 4),
        ("name/1/00000001", 4),
        ("name/1/00000002", 2),
    ]


@pytest.mark.parametrize("segment_size", [0, 1])
def test_metadata_that_is_not_ours(segment_size: int) -> None:
    """So many segments no object has; to name them all would take all the memory."""
    assert rows_of_ours(info_of(10**12, segment_size), "segments") is None
