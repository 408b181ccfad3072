"""What a person can do with the demo's servers while ``--keep-running`` keeps them up."""

from __future__ import annotations

import shlex
import sysconfig

from tests.servers.demo_place import CONTAINER, PASSWORD, USER, Place

_GUIDE = """
The servers stay up until you press Ctrl-C. All of it listens on this machine only.

A Matrix client such as Element: homeserver {synapse}, user {user}, password {password}

curl, as that user:
    curl -H 'Authorization: Bearer {token}' -H 'Content-Type: text/plain' \\
        --data 'Hello' {synapse}/_matrix/media/v3/upload
    curl -H 'Authorization: Bearer {token}' \\
        {synapse}/_matrix/client/v1/media/download/SERVER/MEDIA_ID

The command 'swift', as Synapse's user in OpenStack:
{exports}
    {scripts}/swift list --long {container}

The script, which says how local_disk goes, and whether Swift has all media:
    export OS_CLIENT_CONFIG_FILE={clouds_yaml}
    mkdir -p {folder}/by-hand && cd {folder}/by-hand
    {scripts}/swift_media_upload status {store} \\
        --homeserver-config-path {config}
    {scripts}/swift_media_upload verify {store} \\
        --homeserver-config-path {config}

What you upload stays on the disk until nobody has accessed it for ten minutes.

Logs and files: {folder}
"""


def print_guide(place: Place) -> None:
    """Print addresses, user, password and commands to copy."""
    variables = place.account.environment().items()
    print(
        _GUIDE.format(
            synapse=place.synapse.url,
            user=USER,
            password=PASSWORD,
            token=place.token,
            exports="\n".join(f"    export {key}={shlex.quote(value)}" for key, value in variables),
            scripts=sysconfig.get_path("scripts"),
            container=CONTAINER,
            clouds_yaml=place.clouds_yaml,
            folder=place.folder,
            store=place.synapse.media_store,
            config=place.synapse.config_path,
        ),
        flush=True,
    )
