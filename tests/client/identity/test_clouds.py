"""Choosing a cloud: settings on top of it, and messages if none can be chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from swift_provider.client.identity import cloud_files
from swift_provider.client.identity.clouds import find_cloud
from swift_provider.config import parse_settings
from tests.client.identity.finding import AUTH, CLOUD, SECRET, find, refusal, write


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
    """Without settings, the values are the cloud's; the URL loses the slash at its end."""
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
    """A CA file in the settings switches the check on, unless they switch it off."""
    write(place, CLOUD)
    assert find(place, **options).verify == verify


def test_inline_options_need_no_cloud(place: Path) -> None:
    """With auth and without cloud, files and variables are ignored."""
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
    """Options of auth replace the cloud's one by one; an id also replaces the name."""
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
    """An option of auth replaces the variable for the same option."""
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
    """With another auth_type, only the cloud's auth_url is kept."""
    write(place, CLOUD)
    auth = {"application_credential_id": "i", "application_credential_secret": "s"}
    cloud = find(place, cloud="mine", auth_type="v3applicationcredential", auth=auth)
    assert cloud.auth_options == {"auth_url": "https://keystone.example/v3", **auth}


def test_region_of_the_settings_need_not_be_the_clouds(place: Path) -> None:
    """The settings may name a region that the cloud does not, such as one for Swift only."""
    write(place, CLOUD)
    assert find(place, region_name="GRA").region_name == "GRA"


def test_no_secret_is_shown(place: Path) -> None:
    """The repr of a cloud, and of the sources it came from, shows no password."""
    write(place, CLOUD)
    assert SECRET not in repr(find(place))
    assert SECRET not in repr(cloud_files.read_sources({"HOME": str(place)}))


def test_unknown_cloud(place: Path) -> None:
    """The message lists the known clouds, the most similar one, and the file that was read."""
    write(place, CLOUD)
    message = refusal(place, cloud="mini")
    assert "no cloud 'mini'" in message
    assert "did you mean 'mine'?" in message
    assert str(place / "clouds.yaml") in message


def test_no_credentials(place: Path) -> None:
    """Without files and variables, the message says what to write, and where."""
    message = refusal(place)
    assert "clouds.yaml" in message
    assert "OS_* variables" in message
    assert "auth_type and auth" in message


def test_several_clouds(place: Path) -> None:
    """With several clouds, the message lists them and says how to choose."""
    write(place, "clouds: {a: {}, b: {}}")
    message = refusal(place)
    assert "(a, b)" in message
    assert "OS_CLOUD" in message


def test_a_stray_variable(place: Path) -> None:
    """The message names a variable that hides the only cloud in the file."""
    write(place, CLOUD)
    message = refusal(place, {"OS_DISTRIBUTION": SECRET})
    assert "OS_DISTRIBUTION" in message
    assert "auth.username" in message


def test_built_in_profile(place: Path) -> None:
    """The message names a profile that only openstacksdk has, and what to write instead."""
    write(
        place,
        CLOUD.replace("auth_url: https://keystone.example/v3", "project_id: x").replace(
            "    region_name", "    profile: ovh\n    region_name"
        ),
    )
    message = refusal(place)
    assert "profile 'ovh'" in message
    assert "write auth_url" in message


def test_no_sign_in_at_all_needs_only_the_url() -> None:
    """``auth_type: none`` needs no other option than ``storage_url``."""
    url = "http://127.0.0.1:8080/v1/AUTH_test"
    options = {"container": "c", "auth_type": "none", "storage_url": url}
    cloud = find_cloud(parse_settings(options), {})
    assert cloud.storage_url == url
    assert cloud.auth_type == "none"
