"""A Synapse module that lets a test call the storage providers as Synapse itself does.

Loaded by ``modules:`` in ``homeserver.yaml``; imports nothing but what Synapse's own
environment has.
"""

from __future__ import annotations

from typing import Any

from synapse.logging.context import current_context
from synapse.media._base import FileInfo
from synapse.module_api import (
    DirectServeJsonResource,
    ModuleApi,
    SynapseRequest,
    make_deferred_yieldable,
    parse_json_object_from_request,
    run_in_background,
)
from twisted.internet.defer import CancelledError

PATH = "/_probe"


class Probe:
    """Made by Synapse; serves PATH."""

    def __init__(self, config: object, api: ModuleApi) -> None:
        api.register_web_resource(PATH, _Calls(api))


class _Calls(DirectServeJsonResource):
    """POST ``{"call", "container", "path", "url_cache"}``: a result and ``kept_context``."""

    def __init__(self, api: ModuleApi) -> None:
        super().__init__(clock=api._hs.get_clock())
        self._api = api

    async def _async_render_POST(self, request: SynapseRequest) -> tuple[int, Any]:
        asked = parse_json_object_from_request(request)
        backend = _backend(self._api, asked["container"])
        info = FileInfo(server_name=None, file_id="probe", url_cache=asked["url_cache"])
        before = current_context()
        result = await getattr(self, "_" + asked["call"])(backend, asked["path"], info)
        return 200, {"result": result, "kept_context": current_context() is before}

    async def _fetch_and_leave(self, backend: Any, path: str, info: FileInfo) -> bool:
        responder = await backend.fetch(path, info)
        if responder is None:
            return False
        with responder:
            pass
        return True

    async def _fetch_twice_and_cancel_one(self, backend: Any, path: str, info: FileInfo) -> bool:
        first, second = (run_in_background(backend.fetch, path, info) for _ in range(2))
        cancelled = make_deferred_yieldable(first)
        first.cancel()
        try:
            await cancelled
        except CancelledError:
            with await make_deferred_yieldable(second):
                return True
        return False

    async def _store(self, backend: Any, path: str, info: FileInfo) -> None:
        await backend.store_file(path, info)

    async def _delete(self, backend: Any, path: str, info: FileInfo) -> None:
        await backend.delete(path, info)

    async def _delete_and_cancel(self, backend: Any, path: str, info: FileInfo) -> bool:
        deleting = run_in_background(backend.delete, path, info)
        deleted = make_deferred_yieldable(deleting)
        deleting.cancel()
        try:
            await deleted
        except CancelledError:
            return True
        return False


def _backend(api: ModuleApi, container: str) -> Any:
    for wrapper in api._hs.get_media_repository().media_storage.storage_providers:
        if f"[{container}]" in str(wrapper):
            return wrapper.backend
    raise LookupError(container)
