"""The daemons that are killed."""

from tests.integration.conftest import engine_settings, learned, random_adapters

__all__ = ["engine_settings", "learned", "random_adapters"]
