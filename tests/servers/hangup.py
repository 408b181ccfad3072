"""Notices that the peer of a socket has gone although nobody reads from it.

Twisted takes a paused socket out of its epoll set, so a peer that leaves is
seen only after the pause. An epoll set of our own can be waited for like any
other descriptor.
"""

from __future__ import annotations

import select

from twisted.internet.interfaces import IReadDescriptor
from zope.interface import implementer


@implementer(IReadDescriptor)
class HangupWatch:
    """Calls back once when the peer resets or, if asked for, ends its side.

    :param ends_too: whether a FIN counts; unread bytes before it are not waited for.
    """

    def __init__(self, reactor, descriptor: int, gone, ends_too: bool) -> None:
        self._reactor = reactor
        self._gone = gone
        self._epoll = select.epoll()
        # EPOLLERR and EPOLLHUP are always reported.
        self._epoll.register(descriptor, select.EPOLLRDHUP if ends_too else 0)
        reactor.addReader(self)

    def fileno(self) -> int:
        """The set's own descriptor; -1 once stopped."""
        return -1 if self._epoll.closed else self._epoll.fileno()

    def doRead(self) -> None:
        """The set has an event, and there is only one that it can be."""
        self.stop()
        self._gone()

    def stop(self) -> None:
        """Ends the watch; a second call is harmless."""
        if not self._epoll.closed:
            self._reactor.removeReader(self)
            self._epoll.close()

    def connectionLost(self, _reason) -> None:
        """The reactor itself ends."""
        self.stop()

    def logPrefix(self) -> str:
        """Name in Twisted's log."""
        return "hangup-watch"
