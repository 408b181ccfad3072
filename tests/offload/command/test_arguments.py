"""The order of arguments on the command line."""

from __future__ import annotations

import pytest

from swift_provider._version import __version__
from swift_provider.errors import ConfigError
from swift_provider.offload.command.arguments import parse, parser


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
        ("prune --max-share 2", "SHARE is a number from 0 to 1, such as 0.1, not 2"),
        ("upload --threadpool-size 0", "--threadpool-size: N must be a whole number between 1"),
        ("upload --storage-url swift.example", "--storage-url: URL must look like https://"),
        ("verify --container a/b", "--container: CONTAINER must be a container's name"),
        ("", "required: COMMAND"),
    ],
)
def test_mistakes(line: str, told: str) -> None:
    """A mistake is told."""
    with pytest.raises(ConfigError) as caught:
        parser().parse_args(line.split())
    assert told in str(caught.value)


def test_a_mistake_shows_the_usage_of_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Not that of the program, which names no option of the command."""
    with pytest.raises(ConfigError, match=r"swift_media_upload verify --help"):
        parser().parse_args(["verify", "--deeep"])
    assert capsys.readouterr().err.startswith("usage: swift_media_upload verify")


def test_the_container_as_an_option() -> None:
    """Beside a media store that is left out, CONTAINER alone would be taken for it."""
    found = parse(["upload", "--container", "box", "--delete"])
    assert (found.base_path, found.container) == (None, "box")
    assert parse(["prune", "box", "--container", "box"]).container == "box"
    with pytest.raises(ConfigError, match="two containers: box and --container other"):
        parse(["prune", "box", "--container", "other"])


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """--version names the program and its version."""
    with pytest.raises(SystemExit) as ended:
        parse(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"swift_media_upload {__version__}\n"


def test_offload() -> None:
    """The arguments of update and of upload."""
    found = parse(["offload", "2m", "--delete", "-q"])
    assert (found.base_path, found.duration, found.container) == (None, "2m", None)
    found = parse(["offload", "BASE", "2m", "CONTAINER"])
    assert (found.base_path, found.duration, found.container) == ("BASE", "2m", "CONTAINER")
