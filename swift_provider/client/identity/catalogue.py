"""Which of the catalogue's endpoints is the Swift that is meant.

Region and interface choose; nothing is guessed, and nothing is asked over the
network. The catalogue comes with the token:
https://docs.openstack.org/api-ref/identity/v3/#password-authentication-with-scoped-authorization
"""

from __future__ import annotations

from keystoneauth1.access.service_catalog import ServiceCatalog

from swift_provider.client.identity.clouds import Cloud
from swift_provider.errors import AuthError

#: Filled with the cloud's title.
NO_CATALOGUE = (
    "the token for {} comes without a catalogue: set auth.project_name or auth.project_id, "
    "or give Swift's URL as storage_url"
)


def find_endpoint(catalog: ServiceCatalog, cloud: Cloud) -> str:
    """Swift's URL, as the catalogue has it, without a slash at its end.

    :raises AuthError: if there is none, or several regions and none is chosen.
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
    urls = [str(endpoint.url).rstrip("/") for endpoint in found]
    if cloud.region_name is None and len(regions) > 1 and len(set(urls)) > 1:
        raise AuthError(
            f"{cloud.title} has Swift in several regions: set region_name to one of "
            f"{', '.join(regions)}"
        )
    return urls[0]


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
        "is Swift part of this project's cloud? If so, give its URL as storage_url"
    )
