"""How answers are drawn and where they end, as clients ask for it and as the model's own defaults
have it."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from tests.contract.models import DEFAULTS, MARKS
from tests.contract.served import BASE, NEUTRAL, Served
from ttrl.engine.client import EngineClient
from ttrl.engine.samples import Finish, Sample, Sampling
from ttrl.questions.question import from_prompt
from ttrl.questions.regime import Regime

QUESTION = from_prompt("what is twelve plus thirty?")


def ask(engine: Served, **fields: Any) -> Any:
    body = {"model": BASE, **QUESTION.body, **fields}
    response = httpx2.post(f"{engine.url}/v1/chat/completions", json=body, timeout=120)
    assert response.status_code == 200, response.text
    return response.json()


def first_tokens(engine: Served, n: int = 256, **fields: Any) -> dict[str, float]:
    """The first tokens of many answers, with their probabilities: so many that one of a twentieth
    is among them."""
    answer = ask(engine, n=n, max_tokens=1, logprobs=True, **fields)
    entries = [choice["logprobs"]["content"][0] for choice in answer["choices"]]
    return {entry["token"]: math.exp(entry["logprob"]) for entry in entries}


def likeliest(engine: Served) -> list[tuple[str, float]]:
    """The first token's alternatives with their probabilities, the likeliest first; vLLM has the
    one that was drawn before them."""
    answer = ask(engine, max_tokens=1, logprobs=True, top_logprobs=20, **NEUTRAL)
    (entry,) = answer["choices"][0]["logprobs"]["content"]
    found = {each["token"]: math.exp(each["logprob"]) for each in entry["top_logprobs"]}
    return sorted(found.items(), key=lambda each: -each[1])


def shared(kept: list[tuple[str, float]]) -> dict[str, float]:
    """What each has of all when only these may come."""
    whole = sum(share for _, share in kept)
    return {token: share / whole for token, share in kept}


def check(drawn: dict[str, float], expected: dict[str, float]) -> None:
    """Only what may come came, with its probability, and of the likely all."""
    assert drawn == pytest.approx({token: expected.get(token, 0.0) for token in drawn}, abs=1e-3)
    assert {token for token, share in expected.items() if share > 0.1} <= drawn.keys()


def test_top_k_leaves_the_likeliest(engine: Served) -> None:
    check(first_tokens(engine, **NEUTRAL | {"top_k": 3}), shared(likeliest(engine)[:3]))


def test_top_p_leaves_the_fewest_that_have_this_share(engine: Served) -> None:
    ranked, kept, mass = likeliest(engine), [], 0.0
    while mass < 0.6:
        kept.append(ranked[len(kept)])
        mass += kept[-1][1]
    assert 1 < len(kept) < 15
    check(first_tokens(engine, **NEUTRAL | {"top_p": 0.6}), shared(kept))


def test_min_p_leaves_what_is_not_far_less_likely_than_the_likeliest(engine: Served) -> None:
    ranked = likeliest(engine)
    kept = [each for each in ranked if each[1] >= 0.4 * ranked[0][1]]
    assert 1 < len(kept) < 15
    check(first_tokens(engine, **NEUTRAL | {"min_p": 0.4}), shared(kept))


def greedy(client: EngineClient, max_tokens: int = 40, **fields: Any) -> Sample:
    regime = Regime(NEUTRAL | {"temperature": 0, "max_tokens": max_tokens, **fields})
    return client.sample(QUESTION, model=BASE, n=1, sampling=regime).samples[0]


def test_what_was_said_or_asked_can_be_made_unlikely(client: EngineClient) -> None:
    plain = greedy(client, ignore_eos=True).token_ids
    counted = greedy(client, ignore_eos=True, frequency_penalty=2).token_ids
    seen = greedy(client, ignore_eos=True, presence_penalty=2).token_ids
    assert max(map(counted.count, counted)) < max(map(plain.count, plain))
    assert len(set(seen)) > len(set(plain))
    drawn = client.sample(
        QUESTION,
        model=BASE,
        n=1,
        sampling=Regime({"temperature": 0, "repetition_penalty": 1e6, "max_tokens": 5}),
    )
    (new,) = drawn.samples
    assert len(set(new.token_ids)) == len(new.token_ids)
    assert not set(new.token_ids) & set(drawn.prompt_ids)


@pytest.mark.parametrize("included", [False, True])
def test_a_stop_string_ends_a_sample(client: EngineClient, included: bool) -> None:
    plain = greedy(client, ignore_eos=True)
    stop = plain.text[12:15]
    upto = plain.text.index(stop)
    ends = {"stop": ["never this", stop], "include_stop_str_in_output": included}
    ended = greedy(client, ignore_eos=True, **ends)
    assert ended.finish is Finish.STOP
    assert ended.text == plain.text[:upto] + (stop if included else "")
    assert ended.token_ids == plain.token_ids[: len(ended.token_ids)]
    assert len(ended.logprobs) == len(ended.token_ids) >= upto + len(stop), "one a character"
    sampled = client.sample(
        QUESTION, model=BASE, n=16, sampling=Sampling(max_tokens=60, ends={"stop": [" ", "e"]})
    )
    assert not any({" ", "e"} & set(sample.text) for sample in sampled.samples)
    assert any(sample.finish is Finish.STOP for sample in sampled.samples)


@pytest.mark.parametrize("included", [False, True])
def test_a_token_can_end_a_sample(client: EngineClient, included: bool) -> None:
    plain = greedy(client, ignore_eos=True)
    token = plain.token_ids[10]
    upto = plain.token_ids.index(token)
    ends = {"stop_token_ids": [token], "include_stop_str_in_output": included}
    ended = greedy(client, ignore_eos=True, **ends)
    assert ended.finish is Finish.STOP
    assert ended.token_ids == plain.token_ids[: upto + 1]
    longer = greedy(client, upto + 1, ignore_eos=True).text
    shorter = greedy(client, upto, ignore_eos=True).text if upto else ""
    assert ended.text == (longer if included else shorter)


def test_nothing_ends_an_answer_before_its_least_length(client: EngineClient) -> None:
    plain = greedy(client, 30, ignore_eos=True)
    stop = [plain.text[5]]
    assert len(greedy(client, 30, ignore_eos=True, stop=stop).token_ids) < 25
    ended = greedy(client, 30, ignore_eos=True, stop=stop, min_tokens=25)
    assert len(ended.token_ids) >= 25
    assert ended.token_ids[:25] == plain.token_ids[:25]


def test_special_tokens_can_be_part_of_the_text(client: EngineClient) -> None:
    plain = client.sample(QUESTION, model=BASE, n=32, sampling=Sampling(max_tokens=60))
    ends = {"skip_special_tokens": False, "stop": ["<|end|>", "<|user|>"]}
    shown = client.sample(QUESTION, model=BASE, n=64, sampling=Sampling(max_tokens=60, ends=ends))
    assert not any(mark in sample.text for sample in plain.samples for mark in MARKS)
    ended = [sample for sample in shown.samples if sample.finish is Finish.STOP]
    assert ended
    assert not any("<|user|>" in sample.text for sample in shown.samples)


def test_temperature_0_says_the_same_whatever_else_is_asked(client: EngineClient) -> None:
    alone = greedy(client, ignore_eos=True)
    with ThreadPoolExecutor(9) as pool:
        others = [
            pool.submit(
                client.sample, QUESTION, model=BASE, n=8, sampling=Sampling(max_tokens=20 + 10 * n)
            )
            for n in range(4)
        ]
        again = [pool.submit(greedy, client, ignore_eos=True) for _ in range(5)]
        assert {future.result().token_ids for future in again} == {alone.token_ids}
        assert all(len(future.result().samples) == 8 for future in others)


def test_what_is_left_out_is_as_the_model_has_it(engine: Served, client: EngineClient) -> None:
    """What is said goes before it, and Sampling says everything."""
    named = {name: value for name, value in DEFAULTS.items() if name != "max_new_tokens"}
    left_out = first_tokens(engine)
    assert len(left_out) <= 3
    assert left_out == pytest.approx(first_tokens(engine, **named), abs=1e-3)
    assert len(first_tokens(engine, **NEUTRAL)) > 3
    answer = ask(engine, ignore_eos=True)
    assert answer["usage"]["completion_tokens"] == DEFAULTS["max_new_tokens"]
    longer = ask(engine, ignore_eos=True, max_tokens=160)
    assert longer["usage"]["completion_tokens"] == 160
    drawn = client.sample(QUESTION, model=BASE, n=128, sampling=Sampling(max_tokens=1))
    as_users = Regime({"max_tokens": 1})
    asked = client.sample(QUESTION, model=BASE, n=128, sampling=as_users)
    assert len({sample.token_ids for sample in drawn.samples}) > 3
    assert len({sample.token_ids for sample in asked.samples}) <= 3
