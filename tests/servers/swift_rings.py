"""``python -m tests.servers.swift_rings FOLDER DEVICE RING=PORT…``: one-replica, one-device rings.

A process of its own, because Swift's modules bring eventlet along.
"""

from __future__ import annotations

import sys

from swift.common.ring import RingBuilder

PART_POWER = 6


def main() -> None:
    folder, device, *rings = sys.argv[1:]
    for argument in rings:
        name, port = argument.split("=")
        builder = RingBuilder(PART_POWER, replicas=1, min_part_hours=0)
        builder.add_dev(
            {
                "region": 1,
                "zone": 1,
                "ip": "127.0.0.1",
                "port": int(port),
                "device": device,
                "weight": 1.0,
            }
        )
        builder.rebalance()
        builder.get_ring().save(f"{folder}/{name}.ring.gz")


if __name__ == "__main__":
    main()
