"""Keystone on SQLite, on a loopback port, and what a test wants to change in it.

The prepared database and keys are made once per Python environment and copied
from there. API: https://docs.openstack.org/api-ref/identity/v3/
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import yaml

from tests.servers import process

REGION = "RegionOne"
DOMAIN = "default"
ADMIN_PASSWORD = "only-on-loopback"

_CONFIG = """\
[DEFAULT]
use_stderr = true
[database]
connection = sqlite:///{folder}/keystone.db
[fernet_tokens]
key_repository = {folder}/fernet-keys
[fernet_receipts]
key_repository = {folder}/fernet-keys
[credential]
key_repository = {folder}/credential-keys
[token]
expiration = {token_seconds}
allow_expired_window = 0
[cache]
# In this one process. Without it, each sign-in and each check of a token by Swift takes
# some 50 queries to SQLite: 40 ms, in place of 7 and 2.
enabled = true
backend = dogpile.cache.memory
[identity]
# The default of 12 rounds takes 0.3 s for each sign-in.
password_hash_rounds = 4
"""


@dataclass(frozen=True)
class Credentials:
    """A user of one project, in the ways in which clients want to be told."""

    auth_url: str
    username: str
    password: str
    user_id: str
    project_name: str
    project_id: str

    def auth(self) -> dict[str, str]:
        """The ``auth`` section of a cloud in ``clouds.yaml``."""
        return {
            "auth_url": self.auth_url,
            "username": self.username,
            "password": self.password,
            "project_name": self.project_name,
            "user_domain_id": DOMAIN,
            "project_domain_id": DOMAIN,
        }

    def write_clouds_yaml(
        self, path: Path, *, cloud: str = "matrix", region: str = REGION, **options: object
    ) -> Path:
        """Write a ``clouds.yaml`` with this one cloud.

        :param options: further keys of the cloud, such as ``verify``; they win over ours.
        :returns: the path, for ``OS_CLIENT_CONFIG_FILE``.
        """
        entry = {"auth": self.auth(), "region_name": region, **options}
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump({"clouds": {cloud: entry}}))
        return path

    def environment(self, region: str = REGION) -> dict[str, str]:
        """The ``OS_*`` variables for OpenStack's command line tools."""
        variables = {f"OS_{key.upper()}": value for key, value in self.auth().items()}
        return {**variables, "OS_REGION_NAME": region, "OS_IDENTITY_API_VERSION": "3"}


class Keystone:
    """A running Keystone; made by :func:`running_keystone`.

    Regions, domains, projects, users and roles are made here through the API,
    as the administrator. Names are unique per Keystone: choose a new one each time.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = process.local_session()

    def create_domain(self, name: str) -> str:
        """:returns: the new domain's id."""
        return self.post("domains", "domain", name=name)["id"]

    def create_project(self, name: str, domain_id: str = DOMAIN) -> str:
        """:returns: the new project's id."""
        return self.post("projects", "project", name=name, domain_id=domain_id)["id"]

    def create_user(self, name: str, password: str, domain_id: str = DOMAIN) -> str:
        """:returns: the new user's id."""
        user = self.post("users", "user", name=name, password=password, domain_id=domain_id)
        return user["id"]

    def grant(self, role: str, user_id: str, project_id: str) -> None:
        """Give a user a role (``member``, ``admin``, ``reader``…) on a project."""
        (found,) = self.call("GET", f"roles?name={role}").json()["roles"]
        self.call("PUT", f"projects/{project_id}/users/{user_id}/roles/{found['id']}")

    def create_account(
        self, project: str, username: str, password: str, role: str = "member"
    ) -> Credentials:
        """A new project and a new user with that role on it, both in the default domain."""
        project_id = self.create_project(project)
        user_id = self.create_user(username, password)
        self.grant(role, user_id, project_id)
        return Credentials(self.url, username, password, user_id, project, project_id)

    def create_application_credential(self, owner: Credentials, name: str) -> tuple[str, str]:
        """:returns: id and secret."""
        made = self.post(
            f"users/{owner.user_id}/application_credentials",
            "application_credential",
            token=self.token(owner),
            name=name,
        )
        return made["id"], made["secret"]

    def create_region(self, name: str) -> None:
        """Make a region unless it is there."""
        self.call("PUT", f"regions/{name}", json={"region": {}}, accept=(409,))

    def create_endpoint(
        self, service_type: str, url: str, region: str = REGION, interface: str = "public"
    ) -> str:
        """Put an endpoint into the catalogue; region and service are made if absent.

        :param url: may contain ``%(project_id)s``.
        :returns: the endpoint's id.
        """
        self.create_region(region)
        found = self.call("GET", f"services?type={service_type}").json()["services"]
        service = found[0] if found else self.post("services", "service", type=service_type)
        endpoint = self.post(
            "endpoints",
            "endpoint",
            service_id=service["id"],
            url=url,
            region_id=region,
            interface=interface,
        )
        return endpoint["id"]

    def token(self, account: Credentials | None = None) -> str:
        """A new token for an account; ``None`` means the administrator."""
        username, password, project = (
            ("admin", ADMIN_PASSWORD, "admin")
            if account is None
            else (account.username, account.password, account.project_name)
        )
        domain = {"id": DOMAIN}
        user = {"name": username, "password": password, "domain": domain}
        body = {
            "auth": {
                "identity": {"methods": ["password"], "password": {"user": user}},
                "scope": {"project": {"name": project, "domain": domain}},
            }
        }
        response = self._session.post(f"{self.url}/auth/tokens", json=body, timeout=30)
        response.raise_for_status()
        return response.headers["X-Subject-Token"]

    def revoke(self, token: str) -> None:
        """Make a token invalid. Swift believes its cache for ``token_cache_seconds`` more."""
        self.call("DELETE", "auth/tokens", headers={"X-Subject-Token": token})

    def post(self, path: str, kind: str, *, token: str | None = None, **values: Any) -> Any:
        """Create something.

        :returns: what was made, as Keystone describes it.
        """
        return self.call("POST", path, token=token, json={kind: values}).json()[kind]

    def call(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        headers: dict[str, str] | None = None,
        json: object = None,
        accept: tuple[int, ...] = (),
    ) -> requests.Response:
        """Any request of the API, as the administrator unless a token is given.

        :param accept: statuses from 400 up that are all right.
        :raises requests.HTTPError: for any other such status.
        """
        response = self._session.request(
            method,
            f"{self.url}/{path}",
            headers={"X-Auth-Token": token or self.token(), **(headers or {})},
            json=json,
            timeout=30,
        )
        if response.status_code not in accept:
            response.raise_for_status()
        return response


@contextlib.contextmanager
def running_keystone(folder: Path, *, token_seconds: int = 3600) -> Iterator[Keystone]:
    """Start Keystone, and stop it at the end of the block.

    :param folder: for its files; made if absent.
    :param token_seconds: how long a token is valid.
    :raises ServiceError: if it cannot start.
    """
    process.require_package("keystone")
    _copy_prepared(folder)
    config = _write_config(folder, token_seconds)
    port = process.free_port()
    url = f"http://{process.LOOPBACK}:{port}/v3"
    child = process.Process(
        "keystone",
        [process.PYTHON, "-m", "tests.servers.keystone_wsgi", str(port)],
        folder,
        env={"OS_KEYSTONE_CONFIG_FILES": str(config), "PYTHONPATH": str(process.ROOT)},
    )
    with process.stopping(child):
        child.wait_for_url(url)
        keystone = Keystone(url)
        for interface in ("public", "internal"):
            keystone.create_endpoint("identity", url, interface=interface)
        yield keystone


def _write_config(folder: Path, token_seconds: int) -> Path:
    path = folder / "keystone.conf"
    path.write_text(_CONFIG.format(folder=folder, token_seconds=token_seconds))
    return path


def _copy_prepared(folder: Path) -> None:
    ask = "import sys, importlib.metadata as m; print(sys.prefix, m.version('keystone'), sep='\\n')"
    answer = subprocess.run([process.PYTHON, "-c", ask], capture_output=True, text=True, check=True)
    prefix, version = answer.stdout.splitlines()
    prepared = Path(prefix, "var", f"keystone-{version}")
    if not prepared.exists():
        prepared.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=prepared.parent) as scratch:
            work = Path(scratch, "keystone")
            _prepare(work)
            # Another run may have been faster; its result is as good.
            with contextlib.suppress(OSError):
                work.rename(prepared)
    shutil.copytree(prepared, folder, dirs_exist_ok=True)


def _prepare(folder: Path) -> None:
    folder.mkdir()
    config = _write_config(folder, token_seconds=3600)
    owner = ["--keystone-user", str(os.geteuid()), "--keystone-group", str(os.getegid())]
    for arguments in (
        ["db_sync"],
        ["fernet_setup", *owner],
        ["credential_setup", *owner],
        ["bootstrap", "--bootstrap-password", ADMIN_PASSWORD, "--bootstrap-region-id", REGION],
    ):
        command = [*process.script("keystone-manage"), "--config-file", config, *arguments]
        process.run("keystone-manage", command, folder)
