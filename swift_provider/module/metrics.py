"""The client's work as Prometheus metrics, in the registry that Synapse exposes.

Every metric has the label ``server_name``, which is Synapse's convention: several
homeservers may share a process. Ours also have ``container``: a homeserver may have
several providers. Those of the requests to Swift have ``member``, the name of the place:
a provider may have several mirrors.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from swift_provider.client import Observer

_LABELS = ("server_name", "container")
_OF_MEMBER = (*_LABELS, "member")

_REQUESTS = Counter(
    "synapse_swift_requests",
    "Requests to Swift, by method and HTTP status; 'none' if no answer came",
    ("method", "status", *_OF_MEMBER),
)
_SECONDS = Histogram(
    "synapse_swift_request_seconds",
    "Time from sending a request to Swift to the headers of its answer",
    ("method", *_OF_MEMBER),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
_ERRORS = Counter(
    "synapse_swift_errors", "Operations on Swift that failed for good", ("error", *_OF_MEMBER)
)
_RETRIES = Counter(
    "synapse_swift_retries", "Attempts that failed and were retried", ("error", *_OF_MEMBER)
)
_RESUMES = Counter(
    "synapse_swift_resumed_downloads", "Downloads resumed after a break or a pause", _OF_MEMBER
)
_SENT = Counter("synapse_swift_sent_bytes", "Bytes of media sent to Swift", _OF_MEMBER)
_RECEIVED = Counter(
    "synapse_swift_received_bytes", "Bytes of media received from Swift", _OF_MEMBER
)
_IN_FLIGHT = Gauge("synapse_swift_exchanges_in_flight", "Requests in flight", _OF_MEMBER)
_WAITING = Gauge(
    "synapse_swift_exchanges_waiting", "Requests that wait until others have ended", _OF_MEMBER
)
_UPLOADS_WAITING = Gauge(
    "synapse_swift_uploads_waiting", "Uploads in the background that have not begun", _LABELS
)
_UPLOADS_DROPPED = Counter(
    "synapse_swift_uploads_dropped",
    "Files that were not stored because too many uploads waited",
    _LABELS,
)
_REDIRECTS = Counter(
    "synapse_swift_redirects", "Requests of clients that were answered by a redirect", _LABELS
)
_MEMORY_REQUESTS = Counter(
    "synapse_swift_memory_requests",
    "Downloads of small files: from memory ('hit'), from Swift ('miss'), or with the response "
    "to another request for the same file ('shared')",
    ("result", *_LABELS),
)
_MEMORY_BYTES = Gauge("synapse_swift_memory_bytes", "Memory that small files take", _LABELS)
_MEMORY_FILES = Gauge("synapse_swift_memory_files", "Small files in memory", _LABELS)
_SIGN_INS = Counter(
    "synapse_swift_sign_ins",
    "Requests for a token; the result is 'issued', or the kind of error",
    ("result", *_OF_MEMBER),
)


_UP = Gauge(
    "synapse_swift_member_up",
    "Whether a place is used for requests: 0 while it fails and is left out",
    _OF_MEMBER,
)
_DEBTS = Gauge(
    "synapse_swift_member_debts",
    "Objects that wait to be copied to a place, or deleted from it, because it was unreachable",
    _OF_MEMBER,
)


class MemberMetrics(Observer):
    """Counts the requests to one place.

    :param server_name: the homeserver's.
    :param member: the place's name.
    """

    def __init__(self, server_name: str, container: str, member: str) -> None:
        self._labels = labels = (server_name, container, member)
        self._answers: dict[tuple[str, int | None], tuple[Counter, Histogram]] = {}
        self._resumes = _RESUMES.labels(*labels)
        self._sent = _SENT.labels(*labels)
        self._received = _RECEIVED.labels(*labels)
        self._gauges = (_IN_FLIGHT.labels(*labels), _WAITING.labels(*labels))
        self._slots = (0, 0)
        self._up = _UP.labels(*labels)
        self._up.set(1)
        self._debts = _DEBTS.labels(*labels)

    def exchange_finished(self, method: str, status: int | None, seconds: float) -> None:
        key = (method, status)
        answer = self._answers.get(key)
        if answer is None:
            status_label = "none" if status is None else str(status)
            answer = self._answers[key] = (
                _REQUESTS.labels(method, status_label, *self._labels),
                _SECONDS.labels(method, *self._labels),
            )
        answer[0].inc()
        answer[1].observe(seconds)

    def failed(self, error: Exception) -> None:
        _ERRORS.labels(type(error).__name__, *self._labels).inc()

    def retried(self, error: Exception) -> None:
        _RETRIES.labels(type(error).__name__, *self._labels).inc()

    def resumed(self) -> None:
        self._resumes.inc()

    def sent(self, count: int) -> None:
        self._sent.inc(count)

    def received(self, count: int) -> None:
        self._received.inc(count)

    def slots_changed(self, in_flight: int, waiting: int) -> None:
        now = (in_flight, waiting)
        _change(self._gauges, self._slots, now)
        self._slots = now

    def signed_in(self, error: Exception | None) -> None:
        result = "issued" if error is None else type(error).__name__
        _SIGN_INS.labels(result, *self._labels).inc()

    def reachable(self, works: bool) -> None:
        self._up.set(int(works))

    def owed(self, objects: int) -> None:
        self._debts.set(objects)


class Metrics:
    """Counts the work of one provider, beside its requests.

    :param server_name: the homeserver's.
    """

    def __init__(self, server_name: str, container: str) -> None:
        labels = (server_name, container)
        self._uploads_waiting = _UPLOADS_WAITING.labels(*labels)
        self._waiting = 0
        self._uploads_dropped = _UPLOADS_DROPPED.labels(*labels)
        self._redirects = _REDIRECTS.labels(*labels)
        self._memory_requests = {
            result: _MEMORY_REQUESTS.labels(result, *labels) for result in ("hit", "miss", "shared")
        }
        self._memory_gauges = (_MEMORY_BYTES.labels(*labels), _MEMORY_FILES.labels(*labels))
        self._memory = (0, 0)

    def uploads_waiting(self, count: int) -> None:
        """So many uploads in the background have not begun."""
        self._uploads_waiting.inc(count - self._waiting)
        self._waiting = count

    def upload_dropped(self) -> None:
        """A file is not stored, because too many uploads wait."""
        self._uploads_dropped.inc()

    def redirected(self) -> None:
        """A client was sent to Swift."""
        self._redirects.inc()

    def memory_request(self, result: str) -> None:
        """A small file was asked for: ``"hit"``, ``"miss"`` or ``"shared"``."""
        self._memory_requests[result].inc()

    def memory_changed(self, size: int, files: int) -> None:
        """Small files take so many bytes of memory; there are so many of them."""
        now = (size, files)
        _change(self._memory_gauges, self._memory, now)
        self._memory = now


def _change(gauges: tuple[Gauge, ...], before: tuple[int, ...], now: tuple[int, ...]) -> None:
    """Two providers with the same container share a gauge, so each adds its difference."""
    for gauge, old, new in zip(gauges, before, now, strict=True):
        if new != old:
            gauge.inc(new - old)
