"""The signing of temporary URLs, compared with Swift's own code."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from swift.common.digest import extract_digest_and_algorithm, get_hmac

from swift_provider.client.temp_url import DIGESTS, Signer, common_digests, signed_path

STORAGE_URL = "https://swift.example.org:8080/v1/AUTH_matrix"
NAME = "remote_content/[::1]:8448/ab/cd/a b?&#%/ü"
NOW = 1_800_000_123.75
WINDOW = 3600


def made(**options: object) -> tuple[str, dict[str, list[str]]]:
    """A URL without its query, and the query's parameters."""
    signer = Signer(b"key", str(options.pop("digest", "sha1")), WINDOW)
    options = {"filename": "a.png", **options}
    url = signer.url(STORAGE_URL, "media", NAME, NOW, **options).url  # type: ignore[arg-type]
    return url.partition("?")[0], parse_qs(urlsplit(url).query, strict_parsing=True)


@pytest.mark.parametrize("digest", DIGESTS)
def test_swift_computes_the_same(digest: str) -> None:
    """Swift's middleware finds the same signature for the path that it sees, and its digest."""
    _, query = made(digest=digest)
    (signature,), (expires,) = query["temp_url_sig"], query["temp_url_expires"]
    path = f"/v1/AUTH_matrix/media/{NAME}"
    assert signature == get_hmac("GET", path, int(expires), b"key", digest)
    assert extract_digest_and_algorithm(signature)[0] == digest


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://h/v1/AUTH_a/c/o%20%25", "/v1/AUTH_a/c/o %"),
        ("https://h/object/v1/AUTH_a/c/o", "/v1/AUTH_a/c/o"),
        ("https://h/swift/v1/c/o", "/v1/c/o"),
        ("https://h/v1/AUTH_a/v1/v1/o", "/v1/AUTH_a/v1/v1/o"),
        ("https://h/strange/c/o", "/strange/c/o"),
    ],
)
def test_signed_path(url: str, path: str) -> None:
    """The signed path begins at the version and is decoded."""
    assert signed_path(url) == path


def test_url_is_the_same_within_a_window() -> None:
    """A URL changes once a window, and lives between one and two windows."""
    signer = Signer(b"key", "sha1", WINDOW)
    seen = set()
    for now in range(int(NOW), int(NOW) + 2 * WINDOW, 7):
        expires = signer.expires("/v1/a/c/o", now)
        assert WINDOW < expires - now <= 2 * WINDOW
        seen.add(expires)
    assert 2 <= len(seen) <= 3


def test_windows_of_two_objects_differ() -> None:
    """Not all URLs change at the same moment."""
    signer = Signer(b"key", "sha1", WINDOW)
    assert len({signer.expires(f"/v1/a/c/{n}", NOW) for n in range(10)}) > 5


def test_filename_variant_and_front() -> None:
    """A file name is encoded whole, never shown inline; a front replaces scheme, host and port."""
    url, query = made(
        filename='ü "&inline#/\n', variant="cors", base_url="https://media.example.org"
    )
    assert url.startswith("https://media.example.org/v1/AUTH_matrix/media/remote_content/")
    assert query["filename"] == ['ü "&inline#/\n']
    assert query["m"] == ["cors"]
    assert "inline" not in query
    assert made()[1].keys() == {"temp_url_sig", "temp_url_expires", "filename"}


def test_long_filename() -> None:
    """A file name that is too long for a URL keeps its ending."""
    _, query = made(filename="ü" * 10_000 + ".png")
    assert query["filename"] == ["ü" * 196 + ".png"]


def test_secret_in_no_repr() -> None:
    """Neither a key nor a URL is in a repr."""
    signer = Signer(b"hunter2", "sha1", WINDOW)
    url = signer.url(STORAGE_URL, "media", NAME, NOW, filename="a")
    assert "hunter2" not in repr(signer) + repr(vars(url).keys())
    assert "temp_url_sig" not in repr(url)


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        (None, DIGESTS),
        ([], ()),
        (["sha1"], ("sha1",)),
        (["sha1", "sha256", "sha3"], ("sha256", "sha1")),
        (["md5"], ()),
    ],
)
def test_common_digests(allowed: list[str] | None, expected: tuple[str, ...]) -> None:
    """The strongest that both know comes first; all, if Swift does not say."""
    assert common_digests(allowed) == expected
