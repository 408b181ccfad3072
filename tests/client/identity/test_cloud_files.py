"""Reading the files of clouds: broken, missing, empty and of the wrong shape."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from swift_provider.client.identity import cloud_files
from tests.client.identity.finding import CLOUD, SECRET, find, refusal, write


def test_no_credentials_because_a_file_is_broken(place: Path) -> None:
    """The message has the broken file and the place of the error, but not its text."""
    write(place, f"clouds:\n  mine:\n    auth: {{password: *{SECRET}}}\n")
    message = refusal(place)
    assert message.startswith(f"{place / 'clouds.yaml'} is not valid YAML (line 3")
    assert "correct it" in message


def test_a_broken_file_is_logged_without_its_text(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning about a broken file quotes none of its text."""
    caplog.set_level(logging.DEBUG)
    write(place, f"clouds:\n  mine: {{auth: {{password: *{SECRET}}}}}\n")
    refusal(place)
    assert "passed over" in caplog.text
    assert SECRET not in caplog.text


def test_a_file_of_another_user(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cause comes first, with the remedy; then what is lacking because of it."""
    write(place, CLOUD)

    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(cloud_files, "_parse", refuse)
    assert refusal(place, cloud="mine") == (
        f"{place / 'clouds.yaml'} cannot be read: Permission denied (give it to the user that "
        "Synapse runs as, by chown; run as that user). Without it there are no clouds and no "
        "credentials"
    )


def test_another_file_beside_a_broken_one(place: Path) -> None:
    """The broken one comes first, then what the other one has."""
    directory = place / "home/.config/openstack"
    directory.mkdir(parents=True)
    write(place, "clouds: [")
    write(directory, CLOUD)
    message = refusal(place, cloud="other")
    assert message.startswith(f"{place / 'clouds.yaml'} is not valid YAML")
    assert "correct it; there is no cloud 'other'. The known clouds are: mine." in message


def test_named_file_is_missing(place: Path) -> None:
    """The file of OS_CLIENT_CONFIG_FILE has to exist, whatever other files there are."""
    write(place, CLOUD)
    message = refusal(place, {"OS_CLIENT_CONFIG_FILE": "/nowhere.yaml"})
    assert "/nowhere.yaml, named by OS_CLIENT_CONFIG_FILE, does not exist" in message


def test_vendor_file_by_variable(place: Path) -> None:
    """OS_CLIENT_VENDOR_FILE names a file of profiles, and does not make a cloud itself."""
    write(place, "public-clouds: {mine: {region_name: r}}", "vendors.yaml")
    write(place, CLOUD.replace("region_name: GRA7", "profile: mine"))
    cloud = find(place, {"OS_CLIENT_VENDOR_FILE": str(place / "vendors.yaml")})
    assert (cloud.name, cloud.region_name) == ("mine", "r")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("[a]", "clouds.yaml must hold 'key: value' lines, not a list"),
        ("clouds: [a]", "clouds must hold 'key: value' lines, not a list"),
        ("clouds: {a: text}", "the cloud 'a' must hold 'key: value' lines, not a str"),
        ("clouds: {a: {auth: text}}", "auth of the cloud 'a' must hold 'key: value' lines"),
        ("clouds: {a: {regions: {r: 1}}}", "regions of the cloud 'a' must be a list"),
        (
            "clouds: {a: {regions: [{name: r, values: text}]}}",
            "values of a region of the cloud 'a' must hold 'key: value' lines",
        ),
        ("clouds: {1: {}}", "the cloud '1'"),
        ("clouds: {a: {1: 2}}", "the cloud 'a' has a key that is not text: put it in quotes"),
    ],
)
def test_wrong_types(place: Path, content: str, problem: str) -> None:
    """The message names the part of the file that has the wrong type."""
    write(place, content)
    assert problem in refusal(place)


def test_a_broken_file_is_reported_once(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A broken file in the home directory gives one warning."""
    directory = place / "home/.config/openstack"
    directory.mkdir(parents=True)
    write(directory, "clouds: [")
    assert refusal(place).count("is not valid YAML") == 1
    assert len(caplog.records) == 1


def test_empty_sections(place: Path) -> None:
    """An empty auth section in clouds.yaml is filled from secure.yaml."""
    write(place, "clouds: {a: {auth: }}")
    write(
        place,
        f"clouds: {{a: {{auth: {{auth_url: 'https://k', user_id: u, password: {SECRET}}}}}}}",
        "secure.yaml",
    )
    assert find(place).auth_options["password"] == SECRET
