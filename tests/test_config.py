"""The checks of options, and the helpers that other readers of configuration use."""

from __future__ import annotations

import pytest

from swift_provider.config import mapping, nearest, parse_settings
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
