"""Paths are Synapse's own, and no row leads out of the media store."""

from __future__ import annotations

import pytest
from synapse.media.filepath import MediaFilePaths

from swift_provider.errors import UnsafeNameError
from swift_provider.offload.media_names import (
    LOCAL,
    REMOTE,
    Media,
    media_of_object,
    places,
    shown,
    thumbnail_names,
)

NAMES = [
    "GerZNDnDZVjsOtardLuwfIBg",
    "abcde",
    "ab..e",
    "2024-01-31_abcDEF",
    "a.b.c.d",
    "ab.cd",
    "abcd",
    "abc",
    "",
    "....",
    "..cde",
    "ab...",
    "abcd.",
    "abcd..",
    "abcd...",
    "ab/../../../etc/passwd",
    "/etc/passwd",
    "abcd/e",
    "abcd\0e",
    "abcd\n",
    "abcdé",
    "abcd ef",
]
SERVERS = ["example.org", "[2001:db8::1]:8448", "..", ".", "", "a/b", "/etc", "a\0b", "exämple.org"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("server", SERVERS)
def test_remote_paths_are_synapses(server: str, name: str) -> None:
    """Remote media get the paths that Synapse gives them, and none where it refuses."""
    paths = MediaFilePaths("/store")
    try:
        expected = paths.remote_media_filepath_rel(server, name)
        folder = paths.remote_media_thumbnail_dir(server, name).removeprefix("/store/")
    except ValueError:
        with pytest.raises(UnsafeNameError):
            places(server, name, REMOTE)
        return
    assert places(server, name, REMOTE) == (expected, folder)
    assert media_of_object(expected) == (REMOTE, server, name)
    assert media_of_object(f"{folder}/32-32-image-png-crop") == (REMOTE, server, name)


@pytest.mark.parametrize("name", NAMES)
def test_local_paths_are_synapses(name: str) -> None:
    """Local media get the paths that Synapse gives them, and none where it refuses."""
    paths = MediaFilePaths("/store")
    try:
        expected = paths.local_media_filepath_rel(name)
        folder = paths.local_media_thumbnail_dir(name).removeprefix("/store/")
    except ValueError:
        with pytest.raises(UnsafeNameError):
            places("", name, LOCAL)
        return
    assert places("", name, LOCAL) == (expected, folder)
    assert media_of_object(expected) == (LOCAL, "", name)


def test_names_too_long_for_a_disk_are_refused() -> None:
    """Two megabytes of name are refused; no more is shown than any path may have."""
    with pytest.raises(UnsafeNameError) as caught:
        places("", "a" * 2_000_000, LOCAL)
    assert len(str(caught.value)) < 4096 + 100


def test_a_row_of_neither_kind_is_refused() -> None:
    """The cache's type must be local without, or remote with an origin."""
    for origin, kind in [("example.org", LOCAL), ("", REMOTE), ("", "other")]:
        with pytest.raises(UnsafeNameError):
            places(origin, "abcdef", kind)


def test_thumbnail_names_are_synapses() -> None:
    """A thumbnail's name is Synapse's; a remote one may have its older name as well."""
    paths = MediaFilePaths("/store")
    row = (32, 24, "image/png", "crop")
    local = paths.local_media_thumbnail_rel("abcdef", *row).rpartition("/")[2]
    remote = paths.remote_media_thumbnail_rel("x", "abcdef", *row).rpartition("/")[2]
    legacy = paths.remote_media_thumbnail_rel_legacy("x", "abcdef", *row[:3]).rpartition("/")[2]
    assert list(thumbnail_names(*row, LOCAL)) == [local]
    assert list(thumbnail_names(*row, REMOTE)) == [remote, legacy]


@pytest.mark.parametrize("content_type", ["image", "image/../x", "a/b/c", "image/p\0ng", ""])
def test_thumbnail_rows_that_can_have_no_file(content_type: str) -> None:
    """A thumbnail's type that would leave its folder names no file."""
    assert list(thumbnail_names(32, 32, content_type, "crop", REMOTE)) == []


@pytest.mark.parametrize(
    "path",
    [
        "url_cache/2024-01-31/abc",
        "local_content/../../evil",
        "local_thumbnails/ab/cd/ef/..",
        "remote_thumbnail/example.org/ab/cd/ef/a b",
        "local_content/ab/cd",
        "local_content/abc/d/ef",
        "local_content/ab/cd/ef/gh",
        "local_thumbnails/ab/cd/ef",
        "remote_content/ab/cd/ef",
        "other",
    ],
)
def test_objects_that_are_no_media(path: str) -> None:
    """A path that Synapse keeps no media at belongs to none."""
    assert media_of_object(path) is None


def test_names_are_shown_in_full() -> None:
    """The longest name that a file or an object may have is not cut."""
    longest = f"remote_content/{'o' * 255}/ab/cd/{'f' * 255}"
    assert shown(longest) == longest
    assert shown("é" * 1000) == "é" * 1000


def test_names_are_shown_without_controls() -> None:
    """What an attacker names a file cannot move a terminal's cursor."""
    assert shown("a\x1b[2Jb\udcff") == "a\\x1b[2Jb\\udcff"
    assert str(Media("evil\n.org", "m", "f", REMOTE)) == "evil\\n.org/m"
