"""A one-node Swift: proxy, account, container and object server on loopback ports.

Signs in by TempAuth, and by Keystone as well if one is given. Accounts of the
two are apart: Keystone's begin with ``AUTH_``, TempAuth's with ``TEMP_``.
Deployment guide: https://docs.openstack.org/swift/latest/deployment_guide.html
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.servers import process
from tests.servers.keystone import REGION, Keystone

#: The first is the default.
POLICIES = ("gold", "silver")

DEVICE = "d1"

#: Swift's own default: 5 GiB and 2 bytes.
MAX_FILE_SIZE = 5 * 1024**3 + 2

_SWIFT_CONF = """\
[swift-hash]
swift_hash_path_suffix = loopback
[storage-policy:0]
name = {policies[0]}
default = yes
[storage-policy:1]
name = {policies[1]}
[swift-constraints]
max_file_size = {max_file_size}
"""

# Without a syslog socket at log_address, requests are logged to our log file only.
_COMMON = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
disable_fallocate = true
log_address = {folder}/no-syslog
"""

_STORAGE = """\
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""

_PROXY = """\
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck proxy-logging cache listing_formats bulk tempurl \
{auth} copy slo dlo versioned_writes symlink proxy-logging proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:cache]
paste.filter_factory = tests.servers.swift_cache:filter_factory
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_object_versioning = true
[filter:tempauth]
use = egg:swift#tempauth
reseller_prefix = TEMP
user_test_tester = testing .admin
"""

#: Filters that need no settings.
_PLAIN_FILTERS = (
    *("catch_errors", "gatekeeper", "healthcheck", "listing_formats", "bulk"),
    *("tempurl", "copy", "slo", "dlo", "symlink"),
)

_KEYSTONE_FILTERS = """\
[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
auth_type = password
auth_url = {auth[auth_url]}
username = {auth[username]}
password = {auth[password]}
project_name = {auth[project_name]}
user_domain_id = {auth[user_domain_id]}
project_domain_id = {auth[project_domain_id]}
www_authenticate_uri = {auth[auth_url]}
delay_auth_decision = true
service_token_roles_required = true
cache = swift.cache
token_cache_time = {token_cache_seconds}
[filter:keystoneauth]
use = egg:swift#keystoneauth
operator_roles = member
"""


@dataclass(frozen=True)
class Swift:
    """A running Swift; made by :func:`running_swift`."""

    #: The proxy, as ``http://127.0.0.1:8080``.
    url: str
    #: Where it stands in Keystone's catalogue.
    region: str
    #: Configuration, rings, logs; the objects are below ``devices``.
    folder: Path

    tempauth_user = "test:tester"
    tempauth_key = "testing"

    @property
    def tempauth_url(self) -> str:
        return f"{self.url}/auth/v1.0"

    def account_url(self, project_id: str) -> str:
        """The storage URL of a project of Keystone."""
        return f"{self.url}/v1/AUTH_{project_id}"


@contextlib.contextmanager
def running_swift(
    folder: Path,
    keystone: Keystone | None = None,
    *,
    region: str = REGION,
    max_file_size: int = MAX_FILE_SIZE,
    token_cache_seconds: int = 300,
    s3_api: bool = False,
) -> Iterator[Swift]:
    """Start the four servers, and stop them at the end of the block.

    :param keystone: signs users in, and gets an endpoint in its catalogue.
    :param max_file_size: larger objects are refused (413), in bytes.
    :param token_cache_seconds: how long a token is believed without asking
        Keystone again; -1 means never.
    :param s3_api: speak S3 as well, with TempAuth's users: access key
        ``tempauth_user``, secret ``tempauth_key``.
    :raises ServiceError: if one of them cannot start.
    """
    process.require_package("swift")
    process.require_package("keystonemiddleware")
    devices = folder / "devices" / DEVICE
    devices.mkdir(parents=True)
    _require_xattrs(devices)
    ports = {kind: process.free_port() for kind in ("account", "container", "object", "proxy")}
    url = f"http://{process.LOOPBACK}:{ports['proxy']}"
    (folder / "swift.conf").write_text(
        _SWIFT_CONF.format(policies=POLICIES, max_file_size=max_file_size)
    )
    _make_rings(folder, ports)
    service_auth = None if keystone is None else _register(keystone, url, region)
    with contextlib.ExitStack() as stack:
        children = []
        for kind, port in ports.items():
            extra = (
                _proxy_config(service_auth, token_cache_seconds, s3_api)
                if kind == "proxy"
                else _STORAGE.format(kind=kind)
            )
            child = _start_server(kind, folder, port, extra)
            children.append((stack.enter_context(process.stopping(child)), port))
        for child, port in children:
            child.wait_for_port(port)
        yield Swift(url, region, folder)


def _start_server(kind: str, folder: Path, port: int, config: str) -> process.Process:
    path = folder / f"{kind}-server.conf"
    path.touch(mode=0o600)
    user = pwd.getpwuid(os.geteuid()).pw_name
    path.write_text(_COMMON.format(port=port, folder=folder, user=user) + config)
    return process.Process(
        f"swift-{kind}",
        [sys.executable, "-m", "tests.servers.swift_server", kind, folder],
        folder,
        env={"PYTHONPATH": str(process.ROOT)},
    )


def _require_xattrs(folder: Path) -> None:
    try:
        os.setxattr(folder, "user.swift.metadata", b"")
    except OSError as error:
        raise process.ServiceError(
            f"Swift keeps metadata in extended attributes, and the filesystem of {folder} has "
            "none; choose a folder on ext4, xfs or btrfs with: export TMPDIR=/path/to/folder"
        ) from error


def _make_rings(folder: Path, ports: dict[str, int]) -> None:
    rings = {"account": "account", "container": "container", "object": "object"}
    rings.update({f"object-{index}": "object" for index in range(1, len(POLICIES))})
    command = [sys.executable, "-m", "tests.servers.swift_rings", folder, DEVICE]
    command += [f"{ring}={ports[kind]}" for ring, kind in rings.items()]
    process.run("swift-rings", command, folder, env={"PYTHONPATH": str(process.ROOT)})


def _register(keystone: Keystone, url: str, region: str) -> dict[str, str]:
    """Put Swift into the catalogue, and make the user as which it checks tokens."""
    for interface in ("public", "internal"):
        keystone.create_endpoint("object-store", f"{url}/v1/AUTH_%(project_id)s", region, interface)
    name = f"swift-service-{secrets.token_hex(4)}"
    return keystone.create_account(name, name, secrets.token_hex(16), role="admin").auth()


def _proxy_config(
    service_auth: dict[str, str] | None, token_cache_seconds: int, s3_api: bool
) -> str:
    # TempAuth comes last: it leaves alone what Keystone has let in, while
    # keystoneauth would overrule what TempAuth has let in.
    auth = "tempauth" if service_auth is None else "authtoken keystoneauth tempauth"
    config = _PROXY.format(auth=f"s3api {auth}" if s3_api else auth)
    if s3_api:
        config += "[filter:s3api]\nuse = egg:swift#s3api\nauth_pipeline_check = false\n"
    for name in _PLAIN_FILTERS:
        config += f"[filter:{name}]\nuse = egg:swift#{name}\n"
    config += "[filter:proxy-logging]\nuse = egg:swift#proxy_logging\n"
    if service_auth is not None:
        config += _KEYSTONE_FILTERS.format(
            auth=service_auth, token_cache_seconds=token_cache_seconds
        )
    return config
