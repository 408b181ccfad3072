"""``python -m tests.soak MINUTES``: Synapse under load, with a network to Swift that keeps failing.

Beside the load run ``upload --delete``, ``verify`` and restarts of Synapse. At
the end every file that a client was told is stored is fetched and compared.
Started by ``scripts/soak``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread

from tests.servers import process
from tests.servers.fault_proxy import FaultProxy
from tests.servers.faults import ON_REQUEST, Stall
from tests.soak.judge import Held, held, judge_files, judge_held
from tests.soak.load import Load
from tests.soak.place import Place, everything_running
from tests.soak.record import Record
from tests.soak.trouble import Trouble

#: Of the time that is asked for, kept for what comes after the load.
LAST_SECONDS = 30.0
LEAST_LOAD_SECONDS = 15.0
RESTART_EVERY_SECONDS = 120.0
#: Warms Synapse up before anything is counted.
WARM_UP_FILES = 20
#: The script's own statuses: some files failed; Swift not reachable; asked to stop.
_MAY_FAIL = (1, 3, 130)


def main(argv: Sequence[str] | None = None) -> int:
    """:returns: 0 if nothing was lost and nothing is held; 1 otherwise."""
    options = _options(argv)
    until = time.monotonic() + options.minutes * 60 - LAST_SECONDS
    signal.signal(signal.SIGTERM, _on_sigterm)
    # Children end with the thread that made them, so this thread makes them all.
    beside = threading.Thread(target=reactor.run, args=(False,), daemon=True)
    beside.start()
    record = Record()
    try:
        with everything_running(reactor, _listen) as place:
            report = _soak(place, record, until, random.Random(options.seed))
    except KeyboardInterrupt:
        print("Interrupted; all servers are down.")
        return 130
    finally:
        reactor.callFromThread(reactor.stop)
        beside.join()
    _write(options.out, report)
    _say(json.dumps(report, indent=2))
    if record.wrong:
        _say(f"FAILED: {len(record.wrong)} things that must not be, above under 'wrong'.")
        return 1
    _say("Nothing was lost.")
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("minutes", type=float, metavar="MINUTES", help="in all, about")
    parser.add_argument("--seed", type=int, default=1, help="of the order of faults (default: 1)")
    parser.add_argument(
        "--out",
        type=Path,
        default=process.ROOT / ".bench" / "results",
        metavar="FOLDER",
        help="where soak.json goes (default: .bench/results)",
    )
    options = parser.parse_args(argv)
    if not 0 < options.minutes <= 24 * 60:
        parser.error("MINUTES is a number above 0, at most a day")
    return options


def _on_sigterm(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    print(text, flush=True)


def _in_reactor(function: Callable[[], Any]) -> Any:
    """Run a coroutine function on the reactor's thread, and wait for its end."""
    return blockingCallFromThread(reactor, lambda: Deferred.fromCoroutine(function()))


def _listen(proxy: FaultProxy) -> None:
    _in_reactor(proxy.start)


def _soak(place: Place, record: Record, until: float, random_: random.Random) -> dict[str, Any]:
    began = time.monotonic()
    token = place.synapse.register("alice")
    before = _warm_up(place, token)
    _say(f"Before: {before}")
    _see_a_slot(place, token, record)
    load_until = max(until, time.monotonic() + LEAST_LOAD_SECONDS)
    trouble = Trouble(reactor, place.proxy, place.keystone_proxy, random_)
    reactor.callFromThread(lambda: Deferred.fromCoroutine(trouble.make()))
    reactor.callFromThread(lambda: reactor.callLater(load_until - time.monotonic(), trouble.stop))
    load = Load(place.synapse, token, record, load_until)
    load.start()
    module: dict[str, float] = {}
    _beside(place, record, load_until, module)
    load.stop()
    _in_reactor(trouble.ended)
    _say(f"The load and the faults are over after {time.monotonic() - began:.0f} s.")
    _last_run(place, record)
    _say(f"The last runs of the script are over after {time.monotonic() - began:.0f} s.")
    right = judge_files(place, token, record)
    _say(f"{right} of {len(record.stored())} files came back as they were.")
    after = judge_held(place, before, record)
    _add(module, place.told_by_module())
    return {
        "seconds": round(time.monotonic() - began, 1),
        **record.as_mapping(),
        "came_back_right": right,
        "faults": dict(trouble.came),
        "module": module,
        "before": str(before),
        "after": str(after),
    }


def _warm_up(place: Place, token: str) -> Held:
    """What Synapse holds after a little of everything, without faults."""
    client = place.synapse.client(token)
    for number in range(WARM_UP_FILES):
        client.download(client.upload(bytes([number]) * 100_000))
    place.proxy_idle()
    return held(place)


def _see_a_slot(place: Place, token: str, record: Record) -> None:
    """Synapse's gauge has to show an upload in flight: the last check relies on it."""
    stall = Stall(ON_REQUEST, match=("PUT", "local_content"))
    blockingCallFromThread(reactor, place.proxy.add, stall)
    place.synapse.client(token).upload(b"stalled")
    blockingCallFromThread(reactor, stall.happened)
    if held(place).slots != 1:
        record.must_not_be(f"one upload is in flight, and Synapse says: {held(place)}")
    blockingCallFromThread(reactor, stall.release)
    blockingCallFromThread(reactor, place.proxy.clear)
    place.proxy_idle()


def _beside(place: Place, record: Record, until: float, module: dict[str, float]) -> None:
    """The script's runs, and restarts, until the load is over."""
    store = str(place.synapse.media_store)
    runs = itertools.cycle(
        [
            ("update", store, "5s"),
            ("upload", store, "--delete"),
            ("verify", store),
            ("upload", store, "--all", "--delete"),
        ]
    )
    began = time.monotonic()
    restart_at = began + min(RESTART_EVERY_SECONDS, (until - began) / 3)
    restarts = 0
    while time.monotonic() < until or not restarts:
        if time.monotonic() > restart_at:
            restarts += 1
            restart_at += RESTART_EVERY_SECONDS
            _add(module, place.told_by_module())
            # Every other time the script alone takes the files to Swift.
            place.restart(store_local=restarts % 2 == 0)
            record.count("restart of Synapse")
        arguments = next(runs)
        status, output = place.script(*arguments, until=min(until, restart_at))
        what = f"script {arguments[0]}"
        _count_uploaded(output, record)
        if status is None:
            record.fail(f"{what}: stopped")
        elif status == 0:
            record.count(what)
        elif status in _MAY_FAIL:
            record.fail(f"{what}: exit status {status}")
        else:
            record.must_not_be(f"{what} ended with {status}: {output[-1500:]}")
        time.sleep(max(0.0, min(2.0, min(until, restart_at) - time.monotonic())))


def _count_uploaded(output: str, record: Record) -> None:
    """Files that were in Swift only once the script had been there."""
    told = re.search(r"^Uploaded: (\d+)", output, re.M)
    record.count("uploaded by the script", int(told[1]) if told else 0)


def _last_run(place: Place, record: Record) -> None:
    """With a good network again everything has to work."""
    store = str(place.synapse.media_store)
    for arguments in (("upload", store, "--all", "--delete"), ("verify", store)):
        status, output = place.script(*arguments)
        _count_uploaded(output, record)
        if status != 0:
            record.must_not_be(f"the last {arguments[0]} ended with {status}: {output[-1500:]}")


def _add(into: dict[str, float], more: dict[str, float]) -> None:
    for name, value in more.items():
        into[name] = into.get(name, 0.0) + value


def _write(folder: Path, report: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "soak.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except process.ServiceError as error:
        sys.exit(f"scripts/soak: {error}")
