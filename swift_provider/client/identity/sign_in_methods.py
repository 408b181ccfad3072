"""Makes a keystoneauth1 plugin, a sign-in method, from a cloud's options.

Checks the options first, so that an error names the one to change. Touches no
network. The plugins and their options:
https://docs.openstack.org/keystoneauth/latest/authentication-plugins.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keystoneauth1 import exceptions, loading

from swift_provider.config import nearest
from swift_provider.errors import ConfigError

# These methods need a person at a web browser.
_NEED_BROWSER = {"v3websso", "v3oidcauthcode", "v3oidcdeviceauthz"}

_USER_AND_PASSWORD = (("username", "user_id"), ("password",))

# Required options that the plugins do not check themselves. One name of each group is enough.
_REQUIRED: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "password": _USER_AND_PASSWORD,
    "v2password": _USER_AND_PASSWORD,
    "v3password": _USER_AND_PASSWORD,
    "token": (("token",),),
    "v2token": (("token",),),
    "v3token": (("token",),),
    "admin_token": (("token",),),
    "http_basic": (("username",), ("password",)),
    "v3applicationcredential": (
        ("application_credential_id", "application_credential_name"),
        ("application_credential_secret",),
    ),
}


def method_name(auth_type: object) -> str:
    """The name of the plugin for an ``auth_type``, which may be empty or an alias."""
    if auth_type in (None, "", "None", "noauth"):
        return "none"
    # openstacksdk knows this alias.
    return "admin_token" if auth_type == "token_endpoint" else str(auth_type)


def choose_options(auth_type: str, cloud: dict[str, Any]) -> dict[str, Any]:
    """The plugin's options: those in ``auth``, and those beside ``auth`` in the cloud.

    :param cloud: normalized. Options of the plugin are removed from it, so that no
        secret remains there.
    :raises ConfigError: if there is no such plugin.
    """
    auth = dict(cloud["auth"])
    for option in _options(auth_type, cloud):
        names = [item.name.replace("-", "_") for item in (option, *option.deprecated)]
        value = _first(auth, names) or _first(cloud, names)
        for name in names:
            auth.pop(name, None)
            cloud.pop(name, None)
        if value:
            auth[option.dest] = value
    return auth


def load_plugin(auth_type: str, options: Mapping[str, Any], where: str) -> Any:
    """Make the plugin.

    :param where: the source of the options, put before each error message.
    :raises ConfigError: if there is no such plugin, or if an option is missing,
        wrong or unknown.
    """
    loader = _loader(auth_type)
    _check_url(options, where)
    _check_required(auth_type, options, where)
    _check_domains(auth_type, options, where)
    try:
        return loader.load_from_options(**options)
    except exceptions.MissingRequiredOptions as error:
        names = ", ".join(f"auth.{option.dest}" for option in error.options)
        raise ConfigError(f"{where}: auth_type '{auth_type}' needs {names}") from None
    except exceptions.OptionError as error:
        raise ConfigError(f"{where}: {error}") from None
    except TypeError:
        raise ConfigError(_unknown_option(auth_type, options, where)) from None
    except ImportError as error:
        raise ConfigError(
            f"{where}: auth_type '{auth_type}' needs the Python package '{error.name}', "
            "which is not installed"
        ) from None


def missing_domains(auth_type: str, options: Mapping[str, Any]) -> list[str]:
    """The domain options that are missing beside the user's or the project's name.

    A name is unique only within its domain. An id needs no domain.
    """
    known = {option.dest for option in _options(auth_type, options)}
    missing = []
    for name, owner in (("username", "user"), ("project_name", "project")):
        domains = [f"{owner}_domain_id", f"{owner}_domain_name"]
        given = any(map(options.get, [*domains, "default_domain_id", "default_domain_name"]))
        if options.get(name) and known.issuperset(domains) and not given:
            missing.append(f"auth.{owner}_domain_name")
    return missing


def what_to_check(auth_type: str) -> str:
    """The options that are wrong if the server refuses the sign-in."""
    if auth_type in ("password", "v3password"):
        return "username, password, project_name, user_domain_name and project_domain_name"
    if auth_type == "v3applicationcredential":
        return (
            "application_credential_id and application_credential_secret, and whether it has "
            "expired or was deleted"
        )
    if auth_type in ("v1password", "v2password", "http_basic"):
        return "username and password"
    return "the options under auth"


def secrets(auth_type: str, options: Mapping[str, Any]) -> list[str]:
    """The option values that no message may contain."""
    marked = {option.dest for option in _options(auth_type, options) if option.secret}
    return [str(options[name]) for name in sorted(marked) if options.get(name)]


def _check_url(options: Mapping[str, Any], where: str) -> None:
    # keystoneauth1 writes the URL to the log unchanged.
    host = str(options.get("auth_url") or "").partition("://")[2].partition("/")[0]
    if "@" in host:
        raise ConfigError(f"{where}: auth.auth_url must not contain a user or a password")


def _check_required(auth_type: str, options: Mapping[str, Any], where: str) -> None:
    if auth_type in ("password", "v3password") and options.get("application_credential_id"):
        raise ConfigError(
            f"{where}: auth.application_credential_id needs auth_type: v3applicationcredential, "
            f"and auth_type is '{auth_type}' (which it is if it is not set)"
        )
    for group in _REQUIRED.get(auth_type, ()):
        if not any(options.get(name) for name in group):
            names = " or ".join(f"auth.{name}" for name in group)
            raise ConfigError(f"{where}: auth_type '{auth_type}' needs {names}")


def _check_domains(auth_type: str, options: Mapping[str, Any], where: str) -> None:
    # Plugins without a version in their name also work with Keystone's v2 API, which
    # has no domains.
    missing = missing_domains(auth_type, options) if auth_type.startswith("v3") else []
    if missing:
        raise ConfigError(
            f"{where}: {' and '.join(missing)} is missing (often 'Default'): "
            "a user or project name is unique only within its domain"
        )


def _unknown_option(auth_type: str, options: Mapping[str, Any], where: str) -> str:
    known = [option.dest for option in _options(auth_type, options)]
    unknown = [name for name in options if name not in known]
    near = nearest(unknown[0], known) if unknown else None
    hint = f"did you mean auth.{near}?" if near else f"its options are {', '.join(known)}"
    names = ", ".join(f"auth.{name}" for name in unknown)
    return f"{where}: {names} is not an option of auth_type '{auth_type}'; {hint}"


def _options(auth_type: str, cloud: Mapping[str, Any]) -> list[Any]:
    options = list(_loader(auth_type).get_options())
    if auth_type == "v3multifactor":
        for method in cloud.get("auth_methods") or ():
            options += loading.get_plugin_options(method)
    return options


def _first(values: Mapping[str, Any], names: list[str]) -> Any:
    return next((values[name] for name in names if name in values), None)


def _loader(auth_type: str) -> Any:
    if auth_type in _NEED_BROWSER:
        raise ConfigError(
            f"auth_type '{auth_type}' needs a web browser: "
            "create an application credential and set auth_type to v3applicationcredential"
        )
    try:
        loader: Any = loading.get_plugin_loader(auth_type)
    except exceptions.NoMatchingPlugin:
        raise ConfigError(_unknown_method(auth_type)) from None
    if not loader.available:
        raise ConfigError(
            f"auth_type '{auth_type}' needs Python packages that are not installed: install "
            "keystoneauth1 with the extra for this method, such as keystoneauth1[kerberos]"
        )
    return loader


def _unknown_method(auth_type: str) -> str:
    if auth_type == "v1password":
        return (
            "auth_type 'v1password' comes with python-swiftclient, which is not installed: "
            "pip install 'synapse-swift-storage-provider[v1password]'"
        )
    known = sorted(set(loading.get_available_plugin_names()) - _NEED_BROWSER)
    near = nearest(auth_type, known)
    hint = f"did you mean '{near}'?" if near else f"choose one of {', '.join(known)}"
    return f"there is no auth_type '{auth_type}'; {hint}"
