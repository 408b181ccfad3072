"""Helpers that write ``clouds.yaml`` files and look for a cloud in them."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pytest

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


def find(place: Path, environ: dict[str, str] | None = None, **options: Any) -> Cloud:
    settings = parse_settings({"container": "media", **options})
    return find_cloud(settings, {"HOME": str(place / "home"), **(environ or {})})


def refusal(place: Path, environ: dict[str, str] | None = None, **options: Any) -> str:
    """The message of the error; fails if the error or its traceback shows the secret."""
    with pytest.raises(ConfigError) as caught:
        find(place, environ, **options)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    return str(caught.value)


def write(place: Path, content: str, name: str = "clouds.yaml") -> None:
    (place / name).write_text(content, encoding="utf-8")
