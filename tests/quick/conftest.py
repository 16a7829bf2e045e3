"""A store, in SQLite; tests/integration/test_postgres.py has another `fresh_url`."""

from __future__ import annotations

import hypothesis
import pytest

from ttrl.store import Store

# Nothing here is timed, for the machine may be busy, and every run tries the same examples: it is
# benchmarks.fuzz that looks for others.
hypothesis.settings.register_profile("same", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("same")


@pytest.fixture
def fresh_url():
    """Gives the URL of a new database; None is SQLite in the state directory."""
    return lambda: None


@pytest.fixture
def store(tmp_path, fresh_url):
    with Store.open(tmp_path, fresh_url()) as store:
        yield store
