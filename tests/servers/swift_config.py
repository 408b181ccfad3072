"""The configuration files of a one-node Swift.

Deployment guide: https://docs.openstack.org/swift/latest/deployment_guide.html
"""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

#: The first is the default.
POLICIES = ("gold", "silver")

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

# A busy machine must not look like a broken Swift. Nothing here updates a listing later, or
# has another replica to go to.
_PATIENCE = """\
conn_timeout = 30
node_timeout = 60
"""

_STORAGE = """\
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
container_update_timeout = 60
"""

_PROXY = """\
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck proxy-logging cache listing_formats bulk tempurl \
{auth} copy slo dlo versioned_writes symlink proxy-logging proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
error_suppression_limit = 1000000
{patience}[filter:cache]
paste.filter_factory = tests.servers.swift_cache:filter_factory
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_object_versioning = true
[filter:tempauth]
use = egg:swift#tempauth
reseller_prefix = TEMP
user_{user} = {key} .admin
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
class ProxyOptions:
    """What the proxy server is to be able to do.

    :param tempauth_user: ``account:user``.
    :param service_auth: the user as which it checks Keystone's tokens; ``None`` without Keystone.
    :param token_cache_seconds: how long a token of Keystone's is believed without asking again.
    :param s3_api: whether it speaks S3 as well.
    """

    tempauth_user: str
    tempauth_key: str
    service_auth: dict[str, str] | None
    token_cache_seconds: int
    s3_api: bool


def write_swift_conf(folder: Path, max_file_size: int) -> None:
    """What all servers read, beside the rings."""
    (folder / "swift.conf").write_text(
        _SWIFT_CONF.format(policies=POLICIES, max_file_size=max_file_size)
    )


def write_server_conf(folder: Path, kind: str, port: int, options: ProxyOptions) -> None:
    """The file of one server; it may have secrets in it."""
    path = folder / f"{kind}-server.conf"
    path.touch(mode=0o600)
    user = pwd.getpwuid(os.geteuid()).pw_name
    common = _COMMON.format(port=port, folder=folder, user=user)
    if kind == "proxy":
        path.write_text(common + _proxy_config(options))
    else:
        path.write_text(common + _STORAGE.format(kind=kind) + _PATIENCE)


def _proxy_config(options: ProxyOptions) -> str:
    # TempAuth comes last: it leaves alone what Keystone has let in, while
    # keystoneauth would overrule what TempAuth has let in.
    auth = "tempauth" if options.service_auth is None else "authtoken keystoneauth tempauth"
    config = _PROXY.format(
        patience=_PATIENCE,
        auth=f"s3api {auth}" if options.s3_api else auth,
        user=options.tempauth_user.replace(":", "_"),
        key=options.tempauth_key,
    )
    if options.s3_api:
        config += "[filter:s3api]\nuse = egg:swift#s3api\nauth_pipeline_check = false\n"
    for name in _PLAIN_FILTERS:
        config += f"[filter:{name}]\nuse = egg:swift#{name}\n"
    config += "[filter:proxy-logging]\nuse = egg:swift#proxy_logging\n"
    if options.service_auth is not None:
        config += _KEYSTONE_FILTERS.format(
            auth=options.service_auth, token_cache_seconds=options.token_cache_seconds
        )
    return config
