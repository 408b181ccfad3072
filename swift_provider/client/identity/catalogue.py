"""Finds Swift's endpoint in the catalogue, by region and interface.

Never guesses between several, and sends no request: Keystone returns the
catalogue together with the token.
https://docs.openstack.org/api-ref/identity/v3/#password-authentication-with-scoped-authorization
"""

from __future__ import annotations

from keystoneauth1.access.service_catalog import ServiceCatalog

from swift_provider.client.identity.clouds import Cloud
from swift_provider.errors import AuthError

#: An error message; ``{}`` stands for the cloud's title.
NO_CATALOGUE = (
    "the token for {} comes without a catalogue: set auth.project_name or auth.project_id, "
    "or set storage_url to Swift's URL"
)


def find_endpoint(catalog: ServiceCatalog, cloud: Cloud) -> str:
    """Swift's URL from the catalogue, without a slash at its end.

    :raises AuthError: if no endpoint matches, if several regions do and the cloud
        names none of them, or if the region has several URLs.
    """
    if not catalog.catalog:
        raise AuthError(NO_CATALOGUE.format(cloud.title))
    wanted = {"service_type": cloud.service_type, "service_name": cloud.service_name}
    interface = list(cloud.interface) if isinstance(cloud.interface, tuple) else cloud.interface
    everywhere = catalog.get_endpoint_data_list(interface=interface, **wanted)
    regions = sorted({str(endpoint.region_name) for endpoint in everywhere})
    found = catalog.get_endpoint_data_list(
        interface=interface, region_name=cloud.region_name, **wanted
    )
    if not found:
        raise AuthError(_not_found(catalog, cloud, regions))
    urls = sorted({str(endpoint.url).rstrip("/") for endpoint in found})
    if len(urls) == 1:
        return urls[0]
    if cloud.region_name is None and len(regions) > 1:
        raise AuthError(
            f"{cloud.title} has Swift in several regions: set region_name to one of "
            f"{', '.join(regions)}"
        )
    # Swift and Ceph RGW side by side, for example. Keystone may list them in another order
    # next time, and then the media would seem to be gone.
    raise AuthError(
        f"{cloud.title} has several services of type {cloud.service_type} in the region "
        f"'{regions[0] if cloud.region_name is None else cloud.region_name}': "
        f"set storage_url to the one to use ({', '.join(urls)})"
    )


def _not_found(catalog: ServiceCatalog, cloud: Cloud, regions: list[str]) -> str:
    shown = cloud.interface if isinstance(cloud.interface, str) else ", ".join(cloud.interface)
    if regions:
        return (
            f"{cloud.title} has no Swift in the region '{cloud.region_name}' (interface {shown}): "
            f"set region_name to one of {', '.join(regions)}"
        )
    others = catalog.get_endpoint_data_list(
        service_type=cloud.service_type, service_name=cloud.service_name, interface=None
    )
    if others:
        interfaces = sorted({str(endpoint.interface) for endpoint in others})
        return (
            f"{cloud.title} has no Swift with the interface {shown}: "
            f"set interface to one of {', '.join(interfaces)}"
        )
    return (
        f"the catalogue of {cloud.title} has no service of type {cloud.service_type}: "
        "ask the cloud's operator for Swift, or set storage_url to its URL"
    )
