"""A Synapse module that sets constants of the package: times that a test cannot wait for.

Its options are ``{module: {constant: value}}``. Loaded by ``modules:`` in ``homeserver.yaml``.
A constant that is a ``timedelta``, such as Synapse's own, gets a value in seconds.
"""

from __future__ import annotations

import importlib
from datetime import timedelta
from typing import Any

from synapse.module_api import ModuleApi


class Impatient:
    """Made by Synapse, before its reactor runs."""

    def __init__(self, config: dict[str, dict[str, Any]], api: ModuleApi) -> None:
        for name, constants in config.items():
            module = importlib.import_module(name)
            for constant, value in constants.items():
                before = getattr(module, constant)
                if isinstance(before, timedelta):
                    value = type(before)(seconds=value)
                setattr(module, constant, value)
