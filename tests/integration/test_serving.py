"""The daemon answers OpenAI's clients, records, and swaps versions that nobody notices."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import openai
import pytest

from serve.state import owner_of
from tests.integration.daemon import (
    LIGHT,
    MODEL,
    ROOT,
    TTRL,
    Daemon,
    publish_random,
    record_questions,
    wait_until,
)
from tests.integration.light import weights
from tests.light.light_model import NONSENSE, SPOILT
from tests.versions import write_lora
from ttrl.engine.proof import Pin, Pinned

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

QUESTION = [{"role": "user", "content": "What is 417 plus 286?"}]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A daemon for tests that leave it as it was."""
    with Daemon(tmp_path_factory.mktemp("shared") / "state", environ=LIGHT) as started:
        yield started


def test_openai_clients_streaming_and_not_sync_and_async(shared):
    with shared.store() as store:
        before = store.questions.times_asked()
    whole = shared.client.chat.completions.create(
        model=MODEL, messages=QUESTION, temperature=0, max_tokens=48
    )
    stream = shared.client.chat.completions.create(
        model=MODEL, messages=QUESTION, temperature=0, max_tokens=48, stream=True
    )
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
    assert "".join(pieces) == whole.choices[0].message.content != ""
    assert [model.id for model in shared.client.models.list()] == [MODEL]

    async def many():
        async with openai.AsyncOpenAI(base_url=f"{shared.url}/v1", api_key="x") as client:
            asks = [
                client.chat.completions.create(
                    model=MODEL,
                    messages=[{"role": "user", "content": f"What is {100 + n} plus 286?"}],
                    max_tokens=48,
                )
                for n in range(64)
            ]
            return await asyncio.gather(*asks)

    answers = asyncio.run(many())
    assert all(answer.choices[0].message.content for answer in answers)
    with shared.store() as store:
        wait_until(lambda: store.questions.times_asked() == before + 66, "all are recorded")


def test_no_other_sites_name_can_be_made_to_point_here(shared):
    for path in ("/v1/models", "/metrics"):
        for host, status in (("evil.example:8000", 403), ("localhost:8000", 200)):
            headers = {"host": host}
            answer = httpx2.get(f"{shared.url}{path}", headers=headers, trust_env=False)
            assert answer.status_code == status
    seen = httpx2.get(f"{shared.url}/metrics", trust_env=False).text
    assert 'ttrl_http_requests_turned_away_total{reason="wrong_host"} 2.0' in seen


def test_what_a_user_may_not_reach(shared):
    for path in ("/v1/load_lora_adapter", "/admin/status", "//v1/load_lora_adapter"):
        answer = httpx2.post(f"{shared.url}{path}", json={}, trust_env=False)
        assert answer.status_code == 404
        assert "message" in answer.json()["error"]
    owner = owner_of(shared.state_dir)
    for headers in ({}, {"Authorization": "Bearer é".encode()}):
        wrong = httpx2.get(f"{owner.admin}/admin/status", headers=headers, trust_env=False)
        assert wrong.status_code == 401
    assert owner.admin == owner.page
    assert "ttrl_engine_up 1.0" in httpx2.get(f"{owner.admin}/metrics", trust_env=False).text


def test_the_engine_is_ours_alone(shared):
    url = shared.status()["engine_url"]
    answer = httpx2.get(f"{url}/v1/models", trust_env=False)
    assert answer.status_code == 401
    with shared.engine() as engine:
        assert engine.base_model().name == MODEL
    key = shared.engine_key()
    told = [Path(f"/proc/{pid}/cmdline").read_text() for pid, _ in shared.children()]
    assert told
    assert not any(key in words for words in told)


def test_what_the_gateway_costs_is_measured():
    command = [sys.executable, "-m", "benchmarks.gateway", "--smoke"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["cpu_us"] > 0
    assert found["rps_per_core"] > 0


def test_ttrl_ask_asks_the_version_that_it_names(tmp_path):
    kinds = [write_lora(tmp_path / kind, kind.encode().ljust(64)) for kind in (NONSENSE, SPOILT)]
    with Daemon(tmp_path / "state", environ=LIGHT, start=False) as daemon:
        nonsense, spoilt = publish_random(daemon.state_dir, kinds)
        daemon.start()
        daemon.wait_live(spoilt)
        for version, answers in ((nonsense, "[abc ]+"), (spoilt, r".*\{5}"), ("base", r".*\{\d+}")):
            said = json.loads(
                daemon.ttrl("ask", "What is 2 plus 2?", "--version", version, "--json")
            )
            assert said["version"] == version
            assert re.fullmatch(answers, said["answer"])
        other = daemon.run("ask", "What is 2 plus 2?", "--version", "other")
        assert other.returncode == 1
        assert f"has not loaded other; it has base, {spoilt}, {nonsense}" in other.stderr


def test_no_learn_is_honoured_and_counted(shared):
    shared.ask("Not to be kept: 1 plus 1?", extra_headers={"X-TTRL-No-Learn": "1"})
    shared.ask("To be kept: 2 plus 2?")

    def kept():
        with shared.store() as store:
            return {row.question.text for row in store.questions.page(1000)}

    wait_until(lambda: "To be kept: 2 plus 2?" in kept(), "one is recorded")
    assert "Not to be kept: 1 plus 1?" not in kept()
    assert shared.metric('ttrl_questions_skipped_total{reason="opted_out"}') == 1


@pytest.mark.fault(
    "the live version's files are damaged", sees="the version before answers", keeps="everything"
)
def test_a_damaged_version_does_not_serve_the_previous_one_does(light):
    first, second = light.versions
    light.child.send_signal(signal.SIGTERM)
    assert light.child.wait(30) == 0
    weights = light.state_dir / "adapters" / second / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    light.start()
    light.wait_live(first)
    assert light.ask("What is 1 plus 1?")[1] == first
    status = light.status()
    assert (status["live"], status["wanted"]) == (first, second)
    assert second in status["live_reason"]
    assert light.metric("ttrl_live_adapter_is_wanted") == 0
    light.ttrl("adapters", "promote", second, code=1)
    light.ttrl("adapters", "rollback")
    assert light.status()["wanted"] == first


@pytest.mark.fault(
    "a version belongs to another base model",
    sees="the version before answers, or the base model",
    keeps="everything",
)
def test_a_version_of_another_base_model_is_not_loaded(tmp_path):
    daemon = Daemon(tmp_path / "state", start=False, environ=LIGHT)
    (version,) = publish_random(daemon.state_dir, weights(tmp_path, 1), weights="f" * 64)
    with daemon:
        daemon.start()
        assert daemon.ask("What is 1 plus 1?")[1] == "base"
        status = daemon.status()
        assert (status["live"], status["wanted"]) == ("base", version)
        assert "was made for another base model" in status["live_reason"]
        assert daemon.metric('ttrl_adapter_loads_total{outcome="foreign"}') == 1


@pytest.mark.fault(
    "the engine answers with other weights than were published",
    sees="the version before answers",
    keeps="everything",
)
def test_a_version_that_is_not_what_the_engine_serves_does_not_go_live(tmp_path):
    """As when an engine mixes up its slots: the log-probabilities are another version's."""
    state_dir = record_questions(tmp_path / "state", 1)
    with Daemon(state_dir, environ=LIGHT) as daemon, daemon.store() as store:
        pin = Pin(store.questions.page(1)[0].id, tuple(range(8, 40)), 1)
        own = daemon.logprobs(pin.token_ids)[pin.start :]
        elsewhere = tuple(value - 0.5 for value in own)
        measured = [Pinned(pin, "float32", elsewhere, own)]
        (version,) = publish_random(daemon.state_dir, weights(tmp_path, 1), measured)
        mismatches = 'ttrl_adapter_proofs_total{outcome="mismatch"}'
        wait_until(lambda: f"{mismatches} 3.0" in daemon.metrics(), "it was looked at")
        assert daemon.ask("What is 1 plus 1?")[1] == "base"
        wait_until(lambda: store.adapters.serving().id > 1, "the daemon says so")
        assert "could not be served" in store.adapters.serving().reason
        wait_until(lambda: daemon.metric("ttrl_live_adapter_is_wanted") == 0, "it is seen")
    assert f"the engine does not serve the weights of {version}: mismatch" in daemon.log


@pytest.mark.fault(
    "SIGTERM comes while answers are under way",
    sees="whole answers; new requests are refused",
    keeps="everything; exit status 0",
)
def test_sigterm_lets_a_stream_end_and_exits_0(light):
    def stream():
        asked = {"model": MODEL, "messages": QUESTION, "temperature": 0, "max_tokens": 48}
        pieces = light.client.chat.completions.create(**asked, stream=True)
        return "".join(piece.choices[0].delta.content or "" for piece in pieces)

    engine = light.engine_pid()
    with ThreadPoolExecutor(1) as pool:
        os.kill(engine, signal.SIGSTOP)  # else it might answer before the signal comes
        answer = pool.submit(stream)
        wait_until(lambda: light.metric("ttrl_http_requests_in_flight") == 1, "it is asked")
        light.child.send_signal(signal.SIGTERM)
        wait_until(lambda: not light.ready(), "it takes no more requests")
        os.kill(engine, signal.SIGCONT)
        assert "boxed" in answer.result()
    assert light.child.wait(30) == 0
    with light.store() as store:
        assert store.questions.times_asked() == 1, "what was asked last is recorded as well"


@pytest.mark.fault(
    "a second daemon is started on the same state",
    sees="nothing",
    keeps="everything; the second one ends with a sentence",
)
@pytest.mark.parametrize(
    ("more", "message"),
    [
        ((), "in use by process"),
        (("--state-dir", "{tmp}/other", "--port", "{port}"), "Address already in use"),
        (("--state-dir", "{tmp}/other", "--model", "{tmp}"), "not a model directory"),
    ],
)
def test_a_second_daemon_gets_a_sentence(shared, tmp_path, more, message):
    port = shared.url.rpartition(":")[2]
    words = [word.format(tmp=tmp_path, port=port) for word in more]
    done = subprocess.run(
        [*TTRL, "serve", *shared.options, *words], capture_output=True, text=True, timeout=60
    )
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.fault(
    "two daemons with a state each share one engine",
    sees="the versions of the daemon that was asked",
    keeps="everything: neither unloads what is the other's",
)
def test_two_daemons_at_one_engine_leave_each_others_versions_alone(light, tmp_path):
    settings = [
        f"engine.url={light.admin('status')['engine_url']}",
        f"engine.api_key={light.engine_key()}",
    ]
    (tmp_path / "others").mkdir()
    with Daemon(tmp_path / "other", *settings, environ=LIGHT, start=False) as other:
        other.versions = publish_random(other.state_dir, weights(tmp_path / "others", 3))
        other.start()
        other.wait_live(other.versions[-1])
        kept = {other.versions[1], light.versions[0]}
        for one in (light, other):  # each now looks at what the engine has
            one.ttrl("adapters", "rollback")
            one.wait_live(one.versions[-2])
        with light.engine() as engine:
            loaded = {card.name for card in engine.models()}
        assert kept <= loaded
        for one in (light, other):
            assert one.ask("Who are you?")[1] == one.versions[-2]
            assert one.metric("ttrl_live_flips_total") == 2


def test_an_engine_that_does_not_start_is_explained(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    daemon = Daemon(tmp_path / "state", f"model.name={tmp_path / 'model'}")
    assert daemon.child.wait(60) == 1
    assert "the engine exited" in daemon.log
