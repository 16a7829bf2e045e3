"""Notes in which files a process that has this directory on PYTHONPATH hands on what it is told to
look for: `benchmarks/path.py` says what, and where the notes go.

Python imports it at the start of a process. Whatever is an argument of a function of ours, or is
held by one of the arguments, counts as handed on to that function's file.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sys
import threading
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Any

DEEPEST, WIDEST = 6, 64
"""How far into an argument it is looked for."""

told = json.loads(os.environ["PATH_WALKED"])
rooms, notes = tuple(told["rooms"]), Path(told["notes"]) / str(os.getpid())
text = re.compile(told["text"])
binary = re.compile(told["text"].encode())
seen: set[str] = set()


def holds(value: Any, depth: int = 0) -> bool:
    """Whether it is in there."""
    if isinstance(value, str):
        return bool(text.search(value))
    if isinstance(value, bytes):
        return bool(binary.search(value))
    if depth == DEEPEST:
        return False
    if isinstance(value, dict | MappingProxyType):
        return any(holds(each, depth + 1) for each in [*value.keys(), *value.values()][:WIDEST])
    if isinstance(value, list | tuple | set | frozenset):
        parts = list(value)
        if parts and all(isinstance(each, int) for each in parts[:3]):
            return bool(text.search(" ".join(map(str, parts))))
        return any(holds(each, depth + 1) for each in parts[:WIDEST])
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return any(holds(getattr(value, each.name, None), depth + 1) for each in fields)
    if hasattr(type(value), "model_fields"):
        return any(holds(each, depth + 1) for each in vars(value).values())
    return False


def look(frame: FrameType, event: str, _argument: object) -> None:
    """At each call of a function."""
    file = frame.f_code.co_filename
    if event != "call" or not file.startswith(rooms) or file in seen:
        return
    if any(map(holds, list(frame.f_locals.values()))):
        seen.add(file)
        with notes.open("a") as out:
            out.write(f"{file}\n")


threading.setprofile(look)
sys.setprofile(look)
