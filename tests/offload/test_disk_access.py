"""Whether the script's user may do what a run needs, before the run begins."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from swift_provider.offload.disk import Expected
from swift_provider.offload.new_file import MediaStore, NewFile
from tests.servers import process

NOBODY = 65534
#: Runs the script as nobody, who may not be able to read the interpreter's own files.
_AS_NOBODY = f"""
import os, sys
from swift_provider.offload.command import inputs, local_commands, swift_commands
from swift_provider.offload.command.cli import main
os.setgroups([])
os.setgid({NOBODY})
os.setuid({NOBODY})
sys.exit(main(sys.argv[1:]))
"""
OWNER = 4321
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def base() -> Iterator[Path]:
    """A media store of another user, where nobody may read everything."""
    with TemporaryDirectory() as made:
        os.chmod(made, 0o755)
        media = Path(made) / "media"
        for folder in ("local_content/ab/cd", "local_thumbnails/ab/cd/ef"):
            (media / folder).mkdir(parents=True)
        (media / "local_content/ab/cd/ef").write_bytes(b"content")
        for one in (media, *media.rglob("*")):
            os.chown(one, OWNER, OWNER)
        yield media


def as_nobody(base: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script as the user nobody."""
    return subprocess.run(
        [sys.executable, "-c", _AS_NOBODY, *arguments],
        cwd="/",
        env=process.child_environment({"PYTHONPATH": str(process.ROOT)}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def owned(base: Path, what: str, folder: str) -> str:
    return (
        f"swift_media_upload: Cannot {what} {base}{folder}: owned by user {OWNER}, you are nobody. "
        f"Run as user {OWNER}\n"
    )


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_delete(base: Path, more: list[str]) -> None:
    """A dry run promises nothing that the run itself cannot do."""
    ended = as_nobody(base, "upload", str(base), "box", "--delete", *more)
    assert ended.returncode == 2
    assert owned(base, "delete in", "/local_content/ab/cd") in ended.stderr


def test_restore(base: Path) -> None:
    """Files cannot be written either."""
    ended = as_nobody(base, "restore", str(base), "box")
    assert ended.returncode == 2
    assert owned(base, "write in", "") in ended.stderr


@pytest.mark.parametrize(
    ("closed", "mode"), [("/local_content", 0o700), ("", 0o700), ("", 0o744), ("/..", 0o700)]
)
def test_unreadable(base: Path, closed: str, mode: int) -> None:
    """What cannot be read is not taken for a disk that is not mounted."""
    os.chown(f"{base}{closed}", OWNER, OWNER)
    os.chmod(f"{base}{closed}", mode)
    ended = as_nobody(base, "check-deleted", str(base))
    assert ended.returncode == 2
    assert f"owned by user {OWNER}, you are nobody. Run as user {OWNER}" in ended.stderr
    assert "mounted" not in ended.stderr


def test_root_restores_into_a_folder_of_root(base: Path) -> None:
    """Files get the owner of what is in it; if that is root too, it is said."""
    os.chown(base, 0, 0)
    store = MediaStore(str(base))
    assert store.complaint is None
    new = NewFile(store, Expected("local_content/aa/bb/cc", frozenset([1])))
    new.write(b"x")
    new.keep(keep_bad=False)
    new.close()
    assert (base / "local_content/aa/bb/cc").stat().st_uid == OWNER
    for folder in ("local_content", "local_thumbnails"):
        os.chown(base / folder, 0, 0)
    assert "chown -R USER:" in (MediaStore(str(base)).complaint or "")
