"""Several processes of one homeserver share a container."""

from __future__ import annotations

import re
from pathlib import Path
from uuid import uuid4

from tests.module.conftest import MakeEntry
from tests.module.homeservers import FORBIDDEN
from tests.module.test_media import picture
from tests.servers.postgres import Postgres
from tests.servers.redis import running_redis
from tests.servers.synapse_workers import running_with_media_workers


def test_media_workers_share_a_container(
    tmp_path: Path, entry: MakeEntry, postgres: Postgres
) -> None:
    """What one media worker stored, another, which has never seen it, serves from Swift."""
    mark = uuid4().hex[:8]
    names = ("media1", "media2")
    options = {
        "database": postgres.create_database("synapse"),
        "media_storage_providers": [entry(f"{mark}-workers")],
        "log_contexts": True,
    }
    with (
        running_redis(tmp_path / "redis") as port,
        running_with_media_workers(tmp_path / "synapse", names, port, **options) as running,
    ):
        homeserver, workers = running
        token = homeserver.register("alice")
        first, second = (worker.client(token) for worker in workers)
        for content in (b"small", picture(), b"large" * 500_000):
            uri = first.upload(content, "image/png")
            assert second.download(uri) == content
            assert first.download(uri) == content
        uri = second.upload(picture(seed=5), "image/png")
        assert first.thumbnail(uri, 96, 96) == second.thumbnail(uri, 96, 96)
    for worker in workers:
        log = worker.log.read_text()
        assert not [line for line in log.splitlines() if FORBIDDEN.search(line)]
        assert not re.search("swift_provider.* (ERROR|WARNING) ", log)
    assert "swift_provider" not in homeserver.log.read_text(), "only workers make a provider"
