"""How many bytes of a connection have really left this machine.

Bytes that were handed to Twisted or to the kernel may wait there for a long time: a slow
line takes a second for what is handed over at once. Linux counts the bytes that the peer
has acknowledged (``tcpi_bytes_acked`` in ``TCP_INFO``; linux/tcp.h, since Linux 4.2).
"""

from __future__ import annotations

import socket
import struct
from typing import Any

_COUNT = struct.Struct("=Q")
#: Where ``tcpi_bytes_acked`` is: after 8 bytes, 24 numbers of 32 bits, and two of 64.
_OFFSET = 8 + 24 * 4 + 2 * 8


def bytes_acknowledged(wire: Any) -> int | None:
    """The bytes that the other end of a connection has acknowledged so far.

    :param wire: the connection's transport, with or without TLS.
    :returns: ``None`` if this system does not tell.
    """
    tcp = getattr(wire, "transport", wire)  # TLS wraps the TCP transport
    option = getattr(socket, "TCP_INFO", None)
    if option is None:
        return None
    try:
        info = tcp.getHandle().getsockopt(socket.IPPROTO_TCP, option, _OFFSET + _COUNT.size)
    except (OSError, AttributeError):
        return None
    if len(info) < _OFFSET + _COUNT.size:
        return None
    (count,) = _COUNT.unpack_from(info, _OFFSET)
    return int(count)
