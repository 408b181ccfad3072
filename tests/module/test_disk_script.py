"""``swift_media_upload`` beside a Synapse that keeps its disk within a budget."""

from __future__ import annotations

from typing import Any

from twisted.internet.threads import deferToThread

from swift_provider.keeper import load_state
from tests.module.disk_place import DiskPlace, Services
from tests.module.disk_samples import MIB
from tests.module.homeservers import there
from tests.offload.conftest import Script
from tests.servers.faults import Stall

MAX_SIZE = 2 * MIB


class Runs:
    """The keeper's runs that were refused as the script used the disk, by when they began."""

    def __init__(self, place: DiskPlace) -> None:
        self._store = str(place.disks[0].media_store)
        self.busy: set[float] = set()

    def _last(self) -> dict[str, Any] | None:
        state = load_state(self._store)
        return None if state is None else state.run

    def any(self) -> bool:
        """Whether any run has ended."""
        return self._last() is not None

    def look(self) -> int:
        """Note the last one: how many they are so far."""
        run = self._last()
        if run is not None and "busy" in run["report"]["troubles"]:
            self.busy.add(run["began"])
        return len(self.busy)


async def test_the_script_and_synapse(services: Services) -> None:
    """Synapse waits for ``upload``, and says so once; ``upload --delete`` is refused."""
    async with services.running({"max_size": MAX_SIZE}, workers=1) as place:
        (worker,), (disk,) = place.workers, place.disks
        script = Script(place.homeserver.folder)
        client = worker.client(place.token)
        await there(client.upload, b"the first")
        runs = Runs(place)
        await there(place.wait, runs.any, "the first run")
        for command in (("upload", "--delete"), ("restore",)):
            ended = await there(script, *command, disk.media_store)
            assert ended.returncode == 2
            assert f"local_disk, media1, process {worker.pid}" in ended.stderr
        stall = Stall(match=("HEAD", ""), times=1)
        place.proxy.add(stall)
        uploading = deferToThread(script, "upload", disk.media_store, "--all")
        await stall.happened()
        contents = {}
        for number in range(10):
            content = bytes([number]) * (MAX_SIZE // 8)
            contents[await there(client.upload, content)] = content
        await there(place.wait, lambda: runs.look() >= 3, "several runs that were refused")
        (busy,) = place.lines("INFO .*local_disk.* is using the media store")
        assert f"{disk.media_store} (process " in busy
        assert "'swift_media_upload upload' is using" in busy
        stall.release()
        ended = await uploading
        assert ended.returncode == 0, ended.stderr + ended.stdout
        await there(place.wait, lambda: disk.taken <= MAX_SIZE, "within the budget")
        ended = await there(script, "status", disk.media_store)
        assert ended.returncode == 0, ended.stderr + ended.stdout
        for command in (("upload", "--delete"), ("restore",)):
            ended = await there(script, *command, disk.media_store, "--dry-run")
            assert ended.returncode == 0, ended.stderr + ended.stdout
            assert "Without --dry-run: Synapse itself decides" in ended.stderr
        for uri, content in contents.items():
            assert await there(client.download, uri) == content
    place.check_logs()
