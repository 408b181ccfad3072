"""The launchers themselves: each service really runs, errors are told, nothing stays behind."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg2
import pytest
import requests
import swiftclient
from keystoneauth1 import session
from keystoneauth1.identity import v3
from PIL import Image

from tests.servers import process
from tests.servers.fixtures import SMALL_MAX_FILE_SIZE, SMALL_REGION
from tests.servers.keystone import DOMAIN, REGION, Credentials, Keystone, running_keystone
from tests.servers.postgres import Postgres, running_postgres
from tests.servers.swift import Swift
from tests.servers.swift_account import Account, tempauth_token
from tests.servers.swift_config import POLICIES
from tests.servers.synapse import Synapse


def _connection(account: Credentials, region: str = REGION) -> swiftclient.Connection:
    return swiftclient.Connection(
        session=session.Session(v3.Password(**account.auth())), os_options={"region_name": region}
    )


def test_swift_with_keystone(swift: Swift, account: Credentials) -> None:
    """A user of Keystone finds Swift in the catalogue, stores an object and gets it back."""
    connection = _connection(account)
    connection.put_container("under-keystone")
    etag = connection.put_object("under-keystone", "a/b", b"content")
    assert etag == hashlib.md5(b"content").hexdigest()
    assert connection.get_object("under-keystone", "a/b")[1] == b"content"
    assert connection.url == swift.account_url(account.project_id)


def test_swift_with_tempauth(swift: Swift) -> None:
    """A user of TempAuth stores an object and gets it back, on the same Swift."""
    connection = swiftclient.Connection(
        swift.tempauth_url, swift.tempauth_user, swift.tempauth_key, auth_version="1"
    )
    connection.put_container("under-tempauth")
    connection.put_object("under-tempauth", "a/b", b"content")
    assert connection.get_object("under-tempauth", "a/b")[1] == b"content"


def test_swift_refuses_strangers(swift: Swift, account: Credentials) -> None:
    """No token, a wrong one, and the other sign-in's account all get 401 or 403."""
    url = swift.account_url(account.project_id)
    with process.local_session() as http:
        assert http.get(url).status_code == 401
        for token in ("wrong", "TEMP_tk00000000000000000000000000000000"):
            assert http.get(url, headers={"X-Auth-Token": token}).status_code == 401
    temp_token = swiftclient.get_auth(swift.tempauth_url, swift.tempauth_user, swift.tempauth_key)
    with process.local_session() as http:
        assert http.get(url, headers={"X-Auth-Token": temp_token[1]}).status_code == 403


def test_two_swifts_side_by_side(
    swift: Swift, second_swift: Swift, keystone: Keystone, account: Credentials
) -> None:
    """Each has its own accounts and sign-in: neither knows the other's tokens, users, objects."""
    token = keystone.token(account)
    one = Account(lambda: token, swift.account_url(account.project_id))
    other = second_swift.tempauth_account
    for which, content in ((one, b"one"), (other, b"other")):
        which.call("PUT", "side-by-side")
        which.call("PUT", "side-by-side", "name", data=content)
    assert one.content("side-by-side", "name") == b"one"
    assert other.content("side-by-side", "name") == b"other"
    one.lose("side-by-side", "name")
    assert one.content("side-by-side", "name") is None
    assert other.content("side-by-side", "name") == b"other"
    with pytest.raises(requests.HTTPError, match="401"):
        Account(lambda: token, f"{second_swift.url}/v1/TEMP_mirror").call("GET", "side-by-side")
    for there, asks in ((swift, second_swift), (second_swift, swift)):
        with pytest.raises(requests.HTTPError, match="401"):
            tempauth_token(there.tempauth_url, asks.tempauth_user, asks.tempauth_key)


def test_a_killed_swift_comes_back_with_its_objects(second_swift: Swift) -> None:
    """All its processes are gone meanwhile, and nobody listens."""
    account = second_swift.tempauth_account
    account.call("PUT", "kept")
    account.call("PUT", "kept", "name", data=b"content")
    pids = second_swift.pids
    with second_swift.down():
        assert len(pids) == 4
        assert not any(_alive(pid) for pid in pids)
        with pytest.raises(requests.ConnectionError):
            account.content("kept", "name")
    assert account.content("kept", "name") == b"content"
    assert not set(pids) & set(second_swift.pids)


@pytest.mark.parametrize("policy", POLICIES)
def test_storage_policies(swift: Swift, account: Credentials, policy: str) -> None:
    """A container of each policy holds objects."""
    connection = _connection(account)
    connection.put_container(f"policy-{policy}", headers={"X-Storage-Policy": policy})
    connection.put_object(f"policy-{policy}", "name", b"content")
    assert connection.head_container(f"policy-{policy}")["x-storage-policy"] == policy


def test_small_swift_needs_segments(small_swift: Swift, account: Credentials) -> None:
    """An object above the low limit is refused; as a static large object it is served whole."""
    connection = _connection(account, SMALL_REGION)
    connection.put_container("large")
    content = os.urandom(SMALL_MAX_FILE_SIZE + 1)
    with pytest.raises(swiftclient.ClientException) as refused:
        connection.put_object("large", "whole", content)
    assert refused.value.http_status == 413
    parts = [content[:SMALL_MAX_FILE_SIZE], content[SMALL_MAX_FILE_SIZE:]]
    manifest = []
    for number, part in enumerate(parts):
        connection.put_object("large", f"part-{number}", part)
        manifest.append({"path": f"/large/part-{number}", "size_bytes": len(part)})
    connection.put_object(
        "large", "slo", json.dumps(manifest), query_string="multipart-manifest=put"
    )
    assert connection.get_object("large", "slo")[1] == content


def test_application_credential(swift: Swift, keystone: Keystone, account: Credentials) -> None:
    """An application credential signs its owner in."""
    made, secret = keystone.create_application_credential(account, "of-a-test")
    plugin = v3.ApplicationCredential(
        account.auth_url, application_credential_id=made, application_credential_secret=secret
    )
    connection = swiftclient.Connection(
        session=session.Session(plugin), os_options={"region_name": REGION}
    )
    assert connection.get_account()[0]["x-account-container-count"]


def test_revoked_token(swift: Swift, keystone: Keystone, account: Credentials) -> None:
    """A token that was revoked before its first use is refused."""
    token = keystone.token(account)
    keystone.revoke(token)
    with process.local_session() as http:
        response = http.get(swift.account_url(account.project_id), headers={"X-Auth-Token": token})
    assert response.status_code == 401


def test_short_lived_tokens(tmp_path: Path) -> None:
    """A Keystone told to issue short-lived tokens refuses them soon."""
    with running_keystone(tmp_path, token_seconds=6) as keystone:
        account = keystone.create_account("short", "short", "only-on-loopback")
        token = {"X-Auth-Token": keystone.token(account)}
        url = f"{keystone.url}/auth/catalog"
        with process.local_session() as http:
            assert http.get(url, headers=token).status_code == 200
            assert _soon(lambda: http.get(url, headers=token).status_code == 401)


def test_clouds_yaml(clouds_yaml: Callable[..., Path], account: Credentials) -> None:
    """openstacksdk's own loader reads the file, for the named cloud."""
    from openstack.config import OpenStackConfig

    path = clouds_yaml(region=SMALL_REGION, verify=False)
    cloud = OpenStackConfig(config_files=[str(path)], load_envvars=False).get_one("matrix")
    assert cloud.region_name == SMALL_REGION
    assert cloud.config["verify"] is False
    assert cloud.config["auth"]["username"] == account.username
    assert cloud.config["auth"]["user_domain_id"] == DOMAIN
    assert path.stat().st_mode & 0o077 == 0


def test_postgres(postgres: Postgres) -> None:
    """A new database answers, with the encoding and collation that Synapse asks for."""
    connection = psycopg2.connect(**postgres.create_database("of_a_test"))
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_encoding_to_char(encoding), datcollate, datctype "
            "FROM pg_database WHERE datname = current_database()"
        )
        assert cursor.fetchone() == ("UTF8", "C", "C")
    connection.close()


def _image() -> bytes:
    png = io.BytesIO()
    Image.effect_noise((1024, 768), 64).convert("RGB").save(png, "PNG")
    return png.getvalue()


@pytest.mark.parametrize("on_postgres", [False, True])
def test_synapse(
    request: pytest.FixtureRequest, synapse: Callable[..., Synapse], on_postgres: bool
) -> None:
    """Media comes back as it was uploaded, also after a restart, on both databases."""
    options = {}
    if on_postgres:
        server: Postgres = request.getfixturevalue("postgres")
        options["database"] = server.create_database("synapse")
    homeserver = synapse(log_contexts=True, **options)
    client = homeserver.client(homeserver.register("alice"))
    content = _image()
    mxc = client.upload(content, "image/png")
    assert client.download(mxc) == content
    homeserver.restart()
    assert client.download(mxc) == content
    assert Image.open(io.BytesIO(client.thumbnail(mxc, 320, 240))).size == (320, 240)
    with pytest.raises(requests.HTTPError, match="M_NOT_FOUND"):
        client.download("mxc://localhost/NoSuchMedia")


def test_synapse_that_cannot_start(synapse: Callable[..., Synapse]) -> None:
    """A homeserver that refuses its configuration is reported in its own words."""
    with pytest.raises(process.ServiceError, match=r"(?s)synapse ended .*no_such_module"):
        synapse(media_storage_providers=[{"module": "no_such_module.Provider"}])


def test_missing_package_is_named() -> None:
    """The message says what is missing, and the command that installs it."""
    with pytest.raises(process.ServiceError, match=r"no_such_module.*pip install -e '\.\[test\]'"):
        process.require_package("no_such_module")


def test_free_ports_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """No port is given out twice, though nobody has bound it yet."""
    monkeypatch.setattr(process, "PORTS", range(19000, 19003))
    ports = {process.free_port() for _ in range(3)}
    with pytest.raises(process.ServiceError, match="no free port"):
        _ = [process.free_port() for _ in range(3)]
    assert len(ports) == 3


def test_processes_side_by_side_have_ports_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process of pytest-xdist chooses among others than the other process."""
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "2")
    chosen = []
    for worker in ("gw0", "gw1"):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)
        chosen += process.own_ports(range(19000, 19010))
    assert sorted(chosen) == list(range(19000, 19010))


def test_service_that_dies(tmp_path: Path) -> None:
    """The end of the log is part of the error, and its beginning is not."""
    code = "print('first'); [print('line') for _ in range(99)]; raise SystemExit('out of luck')"
    child = process.Process("short", [sys.executable, "-c", code], tmp_path)
    with pytest.raises(process.ServiceError, match=r"short ended with status 1") as error:
        child.wait_for_port(process.free_port())
    assert "out of luck" in str(error.value)
    assert "first" not in str(error.value)


def test_stubborn_service_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ignores SIGTERM is gone after stop() all the same, with its children."""
    monkeypatch.setattr(process, "STOP_SECONDS", 0.2)
    code = (
        "import signal, subprocess, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "child = subprocess.Popen(['sleep', '600']);"
        "print('ready', child.pid, flush=True); child.wait()"
    )
    child = process.Process("stubborn", [sys.executable, "-c", code], tmp_path)
    child.wait_until(lambda: "ready" in child.log.read_text(), "a sign of life")
    grandchild = int(child.log.read_text().split()[1])
    child.stop()
    assert not _alive(child.pid)
    assert _ends(grandchild)


def test_nothing_stays_after_stop() -> None:
    """When the block ends, the server's processes, port and files are gone."""
    with running_postgres() as server:
        connection = psycopg2.connect(**server.arguments("postgres"))  # stays open
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid(), current_setting('data_directory')")
            pid, folder = cursor.fetchone()
    assert _ends(pid)
    assert not Path(folder).exists()
    with pytest.raises(psycopg2.OperationalError):
        psycopg2.connect(**server.arguments("postgres"))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_services_end_with_their_parent(tmp_path: Path, how: signal.Signals) -> None:
    """However the process that started a service ends, the service ends as well."""
    code = (
        "import sys, time; from pathlib import Path; from tests.servers import process\n"
        "child = process.Process('child', ['sleep', '600'], Path(sys.argv[1]))\n"
        "with process.stopping(child): print(child.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path],
        env=process.child_environment({"PYTHONPATH": str(process.ROOT)}),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert _alive(child)
    parent.send_signal(how)
    parent.communicate()
    assert _ends(child)


def _alive(pid: int) -> bool:
    """Whether the process runs; one that only waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def _soon(condition: Callable[[], bool]) -> bool:
    """Other processes give no event to wait for: look again for up to 20 s."""
    deadline = time.monotonic() + 20
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _ends(pid: int) -> bool:
    return _soon(lambda: not _alive(pid))
