"""The embedded engine's numbers against a plain forward pass of transformers and PEFT."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = pytest.mark.integration

MODELS = Path(__file__).parents[1] / "contract" / "models.py"
PROMPTS = ([3, 9, 12, 40, 8, 1, 4], [3, 11, 1, 4], [3, *range(6, 40), 1, 4])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models")
    subprocess.run([sys.executable, str(MODELS), str(made)], check=True, capture_output=True)
    return made


@pytest.fixture(scope="module")
def parts(folder: Path) -> Iterator[SimpleNamespace]:
    """A running worker over the tiny model, and its adapters a and b."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from ttrl.engine.embedded.lora import make_switchable, read_adapter, target_shapes
    from ttrl.engine.embedded.text import Language
    from ttrl.engine.embedded.worker import Worker

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    switch = make_switchable(model)
    shapes = target_shapes(model)
    adapters = {
        name: read_adapter(name, str(folder / name), shapes, max_rank=16) for name in ("a", "b")
    }
    language = Language(AutoTokenizer.from_pretrained(folder / "model"))
    worker = Worker(model, switch)
    worker.start()
    yield SimpleNamespace(worker=worker, adapters=adapters, language=language, shapes=shapes)
    worker.stop()
    worker.join(10)


def submit(parts: SimpleNamespace, adapter: str | None, prompt: list[int], **settings: Any) -> Any:
    """A job under way, and the event that it is done."""
    from ttrl.engine.embedded.work import Job, Order

    done = threading.Event()

    def notify() -> None:
        if job.done:
            done.set()

    settings = {"max_tokens": 30, "end_ids": frozenset({1}), **settings}
    order = Order(prompt_ids=tuple(prompt), **settings)
    job = Job(order, parts.adapters.get(adapter), parts.language, notify)
    parts.worker.submit(job)
    return job, done


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
    jobs = [submit(parts, adapter, prompt, n=8) for prompt in PROMPTS]
    jobs += [submit(parts, adapter, prompt, n=3, max_tokens=9) for prompt in PROMPTS]
    for _, done in jobs:
        assert done.wait(30)
    rows = [
        (list(job.order.prompt_ids), row.token_ids, row.logprobs)
        for job, _ in jobs
        for row in job.rows
    ]
    plain = plain_logprobs(folder, adapter, [(prompt, answer) for prompt, answer, _ in rows])
    for (_, _, ours), expected in zip(rows, plain, strict=True):
        assert ours == pytest.approx(expected, abs=1e-4)


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


def test_a_seed_does_not_depend_on_the_company(parts: SimpleNamespace) -> None:
    def seeded() -> tuple[Any, Any]:
        return submit(parts, "a", PROMPTS[0], n=4, seed=5)

    alone, done = seeded()
    assert done.wait(30)
    crowd = [submit(parts, "a", prompt, n=9) for prompt in PROMPTS]
    together, done = seeded()
    assert done.wait(30)
    for _, ended in crowd:
        assert ended.wait(30)
    assert [row.token_ids for row in alone.rows] == [row.token_ids for row in together.rows]


def test_a_user_overtakes_what_has_lower_priority(parts: SimpleNamespace) -> None:
    slow, slow_done = submit(
        parts, "a", PROMPTS[0], n=64, max_tokens=200, end_ids=frozenset(), priority=10
    )
    user, user_done = submit(parts, None, PROMPTS[1], max_tokens=20)
    assert user_done.wait(30)
    assert not slow.done
    assert slow_done.wait(60)
    assert user.rows[0].finish


def test_who_has_left_is_not_answered(parts: SimpleNamespace) -> None:
    gone, _ = submit(parts, "a", PROMPTS[0], n=16, max_tokens=200, end_ids=frozenset())
    gone.abandon_unfinished()
    _, done = submit(parts, "a", PROMPTS[1], max_tokens=200, end_ids=frozenset())
    assert done.wait(30)
    assert max(len(row.token_ids) for row in gone.rows) < 200


def test_a_worker_that_dies_fails_its_jobs(parts: SimpleNamespace, folder: Path) -> None:
    """And those that come later, at once; nobody waits for ever."""
    from ttrl.engine.embedded.lora import Switch
    from ttrl.engine.embedded.worker import Worker

    died = threading.Event()
    worker = Worker(None, Switch())  # type: ignore[arg-type]
    worker.on_death = died.set
    broken = SimpleNamespace(worker=worker, adapters={}, language=parts.language)
    early, early_done = submit(broken, None, PROMPTS[0])
    with pytest.raises(AttributeError):
        worker.run()  # There is no model to run.
    late, late_done = submit(broken, None, PROMPTS[0])
    assert died.is_set()
    assert early_done.is_set()
    assert late_done.is_set()
    assert early.failed
    assert late.failed


def rows_with(parts: SimpleNamespace, **settings: Any) -> Any:
    from ttrl.engine.embedded.sampling import Knobs

    job, done = submit(parts, None, PROMPTS[0], max_tokens=1, **settings)
    assert done.wait(30)
    return Knobs.of(job.rows)


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

    from ttrl.engine.embedded.sampling import processed_logprobs

    logits = torch.tensor([[0.1, 0.4, 0.2, 0.3]]).log()
    got = processed_logprobs(logits, rows_with(parts, **settings)).exp()[0].tolist()
    expected = sorted((weight / sum(kept) for weight in kept), reverse=True)
    assert sorted(got, reverse=True) == pytest.approx(expected + [0.0] * (4 - len(kept)), abs=1e-6)


def test_draws_follow_the_distribution(parts: SimpleNamespace) -> None:
    import torch

    from ttrl.engine.embedded.sampling import draw

    shares = torch.tensor([[0.5, 0.0, 0.3, 0.2]])
    knobs = rows_with(parts)
    uniforms = torch.arange(1000, dtype=torch.float64) / 1000
    drawn = [int(draw(shares.log(), knobs, uniform.view(1, 1)).tokens) for uniform in uniforms]
    assert [drawn.count(token) for token in range(4)] == pytest.approx([500, 0, 300, 200], abs=1)
