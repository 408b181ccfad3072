"""Synapse deletes media; the keepers of the disks remove what is left of them."""

from __future__ import annotations

import pytest

from tests.module import impatient_child
from tests.module.disk_place import MODULE, DiskPlace, Services, short_times
from tests.module.homeservers import media_path, there
from tests.module.test_media import picture

#: A file without a row goes after so long.
YOUNG_SECONDS = 5.0
LIFETIME_SECONDS = 15


def media_on_disks(place: DiskPlace) -> set[str]:
    """The names of all media that have a content or a thumbnail on any disk."""
    names = set()
    for disk in place.disks:
        for path, _ in disk.files():
            parts = path.removeprefix(f"{disk.media_store}/").split("/")
            names.add("".join(parts[1:4]))
    return names


def media_in_swift(place: DiskPlace) -> set[str]:
    return {"".join(name.split("/")[1:4]) for name in place.storage.names(place.container)}


@pytest.mark.alone
async def test_media_that_synapse_deletes(services: Services) -> None:
    """By an admin or by its retention: they leave all disks and Swift; other media stay."""
    times = short_times(DAY_SECONDS=3.0)
    times[f"{MODULE}.keeper_site"]["YOUNG_SECONDS"] = YOUNG_SECONDS
    times[f"{MODULE}.keeper_process"] = {"COMMAND": impatient_child.command(impatient_child.GRACE)}
    times["synapse.media.media_repository"]["MEDIA_RETENTION_CHECK_PERIOD"] = 1.0
    async with services.running(
        {"max_size": "1G", "prune": True},
        workers=2,
        times=times,
        dynamic_thumbnails=True,
        media_retention={"local_media_lifetime": f"{LIFETIME_SECONDS}s"},
    ) as place:
        first, second = (worker.client(place.token) for worker in place.workers)
        kept, doomed = {}, []
        for seed in range(8):
            content = picture(96, 96, seed=seed)
            uri = await there(first.upload, content, "image/png")
            await there(first.protect, uri)
            kept[uri] = content
        for seed in range(4):
            uri = await there(first.upload, picture(96, 96, seed=100 + seed), "image/png")
            doomed.append(uri)
        for uri in (*kept, *doomed):
            # To make a thumbnail, the second worker brings the content to its disk.
            await there(second.thumbnail, uri, 50, 50)
        gone = {uri.rsplit("/", 1)[1] for uri in doomed}
        files = {path for path, _ in place.disks[1].files()}
        assert {f"{place.disks[1].media_store}/{media_path(uri)}" for uri in doomed} <= files
        for uri in doomed[:2]:
            await there(first.delete, uri)

        def are_gone() -> bool:
            # The database of a homeserver that is in use is newer than what was deleted.
            first.download(next(iter(kept)))
            return not (media_on_disks(place) | media_in_swift(place)) & gone

        await there(place.wait, are_gone, "no files and objects of deleted media")
        known = {uri.rsplit("/", 1)[1] for uri in kept}
        assert media_on_disks(place) == known
        assert media_in_swift(place) == known
        for client in (first, second):
            for uri, content in kept.items():
                assert await there(client.download, uri) == content
    assert place.lines("of them unknown to Synapse")
    chores, other = (worker.log.read_text() for worker in place.workers)
    assert "objects from Swift" in chores
    assert "objects from Swift" not in other, "media_instance_running_background_jobs"
    place.check_logs()
