"""An exported version answers like the version, read by transformers alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.command import ttrl
from tests.integration.daemon import publish_random, record_questions
from ttrl.demo import make_problems, model_dir
from ttrl.engine.proof import Pin, Pinned
from ttrl.versions import identify

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

PROMPTS = [problem.prompt for problem in make_problems(4, seed=11)]
Export = Callable[..., Result]


def load(folder: Path, adapter: Path | None = None) -> Any:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)  # more would spin while they wait for each other
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return PeftModel.from_pretrained(model, adapter) if adapter else model


def greedy(folder: Path, model: Any) -> list[list[int]]:
    """The prompts with the model's answers, as token ids."""
    from transformers import AutoTokenizer

    tokenizer, found = AutoTokenizer.from_pretrained(folder), []
    for prompt in PROMPTS:
        asked = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        answer = model.generate(**asked, do_sample=False, max_new_tokens=32)
        found.append(answer[0].tolist())
    return found


@pytest.fixture(scope="module")
def pinned(random_adapters: list[Path]) -> list[list[Pinned]]:
    """Of each adapter, on its own answers."""
    from ttrl.training.lora import logprobs

    base, found = load(model_dir()), []
    for adapter in random_adapters:
        model = load(model_dir(), adapter)
        pins = [Pin(1, tuple(ids), 20) for ids in greedy(model_dir(), model)]
        sides = zip(pins, logprobs(model, pins), logprobs(base, pins), strict=True)
        found.append([Pinned(pin, "float32", own, before) for pin, own, before in sides])
    return found


@pytest.fixture
def export(tmp_path: Path) -> Export:
    there = ("--state-dir", tmp_path / "state", "--json")
    return lambda name, *words, code=0: ttrl(
        "adapters", "export", name, tmp_path / "out", *words, *there, code=code
    )


def published(tmp_path: Path, adapter: Path, pinned: list[Pinned], weights: str | None) -> str:
    state = record_questions(tmp_path / "state", 10)
    (name,) = publish_random(state, [adapter], pinned, weights=weights)
    return name


def test_a_merged_version_answers_like_the_version(
    tmp_path: Path, export: Export, random_adapters: list[Path], pinned: list[list[Pinned]]
) -> None:
    from ttrl.training.lora import logprobs

    weights = identify(str(model_dir())).weights
    name = published(tmp_path, random_adapters[0], pinned[0], weights)
    done = export(name, "--merged")
    found = json.loads(done.stdout)
    assert (found["dtype"], found["proof"]) == ("float32", "proven")
    out = tmp_path / "out"
    merged, version = load(out), load(model_dir(), random_adapters[0])
    assert greedy(out, merged) == greedy(model_dir(), version)
    pins = [each.pin for each in pinned[0]]
    for mine, own in zip(logprobs(merged, pins), logprobs(version, pins), strict=True):
        assert mine == pytest.approx(own, abs=1e-4)
    for name in ("generation_config.json", "chat_template.jinja"):
        assert (out / name).is_file()
    assert "answers like the version" in (out / "README.md").read_text()


def test_it_is_merged_in_a_dtype(
    tmp_path: Path, export: Export, random_adapters: list[Path], pinned: list[list[Pinned]]
) -> None:
    name = published(tmp_path, random_adapters[0], pinned[0], None)
    done = export(name, "--merged", "--dtype", "bfloat16")
    found = json.loads(done.stdout)
    assert (found["dtype"], found["proof"]) == ("bfloat16", "proven")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"


def test_a_merge_that_answers_unlike_the_version_is_refused(
    tmp_path: Path, export: Export, random_adapters: list[Path], pinned: list[list[Pinned]]
) -> None:
    name = published(tmp_path, random_adapters[0], pinned[1], None)
    assert "do not answer like" in export(name, "--merged", code=1).output
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_a_changed_base_model_is_refused(
    tmp_path: Path, export: Export, random_adapters: list[Path]
) -> None:
    name = published(tmp_path, random_adapters[0], [], "another")
    assert "have changed since" in export(name, "--merged", code=1).output
