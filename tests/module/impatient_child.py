"""``python -m tests.module.impatient_child CONSTANTS``: the real child process, with shorter times.

CONSTANTS is JSON, ``{module: {constant: value}}``. A constant that is a ``timedelta`` gets a
value in seconds.
"""

from __future__ import annotations

import importlib
import json
import sys
from datetime import timedelta
from typing import Any

#: What Synapse has deleted goes soon. All clocks of a test are one, and a test has few media, of
#: which it deletes many.
GRACE = {
    "swift_provider.offload.jobs.prunable": {"YOUNG": 5.0},
    "swift_provider.offload.jobs.prune_rules": {"CLOCKS_DIFFER": 0.0, "FEW": 1000},
}


def command(constants: dict[str, dict[str, Any]]) -> list[str]:
    """What runs it."""
    return [sys.executable, "-m", "tests.module.impatient_child", json.dumps(constants)]


def _main() -> int:
    for name, constants in json.loads(sys.argv[1]).items():
        module = importlib.import_module(name)
        for constant, value in constants.items():
            before = getattr(module, constant)
            if isinstance(before, timedelta):
                value = timedelta(seconds=value)
            setattr(module, constant, value)
    from swift_provider.offload.keeper.__main__ import main

    return main()


if __name__ == "__main__":
    sys.exit(_main())
