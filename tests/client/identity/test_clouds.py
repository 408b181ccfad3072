"""Choosing a cloud: what the settings change in it, and what is said when it cannot be."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path
from typing import Any

import pytest

from swift_provider.client.identity import cloud_files, plugins
from swift_provider.client.identity.clouds import Cloud, find_cloud
from swift_provider.config import parse_settings
from swift_provider.errors import ConfigError

SECRET = "pa55-word"
CLOUD = f"""
clouds:
  mine:
    region_name: GRA7
    interface: internal
    verify: false
    cert: /cloud/cert.pem
    key: /cloud/key.pem
    object_store_endpoint_override: https://cloud.example/v1/AUTH_c/
    auth:
      auth_url: https://keystone.example/v3
      username: u
      password: {SECRET}
      project_name: p
      user_domain_id: default
      project_domain_id: default
"""
AUTH = {
    "auth_url": "https://inline.example",
    "username": "i",
    "password": SECRET,
    "project_name": "t",
    "domain_name": "Default",
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory; nothing is found anywhere else."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cloud_files, "SITE_DIRECTORY", str(tmp_path / "etc"))
    return tmp_path


def find(place: Path, environ: dict[str, str] | None = None, **options: Any) -> Cloud:
    settings = parse_settings({"container": "media", **options})
    return find_cloud(settings, {"HOME": str(place / "home"), **(environ or {})})


def refusal(place: Path, environ: dict[str, str] | None = None, **options: Any) -> str:
    """The message of the error, which must not hold the secret anywhere around it."""
    with pytest.raises(ConfigError) as caught:
        find(place, environ, **options)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    return str(caught.value)


def write(place: Path, content: str, name: str = "clouds.yaml") -> None:
    (place / name).write_text(content, encoding="utf-8")


def test_settings_win_over_the_cloud(place: Path) -> None:
    """Region, interface, TLS and URL of the settings replace the cloud's."""
    write(place, CLOUD)
    cloud = find(
        place,
        region_name="GRA",
        interface="public",
        verify=True,
        cacert="/ca.pem",
        cert="/my/both.pem",
        storage_url="https://mine.example/v1/AUTH_m",
    )
    assert (cloud.region_name, cloud.interface, cloud.verify) == ("GRA", "public", "/ca.pem")
    # The cloud's key belongs to the cloud's certificate.
    assert cloud.cert == "/my/both.pem"
    assert cloud.storage_url == "https://mine.example/v1/AUTH_m"


def test_the_cloud_holds_where_settings_are_silent(place: Path) -> None:
    """Without options of ours everything is as the cloud has it; the URL loses its last slash."""
    write(place, CLOUD)
    cloud = find(place)
    assert (cloud.name, cloud.region_name, cloud.interface) == ("mine", "GRA7", "internal")
    assert cloud.verify is False
    assert cloud.cert == ("/cloud/cert.pem", "/cloud/key.pem")
    assert cloud.storage_url == "https://cloud.example/v1/AUTH_c"


@pytest.mark.parametrize(
    ("options", "verify"),
    [
        ({"verify": True}, True),
        ({"cacert": "/ca.pem"}, "/ca.pem"),
        ({"verify": False, "cacert": "/ca.pem"}, False),
    ],
)
def test_tls_of_the_settings(place: Path, options: dict[str, Any], verify: bool | str) -> None:
    """A CA file switches checking on again, unless it is switched off beside it."""
    write(place, CLOUD)
    assert find(place, **options).verify == verify


def test_inline_options_need_no_cloud(place: Path) -> None:
    """With auth and without cloud, neither files nor variables take part."""
    write(place, CLOUD)
    cloud = find(place, {"OS_CLOUD": "mine", "OS_PROJECT_NAME": "x"}, auth=AUTH)
    assert (cloud.name, cloud.auth_type, cloud.region_name) == (None, "password", None)
    assert cloud.auth_options == {
        "auth_url": "https://inline.example",
        "username": "i",
        "password": SECRET,
        "project_name": "t",
        "user_domain_name": "Default",
        "project_domain_name": "Default",
    }


def test_inline_options_on_top_of_a_cloud(place: Path) -> None:
    """Single options replace the cloud's, an id also the name that it stands for."""
    write(place, CLOUD)
    auth = {"project_id": "123", "user_domain_name": "Other"}
    options = find(place, cloud="mine", auth=auth).auth_options
    assert options == {
        "auth_url": "https://keystone.example/v3",
        "username": "u",
        "password": SECRET,
        "project_id": "123",
        "user_domain_name": "Other",
        "project_domain_id": "default",
    }


def test_inline_options_win_over_variables(place: Path) -> None:
    """An option of auth replaces one that the environment gives beside auth."""
    environ = {
        "OS_AUTH_URL": "https://e.example",
        "OS_USERNAME": "e",
        "OS_PASSWORD": "e",
        "OS_PROJECT_ID": "e",
    }
    options = find(place, environ, cloud="envvars", auth={"user_id": "i"}).auth_options
    assert options == {
        "auth_url": "https://e.example",
        "user_id": "i",
        "password": "e",
        "project_id": "e",
    }


def test_another_method_on_top_of_a_cloud(place: Path) -> None:
    """With another auth_type only the cloud's auth_url is used."""
    write(place, CLOUD)
    auth = {"application_credential_id": "i", "application_credential_secret": "s"}
    cloud = find(place, cloud="mine", auth_type="v3applicationcredential", auth=auth)
    assert cloud.auth_options == {"auth_url": "https://keystone.example/v3", **auth}


def test_region_of_the_settings_need_not_be_the_clouds(place: Path) -> None:
    """One region_name in the cloud (often the servers') does not forbid another for Swift."""
    write(place, CLOUD)
    assert find(place, region_name="GRA").region_name == "GRA"


def test_no_secret_is_shown(place: Path) -> None:
    """Neither a cloud nor what was read of it shows the password."""
    write(place, CLOUD)
    assert SECRET not in repr(find(place))
    assert SECRET not in repr(cloud_files.read_sources({"HOME": str(place)}))


def test_unknown_cloud(place: Path) -> None:
    """The message names the clouds there are, the nearest, and the file looked at."""
    write(place, CLOUD)
    message = refusal(place, cloud="mini")
    assert "no cloud 'mini'" in message
    assert "did you mean 'mine'?" in message
    assert str(place / "clouds.yaml") in message


def test_no_credentials(place: Path) -> None:
    """With nothing anywhere, the message says what can be written, and where."""
    message = refusal(place)
    assert "clouds.yaml" in message
    assert "OS_" in message
    assert "auth_type and auth" in message


def test_no_credentials_because_a_file_is_broken(place: Path) -> None:
    """The broken file is named with the place of the error, without what stands there."""
    write(place, f"clouds:\n  mine:\n    auth: {{password: *{SECRET}}}\n")
    message = refusal(place)
    assert f"{place / 'clouds.yaml'} is not valid YAML (line 3" in message


def test_a_broken_file_is_logged_without_its_text(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning about a file that is passed over quotes nothing of it."""
    caplog.set_level(logging.DEBUG)
    write(place, f"clouds:\n  mine: {{auth: {{password: *{SECRET}}}}}\n")
    refusal(place)
    assert "passed over" in caplog.text
    assert SECRET not in caplog.text


def test_named_file_is_missing(place: Path) -> None:
    """A path in OS_CLIENT_CONFIG_FILE that leads nowhere is mentioned."""
    message = refusal(place, {"OS_CLIENT_CONFIG_FILE": "/nowhere.yaml"})
    assert "/nowhere.yaml, named by OS_CLIENT_CONFIG_FILE, does not exist" in message


def test_several_clouds(place: Path) -> None:
    """The message lists the clouds and says how to choose."""
    write(place, "clouds: {a: {}, b: {}}")
    message = refusal(place)
    assert "(a, b)" in message
    assert "OS_CLOUD" in message


def test_a_stray_variable(place: Path) -> None:
    """A variable that hides the only cloud in the file is named."""
    write(place, CLOUD)
    message = refusal(place, {"OS_DISTRIBUTION": SECRET})
    assert "OS_DISTRIBUTION" in message
    assert "auth.username" in message


@pytest.mark.parametrize(
    ("taken_out", "named"),
    [
        ("username", "auth.username or auth.user_id"),
        ("password", "auth.password"),
        ("auth_url", "auth.auth_url"),
        ("user_domain_name", "auth.user_domain_name"),
        ("project_domain_name", "auth.project_domain_name"),
    ],
)
def test_missing_option(place: Path, taken_out: str, named: str) -> None:
    """The message names the option that is missing."""
    auth = {
        "auth_url": "https://k.example",
        "username": "u",
        "password": SECRET,
        "project_name": "p",
        "user_domain_name": "d",
        "project_domain_name": "d",
    }
    del auth[taken_out]
    assert named in refusal(place, auth_type="v3password", auth=auth)


def test_unknown_option(place: Path) -> None:
    """A misspelt option is named with the nearest right one, not with its value."""
    message = refusal(place, auth={**AUTH, "usr_domain_name": SECRET})
    assert "auth.usr_domain_name" in message
    assert "did you mean auth.user_domain_name?" in message


def test_password_in_auth_url(place: Path) -> None:
    """User and password in auth_url are refused: the URL ends up in logs."""
    message = refusal(place, auth={**AUTH, "auth_url": f"https://u:{SECRET}@k.example/v3"})
    assert "auth.auth_url must not contain" in message


@pytest.mark.parametrize(
    ("auth_type", "remedy"),
    [
        ("v3passwort", "did you mean 'v3password'?"),
        ("something-else", "v3applicationcredential"),
        ("v3websso", "application credential"),
    ],
)
def test_unusable_method(place: Path, auth_type: str, remedy: str) -> None:
    """An unknown auth_type, or one for people at a browser, is refused with a way out."""
    message = refusal(place, auth_type=auth_type, auth=AUTH)
    assert f"'{auth_type}'" in message
    assert remedy in message


def test_v1password_not_installed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without python-swiftclient the message says what to install."""
    real = plugins.loading.get_plugin_loader

    def without_swiftclient(name: str) -> Any:
        if name == "v1password":
            raise plugins.exceptions.NoMatchingPlugin(name)
        return real(name)

    monkeypatch.setattr(plugins.loading, "get_plugin_loader", without_swiftclient)
    message = refusal(place, auth_type="v1password", auth=AUTH)
    assert "pip install 'synapse-swift-storage-provider[v1password]'" in message


def test_built_in_profile(place: Path) -> None:
    """A profile that only openstacksdk has is named, with what to write instead."""
    write(
        place,
        CLOUD.replace("auth_url: https://keystone.example/v3", "project_id: x").replace(
            "    region_name", "    profile: ovh\n    region_name"
        ),
    )
    message = refusal(place)
    assert "profile 'ovh'" in message
    assert "write auth_url" in message


def test_vendor_file_by_variable(place: Path) -> None:
    """OS_CLIENT_VENDOR_FILE names a file of profiles, and makes no cloud of the environment."""
    write(place, "public-clouds: {mine: {region_name: r}}", "vendors.yaml")
    write(place, CLOUD.replace("region_name: GRA7", "profile: mine"))
    cloud = find(place, {"OS_CLIENT_VENDOR_FILE": str(place / "vendors.yaml")})
    assert (cloud.name, cloud.region_name) == ("mine", "r")


@pytest.mark.parametrize(
    "content",
    [
        "clouds: [a]",
        "clouds: {a: text}",
        "clouds: {a: {auth: text}}",
        "clouds: {a: {regions: {r: 1}}}",
        "clouds: {a: {regions: [{name: r, values: text}]}}",
        "clouds: {1: {}}",
        "clouds: {a: {1: 2}}",
    ],
)
def test_wrong_types(place: Path, content: str) -> None:
    """A file of the wrong shape is a configuration error, whatever the shape."""
    write(place, content)
    assert refusal(place)


def test_empty_sections(place: Path) -> None:
    """An empty auth section in clouds.yaml is filled from secure.yaml."""
    write(place, "clouds: {a: {auth: }}")
    write(
        place,
        f"clouds: {{a: {{auth: {{auth_url: 'https://k', user_id: u, password: {SECRET}}}}}}}",
        "secure.yaml",
    )
    assert find(place).auth_options["password"] == SECRET


def test_no_sign_in_at_all_needs_only_the_url() -> None:
    """With ``auth_type: none`` and ``storage_url`` nothing else has to be given."""
    url = "http://127.0.0.1:8080/v1/AUTH_test"
    options = {"container": "c", "auth_type": "none", "storage_url": url}
    cloud = find_cloud(parse_settings(options), {})
    assert cloud.storage_url == url
    assert cloud.auth_type == "none"
