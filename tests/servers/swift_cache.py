"""A cache filter for one Swift proxy process, in place of memcached.

Offers what Swift and keystonemiddleware use of
``swift.common.memcached.MemcacheRing``. TempAuth keeps its tokens in it.
Values go through JSON, as they would on their way to memcached: nobody can
change a cached value by accident.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any


class Cache:
    """A dict with expiry. ``time`` is in seconds; 0 means for ever."""

    def __init__(self) -> None:
        self._items: dict[str, tuple[float, str]] = {}

    def get(self, key: str, raise_on_error: bool = False) -> Any:
        expires, text = self._items.get(key, (0.0, "null"))
        if expires < time.monotonic():
            self._items.pop(key, None)
            return None
        return json.loads(text)

    def set(
        self,
        key: str,
        value: Any,
        serialize: bool = True,
        time: float = 0,
        min_compress_len: int = 0,
        raise_on_error: bool = False,
    ) -> None:
        if isinstance(value, bytes):
            value = value.decode()
        self._items[key] = (_expiry(time), json.dumps(value))

    def incr(self, key: str, delta: int = 1, time: float = 0) -> int:
        value = max(0, int(self.get(key) or 0) + int(delta))
        self.set(key, value, time=time)
        return value

    def decr(self, key: str, delta: int = 1, time: float = 0) -> int:
        return self.incr(key, -int(delta), time)

    def delete(self, key: str, server_key: str | None = None) -> None:
        self._items.pop(key, None)

    def set_multi(
        self, mapping: Mapping[str, Any], server_key: str, time: float = 0, **options: Any
    ) -> None:
        for key, value in mapping.items():
            self.set(key, value, time=time)

    def get_multi(self, keys: Iterable[str], server_key: str) -> list[Any]:
        return [self.get(key) for key in keys]


def _expiry(seconds: float) -> float:
    return time.monotonic() + seconds if seconds > 0 else float("inf")


def filter_factory(global_conf: Mapping[str, str], **local_conf: str) -> Callable[..., Any]:
    """Paste's entry: puts one :class:`Cache` into each request's environment."""
    cache = Cache()

    def with_cache(app: Callable[..., Any]) -> Callable[..., Any]:
        def call(env: dict[str, Any], start_response: Callable[..., Any]) -> Any:
            env["swift.cache"] = cache
            return app(env, start_response)

        return call

    return with_cache
