"""What several workers of the gateway count, know and bound together."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from serve.daemon import workers as module
from serve.daemon.workers import REPORT, STANDING, Report, Workers
from serve.gateway.admission import Admission, Limits
from serve.gateway.keys import KeyFile, digest_of
from serve.gateway.live import Live, Target
from serve.gateway.request import Refused
from ttrl.config import Config
from ttrl.config.serving import GatewayConfig
from ttrl.metrics import Metrics

HEADERS = {"authorization": "Bearer a"}


@pytest.mark.parametrize(
    ("workers", "limit", "share"), [(1, 1000, 1000), (2, 1000, 500), (3, 1000, 334), (64, 3, 1)]
)
def test_workers_share_what_is_allowed_in_all(workers, limit, share):
    assert GatewayConfig(workers=workers).share(limit) == share


def counted(metrics: Metrics) -> dict[str, float]:
    lines = [line.rpartition(" ") for line in metrics.text().decode().splitlines()]
    return {name: float(value) for name, _, value in lines if name.startswith("ttrl_http_re")}


def test_counts_of_all_workers_are_one_and_no_counter_falls_when_one_ends():
    daemon, second, third = Metrics(), Metrics(), Metrics()
    for metrics, codes in ((daemon, ["2xx"]), (second, ["2xx", "5xx"]), (third, ["4xx"])):
        for code in codes:
            metrics.serving.requests.labels(code).inc()
            metrics.serving.seconds.observe(0.1)
        metrics.serving.in_flight.inc()
    for number, metrics in ((2, second), (3, third)):
        daemon.total.take(number, metrics.of_worker())
    all_three = counted(daemon)
    assert all_three['ttrl_http_requests_total{code="2xx"}'] == 2
    assert all_three['ttrl_http_requests_total{code="4xx"}'] == 1
    assert all_three['ttrl_http_request_duration_seconds_bucket{le="0.2"}'] == 4
    assert all_three["ttrl_http_request_duration_seconds_sum"] == pytest.approx(0.4)
    assert all_three["ttrl_http_requests_in_flight"] == 3

    for ended in (2, 3):
        daemon.total.end(ended)
    assert counted(daemon) == {**all_three, "ttrl_http_requests_in_flight": 1}
    daemon.total.take(2, second.of_worker())  # the next one with this number
    assert counted(daemon)['ttrl_http_requests_total{code="5xx"}'] == 2


def test_a_worker_goes_by_what_the_daemon_says_and_the_daemon_counts_what_it_holds():
    daemon, worker = Live("name", "base-model"), Live("name", "?")
    daemon.found("root", 4096)
    daemon.flip("ttrl-1")
    said = STANDING.dump_json(daemon.standing(ready=True))
    worker.take(STANDING.validate_json(said))
    assert worker.target("name") == Target("ttrl-1", "ttrl-1")
    assert (worker.base.model, worker.max_model_len, worker.ready) == ("root", 4096, True)
    with worker.hold("ttrl-1"), daemon.hold("ttrl-1"), daemon.hold("ttrl-0"):
        report = Report(worker.held(), False, Metrics().of_worker(), ["1 + 1?"])
        heard = REPORT.validate_json(REPORT.dump_json(report))
    assert heard == report
    daemon.elsewhere[2] = heard.in_flight
    assert [daemon.in_flight(version) for version in ("ttrl-0", "ttrl-1")] == [0, 1]


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    """Two, of which "a" may ask twice at once."""
    path = tmp_path / "keys.yaml"
    row = f"{{name: a, sha256: {digest_of('a')}, at_once: 2}}"
    path.write_text(f"- {row}\n- {{name: b, sha256: {digest_of('b')}}}\n")
    path.chmod(0o600)
    return KeyFile(path)


def test_limits_of_a_key_hold_over_all_workers_and_end_with_one(keys):
    first = Limits(2)
    both = [
        Admission(keys, 100, Metrics().serving, lambda: 7.0, limits=limits)
        for limits in (first, Limits(2, 2, first.file))
    ]
    with ExitStack() as ends, both[0].admitted(HEADERS):
        ends.enter_context(both[1].admitted({"authorization": "Bearer b"}))
        ends.enter_context(both[1].admitted(HEADERS))
        for one in both:
            with pytest.raises(Refused, match="concurrent"), one.admitted(HEADERS):
                pass
        first.forget(2)  # it was killed
        with both[0].admitted(HEADERS):
            pass


TAKE = """
import sys
from pathlib import Path
from serve.gateway.admission import Admission, Limits
from serve.gateway.keys import KeyFile
from serve.gateway.request import Refused
from ttrl.metrics import Metrics
number, file, keys = int(sys.argv[1]), int(sys.argv[2]), KeyFile(Path(sys.argv[3]))
admission = Admission(keys, 9, Metrics().serving, lambda: 7.0, limits=Limits(2, number, file))
taken = 0
print("ready", flush=True)
sys.stdin.readline()
for _ in range(4000):
    try:
        with admission.admitted({"authorization": "Bearer a"}):
            taken += 1
    except Refused:
        pass
print(taken)
"""


@pytest.mark.integration
def test_two_that_ask_at_the_same_instant_get_no_more_than_one_would(keys):
    path = keys.path
    path.write_text(f"- {{name: a, sha256: {digest_of('a')}, requests_a_minute: 5000}}\n")
    limits = Limits(2)
    children = [
        subprocess.Popen(
            [sys.executable, "-c", TAKE, str(number), str(limits.file), str(path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=[limits.file],
        )
        for number in (1, 2)
    ]  # fmt: skip
    assert [child.stdout.readline() for child in children] == ["ready\n"] * 2
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    taken = [int(child.communicate(timeout=60)[0]) for child in children]
    assert sum(taken) == 5000
    assert limits.under_way(limits.row(digest_of("a"))) == 0


HANGS = "channel.recv(9999); import time; time.sleep(60)"
ANSWERS = """
import json
for line in channel.makefile():
    version = json.loads(line)["current"]["version"]
    asked = ["[" * 999, json.dumps({"body": {"messages": []}, "hash": version})]
    said = {"in_flight": {version: 1}, "failing": True, "series": [], "asked": asked}
    channel.sendall(json.dumps(said).encode() + b"\\n")
"""
MUTE = "channel.recv(9999)"


@pytest.mark.parametrize(
    ("program", "hello", "held"),
    [(ANSWERS, "{}\\n", 1), (HANGS, "{}\\n", 0), (MUTE, "", 0)],
    ids=["answers", "hangs", "has not come up"],
)
def test_a_change_waits_for_all_that_answer_and_for_none_that_hangs(
    monkeypatch, program, hello, held
):
    """One that hangs is killed, so that nothing goes by what was; one that has not come up yet will
    be told when it does."""

    async def spawn(job, arguments, config, log_file, files):
        begin = f"import socket; channel = socket.socket(fileno={files[1]})"
        code = f"{begin}\nchannel.sendall(b'{hello}')\n{program}"
        return await asyncio.create_subprocess_exec(sys.executable, "-c", code, pass_fds=files)

    async def once(listener):
        live, metrics, asked = Live("name", "model"), Metrics(), []
        config = Config(gateway=GatewayConfig(workers=2))
        workers = Workers(config, listener, "", "", live, metrics, lambda: True, asked.append)
        (worker,) = workers._all
        running = asyncio.create_task(worker.run())
        if hello:
            async with asyncio.timeout(10):
                while not worker._listens:  # noqa: ASYNC110 - another task sets it
                    await asyncio.sleep(0.01)
        live.flip("ttrl-1")
        await live.spread()
        assert live.in_flight("ttrl-1") == held
        assert workers.failing == bool(held)
        assert [question.hash for question in asked[-1:]] == ["ttrl-1"] * held
        workers.leave()
        await running
        assert live.in_flight("ttrl-1") == 0
        return metrics

    monkeypatch.setattr(module, "spawn", spawn)
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        asyncio.run(asyncio.wait_for(once(listener), 20))
