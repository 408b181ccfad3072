"""``sync`` is killed at any moment: what it copied is whole, and the next run goes on."""

from __future__ import annotations

import hashlib
import random
import subprocess
import time

from swift_provider.config import MIB
from tests.offload.conftest import Objects
from tests.offload.jobs.test_sync import Mirrors, mirrors

__all__ = ["mirrors"]

FILES = 400
LARGE = 6
KILLS = 12


def test_twelve_kills(mirrors: Mirrors) -> None:
    """After each kill every object of the target is whole; a last run completes it."""
    draw = random.Random(12)
    contents = _fill(mirrors, draw)
    mirrors.configure(segment_size=MIB, threadpool_size=4)
    before = 0
    for kill in range(KILLS):
        running = mirrors.script.start("sync")
        if kill % 3:
            _wait_for_a_copy(running, mirrors.there, before)
            time.sleep(draw.uniform(0, 0.2))
        else:
            time.sleep(draw.uniform(0.2, 1.5))
        running.kill()
        running.communicate()
        before = _check_whole(mirrors.there, contents)
    assert 0 < before < len(contents), "the last kills had nothing to interrupt"
    # Swift may still have stored what it had received at the last kill.
    assert 0 < mirrors.sync()["copied"]["there"] <= len(contents) - before
    assert _check_whole(mirrors.there, contents) == len(contents)
    assert _check_whole(mirrors.here, contents) == len(contents)
    assert mirrors.sync()["already_there"] == len(contents)


def _fill(mirrors: Mirrors, draw: random.Random) -> dict[str, bytes]:
    sizes = [draw.randrange(1, 200_000) for _ in range(FILES)]
    sizes[:: FILES // LARGE] = [2 * MIB + number for number in range(len(sizes[:: FILES // LARGE]))]
    contents = {}
    for number, size in enumerate(sizes):
        content = draw.randbytes(size)
        contents[mirrors.store.add_local(f"{number:04d}media", content)] = content
    container = mirrors.here.container
    mirrors.script.configure(mirrors.store, cloud="matrix", container=container, segment_size=MIB)
    assert mirrors.script("update", mirrors.store.base, "2m").returncode == 0
    mirrors.script.json("upload", mirrors.store.base)
    return contents


def _wait_for_a_copy(running: subprocess.Popen[str], there: Objects, before: int) -> None:
    while len(there.names()) == before:
        assert running.poll() is None, running.communicate()
        time.sleep(0.01)


def _check_whole(objects: Objects, contents: dict[str, bytes]) -> int:
    """:returns: how many objects there are."""
    names = objects.names()
    assert names <= set(contents)
    listed = objects.md5s()
    for name in names:
        if listed[name] != hashlib.md5(contents[name]).hexdigest():  # that of a manifest
            assert objects[name] == contents[name]
    return len(names)
