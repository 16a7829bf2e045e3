"""In how many files a question is handed on, from the request to the adapter that it taught:
`python -m benchmarks.path`.

The demo's questions go through a real daemon on the embedded engine; a short run trains on them,
and its version serves. Each process notes the files of ttrl, jobs and serve in which a function is
handed a question's text, its tokens, or the version's name, by itself or inside another argument.
The files are on standard error; the last line is JSON.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from pathlib import Path

import click
from transformers import AutoTokenizer

import benchmarks
from serve.cli.demo import ask, daemon, ttrl
from ttrl.demo import make_problems, model_dir
from ttrl.store import Store

TREE = Path(benchmarks.__file__).parents[1]
ROOMS = ("ttrl", "jobs", "serve")
VERSION = "ttrl-[0-9a-f]{6}-[0-9]+-[0-9a-f]{8}"
SETTINGS = ("update.steps=2", "gate.min_probes=4", "shadow.share=0")


@click.command()
@click.option("--questions", default=40, show_default=True, help="Asked, and trained on.")
def main(questions: int) -> None:
    """Count the files on a question's path."""
    problems = make_problems(questions, seed=1)
    tokenizer = AutoTokenizer.from_pretrained(model_dir())
    texts = [problem.prompt for problem in problems]
    tokens = [
        " ".join(map(str, tokenizer(text, add_special_tokens=False).input_ids)) for text in texts
    ]
    looked_for = "|".join([VERSION, *map(re.escape, [*texts, *tokens])])
    with tempfile.TemporaryDirectory() as folder:
        notes, state = Path(folder) / "notes", Path(folder) / "state"
        notes.mkdir()
        state.mkdir()
        walked = {"rooms": [f"{TREE / room}/" for room in ROOMS], "notes": str(notes)}
        os.environ["PATH_WALKED"] = json.dumps({**walked, "text": looked_for})
        os.environ["PYTHONPATH"] = f"{Path(__file__).parent / 'walked'}:{TREE}"
        with daemon(state, SETTINGS) as served:
            del os.environ["PATH_WALKED"], os.environ["PYTHONPATH"]  # commands are no part of it
            ask(served, problems, learn=True)
            subprocess.run(
                [*ttrl(), "adapt", "--json", *served.options],
                check=False,
                stdout=subprocess.DEVNULL,
            )
            # Of so few steps the gate finds nothing proven.
            with Store.open(state) as store:
                (run,) = store.runs.newest()
            promote = [*ttrl(), "adapters", "promote", run.adapter or "", *served.options]
            subprocess.run(promote, check=True)
            _, version = ask(served, problems[:1])
        files = sorted({line for note in notes.iterdir() for line in note.read_text().splitlines()})
    click.echo("\n".join(str(Path(file).relative_to(TREE)) for file in files), err=True)
    print(json.dumps({"files": len(files), "run": run.state, "version": version}))


if __name__ == "__main__":
    main()
