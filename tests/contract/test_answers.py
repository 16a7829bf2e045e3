"""What an engine answers: samples, log-probabilities, streams, ends."""

from __future__ import annotations

import json
import math
from typing import Any

import httpx2
import pytest

from tests.contract.served import BASE, MAX_MODEL_LEN, NEUTRAL, Served, greedy_text
from ttrl.engine.client import EngineClient
from ttrl.engine.samples import Finish, Sampling
from ttrl.questions.question import from_prompt

QUESTION = from_prompt("what is twelve plus thirty?")
MESSAGES = QUESTION.body["messages"]


def post(engine: Served, path: str, **body: Any) -> Any:
    body = {"model": BASE, **NEUTRAL, **body}
    response = httpx2.post(f"{engine.url}/v1/{path}", json=body, timeout=60)
    assert response.status_code == 200, response.text
    return response.json()


def stream(engine: Served, **body: Any) -> list[Any]:
    """The chunks of a streamed chat, the final [DONE] checked and left out."""
    body = {"model": BASE, "messages": MESSAGES, "stream": True, **NEUTRAL, **body}
    with httpx2.stream("POST", f"{engine.url}/v1/chat/completions", json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in response.iter_lines() if line]
    assert lines.pop() == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def test_it_says_that_it_is_healthy(client: EngineClient) -> None:
    assert client.healthy()


def test_the_base_model_is_listed(client: EngineClient, engine: Served) -> None:
    card = client.base_model()
    assert (card.name, card.parent, card.root) == (BASE, None, str(engine.model))
    assert card.max_model_len == MAX_MODEL_LEN


def test_samples_have_tokens_and_logprobs(client: EngineClient) -> None:
    drawn = client.sample(QUESTION, model=BASE, n=5, sampling=Sampling(max_tokens=20))
    assert drawn.version == BASE
    assert len(drawn.prompt_ids) > 20
    assert len(drawn.samples) == 5
    assert len({sample.token_ids for sample in drawn.samples}) > 1
    for sample in drawn.samples:
        assert 1 <= len(sample.token_ids) == len(sample.logprobs) <= 20
        assert all(logprob <= 0 for logprob in sample.logprobs)


def test_a_first_token_has_its_likeliest_alternatives(client: EngineClient) -> None:
    first = client.first_token(QUESTION.text, model=BASE)
    assert 2 <= len(first) <= 20
    assert 0.5 < sum(map(math.exp, first.values())) <= 1.001
    assert client.first_token(QUESTION.text, model=BASE).keys() == first.keys()


def test_a_seed_gives_the_same_samples_again(client: EngineClient) -> None:
    first, again, other = (
        client.sample(
            QUESTION, model=BASE, n=3, sampling=Sampling(max_tokens=30, seed=seed)
        ).samples
        for seed in (7, 7, 8)
    )
    assert [s.token_ids for s in first] == [s.token_ids for s in again]
    assert [s.token_ids for s in first] != [s.token_ids for s in other]
    assert len({s.token_ids for s in first}) == 3


def test_temperature_0_is_greedy(client: EngineClient) -> None:
    sampling = Sampling(temperature=0.0, max_tokens=30)
    drawn = client.sample(QUESTION, model=BASE, n=1, sampling=sampling)
    assert drawn.samples[0].text == greedy_text(client, QUESTION, 30)
    assert len(drawn.samples[0].text) > 3


def test_logprobs_are_those_of_the_prompt_with_its_answer(client: EngineClient) -> None:
    drawn = client.sample(QUESTION, model=BASE, n=4, sampling=Sampling(max_tokens=40))
    for sample in drawn.samples:
        whole = client.prompt_logprobs(drawn.prompt_ids + sample.token_ids, model=BASE)
        assert whole[0] is None
        assert whole[len(drawn.prompt_ids) :] == pytest.approx(sample.logprobs, abs=1e-3)


def test_logprobs_follow_the_temperature(engine: Served) -> None:
    """As drawn from: at a temperature of 0.5 twice as far apart as at 1."""
    chosen = {"messages": MESSAGES, "max_tokens": 1, "logprobs": True, "top_logprobs": 3, "seed": 1}
    gaps = []
    for temperature in (0.5, 1.0):
        answer = post(engine, "chat/completions", temperature=temperature, **chosen)
        entry = answer["choices"][0]["logprobs"]["content"][0]
        gaps.append({top["token"]: top["logprob"] for top in entry["top_logprobs"]})
    cold, warm = gaps
    one, other = sorted(cold.keys() & warm.keys())[:2]
    assert cold[one] - cold[other] == pytest.approx(2 * (warm[one] - warm[other]), abs=1e-3)


def test_top_k_1_draws_the_likeliest_with_certainty(engine: Served, client: EngineClient) -> None:
    answer = post(
        engine,
        "chat/completions",
        messages=MESSAGES,
        n=2,
        max_tokens=12,
        top_k=1,
        logprobs=True,
    )
    greedy = greedy_text(client, QUESTION, 12)
    for choice in answer["choices"]:
        assert choice["message"]["content"] == greedy
        assert all(abs(entry["logprob"]) < 1e-6 for entry in choice["logprobs"]["content"])


def test_a_stream_brings_what_a_whole_answer_has(engine: Served, client: EngineClient) -> None:
    chunks = stream(
        engine,
        temperature=0,
        max_tokens=30,
        logprobs=True,
        return_token_ids=True,
        stream_options={"include_usage": True},
    )
    sampling = Sampling(temperature=0.0, max_tokens=30)
    (whole,) = (drawn := client.sample(QUESTION, model=BASE, n=1, sampling=sampling)).samples
    opening, *middle, usage = chunks
    assert opening["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert tuple(opening["prompt_token_ids"]) == drawn.prompt_ids
    choices = [chunk["choices"][0] for chunk in middle]
    assert "".join(c["delta"].get("content") or "" for c in choices) == whole.text
    assert tuple(i for c in choices for i in c["token_ids"]) == whole.token_ids
    logprobs = [e["logprob"] for c in choices for e in c["logprobs"]["content"]]
    assert logprobs == pytest.approx(whole.logprobs, abs=1e-4)
    assert [c["finish_reason"] for c in choices if c["finish_reason"]] == [whole.finish]
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == len(whole.token_ids)
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert {chunk["model"] for chunk in chunks} == {BASE}


def test_a_stream_of_several_answers_keeps_them_apart(engine: Served) -> None:
    chunks = stream(engine, n=3, seed=3, max_tokens=15)
    texts = {0: "", 1: "", 2: ""}
    for choice in (chunk["choices"][0] for chunk in chunks):
        texts[choice["index"]] += choice["delta"].get("content") or ""
    assert len(set(texts.values())) == 3
    assert sum(bool(chunk["choices"][0]["finish_reason"]) for chunk in chunks) == 3


def test_a_stop_string_ends_the_answer_before_it(engine: Served) -> None:
    body = {"messages": MESSAGES, "temperature": 0, "max_tokens": 40, "ignore_eos": True}
    text = post(engine, "chat/completions", **body)["choices"][0]["message"]["content"]
    stop = text[10:13]
    expected = text[: text.index(stop)]
    body["stop"] = [stop, "never this"]
    (choice,) = post(engine, "chat/completions", **body)["choices"]
    assert choice["message"]["content"] == expected
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", stop)
    chunks = stream(engine, **body)
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks) == expected


def test_the_finish_reason_says_why_an_answer_ended(client: EngineClient) -> None:
    drawn = client.sample(QUESTION, model=BASE, n=32, sampling=Sampling(max_tokens=200))
    ended = [sample for sample in drawn.samples if sample.finish is Finish.STOP]
    cut = [sample for sample in drawn.samples if sample.finish is Finish.LENGTH]
    assert len(ended) + len(cut) == 32
    assert ended
    (end,) = {sample.token_ids[-1] for sample in ended}
    for sample in ended:
        assert end not in sample.token_ids[:-1]
        assert len(sample.text) < len(sample.token_ids)
        assert "<|end|>" not in sample.text
    assert all(len(sample.token_ids) == 200 for sample in cut)


def test_without_a_limit_an_answer_may_fill_the_context(engine: Served) -> None:
    """Where the model's own limit lies beyond."""
    long = [{"role": "user", "content": "what is twelve plus thirty? " * 5}]
    answer = post(engine, "chat/completions", messages=long, ignore_eos=True)
    assert answer["usage"]["total_tokens"] == MAX_MODEL_LEN
    assert answer["choices"][0]["finish_reason"] == "length"


def test_completions_take_several_prompts(engine: Served) -> None:
    prompts = ["one plus one", "two plus two"]
    body = {"max_tokens": 6, "temperature": 0, "logprobs": 1, "return_token_ids": True}
    together = post(engine, "completions", prompt=prompts, **body)
    assert [choice["index"] for choice in together["choices"]] == [0, 1]
    for prompt, choice in zip(prompts, together["choices"], strict=True):
        (alone,) = post(engine, "completions", prompt=prompt, **body)["choices"]
        assert alone["text"] == choice["text"]
        ids = choice["prompt_token_ids"]
        (by_ids,) = post(engine, "completions", prompt=ids, **body)["choices"]
        assert by_ids["text"] == choice["text"]
        logprobs = choice["logprobs"]
        shown = [token for token in logprobs["tokens"] if not token.startswith("<|")]
        assert "".join(shown) == choice["text"]
        assert logprobs["token_logprobs"] == pytest.approx(
            alone["logprobs"]["token_logprobs"], abs=1e-4
        )
        assert len(logprobs["top_logprobs"]) == len(logprobs["text_offset"]) == 6


def test_a_lower_priority_is_answered_too(client: EngineClient) -> None:
    drawn = client.sample(QUESTION, model=BASE, n=2, sampling=Sampling(max_tokens=5), priority=10)
    assert len(drawn.samples) == 2


def test_an_answer_may_be_left_half_way(engine: Served, client: EngineClient) -> None:
    body = {"model": BASE, "messages": MESSAGES, "stream": True, "ignore_eos": True, "n": 8}
    for _ in range(10):
        with httpx2.stream("POST", f"{engine.url}/v1/chat/completions", json=body) as response:
            assert next(response.iter_lines()).startswith("data: ")
    assert greedy_text(client, QUESTION, 5)
