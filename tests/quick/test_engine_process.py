"""An engine as a child process, played by small programs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from serve.daemon.core import with_key
from ttrl.config import Config, EngineConfig
from ttrl.engine.client import EngineError
from ttrl.engine.parent_death import GRACE_SECONDS
from ttrl.engine.process import (
    EngineLog,
    EngineProcess,
    embedded_command,
    free_port,
    vllm_command,
)

ENGINE = """
import http.server, os, signal, subprocess, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("content-length", "0"); self.end_headers()
    def log_message(self, *args): pass
port, *tricks = sys.argv[1:]
if "deaf" in tricks: signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "parent" in tricks:
    child = subprocess.Popen(["sleep", "600"]); print("child", child.pid, flush=True)
print("hello", os.environ.get("MARK"), flush=True)
http.server.HTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()
"""


def engine(*tricks: str, log: Callable[[str], None] | Path, **options: object) -> EngineProcess:
    port = free_port()
    command = [sys.executable, "-S", "-c", ENGINE, str(port), *tricks]
    return EngineProcess(command, url=f"http://127.0.0.1:{port}", log=log, **options)  # type: ignore[arg-type]


def until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_it_starts_answers_and_stops(tmp_path: Path) -> None:
    file = tmp_path / "engine.log"
    log = EngineLog(file)
    waited: list[float] = []
    process = engine(log=log, env={"MARK": "marked"})
    assert not process.alive()
    process.start(waited.append)
    assert process.alive()
    assert process.pid is not None
    assert os.getpgid(process.pid) == process.pid
    process.stop()
    assert not process.alive()
    assert gone(process.pid)
    log.close()
    assert file.read_text() == "hello marked\n"
    assert waited == sorted(waited)
    process.stop()


def test_it_is_noticed_when_it_ends_by_itself() -> None:
    with engine(log=lambda line: None) as process:
        assert process.pid
        os.kill(process.pid, signal.SIGKILL)
        until(lambda: not process.alive())


def test_one_that_will_not_end_is_killed() -> None:
    with engine("deaf", log=lambda line: None) as process:
        process.stop(grace=0.2)
        assert not process.alive()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_its_children_end_with_it(end: signal.Signals) -> None:
    lines: list[str] = []
    with engine("parent", log=lines.append) as process:
        until(lambda: len(lines) == 2)
        child = int(lines[0].removeprefix("child "))
        assert process.pid
        os.kill(process.pid, end)
        until(lambda: not process.alive() and gone(child))


def test_an_early_end_is_explained() -> None:
    program = "print('no such model'); raise SystemExit(3)"
    command = [sys.executable, "-S", "-c", program]
    process = EngineProcess(command, url="http://127.0.0.1:9", log=lambda line: None)
    with pytest.raises(EngineError, match=r"(?s)exited with status 3.*no such model"):
        process.start()
    assert not process.alive()


def test_a_command_that_is_none_is_explained() -> None:
    command = ["no-such-engine"]
    process = EngineProcess(command, url="http://127.0.0.1:9", log=lambda line: None)
    with pytest.raises(EngineError, match="cannot run no-such-engine"):
        process.start()


def test_one_that_never_answers_is_given_up() -> None:
    command = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
    url = f"http://127.0.0.1:{free_port()}"
    process = EngineProcess(command, url=url, log=lambda line: None, startup_timeout=0.3)
    with pytest.raises(EngineError, match=r"did not answer within 0\.3 s"):
        process.start()
    assert not process.alive()


@pytest.mark.integration
@pytest.mark.fault(
    "the daemon dies", sees="nothing more", keeps="no orphan: its engine dies with it"
)
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child to its parent")
def test_it_dies_with_its_parent_but_not_with_the_thread_that_started_it() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT), ENGINE, str(free_port())],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout
    with parent, parent.stdout as said:
        pid, alive = said.readline().split()
        assert alive == "True"
        assert not gone(int(pid))
        parent.kill()
    until(lambda: gone(int(pid)))


@pytest.mark.fault(
    "the daemon dies while its engine hangs",
    sees="nothing more",
    keeps="no orphan: the engine and what it started are killed within seconds",
)
@pytest.mark.integration
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child to its parent")
@pytest.mark.parametrize("hung", ["deaf", "stopped"])
def test_one_that_hangs_dies_with_its_parent_all_the_same(hung: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT), ENGINE, str(free_port()), "parent", hung],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout
    with parent, parent.stdout as said:
        pid = int(said.readline().split()[0])
        group = [pid, *(child.pid for child in psutil.Process(pid).children())]
        assert len(group) == 3, "the engine, its child and its guard"
        if hung == "stopped":
            os.kill(pid, signal.SIGSTOP)
        parent.kill()
    until(lambda: all(map(gone, group)), GRACE_SECONDS + 5)


PARENT = """
    import sys, threading, time
    from ttrl.engine.process import EngineProcess
    program, port, *tricks = sys.argv[1:]
    process = EngineProcess(
        [sys.executable, "-S", "-c", program, port, *tricks],
        url=f"http://127.0.0.1:{port}", log=lambda line: None,
    )
    starter = threading.Thread(target=process.start)
    starter.start()
    starter.join()
    time.sleep(0.2)
    print(process.pid, process.alive(), flush=True)
    time.sleep(600)
"""


def test_a_log_that_cannot_be_written_does_not_stop_the_engine() -> None:
    def full(line: str) -> None:
        raise OSError("no space left")

    with engine(log=full) as process:
        assert process.alive()
        process.stop()


def test_the_log_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ttrl.engine.process.MAX_LOG_BYTES", 1000)
    log = EngineLog(tmp_path / "engine.log")
    for number in range(1000):
        log(f"line {number} of 100%s")
    log.close()
    assert "line 999 of 100%s\n" in (tmp_path / "engine.log").read_text()
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 3000


@pytest.mark.fault(
    "the disk is full when the engine writes to its log",
    sees="nothing",
    keeps="all but those lines",
)
def test_a_full_disk_is_nothing_to_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    log = EngineLog(Path("/dev/full"))
    log("lost")
    log.close()
    assert capsys.readouterr().err == ""


def test_stopping_from_another_thread_ends_the_wait() -> None:
    command = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
    url = f"http://127.0.0.1:{free_port()}"
    process = EngineProcess(command, url=url, log=lambda line: None)
    failures: list[BaseException] = []

    def start() -> None:
        try:
            process.start()
        except EngineError as error:
            failures.append(error)

    starter = threading.Thread(target=start)
    starter.start()
    until(process.alive)
    process.stop()
    starter.join(10)
    assert not starter.is_alive()
    assert failures


def test_the_embedded_command() -> None:
    command = embedded_command("/m", 81, "name", max_lora_rank=32)
    assert command[:4] == [sys.executable, "-P", "-m", "ttrl.engine.embedded"]
    assert flags(command[4:]) == {
        "--model": "/m",
        "--port": "81",
        "--served-model-name": "name",
        "--max-lora-rank": "32",
    }


def test_vllm_is_told_all_that_learning_needs() -> None:
    command = vllm_command("org/model", 80, "name", max_lora_rank=32, max_loras=4, python="py")
    assert command[:3] == ["py", "-m", "vllm.entrypoints.openai.api_server"]
    assert flags(command[3:]) == {
        "--model": "org/model",
        "--served-model-name": "name",
        "--host": "127.0.0.1",
        "--port": "80",
        "--enable-lora": "",
        "--max-lora-rank": "32",
        "--max-loras": "4",
        "--max-cpu-loras": "16",
        "--logprobs-mode": "processed_logprobs",
        "--scheduling-policy": "priority",
        "--disable-uvicorn-access-log": "",
    }


@pytest.mark.parametrize(
    "theirs",
    [["--max-loras", "2"], ["--max-loras=2"], ["--max_loras", "2"]],
)
def test_the_users_own_flags_win(theirs: list[str]) -> None:
    command = vllm_command("m", 80, "name", extra_flags=[*theirs, "--dtype", "float32"])
    assert command[-len(theirs) - 2 :] == [*theirs, "--dtype", "float32"]
    assert sum("loras" in word and "cpu" not in word for word in command) == 1


def flags(words: list[str]) -> dict[str, str]:
    """Flag to value; "" for a switch."""
    pairs = zip(words, [*words[1:], "--"], strict=True)
    return {
        flag: "" if value.startswith("--") else value
        for flag, value in pairs
        if flag.startswith("--")
    }


def test_the_engine_that_we_start_gets_a_key_of_its_own_and_no_other_does():
    made = [with_key(Config()).engine.api_key for _ in range(2)]
    assert all(len(key or "") > 40 for key in made)
    assert made[0] != made[1]
    for engine in ({"api_key": "theirs"}, {"url": "http://127.0.0.1:1"}):
        config = Config(engine=EngineConfig(**engine))
        assert with_key(config) is config
