"""A real Chromium or Firefox, without a window, and the pages that it opens.

A page is a piece of JavaScript that a test gives. What the script returns comes back to the
test. Pages have an origin of their own, ``http://localhost:PORT``; browsers treat it as
secure, so that service workers and ``Sec-Fetch-Mode`` work as they do over https.
"""

from __future__ import annotations

import contextlib
import json
import queue
import shutil
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from tests.servers import process

#: What a script may take before the browser is given up.
PAGE_SECONDS = 90.0

_PAGE = """<!doctype html><meta charset=utf-8><title>test</title>
<script>
const settings = %(settings)s;
const step = Number(new URLSearchParams(location.search).get("step") || 1);
const say = (path, value) => fetch(path, {method: "POST", body: JSON.stringify(value)});
const mark = () => say("/mark", null);
const next = async () => {
  await mark();
  location.search = `?step=${step + 1}`;
  await new Promise(() => {});
};
const show = (kind, url, event) => new Promise((resolve) => {
  const element = document.createElement(kind);
  element.addEventListener(event, () => resolve(element));
  element.addEventListener("error", () => resolve(null));
  element.src = url;
  document.body.append(element);
});
const image = async (url) => {
  const shown = await show("img", url, "load");
  return shown && shown.naturalWidth;
};
const get = async (url, options = {headers: {Authorization: settings.authorization}}) => {
  const answer = await fetch(url, options), body = await answer.arrayBuffer();
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", body));
  const sha256 = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return {status: answer.status, redirected: answer.redirected, sha256};
};
async function run() { %(script)s }
addEventListener("load", () => run().then(
  (value) => say("/done", {value}), (error) => say("/done", {error: String(error)})));
</script><body>
"""


class Pages:
    """Serves one page at a time.

    A script has the functions of ``_PAGE``: ``image`` shows a picture and returns its width,
    ``get`` fetches a file, ``next`` opens the page again with the next ``step``, ``mark``
    calls ``on_mark`` here.

    :ivar script: the body of an ``async`` function.
    :ivar settings: what the script reads as ``settings``.
    :ivar headers: further headers of the page.
    :ivar worker: the script at ``/worker.js``.
    """

    def __init__(self) -> None:
        self.script = ""
        self.settings: dict[str, Any] = {}
        self.headers: dict[str, str] = {}
        self.worker = ""
        self.on_mark: Any = lambda: None
        self.done: queue.Queue[Any] = queue.Queue()
        pages = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/worker.js":
                    self._send(pages.worker, "text/javascript")
                elif self.path.startswith("/favicon"):
                    self.send_error(404)
                else:
                    values = {"settings": json.dumps(pages.settings), "script": pages.script}
                    self._send(_PAGE % values, "text/html", **pages.headers)

            def do_POST(self) -> None:
                said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path == "/done":
                    pages.done.put(said)
                else:
                    pages.on_mark()
                self._send("", "text/plain")

            def _send(self, text: str, kind: str, **headers: str) -> None:
                self.send_response(200)
                body = text.encode()
                some = {"Content-Type": kind, "Content-Length": str(len(body)), **headers}
                for name, value in {**some, "Cache-Control": "no-store"}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer((process.LOOPBACK, 0), Handler)
        self._server.daemon_threads = True

    @property
    def origin(self) -> str:
        return f"http://localhost:{self._server.server_port}"

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        thread = Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


class Browser:
    """Chromium with a new profile.

    :param folder: for the profile and the log.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def run(self, pages: Pages) -> Any:
        """Open the page, and wait for what its script returns. Blocking.

        :raises AssertionError: if the script throws.
        :raises ServiceError: if the browser ends before.
        """
        command = self._command(self._folder / "profile")
        browser = process.Process(
            Path(command[0]).name,
            [*command, pages.origin],
            self._folder,
            env={"HOME": str(self._folder)},
        )
        with process.stopping(browser):
            try:
                said = pages.done.get(timeout=PAGE_SECONDS)
            except queue.Empty:
                raise process.ServiceError(
                    f"the page said nothing; the browser's log:\n{process.log_tail(browser.log)}"
                ) from None
        assert "error" not in said, said["error"]
        return said.get("value")

    def _command(self, profile: Path) -> list[str]:
        found = program(CHROMIUM)
        assert found is not None
        return [
            found,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--autoplay-policy=no-user-gesture-required",
            "--mute-audio",
            f"--user-data-dir={profile}",
        ]


class Firefox(Browser):
    """Firefox with a new profile, which asks nothing of its maker."""

    def _command(self, profile: Path) -> list[str]:
        found = program(FIREFOX)
        assert found is not None
        profile.mkdir(exist_ok=True)
        off = (
            "network.captive-portal-service.enabled",
            "network.connectivity-service.enabled",
            "datareporting.policy.dataSubmissionEnabled",
            "browser.aboutwelcome.enabled",
            "browser.safebrowsing.malware.enabled",
            "extensions.update.enabled",
            "app.update.enabled",
        )
        lines = [f'user_pref("{name}", false);' for name in off]
        lines.append('user_pref("services.settings.server", "");')
        (profile / "user.js").write_text("\n".join(lines))
        return [found, "--headless", "--no-remote", "--profile", str(profile)]


#: The names that each has.
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
FIREFOX = ("firefox-esr", "firefox")


def program(names: tuple[str, ...]) -> str | None:
    """The browser, under one of its names; ``None`` if it is not installed."""
    return next(filter(None, map(shutil.which, names)), None)
