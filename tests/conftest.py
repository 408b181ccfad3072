"""What every test needs: coroutine tests run on the Twisted reactor."""

from __future__ import annotations

import inspect

import pytest
import pytest_twisted


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """``async def test_…`` needs no decorator."""
    for item in items:
        function = getattr(item, "obj", None)
        if inspect.iscoroutinefunction(function):
            item.obj = pytest_twisted.ensureDeferred(function)  # type: ignore[attr-defined]
