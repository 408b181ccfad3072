"""Where the demo happens: Keystone, Swift, and Synapse with our module, in one folder."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.servers.keystone import Credentials, Keystone, running_keystone
from tests.servers.narration import detail, step
from tests.servers.swift import Swift, running_swift
from tests.servers.synapse import Synapse, running

CONTAINER = "matrix-media"
CLOUD = "matrix"
USER = "alice"
PASSWORD = "only-on-loopback"

#: What media may take on Synapse's disk; the same as an option of the module.
BUDGET_BYTES, MAX_SIZE = 20 << 20, "20M"

PROVIDER = {
    "module": "swift_provider.SwiftStorageProviderBackend",
    "store_local": True,
    "store_remote": True,
    "store_synchronous": True,
    "config": {
        "cloud": CLOUD,
        "container": CONTAINER,
        "create_container": True,
        "local_disk": {"max_size": MAX_SIZE},
    },
}


@dataclass(frozen=True)
class Place:
    """Everything that runs, and the folder it runs in."""

    folder: Path
    clouds_yaml: Path
    keystone: Keystone
    #: Synapse's own user in OpenStack.
    account: Credentials
    swift: Swift
    synapse: Synapse
    #: Access token of the Matrix user.
    token: str


@contextlib.contextmanager
def everything_running() -> Iterator[Place]:
    """Start all servers; at the end of the block they and their files are gone.

    :raises ServiceError: if one cannot start.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="swift-demo-")))
        step("Starting Keystone, where OpenStack's users sign in")
        keystone = stack.enter_context(running_keystone(folder / "keystone"))
        detail(keystone.url)
        account = keystone.create_account("matrix", "synapse", PASSWORD)
        clouds_yaml = account.write_clouds_yaml(folder / "clouds.yaml", cloud=CLOUD)
        step("Starting Swift, OpenStack's object storage")
        swift = stack.enter_context(running_swift(folder / "swift", keystone))
        detail(swift.url)
        step("Starting Synapse, configured to keep its media in Swift, and few on its disk")
        synapse = Synapse(
            folder / "synapse",
            media_storage_providers=[PROVIDER],
            env={"OS_CLIENT_CONFIG_FILE": str(clouds_yaml)},
        )
        stack.enter_context(running(synapse))
        detail(synapse.url)
        detail(f"local_disk: {{max_size: {MAX_SIZE}}}")
        token = synapse.register(USER, PASSWORD)
        yield Place(folder, clouds_yaml, keystone, account, swift, synapse, token)
