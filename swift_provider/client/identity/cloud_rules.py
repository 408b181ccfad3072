"""Gives the keys of one cloud their meaning, after ``cloud_files`` has read them.

Works in the profile and the region, and settles older spellings and domains.
Follows the rules and the order of openstacksdk's loader, because the order
decides which value wins. Reads only the keys that matter to signing in and to
finding Swift. Knows no plugin and reads no file.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from swift_provider.client.identity.cloud_files import DEFAULTS, Sources
from swift_provider.config import mapping
from swift_provider.errors import ConfigError

logger = logging.getLogger(__name__)

# The options of ``auth`` and their spellings. The last spelling that is present wins.
_SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "domain_id": ("domain_id", "domain-id"),
    "domain_name": ("domain_name", "domain-name"),
    "user_domain_id": ("user_domain_id", "user-domain-id"),
    "user_domain_name": ("user_domain_name", "user-domain-name"),
    "project_domain_id": ("project_domain_id", "project-domain-id"),
    "project_domain_name": ("project_domain_name", "project-domain-name"),
    "token": ("auth-token", "auth_token", "token"),
    "passcode": ("passcode",),
}
_PROJECT_SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "project_id": ("tenant_id", "tenant-id", "project_id", "project-id"),
    "project_name": ("tenant_name", "tenant-name", "project_name", "project-name"),
}
# The plugin for Keystone's v2 API takes tenants instead of projects.
_TENANT_SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "tenant_id": ("project_id", "project-id", "tenant_id", "tenant-id"),
    "tenant_name": ("project_name", "project-name", "tenant_name", "tenant-name"),
}


def resolve(sources: Sources, name: str, region_name: str | None) -> dict[str, Any]:
    """The values of one cloud, with those of its profile and its region worked in.

    :param region_name: the wanted region; ``None`` for the cloud's first.
    :raises ConfigError: if the cloud lists regions and this is not among them, or
        if a value has the wrong type.
    """
    own = _section(sources.clouds[name], f"the cloud '{name}'")
    profile = _profile(sources, name, own)
    layers = _over(_over(dict(DEFAULTS), profile, name), own, name)
    layers.pop("cloud", None)
    layers.pop("regions", None)
    region, values = _region(own, profile, region_name, name)
    return normalize({**_over(layers, values, name), "region_name": region}, name)


def normalize(cloud: Mapping[str, Any], name: str | None = None) -> dict[str, Any]:
    """A cloud's values under one spelling of each key. ``auth`` is always present."""
    cloud = {
        key.replace("endpoint_type", "interface") if key.endswith("endpoint_type") else key: value
        for key, value in cloud.items()
    }
    auth = dict(_section(cloud.get("auth"), f"auth of the cloud '{name}'"))
    cloud["auth"] = auth
    _settle_spellings(cloud, auth)
    _settle_domains(auth)
    if isinstance(cloud.get("insecure"), str):
        cloud["insecure"] = cloud["insecure"].lower() == "true"
    if isinstance(cloud.get("auth_methods"), str):
        cloud["auth_methods"] = cloud["auth_methods"].split(",")
    if isinstance(auth.get("auth_url"), str):
        auth["auth_url"] = fill(auth["auth_url"], cloud, "auth_url")
    return _plain(cloud)


def fill(text: str, cloud: Mapping[str, Any], key: str) -> str:
    """Replace placeholders such as ``{region_name}`` by the cloud's own values.

    :param key: the key that holds the text, for the error message.
    :raises ConfigError: if the cloud has no value for a placeholder.
    """
    try:
        return text.format(**cloud)
    except (KeyError, IndexError, ValueError, AttributeError):
        raise ConfigError(
            f"{key} has a {{placeholder}} that the cloud has no value for, such as {{region_name}}"
        ) from None


def _settle_spellings(cloud: dict[str, Any], auth: dict[str, Any]) -> None:
    tenants = cloud.get("auth_type") == "v2password"
    for target, spellings in {
        **_SPELLINGS,
        **(_TENANT_SPELLINGS if tenants else _PROJECT_SPELLINGS),
    }.items():
        found = ""
        for spelling in spellings:
            # A value beside auth wins over one in auth.
            for place in (auth, cloud):
                if spelling in place:
                    found = str(place.pop(spelling))
        if found:
            auth[target] = found


def _settle_domains(auth: dict[str, Any]) -> None:
    """If there is a project, ``domain_*`` stands for the user's and the project's domain."""
    if "project_id" not in auth and "project_name" not in auth:
        return
    for kind in ("id", "name"):
        domain = auth.pop(f"domain_{kind}", None)
        if domain is not None:
            auth.setdefault(f"user_domain_{kind}", domain)
            auth.setdefault(f"project_domain_{kind}", domain)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Underscores for dashes in keys, and numbers as text: YAML may read a password as one."""
    plain: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            value = _plain(value)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            value = str(value)
        plain[key.replace("-", "_")] = value
    return plain


def unknown_profile(sources: Sources, name: str) -> str | None:
    """A message about a profile that cannot be found; ``None`` if there is no such problem.

    openstacksdk brings profiles of some providers. They are not read here, because
    this project does not depend on openstacksdk.
    """
    own = sources.clouds[name] or {}
    profile = _profile_name(sources, own)
    # OS_CLOUD gives the environment's cloud the key "cloud", which is also an older
    # name for "profile". It is hardly ever meant as a profile.
    by_accident = name == sources.environment_cloud and "profile" not in own
    if profile is None or profile in sources.vendors or by_accident:
        return None
    return (
        f"its profile '{profile}' is not in clouds-public.yaml, and those built into openstacksdk "
        "are not read: write auth_url and region_name into clouds.yaml"
    )


def _profile_name(sources: Sources, own: Mapping[str, Any]) -> str | None:
    # "cloud" is an older name for "profile".
    profile = own.get("profile", own.get("cloud"))
    return str(profile) if profile and profile != sources.environment_cloud else None


def _profile(sources: Sources, name: str, own: Mapping[str, Any]) -> Mapping[str, Any]:
    problem = unknown_profile(sources, name)
    if problem is not None:
        logger.warning("The cloud '%s': %s", name, problem)
    profile = _profile_name(sources, own)
    return _section(sources.vendors.get(profile or ""), f"the profile '{profile}'")


def _region(
    own: Mapping[str, Any], profile: Mapping[str, Any], wanted: str | None, name: str
) -> tuple[str, Mapping[str, Any]]:
    """The region's name, empty if there is none, and the values for this region only."""
    named = {"regions", "region_name", "region-name"}.intersection(own)
    chosen_by = own if named else profile
    regions = _listed(chosen_by, name)
    if not regions:
        return wanted or _single(chosen_by), {}
    if wanted is None:
        return next(iter(regions.items()))
    if wanted not in regions:
        raise ConfigError(
            f"the cloud '{name}' has no region '{wanted}': set region_name to one of "
            f"{', '.join(regions)} (upper and lower case matter)"
        )
    return wanted, regions[wanted]


def _single(cloud: Mapping[str, Any]) -> str:
    return str(cloud.get("region_name", cloud.get("region-name")) or "")


def _listed(cloud: Mapping[str, Any], name: str) -> dict[str, Mapping[str, Any]]:
    listed = cloud.get("regions")
    if listed is None:
        several = cloud.get("region_name")
        if isinstance(several, str) and "," in several:
            several = several.split(",")
        listed = several if isinstance(several, list) else []
    if not isinstance(listed, list):
        raise ConfigError(f"regions of the cloud '{name}' must be a list")
    regions: dict[str, Mapping[str, Any]] = {}
    for entry in listed:
        if isinstance(entry, Mapping):
            if "name" not in entry or not set(entry) <= {"name", "values"}:
                raise ConfigError(
                    f"each entry in regions of the cloud '{name}' must be a name, "
                    "or hold 'name' and 'values' and nothing else"
                )
            values = _section(entry.get("values"), f"values of a region of the cloud '{name}'")
            given = {key: value for key, value in values.items() if value is not None}
            regions.setdefault(str(entry["name"]), given)
        else:
            regions.setdefault(str(entry), {})
    return regions


def _over(below: Mapping[str, Any], above: Mapping[str, Any], name: str) -> dict[str, Any]:
    """``above`` wins; only ``auth`` is merged key by key."""
    merged = {**below, **above}
    where = f"auth of the cloud '{name}'"
    merged["auth"] = {
        **_section(below.get("auth"), where),
        **_section(above.get("auth"), where),
    }
    return merged


def _section(value: object, where: str) -> Mapping[str, Any]:
    """A section whose keys are all text.

    :raises ConfigError: if it is not a mapping, or has another key.
    """
    found = mapping(value, where)
    if not all(isinstance(key, str) for key in found):
        # YAML reads bare numbers, yes, no, on and off as other types than text.
        raise ConfigError(f"{where} has a key that is not text: put it in quotes")
    return found
