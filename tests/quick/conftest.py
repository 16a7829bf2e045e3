"""A store, in SQLite; tests/integration/test_postgres.py has another `fresh_url`."""

from __future__ import annotations

import hypothesis
import pytest

from ttrl.store import Store

# Nothing here is timed: the machine may be busy.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture
def fresh_url():
    """Gives the URL of a new database; None is SQLite in the state directory."""
    return lambda: None


@pytest.fixture
def store(tmp_path, fresh_url):
    with Store.open(tmp_path, fresh_url()) as store:
        yield store
