"""The checks of options, and the helpers that other readers of configuration use."""

from __future__ import annotations

import pytest

from swift_provider.config import RedirectSettings, mapping, nearest, parse_settings
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


def test_redirect() -> None:
    """The options of redirect are read, with their units."""
    options = {"key_path": "/k", "above": "1M", "window": "30m", "base_url": "https://m.example/"}
    redirect = parse_settings({"container": "c", "redirect": options}).redirect
    assert redirect == RedirectSettings(None, "/k", 1024**2, 1800, "https://m.example")
    redirect = parse_settings({"container": "c", "redirect": {"key": "k"}}).redirect
    assert redirect == RedirectSettings("k", None, 256 * 1024, 6 * 3600, None)
    assert parse_settings({"container": "c"}).redirect is None


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
