"""The checks of options, and the helpers that other readers of configuration use."""

from __future__ import annotations

import pytest

from swift_provider.config import (
    GIB,
    LocalDiskSettings,
    RedirectSettings,
    mapping,
    nearest,
    parse_settings,
)
from swift_provider.errors import ConfigError


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("segment_size", "1.5G"),
        ("segment_size", "512K"),
        ("segment_size", 6 * 1024**3),
        ("create_container", "yes"),
        ("verify", 0),
        ("threadpool_size", 0),
        ("idle_timeout", "10s"),
        ("memory_cache", "100K"),
        ("memory_cache", "5G"),
        ("memory_cache", False),
        ("memory_cache", -1),
    ],
)
def test_a_bad_value_is_shown(option: str, value: object) -> None:
    """The message quotes a wrong number, size or switch, and says what is right."""
    with pytest.raises(ConfigError, match=rf"^config\.{option} must be .*, not {value!r}$"):
        parse_settings({"container": "c", option: value})


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("auth", "hunter2"),
        ("auth_type", ["hunter2"]),
        ("key", {"pem": "hunter2"}),
        ("storage_url", "https://user:hunter2@swift.example.org/v1/a"),
        ("create_container", {"password": "hunter2", "username": "synapse"}),
    ],
)
def test_what_may_be_a_secret_is_not_shown(option: str, value: object) -> None:
    """The message does not quote a value that may hold a secret."""
    with pytest.raises(ConfigError, match=rf"^config\.{option} must ") as caught:
        parse_settings({"container": "c", option: value})
    assert "hunter2" not in str(caught.value)


def test_an_option_of_local_disk() -> None:
    """The message says where it belongs."""
    with pytest.raises(ConfigError, match=r"is an option of local_disk: config\.local_disk\.max"):
        parse_settings({"container": "c", "max_size": "50G"})
    mirror = {"container": "c", "cloud": "b", "max_size": "50G"}
    with pytest.raises(ConfigError, match=r"mirrors\[0\]\.max_size is not an option of a mirror"):
        parse_settings({"container": "c", "mirrors": [mirror]})


def test_redirect() -> None:
    """The options of redirect are read, with their units."""
    options = {"key_path": "/k", "above": "1M", "window": "30m", "base_url": "https://m.example/"}
    redirect = parse_settings({"container": "c", "redirect": options}).redirect
    assert redirect == RedirectSettings(None, "/k", 1024**2, 1800, "https://m.example")
    redirect = parse_settings({"container": "c", "redirect": {"key": "k"}}).redirect
    assert redirect == RedirectSettings("k", None, 256 * 1024, 6 * 3600, None)
    assert parse_settings({"container": "c"}).redirect is None


def test_local_disk() -> None:
    """The options of local_disk are read, with their units."""
    options = {"max_size": "50G", "min_free": "5%", "older_than": "30d", "prune": True}
    disk = parse_settings({"container": "c", "local_disk": options}).local_disk
    assert disk == LocalDiskSettings(50 * GIB, 0.05, 30 * 86400, True)
    disk = parse_settings({"container": "c", "local_disk": {"min_free": "10G"}}).local_disk
    assert disk == LocalDiskSettings(min_free=10 * GIB)
    assert parse_settings({"container": "c"}).local_disk is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("50G", r"local_disk must hold options such as 'max_size: 50G'"),
        ({}, r"local_disk has nothing to do"),
        ({"prune": False}, r"local_disk has nothing to do"),
        ({"maxsize": 1}, r"local_disk\.maxsize is not an option; did you mean 'max_size'\?"),
        ({"max_size": "50%"}, r"local_disk\.max_size must be a size .*, not '50%'$"),
        ({"min_free": "100%"}, r"local_disk\.min_free must be above 0% and below 100%"),
        ({"min_free": "ten"}, r"local_disk\.min_free must be a size such as 10G, or a share"),
        ({"older_than": "2m"}, r"local_disk\.older_than must be a time such as 30d .*, not '2m'$"),
        ({"older_than": "0d"}, r"local_disk\.older_than must be a time"),
        ({"prune": "yes"}, r"local_disk\.prune must be true or false"),
    ],
)
def test_a_mistake_in_local_disk_is_named(options: object, said: str) -> None:
    """The message names the option, and the remedy."""
    with pytest.raises(ConfigError, match=rf"^config\.{said}"):
        parse_settings({"container": "c", "local_disk": options})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            "hunter2",
            r"redirect must hold options such as 'key_path: FILE', not a value of type str",
        ),
        ({"keypath": "x"}, r"redirect\.keypath is not an option; did you mean 'key_path'\?"),
        ({}, r"redirect needs either"),
        ({"key": "hunter2", "key_path": "/k"}, r"redirect needs either"),
        ({"key": "hunter2\nb\nc"}, r"redirect\.key must be one or two keys"),
        ({"key": ["hunter2"]}, r"redirect\.key must be text"),
        ({"key": "\ufeffhunter2"}, r"redirect\.key has a character that cannot be seen"),
        ({"key": "hunter2\xa0\nb"}, r"redirect\.key has a character that cannot be seen"),
        ({"key": "k", "above": "much"}, r"redirect\.above must be a size"),
        ({"key": "k", "window": "1m"}, r"redirect\.window must be a time .*, not '1m'"),
        ({"key": "k", "window": "8d"}, r"redirect\.window must be a time"),
        ({"key": "k", "base_url": "https://m.example/x"}, r"redirect\.base_url must look like"),
        ({"key": "k", "base_url": "https://u:hunter2@m.example"}, r"redirect\.base_url must look"),
    ],
)
def test_bad_redirect(options: object, said: str) -> None:
    """Each mistake is named in full, and a value that may be a secret is not shown."""
    with pytest.raises(ConfigError, match=rf"^config\.{said}") as caught:
        parse_settings({"container": "c", "redirect": options})
    assert "hunter2" not in str(caught.value)


HOSTS = [
    "[::1",
    "[]",
    "[::1]x",
    "h:abc",
    "h:99999",
    "h:0",
    "h:",
    "-",
    "a..b",
    ".",
    "a" * 64 + ".org",
]


@pytest.mark.parametrize("host", HOSTS)
def test_host_that_cannot_be(host: str) -> None:
    """A host or port that no server can have is refused at start."""
    redirect = {"key": "k", "base_url": f"https://{host}"}
    with pytest.raises(ConfigError, match=r"^config\.redirect\.base_url must look like"):
        parse_settings({"container": "c", "redirect": redirect})
    with pytest.raises(ConfigError, match=r"^config\.storage_url must look like"):
        parse_settings({"container": "c", "storage_url": f"https://{host}/v1/a"})


@pytest.mark.parametrize("host", ["h", "a-b.c_d.example.", "127.0.0.1:8080", "[::1]", "[::1]:443"])
def test_host_that_can_be(host: str) -> None:
    """Names, addresses and ports as they are."""
    redirect = {"key": "k", "base_url": f"https://{host}/"}
    options = {"container": "c", "redirect": redirect, "storage_url": f"https://{host}/v1/a"}
    settings = parse_settings(options)
    assert settings.redirect is not None
    assert settings.redirect.base_url == f"https://{host}"
    assert settings.storage_url == f"https://{host}/v1/a"


def test_redirect_key_is_not_shown() -> None:
    """The key is not in the repr of the settings."""
    settings = parse_settings({"container": "c", "redirect": {"key": "hunter2"}})
    assert "above" in repr(settings)
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(
    ("value", "expected"), [(None, 32 << 20), (0, 0), ("0", 0), ("1M", 1 << 20), ("4G", 4 << 30)]
)
def test_memory_cache(value: object, expected: int) -> None:
    """Its size may be 0; without the option it is 32 MiB."""
    assert parse_settings({"container": "c", "memory_cache": value}).memory_cache == expected


@pytest.mark.parametrize(
    ("word", "cutoff", "expected"),
    [
        ("containr", 0.6, "container"),
        ("contain", 0.95, None),
        ("xyz", 0.6, None),
        ("", 0.6, None),
    ],
)
def test_nearest(word: str, cutoff: float, expected: str | None) -> None:
    """A misspelt word leads to the most similar one, if any is similar enough."""
    assert nearest(word, iter(["container", "cloud"]), cutoff) == expected


@pytest.mark.parametrize(("value", "expected"), [(None, {}), ({}, {}), ({"a": 1}, {"a": 1})])
def test_mapping(value: object, expected: dict[str, int]) -> None:
    """An empty section is an empty mapping."""
    assert mapping(value, "database") == expected


@pytest.mark.parametrize(("value", "kind"), [("hunter2", "str"), (["hunter2"], "list"), (0, "int")])
def test_not_a_mapping(value: object, kind: str) -> None:
    """The message has the section and the type, but not the value."""
    with pytest.raises(ConfigError) as caught:
        mapping(value, "database in x.yaml")
    assert str(caught.value) == f"database in x.yaml must hold 'key: value' lines, not a {kind}"


def test_mirrors() -> None:
    """Each mirror has options of its own, with the defaults of an entry."""
    mirror = {"cloud": "b", "container": "m", "region_name": "r", "segment_size": "2M"}
    settings = parse_settings({"cloud": "a", "container": "c", "mirrors": [mirror]})
    first, second = settings.members
    assert (first.container, first.mirrors, second.container) == ("c", (), "m")
    assert (second.segment_container, second.threadpool_size) == ("m_segments", 40)
    assert [member.label for member in settings.members] == ["a", "b"]


@pytest.mark.parametrize(
    ("mirror", "message"),
    [
        ("b", r"^config\.mirrors\[0\] must hold options such as 'container: NAME'"),
        ({"cloud": "b"}, r"^config\.mirrors\[0\]\.container is required"),
        ({"container": "c", "clod": "b"}, r"mirrors\[0\]\.clod is not an option; .*'cloud'"),
        ({"container": "c", "redirect": {}}, r"mirrors\[0\]\.redirect is not an option of a mir"),
        ({"container": "c", "cloud": "a"}, r"^config\.mirrors\[0\] leads to the same objects"),
        ({"container": "d", "cloud": "a"}, r"both be called 'a'.* \(config\.mirrors\[0\]\.name\)"),
        ({"container": "d", "cloud": "a", "name": "a b"}, r"mirrors\[0\]\.name must be a short"),
    ],
)
def test_a_bad_mirror(mirror: object, message: str) -> None:
    """The message names the mirror, and what is wrong with it."""
    with pytest.raises(ConfigError, match=message):
        parse_settings({"cloud": "a", "container": "c", "mirrors": [mirror]})


@pytest.mark.parametrize(
    ("first", "second", "refused"),
    [
        ("", "remote_content/", True),
        ("local_thumbnails/", "", True),
        ("", "local_content/more", True),
        ("ours", "ours/remote_thumbnail", True),
        ("ours", "remote_content/", False),
        ("", "remote", False),
        ("", "local_content_2/", False),
    ],
)
def test_a_prefix_that_is_a_folder_of_media(first: str, second: str, refused: bool) -> None:
    """What is below it looks like media of the place without it, and prune would delete it."""
    mirror = {"name": "b", "container": "c", "prefix": second}
    options = {"name": "a", "container": "c", "prefix": first, "mirrors": [mirror]}
    parse_settings({**options, "container": "d"})
    if refused:
        with pytest.raises(ConfigError, match=r"folder of Synapse's media in .*another prefix"):
            parse_settings(options)
    else:
        parse_settings(options)


def test_mirrors_must_be_a_list() -> None:
    """A mapping in place of the list is refused."""
    with pytest.raises(ConfigError, match=r"^config\.mirrors must be a list of places"):
        parse_settings({"container": "c", "mirrors": {"container": "d"}})
