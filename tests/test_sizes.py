"""How a person reads a number of bytes."""

from __future__ import annotations

from swift_provider.sizes import readable


def test_readable_sizes() -> None:
    """Sizes are shown in the largest unit that leaves a whole number."""
    assert [readable(n) for n in (0, 1023, 1024, 5 * 1024**3, 2**50)] == [
        "0 bytes",
        "1023 bytes",
        "1.0 KiB",
        "5.0 GiB",
        "1024.0 TiB",
    ]
