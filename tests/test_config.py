"""What the options' checks say about values that cannot be."""

from __future__ import annotations

import pytest

from swift_provider.config import parse_settings
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
    """A number, a size or a switch that cannot be is quoted, next to what can be."""
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
    """A value that may hold a secret is not quoted."""
    with pytest.raises(ConfigError, match=rf"^config\.{option} must ") as caught:
        parse_settings({"container": "c", option: value})
    assert "hunter2" not in str(caught.value)
