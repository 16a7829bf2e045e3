"""Asks a daemon for /healthz every second, from a process of its own, which has nothing else to do:
`python -m benchmarks.soak.healthz HOST:PORT`. Prints when it asked (monotonic seconds) and how long
the answer took, of each that came."""

from __future__ import annotations

import sys
import time
from contextlib import closing, suppress
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException

EVERY_SECONDS = 1.0


def main(address: str) -> None:
    while True:
        with (
            suppress(OSError, HTTPException),
            closing(HTTPConnection(address, timeout=30)) as client,
        ):
            began = time.monotonic()
            client.request("GET", "/healthz")
            if client.getresponse().status == HTTPStatus.OK:
                print(began, time.monotonic() - began, flush=True)
        time.sleep(EVERY_SECONDS)


if __name__ == "__main__":
    main(sys.argv[1])
