"""The embedded engine's numbers against a plain forward pass of transformers and PEFT."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest

from tests import once
from ttrl.engine.process import free_port

pytestmark = pytest.mark.integration

PROMPTS = ([3, 9, 12, 40, 8, 1, 4], [3, 11, 1, 4], [3, *range(6, 40), 1, 4])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return once.models(tmp_path_factory)


@pytest.fixture(scope="module")
def parts(folder: Path) -> SimpleNamespace:
    """The tiny model and its adapters a and b."""
    import torch

    from ttrl.engine.embedded.model import Model

    torch.set_num_threads(1)
    model = Model(str(folder / "model"), name="tiny")
    adapters = {name: model.read_adapter(name, str(folder / name)) for name in ("a", "b")}
    return SimpleNamespace(model=model, adapters=adapters)


def make_job(
    parts: SimpleNamespace,
    adapter: str | None,
    prompt: Sequence[int],
    max_tokens: int = 30,
    **settings: Any,
) -> Any:
    from ttrl.engine.embedded.generation import Job, Settings

    chosen = parts.adapters.get(adapter)
    return Job(Settings(**settings), list(prompt), max_tokens, parts.model, chosen, logprobs=0)


@asynccontextmanager
async def generating(model: Any) -> AsyncIterator[Any]:
    """A scheduler at work."""
    from ttrl.engine.embedded.generation import Scheduler

    scheduler = Scheduler(model)
    task = asyncio.create_task(scheduler.run())
    yield scheduler
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def done(*jobs: Any) -> None:
    for job in jobs:
        while not job.done:
            await asyncio.wait_for(job.news.wait(), 30)
            job.news.clear()


async def answer(parts: SimpleNamespace, jobs: Sequence[Any]) -> None:
    async with generating(parts.model) as scheduler:
        with scheduler.answering(jobs):
            await done(*jobs)


def plain_logprobs(
    folder: Path, adapter: str | None, rows: list[tuple[list[int], list[int]]]
) -> Any:
    """For each (prompt, answer): the answer's log-probabilities, unpadded, uncached, unmerged."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    if adapter:
        model = PeftModel.from_pretrained(model, folder / adapter)
    with torch.inference_mode():
        for prompt, answer in rows:
            logits = model(input_ids=torch.tensor([prompt + answer])).logits[0, :-1]
            chosen = torch.tensor(answer)[:, None]
            tail = logits[len(prompt) - 1 :].log_softmax(-1)
            yield tail.gather(-1, chosen)[:, 0].tolist()


@pytest.mark.parametrize("adapter", [None, "a", "b"])
def test_logprobs_are_the_trainers(
    parts: SimpleNamespace, folder: Path, adapter: str | None
) -> None:
    """In one left-padded batch that others join and leave, as in a plain forward pass."""
    jobs = [make_job(parts, adapter, prompt, n=8) for prompt in PROMPTS]
    jobs += [make_job(parts, adapter, prompt, n=3, max_tokens=9) for prompt in PROMPTS]
    asyncio.run(answer(parts, jobs))
    rows = [row for job in jobs for row in job.rows]
    plain = plain_logprobs(folder, adapter, [(row.job.prompt_ids, row.token_ids) for row in rows])
    for row, expected in zip(rows, plain, strict=True):
        assert [drawn.logprob for drawn in row.drawn] == pytest.approx(expected, abs=3e-5)


def test_adapters_differ_from_each_other_and_from_the_base(
    parts: SimpleNamespace, folder: Path
) -> None:
    """Or the test above would prove nothing."""
    answer = list(range(6, 20))
    one, other, base = (
        next(plain_logprobs(folder, adapter, [(PROMPTS[0], answer)]))
        for adapter in ("a", "b", None)
    )
    assert one != pytest.approx(base, abs=0.1)
    assert one != pytest.approx(other, abs=0.1)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [2.0, 1.0, -1.0, -1.0, 0.5]),
        ({"repetition_penalty": 2.0}, [1.0, 0.5, -2.0, -1.0, 0.5]),
        ({"frequency_penalty": 1.5}, [2.0, -2.0, -2.5, -1.0, 0.5]),
        ({"presence_penalty": 1.5}, [2.0, -0.5, -2.5, -1.0, 0.5]),
        ({"min_tokens": 4}, [2.0, 1.0, -1.0, -float("inf"), 0.5]),
        ({"min_tokens": 3}, [2.0, 1.0, -1.0, -1.0, 0.5]),
        ({"repetition_penalty": 2.0, "presence_penalty": 1.0}, [1.0, -0.5, -3.0, -1.0, 0.5]),
    ],
)
def test_penalties_are_those_of_openai_and_vllm(
    parts: SimpleNamespace, settings: dict[str, Any], expected: list[float]
) -> None:
    """After a prompt of token 0 and an answer of 1, 1 and 2; 3 and one unknown would end it."""
    import torch

    from ttrl.engine.embedded.generation import Drawn, penalised

    def rows(**settings: Any) -> Any:
        job = make_job(parts, None, [0], stop_token_ids=[3, 10**6], ignore_eos=True, **settings)
        job.rows[0].drawn += [Drawn(token, 0.0, []) for token in (1, 1, 2)]
        return job.rows

    logits = torch.tensor([[2.0, 1.0, -1.0, -1.0, 0.5]]).repeat(2, 1)
    found = penalised([*rows(**settings), *rows()], logits)
    assert found[0].tolist() == pytest.approx(expected)
    assert found[1].tolist() == logits[1].tolist() == [2.0, 1.0, -1.0, -1.0, 0.5]


def test_a_seed_does_not_depend_on_the_company(parts: SimpleNamespace) -> None:
    alone, together = (make_job(parts, "a", PROMPTS[0], n=4, seed=5) for _ in range(2))
    asyncio.run(answer(parts, [alone]))
    crowd = [make_job(parts, "a", prompt, n=9) for prompt in PROMPTS]
    asyncio.run(answer(parts, [*crowd, together]))
    assert [row.token_ids for row in alone.rows] == [row.token_ids for row in together.rows]


def test_a_user_overtakes_what_has_lower_priority(parts: SimpleNamespace) -> None:
    async def scenario() -> None:
        slow = make_job(
            parts, "a", PROMPTS[0], n=64, max_tokens=200, ignore_eos=True, stream=True, priority=10
        )
        user = make_job(parts, None, PROMPTS[1], max_tokens=20)
        async with generating(parts.model) as scheduler:
            with scheduler.answering([slow]):
                await slow.news.wait()
                with scheduler.answering([user]):
                    await done(user)
                assert not slow.done
                await done(slow)
        assert user.rows[0].finish

    asyncio.run(scenario())


def test_who_has_left_is_not_answered(parts: SimpleNamespace) -> None:
    async def scenario() -> None:
        gone = make_job(parts, "a", PROMPTS[0], n=16, max_tokens=200, ignore_eos=True, stream=True)
        stays = make_job(parts, "a", PROMPTS[1], max_tokens=200, ignore_eos=True)
        async with generating(parts.model) as scheduler:
            with scheduler.answering([stays]):
                with scheduler.answering([gone]):
                    await gone.news.wait()
                await done(stays)
        assert max(len(row.drawn) for row in gone.rows) < 200

    asyncio.run(scenario())


def test_who_leaves_while_the_prompt_is_read_harms_nobody(
    parts: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ttrl.engine.embedded.generation import Batch

    leaves, stays = make_job(parts, "a", PROMPTS[1]), make_job(parts, "a", PROMPTS[0], n=8)
    advance = Batch.advance

    def leave(batch: Any, jobs: Any) -> Any:
        drawn = advance(batch, jobs)
        leaves.abandoned = True
        return drawn

    async def scenario() -> None:
        async with generating(parts.model) as scheduler:
            with scheduler.answering([leaves, stays]):
                await done(stays)

    monkeypatch.setattr(Batch, "advance", leave)
    asyncio.run(scenario())
    assert all(row.finish for row in stays.rows)


def test_an_engine_whose_loop_dies_ends(
    parts: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And who waits for an answer does not wait for ever."""
    from ttrl.engine.embedded import server

    def die(*_: object) -> None:
        raise MemoryError("the model does not fit")

    monkeypatch.setattr("ttrl.engine.embedded.generation.Batch.advance", die)
    monkeypatch.setattr(server, "STOP_SECONDS", 1)
    port = free_port()

    def ask() -> int:
        transport = httpx2.HTTPTransport(retries=9)  # until it listens
        with httpx2.Client(transport=transport, timeout=30) as client:
            url = f"http://127.0.0.1:{port}/v1/completions"
            return client.post(url, json={"prompt": "x"}).status_code

    # What ends the process is for this one no end.
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with ThreadPoolExecutor() as pool:
            asked = pool.submit(ask)
            server.serve(parts.model, port, None)
            assert asked.result() == 500
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "the model does not fit" in caplog.text


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({}, [0.4, 0.3, 0.2, 0.1]),
        ({"top_k": 2}, [0.4, 0.3]),
        ({"top_k": -1}, [0.4, 0.3, 0.2, 0.1]),
        ({"top_p": 0.65}, [0.4, 0.3]),
        ({"top_p": 0.05}, [0.4]),
        ({"min_p": 0.6}, [0.4, 0.3]),
        ({"top_k": 3, "top_p": 0.75}, [0.4, 0.3]),
        ({"temperature": 0.5}, [0.16, 0.09, 0.04, 0.01]),
        ({"temperature": 0.0, "top_k": 1}, [0.4, 0.3, 0.2, 0.1]),
    ],
)
def test_what_may_be_drawn(
    parts: SimpleNamespace, settings: dict[str, Any], kept: list[float]
) -> None:
    """`kept`: the weights of the tokens left over, in whatever scale; the order of tokens and of
    likelihood differ."""
    import torch

    from ttrl.engine.embedded.generation import grouped, processed_logprobs

    logits = torch.tensor([[0.1, 0.4, 0.2, 0.3]]).repeat(2, 1).log()
    jobs = [make_job(parts, None, [0], **chosen) for chosen in (settings, {"temperature": 0.1})]
    groups = grouped([job.rows[0] for job in jobs])
    got = processed_logprobs(groups, logits).exp()[0].tolist()
    expected = sorted((weight / sum(kept) for weight in kept), reverse=True)
    assert sorted(got, reverse=True) == pytest.approx(expected + [0.0] * (4 - len(kept)), abs=1e-6)


def test_draws_follow_the_distribution() -> None:
    import torch

    from ttrl.engine.embedded.generation import pick

    shares = torch.tensor([[0.5, 0.0, 0.3, 0.2]]).repeat(1000, 1)
    uniforms = torch.arange(1000, dtype=torch.float64)[:, None] / 1000
    drawn = pick(shares.log(), uniforms)[:, 0].tolist()
    assert [drawn.count(token) for token in range(4)] == pytest.approx([500, 0, 300, 200], abs=1)


@pytest.mark.parametrize("stop", [[], ["END"]])
def test_text_grows_with_the_tokens(parts: SimpleNamespace, stop: list[str]) -> None:
    """Also where a character has several tokens, or bytes that are no UTF-8 come in between."""
    from tokenizers import Tokenizer, decoders
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel

    from ttrl.engine.embedded.generation import Drawn

    letters = sorted(ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE(vocab={letter: at for at, letter in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    ids = tokenizer.encode("Zoë’s 🙂 end").ids
    bytes_model = SimpleNamespace(
        end_ids=frozenset(), tokenizer=SimpleNamespace(backend_tokenizer=tokenizer)
    )
    job = make_job(SimpleNamespace(model=bytes_model, adapters={}), None, [0], 99, stop=stop)
    seen = []
    for token in (*ids, ids[-1], *tokenizer.encode("🙂").ids[1:], *ids):
        job.rows[0].push(Drawn(token, 0.0, []))
        seen.append(job.rows[0].text)
    assert all(later.startswith(earlier) for earlier, later in pairwise(seen))
    assert seen[len(ids) - 1] == "Zoë’s 🙂 end"
    assert seen[-1].endswith("Zoë’s 🙂 end")


def test_each_answer_of_a_seed_is_its_own(parts: SimpleNamespace) -> None:
    job = make_job(parts, None, PROMPTS[0], n=5, seed=-2)
    assert len({row.random() for row in job.rows}) == 5


@pytest.mark.parametrize(
    ("field", "value"),
    [("echo", True), ("truncate_prompt_tokens", 1), ("tools", [{}])],
)
def test_what_is_not_supported_is_refused(
    parts: SimpleNamespace, field: str, value: object
) -> None:
    from starlette.testclient import TestClient

    from ttrl.engine.embedded.server import Server

    client = TestClient(Server(parts.model).app())
    answer = client.post("/v1/completions", json={"prompt": "x", field: value})
    assert answer.status_code == 400
    assert field in answer.json()["error"]["message"]


def test_the_rank_is_refused_before_the_weights_are_read(
    parts: SimpleNamespace, tmp_path: Path
) -> None:
    """`ttrl.engine.process` asks in this way whether a rank fits."""
    import json

    from safetensors.torch import save_file

    save_file({}, tmp_path / "adapter_model.safetensors")
    for rank, says in ((10**4, "greater than max_lora_rank"), (0, "no rank")):
        (tmp_path / "adapter_config.json").write_text(json.dumps({"r": rank, "lora_alpha": 1}))
        with pytest.raises(ValueError, match=says):
            parts.model.read_adapter("x", str(tmp_path))
