"""A judge over HTTP, as far as a judge's client sees it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

Behave = Callable[[SimpleNamespace, Mapping[str, str]], tuple[int, Any]]
"""From a request's path and fields, and its headers, to a status and what the judge replies."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    behave: Behave

    def handle_error(self, *_: Any) -> None:
        """Clients that end in the midst of a request are none of a test's business."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        status, reply = self.server.behave(
            SimpleNamespace(path=self.path, **body), dict(self.headers)
        )
        choice = {"message": {"content": reply}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 100, "completion_tokens": 5}
        sent = json.dumps({"choices": [choice], "usage": usage}).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving(behave: Behave) -> Iterator[str]:
    """Yield the URL of a judge that answers as `behave` says."""
    server = Server(("127.0.0.1", 0), Handler)
    server.behave = behave
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def graded(body: SimpleNamespace) -> str:
    """The answer that a request is about."""
    text = body.messages[0]["content"].partition("<answer ")[2].partition(">\n")[2]
    return str(text.partition("\n</answer ")[0])
