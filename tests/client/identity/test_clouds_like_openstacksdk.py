"""``find_cloud`` and openstacksdk's loader agree about the same files and variables."""

from __future__ import annotations

import importlib
import os
import textwrap
import warnings
from pathlib import Path
from typing import Any

import openstack.config.loader
import pytest

from swift_provider.client.identity import cloud_files, sign_in_methods
from swift_provider.client.identity.clouds import Cloud, find_cloud
from swift_provider.config import Settings
from swift_provider.errors import ConfigError
from tests.client.identity.clouds_table import CASES, REFUSED, Case


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment without clouds: empty home, working directory and ``/etc/openstack``."""
    for name in list(os.environ):
        if name.startswith(("OS_", "XDG_", "SNAP")):
            monkeypatch.delenv(name)
    for name in ("cwd", "home", "etc"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(cloud_files, "SITE_DIRECTORY", str(tmp_path / "etc"))
    return tmp_path


def prepare(case: Case, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path, content in case.files.items():
        file = place / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(content), encoding="utf-8")
    for name, value in case.env.items():
        monkeypatch.setenv(name, value.replace("{here}", str(place)))


def openstacksdk_loader(place: Path) -> Any:
    """A fresh loader of openstacksdk, which computes its paths when it is imported."""
    loader = importlib.reload(openstack.config.loader)
    files = {
        kind: [path.replace("/etc/openstack/", f"{place}/etc/") for path in paths]
        for kind, paths in (
            ("config_files", loader.CONFIG_FILES),
            ("secure_files", loader.SECURE_FILES),
            ("vendor_files", loader.VENDOR_FILES),
        )
    }
    return loader.OpenStackConfig(**files)


def theirs(case: Case, place: Path) -> dict[str, Any] | None:
    """openstacksdk's answer; ``None`` if it refuses."""
    try:
        chosen = {} if case.region is None else {"region_name": case.region}
        region = openstacksdk_loader(place).get_one(cloud=case.cloud, **chosen)
    except Exception:
        return None
    verify, cert = region.get_requests_verify_args()
    plugin = region.get_auth()
    return {
        "auth_type": region.config["auth_type"],
        "plugin": described(plugin),
        "region_name": region.get_region_name("object-store") or None,
        "interface": region.get_interface("object-store") or "public",
        "verify": True if verify is None else verify,
        "cert": cert,
        "storage_url": region.get_endpoint("object-store"),
        "service_type": region.get_service_type("object-store"),
        "service_name": region.get_service_name("object-store"),
    }


def ours(case: Case) -> dict[str, Any] | None:
    """The provider's answer; ``None`` if it refuses."""
    settings = Settings(container="c", cloud=case.cloud, region_name=case.region)
    try:
        cloud: Cloud = find_cloud(settings)
    except ConfigError:
        return None
    plugin = sign_in_methods.load_plugin(cloud.auth_type, cloud.auth_options, "")
    interface = list(cloud.interface) if isinstance(cloud.interface, tuple) else cloud.interface
    return {
        "auth_type": cloud.auth_type,
        "plugin": described(plugin),
        "region_name": cloud.region_name,
        "interface": interface,
        "verify": cloud.verify,
        "cert": cloud.cert,
        "storage_url": cloud.storage_url,
        "service_type": cloud.service_type,
        "service_name": cloud.service_name,
    }


def described(plugin: Any) -> tuple[str, dict[str, Any]]:
    """A plugin's class and parameters, and those of the methods inside it."""
    parameters = {}
    for name, value in vars(plugin).items():
        if name in ("_lock", "_discovery_cache"):
            continue
        if name == "auth_methods":
            value = [described(method) for method in value]
        parameters[name] = value
    return type(plugin).__qualname__, parameters


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_same_answer(case: Case, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both find the same cloud, or both refuse."""
    prepare(case, place, monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = theirs(case, place)
    assert ours(case) == expected
    assert (expected is None) == (case.name in REFUSED)


@pytest.mark.parametrize("stem", ["clouds", "secure", "clouds-public"])
@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"XDG_CONFIG_HOME": "/x"},
        {"XDG_CONFIG_HOME": "relative", "XDG_CONFIG_DIRS": "relative"},
        {"XDG_CONFIG_DIRS": "/only"},
    ],
)
def test_same_paths(
    stem: str, variables: dict[str, str], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both look at the same paths in the same order; openstacksdk looks at some twice."""
    monkeypatch.setattr(cloud_files, "SITE_DIRECTORY", "/etc/openstack")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    loader = importlib.reload(openstack.config.loader)
    paths = {
        "clouds": loader.CONFIG_FILES,
        "secure": loader.SECURE_FILES,
        "clouds-public": loader.VENDOR_FILES,
    }[stem]
    assert cloud_files.candidates(stem, os.environ) == list(dict.fromkeys(paths))
