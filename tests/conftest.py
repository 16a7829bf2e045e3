"""A store: in SQLite, or where a test says `both_stores` in PostgreSQL as well."""

from __future__ import annotations

import shutil
import ssl

import pytest

from tests import services
from ttrl.store import Store


def pytest_configure():
    if services.REQUIRED and (missing := services.missing()):
        names = ", ".join(missing)
        raise pytest.UsageError(f"TEST_REQUIRE_SERVICES=1, and these are not installed: {names}")


@pytest.fixture(scope="session", autouse=True)
def without_certificates():
    """No test speaks TLS, and loading certificates takes each client longer than all it does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl.SSLContext, "load_verify_locations", lambda *_, **__: None)
        yield


@pytest.fixture(scope="session")
def postgres():
    from tests.postgres import server  # late: few tests need its client

    with server() as started:
        yield started


def in_sqlite() -> None:
    """The URL of a store in its state directory."""


@pytest.fixture
def fresh_url(request):
    """Gives the URL of a new database; None is SQLite in the state directory."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return in_sqlite
    return request.getfixturevalue("postgres").url


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """The file of a store that is new: making one takes ten times as long as copying it."""
    folder = tmp_path_factory.mktemp("empty")
    Store.open(folder).close()
    return folder / "store.sqlite"


@pytest.fixture
def store(tmp_path, fresh_url, empty_store, request):
    url = None
    if fresh_url is in_sqlite:
        shutil.copy(empty_store, tmp_path)
    else:
        url = request.getfixturevalue("postgres").store_url(tmp_path)
    with Store.open(tmp_path, url) as store:
        yield store
