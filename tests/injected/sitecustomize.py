"""Injects what tests/faults.py describes into a process that has this directory on PYTHONPATH.

Python imports it at the start of a process. It wraps the named functions as soon as their modules
have been imported, before anybody else can take them from there.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import resource
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

FAULT = "TEST_TTRL_FAULT"
FUNCTIONS = "TEST_TTRL_FAULT_FUNCTIONS"
MIGRATIONS = "TEST_TTRL_MIGRATIONS"


class Injector:
    """Finds the modules like all other finders do, and changes them once they are there."""

    def __init__(self) -> None:
        self.source = os.environ.get(FAULT, "")
        self.functions = set(json.loads(os.environ.get(FUNCTIONS, "[]")))
        if not self.source.startswith("/"):
            fault = self.fault()
            self.functions |= {fault[key] for key in ("target", "inside") if fault.get(key)}
        self.migrations = os.environ.get(MIGRATIONS)
        self.inside: ContextVar[tuple[str, ...]] = ContextVar("inside", default=())
        self.calls: Counter[str] = Counter()
        self.modules = {function.partition(":")[0] for function in self.functions}
        if self.migrations:
            self.modules.add("ttrl.store.migrations")

    def fault(self) -> dict[str, Any]:
        """The one that is to happen in this process, if one is: FAULT has it, or names a file that
        has it at the time."""
        source = Path(self.source).read_text() if self.source.startswith("/") else self.source
        fault: dict[str, Any] = json.loads(source or "{}")
        return fault if fault.get("program", "") in " ".join(sys.orig_argv) else {}

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name not in self.modules:
            return None
        finders = (finder for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, (each.find_spec(name, path, target) for each in finders)), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                self.change(module)

            spec.loader.exec_module = exec_module
        return spec

    def change(self, module: ModuleType) -> None:
        if self.migrations and module.__name__ == "ttrl.store.migrations":
            module.DIRECTORY = Path(self.migrations)
        for function in self.functions:
            home, _, qualified = function.partition(":")
            if home == module.__name__:
                *outer, name = qualified.split(".")
                owner = functools.reduce(getattr, outer, module)
                setattr(owner, name, self.wrap(function, inspect.getattr_static(owner, name)))

    def wrap(self, name: str, function: Any) -> Any:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self.around(name):
                return function(*args, **kwargs)

        @functools.wraps(function)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            with self.around(name):
                return await function(*args, **kwargs)

        return awaited if inspect.iscoroutinefunction(function) else wrapped

    @contextmanager
    def around(self, name: str) -> Iterator[None]:
        """Around a call of the function: after it nothing strikes where it raises."""
        self.reach("before", name)
        token = self.inside.set((*self.inside.get(), name))
        try:
            yield
        finally:
            self.inside.reset(token)
        self.reach("after", name)

    def reach(self, when: str, name: str) -> None:
        fault = self.fault()
        if (fault.get("when"), fault.get("target")) != (when, name):
            return
        if fault["inside"] and fault["inside"] not in self.inside.get():
            return
        known = json.dumps(fault)
        self.calls[known] += 1
        if self.calls[known] != fault["nth"]:
            return
        if fault["kind"] == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        # Python ignores SIGXFSZ, so that writes fail as on a full disk.
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))


injector = Injector()
for loaded in injector.modules & sys.modules.keys():
    injector.change(sys.modules[loaded])
sys.meta_path.insert(0, injector)  # type: ignore[arg-type]
