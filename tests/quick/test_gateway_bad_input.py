"""What clients get wrong: each its own error in OpenAI's shape, nothing forwarded, nothing lost."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.house import House, asking, house, until

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def running() -> Iterator[House]:
    with house() as started:
        yield started


@pytest.fixture
def home(running: House) -> Iterator[House]:
    running.clear()
    yield running
    assert running.engine.received == []
    assert running.texts() == []
    assert not running.tally.skips


def chat(**fields: object) -> bytes:
    return json.dumps({"model": "demo", "messages": asking(), **fields}).encode()


BAD_BODIES = [
    (b"", 400, "invalid_json", None),
    (b"{", 400, "invalid_json", None),
    (b'{"model": "demo"} {}', 400, "invalid_json", None),
    (b"[]", 400, "invalid_json", None),
    (b"null", 400, "invalid_json", None),
    (b'{"a": "\xff"}', 400, "invalid_json", None),
    (chat().decode().encode("utf-16"), 400, "invalid_json", None),
    (b'{"temperature": NaN}', 400, "invalid_json", None),
    (b'{"temperature": -Infinity}', 400, "invalid_json", None),
    (b'{"temperature": 1e400}', 400, "invalid_json", None),
    (b'{"a": "Infinity", "temperature": -1e400}', 400, "invalid_json", None),
    (b'{"a": [' + b"[]," * 200_000 + b"1]}", 413, "request_too_large", None),
    (b'{"a": [' + b'{"b":{}},' * 100_000 + b"1]}", 413, "request_too_large", None),
    (b'{"seed": ' + b"9" * 5000 + b"}", 400, "invalid_json", None),
    (b'{"a":' + b"[" * 300 + b"]" * 300 + b"}", 400, "invalid_json", None),
    (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 400, "invalid_json", None),
    (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', 400, "invalid_json", None),
    (b'{"messages": [{"role": "user", "\\uDFFF": "x"}]}', 400, "invalid_json", None),
    (chat(n=100_000), 400, "invalid_value", "n"),
    (chat(n=0), 400, "invalid_value", "n"),
    (chat(n=1.5), 400, "invalid_value", "n"),
    (chat(n=True), 400, "invalid_value", "n"),
    (chat(best_of=10**30), 400, "invalid_value", "best_of"),
    (chat(model=7), 404, "model_not_found", "model"),
    (chat(model="gpt-9"), 404, "model_not_found", "model"),
    (chat(model="base-model"), 404, "model_not_found", "model"),
    (chat(model=""), 404, "model_not_found", "model"),
    (b'{"a": "' + b"x" * 10_000_000 + b'"}', 413, "request_too_large", None),
]


@pytest.mark.parametrize(
    ("body", "status", "code", "param"), BAD_BODIES, ids=[str(case[0][:40]) for case in BAD_BODIES]
)
def test_a_bad_body(home: House, body: bytes, status: int, code: str, param: str | None) -> None:
    with home.http() as client:
        answer = client.post(CHAT, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert answer.headers["x-ttrl-adapter"] == "base"
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == (code, param)
    assert error["type"] == "invalid_request_error"
    assert error["message"].endswith(".")
    home.settle()
    assert home.tally.requests == {f"{status // 100}xx": 1}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
)
def test_only_plain_json_is_read(home: House, headers: dict[str, str]) -> None:
    with home.http() as client:
        answer = client.post(CHAT, content=chat(), headers=headers)
    assert answer.status_code == 415
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_parameter_of_json_is_fine(running: House) -> None:
    running.clear()
    with running.http() as client:
        headers = {"content-type": "Application/JSON; charset=utf-8"}
        assert client.post(CHAT, content=chat(), headers=headers).status_code == 200


def test_a_body_that_says_itself_that_it_is_long(home: House) -> None:
    head = post(CHAT, b"").replace(b"content-length: 0", b"content-length: 10000000000")
    assert raw(home, head).startswith(b"HTTP/1.1 413 ")


def test_a_long_body_of_unknown_length(home: House) -> None:
    pieces = (b"x" * 100_000 for _ in range(100))
    with home.http() as client:
        answer = client.post(CHAT, content=pieces, headers={"content-type": "application/json"})
    assert answer.status_code == 413


def test_the_real_client_understands(home: House, openai) -> None:
    with home.client() as client:
        with pytest.raises(openai.NotFoundError) as unknown:
            client.chat.completions.create(model="gpt-9", messages=asking())
        assert unknown.value.code == "model_not_found"
        with pytest.raises(openai.BadRequestError) as many:
            client.chat.completions.create(model="demo", messages=asking(), n=100_000)
        assert many.value.param == "n"
        with pytest.raises(openai.APIStatusError) as long:
            client.chat.completions.create(model="demo", messages=asking("x" * 10_000_000))
        assert long.value.status_code == 413


def raw(home: House, request: bytes) -> bytes:
    """What the server says to these bytes."""
    address = urlsplit(home.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def post(target: str, body: bytes = b'{"messages": [{"role": "user", "content": "x"}]}') -> bytes:
    head = f"POST {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/v1/load_lora_adapter",
        "/v1/unload_lora_adapter",
        "/invocations",
        "/pause",
        "/is_sleeping",
        "//v1/chat/completions",
        "/v1//chat/completions",
        "/v1/chat/completions//",
        "/v1/chat/../../pause",
        "/v1/chat/completions/../../load_lora_adapter",
        "/v1/%2e%2e/pause",
        "/v1/%2e%2e%2fpause",
        "/v1/chat/completions%00",
        "/V1/chat/completions",
        "http://elsewhere/v1/load_lora_adapter",
        "http://elsewhere/pause",
    ],
)
def test_nothing_but_the_list_is_forwarded(home: House, target: str) -> None:
    answer = raw(home, post(target))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b" ")[1] == b"404"
    assert json.loads(body)["error"]["type"] == "invalid_request_error"


def test_a_wrong_method(home: House) -> None:
    with home.http() as client:
        answer = client.get(CHAT)
        assert answer.status_code == 405
        assert answer.headers["allow"] == "POST"
        assert answer.json()["error"]["type"] == "invalid_request_error"
        assert client.post("/v1/models", json={}).status_code == 405


def test_a_body_that_never_ends_coming() -> None:
    with house(body_seconds=0.3) as home:
        answer = raw(home, post(CHAT, b"{" * 100)[:-50])
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"type":"invalid_request_error"' in answer


def test_a_client_that_leaves_while_it_asks(home: House) -> None:
    address = urlsplit(home.url)
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall(post(CHAT)[:-5])
        until(lambda: home.tally.under_way == 1, "the request has begun")
    until(lambda: home.tally.requests == {"4xx": 1}, "its end is noticed")
    assert home.tally.aborts == 1
