"""A webhook's receiver."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks.webhooks import Webhook

SECRET = "whsec_" + "c2VjcmV0" * 6


@dataclass
class Hook:
    """What came in and was rightly signed; the first `refuse` requests get a 503."""

    url: str = ""
    refuse: int = 0
    ids: list[str] = field(default_factory=list)
    heard: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def listening(refuse: int = 0) -> Iterator[Hook]:
    hook = Hook(refuse=refuse)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            hook.ids.append(self.headers["webhook-id"])
            told = Webhook(SECRET).verify(body, dict(self.headers))
            status = 503 if len(hook.ids) <= hook.refuse else 204
            if status == 204:
                hook.heard.append(told)
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hook.url = f"http://127.0.0.1:{server.server_port}/hook"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield hook
        finally:
            server.shutdown()
            thread.join()
