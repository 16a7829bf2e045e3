"""What the service manager is told, over a real socket."""

from __future__ import annotations

import asyncio
import os

import pytest

from serve.daemon.process import STATUS_SECONDS, Loop, Manager
from tests.house import until
from tests.manager import listening

OURS, OTHERS = str(os.getpid()), str(os.getppid())


@pytest.fixture(params=["/{0}/socket", "@{0}"], ids=["path", "abstract"])
def address(request, tmp_path):
    return request.param.format(str(tmp_path).lstrip("/"))


def test_ready_signs_of_life_status_and_the_end(address):
    with listening(address.replace("@", "\0")) as ear:
        manager = Manager(address, watchdog=0.02)

        async def live():
            alive = asyncio.create_task(Loop(manager.sign_of_life, manager.pause).run("manager"))
            await asyncio.to_thread(until, lambda: len(ear.heard) > 3, "more time to start")
            manager.ready()
            await asyncio.to_thread(until, lambda: len(ear.of("WATCHDOG")) > 3, "signs of life")
            manager.look = lambda: "all\nis well"
            await asyncio.to_thread(until, lambda: len(ear.of("STATUS")) > 1, "a new status")
            manager.stopping(12.5)
            await asyncio.to_thread(until, lambda: len(ear.of("STATUS")) > 2, "the last status")
            alive.cancel()

        asyncio.run(live())
        told = ear.heard.index({"READY": "1"})
        assert {each["EXTEND_TIMEOUT_USEC"] for each in ear.heard[:told]} == {"60000000"}
        assert [each for each in ear.heard[told:] if "EXTEND_TIMEOUT_USEC" in each] == [
            {"STOPPING": "1", "EXTEND_TIMEOUT_USEC": "12500000"}
        ]
        assert ear.of("STATUS") == [
            "starting",
            "all is well",
            "stopping; waiting for requests in progress",
        ]


@pytest.mark.parametrize(
    ("environ", "pause"),
    [
        ({}, STATUS_SECONDS),
        ({"WATCHDOG_USEC": "3000000"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": OURS}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": OTHERS}, STATUS_SECONDS),
        ({"WATCHDOG_USEC": "60000000"}, STATUS_SECONDS),
        ({"WATCHDOG_USEC": "soon"}, STATUS_SECONDS),
        ({"WATCHDOG_USEC": "0"}, STATUS_SECONDS),
    ],
)
def test_the_environment_is_read_and_children_do_not_inherit_it(environ, pause):
    environ |= {"NOTIFY_SOCKET": "/nowhere", "PATH": "/bin"}
    assert Manager.take(environ).pause == pause
    assert environ == {"PATH": "/bin"}


def test_without_a_manager_nobody_is_told(caplog):
    Manager.take({}).ready()
    assert not caplog.records


@pytest.mark.fault(
    "the service manager does not listen",
    sees="nothing; a warning in the log",
    keeps="everything",
)
@pytest.mark.parametrize("bad", ["/nowhere/socket", "@nobody-is-there", "x" * 500, "vsock:2:1"])
def test_a_manager_that_is_gone_ends_nothing(bad, caplog):
    Manager(bad).ready()
    assert "cannot notify the service manager of READY" in caplog.text
