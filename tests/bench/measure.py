"""Runs a candidate as a child process and tells what that took."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.servers import process

TIMEOUT_SECONDS = 3600.0
_TAIL_CHARACTERS = 2000


class CandidateError(Exception):
    """A candidate failed, or its output is not what it must be: its result does not count."""


@dataclass(frozen=True)
class Usage:
    """What one run took; of the whole process with its children.

    :param cpu: user and system time, in seconds.
    :param peak_mb: largest resident set of any one of its processes.
    :param output: what it wrote to standard output.
    """

    wall: float
    cpu: float
    peak_mb: float
    output: str

    def sample(self) -> dict[str, float]:
        """As the metrics that most comparisons have."""
        return {"wall": self.wall, "cpu": self.cpu, "peak": self.peak_mb}


def run(
    command: Sequence[str | Path],
    folder: Path,
    env: Mapping[str, str] | None = None,
    *,
    stdin: bytes | None = None,
    timeout: float = TIMEOUT_SECONDS,
) -> Usage:
    """Run a command to its end.

    :param folder: its working directory.
    :param env: added to our environment, without the developer's own cloud.
    :param stdin: what it gets through a pipe, which stays open; ``None`` for no input.
        At most as long as the kernel's buffer of a pipe, 64 KiB.
    :raises CandidateError: if it fails or does not end; shows the end of what it wrote.
    """
    with tempfile.TemporaryDirectory(prefix="bench-run-") as scratch:
        result = Path(scratch, "result.json")
        words = [str(part) for part in command]
        runner = Path(__file__).with_name("runner.py")
        with (Path(scratch, "out")).open("w+b") as out, Path(scratch, "err").open("w+b") as err:
            child = subprocess.Popen(
                [sys.executable, "-I", "-S", str(runner), str(result), *words],
                cwd=folder,
                env=process.child_environment(env),
                stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
            try:
                if child.stdin is not None:
                    child.stdin.write(stdin or b"")
                    child.stdin.flush()
                # Unlike communicate(), this does not close the pipe.
                child.wait(timeout)
            except BaseException as error:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
                if isinstance(error, subprocess.TimeoutExpired):
                    raise CandidateError(f"{words[0]} took longer than {timeout:.0f} s") from None
                raise
            finally:
                if child.stdin is not None:
                    child.stdin.close()
        output = Path(scratch, "out").read_text(errors="replace")
        errors = Path(scratch, "err").read_text(errors="replace")
        used = json.loads(result.read_text())
    if used.pop("status"):
        said = "\n".join(dict.fromkeys((output + errors).splitlines()))
        raise CandidateError(f"{' '.join(words)[:200]} failed: {said[-_TAIL_CHARACTERS:]}")
    return Usage(**used, output=output)
