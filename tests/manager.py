"""A service manager's ear: the socket that NOTIFY_SOCKET names."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Ear:
    """What it hears, datagram by datagram; it listens until it is closed."""

    def __init__(self, address: str) -> None:
        self.heard: list[dict[str, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._more = threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()

    def of(self, name: str) -> list[str]:
        """What was said under this name."""
        return [fields[name] for fields in list(self.heard) if name in fields]

    def more(self, seconds: float) -> bool:
        """Whether anything is heard within so long."""
        count = len(self.heard)
        with self._more:
            return self._more.wait_for(lambda: len(self.heard) > count, seconds)

    def close(self) -> None:
        self._socket.sendto(b"", self._socket.getsockname())

    def _listen(self) -> None:
        with self._socket:
            while message := self._socket.recv(65536):
                lines = message.decode().split("\n")
                with self._more:
                    self.heard.append(dict(line.split("=", 1) for line in lines))
                    self._more.notify_all()


@contextmanager
def listening(address: str) -> Iterator[Ear]:
    ear = Ear(address)
    try:
        yield ear
    finally:
        ear.close()
