"""What serve/gateway/server.py uses of uvicorn without its promise; see it before raising the bound
in pyproject.toml."""

from __future__ import annotations

import asyncio
import inspect
import re

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState


async def nothing(scope, receive, send):
    """An application."""


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("connection_made", ["self", "transport"]),
        ("connection_lost", ["self", "exc"]),
        ("data_received", ["self", "data"]),
        ("on_message_begin", ["self"]),
        ("on_url", ["self", "url"]),
        ("on_header", ["self", "name", "value"]),
        ("on_headers_complete", ["self"]),
        ("on_body", ["self", "body"]),
        ("on_message_complete", ["self"]),
        ("on_response_complete", ["self"]),
        ("_should_upgrade", ["self"]),
        ("_unset_keepalive_if_required", ["self"]),
    ],
)
def test_methods_that_are_overridden_or_called(name, parameters):
    assert list(inspect.signature(getattr(HttpToolsProtocol, name)).parameters) == parameters


def test_attributes_of_a_connection():
    async def made():
        config = uvicorn.Config(nothing, ws="none", log_config=None)
        return HttpToolsProtocol(config, ServerState(), {})

    connection = asyncio.run(made())
    names = ("connections", "loop", "parser", "transport", "flow", "headers", "cycle")
    assert [name for name in names if not hasattr(connection, name)] == []


def test_attributes_of_a_request():
    written = inspect.getsource(RequestResponseCycle.__init__)
    names = (
        "response_started",
        "response_complete",
        "more_body",
        "keep_alive",
        "chunked_encoding",
        "expected_content_length",
    )
    assert [name for name in names if not re.search(rf"self\.{name}(: .*)? = ", written)] == []


def test_the_server():
    assert STATUS_LINE[431].startswith(b"HTTP/1.1 431 ")
    assert ServerState().connections == set()
    server = uvicorn.Server(uvicorn.Config(nothing))
    assert server.should_exit is False
    assert hasattr(server, "capture_signals")
    assert list(inspect.signature(server.main_loop).parameters) == []
    assert list(inspect.signature(server.on_tick).parameters) == ["counter"]
