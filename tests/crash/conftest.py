"""The daemons that are killed."""

from tests.integration.conftest import learned, random_adapters

__all__ = ["learned", "random_adapters"]
