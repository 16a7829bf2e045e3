"""The daemon and the command line never load what only training needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "trl", "peft", "vllm", "datasets", "accelerate", "pandas")

CHECK = """
import sys
{imports}
print([name for name in {heavy} if name in sys.modules])
"""


def loaded_by(imports):
    program = CHECK.format(imports=imports, heavy=HEAVY)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    "imports",
    [
        "import serve.main, serve.cli.demo",
        "import ttrl.sampling.groups, ttrl.sampling.selection, ttrl.evaluation.gate",
        "import ttrl.adapters.versions, ttrl.engine.process",
        "from ttrl.engine import memory\nmemory.first_card()",
        "import jobs.run, jobs.measure",
        "from serve.cli import COMMANDS, main\n[main.get_command(None, name) for name in COMMANDS]",
        "from ttrl import answers\nanswers.canonical(['\\\\boxed{x^2}', '\\\\boxed{x*x}'], 'math')",
    ],
)
def test_nothing_heavy_is_imported(imports):
    assert loaded_by(imports) == "[]"


def test_this_test_can_fail():
    assert loaded_by("import transformers") != "[]"


def test_help_loads_next_to_nothing():
    program = (
        "import sys\nsys.argv = ['ttrl', '--help']\nfrom serve.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print([n for n in ('sqlalchemy', 'pydantic', 'starlette', 'rich') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert "adapters" in done.stdout
