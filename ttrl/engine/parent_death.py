"""Run a command that dies with its parent: `python parent_death.py PARENT_PID COMMAND...`, in a
session of its own.

A watchdog stays beside the command. When the parent dies, it sends the command SIGTERM, and kills
the whole group when the grace period is over; when the command ends, it kills what that left.

Started by its file's name, not as a module: it must cost milliseconds and import nothing of ours.
"""

import os
import signal
import sys
import time

GRACE_SECONDS = 5.0
POLL_SECONDS = 0.1


def command() -> list[str]:
    """Return the words to put before a command so that it dies with this process."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid())]


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        beside = os.getpid()
        if os.fork() == 0:
            watchdog(beside, parent)
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell is what is wanted
    except OSError as error:
        sys.exit(f"cannot run {command[0]}: {error.strerror}")


def watchdog(command: int, parent: int) -> None:
    """Kill our group, which the command leads, when the command ends, or a grace period after its
    parent. While we are in the group its number is not reused; while the command is our parent, its
    own number is not either."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for the command
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):  # who reads what it prints is to see it end
        os.dup2(nowhere, stream)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # a socket that the command closes is to be closed
    while os.getppid() == command and _parent_of(command) == parent:
        time.sleep(POLL_SECONDS)
    if os.getppid() == command:
        os.kill(command, signal.SIGTERM)  # alone: it can end children of its own
    deadline = time.monotonic() + GRACE_SECONDS
    while os.getppid() == command and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _parent_of(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return int(stat.read().rpartition(")")[2].split()[1])
    except OSError:
        return None


if __name__ == "__main__":
    main()
