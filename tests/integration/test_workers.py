"""Two processes answer on one port, and users cannot tell."""

from __future__ import annotations

import math
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import httpx2
import psutil
import pytest

from tests.integration.daemon import DEADLINE_SECONDS, MODEL, Daemon, alive, wait_until
from tests.integration.light import with_versions

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

ANSWERED = 'ttrl_http_requests_total{code="2xx"}'
ENDED = "ttrl_gateway_workers_ended_total"
QUESTION = "What is 417 plus 286?"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("workers")
    with with_versions(folder, "gateway.workers=2", "feedback.enabled=true") as made:
        yield made


@pytest.fixture
def two(daemon: Daemon) -> Daemon:
    """One with a further worker, which listens; it is started if it is not up, and its second
    version is live."""
    if daemon.child is None or daemon.child.poll() is not None:
        daemon.start()
    with daemon.store() as store:
        wanted = store.adapters.wanted().adapter
    if wanted != daemon.versions[1]:
        daemon.ttrl("adapters", "promote", daemon.versions[1])
    daemon.wait_live(daemon.versions[1])
    wait_until(lambda: worker(daemon), "the worker listens")
    return daemon


def counted(daemon: Daemon, name: str) -> float:
    """A series of the daemon's, which is missing before its first event."""
    found = daemon.metric(name)
    return 0.0 if math.isnan(found) else found


def recorded(daemon: Daemon, words: str) -> list[int]:
    """How often each question that begins with these words was asked, as the store has it."""
    with daemon.store() as store:
        rows = store.questions.page(1000)
    return [row.count for row in rows if row.question.text.startswith(words)]


def worker(daemon: Daemon) -> int | None:
    """The further worker's process, if it has begun to listen."""
    started = re.findall(r"Started server process \[(\d+)\]", daemon.log)
    complete = daemon.log.count("Application startup complete")
    pids = [pid for pid, words in daemon.children() if "serve.daemon.workers" in words]
    return next((pid for pid in pids if str(pid) in started[:complete]), None)


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """Processes that are there and do nothing."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        for pid in pids:
            wait_until(lambda pid=pid: psutil.Process(pid).status() == "stopped", "it has stopped")
        yield
    finally:
        for pid in pids:
            if alive(pid):
                os.kill(pid, signal.SIGCONT)


def holds(pid: int, port: int) -> int:
    """How many clients' connections to this port a process has."""
    found = psutil.Process(pid).net_connections("tcp")
    return sum(each.laddr.port == port and each.status == "ESTABLISHED" for each in found)


@contextmanager
def connected(daemon: Daemon, pid: int) -> Iterator[httpx2.Client]:
    """A client whose one connection this process has, since the other could not accept it."""
    assert daemon.child is not None
    other = next(each for each in (daemon.child.pid, worker(daemon)) if each not in (pid, None))
    port = urlsplit(daemon.url).port
    assert port is not None
    before = holds(pid, port)
    with httpx2.Client(base_url=daemon.url, trust_env=False, timeout=DEADLINE_SECONDS) as client:
        with stopped(other):
            assert client.get("/healthz").is_success
        assert holds(pid, port) == before + 1
        yield client


def ask(client: httpx2.Client, question: str = QUESTION) -> tuple[str, str]:
    """The greedy answer, and the version that its header names."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": 48,
    }
    answer = client.post("/v1/chat/completions", json=body).raise_for_status()
    return answer.json()["choices"][0]["message"]["content"], answer.headers["x-ttrl-adapter"]


def test_both_answer_and_each_question_is_counted_and_recorded_once(two):
    written = "ttrl_questions_recorded_total"
    answered, counts = counted(two, ANSWERED), counted(two, written)
    with ExitStack() as stack:
        pids = two.child.pid, worker(two)
        clients = [stack.enter_context(connected(two, pid)) for pid in pids]
        for number in range(10):
            for client, add in zip(clients, (100, 200), strict=True):
                assert ask(client, f"Both: {add + number} plus 1?")[1] == two.versions[1]
        wait_until(lambda: recorded(two, "Both") == [1] * 20, "all are recorded")
        for client in clients:
            page = client.get("/metrics").text
            assert f"{ANSWERED} {answered + 20}" in page
            assert f"{written} {counts + 20}" in page
            assert "ttrl_http_connections 2.0" in page or client is clients[1]


def test_either_takes_feedback_on_what_the_other_answered_just_now(two):
    with ExitStack() as stack:
        pids = two.child.pid, worker(two)
        ours, others = (stack.enter_context(connected(two, pid)) for pid in pids)
        for asked, told in ((ours, others), (others, ours)):
            body = {"model": MODEL, "messages": [{"role": "user", "content": QUESTION}]}
            answer = asked.post("/v1/chat/completions", json=body).json()["id"]
            said = told.post("/v1/feedback", json={"id": answer, "thumb": "up"})
            assert said.json()["status"] == "new", said.text


def test_a_swap_fails_nobody_and_headers_tell_the_truth(two):
    first, second = two.versions
    done, answers, failures = threading.Event(), [], []

    def keep_asking(client: httpx2.Client) -> None:
        while not done.is_set():
            try:
                answers.append(ask(client))
            except httpx2.HTTPError as error:
                failures.append(error)

    with ExitStack() as stack:
        pids = two.child.pid, worker(two)
        users = [stack.enter_context(connected(two, pid)) for pid in pids * 2]
        ours = [stack.enter_context(connected(two, pid)) for pid in pids]
        expected = {second: ask(ours[0])[0]}
        threads = [threading.Thread(target=keep_asking, args=[user]) for user in users]
        for thread in threads:
            thread.start()
        try:
            for version in (first, second, first):
                words = ("promote", version) if version == second else ("rollback",)
                two.ttrl("adapters", *words)
                for client in ours:
                    text, says = ask(client)
                    assert says == version, "who was told that it is live finds it live"
                    assert text == expected.setdefault(version, text)
        finally:
            done.set()
            for thread in threads:
                thread.join(DEADLINE_SECONDS)
    assert failures == []
    assert expected[first] != expected[second]
    assert {says for _, says in answers} == {first, second}
    assert all(text == expected[says] for text, says in answers)


@pytest.mark.fault(
    "a further worker of the gateway is killed",
    sees="the answers in it are cut; all others come",
    keeps="all but what this worker had not written yet",
)
def test_a_killed_worker_takes_only_its_own_answers_along_and_comes_back(two):
    leader, killed = two.child.pid, worker(two)
    answered, ends = counted(two, ANSWERED), counted(two, ENDED)
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor())
        its, ours = (stack.enter_context(connected(two, pid)) for pid in (killed, leader))
        fresh = stack.enter_context(
            httpx2.Client(base_url=two.url, trust_env=False, timeout=DEADLINE_SECONDS)
        )
        assert ask(its, "Killed: 1 plus 1?")[1] == two.versions[1]
        wait_until(lambda: recorded(two, "Killed") == [1], "it is recorded")
        assert two.metric(ANSWERED) == answered + 1
        with stopped(two.engine_pid()):
            cut, whole = pool.submit(ask, its), pool.submit(ask, ours)
            wait_until(lambda: two.metric("ttrl_http_requests_in_flight") == 2, "both are asked")
            with stopped(leader, killed):
                waiting = pool.submit(ask, fresh)  # nobody has accepted it
                port = urlsplit(two.url).port
                wait_until(lambda: connections_to(port) == 3, "the system has")
                two.kill(killed)
        assert whole.result(DEADLINE_SECONDS)[1] == two.versions[1]
        assert waiting.result(DEADLINE_SECONDS)[1] == two.versions[1]
        with pytest.raises(httpx2.HTTPError):
            cut.result(DEADLINE_SECONDS)
        wait_until(lambda: worker(two) not in (None, killed), "another has begun to listen")
        assert two.metric(ENDED) == ends + 1
        assert two.metric(ANSWERED) == answered + 3, "what it had counted is not forgotten"
        assert two.metric("ttrl_http_requests_in_flight") == 0
        with connected(two, worker(two)) as client:
            assert ask(client)[1] == two.versions[1]


def connections_to(port: int) -> int:
    """Clients' connections to a port, on this test's side."""
    found = psutil.Process().net_connections("tcp")
    return sum(bool(each.raddr) and each.raddr.port == port for each in found)


@pytest.mark.fault(
    "the daemon is killed beside further workers of the gateway",
    sees="refused connections until it is started again",
    keeps="everything, also what the other workers had to write",
)
def test_the_daemons_death_ends_the_others_and_frees_the_port(two):
    left, address = worker(two), urlsplit(two.url)
    with connected(two, left) as client:
        ask(client, "Death: 1 plus 1?")
        two.kill()
        wait_until(lambda: not alive(left), "it has ended", 10)
    socket.create_server((address.hostname, address.port)).close()
    assert recorded(two, "Death") == [1]


@pytest.mark.fault(
    "SIGTERM comes while another worker of the gateway answers",
    sees="whole answers; new connections are refused",
    keeps="everything; exit status 0",
)
def test_sigterm_lets_the_others_answers_end(two):
    address = urlsplit(two.url)

    def refused() -> bool:
        try:
            socket.create_connection((address.hostname, address.port), 1).close()
        except ConnectionRefusedError:
            return True
        return False

    with connected(two, worker(two)) as client, ThreadPoolExecutor() as pool:
        with stopped(two.engine_pid()):
            asked = pool.submit(ask, client, "Term: 1 plus 1?")
            wait_until(lambda: two.metric("ttrl_http_requests_in_flight") == 1, "it is asked")
            two.child.send_signal(signal.SIGTERM)
            wait_until(refused, "nobody listens")
        assert asked.result(DEADLINE_SECONDS)[1] == two.versions[1]
    assert two.child.wait(30) == 0
    assert recorded(two, "Term") == [1]
