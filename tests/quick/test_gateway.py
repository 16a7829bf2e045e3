"""The gateway with the real OpenAI clients: answers, streams, names, headers, what is recorded."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.types import Receive, Send

from tests.house import House, asking, house, until
from tests.standin import Gate, at_once, completion, echoing, head, saying, streaming
from ttrl.config import EngineConfig, GatewayConfig
from ttrl.questions.question import Unlearnable
from ttrl.questions.routes import FORMS

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def running() -> Iterator[House]:
    with house() as started:
        yield started


@pytest.fixture
def home(running: House) -> House:
    running.clear()
    return running


def test_an_answer_passes_and_its_question_is_recorded(home: House) -> None:
    with home.client() as client:
        raw = client.chat.completions.with_raw_response.create(model="demo", messages=asking())
    assert raw.parse().choices[0].message.content == "4"
    assert raw.headers["x-ttrl-adapter"] == "base"
    assert home.engine.received[0].body["model"] == "base-model"
    assert home.texts() == ["What is 2 plus 2?"]
    assert home.tally.requests == {"2xx": 1}
    assert home.tally.written == 1


def test_the_live_adapter_answers_behind_the_served_name(home: House) -> None:
    home.live.flip("ttrl-1")
    with home.client() as client:
        raw = client.chat.completions.with_raw_response.create(model="demo", messages=asking())
    assert raw.headers["x-ttrl-adapter"] == "ttrl-1"
    assert home.engine.received[0].body["model"] == "ttrl-1"


def test_times_are_those_of_answers(home: House) -> None:
    """Refusals are quick: among them slow answers would not show."""
    registry = home.tally.metrics.registry
    names = [f"ttrl_http_{what}_seconds_count" for what in ("request_duration", "first_byte")]
    before = [registry.get_sample_value(name) or 0 for name in names]
    with home.http() as client:
        for model in ("demo", "gpt-9", "demo"):
            client.post(CHAT, json={"model": model, "messages": asking()})
    home.settle()
    assert home.tally.requests == {"2xx": 2, "4xx": 1}
    assert [registry.get_sample_value(name) for name in names] == [each + 2 for each in before]


def test_a_request_without_a_model_gets_what_is_served(home: House) -> None:
    with home.http() as client:
        assert client.post(CHAT, json={"messages": asking()}).status_code == 200
    assert home.engine.received[0].body["model"] == "base-model"


def test_only_stable_names_are_listed(home: House, openai) -> None:
    home.live.flip("ttrl-1")
    home.live.max_model_len = 512
    with home.client() as client:
        models = client.models.list().data
        assert client.models.retrieve("demo") == models[0]
        with pytest.raises(openai.NotFoundError, match="does not exist"):
            client.models.retrieve("ttrl-1")
    assert [model.id for model in models] == ["demo"]
    assert models[0].model_extra == {"max_model_len": 512}


def test_pieces_leave_as_they_come(home: House) -> None:
    gates = [Gate(), Gate(), Gate()]
    home.engine.behave = streaming(["one", "two", "three"], gates)
    with home.client() as client:
        stream = client.chat.completions.create(model="demo", messages=asking(), stream=True)
        pieces = []
        for gate, chunk in zip(gates, stream, strict=False):
            # The engine has not said more than this yet: it waits for the gate.
            pieces.append(chunk.choices[0].delta.content)
            gate.open()
        assert pieces == ["one", "two", "three"]
        assert list(stream) == []
    assert len(home.texts()) == 1


def test_nothing_is_recorded_before_the_answer_is_out(home: House) -> None:
    gate = Gate()
    home.engine.behave = streaming(["one"], [gate])
    with home.client() as client:
        stream = client.chat.completions.create(model="demo", messages=asking(), stream=True)
        next(stream)
        assert home.recorder.pending == 0
        assert home.stored == []
        gate.open()
        list(stream)
    assert len(home.texts()) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_64_at_once_with_the_sync_client(home: House, stream: bool) -> None:
    home.engine.behave = echoing
    texts = [f"What is {n} plus {n}?" for n in range(64)]
    with home.client() as client, ThreadPoolExecutor(64) as pool:

        def ask(text: str) -> str | None:
            if stream:
                chunks = client.chat.completions.create(
                    model="demo", messages=asking(text), stream=True
                )
                return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
            answer = client.chat.completions.create(model="demo", messages=asking(text))
            return answer.choices[0].message.content

        assert list(pool.map(ask, texts)) == texts
    assert sorted(home.texts()) == sorted(texts)


@pytest.mark.parametrize("stream", [False, True])
def test_64_at_once_with_the_async_client(home: House, stream: bool) -> None:
    home.engine.behave = echoing
    texts = [f"What is {n} minus {n}?" for n in range(64)]

    async def ask(client, text: str) -> str | None:
        if stream:
            chunks = await client.chat.completions.create(
                model="demo", messages=asking(text), stream=True
            )
            return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])
        answer = await client.chat.completions.create(model="demo", messages=asking(text))
        return answer.choices[0].message.content

    async def ask_all() -> list[str | None]:
        async with home.async_client() as client:
            return await asyncio.gather(*(ask(client, text) for text in texts))

    assert asyncio.run(ask_all()) == texts
    assert sorted(home.texts()) == sorted(texts)


def test_bytes_are_the_engines_own(home: House) -> None:
    odd = '{ "choices" :[],\n "text": "\\u00fc ü \\/",  "x": 1.0e+2 }\n'.encode()
    home.engine.behave = saying(200, odd, "application/json; charset=utf-8")
    with home.http() as client:
        answer = client.post(CHAT, json={"messages": asking()})
    assert answer.content == odd
    assert answer.headers["content-type"] == "application/json; charset=utf-8"


def test_what_we_do_not_know_reaches_the_engine(home: House) -> None:
    known = {"return_token_ids": True, "top_k": 5, "stop": ["x"], "vendor": {"a": [1, None, "ü"]}}
    with home.http() as client:
        client.post(CHAT, json={"messages": asking(), "priority": -1, **known})
    sent = home.engine.received[0].body
    assert {name: sent[name] for name in known} == known
    assert "priority" not in sent


def test_the_engine_gets_its_own_key_and_only_listed_headers(home: House) -> None:
    headers = {
        "authorization": "Bearer users-key",
        "x-vllm-priority": "-5",
        "x-request-id": "r1",
        "accept-encoding": "gzip",
        "cookie": "a=b",
    }
    with home.http() as client:
        client.post(CHAT, json={"messages": asking()}, headers=headers)
    got = home.engine.received[0].headers
    assert got["authorization"] == "Bearer engine-key"
    assert got["accept-encoding"] == "identity"
    assert got["x-request-id"] == "r1"
    assert not {"x-vllm-priority", "cookie"} & got.keys()


@pytest.mark.parametrize(
    "path", sorted({"/v1/completions", *GatewayConfig().routes} - FORMS.keys())
)
def test_other_listed_routes_are_forwarded_and_not_learned_from(home: House, path: str) -> None:
    home.live.flip("ttrl-1")
    with home.http() as client:
        answer = client.post(f"{path}?a=b", json={"model": "demo", "prompt": "2+2="})
    assert answer.headers["x-ttrl-adapter"] == "ttrl-1"
    assert home.engine.received[0].path == path
    assert home.engine.received[0].body == {"model": "ttrl-1", "prompt": "2+2="}
    assert home.texts() == []
    assert home.tally.skips == {Unlearnable.NOT_CHAT: 1}


def test_the_completions_client_works(home: House) -> None:
    body = {"id": "c", "object": "text_completion", "created": 1, "model": "m"}
    choice = {"index": 0, "text": "4", "finish_reason": "stop", "logprobs": None}
    said = json.dumps({**body, "choices": [choice]}).encode()
    home.engine.behave = saying(200, said, "application/json")
    with home.client() as client:
        assert client.completions.create(model="demo", prompt="2+2=").choices[0].text == "4"


@pytest.mark.parametrize("value", ["1", "true", "Yes"])
def test_who_does_not_want_to_teach_is_answered_all_the_same(home: House, value: str) -> None:
    with home.http() as client:
        headers = {"X-TTRL-No-Learn": value}
        assert client.post(CHAT, json={"messages": asking()}, headers=headers).is_success
    assert home.texts() == []
    assert home.tally.skips == {Unlearnable.OPTED_OUT: 1}


def test_only_keys_that_opted_in_are_learned_from() -> None:
    key = hashlib.sha256(b"key").hexdigest()
    with house(record={"only_keys": [key]}) as home, home.http() as client:
        for sent in ({}, {"Authorization": "Bearer other"}, {"Authorization": "Bearer key"}):
            told = {"messages": asking(f"Asked with {sent}?")}
            assert client.post(CHAT, json=told, headers=sent).status_code == 200
        assert home.texts() == ["Asked with {'Authorization': 'Bearer key'}?"]
        assert [recorded.client for recorded in home.stored] == [key]
        assert home.tally.skips == {Unlearnable.NOT_OPTED_IN: 2}


@pytest.mark.parametrize("said", [("0", "1"), ("1", "0"), ("0, 1",)])
def test_of_several_wishes_not_to_be_learned_from_one_is_enough(
    home: House, said: list[str]
) -> None:
    """As when a proxy adds its own."""
    headers = [("x-ttrl-no-learn", value) for value in said]
    with home.http() as client:
        assert client.post(CHAT, json={"messages": asking()}, headers=headers).status_code == 200
    assert home.texts() == []
    assert home.tally.skips == {Unlearnable.OPTED_OUT: 1}


def test_a_no_to_no_learn_is_a_yes(home: House) -> None:
    with home.http() as client:
        client.post(CHAT, json={"messages": asking()}, headers={"X-TTRL-No-Learn": "0"})
    assert len(home.texts()) == 1


def test_recording_can_be_switched_off() -> None:
    with house(record={"enabled": False}) as home, home.http() as client:
        assert client.post(CHAT, json={"messages": asking()}).is_success
        assert home.texts() == []
        assert home.tally.skips == {Unlearnable.RECORDING_OFF: 1}


MESSAGE = {"id": "msg_1", "type": "message", "content": [{"type": "text", "text": "4"}]}
RESPONSE = {"id": "resp_1", "object": "response", "output": [{"type": "message"}]}
ROUTES = {
    "/v1/messages": (
        {"messages": asking(), "max_tokens": 9, "system": "Sums."},
        (MESSAGE, [("message_start", {"message": MESSAGE}), ("message_stop", {})]),
    ),
    "/v1/responses": (
        {"input": "What is 2 plus 2?", "max_output_tokens": 9, "instructions": "Sums."},
        (RESPONSE, [("response.created", {"response": RESPONSE}), ("response.completed", {})]),
    ),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("route", ROUTES)
def test_other_protocols_ask_the_same_question(home: House, route: str, stream: bool) -> None:
    asked, (whole, events) = ROUTES[route]
    pieces = [f"event: {kind}\ndata: {json.dumps({'type': kind, **e})}\n\n" for kind, e in events]
    said = "".join(pieces) if stream else json.dumps(whole)
    media_type = "text/event-stream" if stream else "application/json"
    rules = {"role": "system", "content": "Sums."}
    with home.http() as client:
        client.post(CHAT, json={"messages": [rules, *asking()], "max_tokens": 9})
        home.settle()
        home.engine.behave = saying(200, said.encode(), media_type)
        assert client.post(route, json={**asked, "stream": stream}).text == said
    home.settle()
    chat, other = (recorded.question for recorded in home.stored)
    assert (chat, chat.sampling) == (other, other.sampling)


CALLS = {
    CHAT: (
        {"messages": asking()},
        b'data: {"choices":[{"delta":{"tool_calls":[{"id":"1"}]}}]}\n\n',
    ),
    "/v1/messages": ({"messages": asking()}, b'{"content":[{"type":"tool_use","id":"1"}]}'),
    "/v1/responses": ({"input": "Hi?"}, b'{"output":[{"type":"function_call","id":"1"}]}'),
}


@pytest.mark.parametrize("route", CALLS)
def test_an_answer_that_calls_a_tool_is_none_to_its_user(home: House, route: str) -> None:
    asked, said = CALLS[route]
    quoted = json.dumps({"text": said.decode()}).encode()
    with home.http() as client:
        for answer in (said, quoted):
            home.engine.behave = saying(200, answer, "application/json")
            client.post(route, json=asked)
            home.settle()
    assert len(home.stored) == 1
    assert home.tally.skips == {Unlearnable.TOOL_CALL: 1}


def test_a_call_of_a_tool_is_seen_in_pieces(home: House) -> None:
    async def behave(body: dict[str, Any], receive: Receive, send: Send) -> None:
        await head(send, 200, "application/json")
        for byte in b'{"tool_calls":[{}]}':
            piece = {"type": "http.response.body", "body": bytes([byte]), "more_body": True}
            await send(piece)
        await send({"type": "http.response.body", "body": b""})

    home.engine.behave = behave
    with home.http() as client:
        client.post(CHAT, json={"messages": asking()})
    home.settle()
    assert home.tally.skips == {Unlearnable.TOOL_CALL: 1}


def test_rules_leave_out_requests() -> None:
    rules = [
        {"name": "nightly", "header": {"X-App": "night*"}},
        {"name": "ours", "user": "*chat_history*", "teach": True},
        {"name": "greetings", "system": "*greet*"},
    ]
    side = "### Task:\nTag it.\n<chat_history>\nHi\n</chat_history>"
    greet = {"role": "system", "content": "You greet people."}
    with house(record={"rules": rules[::2]}) as home, home.http() as client:
        for app in ("day", "nightly"):
            client.post(CHAT, json={"messages": asking(app)}, headers={"x-app": app})
        client.post(CHAT, json={"messages": [greet, *asking()]})
        client.post(CHAT, json={"messages": asking(side)})
        assert home.texts() == ["day"]
        left = {"rule_nightly": 1, "rule_greetings": 1, "rule_open_webui": 1}
        assert home.tally.skips == left
    with house(record={"rules": rules}) as home, home.http() as client:
        client.post(CHAT, json={"messages": asking(side)})
        assert home.texts() == [side]


image = [{"type": "image_url", "image_url": {"url": "data:,"}}]


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([{"role": "user", "content": image}], Unlearnable.NOT_TEXT),
        ([{"role": "tool", "content": "4", "tool_call_id": "1"}], Unlearnable.NO_QUESTION),
        ([{"role": "assistant", "content": "4"}], Unlearnable.NO_QUESTION),
        ([{"role": "user", "content": "x" * 16_001}], Unlearnable.TOO_LONG),
    ],
)
def test_what_cannot_be_learned_from_is_answered_and_counted(
    home: House, messages: list[object], reason: Unlearnable
) -> None:
    with home.http() as client:
        assert client.post(CHAT, json={"messages": messages}).status_code == 200
    assert home.texts() == []
    assert home.tally.skips == {reason: 1}


def test_all_that_shapes_the_prompt_is_recorded(home: House) -> None:
    shaping = {"chat_template_kwargs": {"enable_thinking": False}, "reasoning_effort": "low"}
    turns = [{"role": "system", "content": "Be short."}, *asking()]
    with home.http() as client:
        client.post(CHAT, json={"messages": turns, **shaping, "temperature": 0.3})
    home.texts()
    assert home.stored[0].question.body == {"messages": turns, **shaping}


def test_clients_are_known_by_the_hash_of_their_key(home: House) -> None:
    with home.http() as client:
        for key in ("a", "b", "a"):
            headers = {"authorization": f"Bearer {key}"}
            client.post(CHAT, json={"messages": asking()}, headers=headers)
        client.post(CHAT, json={"messages": asking()})
    home.texts()
    first, second, third, nobody = (recorded.client for recorded in home.stored)
    assert first == third != second
    assert nobody is None
    assert first is not None
    assert len(first) == 64


def test_a_flip_lets_a_stream_end_where_it_began(home: House) -> None:
    gate = Gate()
    home.live.flip("ttrl-1")
    home.engine.behave = streaming(["one", "two"], [gate])
    with home.client() as client:
        stream = client.chat.completions.create(model="demo", messages=asking(), stream=True)
        assert next(stream).model == "ttrl-1"
        home.live.flip("ttrl-2")
        home.engine.behave = at_once()
        assert client.chat.completions.create(model="demo", messages=asking()).model == "ttrl-2"
        assert home.live.in_flight("ttrl-1") == 1
        gate.open()
        assert [chunk.model for chunk in stream] == ["ttrl-1"]
    until(lambda: home.live.in_flight("ttrl-1") == 0, "the old version is let go")
    assert home.live.in_flight("ttrl-2") == 0


def test_an_adapter_that_the_engine_forgot_is_replaced_by_the_base(home: House) -> None:
    async def forgetful(body: dict[str, Any], receive: Receive, send: Send) -> None:
        known = body["model"] == "base-model"
        text = json.dumps(completion(body) if known else {"error": {"message": "no model"}})
        status = 200 if known else 404
        await saying(status, text.encode(), "application/json")(body, receive, send)

    home.live.flip("ttrl-1")
    home.engine.behave = forgetful
    with home.client() as client:
        raw = client.chat.completions.with_raw_response.create(model="demo", messages=asking())
    assert raw.headers["x-ttrl-adapter"] == "base"
    assert raw.parse().choices[0].message.content == "4"
    assert home.tally.errors == {"adapter_missing": 1}
    assert len(home.texts()) == 1


def test_healthy_whatever_the_engine_does_ready_only_with_it(home: House) -> None:
    with home.http() as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 200
        home.engine.healthy = False
        assert client.get("/healthz").status_code == 200
        not_ready = client.get("/readyz")
    assert not_ready.status_code == 503
    assert not_ready.json()["error"]["code"] == "not_ready"


def test_the_engines_key_is_not_shown() -> None:
    assert "secret" not in repr(EngineConfig(api_key="secret"))
