"""What the module counts, as Synapse's metrics show it."""

from __future__ import annotations

from uuid import uuid4

from prometheus_client import REGISTRY
from twisted.internet.threads import deferToThread

from swift_provider.module.metrics import MemberMetrics, Metrics
from tests.module.conftest import Servers
from tests.module.homeservers import OUTAGE, there
from tests.servers.faults import Answer, Reset, Stall, in_response

BIG = bytes(range(256)) * 12_000  # 3 MB


async def test_metrics(servers: Servers) -> None:
    """Synapse's metrics tell of requests, errors, retries, bytes, sign-ins, by container."""
    await there(servers.here.user.upload, BIG)  # the first one also asks for Swift's limits
    before = await there(servers.here.metrics)
    uri = await there(servers.here.user.upload, BIG)
    servers.here.lose_disk()
    servers.proxy.add(Reset(in_response(500_000), match=("GET", "")))
    assert await there(servers.here.user.download, uri) == BIG
    servers.here.lose_disk()
    servers.proxy.add(Answer(match=("GET", ""), **OUTAGE))
    assert await there(servers.here.download_status, uri) == 503
    after = await there(servers.here.metrics)

    def grown(name: str, **labels: str) -> float:
        samples = _samples(servers, after, name, **labels)
        return sum(value - before.get(sample, 0) for sample, value in samples.items())

    assert grown("requests_total", method="PUT", status="201") == 1
    assert grown("requests_total", method="GET", status="200") == 1
    assert grown("requests_total", method="GET", status="206") == 1
    assert grown("requests_total", method="GET", status="503") == 1
    assert grown("request_seconds_count", method="PUT") == 1
    assert grown("errors_total", error="ServerBusyError") == 1
    assert grown("retries_total", error="ConnectionFailedError") == 1
    assert grown("resumed_downloads_total") == 1
    assert grown("received_bytes_total") == len(BIG)
    assert grown("sent_bytes_total") == len(BIG)
    assert grown("exchanges_in_flight") == 0
    (signed_in,) = _samples(servers, after, "sign_ins_total", result="issued").values()
    assert signed_in == 1


async def test_gauges(servers: Servers) -> None:
    """A download counts as in flight until it ends."""
    uri = await there(servers.here.user.upload, BIG)
    servers.here.lose_disk()
    stall = Stall(in_response(500_000), match=("GET", servers.main))
    servers.proxy.add(stall)
    downloading = deferToThread(servers.here.user.download, uri)
    await stall.happened()
    assert await there(_gauges, servers) == (1, 0)
    stall.release()
    assert await downloading == BIG
    await servers.proxy.wait_idle()
    assert await there(_gauges, servers) == (0, 0)


def test_providers_of_one_container_add_up() -> None:
    """A gauge is the sum of all providers that share a container."""
    labels = {"server_name": "here", "container": uuid4().hex, "member": "cloud"}

    def gauges() -> list[float | None]:
        names = ("synapse_swift_exchanges_in_flight", "synapse_swift_exchanges_waiting")
        return [REGISTRY.get_sample_value(name, labels) for name in names]

    one, other = (MemberMetrics(**labels) for _ in range(2))
    assert gauges() == [0, 0]
    one.slots_changed(2, 1)
    other.slots_changed(1, 3)
    assert gauges() == [3, 4]
    one.slots_changed(0, 0)
    assert gauges() == [1, 3]
    other.slots_changed(0, 0)
    assert gauges() == [0, 0]


def test_memory_of_one_container_adds_up() -> None:
    """The memory of all providers that share a container is counted together."""
    labels = {"server_name": "here", "container": uuid4().hex}

    def memory() -> list[float | None]:
        names = ("synapse_swift_memory_bytes", "synapse_swift_memory_files")
        return [REGISTRY.get_sample_value(name, labels) for name in names]

    one, other = (Metrics(**labels) for _ in range(2))
    assert memory() == [0, 0]
    one.memory_changed(1000, 1)
    other.memory_changed(5000, 2)
    assert memory() == [6000, 3]
    one.memory_changed(0, 0)
    assert memory() == [5000, 2]


def _gauges(servers: Servers) -> tuple[float, float]:
    """Exchanges of the main container: in flight, waiting."""
    metrics = servers.here.metrics()
    (in_flight,) = _samples(servers, metrics, "exchanges_in_flight").values()
    (waiting,) = _samples(servers, metrics, "exchanges_waiting").values()
    return in_flight, waiting


def _samples(
    servers: Servers, metrics: dict[str, float], name: str, **labels: str
) -> dict[str, float]:
    """The main container's samples of a metric. There must be some."""
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    wanted += [f'container="{servers.main}"', f'server_name="{servers.here.server_name}"']
    found = {
        sample: value
        for sample, value in metrics.items()
        if sample.startswith(f"synapse_swift_{name}{{") and all(w in sample for w in wanted)
    }
    assert found, f"no metric {name} with {wanted}"
    return found
