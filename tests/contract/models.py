"""A tiny random model and adapters for it: quick to make, and no two answer alike.

A program of its own (`python models.py FOLDER`), so that torch stays out of the tests' process.
"""

from __future__ import annotations

import json
import string
import sys
from pathlib import Path

TEMPLATE = (
    "{%- for message in messages -%}<|{{ message.role }}|>{{ message.content }}<|end|>"
    "{%- endfor -%}{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"
)
MARKS = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
DEFAULTS = {"temperature": 0.5, "top_k": 3, "repetition_penalty": 1.2, "max_new_tokens": 150}
CHARACTERS = string.printable[:-2]
"""All of them: vLLM tries the tokenizer on words of its own when it starts."""


def make_all(folder: Path) -> None:
    """`model`, which has sampling defaults of its own, its adapters `a`, `b` and `wide` (rank 64),
    and `foreign`, which is another's."""
    make_model(folder / "model")
    defaults = folder / "model" / "generation_config.json"
    known = json.loads(defaults.read_text(encoding="utf-8"))
    defaults.write_text(json.dumps(known | DEFAULTS), encoding="utf-8")
    make_adapter(folder / "model", folder / "a", seed=1)
    make_adapter(folder / "model", folder / "b", seed=2)
    make_adapter(folder / "model", folder / "wide", seed=3, rank=64)
    make_model(folder / "stranger", hidden_size=128)
    make_adapter(folder / "stranger", folder / "foreign", seed=4)


def make_model(folder: Path, *, hidden_size: int = 96) -> Path:
    """A random Qwen3 of 0.3 million parameters with a character tokenizer, saved in `folder`."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = _tokenizer()
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        # Wide enough that the next token is neither certain nor a coin toss.
        initializer_range=0.2,
    )
    model = Qwen3ForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_adapter(model_folder: Path, folder: Path, *, seed: int, rank: int = 8) -> Path:
    """A LoRA adapter whose B is not zero: it answers unlike its base, and unlike another seed."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    base = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
    model = get_peft_model(base, config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    model.save_pretrained(folder, save_embedding_layers=False)
    return folder


def _tokenizer():  # type: ignore[no-untyped-def]
    from tokenizers import Tokenizer, decoders
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import Split
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: number for number, token in enumerate((*MARKS, *CHARACTERS))}
    raw = Tokenizer(BPE(vocab=vocabulary, merges=[]))
    raw.pre_tokenizer = Split("", "isolated")
    raw.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        extra_special_tokens=list(MARKS[2:]),
        chat_template=TEMPLATE,
    )


if __name__ == "__main__":
    make_all(Path(sys.argv[1]))
