"""Checks in child processes with limits: they run what an answer holds, SQL and Python, or follow a
JSON schema, which a client may have written."""

from __future__ import annotations

import ast
import json
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from ttrl import ReportedError
from ttrl.questions.question import Question

Read = Sequence[str | None]
"""What the vote reads of each answer."""
REMEMBERED = 1024
"""Answers whose findings are kept: a vote in rounds looks at the earlier ones again."""
START_SECONDS = 10.0
"""In which a child process is there, on a busy machine."""
_FENCED = re.compile(r"^[ \t]*```(\w*)[^\n]*\n(.*?)^[ \t]*```", re.M | re.S)


class SandboxMissing(ReportedError):
    """This host cannot run code apart from everything else."""


class CheckUnusable(ReportedError):
    """What a check needs cannot be read."""


def _child(what: str, *arguments: str, given: object, seconds: float) -> Any:
    """Return what the program beside this file prints as JSON; None if it takes longer than
    `seconds` or dies of its limits. Raises RuntimeError if it says that it cannot work at all."""
    file = Path(__file__).with_name("child.py")
    with suppress(subprocess.TimeoutExpired, ValueError):
        done = subprocess.run(
            [sys.executable, "-I", str(file), what, *arguments, str(seconds)],
            input=json.dumps(given),
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds + START_SECONDS,
        )
        if done.returncode == 1:  # an exception, whose words may quote an answer
            raise RuntimeError(what)
        return json.loads(done.stdout)
    return None


# SQL

_STATEMENT = re.compile(r"(?:\s|--[^\n]*\n)*(?:select|with|values)\b", re.I)


def sql(
    database: Path, seconds: float
) -> Callable[[Question, Sequence[str], Read], list[bool | str | None]]:
    """Return a check by which an answer is wrong whose query fails, takes longer than `seconds` or
    writes, and otherwise comes to the rows that it returns, in any order (as execution accuracy
    has them, Yu et al., Spider, arXiv 1809.08887). Raises CheckUnusable."""

    @lru_cache(REMEMBERED)
    def finding(query: str) -> bool | str | None:
        found = _child("query", str(database), given=query, seconds=seconds)
        value: bool | str | None = found["finding"] if found else False
        return value

    def check(_question: Question, answers: Sequence[str], _read: Read) -> list[bool | str | None]:
        return [_of_answer(answer, finding) for answer in answers]

    try:
        finding("SELECT 1 FROM sqlite_master")
    except RuntimeError as error:
        raise CheckUnusable(f"verify.database {database} is no SQLite database to read") from error
    return check


def _of_answer(answer: str, finding: Callable[[str], bool | str | None]) -> bool | str | None:
    """Judge the last query of an answer, which is what it ends with. One that is not marked as a
    query may be prose ("With two apples ..."), and is no wrong one."""
    fenced = [body for _, body in _FENCED.findall(answer) if _STATEMENT.match(body)]
    if fenced:
        return finding(fenced[-1])
    if not _STATEMENT.match(answer):
        return None
    return finding(re.split(r";[ \t]*\n", answer, maxsplit=1)[0]) or None


# JSON


def json_schema(
    file: Path | None, seconds: float
) -> Callable[[Question, Sequence[str], Read], list[bool | None]]:
    """Return a check by which answers are wrong that are no JSON, or do not fit the schema in
    `file`, or if there is none, that of the request. What fits need not be right. Raises
    CheckUnusable."""
    try:
        fixed = json.loads(file.read_text()) if file else None
    except (OSError, ValueError) as error:
        raise CheckUnusable(f"verify.json_schema {file} cannot be read: {error}") from error

    def check(question: Question, answers: Sequence[str], _read: Read) -> list[bool | None]:
        match question.body.get("response_format"):
            case _ if fixed is not None:
                schema = fixed
            case {"type": "json_schema", "json_schema": {"schema": schema}} if schema is not None:
                pass
            case {"type": "json_object"}:
                schema = {"type": "object"}
            case _:
                return [None] * len(answers)
        bare = []
        for answer in answers:
            fenced = re.fullmatch(r"\s*```\w*\n(.*)\n```\s*", answer, re.S)
            bare.append(fenced[1] if fenced else answer)
        given = {"schema": schema, "answers": bare}
        fits = _child("schema", given=given, seconds=seconds)
        if fits is None:
            raise TimeoutError
        return [None if fit else False for fit in fits]

    return check


# Python

MEMORY_BYTES, PROCESSES, FILE_BYTES = 512 << 20, 16, 16 << 20
PASSED, UNKNOWN = 0, 3
_RUNNER = f"""
import json, os, resource, sys, types
for limit, most in (
    (resource.RLIMIT_AS, {MEMORY_BYTES}),
    (resource.RLIMIT_NPROC, {PROCESSES}),
    (resource.RLIMIT_FSIZE, {FILE_BYTES}),
    (resource.RLIMIT_CORE, 0),
):
    resource.setrlimit(limit, (most, most))
out = os.dup(1)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
code, tests, token = json.load(sys.stdin)
answer = sys.modules["answer"] = types.ModuleType("answer")
try:
    exec(compile(code, "answer", "exec"), answer.__dict__)
except ImportError:
    os._exit({UNKNOWN})
try:
    exec(compile(tests, "tests", "exec"), answer.__dict__)
except NameError:
    os._exit({UNKNOWN})
os.write(out, token.encode())
"""


def code(seconds: float) -> Callable[[Question, Sequence[str], Read], list[bool | None]]:
    """Return a check by which an answer's Python is right if the assertions that the question lists
    hold of it, and wrong if not. It runs for `seconds` at most, without a network, and can read
    nothing of this host but programs. Raises SandboxMissing."""
    sandbox = list(_sandbox())
    if not _passes(sandbox, "", "", seconds=60):
        raise SandboxMissing(
            "the check code cannot run anything: bubblewrap (bwrap) may not make namespaces on "
            "this host; allow unprivileged user namespaces, or remove code from verify.checks"
        )

    @lru_cache(REMEMBERED)
    def finding(program: str, tests: str) -> bool | None:
        return _passes(sandbox, program, tests, seconds)

    def check(question: Question, answers: Sequence[str], _read: Read) -> list[bool | None]:
        tests = "\n".join(_assertions(question.text))
        programs = [_program_in(answer) if tests else None for answer in answers]
        return [None if program is None else finding(program, tests) for program in programs]

    return check


def _sandbox() -> Iterator[str]:
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise SandboxMissing("the check code needs bubblewrap: install it (Debian: bubblewrap)")
    yield from (bwrap, "--unshare-all", "--unshare-user", "--disable-userns", "--cap-drop", "ALL")
    yield from ("--die-with-parent", "--new-session", "--clearenv", "--dev", "/dev")
    yield from ("--size", str(FILE_BYTES), "--tmpfs", "/tmp", "--chdir", "/tmp")  # noqa: S108
    for folder in dict.fromkeys(("/usr", "/lib", "/lib64", "/bin", sys.base_prefix)):
        if Path(folder).is_symlink():
            yield from ("--symlink", str(Path(folder).readlink()), folder)
        elif Path(folder).is_dir():
            yield from ("--ro-bind", folder, folder)
    yield from ("--remount-ro", "/dev", "--remount-ro", "/")
    yield from (str(Path(sys.executable).resolve()), "-I", "-S", "-c", _RUNNER)


def _passes(sandbox: Sequence[str], program: str, tests: str, seconds: float) -> bool | None:
    """Whether the tests were reached and passed, which a program that ends early cannot feign; None
    where it needs what is not here, or does not define what the tests ask for."""
    token = secrets.token_hex()
    with tempfile.TemporaryFile() as out:  # whose size is limited, as a pipe's is not
        try:
            done = subprocess.run(
                sandbox,
                input=json.dumps([program, tests, token]).encode(),
                stdout=out,
                stderr=subprocess.DEVNULL,
                check=False,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            return False
        if done.returncode == UNKNOWN:
            return None
        out.seek(0)
        return done.returncode == PASSED and out.read(len(token) + 1) == token.encode()


def _assertions(text: str) -> list[str]:
    """Return the assertions in a question, each of one line."""
    lines = (line.strip(" \t`-*") for line in text.splitlines())
    return [line for line in lines if line.startswith("assert ") and _parses(line)]


def _program_in(answer: str) -> str | None:
    """Return what an answer defines: its blocks of Python that define something, or all of it."""
    blocks = [
        textwrap.dedent(body) for name, body in _FENCED.findall(answer) if name.lower() in PYTHON
    ]
    defining = [body for body in blocks if re.search(r"^\s*(?:async def|def|class)\b", body, re.M)]
    if defining or blocks:
        return "\n".join(defining or blocks)
    return answer if _parses(answer) else None


PYTHON = ("", "py", "python", "python3")


def _parses(code: str) -> bool:
    with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        return bool(ast.parse(code).body)
    return False
