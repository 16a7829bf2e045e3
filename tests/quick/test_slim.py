"""The daemon and the command line never load what only training needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.versions import publish

HEAVY = ("torch", "transformers", "trl", "peft", "vllm", "datasets", "accelerate", "pandas")

STATEMENTS = (
    "import serve.main, serve.cli.demo",
    "import ttrl.sampling.groups, ttrl.sampling.selection, ttrl.evaluation.gate",
    "import ttrl.versions, ttrl.engine.process",
    "from ttrl.engine import memory; memory.first_card()",
    "import jobs.run, jobs.measure",
    "from serve.cli import COMMANDS, main; [main.get_command(None, name) for name in COMMANDS]",
    r"from ttrl.answers import Reader; Reader().read('$x$?', [r'\boxed{x^2}', r'\boxed{x*x}'])",
    "from click.testing import CliRunner; CliRunner().invoke(main, ['doctor', *sys.argv[1:]])",
)
HEAVY_STATEMENT = "sys.modules['pandas'] = sys"
CHECK = f"""
import sys
for statement in {(*STATEMENTS, HEAVY_STATEMENT)}:
    exec(statement)
    print([name for name in {HEAVY} if name in sys.modules])
"""


@pytest.mark.integration
def test_nothing_heavy_is_imported(tmp_path):
    """The doctor asks packages for their versions; the last statement shows what is seen."""
    publish(tmp_path, 2)
    command = [sys.executable, "-c", CHECK, "--state-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    *loaded, last = done.stdout.splitlines()
    assert dict(zip(STATEMENTS, loaded, strict=True)) == dict.fromkeys(STATEMENTS, "[]")
    assert last == "['pandas']"


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
