"""The shipped model is what the demo needs, and it can be made again."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.late import Late, transformers
from ttrl.demo import model_dir

demo_model = Late("benchmarks.demo_model")

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def tokenizer():
    return transformers.AutoTokenizer.from_pretrained(model_dir())


@pytest.mark.parametrize(
    "text",
    [
        "What is 417 plus 286?",
        r"7+6=13, 1+8+1=10, so \boxed{703}",
        r" \boxed \boxed{{ \\boxed{1}  two  spaces ,.!? it's ",
        "naïve 日本語 \N{SNOWMAN}\u200d\n\ttabs\r\n",
        "",
    ],
)
def test_the_tokenizer_gives_back_every_text(tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_chat_template_marks_turns_and_takes_parts(tokenizer) -> None:
    turns = [
        {
            "role": "user",
            "content": [{"type": "text", "text": "1 + "}, {"type": "text", "text": "1"}],
        },
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "Sure?"},
    ]
    prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert prompt == ("<|user|>1 + 1<|end|><|assistant|>2<|end|><|user|>Sure?<|end|><|assistant|>")
    ids = tokenizer.encode(prompt)
    assert ids.count(tokenizer.eos_token_id) == 3
    assert tokenizer.decode(ids, skip_special_tokens=True) == "1 + 12Sure?"


def test_the_shipped_model_fits_the_engines() -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(model_dir())
    config = model.config
    assert config.model_type == "qwen3"
    assert config.head_dim >= 32
    assert config.max_position_embeddings >= 512
    assert model.num_parameters() < 500_000
    assert json.loads((model_dir() / "maker.json").read_text())["sha256"] == demo_model.digest(
        model_dir()
    )


@pytest.mark.long
@pytest.mark.timeout(180)
def test_the_shipped_model_blurts_and_its_majority_knows_better() -> None:
    measured = demo_model.measure(model_dir(), questions=24, votes=64)
    assert measured["greedy"] < 0.3
    assert 0.07 < measured["pass_at_1"] < 0.3
    assert measured["pass_at_1_t0.3"] < measured["pass_at_1"]
    assert measured["majority_16"] > 0.3
    assert measured["majority_64"] > 0.7
    assert measured["pass_at_16"] > 0.7


@pytest.mark.long
@pytest.mark.timeout(180)
def test_the_model_can_be_made_again(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.demo_model", "--steps", "15", "--questions", "0"]
    command += ["--threads", "2", "--out"]
    makers = [
        subprocess.Popen([*command, str(tmp_path / name)], env=os.environ | {"HF_HUB_OFFLINE": "1"})
        for name in ("one", "two")
    ]
    assert [maker.wait(timeout=150) for maker in makers] == [0, 0]
    assert demo_model.digest(tmp_path / "one") == demo_model.digest(tmp_path / "two")
    record = json.loads((tmp_path / "one" / "maker.json").read_text())
    assert record["recipe"] == {"seed": 1, "steps": 15, "threads": 2}


@pytest.mark.parametrize(
    ("text", "answer"),
    [(r"\boxed{7}", "7"), (r"\boxed{1} so \boxed{2}", "2"), (r"\boxed{7", None), ("7", None)],
)
def test_only_a_box_at_the_end_is_an_answer(text: str, answer: str | None) -> None:
    assert demo_model.boxed(text) == answer
