"""A real daemon on what is private: where words stand, who reads files, what is forgotten."""

from __future__ import annotations

import json
import stat
import subprocess
from pathlib import Path

import httpx2
import openai
import pytest

from tests.hook import SECRET
from tests.integration.daemon import (
    LIGHT,
    TTRL,
    Daemon,
    publish_random,
    record_questions,
    wait_until,
)
from tests.integration.light import weights
from ttrl.store.adapters import AdapterState

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]

WORD = "zwiebelfisch"
MAIL, PHONE = "jane.canary@example.org", "+49 151 23456789"
ASKED = f"{WORD}: what is 417 plus 286? Tell {MAIL} or call {PHONE}."
STORED = f"{WORD}: what is 417 plus 286? Tell <EMAIL_ADDRESS> or call <PHONE_NUMBER>."


def found_in(state_dir: Path, *words: str) -> list[str]:
    """The files that a grep would name."""
    files = [file for file in state_dir.rglob("*") if file.is_file()]
    return [f.name for f in files if any(w.encode() in f.read_bytes() for w in words)]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    """Started on a directory that others may look into."""
    state_dir = record_questions(tmp_path_factory.mktemp("privacy") / "state", 40)
    for path in (state_dir, state_dir / "store.sqlite"):
        path.chmod(0o755)
    settings = (
        "record.redact=true", "webhook.url=http://127.0.0.1:9/hook", f"webhook.secret={SECRET}",
        "gate.min_probes=4", "log_level=debug",
    )  # fmt: skip
    with Daemon(state_dir, *settings, environ=LIGHT) as started:
        yield started


def ask(daemon, text=ASKED):
    before = daemon.metric("ttrl_questions_recorded_total")
    stop = [f"{WORD} {MAIL}"]
    said = daemon.ask(text, stop=stop, extra_headers={"x-request-id": "1"})
    wait_until(
        lambda: daemon.metric("ttrl_questions_recorded_total") > before, "it is recorded", 120
    )
    return said


def test_what_is_redacted_never_touches_the_disk(daemon):
    ask(daemon)
    with daemon.store() as store:
        (newest,) = store.questions.page(1)
        assert newest.question.text == STORED
        assert newest.question.sampling["stop"] == [f"{WORD} <EMAIL_ADDRESS>"]
    assert found_in(daemon.state_dir, WORD), "the rest of it is recorded"
    assert found_in(daemon.state_dir, MAIL, PHONE, "jane.canary", "23456789") == []


@pytest.mark.fault(
    "a run fails in code of your own, and its error quotes users",
    sees="nothing",
    keeps="the live version; the run's reason says where it failed, without a word of theirs",
)
def test_nobodys_words_in_logs_metrics_and_errors(daemon):
    ask(daemon)
    bodies = _refused(daemon)
    run = json.loads(
        daemon.ttrl(
            "adapt", "--json", "--set", 'vote.rewards={"tests.integration.prying:quote": 1}',
            "--set", "vote.samples=8", "--set", "update.keep=4", code=None,
        )
    )  # fmt: skip
    assert run["state"] == "failed", "one that quotes users"
    assert "raised RuntimeError at prying.py:" in run["reason"]
    daemon.kill(daemon.generator_pid())
    with pytest.raises(openai.APIError) as failed:
        daemon.ask(ASKED)
    bodies.append(str(failed.value))
    wait_until(lambda: "webhook" in daemon.log, "the webhook was tried")
    wait_until(daemon.ready, "the engine is up again", 120)
    logs = [file.read_text() for file in (daemon.state_dir / "logs").iterdir()]
    for place in (*logs, daemon.log, daemon.metrics(), *bodies, json.dumps(run)):
        for words in (WORD, MAIL, "417 plus", "boxed"):
            assert words not in place, place


def _refused(daemon):
    """What clients are told who do it wrong."""
    url, said = f"{daemon.url}/v1/chat/completions", []
    message = {"role": "user", "content": ASKED}
    for body in (
        f'{{"messages": [{{"role": "user", "content": "{WORD}" }}, "model": "x"',
        json.dumps({"model": WORD, "messages": [message]}),
        json.dumps({"model": "ttrl-demo", "messages": WORD}),
        json.dumps({"model": "ttrl-demo", "messages": [message], "n": WORD}),
        json.dumps({"model": "ttrl-demo", "messages": [message], "temperature": WORD}),
        json.dumps({"model": "ttrl-demo", "messages": [{"role": WORD, "content": WORD}]}),
    ):
        answer = httpx2.post(url, content=body, trust_env=False, timeout=60)
        assert answer.is_client_error, body
        said.append(answer.text)
    return said


def test_only_their_owner_reads_files_whatever_made_them(daemon, tmp_path):
    run = json.loads(daemon.ttrl("adapt", "--json", "--set", "update.steps=2", code=None))
    assert run["state"] in ("published", "held", "rejected"), run
    exported = tmp_path / "out.jsonl"
    daemon.ttrl("questions", "export", str(exported))
    assert stat.S_IMODE(exported.stat().st_mode) == 0o600
    open_to_others = {
        str(path.relative_to(daemon.state_dir)): oct(path.stat().st_mode)
        for path in [daemon.state_dir, *daemon.state_dir.rglob("*")]
        if path.stat().st_mode & 0o077 and path.name != "daemon.log"  # which the test made
    }
    assert open_to_others == {}
    names = {path.name for path in daemon.state_dir.rglob("*")}
    assert {"store.sqlite", "store.sqlite-wal", "owner.json", "engine.log"} <= names


def test_a_file_is_redacted_as_the_daemon_redacts(daemon, tmp_path):
    """Whose settings the command does not share."""
    file = tmp_path / "in.jsonl"
    file.write_text(json.dumps({"prompt": f"Is {MAIL} an address?"}))
    bare = ["--state-dir", str(daemon.state_dir)]
    subprocess.run([*TTRL, "questions", "import", str(file), *bare], check=True)
    with daemon.store() as store:
        (newest,) = store.questions.page(1)
    assert newest.question.text == "Is <EMAIL_ADDRESS> an address?"


def test_who_is_forgotten_is_forgotten_by_what_serves(daemon, tmp_path):
    """The live version has learned from it, and the one before has not."""
    ask(daemon)
    with daemon.store() as store:
        key = next(q.id for q in store.questions.page(1000) if WORD in q.question.text)
    before, live = (
        publish_random(daemon.state_dir, [source], first=number, learned=learned)[0]
        for source, number, learned in zip(weights(tmp_path), (101, 102), ([], [key]), strict=True)
    )
    daemon.wait_live(live)
    would = json.loads(
        daemon.ttrl("questions", "purge", "--text", WORD.upper(), "--dry-run", "--json")
    )
    assert (would["questions"], would["wanted"]) == (1, before)
    assert live in would["adapters"], "and a version of the run before, if that chose the question"
    assert before not in would["adapters"]
    assert found_in(daemon.state_dir, WORD)
    daemon.ttrl("questions", "purge", "--text", WORD.upper(), "--yes")
    assert daemon.ask("What is 417 plus 286?")[1] == before
    assert not (daemon.state_dir / "adapters" / live).exists()
    assert (daemon.state_dir / "adapters" / before).exists()
    assert found_in(daemon.state_dir, WORD) == []
    with daemon.store() as store:
        assert store.adapters.get(live).state is AdapterState.TAINTED
    daemon.ttrl("adapters", "promote", live, code=1)
    counted = 'ttrl_adapters{state="tainted"}'
    wait_until(lambda: counted in daemon.metrics(), "it is counted")
    assert daemon.metric(counted) >= 1
    daemon.ttrl("questions", "purge", "--text", WORD, "--yes", code=1)
