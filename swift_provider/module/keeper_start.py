"""Takes from Synapse's configuration what the keeper of its disk needs, or refuses it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from synapse.module_api.errors import ConfigError as SynapseConfigError

from swift_provider.config import Settings
from swift_provider.module.disk_keeper import DiskKeeper
from swift_provider.module.keeper_site import Site

if TYPE_CHECKING:
    from synapse.server import HomeServer


def disk_keeper(
    hs: HomeServer, settings: Settings, wrapper: Any, keeps_local: bool
) -> DiskKeeper | None:
    """The keeper of Synapse's disk; ``None`` if the entry has no ``local_disk``.

    :param settings: of the entry.
    :param wrapper: has ``store_local`` and ``store_remote``.
    :param keeps_local: whether Synapse has a media store.
    :raises synapse.module_api.errors.ConfigError: if Synapse has no media store, or another
        entry has ``local_disk`` too.
    """
    limits = settings.local_disk
    if limits is None:
        return None
    media = hs.config.media
    where = f"media_storage_providers, container {settings.container}: config.local_disk"
    if not keeps_local:
        raise SynapseConfigError(
            f"{where} has nothing to do, because enable_local_media_storage is false: Synapse "
            "keeps no media on its disk. Remove local_disk"
        )
    entries = [
        parsed.container
        for _, parsed, _ in media.media_storage_providers
        if isinstance(parsed, Settings) and parsed.local_disk is not None
    ]
    if len(entries) > 1:
        raise SynapseConfigError(
            f"{where} may be in one entry only, and it is in those of {' and '.join(entries)}: "
            "leave it in the one whose container has all media"
        )
    # Such as store_remote: files of other servers are missing in Swift on purpose.
    kinds = {"local": wrapper.store_local, "remote": wrapper.store_remote}
    named = media.media_instance_running_background_jobs
    return DiskKeeper(
        hs.get_reactor(),
        hs.get_module_api().run_as_background_process,
        Site(
            server_name=hs.hostname,
            instance=hs.get_instance_name(),
            does_chores=None if named is None else named == hs.get_instance_name(),
            media_store=media.media_store_path,
            database=_database(hs),
            settings=settings,
            limits=limits,
            repair_kinds=frozenset(kind for kind, stored in kinds.items() if stored),
            chores_instance=named,
        ),
    )


def _database(hs: HomeServer) -> dict[str, Any]:
    """``name`` and ``args`` of the database with the media tables, as they are configured."""
    main = next(one for one in hs.config.database.databases if "main" in one.databases)
    return {"name": main.config.get("name", "sqlite3"), "args": main.config.get("args") or {}}
