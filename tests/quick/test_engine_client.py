"""The engine's client against a scripted server: what it sends, what it makes of the answers."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import tenacity
from hypothesis import given
from hypothesis import strategies as st

from ttrl.engine.client import (
    EngineClient,
    EngineError,
    EngineRefused,
    EngineUnreachable,
    Load,
    ModelCard,
    read_load,
)
from ttrl.engine.process import free_port
from ttrl.engine.samples import Finish, Sample, Sampling
from ttrl.questions.question import from_prompt, from_request

SECRET = "my account number is 4711"
QUESTION = from_prompt(SECRET)


@dataclass
class Script:
    """What the server is to answer, and what it was asked."""

    status: int = 200
    answer: Any = field(default_factory=dict)
    hang_up: int = 0
    delay: float = 0.0
    detokenized: str | None = None
    """What /detokenize says; None is an engine that has none."""
    failures: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """Statuses and headers of the first chat answers, in any order."""
    asked: list[tuple[str, str, Any, str | None]] = field(default_factory=list)


@contextmanager
def serving(script: Script) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            if self.path == "/detokenize":
                self.tell(404 if script.detokenized is None else 200, script.detokenized)
                return
            script.asked.append((self.command, self.path, body, self.headers.get("authorization")))
            if script.hang_up:
                script.hang_up -= 1
                return
            time.sleep(script.delay)
            if script.failures:
                self.tell(*script.failures.pop())
                return
            answer = script.answer(body) if callable(script.answer) else script.answer
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(script.status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def tell(self, status: int, said: str | dict[str, str] | None) -> None:
            data = json.dumps({"prompt": said}).encode()
            self.send_response(status)
            for name, value in said.items() if isinstance(said, dict) else ():
                self.send_header(name, value)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def choice(index: int = 0, **changes: Any) -> dict[str, Any]:
    entries = [{"token": "7", "logprob": -0.5}, {"token": "", "logprob": -0.25}]
    return {
        "index": index,
        "message": {"role": "assistant", "content": "7"},
        "logprobs": {"content": entries},
        "finish_reason": "stop",
        "token_ids": [9, 1],
    } | changes


def chat_answer(*choices: dict[str, Any]) -> dict[str, Any]:
    return {"prompt_token_ids": [3, 4, 5], "choices": list(choices)}


def draw(script: Script, n: int = 1, **settings: Any) -> Any:
    with serving(script) as url, EngineClient(url, timeout=5) as client:
        return client.sample(QUESTION, model="m", n=n, sampling=Sampling(**settings), priority=0)


def answering(body: dict[str, Any]) -> dict[str, Any]:
    """As many choices as a request asks for."""
    return chat_answer(*map(choice, range(body["n"])))


def test_a_prompt_that_changes_between_two_requests_is_an_error_of_the_engine() -> None:
    """Some chat templates state the date, which is another one after midnight."""
    dates = itertools.count(1)

    def dated(body: dict[str, Any]) -> dict[str, Any]:
        return answering(body) | {"prompt_token_ids": [3, next(dates)]}

    with pytest.raises(EngineError, match="the prompt's tokens differ between two requests"):
        draw(Script(answer=dated), n=16)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between tries, which take no time."""
    pauses: list[float] = []
    retrying = partial(tenacity.Retrying, sleep=pauses.append)
    monkeypatch.setattr(tenacity, "Retrying", retrying)
    return pauses


def test_sampling_says_everything_explicitly() -> None:
    script = Script(answer=chat_answer(choice(0), choice(1)))
    request = {
        "messages": [{"role": "user", "content": "hello"}],
        "chat_template_kwargs": {"enable_thinking": False},
        "temperature": 0.2,
    }
    question = from_request(request, max_chars=100)
    with serving(script) as url, EngineClient(url, api_key="key", timeout=5) as client:
        client.sample(
            question,
            model="m",
            n=2,
            sampling=Sampling(temperature=0.7, max_tokens=50, seed=3),
            priority=10,
        )
    ((method, path, body, authorization),) = script.asked
    assert (method, path, authorization) == ("POST", "/v1/chat/completions", "Bearer key")
    assert body == {
        "messages": request["messages"],
        "chat_template_kwargs": {"enable_thinking": False},
        "model": "m",
        "n": 2,
        "temperature": 0.7,
        "top_p": 1,
        "top_k": 0,
        "min_p": 0,
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "repetition_penalty": 1,
        "max_tokens": 50,
        "seed": 3,
        "priority": 10,
        "logprobs": True,
        "top_logprobs": 0,
        "return_token_ids": True,
        "stream": False,
    }


@pytest.mark.parametrize(("n", "sizes"), [(1, [1]), (8, [8]), (9, [1, 8]), (32, [8] * 4)])
def test_many_samples_are_asked_for_in_parts(n: int, sizes: list[int]) -> None:
    script = Script(answer=answering)
    drawn = draw(script, n=n, seed=5)
    assert len(drawn.samples) == n
    assert sorted(body["n"] for _, _, body, _ in script.asked) == sizes
    seeds = sorted((body["seed"], body["n"]) for _, _, body, _ in script.asked)
    asked = [seed + place for seed, count in seeds for place in range(count)]
    assert asked == list(range(5, 5 + n)), "as if they had been asked for at once"


@pytest.mark.fault(
    "the engine does not answer a run in time, breaks off, is too busy or fails for a moment",
    sees="nothing",
    keeps="everything; the run asks again, and leaves the question out after that",
)
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_part_that_fails_for_a_moment_is_asked_for_again(
    at_once: list[float], status: int
) -> None:
    script = Script(answer=answering, failures=[(status, {})] * 2)
    with serving(script) as url, EngineClient(url, timeout=5, retries=3) as client:
        drawn = client.sample(QUESTION, model="m", n=16, sampling=Sampling())
    assert len(drawn.samples) == 16
    assert len(script.asked) == 4, "only what failed comes again"
    assert len(at_once) == 2


def test_log_probabilities_that_fail_for_a_moment_are_asked_for_again(at_once: list[float]) -> None:
    entries = [None, {"5": {"logprob": -1.0}}]
    script = Script(answer={"choices": [{"prompt_logprobs": entries}]}, failures=[(503, {})] * 2)
    with serving(script) as url, EngineClient(url, timeout=5, retries=3) as client:
        assert client.prompt_logprobs([4, 5], model="m") == (None, -1.0)
    assert (len(script.asked), len(at_once)) == (3, 2)


def test_a_connection_that_breaks_is_asked_for_again(at_once: list[float]) -> None:
    script = Script(answer=answering, hang_up=3)
    with serving(script) as url, EngineClient(url, timeout=5, retries=3) as client:
        client.sample(QUESTION, model="m", n=1, sampling=Sampling())
    lower = [1, 2, 4]
    assert [int(pause - low) for pause, low in zip(at_once, lower, strict=True)] == [0, 0, 0]
    assert len(set(at_once)) == 3, "spread, so that not all come back at once"


@pytest.mark.parametrize(("retries", "asked"), [(0, 1), (2, 3)])
def test_it_is_asked_for_so_often_and_no_more(
    at_once: list[float], retries: int, asked: int
) -> None:
    script = Script(failures=[(503, {})] * 9)
    with (
        serving(script) as url,
        EngineClient(url, timeout=5, retries=retries) as client,
        pytest.raises(EngineRefused) as caught,
    ):
        client.sample(QUESTION, model="m", n=1, sampling=Sampling())
    assert (caught.value.transient, caught.value.final) == (True, False)
    assert len(script.asked) == asked


@pytest.mark.parametrize(("status", "final"), [(400, True), (413, True), (404, False)])
def test_what_would_be_refused_again_is_not_asked_again(
    at_once: list[float], status: int, final: bool
) -> None:
    script = Script(status=status, answer={})
    with (
        serving(script) as url,
        EngineClient(url, timeout=5, retries=3) as client,
        pytest.raises(EngineRefused) as caught,
    ):
        client.sample(QUESTION, model="m", n=1, sampling=Sampling())
    assert caught.value.final is final
    assert (len(script.asked), at_once) == (1, [])


@pytest.mark.parametrize(
    ("said", "least", "most"),
    [
        ("0", 1, 2),
        ("17", 17, 17),
        ("99999", 60, 60),
        ("Mon, 01 Jan 2001 00:00:00 GMT", 1, 2),
        ("soon", 1, 2),
        ("nan", 1, 60),
    ],
)
def test_the_engine_says_when_to_come_back(
    at_once: list[float], said: str, least: float, most: float
) -> None:
    script = Script(answer=answering, failures=[(429, {"Retry-After": said})])
    with serving(script) as url, EngineClient(url, timeout=5, retries=1) as client:
        client.sample(QUESTION, model="m", n=1, sampling=Sampling())
    assert least <= at_once[0] <= most


def test_what_took_its_whole_time_twice_is_not_tried_a_third_time(at_once: list[float]) -> None:
    script = Script(answer=answering, delay=1.0)
    with (
        serving(script) as url,
        EngineClient(url, timeout=0.1, retries=5) as client,
        pytest.raises(EngineUnreachable, match="did not answer in time"),
    ):
        client.sample(QUESTION, model="m", n=1, sampling=Sampling(max_tokens=1))
    assert len(at_once) == 1


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
@pytest.mark.parametrize(
    ("thoughts", "content", "text", "thought"),
    [
        ("a" * 60, "b" * 20, "b" * 20, 6),
        ("a" * 60, None, "", 8),  # it never came to an answer
        (None, "b", "b", 0),
        ("", "b", "b", 0),
    ],
)
def test_thoughts_that_the_engine_keeps_apart_are_no_answer(
    name: str, thoughts: str | None, content: str | None, text: str, thought: int
) -> None:
    said = choice(
        message={"content": content, name: thoughts},
        token_ids=list(range(8)),
        logprobs={"content": [{"logprob": -0.5}] * 8},
    )
    script = Script(answer=chat_answer(said) | {"usage": {"completion_tokens_details": {}}})
    (sample,) = draw(script).samples
    assert (sample.text, sample.thought) == (text, thought)


@pytest.mark.parametrize(
    ("detokenized", "said", "usage", "text"),
    [
        ("<|im_start|>assistant\n<think>\n", "7", {}, "<think>7"),
        ("[THINK]", "7", {}, "[THINK]7"),
        ("<think>\n\n</think>\n\n", "7", {}, "7"),  # thinking is switched off
        ("assistant\n", "7", {}, "7"),
        (None, "7", {}, "7"),  # an engine that cannot say
        # With a reasoning parser the answer is the answer.
        ("<think>\n", "7", {"completion_tokens_details": {"reasoning_tokens": 0}}, "7"),
    ],
)
def test_a_thought_that_the_prompt_opened_is_one(
    detokenized: str | None, said: str, usage: dict[str, Any], text: str
) -> None:
    answer = chat_answer(choice(message={"content": said})) | {"usage": usage}
    (sample,) = draw(Script(answer=answer, detokenized=detokenized)).samples
    assert sample.text == text


def test_samples_come_in_the_order_of_their_index() -> None:
    late = choice(1, message={"content": "8"}, finish_reason="length")
    drawn = draw(Script(answer=chat_answer(late, choice(0))), n=2)
    assert (drawn.version, drawn.prompt_ids) == ("m", (3, 4, 5))
    assert drawn.samples == (
        Sample("7", (9, 1), (-0.5, -0.25), Finish.STOP),
        Sample("8", (9, 1), (-0.5, -0.25), Finish.LENGTH),
    )


@pytest.mark.parametrize(
    ("changes", "text", "finish"),
    [
        ({"message": {"content": None}}, "", Finish.STOP),
        ({"message": {"content": "half a pair: \ud83d"}}, "half a pair: ?", Finish.STOP),
        ({"message": {"content": "x", "tool_calls": [{}]}}, "", Finish.OTHER),
        ({"message": {"content": "x", "tool_calls": []}}, "x", Finish.STOP),
        ({"finish_reason": "abort"}, "7", Finish.OTHER),
        ({"finish_reason": None}, "7", Finish.OTHER),
    ],
)
def test_unusual_choices(changes: dict[str, Any], text: str, finish: Finish) -> None:
    (sample,) = draw(Script(answer=chat_answer(choice(**changes)))).samples
    assert (sample.text, sample.finish) == (text, finish)


@pytest.mark.fault(
    "the engine answers a run with rubbish",
    sees="nothing",
    keeps="everything; the run fails, and quotes nothing of it",
)
@pytest.mark.parametrize(
    "answer",
    [
        b"no json " + SECRET.encode(),
        [],
        {},
        {"choices": []},
        {"choices": [choice()]},
        chat_answer(),
        chat_answer(choice(), choice(1)),
        chat_answer(choice(token_ids=None)),
        chat_answer(choice(token_ids=[1])),
        chat_answer(choice(token_ids=[SECRET])),
        chat_answer(choice(logprobs=None)),
        chat_answer(choice(logprobs={"content": [{"logprob": SECRET}] * 2})),
    ],
)
def test_what_cannot_be_learned_from_is_an_error_that_quotes_nothing(answer: Any) -> None:
    with pytest.raises(EngineError) as caught:
        draw(Script(answer=answer))
    shown = "".join(map(str, (caught.value, caught.value.__context__)))
    assert "/v1/chat/completions" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__ or SECRET not in shown


def test_a_refused_chat_does_not_quote_the_engine() -> None:
    answer = {"error": {"message": f"bad: {SECRET}", "type": "BadRequestError", "code": 400}}
    with pytest.raises(EngineRefused) as caught:
        draw(Script(status=400, answer=answer))
    assert caught.value.status == 400
    assert SECRET not in str(caught.value)


def test_a_refused_load_says_the_engines_reason() -> None:
    script = Script(status=404, answer={"error": {"message": "no adapter there"}})
    with (
        serving(script) as url,
        EngineClient(url, timeout=5) as client,
        pytest.raises(
            EngineRefused, match=r"load_lora_adapter.*'a'.*404.*no adapter there"
        ) as caught,
    ):
        client.load_adapter("a", "/adapters/a")
    assert caught.value.status == 404
    assert script.asked[0][2] == {"lora_name": "a", "lora_path": "/adapters/a"}


@pytest.mark.parametrize(("loaded", "loads"), [([], 2), (["a"], 1)])
def test_an_adapter_waits_for_an_engine_that_is_started_again(
    at_once: list[float], loaded: list[str], loads: int
) -> None:
    """One whose load was answered by nobody, and that is there all the same, is loaded once."""
    cards = [{"id": name} for name in loaded]
    script = Script(hang_up=1, answer={"data": cards})
    with serving(script) as url, EngineClient(url, timeout=5, retries=1) as client:
        client.load_adapter("a", "/adapters/a")
    assert [path for _, path, *_ in script.asked].count("/v1/load_lora_adapter") == loads


@pytest.mark.parametrize("answer", [b"", b"plain", [], {"error": "Unauthorized"}])
def test_a_refusal_in_another_form_is_a_refusal(answer: Any) -> None:
    with (
        serving(Script(status=401, answer=answer)) as url,
        EngineClient(url, timeout=5) as client,
        pytest.raises(EngineRefused),
    ):
        client.unload_adapter("a")


def test_models_and_the_base_among_them() -> None:
    cards = [
        {"id": "a", "parent": "base", "root": "/a", "max_model_len": None},
        {"id": "base", "parent": None, "root": "org/base", "max_model_len": 512, "extra": 1},
    ]
    with serving(Script(answer={"data": cards})) as url, EngineClient(url, timeout=5) as client:
        assert client.models()[0] == ModelCard("a", "base", "/a", None)
        assert client.base_model() == ModelCard("base", None, "org/base", 512)


def test_an_engine_without_a_base_model() -> None:
    with (
        serving(Script(answer={"data": []})) as url,
        EngineClient(url, timeout=5) as client,
        pytest.raises(EngineError, match="no base model"),
    ):
        client.base_model()


def test_prompt_logprobs_are_those_of_the_tokens() -> None:
    entries = [None, {"8": {"logprob": -2.0}, "5": {"logprob": -1.0}}, {"6": {"logprob": -3.0}}]
    script = Script(answer={"choices": [{"prompt_logprobs": entries}]})
    with serving(script) as url, EngineClient(url, timeout=5) as client:
        assert client.prompt_logprobs([4, 5, 6], model="m") == (None, -1.0, -3.0)
    body = script.asked[0][2]
    assert (body["prompt"], body["max_tokens"]) == ([4, 5, 6], 1)


CALLS: list[Callable[[EngineClient], object]] = [
    lambda client: client.models(),
    lambda client: client.sample(QUESTION, model="m", n=1, sampling=Sampling()),
    lambda client: client.load_adapter("a", "/a"),
]


@pytest.mark.parametrize("call", CALLS)
def test_nobody_there(call: Callable[[EngineClient], object]) -> None:
    with EngineClient(f"http://127.0.0.1:{free_port()}", timeout=5) as client:
        assert not client.healthy()
        with pytest.raises(EngineUnreachable, match=r"127\.0\.0\.1"):
            call(client)


def test_reading_is_tried_again_but_sampling_is_not() -> None:
    script = Script(answer={"data": []}, hang_up=2)
    with serving(script) as url, EngineClient(url, timeout=5) as client:
        assert client.models() == ()
        assert len(script.asked) == 3
        script.hang_up = 1
        with pytest.raises(EngineUnreachable):
            client.sample(QUESTION, model="m", n=1, sampling=Sampling())
        assert len(script.asked) == 4


def test_too_late_is_unreachable() -> None:
    script = Script(answer=chat_answer(choice()), delay=0.5)
    with (
        serving(script) as url,
        EngineClient(url, timeout=0.1) as client,
        pytest.raises(EngineUnreachable, match="did not answer in time"),
    ):
        client.prompt_logprobs([4, 5], model="m")


def test_an_engine_that_hangs_does_not_keep_who_asks_for_its_models(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ttrl.engine.client.MANAGE_SECONDS", 0.1)
    script = Script(answer={"data": []}, delay=0.5)
    with (
        serving(script) as url,
        EngineClient(url, timeout=600) as client,
        pytest.raises(EngineUnreachable, match="did not answer in time"),
    ):
        client.models()


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_health(status: int, healthy: bool) -> None:
    with serving(Script(status=status)) as url, EngineClient(url, timeout=5) as client:
        assert client.healthy() is healthy


PAGE = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 5.0
vllm:num_requests_running{engine="1",model_name="m"} 2.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="m"} 3.0
vllm:num_requests_waiting{engine="1",model_name="m"} 0.0
# TYPE vllm:num_requests_waiting_by_reason gauge
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 3.0
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{engine="0",model_name="m"} 1e+06
vllm:prompt_tokens_created{engine="0",model_name="m"} 1.7e+09
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{engine="0",model_name="m"} 20.0
python_info{version="3.12"} 1.0
"""


def test_the_load_of_all_engines_together() -> None:
    script = Script(answer=PAGE.encode())
    with serving(script) as url, EngineClient(url, timeout=5) as client:
        assert client.load() == Load(running=7, waiting=3, tokens=1_000_020)
    assert script.asked[0][:2] == ("GET", "/metrics")


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (404, PAGE.encode()),
        (200, b""),
        (200, b"<html>metrics</html>"),
        (200, {"error": "no"}),
        (200, PAGE.replace("vllm:generation", "other:generation").encode()),
        (200, PAGE.replace("20.0", "NaN").encode()),
        (200, PAGE.replace("5.0", "+Inf").encode()),
        (200, PAGE.replace("5.0", "many").encode()),
        (200, PAGE[:90].encode() + b"\xff"),
    ],
)
def test_an_engine_that_does_not_say_how_busy_it_is(status: int, answer: Any) -> None:
    with serving(Script(status, answer)) as url, EngineClient(url, timeout=5) as client:
        assert client.load() is None


@given(st.text(st.sampled_from('{}"=,\\ #\n\t1aN_:+-.')))
def test_whatever_stands_there_it_is_a_load_or_none(rest: str) -> None:
    load = read_load(f"{PAGE}vllm:num_requests_running{rest}")
    assert load is None or load.waiting == 3


def test_the_load_of_an_engine_that_is_gone() -> None:
    with (
        EngineClient(f"http://127.0.0.1:{free_port()}", timeout=5) as client,
        pytest.raises(EngineUnreachable, match="/metrics"),
    ):
        client.load()
