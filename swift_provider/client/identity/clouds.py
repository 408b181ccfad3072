"""Chooses the cloud to sign in to, and collects the options for it.

Puts the settings of this project on top of the cloud that the files and
variables describe (``cloud_files``, ``cloud_rules``). Without such settings,
gives the same answer as openstacksdk for the same files and environment.
Reads small files, so it blocks shortly; touches no network.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from swift_provider.client.identity import cloud_files, cloud_rules, sign_in_methods
from swift_provider.config import Settings, nearest
from swift_provider.errors import ConfigError


@dataclass(frozen=True)
class Cloud:
    """What a sign-in and the search for Swift need to know.

    :ivar name: the cloud's name; ``None`` if ``auth_type`` and ``auth`` of the
        settings describe everything.
    :ivar auth_type: the name of a keystoneauth1 plugin.
    :ivar auth_options: that plugin's options; may hold secrets.
    :ivar region_name: ``None`` accepts any region, if the catalogue leads to one URL.
    :ivar interface: one name, or several with the preferred one first.
    :ivar verify: whether to check certificates, or the path of a CA bundle.
    :ivar cert: the path of a file with certificate and key, or one path for each.
    :ivar storage_url: Swift's URL; ``None`` to take it from the catalogue.
    :ivar service_name: ``None`` accepts any name.
    :ivar source: the files or the variables that the cloud comes from; empty if the settings
        describe everything.
    """

    name: str | None
    auth_type: str
    auth_options: Mapping[str, Any] = field(repr=False)
    region_name: str | None = None
    interface: str | tuple[str, ...] = "public"
    verify: bool | str = True
    cert: str | tuple[str, str] | None = None
    storage_url: str | None = None
    service_type: str = "object-store"
    service_name: str | None = None
    source: str = ""

    @property
    def title(self) -> str:
        """The name of this cloud in error messages."""
        return f"the cloud '{self.name}'" if self.name else "the options auth_type and auth"

    @property
    def title_and_source(self) -> str:
        """The same, with where it comes from."""
        return f"{self.title} ({self.source})" if self.source else self.title


def find_cloud(settings: Settings, environ: Mapping[str, str] | None = None) -> Cloud:
    """The cloud that ``settings`` name, or the one that openstacksdk would choose.

    If the settings have ``auth_type`` or ``auth`` and no ``cloud``, files and
    environment are ignored. If they have both, their options replace single
    options of the cloud; if ``auth_type`` differs from the cloud's, only the
    cloud's ``auth_url`` is kept.

    :param environ: the environment; ``None`` for that of this process.
    :raises ConfigError: if the cloud does not exist, if there are several to
        choose from, or if an option of the sign-in method is missing or wrong.
    """
    inline = _inline(settings)
    if settings.cloud is None and inline:
        name, values, notes, source = None, {**cloud_files.DEFAULTS, "auth": {}}, "", ""
    else:
        sources = cloud_files.read_sources(os.environ if environ is None else environ)
        name = _choose(settings.cloud, sources)
        values = cloud_rules.resolve(sources, name, settings.region_name)
        notes, source = _origin(name, sources), _source(name, sources)
    cloud = replace(_cloud(name, _on_top(values, inline), settings), source=source)
    sign_in_methods.load_plugin(cloud.auth_type, cloud.auth_options, cloud.title + notes)
    return cloud


def _choose(wanted: str | None, sources: cloud_files.Sources) -> str:
    name = wanted or sources.default
    looked_at = f" ({'; '.join(sources.notes)})" if sources.notes else ""
    # The cause comes first: the rest follows from it.
    cause = "; ".join(sources.problems)
    if cause and not sources.clouds:
        raise ConfigError(f"{cause}. Without it there are no clouds and no credentials")
    if name is None and not sources.clouds:
        raise ConfigError(
            "no credentials: create a clouds.yaml (in the working directory, ~/.config/openstack "
            "or /etc/openstack, or where OS_CLIENT_CONFIG_FILE points), set the OS_* variables, "
            f"or set the options auth_type and auth{looked_at}"
        )
    known = ", ".join(map(str, sources.clouds)) or "none"
    if name is None:
        raise ConfigError(
            f"there are several clouds ({known}): choose one with the option cloud or with OS_CLOUD"
            f"{looked_at}"
        )
    if name not in sources.clouds:
        near = nearest(name, map(str, sources.clouds))
        hint = f"; did you mean '{near}'?" if near else "."
        read = f" ({', '.join(sources.files)} was read)" if sources.files else ""
        lead = f"{cause}; " if cause else ""
        raise ConfigError(
            f"{lead}there is no cloud '{name}'{hint} The known clouds are: {known}. clouds.yaml "
            "may be in the working directory, ~/.config/openstack or /etc/openstack, "
            f"or where OS_CLIENT_CONFIG_FILE points{read}"
        )
    return name


def _origin(name: str, sources: cloud_files.Sources) -> str:
    """Where the cloud comes from, in parentheses, for error messages."""
    if name == sources.environment_cloud and sources.variables:
        return f" (the variables {', '.join(sources.variables)})"
    problem = cloud_rules.unknown_profile(sources, name)
    return f" ({'; '.join([*sources.notes, *filter(None, [problem])])})"


def _source(name: str, sources: cloud_files.Sources) -> str:
    """The files or the variables that the cloud comes from."""
    if name == sources.environment_cloud and sources.variables:
        return f"the variables {', '.join(sources.variables)}"
    return ", ".join(sources.files)


def _inline(settings: Settings) -> dict[str, Any]:
    """``auth_type`` and ``auth`` of the settings, under the same keys as in a cloud."""
    if settings.auth_type is None and settings.auth is None:
        return {}
    given: dict[str, Any] = {"auth": dict(settings.auth or {})}
    if settings.auth_type is not None:
        given["auth_type"] = settings.auth_type
    return cloud_rules.normalize(given)


def _on_top(values: dict[str, Any], inline: Mapping[str, Any]) -> dict[str, Any]:
    """The cloud's values, replaced by the settings' where these have one.

    A name in the settings also removes the cloud's id, and an id the cloud's
    name: keystoneauth1 would use the id without a warning.
    """
    if not inline:
        return values
    auth = dict(values["auth"])
    if inline.get("auth_type", values["auth_type"]) != values["auth_type"]:
        # The settings' method may refuse options of the cloud's method.
        auth_url = auth.get("auth_url") or values.get("auth_url")
        auth = {"auth_url": auth_url} if auth_url else {}
    for option in inline["auth"]:
        stem = option.removesuffix("_id").removesuffix("_name").removesuffix("name")
        twins = {f"{stem}_id", f"{stem}_name", f"{stem}name", option}
        for place in (auth, values):
            for twin in twins:
                place.pop(twin, None)
    return {**values, **inline, "auth": {**auth, **inline["auth"]}}


def _cloud(name: str | None, values: dict[str, Any], settings: Settings) -> Cloud:
    auth_type = sign_in_methods.method_name(values.get("auth_type"))
    options = sign_in_methods.choose_options(auth_type, values)
    return Cloud(
        name=name,
        auth_type=auth_type,
        auth_options=options,
        region_name=settings.region_name or _service(values, "region_name") or None,
        interface=settings.interface or _interface(values),
        verify=_verify(values, settings),
        cert=_certificate(values, settings),
        storage_url=settings.storage_url or _storage_url(values, auth_type, options),
        service_type=str(values.get("object_store_service_type") or "object-store"),
        service_name=values.get("object_store_service_name"),
    )


def _service(values: Mapping[str, Any], key: str) -> Any:
    """The value for Swift only; if there is none, the value for all services."""
    for_swift = values.get(f"object_store_{key}")
    return values.get(key) if for_swift is None else for_swift


def _interface(values: Mapping[str, Any]) -> str | tuple[str, ...]:
    interface = _service(values, "interface") or "public"
    return tuple(map(str, interface)) if isinstance(interface, list) else str(interface)


def _verify(values: Mapping[str, Any], settings: Settings) -> bool | str:
    cacert = settings.cacert or values.get("cacert")
    if settings.verify is not None or settings.cacert is not None:
        verify: Any = settings.verify is not False
    elif values.get("insecure") is True:
        verify = False
    else:
        verify = values.get("verify")
        verify = True if verify is None else verify
    if verify and cacert:
        return os.path.expanduser(cacert)
    return verify or False


def _certificate(values: Mapping[str, Any], settings: Settings) -> str | tuple[str, str] | None:
    given = settings.cert is not None
    cert = settings.cert if given else values.get("cert")
    key = settings.key if given else values.get("key")
    if not cert:
        return None
    if not key:
        return os.path.expanduser(cert)
    return os.path.expanduser(cert), os.path.expanduser(key)


def _storage_url(
    values: Mapping[str, Any], auth_type: str, options: Mapping[str, Any]
) -> str | None:
    for key in ("object_store_endpoint_override", "object_store_endpoint"):
        if values.get(key):
            return cloud_rules.fill(str(values[key]), values, key).rstrip("/")
    if auth_type == "none" and options.get("endpoint"):
        return str(options["endpoint"]).rstrip("/")
    return None
