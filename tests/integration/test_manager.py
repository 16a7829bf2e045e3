"""The daemon under a service manager, which hears that it is ready, lives, hangs, ends."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.daemon import LIGHT, Daemon, wait_until
from tests.manager import listening

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

WATCHDOG_SECONDS = 2.0
WAITING = "STATUS=waiting for the engine; requests get 503 until it is ready"
SERVING = "STATUS=ttrl-demo is served by base"


@pytest.mark.fault(
    "the daemon hangs",
    sees="no answers until the service manager starts it again, after WatchdogSec and RestartSec",
    keeps="all that was committed",
)
def test_ready_before_the_engine_is_signs_of_life_until_it_hangs_and_the_end(tmp_path, monkeypatch):
    address = str(tmp_path / "manager")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setenv("WATCHDOG_USEC", str(int(WATCHDOG_SECONDS * 1e6)))
    loaded = tmp_path / "loaded"
    environ = LIGHT | {"TEST_LIGHT_UNTIL": str(loaded)}
    with (
        listening(address) as ear,
        Daemon(tmp_path / "state", environ=environ, start=False) as daemon,
        ThreadPoolExecutor(1) as pool,
    ):
        up = pool.submit(daemon.start)
        wait_until(lambda: WAITING.removeprefix("STATUS=") in ear.of("STATUS"), "it waits")
        loaded.touch()
        up.result()
        wait_until(lambda: SERVING.removeprefix("STATUS=") in ear.of("STATUS"), "it serves")
        heard = [f"{name}={value}" for said in ear.heard for name, value in said.items()]
        ready, waiting, serving = map(heard.index, ("READY=1", WAITING, SERVING))
        assert ready < waiting < serving
        assert heard.count("READY=1") == 1
        for pid, words in daemon.children():
            assert b"NOTIFY_SOCKET" not in Path(f"/proc/{pid}/environ").read_bytes(), words

        assert ear.more(WATCHDOG_SECONDS)
        assert daemon.child is not None
        daemon.child.send_signal(signal.SIGSTOP)
        wait_until(lambda: not ear.more(WATCHDOG_SECONDS), "silence")
        daemon.child.send_signal(signal.SIGCONT)
        assert ear.more(WATCHDOG_SECONDS)

        daemon.child.send_signal(signal.SIGTERM)
        assert daemon.child.wait(60) == 0
        wait_until(lambda: ear.of("STOPPING"), "it says that it ends")
        assert int(ear.of("EXTEND_TIMEOUT_USEC")[0]) > 30e6
