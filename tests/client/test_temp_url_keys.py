"""Where the keys of temporary URLs come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from swift_provider.client.temp_url_keys import read_keys
from swift_provider.config import RedirectSettings
from swift_provider.errors import ConfigError


def test_key_in_the_configuration() -> None:
    """One key, or two lines, the first of which signs."""
    assert read_keys(RedirectSettings(key="one"), "c") == (b"one",)
    assert read_keys(RedirectSettings(key="one\ntwo\n"), "c") == (b"one", b"two")
    assert read_keys(RedirectSettings(key="schl\u00fcssel"), "c") == ("schl\u00fcssel".encode(),)


@pytest.mark.parametrize("content", ["one\ntwo\n", "one\r\n\r\ntwo", "  one\ntwo"])
def test_key_in_a_file(tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str) -> None:
    """Line ends and spaces around a key are not part of it; a private file needs no warning."""
    path = tmp_path / "key"
    path.touch(0o640)
    path.write_text(content)
    assert read_keys(RedirectSettings(key_path=str(path)), "c") == (b"one", b"two")
    assert caplog.text == ""


def test_everybody_can_read_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that all users can read works, with a warning that has the remedy."""
    path = tmp_path / "key"
    path.write_text("hunter2")
    path.chmod(0o644)
    assert read_keys(RedirectSettings(key_path=str(path)), "c.redirect") == (b"hunter2",)
    assert f"chmod o= {path}" in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot read .*: No such file"),
        ("", "is empty"),
        (" \n\n", "is empty"),
        ("\nhunter2\n", "the first line of .* is empty"),
        ("\ufeffhunter2\n", "cannot be seen"),
        ("hunter2\0", "cannot be seen"),
        ("hunter2\xa0\n", "cannot be seen"),
        ("hunter2\rb", "cannot be seen"),
        ("hunter2\n".encode("utf-16"), "cannot be seen"),
        ("hunter2\n".encode("utf-16-be"), "cannot be seen"),
        ("hunter2\nb\nc", "one or two keys"),
        ("hunter2 b", "one or two keys"),
        ("hunter2" * 1000, "one or two keys"),
    ],
    ids=[
        *(
            "missing",
            "empty",
            "blank",
            "blank first",
            "bom",
            "nul",
            "nbsp",
            "cr",
            "utf16",
            "utf16be",
        ),
        *("three", "spaces", "long"),
    ],
)
def test_bad_file(tmp_path: Path, content: str | bytes | None, said: str) -> None:
    """The error names the option, the file and the remedy, and shows none of the content."""
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ConfigError, match=rf"^c\.redirect\.key_path: .*{said}") as caught:
        read_keys(RedirectSettings(key_path=str(path)), "c.redirect")
    assert str(path) in str(caught.value)
    assert "hunter2" not in str(caught.value)
