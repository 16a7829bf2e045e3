"""A real pre-trained model behind a real vLLM goes through the whole product in two steps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import product

import pytest

from benchmarks.gemma import DONE
from benchmarks.pretrained import MODEL, ROOT, TASKS

pytestmark = [pytest.mark.integration, pytest.mark.vllm, pytest.mark.timeout(1800)]

PARTS = (
    "the story", "the leading actor", "the camera work", "the ending", "the dialogue", "its humour",
    "this sequel", "the director", "every scene", "the music", "her performance", "the cast",
)  # fmt: skip
SAID = {
    "positive": ("is a delight", "moved me to tears", "is brilliant and brave", "never bores"),
    "negative": ("is a mess", "put me to sleep", "is lame and loud", "wastes two hours"),
}


@pytest.fixture
def questions(tmp_path):
    """A small data set of the form of the one that is measured on, to learn and to test on."""
    task = TASKS["sst2"]
    rows = [
        {
            "id": f"{part} {said}",
            "prompt": f"{task.instruction}\nReview: {part} {said} .",
            "answers": [answer],
        }
        for answer, all_said in SAID.items()
        for part, said in product(PARTS, all_said)
    ]
    (tmp_path / task.learn).write_text("".join(json.dumps(row) + "\n" for row in rows[::2]))
    (tmp_path / task.test).write_text("".join(json.dumps(row) + "\n" for row in rows[1::2]))
    return tmp_path


@pytest.mark.skipif(os.environ.get("TEST_ENGINE") != "vllm", reason="TEST_ENGINE=vllm runs it")
@pytest.mark.skipif(
    not (MODEL / DONE).exists(), reason="`make pretrained-model` prepares the model"
)
def test_a_real_model_is_asked_trained_judged_and_asked_again(questions):
    python = os.environ.get("TEST_VLLM_PYTHON", sys.executable)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.pretrained", questions, "--smoke", "--python", python],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1"},
    )
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout)
    assert line["steps"] == 2, line["reason"]
    assert line["samples"] >= 2 * 4 * 8
    assert line["verdict"] in ("better", "sharper", "unproven", "worse")
    assert line["engine"].startswith("vllm")
    value, low, high = line["pass_at_1_before"]
    assert 0.2 < value <= 1, "few worked examples make a base model answer"
    assert low <= value <= high
