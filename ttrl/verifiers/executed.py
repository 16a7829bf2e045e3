"""Checks that run what an answer holds, SQL and Python, in child processes: what a model wrote is
strangers' text."""

from __future__ import annotations

import ast
import json
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from ttrl import ReportedError
from ttrl.questions.question import Question
from ttrl.verifiers.builtin import Read

_FENCED = re.compile(r"^[ \t]*```(\w*)[^\n]*\n(.*?)^[ \t]*```", re.M | re.S)
_STATEMENT = re.compile(r"\s*(?:select|with|values)\b", re.I)


class SandboxMissing(ReportedError):
    """This host cannot run code apart from everything else."""


# SQL

QUERY = Path(__file__).parent / "query.py"


def sql(
    database: Path, seconds: float
) -> Callable[[Question, Sequence[str], Read], list[bool | str | None]]:
    """Return a check by which an answer is wrong whose query fails, takes longer than `seconds` or
    writes, and otherwise comes to the rows that it returns, in any order (as execution accuracy
    has them, Yu et al., Spider, arXiv 1809.08887)."""

    def check(_question: Question, answers: Sequence[str], _read: Read) -> list[bool | str | None]:
        queries = [_query_in(answer) for answer in answers]
        asked = sorted({query for query in queries if query})
        done = subprocess.run(
            [sys.executable, "-I", str(QUERY), str(database), str(seconds)],
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            check=True,
            timeout=10 + seconds * len(asked),
        )
        found: dict[str | None, bool | str | None] = dict(
            zip(asked, json.loads(done.stdout), strict=True)
        )
        return [found.get(query) for query in queries]

    return check


def _query_in(answer: str) -> str | None:
    """Return the last query of an answer, which is what it ends with."""
    fenced: list[str] = [body for _, body in _FENCED.findall(answer) if _STATEMENT.match(body)]
    if not fenced and _STATEMENT.match(answer):
        fenced = re.split(r";[ \t]*\n", answer, maxsplit=1)[:1]
    return fenced[-1] if fenced else None


# Python

MEMORY_BYTES, PROCESSES, FILE_BYTES = 512 << 20, 16, 16 << 20
_RUNNER = f"""
import json, os, resource, sys
out = os.dup(1)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
for limit, most in (
    (resource.RLIMIT_AS, {MEMORY_BYTES}),
    (resource.RLIMIT_NPROC, {PROCESSES}),
    (resource.RLIMIT_FSIZE, {FILE_BYTES}),
    (resource.RLIMIT_CORE, 0),
):
    resource.setrlimit(limit, (most, most))
code, tests, token = json.load(sys.stdin)
names = {{"__name__": "answer"}}
exec(compile(code, "answer", "exec"), names)
exec(compile(tests, "tests", "exec"), names)
os.write(out, token.encode())
"""


def code(seconds: float) -> Callable[[Question, Sequence[str], Read], list[bool | None]]:
    """Return a check by which an answer's Python is right if the assertions that the question lists
    hold of it, and wrong if not. It runs for `seconds` at most, without a network, with nothing of
    this host but Python. Raises SandboxMissing."""
    sandbox = list(_sandbox())
    if not _passes(sandbox, "", "", seconds=60):
        raise SandboxMissing(
            "the check code cannot run anything: bubblewrap (bwrap) may not make namespaces on "
            "this host; allow unprivileged user namespaces, or remove code from verify.checks"
        )

    def check(question: Question, answers: Sequence[str], _read: Read) -> list[bool | None]:
        tests = "\n".join(_assertions(question.text))
        if not tests:
            return [None] * len(answers)
        programs = {answer: _program_in(answer) for answer in dict.fromkeys(answers)}
        passed = {
            program: _passes(sandbox, program, tests, seconds)
            for program in dict.fromkeys(programs.values())
            if program is not None
        }
        return [passed.get(programs[answer]) for answer in answers]  # type: ignore[arg-type]

    return check


def _sandbox() -> Iterator[str]:
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise SandboxMissing("the check code needs bubblewrap: install it (Debian: bubblewrap)")
    yield from (bwrap, "--unshare-all", "--die-with-parent", "--new-session", "--clearenv")
    yield from ("--cap-drop", "ALL", "--proc", "/proc", "--dev", "/dev")
    yield from ("--size", str(FILE_BYTES), "--tmpfs", "/tmp", "--chdir", "/tmp")  # noqa: S108
    python = Path(sys.executable).resolve()
    for folder in ("/usr", "/lib", "/lib64", "/bin", sys.base_prefix):
        if Path(folder).is_symlink():
            yield from ("--symlink", str(Path(folder).readlink()), folder)
        elif Path(folder).is_dir():
            yield from ("--ro-bind", folder, folder)
    yield from (str(python), "-I", "-S", "-c", _RUNNER)


def _passes(sandbox: Sequence[str], program: str, tests: str, seconds: float) -> bool:
    """Whether the tests were reached and passed: a program that ends itself early never learns the
    token that is printed after them, unless it reads its input again."""
    token = secrets.token_hex()
    with suppress(subprocess.TimeoutExpired):
        done = subprocess.run(
            sandbox,
            input=json.dumps([program, tests, token]).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=False,
            timeout=seconds,
        )
        return done.returncode == 0 and done.stdout.decode(errors="replace") == token
    return False


def _assertions(text: str) -> list[str]:
    """Return the assertions in a question, each of one line."""
    lines = (line.strip(" \t`-*") for line in text.splitlines())
    return [line for line in lines if line.startswith("assert ") and _parses(line)]


def _program_in(answer: str) -> str | None:
    """Return what an answer defines: its blocks of Python that define something, or all of it."""
    blocks = [body for name, body in _FENCED.findall(answer) if name.lower() in PYTHON]
    defining = [body for body in blocks if re.search(r"^\s*(?:async def|def|class)\b", body, re.M)]
    if defining or blocks:
        return "\n".join(defining or blocks)
    return answer if _parses(answer) else None


PYTHON = ("", "py", "python", "python3")


def _parses(code: str) -> bool:
    with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        return bool(ast.parse(code).body)
    return False
