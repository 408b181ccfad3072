"""The work on Synapse's disk as Prometheus metrics, in the registry that Synapse exposes.

The labels are those of the provider's other metrics: ``server_name`` and ``container``. Only
the process that does the work has samples. Gauges go when another process takes over: else an
alert would go by what this one has seen.

- ``synapse_swift_local_bytes``, ``synapse_swift_local_files``: what media and thumbnails take
  on the disk, as the last run measured it;
- ``synapse_swift_local_limit_bytes``: the option ``max_size``, if it is set;
- ``synapse_swift_local_freed_bytes_total``, ``synapse_swift_local_removed_files_total``: what
  was removed from the disk;
- ``synapse_swift_local_repaired_uploads_total``: files that Swift lacked;
- ``synapse_swift_local_failures_total``: by ``reason``: files that failed, each with the reason
  that the run gave; runs with a trouble (``swift``, ``database``, ``disk``, ``refused``,
  ``version``, ``busy``), that end ``over`` the limits, or whose process ``died``, is ``silent``
  or ``stuck``; and looks at the disk that failed (``disk``) or that ``hangs``;
- ``synapse_swift_local_run_seconds_total``: how long all runs took;
- ``synapse_swift_local_last_success_timestamp_seconds``: when a run last ended without trouble
  and within the limits; before the first, when the process began to keep the disk;
- ``synapse_swift_pruned_objects_total``: objects and segments that were deleted from Swift.
"""

from __future__ import annotations

from contextlib import suppress

from prometheus_client import Counter, Gauge

from swift_provider.keeper import Report

_LABELS = ("server_name", "container")

_BYTES = Gauge("synapse_swift_local_bytes", "What media take on Synapse's disk", _LABELS)
_FILES = Gauge("synapse_swift_local_files", "Media files on Synapse's disk", _LABELS)
_LIMIT = Gauge("synapse_swift_local_limit_bytes", "The option local_disk.max_size", _LABELS)
_FREED = Counter(
    "synapse_swift_local_freed_bytes", "Bytes of files removed from Synapse's disk", _LABELS
)
_REMOVED = Counter(
    "synapse_swift_local_removed_files", "Files removed from Synapse's disk", _LABELS
)
_REPAIRED = Counter(
    "synapse_swift_local_repaired_uploads",
    "Files on Synapse's disk that Swift lacked, and that were uploaded",
    _LABELS,
)
_FAILURES = Counter(
    "synapse_swift_local_failures",
    "Files that failed, and runs over Synapse's disk with a trouble, by reason",
    ("reason", *_LABELS),
)
_SECONDS = Counter(
    "synapse_swift_local_run_seconds", "Time that runs over Synapse's disk took", _LABELS
)
_LAST_SUCCESS = Gauge(
    "synapse_swift_local_last_success_timestamp_seconds",
    "When a run over Synapse's disk last ended without trouble, within the limits",
    _LABELS,
)
_PRUNED = Counter(
    "synapse_swift_pruned_objects", "Objects and segments deleted from Swift", _LABELS
)


class KeeperMetrics:
    """Counts the runs of one process.

    :param max_size: the option; ``None`` if it is not set.
    """

    def __init__(self, server_name: str, container: str, max_size: int | None) -> None:
        self._labels = (server_name, container)
        self._max_size = max_size
        self._last = Report()

    def keeps(self, last_success: float) -> None:
        """This process now keeps the disk.

        :param last_success: when a run of any process last succeeded; if none did, now.
        """
        self.succeeded(last_success)

    def lost(self) -> None:
        """Another process keeps it."""
        for gauge in (_BYTES, _FILES, _LIMIT, _LAST_SUCCESS):
            with suppress(KeyError):
                gauge.remove(*self._labels)

    def begun(self) -> None:
        """A run begins: its reports count from zero."""
        self._last = Report()
        if self._max_size is not None:
            _LIMIT.labels(*self._labels).set(self._max_size)

    def reported(self, report: Report) -> None:
        """A run tells what it has done since it began."""
        before, self._last = self._last, report
        labels = self._labels
        for counter, now, then in (
            (_FREED, report.freed, before.freed),
            (_REMOVED, report.removed, before.removed),
            (_REPAIRED, report.uploaded, before.uploaded),
            (_SECONDS, report.seconds, before.seconds),
            (_PRUNED, report.pruned, before.pruned),
        ):
            counter.labels(*labels).inc(max(0, now - then))
        for reason, count in report.failed.items():
            _FAILURES.labels(reason, *labels).inc(max(0, count - before.failed.get(reason, 0)))
        if report.on_disk is not None:
            _BYTES.labels(*labels).set(report.on_disk)
        if report.files is not None:
            _FILES.labels(*labels).set(report.files)
        if report.final:
            for trouble in report.troubles:
                self.failed(trouble.value)

    def failed(self, reason: str) -> None:
        """A run had a trouble."""
        _FAILURES.labels(reason, *self._labels).inc()

    def succeeded(self, now: float) -> None:
        """A run ended without trouble, within the limits."""
        _LAST_SUCCESS.labels(*self._labels).set(now)
