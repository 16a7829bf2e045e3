"""`python -m ttrl.engine.embedded --model DIR --port P`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from ttrl import logs

KEY_VARIABLE = "VLLM_API_KEY"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ttrl.engine.embedded",
        description="A small engine for trials and tests; use vLLM in production. Reads an API "
        f"key from {KEY_VARIABLE}.",
    )
    parser.add_argument("--model", required=True, help="model directory")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--served-model-name", help="default: the directory")
    parser.add_argument("--max-lora-rank", type=int, default=16)
    args = parser.parse_args()
    if not (Path(args.model) / "config.json").is_file():
        parser.error(f"{args.model} is not a model directory: it has no config.json")
    # Torch's threads would spin while they wait for each other, which on a busy machine makes a
    # step ten times slower. Read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Transformers would import it where it is installed, for what is not used here: a sixth of the
    # start.
    sys.modules["sklearn"] = None  # type: ignore[assignment]
    logs.configure("warning")
    # Late: a wrong argument should not wait for torch.
    from transformers.utils import logging as transformers_logging

    from ttrl.engine.embedded.model import Model
    from ttrl.engine.embedded.server import serve

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    name = args.served_model_name or args.model
    try:
        model = Model(args.model, name=name, max_rank=args.max_lora_rank)
    except ValueError as error:
        parser.error(f"cannot serve {args.model}: {error}")
    serve(model, args.port, os.environ.get(KEY_VARIABLE))


if __name__ == "__main__":
    main()
