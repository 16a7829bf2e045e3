"""The trainer's part of the memory estimate, against a real update on a real GPU."""

from __future__ import annotations

import shutil

import pytest

from tests.late import torch, transformers
from ttrl.config import Config
from ttrl.config.loading import override
from ttrl.demo import model_dir
from ttrl.engine import memory
from ttrl.engine.proof import Pin
from ttrl.training import Row

TOKENS = 512


class Drill:
    """Batches whose every sequence is as long as the estimate allows for."""

    def __init__(self, rows, result):
        self.rows = rows
        self.result = result

    def next_batch(self, step, numbers):
        if step:
            self.save(self.result)
        ids = [5 + position % 50 for position in range(TOKENS)]
        return [Row(ids, ids, [-5.0] * TOKENS, float(row % 2)) for row in range(self.rows)]


def a_model(directory, **sizes):
    """A random one, with the demo's tokenizer."""
    config = transformers.Qwen3Config(
        **sizes, num_attention_heads=16, num_key_value_heads=8, head_dim=64, vocab_size=50000
    )
    transformers.Qwen3ForCausalLM(config).to(torch.bfloat16).save_pretrained(directory)
    for file in model_dir().glob("*token*"):
        shutil.copy(file, directory)
    shutil.copy(model_dir() / "chat_template.jinja", directory)
    return directory


def one_update(directory, scratch, **settings):
    """The real thing; returns the configuration that it ran under."""
    from ttrl.training.grpo import Trainer

    config = override(
        Config(),
        {
            "update.questions_per_step": 2,
            "update.keep": 8,
            "vote.max_tokens": TOKENS,
            "model.name": str(directory),
        }
        | settings,
    )
    drill = Drill(rows=16, result=scratch / "result")
    trainer = Trainer(
        str(directory),
        None,
        config.update,
        steps=2,
        temperature=1.0,
        max_tokens=TOKENS,
        scratch=scratch,
    )
    drill.save = trainer.save_adapter
    trainer.run(drill.next_batch)
    trainer.logprobs([Pin(1, tuple(range(5, 55)), 20)], drill.result)
    return config


@pytest.mark.gpu
@pytest.mark.timeout(300)
@pytest.mark.parametrize("settings", [{}, {"update.dtype": "float32"}, {"update.micro_batch": 2}])
def test_the_estimate_is_an_upper_estimate_and_a_near_one(tmp_path, settings):
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    directory = a_model(
        tmp_path / "model", hidden_size=1024, intermediate_size=3072, num_hidden_layers=12
    )
    torch.cuda.reset_peak_memory_stats()
    config = one_update(directory, tmp_path, **settings)
    taken = torch.cuda.max_memory_allocated()
    found = memory.trainer_memory(memory.figures(str(directory)), config.update, 2 * TOKENS)
    assert taken <= sum(found.values()) - memory.CONTEXT <= 2 * taken
