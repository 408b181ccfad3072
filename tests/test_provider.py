"""The module inside a real Synapse, with a real Swift behind it."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from uuid import uuid4

import pytest
from PIL import Image

from tests.servers.keystone import REGION, Credentials
from tests.servers.swift import Swift
from tests.servers.synapse import Synapse

MODULES = [
    "swift_provider.SwiftStorageProviderBackend",
    "swift_storage_provider.SwiftStorageProviderBackend",
]


def picture(width: int = 800, height: int = 600) -> bytes:
    """A PNG with something to see."""
    image = Image.linear_gradient("L").resize((width, height)).convert("RGB")
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def make_provider(swift: Swift, account: Credentials) -> Callable[..., dict[str, object]]:
    """An entry for ``media_storage_providers``, with a new container."""

    def make(module: str = MODULES[0], **options: object) -> dict[str, object]:
        return {
            "module": module,
            "store_local": True,
            "store_remote": True,
            "store_synchronous": True,
            "config": {
                "container": f"media-{uuid4().hex[:12]}",
                "create_container": True,
                "auth_type": "password",
                "auth": account.auth(),
                "region_name": REGION,
                **options,
            },
        }

    return make


@pytest.mark.parametrize("module", MODULES)
def test_media_survives_the_loss_of_the_disk(
    synapse: Callable[..., Synapse],
    make_provider: Callable[..., dict[str, object]],
    module: str,
) -> None:
    """What was uploaded comes back byte for byte after the media store was emptied."""
    homeserver = synapse(media_storage_providers=[make_provider(module)])
    client = homeserver.client(homeserver.register("alice"))
    contents = [b"", b"small", picture(), b"large" * 1_000_000]
    uris = [client.upload(content, "image/png") for content in contents]
    thumbnail = client.thumbnail(uris[2], 96, 96)
    shutil.rmtree(homeserver.media_store)
    homeserver.media_store.mkdir()
    assert [client.download(uri) for uri in uris] == contents
    assert client.thumbnail(uris[2], 96, 96) == thumbnail
    log = homeserver.log.read_text()
    assert " ERROR " not in log
    assert "Traceback" not in log
