"""Jobs as child processes: they have the configuration on standard input, a log of their own, and
die when we do."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ttrl.config import Config
from ttrl.engine import tether


async def spawn(
    job: str, arguments: Sequence[str], config: Config, log_file: Path
) -> asyncio.subprocess.Process:
    """Start `python -m JOB ARGUMENTS`. Raises OSError."""
    log_file.parent.mkdir(exist_ok=True, mode=0o700)
    with log_file.open("ab") as output:
        child = await asyncio.create_subprocess_exec(
            *tether.command(),
            sys.executable,
            "-m",
            job,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=output,
            stderr=output,
            # Threads that spin while they wait take the cores from the engine beside us.
            env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ},
            start_new_session=True,
        )
    assert child.stdin is not None
    child.stdin.write(config.model_dump_json().encode())
    child.stdin.close()
    return child
