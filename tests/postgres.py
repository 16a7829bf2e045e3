"""A PostgreSQL server of our own, for tests: in a new directory, on a socket in there."""

from __future__ import annotations

import itertools
import os
import pwd
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.services import find
from ttrl.store import Store

SETTINGS = "-c listen_addresses= -c fsync=off -c unix_socket_directories="


class Server:
    """A running server; `url` is that of a new database each time."""

    def __init__(self, programs: Path, directory: Path) -> None:
        self._programs, self._directory = programs, directory
        self._numbers = itertools.count()
        self._has_store = False

    def url(self, encoding: str = "UTF8") -> str:
        name = f"test{next(self._numbers)}"
        return self._create(name, f"ENCODING '{encoding}' TEMPLATE template0")

    def store_url(self, directory: Path) -> str:
        """That of a new store: a copy of one, since making one takes longer."""
        if not self._has_store:
            made = self._create("store", "ENCODING 'UTF8' TEMPLATE template0")
            Store.open(directory, made).close()
            self._has_store = True
        return self._create(f"test{next(self._numbers)}", "TEMPLATE store")

    def _create(self, name: str, how: str) -> str:
        with psycopg.connect(self._at("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} {how}")
        return self._at(name).replace("postgresql:", "postgresql+psycopg:")

    def make(self) -> None:
        self._run("initdb", "--auth=trust", "--username=ttrl", "--locale=C", "--no-sync")

    def start(self) -> None:
        options = f"{SETTINGS}{self._directory}"
        self._run("pg_ctl", "-w", "-l", str(self._directory / "log"), "-o", options, "start")

    def stop(self) -> None:
        """As after a crash: connections just break."""
        self._run("pg_ctl", "-w", "-m", "immediate", "stop")

    def _at(self, name: str) -> str:
        return f"postgresql://ttrl:hush@/{name}?host={self._directory}"

    def _run(self, program: str, *words: str) -> None:
        """As another user when we are root, whom PostgreSQL refuses."""
        user = "postgres" if os.geteuid() == 0 else None
        with (self._directory / "said").open("w+") as said:
            done = subprocess.run(
                [self._programs / program, "-D", self._directory / "data", *words],
                user=user,
                group=user,
                extra_groups=[] if user else None,
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=said,  # no pipe, which the server would inherit and keep open
                stderr=said,
            )
            said.seek(0)
            assert done.returncode == 0, said.read()


@contextmanager
def server() -> Iterator[Server]:
    """Not in pytest's directories, which only their owner may enter, nor so short as a socket's
    path must be."""
    found = find("initdb")
    assert found is not None
    with tempfile.TemporaryDirectory(prefix="ttrl-postgres-") as directory:
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(directory, owner.pw_uid, owner.pw_gid)
        made = Server(found.parent, Path(directory))
        made.make()
        made.start()
        try:
            yield made
        finally:
            made.stop()
