"""A disk that is full: Swift was unreachable for too long."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.module.disk_place import REFUSED, Services
from tests.module.disk_samples import MIB
from tests.module.homeservers import OUTAGE, there
from tests.servers.faults import Answer

SIZE = 24 * MIB
MIN_FREE = 8 * MIB


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system in memory, which only root may mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "small-disk", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        why = getattr(error, "stderr", "") or error
        pytest.skip(f"no disk can be full in this test, because only root may mount one: {why}")
    try:
        yield folder
    finally:
        # A server that was killed just now may still hold a file.
        subprocess.run(["umount", "--lazy", folder], check=True)


def free(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


async def test_a_full_disk(services: Services, small_disk: Path) -> None:
    """Uploads fail with Synapse's own error; once Swift is back there is room at once."""
    async with services.running(
        {"min_free": MIN_FREE}, workers=1, waits=False, stores=[small_disk / "media_store"]
    ) as place:
        client = place.workers[0].client(place.token)
        random_ = random.Random(3)
        contents = {}

        def upload() -> None:
            content = random_.randbytes(MIB)
            contents[client.upload(content)] = content

        await there(upload)
        place.proxy.add(Answer(**OUTAGE))

        def fill() -> None:
            for _ in range(2 * SIZE // MIB):
                upload()

        with pytest.raises(requests.HTTPError) as full:
            await there(fill)
        assert full.value.response.status_code == 500
        assert full.value.response.json()["errcode"] == "M_UNKNOWN"
        assert free(small_disk) < MIB
        await there(
            place.wait, lambda: place.lines("over its budget"), "a warning that says how far"
        )
        with pytest.raises(requests.HTTPError):
            await there(upload)
        place.proxy.clear()
        await there(place.wait, lambda: free(small_disk) >= MIN_FREE, "enough free space")
        for _ in range(12):
            await there(upload)
            await there(place.wait, lambda: free(small_disk) >= 2 * MIB, "room for more")
        for uri, content in contents.items():
            assert await there(client.download, uri) == content
    # A second one says so if the disk comes over its budget during the outage.
    assert len(place.lines("The next run tries again")) in (1, 2)
    place.check_logs(REFUSED, "ERROR .* Failed handle request via 'UploadServlet'")
