"""``check`` names the cause of what goes wrong in life, with a remedy."""

from __future__ import annotations

import secrets
import signal
import sqlite3
import threading
import time
from contextlib import closing
from email.utils import formatdate
from pathlib import Path

import pytest

from tests.offload.checks.conftest import _QUICK, Checked
from tests.offload.checks.front import Answer, Front, running_front
from tests.offload.conftest import Objects
from tests.offload.mirrors import closed_url, silent_url
from tests.servers import process
from tests.servers.keystone import Credentials, Keystone
from tests.servers.swift import Swift
from tests.servers.swift_account import Account
from tests.servers.tls import make_ca


def user_of(keystone: Keystone, checked: Checked) -> Credentials:
    """A user of another project; ``checked`` signs in as that user."""
    name = f"check-{secrets.token_hex(4)}"
    made = keystone.create_account(name, name, "another-secret")
    checked.clouds_yaml(auth=made.auth())
    return made


def account_of(keystone: Keystone, swift: Swift, account: Credentials) -> Account:
    return Account(lambda: keystone.token(account), swift.account_url(account.project_id))


# Files


def test_no_homeserver_yaml(checked: Checked) -> None:
    """The remedy names the option."""
    (checked.script.folder / "homeserver.yaml").unlink()
    ended = checked.script("check")
    assert ended.returncode == 2
    assert ended.stdout.startswith(
        "wrong   homeserver.yaml: there is none in this folder: give --homeserver-config-path"
    )


def test_a_homeserver_yaml_that_is_not_there(checked: Checked) -> None:
    """It is named."""
    line = checked.wrong(2, "--homeserver-config-path", "/no/homeserver.yaml")
    assert line.startswith(
        "wrong   homeserver.yaml: cannot read /no/homeserver.yaml: No such file or directory"
    )


def test_no_server_name(checked: Checked) -> None:
    """With Debian's package it is in another file."""
    del checked.homeserver["server_name"]
    line = checked.wrong(2)
    assert line.startswith("wrong   homeserver.yaml: no server_name in homeserver.yaml: give the")


def test_a_wrong_option(checked: Checked) -> None:
    """The option is named; database and disk are checked all the same."""
    checked.config["contaner"] = "x"
    lines = checked.run(2)
    assert lines[1] == (
        "wrong   options: media_storage_providers[0].config.contaner is not an option; did you "
        "mean 'container'?"
    )
    assert checked.subjects(lines)[2:] == ["database", "media store", "disk space"]


def test_a_wrong_key_beside_config(checked: Checked) -> None:
    """Synapse would ignore it, and store nothing."""
    checked.entry = {"store_locl": True, "store_remotes": True}
    lines = checked.run(2)
    where = "media_storage_providers[0]"
    assert lines[2:4] == [
        f"wrong   options: {where}.store_locl is not an option; did you mean 'store_local'?",
        f"wrong   options: {where}.store_remotes is not an option; did you mean 'store_remote'?",
    ]
    assert lines[4].startswith(f"note    options: {where}: store_local and store_remote are both")


@pytest.mark.parametrize(
    ("option", "whose"), [("store_local", "its own users"), ("store_remote", "other servers")]
)
def test_half_of_the_media(checked: Checked, option: str, whose: str) -> None:
    """It may be meant, so it is not wrong."""
    del checked.entry[option]
    lines = checked.run(0)
    (note,) = [line for line in lines if line.startswith("note ")]
    assert f"{option} is false" in note
    assert whose in note


def test_no_entry(checked: Checked) -> None:
    """The module's name is said."""
    checked.config = {}
    checked.write()
    path = checked.script.folder / "homeserver.yaml"
    path.write_text(path.read_text().replace("swift_provider.", "s3_provider."))
    ended = checked.script("check")
    assert ended.returncode == 2
    assert "no entry whose module is swift_provider.SwiftStorageProviderBackend" in ended.stdout


def test_clouds_yaml_that_cannot_be_read(checked: Checked) -> None:
    """Its path and the reason are said."""
    path = checked.script.folder / "clouds.yaml"
    path.mkdir()
    checked.script.environment["OS_CLIENT_CONFIG_FILE"] = str(path)
    line = checked.wrong(2)
    assert line.startswith("wrong   cloud: ")
    assert f"{path} cannot be read: Is a directory" in line


def test_an_unknown_cloud(checked: Checked) -> None:
    """The nearest name is offered."""
    checked.config["cloud"] = "matrx"
    line = checked.wrong(2)
    assert line.startswith("wrong   cloud: ")
    assert "matrx" in line
    assert "'matrix'" in line


@pytest.mark.parametrize("option", ["cacert", "cert"])
def test_a_certificate_file_that_is_not_there(checked: Checked, option: str) -> None:
    """The option is named."""
    checked.config[option] = "/no/such.pem"
    line = checked.wrong(2)
    assert line.startswith(f"wrong   cloud: {option}: cannot read /no/such.pem: No such file")


# Sign-in


def test_a_wrong_password(checked: Checked, account: Credentials) -> None:
    """Keystone's refusal is shown, without the password."""
    wrong = "not-the-pass-word"
    checked.clouds_yaml(auth={**account.auth(), "password": wrong})
    line = checked.wrong(3)
    assert line.startswith(f"wrong   sign-in: Keystone at {account.auth_url} refuses the cloud")
    assert "HTTP 401" in line
    assert wrong not in line


def test_a_wrong_port(checked: Checked, account: Credentials) -> None:
    """Nothing listens there."""
    url = f"http://{process.LOOPBACK}:{process.free_port()}/v3"
    checked.clouds_yaml(auth={**account.auth(), "auth_url": url})
    line = checked.wrong(3)
    assert line.startswith(f"wrong   sign-in: Keystone at {url} cannot be reached")
    assert "auth_url" in line


def test_a_web_page_for_keystone(checked: Checked, account: Credentials) -> None:
    """Something else answers at auth_url."""
    with running_front(None) as page:
        checked.clouds_yaml(auth={**account.auth(), "auth_url": f"{page.url}/v3"})
        line = checked.wrong(3)
    assert line.startswith("wrong   sign-in: ")
    assert page.url in line


def test_no_project(checked: Checked, account: Credentials) -> None:
    """Then the token has no catalogue."""
    auth = {key: value for key, value in account.auth().items() if "project" not in key}
    checked.clouds_yaml(auth=auth)
    line = checked.wrong(3)
    assert line.startswith("wrong   sign-in: the token for the cloud 'matrix' comes without a")
    assert "auth.project_name" in line


def test_several_regions(checked: Checked, small_swift: Swift) -> None:
    """They are listed."""
    checked.clouds_yaml(region="")
    line = checked.wrong(3)
    assert line.startswith("wrong   sign-in: the cloud 'matrix' has Swift in several regions: set")
    assert small_swift.region in line


def test_an_unknown_region(checked: Checked) -> None:
    """Those that there are are listed."""
    checked.config["region_name"] = "Nowhere"
    line = checked.wrong(3)
    assert line.startswith("wrong   sign-in: the cloud 'matrix' has no Swift in the region")
    assert "RegionOne" in line


def test_keystone_is_silent(checked: Checked, account: Credentials) -> None:
    """It ends all the same, and says so."""
    with silent_url() as url:
        checked.clouds_yaml(auth={**account.auth(), "auth_url": url})
        line = checked.wrong(3)
    assert line.startswith("wrong   sign-in: ")


# Swift


def test_an_unknown_authority(checked: Checked, swift: Swift, tmp_path: Path) -> None:
    """The remedy is cacert."""
    with running_front(swift.url, make_ca(tmp_path / "ca")) as tls:
        checked.config["storage_url"] = f"{tls.url}/v1/AUTH_{checked.account.project_id}"
        line = checked.wrong(3)
        assert line.startswith("wrong   TLS: ")
        assert "its certificate is not trusted" in line
        assert "'cacert'" in line
        checked.config["cacert"] = str(tmp_path / "ca" / "ca.pem")
        (found,) = (one for one in checked.run(0) if "TLS: " in one)
    assert found.endswith("is trusted")


def test_swift_is_silent(checked: Checked) -> None:
    """It ends all the same, and says so once."""
    with silent_url() as url:
        checked.config["storage_url"] = url
        line = checked.wrong(3)
    assert line.startswith(f"wrong   container: Swift at {url} cannot be used: HEAD ")


def test_a_slow_swift(checked: Checked, front: Front) -> None:
    """All steps together have a limit; what did not begin leaves nothing to remove."""
    front.hold = lambda method, path: time.sleep(3.5)
    line = checked.wrong(3)
    assert line.startswith("wrong   write: not tried, because the steps before took 10 seconds")
    assert not any(".swift_provider" in path for _, path in front.seen)


def test_no_container(checked: Checked) -> None:
    """The name is said, and how to make it. Nothing else is said of it."""
    checked.config["container"] = "no-such"
    line = checked.wrong(3)
    assert line.startswith("wrong   container: HEAD no-such: there is no container 'no-such' here")


def test_a_container_that_synapse_makes(checked: Checked) -> None:
    """It may be missing."""
    checked.config.update(container="no-such", create_container=True)
    lines = checked.run(0)
    assert any(line.startswith("note    container: no-such does not exist yet") for line in lines)


def test_a_container_of_another_project(checked: Checked, keystone: Keystone, swift: Swift) -> None:
    """One line says that access is denied; it is not tried right by right."""
    user_of(keystone, checked)
    checked.config["storage_url"] = swift.account_url(checked.account.project_id)
    line = checked.wrong(3)
    assert line.startswith(
        "wrong   container: this user may neither look at the container nor write to it: give it "
        "a role or an ACL; or correct container, project or storage_url"
    )
    assert "HTTP 403" in line


def test_a_user_that_may_only_read(checked: Checked, keystone: Keystone, swift: Swift) -> None:
    """The right is named."""
    owner = account_of(keystone, swift, checked.account)
    user = user_of(keystone, checked)
    acl = {"X-Container-Read": f"{user.project_id}:{user.user_id}"}
    owner.call("POST", checked.objects.container, headers=acl)
    checked.config["storage_url"] = swift.account_url(checked.account.project_id)
    line = checked.wrong(3)
    assert line.startswith("wrong   write: this user may not write: give it a role, or an ACL")
    assert "HTTP 403" in line


def test_a_user_that_may_not_list(checked: Checked, keystone: Keystone, swift: Swift) -> None:
    """The right is named; the test object is removed, though the user may not look."""
    owner = account_of(keystone, swift, checked.account)
    user = user_of(keystone, checked)
    acl = {"X-Container-Write": f"{user.project_id}:{user.user_id}", "X-Container-Read": ".r:*"}
    owner.call("POST", checked.objects.container, headers=acl)
    checked.config["storage_url"] = swift.account_url(checked.account.project_id)
    line = checked.wrong(3)
    assert line.startswith("wrong   list: this user may not list: give it a role, or an ACL")
    assert owner.names(checked.objects.container) == set()


def test_a_user_that_may_not_read(checked: Checked, keystone: Keystone, swift: Swift) -> None:
    """The test object is removed without a look at it."""
    owner = account_of(keystone, swift, checked.account)
    user = user_of(keystone, checked)
    acl = {"X-Container-Write": f"{user.project_id}:{user.user_id}"}
    owner.call("POST", checked.objects.container, headers=acl)
    checked.config["storage_url"] = swift.account_url(checked.account.project_id)
    wrong = [line for line in checked.run(3) if line.startswith("wrong   ")]
    assert wrong[0].startswith("wrong   read: this user may not read: ")
    assert wrong[1].startswith("wrong   list: this user may not list: ")
    assert len(wrong) == 2
    assert owner.names(checked.objects.container) == set()


def test_a_storage_url_without_account(checked: Checked, swift: Swift) -> None:
    """It is the container that cannot be found there."""
    checked.config["storage_url"] = f"{swift.url}/v1"
    line = checked.wrong(3)
    assert line.startswith("wrong   container: storage_url names no account: write it to the end")


def test_a_container_with_versions(checked: Checked) -> None:
    """What is deleted stays, which is a note: it may be meant."""
    checked.objects.keep_versions()
    (line,) = (one for one in checked.run(0) if one.startswith("note    versions"))
    assert checked.objects.versions() == []
    assert line.startswith(
        f"note    versions: {checked.objects.container} keeps old versions, so what is deleted "
        "stays"
    )


def test_where_synapse_only_reads(checked: Checked, front: Front) -> None:
    """Nothing is written there, and no right to write is needed."""

    def only_read(answer: Answer) -> None:
        if answer.method in ("PUT", "DELETE"):
            answer.status = 403

    front.change = only_read
    assert checked.wrong(3).startswith("wrong   write: this user may not write")
    checked.entry.update(store_local=False, store_remote=False)
    lines = checked.run(0)
    container = checked.objects.container
    rights = f"read and list were tried in {container}, where Synapse stores nothing"
    assert f"ok      rights: {rights}" in lines
    assert f"ok      segments: {container}_segments does not exist" in lines


def test_a_check_that_fails_by_itself(checked: Checked) -> None:
    """The other findings are shown all the same."""
    checked.write()
    code = f"""
from swift_provider.offload.command import check_command
def fail(*arguments):
    raise KeyError("a fault of the program")
check_command.check_database = fail
{_QUICK}"""
    ended = checked.script.run([*checked.script.command()[:1], "-c", code])
    assert ended.returncode == 2
    assert "wrong   database: this check failed by itself (KeyError): report it" in ended.stdout
    assert "ok      disk space: " in ended.stdout
    assert "a fault of the program" in ended.stderr


def test_a_quota_that_is_used_up(checked: Checked, keystone: Keystone, swift: Swift) -> None:
    """The quota is named, and writing is not tried."""
    owner = account_of(keystone, swift, checked.account)
    headers = {"X-Container-Meta-Quota-Bytes": "0"}
    owner.call("POST", checked.objects.container, headers=headers)
    line = checked.wrong(3)
    assert line == (
        "wrong   quota: the quota of the container (0 bytes) is used up: remove something, or "
        "have it raised"
    )


def test_a_quota_with_room(checked: Checked, keystone: Keystone, swift: Swift) -> None:
    """What is left is said."""
    owner = account_of(keystone, swift, checked.account)
    headers = {"X-Container-Meta-Quota-Bytes": str(2**20)}
    owner.call("POST", checked.objects.container, headers=headers)
    assert "ok      quota: 1.0 MiB of the container's 1.0 MiB are left" in checked.run(0)


def test_no_static_large_objects(checked: Checked, front: Front) -> None:
    """It is wrong if Synapse takes files that Swift cannot store."""

    def without_slo(answer: Answer) -> None:
        if answer.path == "/info":
            answer.body = answer.body.replace(b'"slo"', b'"other"')

    front.change = without_slo
    checked.homeserver["max_upload_size"] = "6G"
    assert checked.wrong(2) == (
        "wrong   large files: this Swift has no static large objects (slo), so files above 5.0 GiB "
        "cannot be stored, and max_upload_size is 6.0 GiB: lower it, or ask the cluster's "
        "operators for slo"
    )
    checked.homeserver["max_upload_size"] = "50M"
    assert any(line.startswith("note    large files: this Swift") for line in checked.run(0))


def test_the_older_option_beside_ours(checked: Checked) -> None:
    """Synapse takes only one of the two."""
    checked.homeserver["backup_media_store_path"] = "/srv/backup"
    assert "remove backup_media_store_path" in checked.wrong(2)


def test_no_disk_to_keep(checked: Checked) -> None:
    """local_disk without local media."""
    checked.homeserver["enable_local_media_storage"] = False
    checked.entry["store_synchronous"] = True
    checked.config["local_disk"] = {"max_size": "1G"}
    assert checked.wrong(2).endswith("there is no disk to keep: remove local_disk")


def test_local_disk_twice(checked: Checked) -> None:
    """Two entries cannot keep one disk."""
    checked.config["local_disk"] = {"max_size": "1G"}
    write = checked.write
    checked.write = lambda: write({**checked.config, "prefix": "other"})  # type: ignore[method-assign]
    assert checked.wrong(2) == "wrong   options: local_disk is in 2 entries: leave it in one"


def test_a_key_that_cannot_be_read_before_the_container_is_there(checked: Checked) -> None:
    """Synapse would not start, so it would not create the container."""
    checked.config |= {
        "container": f"{checked.objects.container}-new",
        "create_container": True,
        "redirect": {"key_path": "/no/such-key"},
    }
    assert "redirect.key_path: cannot read /no/such-key: No such file" in checked.wrong(2)


def test_a_wrong_clock(checked: Checked, front: Front) -> None:
    """How far it is off, and in which direction."""

    def ten_minutes_ahead(answer: Answer) -> None:
        answer.headers["Date"] = formatdate(time.time() + 600, usegmt=True)

    front.change = ten_minutes_ahead
    (line,) = (one for one in checked.run(0) if one.startswith("note    clock"))
    assert line.startswith("note    clock: this machine's clock is ")
    assert " seconds behind Swift's: set the one that is wrong (timedatectl" in line


def test_objects_that_expire(checked: Checked, front: Front) -> None:
    """Swift would delete the media."""

    def expires(answer: Answer) -> None:
        if answer.method == "HEAD" and ".swift_provider" in answer.path:
            answer.headers["X-Delete-At"] = "4102444800"

    front.change = expires
    line = checked.wrong(3)
    assert line.startswith("wrong   expiry: a new object is not kept: Swift will delete it")


def test_a_test_object_that_cannot_be_removed(checked: Checked, front: Front) -> None:
    """It is named, with the command."""

    def refuse(answer: Answer) -> None:
        if answer.method == "DELETE":
            answer.status = 403

    front.change = refuse
    line = checked.wrong(3)
    container = checked.objects.container
    assert line.startswith(
        "wrong   delete: the test object could not be removed, so remove it: "
        f"swift delete {container} .swift_provider/check-"
    )


def test_a_redirect_without_a_key_in_swift(checked: Checked, swift: Swift) -> None:
    """The command that sets the key is given; the key is not shown."""
    key = checked.script.folder / "key"
    key.write_text("a-key-that-nobody-knows\n")
    key.chmod(0o600)
    checked.config["redirect"] = {"key_path": str(key), "base_url": swift.url}
    line = checked.wrong(2)
    assert line.startswith("wrong   redirect: key: Swift refuses a URL that is signed with this")
    assert "swift post -m" in line
    assert "nobody" not in line
    checked.config["redirect"]["key_path"] = "/no/such-key"
    line = checked.wrong(2)
    assert "redirect.key_path: cannot read /no/such-key: No such file" in line


def test_a_redirect_that_works(checked: Checked, keystone: Keystone, swift: Swift) -> None:
    """It is ok, and what has restrictions is noted."""
    owner = account_of(keystone, swift, checked.account)
    headers = {"X-Container-Meta-Temp-URL-Key": "known-key"}
    owner.call("POST", checked.objects.container, headers=headers)
    checked.config["redirect"] = {"key": "known-key", "base_url": swift.url}
    lines = checked.run(0)
    assert "ok      redirect: Swift takes the temporary URLs" in lines
    assert any(line.startswith("note    redirect: CORS") for line in lines)


def test_a_mirror_that_is_down(checked: Checked, account: Credentials) -> None:
    """Its name stands before it; the other place is ok."""
    other = Objects(account)
    checked.config["name"] = "a"
    mirror = {"name": "b", "cloud": "matrix", "container": other.container}
    checked.config["mirrors"] = [{**mirror, "storage_url": closed_url()}]
    line = checked.wrong(3)
    assert line.startswith("wrong   b: container: Swift at http://127.0.0.1:")
    assert "refused" in line.lower()


def test_a_mirror_that_is_the_same_place(
    checked: Checked, account: Credentials, swift: Swift
) -> None:
    """By another address it leads to the same container."""
    storage_url = swift.account_url(account.project_id)
    mirror = {"name": "b", "cloud": "matrix", "container": checked.objects.container}
    checked.config["name"] = "a"
    checked.config["mirrors"] = [{**mirror, "storage_url": storage_url}]
    line = checked.wrong(2)
    assert line.startswith("wrong   mirrors: a and b lead to the same objects: ")
    checked.config["mirrors"][0]["prefix"] = "other"
    checked.run(0)


def test_a_segment_container_of_others(checked: Checked, front: Front) -> None:
    """Its rights count too."""

    def refuse(answer: Answer) -> None:
        if f"/{checked.objects.container}_segments" in answer.path:
            answer.status = 403

    front.change = refuse
    checked.homeserver["max_upload_size"] = "2G"
    line = checked.wrong(3)
    assert line.startswith("wrong   segments container: this user may neither look at the")


# Database and disk


def test_a_database_that_is_unreachable(checked: Checked) -> None:
    """Nothing listens there."""
    args = {"host": process.LOOPBACK, "port": process.free_port(), "password": "data-secret"}
    checked.homeserver["database"] = {"name": "psycopg2", "args": {"user": "x", **args}}
    line = checked.wrong(3)
    assert line.startswith("wrong   database: ")
    assert "Connection refused" in line
    assert "data-secret" not in line


def test_a_database_that_is_silent(checked: Checked) -> None:
    """It ends all the same, and says so."""
    with silent_url() as url:
        port = url.partition("://")[2].partition("/")[0].partition(":")[2]
        args = {"host": process.LOOPBACK, "port": int(port), "user": "x"}
        checked.homeserver["database"] = {"name": "psycopg2", "args": args}
        line = checked.wrong(3)
    assert line.startswith("wrong   database: ")


def test_another_homeservers_database(checked: Checked) -> None:
    """Both names are said."""
    with closing(sqlite3.connect(checked.store.database_path)) as database:
        database.execute(
            "INSERT INTO local_media_repository (media_id, user_id) VALUES ('x', '@a:other.org')"
        )
        database.commit()
    line = checked.wrong(2)
    assert line.startswith(
        "wrong   database: the database is that of the homeserver other.org, but server_name is "
        "here.example"
    )


def test_no_media_store(checked: Checked) -> None:
    """The path and the option are named; its disk is not looked at."""
    checked.homeserver["media_store_path"] = "/no/media"
    lines = checked.run(2)
    wrong = [line for line in lines if line.startswith("wrong ")]
    assert wrong == [
        "wrong   media store: there is no folder /no/media: correct media_store_path, or mount its "
        "disk"
    ]
    assert "disk space" not in checked.subjects(lines)


def test_a_folder_that_is_no_media_store(checked: Checked) -> None:
    """Its disk may not be mounted."""
    line = checked.wrong(2, checked.script.folder)
    assert "holds none of the folders of a media store" in line


def test_a_limit_that_the_disk_cannot_keep(checked: Checked) -> None:
    """``local_disk`` is compared with the disk."""
    checked.config["local_disk"] = {"max_size": "900T"}
    line = checked.wrong(2)
    assert line.startswith(
        "wrong   local_disk: the disk is full before media take max_size (900.0 TiB): they take "
    )
    checked.config["local_disk"] = {"min_free": "900T"}
    line = checked.wrong(2)
    assert line.startswith("wrong   local_disk: min_free (900.0 TiB) is not below the size of the")


# Interrupted


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGHUP, signal.SIGHUP]])
def test_ctrl_c_removes_the_test_object(
    checked: Checked, front: Front, signals: list[signal.Signals]
) -> None:
    """Pressed while the object is read: it is removed before the program ends.

    If the terminal is closed, both the kernel and the shell send SIGHUP.
    """
    reading, interrupted = threading.Event(), threading.Event()

    def hold(method: str, path: str) -> None:
        if method == "GET" and ".swift_provider" in path:
            reading.set()
            assert interrupted.wait(10)

    front.hold = hold
    checked.write()
    running = checked.script.start("check")
    assert reading.wait(30)
    assert len(checked.objects.names()) == 1
    first, *others = signals
    running.send_signal(first)
    assert running.stderr is not None
    assert "Stopping" in running.stderr.readline()
    for other in others:
        running.send_signal(other)
    interrupted.set()
    running.communicate(timeout=30)
    assert running.returncode == 130
    assert checked.objects.names() == set()


def test_ctrl_c_twice_names_the_test_object(checked: Checked, front: Front) -> None:
    """The program ends at once; what it leaves is named."""
    reading, interrupted = threading.Event(), threading.Event()

    def hold(method: str, path: str) -> None:
        if method == "GET" and ".swift_provider" in path:
            reading.set()
            assert interrupted.wait(30)

    front.hold = hold
    checked.write()
    running = checked.script.start("check")
    assert reading.wait(30)
    (left,) = checked.objects.names()
    running.send_signal(signal.SIGINT)
    assert running.stderr is not None
    assert "Stopping" in running.stderr.readline()
    running.send_signal(signal.SIGINT)
    told = running.communicate(timeout=30)[1]
    interrupted.set()
    assert running.returncode == 130
    assert f"The test object {checked.objects.container}/{left} may be left" in told
