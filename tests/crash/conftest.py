"""The daemons that are killed."""

from __future__ import annotations

from tests.integration.conftest import engine_settings, light, random_adapters

__all__ = ["engine_settings", "light", "random_adapters"]
