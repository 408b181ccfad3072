"""The demo as a person runs it: it ends well, and it can be stopped."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.servers import process


@pytest.fixture
def demo() -> Iterator[subprocess.Popen[str]]:
    """As a shell without job control starts it in the background: SIGINT is ignored at first."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.servers.demo", "--keep-running"],
        cwd=process.ROOT,
        env=process.child_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    yield child
    child.kill()
    child.communicate()


def _read_until(demo: subprocess.Popen[str], line: str) -> str:
    assert demo.stdout is not None
    seen = ""
    for text in demo.stdout:
        seen += text
        if text.startswith(line):
            return seen
    raise AssertionError(f"the demo ended without the line {line!r}:\n{seen}")


@pytest.mark.parametrize(("how", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_demo(demo: subprocess.Popen[str], how: signal.Signals, status: int) -> None:
    """Everything comes back; with --keep-running the servers stay up until a signal, then go."""
    seen = _read_until(demo, "Logs and files: ")
    assert "\nAll is well: " in seen
    assert re.search(r"local_disk, container matrix-media: looked at .* removed [1-9]", seen)
    assert "Limits: max_size 20.0 MiB" in seen
    assert "Nowhere: 0" in seen
    folder = Path(seen.splitlines()[-1].removeprefix("Logs and files: "))
    urls = re.findall(r"^   (http://\S+)$", seen, re.MULTILINE)
    assert len(urls) == 3
    with process.local_session() as http:
        for url in urls:
            http.get(url, timeout=30)
        demo.send_signal(how)
        demo.communicate(timeout=60)
        assert demo.returncode == status
        for url in urls:
            with pytest.raises(requests.ConnectionError):
                http.get(url, timeout=30)
    assert not folder.exists()


def test_demo_stopped_early(demo: subprocess.Popen[str]) -> None:
    """Ctrl-C while the servers start is no success, and takes down what was started."""
    seen = _read_until(demo, "2. ")
    (keystone,) = re.findall(r"^   (http://\S+)$", seen, re.MULTILINE)
    demo.send_signal(signal.SIGINT)
    demo.communicate(timeout=60)
    assert demo.returncode == 130
    with process.local_session() as http, pytest.raises(requests.ConnectionError):
        http.get(keystone, timeout=30)


def test_help_installs_nothing() -> None:
    """Whoever asks what the demo does has not decided to run it; no Python is needed."""
    script = str(process.ROOT / "scripts" / "demo")
    env = process.child_environment({"PYTHON": "no-such-python"})
    answer = subprocess.run(
        [script, "--help"], env=env, capture_output=True, text=True, check=False
    )
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "--keep-running" in answer.stdout
