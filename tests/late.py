"""Modules that take seconds to be loaded, which every process would that collects the tests."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class Late:
    """Loads a module when something of it is asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("_"):  # pytest looks at everything
            raise AttributeError(attribute)
        return getattr(import_module(self._name), attribute)


torch = Late("torch")
transformers = Late("transformers")
