"""Bytes that two readers could take for different requests: refused, or read as exactly one, and
the engine gets what we read. Paths that try to reach the engine's own routes do not."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.house import House, asking, house
from tests.standin import DEADLINE

CHAT = "/v1/chat/completions"
SAID = json.dumps({"messages": asking("the one")}).encode()
LENGTH = f"content-length: {len(SAID)}"
CHUNKED = "transfer-encoding: chunked"
INNER = b"POST /v1/load_lora_adapter HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n"
"""What a smuggler would like the engine, or the next client's connection, to get."""


@pytest.fixture(scope="module")
def running() -> Iterator[House]:
    with house() as started:
        yield started


@pytest.fixture
def home(running: House) -> House:
    running.clear()
    return running


def head(*lines: str, first: str = f"POST {CHAT} HTTP/1.1", end: str = "\r\n") -> bytes:
    always = (first, "host: localhost", "content-type: application/json")
    return end.join((*always, *lines, "", "")).encode("latin-1")


def chunks(size: str = f"{len(SAID):x}", last: bytes = b"0\r\n\r\n") -> bytes:
    return f"{size}\r\n".encode() + SAID + b"\r\n" + last


LAST = head("connection: close", first="GET /healthz HTTP/1.1")


def statuses(home: House, sent: bytes) -> list[int]:
    """Of each answer to these bytes, until the server closes."""
    address = urlsplit(home.url)
    place = (address.hostname, address.port)
    with socket.create_connection(place, timeout=DEADLINE) as connection:
        connection.sendall(sent)
        said = b"".join(iter(lambda: connection.recv(65536), b""))
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", said)]


TWO_MINDS = {
    "length and chunks": head(LENGTH, CHUNKED) + chunks(),
    "chunks and length": head(CHUNKED, LENGTH) + chunks(),
    "no length and chunks": head("content-length: 0", CHUNKED) + chunks(),
    "two lengths": head(LENGTH, "content-length: 0") + SAID,
    "the same length twice": head(LENGTH, LENGTH) + SAID,
    "a list of lengths": head(f"{LENGTH}, {len(SAID)}") + SAID,
    "a length with a sign": head(LENGTH.replace(": ", ": +")) + SAID,
    "a negative length": head("content-length: -1") + SAID,
    "a hexadecimal length": head(f"content-length: 0x{len(SAID):x}") + SAID,
    "an empty length": head("content-length:") + SAID,
    "a length beyond all numbers": head("content-length: " + "9" * 30) + SAID,
    "a space after the length's name": head(LENGTH.replace(":", " :")) + SAID,
    "a vertical tab before the length": head(LENGTH.replace(": ", ": \x0b")) + SAID,
    "a length that is too short": head(f"content-length: {len(SAID) - 1}") + SAID,
    "chunks twice": head(CHUNKED, CHUNKED) + chunks(),
    "another coding": head("transfer-encoding: identity") + SAID,
    "an unknown coding": head("transfer-encoding: xchunked") + chunks(),
    "a coding after chunks": head(f"{CHUNKED}, identity") + chunks(),
    "a coding before chunks": head("transfer-encoding: gzip, chunked") + chunks(),
    "an empty coding": head("transfer-encoding: ,chunked") + chunks(),
    "a quoted coding": head('transfer-encoding: "chunked"') + chunks(),
    "a space after the coding's name": head(CHUNKED.replace(":", " :")) + chunks(),
    "a folded coding": head("transfer-encoding:\r\n chunked") + chunks(),
    "chunks in HTTP/1.0": head(CHUNKED, first=f"POST {CHAT} HTTP/1.0") + chunks(),
    "HTTP/2 in name": head(LENGTH, first=f"POST {CHAT} HTTP/2.0") + SAID,
    "HTTP/0.9": b"GET /v1/models\r\n\r\n",
    "a folded line": head(LENGTH, "x-a: 1", " 2") + SAID,
    "a fold at first": head(LENGTH).replace(b"host", b" host") + SAID,
    "bare line feeds": head(LENGTH, end="\n") + SAID,
    "one bare line feed": head(f"{LENGTH}\nx: y") + SAID,
    "a bare carriage return": head(f"{LENGTH}\rx: y") + SAID,
    "a NUL": head(LENGTH, "x: a\0b") + SAID,
    "a name with a space": head(LENGTH, "x y: z") + SAID,
    "no colon": head(LENGTH, "junk") + SAID,
    "no name": head(LENGTH, ": x") + SAID,
    "two hosts": head(LENGTH, "host: y") + SAID,
    "a chunk's size with 0x": head(CHUNKED) + chunks(f"0x{len(SAID):x}"),
    "a chunk's size with a sign": head(CHUNKED) + chunks(f"+{len(SAID):x}"),
    "a chunk's size with a space": head(CHUNKED) + chunks(f"{len(SAID):x} "),
    "a negative chunk": head(CHUNKED) + chunks("-1"),
    "a chunk's size beyond all numbers": head(CHUNKED) + chunks("f" * 20),
    "chunks ended by line feeds": head(CHUNKED) + chunks().replace(b"\r\n", b"\n"),
    "a chunk that goes on": head(CHUNKED) + chunks(f"{len(SAID) - 1:x}"),
    "a line feed in a chunk's extension": head(CHUNKED) + chunks(f"{len(SAID):x};a\nb"),
    "a body and another protocol": head(LENGTH, "connection: upgrade", "upgrade: h2c") + SAID,
    "a path with a space": head(LENGTH, first=f"POST {CHAT} /x HTTP/1.1") + SAID,
    "a path with a NUL": head(LENGTH, first=f"POST {CHAT}\0 HTTP/1.1") + SAID,
    "a path that is not ASCII": head(LENGTH, first=f"POST {CHAT}\xe9 HTTP/1.1") + SAID,
    "a tunnel": head(first="CONNECT x:80 HTTP/1.1"),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}  # fmt: skip


@pytest.mark.parametrize("sent", TWO_MINDS.values(), ids=TWO_MINDS)
def test_what_could_be_read_in_two_ways_is_refused(home: House, sent: bytes) -> None:
    assert statuses(home, sent + INNER) == [400]
    home.settle()
    assert home.engine.received == []
    assert home.texts() == []
    assert home.tally.closures == {"malformed": 1}


ONE_MIND = {
    "a length": head(LENGTH) + SAID,
    "chunks": head(CHUNKED) + chunks(),
    "chunks written otherwise": head("Transfer-Encoding:\tcHuNkEd") + chunks(),
    "a chunk with an extension": head(CHUNKED) + chunks(f"{len(SAID):x};a=b"),
    "a chunk's size with zeros": head(CHUNKED) + chunks(f"000{len(SAID):x}"),
    "empty lines first": b"\r\n\r\n" + head(LENGTH) + SAID,
    "a name that is nearly one": head(LENGTH, "transfer_encoding: chunked") + SAID,
    "HTTP/1.0": head(LENGTH, "connection: keep-alive", first=f"POST {CHAT} HTTP/1.0") + SAID,
    "an absolute URL": head(LENGTH, first=f"POST http://elsewhere{CHAT} HTTP/1.1") + SAID,
    "a query": head(LENGTH, first=f"POST {CHAT}?/../../pause HTTP/1.1") + SAID,
    "trailers": head(CHUNKED)
    + chunks(last=b"0\r\nx-ttrl-no-learn: 1\r\nauthorization: Bearer x\r\n\r\n"),
}


@pytest.mark.parametrize("sent", ONE_MIND.values(), ids=ONE_MIND)
def test_what_can_be_read_in_one_way_is_one_request(home: House, sent: bytes) -> None:
    assert statuses(home, sent + LAST) in ([200], [200, 200])
    assert home.texts() == ["the one"], "recorded: nothing after a body is a header"
    assert [(got.path, got.body["messages"]) for got in home.engine.received] == [
        (CHAT, asking("the one"))
    ]
    assert home.stored[0].client is None
    assert not home.tally.closures


def test_requests_on_one_connection_are_answered_in_turn(home: House) -> None:
    sent = head(LENGTH) + SAID + INNER + head(LENGTH) + SAID + LAST
    assert statuses(home, sent) == [200, 404, 200, 200]
    home.settle()
    assert [got.path for got in home.engine.received] == [CHAT, CHAT]


@pytest.mark.parametrize("last", ["connection: close", "connection: upgrade\r\nupgrade: h2c"])
def test_nothing_is_read_after_the_last_request(home: House, last: str) -> None:
    first = head(last, first="GET /healthz HTTP/1.1")
    assert statuses(home, first + INNER) == [200]
    assert home.engine.received == []


@pytest.mark.parametrize(
    "path",
    [
        "/resume",
        "/update_weights",
        "/collective_rpc",
        "/sleep",
        "/inference/v1/generate",
        "//v1/load_lora_adapter",
        "/./v1/load_lora_adapter",
        "/v1/../pause",
        "/v1/chat/completions/../load_lora_adapter",
        "/v1/chat/completions;/../load_lora_adapter",
        "/v1/chat/completions;x=/pause",
        "/v1/chat/completions%2f..%2fload_lora_adapter",
        "/v1/chat/completions%3f",
        "/v1/chat/completions%23",
        "/v1/chat/completions\\..\\pause",
        "/v1/chat%2fcompletions//",
        "/%76%31/load_lora_adapter",
        "/v1/%252e%252e/pause",
        "/v1/models/../load_lora_adapter",
        "http://127.0.0.1/pause",
        "http://user@elsewhere//v1/load_lora_adapter",
    ],
)
def test_no_path_leads_to_the_engines_own_routes(home: House, path: str) -> None:
    sent = head(LENGTH, first=f"POST {path} HTTP/1.1") + SAID
    assert statuses(home, sent + LAST)[0] in (400, 404, 405)
    home.settle()
    assert home.engine.received == []
