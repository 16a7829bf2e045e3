"""Logs without anybody's words, and files that only their owner reads."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys

import pytest

from serve.state import owning

FAULTS = {
    "logged": "try:\n    int('SECRET')\nexcept ValueError as e:\n    try:\n"
    "        raise KeyError('SECRET') from e\n    except KeyError:\n"
    "        logging.exception('work failed')",
    "uncaught": "raise RuntimeError('SEC' + 'RET')",
    "a group": "raise ExceptionGroup('SEC' + 'RET', [ValueError('SEC' + 'RET')])",
    "in a thread": "import threading\nt = threading.Thread(target=int, args=('SEC' + 'RET',))\n"
    "t.start()\nt.join()",
    "while deleted": "class Mean:\n    def __del__(self):\n        int('SEC' + 'RET')\nMean()",
    "in a task": "import asyncio, gc\nasync def fail():\n    int('SEC' + 'RET')\n"
    "async def main():\n    task = asyncio.create_task(fail())\n    await asyncio.sleep(0.01)\n"
    "    del task\n    gc.collect()\nasyncio.run(main())",
}


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("fault", FAULTS)
def test_the_log_has_where_and_what_kind_and_no_words(fault, form, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(f"import logging\nlogs.configure('debug', {form!r})\n{FAULTS[fault]}\n")
    run = f"from ttrl import logs; exec(compile(open({str(program)!r}).read(), 'program', 'exec'))"
    said = subprocess.run(
        [sys.executable, "-c", run], capture_output=True, text=True, check=False
    ).stderr
    assert "SECRET" not in said
    assert "Traceback" in said
    assert "program" in said or "threading.py" in said
    assert "Error" in said or "ExceptionGroup" in said


def test_a_line_of_json_is_for_programs():
    """uvicorn gives its words a second time, in colours."""
    program = (
        "import logging; from ttrl import logs; logs.configure('info', 'json', run=7)\n"
        "logging.getLogger('uvicorn').info('up at %d', 1, extra={'color_message': 'up', 'n': 2})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    said = json.loads(done.stderr)
    assert said.pop("timestamp")
    assert said == {"level": "INFO", "logger": "uvicorn", "message": "up at 1", "run": 7, "n": 2}


def test_what_others_may_read_is_locked_up_by_its_owner(tmp_path):
    """An older version, or an operator, made it; a directory for everybody is left to everybody."""
    state_dir = tmp_path / "state"
    (state_dir / "adapters" / "one").mkdir(parents=True)
    files = [state_dir / "store.sqlite", state_dir / "adapters" / "one" / "weights"]
    strange = state_dir / "mine"
    for file in (*files, strange):
        file.write_text("")
        file.chmod(0o644)
    with owning(state_dir):
        assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600, 0o600]
        assert stat.S_IMODE(state_dir.stat().st_mode) == 0o700
        assert stat.S_IMODE((state_dir / "adapters").stat().st_mode) == 0o700
        assert stat.S_IMODE(strange.stat().st_mode) == 0o644, "it is not ours"
    state_dir.chmod(0o1777)
    with owning(state_dir):
        assert stat.S_IMODE(state_dir.stat().st_mode) == 0o1777


@pytest.mark.integration
def test_a_command_writes_for_its_owner(tmp_path):
    words = "import os; os.umask(0); from serve.cli import main; main()"
    probe = tmp_path / "probes.jsonl"
    probe.write_text('{"prompt": "2 + 2", "answers": ["4"]}')
    add = ["probes", "add", str(probe), "--state-dir", str(tmp_path / "state")]
    subprocess.run([sys.executable, "-c", words, *add], check=True, env={**os.environ})
    modes = {
        path.name: oct(path.stat().st_mode)
        for path in (tmp_path / "state", *(tmp_path / "state").rglob("*"))
    }
    assert {name: mode for name, mode in modes.items() if int(mode, 8) & 0o077} == {}
