"""The policy update by itself: each of its knobs changes what a real one does."""

from __future__ import annotations

import random

import pytest

pytest.importorskip("torch")
from safetensors.torch import load_file
from transformers import AutoTokenizer

from ttrl import grpo
from ttrl.config import UpdateConfig
from ttrl.demo import model_dir
from ttrl.policy import Drawn

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

QUESTIONS, KEEP, STEPS = 2, 4, 3


class Lines:
    """Sequences of different lengths from one question each, three of four worth the same."""

    def __init__(self, directory):
        self.numbers = []
        self._directory = directory
        self._tokenizer = AutoTokenizer.from_pretrained(model_dir())
        self._random = random.Random(1)

    def deploy(self, save, step):
        save(self._directory)

    def settle(self):
        return self._directory

    def pins(self):
        return []

    def stepped(self, step, numbers):
        self.numbers.append(numbers)
        return ""

    def draw(self):
        prompt = self._tokenizer("what is one plus two?")["input_ids"]
        rows = []
        for question in range(QUESTIONS):
            for place in range(KEEP):
                said = self._random.choices("0123456789 ", k=3 + 7 * place)
                ids = self._tokenizer("".join(said))["input_ids"]
                worth = float(place == question) * (1 + question)
                rows.append(Drawn(prompt, ids, [-2.4] * len(ids), worth))
        return rows


@pytest.fixture(scope="module")
def update(tmp_path_factory):
    """Does an update; its weights in one row, and what was logged of each step. Each is done
    once."""
    done = {}

    def once(parent=None, **settings):
        key = str((parent, settings))
        if key not in done:
            directory = tmp_path_factory.mktemp("update")
            policy = Lines(directory / "result")
            all_settings = UpdateConfig(
                steps=STEPS,
                questions_per_step=QUESTIONS,
                keep=KEEP,
                micro_batch=4,
                learning_rate=1e-3,
                # The lines are none of the model's, and are to count all the same.
                grpo={"vllm_importance_sampling_correction": False} | settings.pop("grpo", {}),
                **settings,
            )
            grpo.update(
                policy,
                base_model=str(model_dir()),
                parent=parent,
                settings=all_settings,
                temperature=1.0,
                max_tokens=64,
                scratch=directory,
            )
            done[key] = policy.settle(), policy.numbers
        return done[key]

    return once


def weights(directory):
    return load_file(directory / "adapter_model.safetensors")


def furthest(one, other):
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


def test_the_same_update_twice_is_the_same(update):
    first, _ = update()
    second, _ = update(seed=0)
    assert furthest(first, second) < 1e-6


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": "grpo"},
        {"loss": "dr_grpo"},
        {"scale": "batch"},
        {"scale": "none"},
        {"kl": 0.5},
        {"top_entropy": 0.2},
        {"entropy_target": 5.0, "grpo": {"entropy_coef": 0.1}},
        {"grpo": {"max_grad_norm": 0.001, "weight_decay": 0.5}},
    ],
    ids=str,
)
def test_each_knob_changes_the_weights(update, settings):
    plain, _ = update()
    changed, _ = update(**settings)
    assert furthest(plain, changed) > 1e-4


def test_what_the_kl_term_holds_to(update):
    parent, _ = update()
    _, to_start = update(parent, kl=0.1)
    _, to_base = update(parent, kl=0.1, kl_to="base")
    assert to_start[0]["kl"] == pytest.approx(0, abs=1e-5), "nothing has moved yet"
    assert to_base[0]["kl"] > 1e-4, "the parent is not the base"


def test_a_target_for_entropy_raises_it(update):
    _, plain = update()
    _, raised = update(entropy_target=5.0, grpo={"entropy_coef": 0.1})
    assert raised[-1]["entropy"] > plain[-1]["entropy"]
