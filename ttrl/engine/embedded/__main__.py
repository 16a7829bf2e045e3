"""`python -m ttrl.engine.embedded --model DIR --port P`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from ttrl import logs

KEY_VARIABLE = "VLLM_API_KEY"


def main() -> int:
    args = _arguments()
    if not (Path(args.model) / "config.json").is_file():
        print(f"{args.model} is no model directory: it has no config.json", file=sys.stderr)  # noqa: T201
        return 2
    # Torch's threads would spin while they wait for each other, which on a busy machine makes a
    # step ten times slower. Read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logs.configure("warning")
    # Late: a wrong argument should not wait for torch.
    from ttrl.engine.embedded.serving import serve

    return serve(
        args.model,
        host=args.host,
        port=args.port,
        name=args.served_model_name or args.model,
        max_rank=args.max_lora_rank,
        max_model_len=args.max_model_len,
        threads=args.threads,
        api_key=os.environ.get(KEY_VARIABLE),
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m ttrl.engine.embedded",
        description="A small engine for trying and testing; for production there is vLLM. "
        f"An API key is taken from {KEY_VARIABLE}.",
    )
    parser.add_argument("--model", required=True, help="model directory")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--served-model-name", help="default: the directory as given")
    parser.add_argument("--max-lora-rank", type=int, default=16)
    parser.add_argument("--max-model-len", type=int, help="default: all that the model has")
    parser.add_argument("--threads", type=int, help="default: torch's choice")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
