"""The order of arguments on the command line."""

from __future__ import annotations

import pytest

from swift_provider.errors import ConfigError
from swift_provider.offload.command.arguments import parser


@pytest.mark.parametrize(
    "line",
    [
        "upload BASE CONTAINER --delete --cache-db x",
        "upload BASE --delete CONTAINER --cache-db x",
        "upload --delete BASE CONTAINER --cache-db x",
        "upload --delete BASE --cache-db x CONTAINER",
        "--cache-db x upload BASE --delete CONTAINER",
        "upload --cache-db y --cache-db x BASE --delete -- CONTAINER",
        "upload --cache-db=x --delete -- BASE CONTAINER",
    ],
)
def test_options_stand_anywhere(line: str) -> None:
    """Options stand before positional arguments, between them, or after them."""
    found = parser().parse_args(line.split())
    assert (found.base_path, found.container) == ("BASE", "CONTAINER")
    assert (found.delete, found.cache_db, found.json) == (True, "x", False)


@pytest.mark.parametrize("command", ["verify", "restore", "upload"])
def test_options_of_swift_stand_anywhere(command: str) -> None:
    """The same for options with values."""
    line = [command, "--prefix", "p", "BASE", "--cloud", "c", "CONTAINER", "--json"]
    found = parser().parse_args(line)
    assert (found.base_path, found.container) == ("BASE", "CONTAINER")
    assert (found.prefix, found.cloud, found.json) == ("p", "c", True)


def test_what_may_be_left_out() -> None:
    """The media store and the container may be left out, also beside options."""
    found = parser().parse_args(["update", "--no-progress", "2m"])
    assert (found.base_path, found.duration) == (None, "2m")
    found = parser().parse_args(["update", "BASE", "--json", "2m"])
    assert (found.base_path, found.duration) == ("BASE", "2m")
    found = parser().parse_args(["upload", "--delete", "BASE"])
    assert (found.base_path, found.container) == ("BASE", None)
    found = parser().parse_args(["write", "--json"])
    assert found.out == "-"
    assert parser().parse_args(["prune", "--delete", "C"]).container == "C"
    files = ["--homeserver-config-path", "a", "--homeserver-config-path", "b"]
    assert parser().parse_args(["upload", *files]).homeserver_config_path == ["a", "b"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("upload BASE --delete CONTAINER another", "unrecognized arguments: another"),
        ("upload BASE --delet2 CONTAINER", "unrecognized arguments: --delet2"),
        ("update --json", "required: DURATION"),
        ("prune --max-share 2", "max-share"),
        ("", "required: COMMAND"),
    ],
)
def test_mistakes(line: str, told: str) -> None:
    """A mistake is told."""
    with pytest.raises(ConfigError) as caught:
        parser().parse_args(line.split())
    assert told in str(caught.value)
