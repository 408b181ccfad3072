"""Fifty times killed at any moment, and nothing lost."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import time

from tests.offload.conftest import Objects, Script
from tests.offload.synapse_store import SynapseStore

FILES = 2500
KILLS = 50
#: Seconds after the start, at which little has happened yet, and after the first deletion.
EARLY = (0.2, 1.2)
AT_WORK = (0.0, 0.4)


def test_fifty_kills(offload: Script, store: SynapseStore, objects: Objects) -> None:
    """After each kill every file is whole on disk or whole in Swift; a last run completes."""
    draw = random.Random(50)
    contents = {}
    for number in range(FILES):
        content = draw.randbytes(draw.randrange(1, 2000))
        contents[store.add_local(f"{number:04d}media", content)] = content
    on_disk = FILES
    for kill in range(KILLS):
        job = ["update", store.base, "2m"] if kill % 10 == 0 else ["upload", store.base, "--delete"]
        running = offload.start(*job)
        if kill % 2:
            _wait_for_a_deletion(running, store, on_disk)
            time.sleep(draw.uniform(*AT_WORK))
        else:
            time.sleep(draw.uniform(*EARLY))
        running.kill()
        running.communicate()
        on_disk = _check_nothing_lost(store, objects, contents)
        if kill == 0:  # It may have ended before the cache had anything.
            assert offload("update", store.base, "2m").returncode == 0
    assert on_disk > 0, "the last kills had nothing to interrupt"
    assert offload("update", store.base, "2m").returncode == 0
    last = offload("upload", store.base, "--delete")
    assert last.returncode == 0, last.stdout
    assert _check_nothing_lost(store, objects, contents) == 0


def _wait_for_a_deletion(running: subprocess.Popen[str], store: SynapseStore, on_disk: int) -> None:
    # os.walk, unlike Path.rglob, does not mind folders that go while it looks.
    while sum(len(names) for _, _, names in os.walk(store.base)) == on_disk:
        assert running.poll() is None, running.communicate()
        time.sleep(0.01)


def _check_nothing_lost(store: SynapseStore, objects: Objects, contents: dict[str, bytes]) -> int:
    """:returns: how many files are on disk."""
    on_disk = store.files()
    assert on_disk <= set(contents)
    for path in on_disk:
        assert (store.base / path).read_bytes() == contents[path]
    in_swift = objects.md5s()
    for path in set(contents) - on_disk:
        assert in_swift[path] == hashlib.md5(contents[path]).hexdigest()
    return len(on_disk)
