"""Functions of an operator's: `module:function`, or offered by a package under an entry point."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import reduce
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any, cast

from ttrl import ReportedError


class PluginUnknown(ReportedError):
    """A function of an operator's cannot be imported, or is no function."""


def check_installed(what: str, names: Iterable[str]) -> None:
    """Find the modules of functions without running them. Raises PluginUnknown."""
    for name in names:
        module, custom, _ = name.partition(":")
        with suppress(ImportError, ValueError):
            if not custom or custom.startswith("//") or find_spec(module):
                continue
        raise PluginUnknown(f"the {what} {name} cannot be imported: there is no module {module}")


def find(what: str, name: str, group: str) -> Callable[..., Any]:
    """Return the function of that name, which runs its module. Raises PluginUnknown."""
    offered = {point.name: point for point in entry_points(group=group)}
    try:
        module, _, function = name.partition(":")
        found = (
            offered[name].load()
            if name in offered
            else reduce(getattr, function.split("."), import_module(module))
        )
    except (Exception, SystemExit) as error:  # importing runs a module, which may raise anything
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise PluginUnknown(f"cannot import the {what} {name}: {why}") from error
    if not callable(found):
        raise PluginUnknown(f"the {what} {name} is not a function")
    return cast(Callable[..., Any], found)
