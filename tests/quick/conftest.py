"""Property tests try the same examples in every run, and commits do not wait for the disk."""

from __future__ import annotations

import hypothesis
import pytest

from tests.migrations import newer_migrations
from ttrl.store import migrations
from ttrl.store.backends import Sqlite

# Nothing here is timed, for the machine may be busy; it is benchmarks.fuzz that looks for other
# examples.
hypothesis.settings.register_profile(
    "same", deadline=None, derandomize=True, database=None, max_examples=50
)
hypothesis.settings.load_profile("same")


@pytest.fixture(scope="session", autouse=True)
def without_fsync():
    """Processes are killed here, never the machine."""
    connected = Sqlite._connected

    def relaxed(self, connection, record):
        connected(self, connection, record)
        connection.execute("PRAGMA synchronous = OFF")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sqlite, "_connected", relaxed)
        yield


@pytest.fixture(scope="session", autouse=True)
def no_daemons_of_others(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("serve.state.DAEMONS", tmp_path_factory.mktemp("daemons"))
        yield


@pytest.fixture
def impatient(monkeypatch):
    """Who finds a state directory taken does not wait for a second: it stays taken."""
    monkeypatch.setattr("serve.state.LOOK_SECONDS", 0.05)


@pytest.fixture(scope="session")
def openai():
    """The client's package, which takes its time to be loaded."""
    import openai

    return openai


@pytest.fixture
def upgraded(tmp_path_factory, monkeypatch):
    """A ttrl with one more revision, once it is called."""
    folder = newer_migrations(tmp_path_factory.mktemp("newer") / "migrations")
    return lambda: monkeypatch.setattr(migrations, "DIRECTORY", folder)
