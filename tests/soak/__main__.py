"""``python -m tests.soak MINUTES``: Synapse under load, while everything around it fails.

In three parts, one a run. ``network``: the network to Swift and to Keystone fails, objects are
damaged inside Swift, the local disk is full for a while; beside the load run all commands of
``swift_media_upload``, restarts of Synapse, and another homeserver in the same container.
``mirrors``: media are in two Swifts, and one of them at a time is killed, slow, busy, or loses
objects. ``move``: from one Swift to another, while ``sync`` is killed again and again.
At the end every file that a client was told is stored is fetched and compared. Started by
``scripts/soak``.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from tests.servers import process
from tests.soak import mirrors, move, network

#: Of the time that is asked for, kept for what comes after the load.
LAST_SECONDS = 30.0

#: Each is told when its load ends, as of ``time.monotonic``, and returns its report.
PARTS: dict[str, Callable[[float, random.Random], dict[str, Any]]] = {
    "network": network.soak,
    "mirrors": mirrors.soak,
    "move": move.soak,
}


def main(argv: Sequence[str] | None = None) -> int:
    """:returns: 0 if nothing was lost and nothing is held; 1 otherwise."""
    options = _options(argv)
    until = time.monotonic() + options.minutes * 60 - LAST_SECONDS
    signal.signal(signal.SIGTERM, _on_sigterm)
    try:
        report = PARTS[options.part](until, random.Random(options.seed))
    except KeyboardInterrupt:
        print("Interrupted; all servers are down.")
        return 130
    _write(options.out, options.part, report)
    print(json.dumps(report, indent=2))
    if report["wrong"]:
        print(f"FAILED: {len(report['wrong'])} things that must not be, above under 'wrong'.")
        return 1
    print("Nothing was lost.")
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("minutes", type=float, metavar="MINUTES", help="in all, about")
    parser.add_argument("--part", choices=PARTS, default="network", help="(default: network)")
    parser.add_argument("--seed", type=int, default=1, help="of the order of faults (default: 1)")
    parser.add_argument(
        "--out",
        type=Path,
        default=process.ROOT / ".bench" / "results",
        metavar="FOLDER",
        help="where soak.json or soak-PART.json goes (default: .bench/results)",
    )
    options = parser.parse_args(argv)
    if not 0 < options.minutes <= 24 * 60:
        parser.error("MINUTES is a number above 0, at most a day")
    return options


def _on_sigterm(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _write(folder: Path, part: str, report: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name = "soak.json" if part == "network" else f"soak-{part}.json"
    (folder / name).write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except process.ServiceError as error:
        sys.exit(f"scripts/soak: {error}")
