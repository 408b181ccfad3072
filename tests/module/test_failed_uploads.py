"""How loud the log says that an upload failed."""

from __future__ import annotations

import logging

import pytest

from swift_provider.module.failed_uploads import MOST, FailedUploads


@pytest.mark.parametrize(
    ("content", "thumbnails"),
    [
        ("local_content/ab/cd/ef", "local_thumbnails/ab/cd/ef"),
        ("remote_content/a.example/ab/cd/ef", "remote_thumbnail/a.example/ab/cd/ef"),
    ],
)
def test_one_error_for_each_media(content: str, thumbnails: str) -> None:
    """The thumbnails of a picture fail for the reason that the picture failed for."""
    failed = FailedUploads()
    paths = [content, *(f"{thumbnails}/{size}-image-png" for size in (32, 96, 320, 640))]
    assert [failed.level(path) for path in paths] == [logging.ERROR, *[logging.INFO] * 4]
    assert failed.level(f"{content}g") == logging.ERROR
    failed.stored(paths[1])
    assert failed.level(paths[2]) == logging.ERROR


def test_few_are_remembered() -> None:
    """A long outage costs little memory."""
    failed = FailedUploads()
    for number in range(MOST + 1):
        failed.level(f"local_content/ab/cd/{number}")
    assert failed.level("local_content/ab/cd/1") == logging.INFO
    assert failed.level("local_content/ab/cd/0") == logging.ERROR
