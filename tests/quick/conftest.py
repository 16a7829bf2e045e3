"""Property tests try the same examples in every run."""

from __future__ import annotations

import hypothesis
import pytest

from tests.migrations import newer_migrations
from ttrl.store import migrations

# Nothing here is timed, for the machine may be busy; it is benchmarks.fuzz that looks for other
# examples.
hypothesis.settings.register_profile("same", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("same")


@pytest.fixture
def upgraded(tmp_path_factory, monkeypatch):
    """A ttrl with one more revision, once it is called."""
    folder = newer_migrations(tmp_path_factory.mktemp("newer") / "migrations")
    return lambda: monkeypatch.setattr(migrations, "DIRECTORY", folder)
