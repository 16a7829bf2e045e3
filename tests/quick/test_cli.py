"""The command line: sentences and exit codes."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace

import pytest
from click.testing import CliRunner
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from serve.cli import COMMANDS, doctor, main
from serve.cli import config as cli_config
from serve.cli.daemon import with_model
from serve.gateway import server
from serve.state import StateDirError, announce, owner_at, owner_of, owning
from tests.command import ttrl as command
from tests.runs import judgement
from tests.standin import serving
from tests.versions import write_lora
from ttrl.config import Config
from ttrl.config.loading import load
from ttrl.evaluation.gate import Verdict
from ttrl.evaluation.probes import Label
from ttrl.files import hand_over
from ttrl.questions.question import from_prompt
from ttrl.store import Store
from ttrl.store.adapters import AdapterRow, AdapterState
from ttrl.store.questions import QuestionState, Recorded
from ttrl.store.runs import RunState, Trigger


@pytest.fixture
def ttrl(tmp_path, empty_store):
    shutil.copy(empty_store, tmp_path)

    return lambda *words, **options: command(*words, "--state-dir", tmp_path, **options).output


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command):
    done = CliRunner().invoke(main, [command, "--help"])
    assert done.exit_code == 0
    assert "Usage:" in done.output


def test_what_is_no_lora_is_refused_before_anything_starts(ttrl, tmp_path):
    lora = write_lora(tmp_path / "lora")
    words = ("adapters", "import", str(lora), "--model", "org/model")
    assert "cannot import lora: it is not a LoRA" in ttrl(*words, code=1)
    (lora / "adapter_model.safetensors").rename(lora / "adapter_model.bin")
    assert "adapter_model.safetensors is missing" in ttrl(*words, code=1)
    with Store.open(tmp_path) as store:
        assert not store.runs.newest()


def test_status_without_a_daemon(ttrl):
    assert "not running" in ttrl("status", code=3)
    found = json.loads(ttrl("status", "--json", code=3))
    assert (found["running"], found["live"], found["last_run"]) == (False, "base", None)


LOOKING = (
    "adapters list", "adapters show one", "adapters export one copy", "adapters tree",
    "questions list", "questions show 1", "questions export copy", "probes list", "runs list",
    "runs show 1", "runs report 1 copy", "status",
)  # fmt: skip
WRITING = ("adapters promote one", "adapters rollback", "pause", "resume", "label --list")


@pytest.mark.parametrize("words", [*LOOKING, *WRITING])
def test_where_there_is_no_state_none_is_made(tmp_path, words):
    for folder in (tmp_path, tmp_path / "none"):
        done = CliRunner().invoke(main, [*words.split(), "--state-dir", str(folder)])
        assert done.exit_code != 0
        assert "no ttrl state" in done.output or "no state directory" in done.output, done.output
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("words", [*LOOKING, "doctor", "adapt --dry-run"])
def test_who_looks_changes_nothing(ttrl, tmp_path, tmp_path_factory, monkeypatch, words):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))  # an export without a folder goes here

    def files():
        return {file: file.read_bytes() for file in tmp_path.rglob("*") if "-" not in file.name}

    with closing(sqlite3.connect(tmp_path / "store.sqlite")) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = files()
    CliRunner().invoke(main, [*words.split(), "--state-dir", str(tmp_path)])
    assert files() == before


def test_a_dry_run_needs_no_state_and_makes_none(tmp_path):
    done = CliRunner().invoke(main, ["adapt", "--dry-run", "--state-dir", str(tmp_path)])
    assert done.exit_code == 0
    assert "no new questions" in done.output
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("words", "meant"), [("statsu", "status"), ("run list", "runs"), ("probes lst", "list")]
)
def test_an_unknown_command_gets_the_nearest_name(words, meant):
    done = CliRunner().invoke(main, words.split())
    assert done.exit_code == 2
    assert f"Did you mean '{meant}'?" in done.output


def test_who_looks_at_an_older_store_is_told_what_migrates_it(tmp_path, upgraded):
    Store.open(tmp_path).close()
    upgraded()
    done = CliRunner().invoke(main, ["status", "--state-dir", str(tmp_path)])
    assert done.exit_code == 1
    assert "`ttrl serve` migrates it" in done.output


@pytest.mark.integration
def test_status_looks_again_until_it_is_told_to_stop(tmp_path):
    Store.open(tmp_path).close()
    words = ["status", "--watch", "--json", "--state-dir", str(tmp_path)]
    command = [sys.executable, "-c", "from serve.cli import main; main()", *words]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        # Whoever is started in the background ignores it, and so do its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as watching:
        assert watching.stdout is not None
        seen = [json.loads(watching.stdout.readline()) for _ in range(2)]
        watching.send_signal(signal.SIGINT)
        assert watching.wait(20) == 0
    assert [each["live"] for each in seen] == ["base", "base"]


async def chat(request: Request) -> JSONResponse:
    if request.headers.get("authorization") != "Bearer key":
        return JSONResponse({"error": {"message": "a key is needed"}}, 401)
    learns = "x-ttrl-no-learn" not in request.headers
    body = await request.json()
    said = f"{body['model']}: {body['messages'][0]['content']}\x1b[1m"
    answer = {"choices": [{"message": {"role": "assistant", "content": said}}]}
    return JSONResponse(answer, headers={"x-ttrl-adapter": "ttrl-7-learns" if learns else "ttrl-7"})


async def daemon_status(request: Request) -> JSONResponse:
    return JSONResponse({"model": "assistant", "url": f"http://{request.url.netloc}"})


def test_ask_shows_the_answer_and_its_version(ttrl, tmp_path):
    assert "no daemon is running" in ttrl("ask", "Why?", code=3)
    routes = [
        Route("/v1/chat/completions", chat, methods=["POST"]),
        Route("/admin/status", daemon_status),
    ]
    with serving(Starlette(routes=routes)) as url, owning(tmp_path):
        announce(tmp_path, owner_at(url, admin=url))
        assert "answered 401: a key is needed" in ttrl("ask", "Why?", code=1)
        said = ttrl("ask", "-", "--key", "key", input="Why?")
        assert "assistant: Why?\N{REPLACEMENT CHARACTER}[1m" in said
        assert "answered by ttrl-7" in said
        assert json.loads(ttrl("ask", "Why?", "--key", "key", "--json"))["version"] == "ttrl-7"
        assert "answered by ttrl-7-learns" in ttrl("ask", "Why?", "--key", "key", "--learn")
        assert "leave out --version" in ttrl("ask", "Why?", "--learn", "--version", "v", code=2)


def test_the_only_running_daemon_is_found(tmp_path, empty_store, monkeypatch):
    monkeypatch.setattr("serve.state.DAEMONS", tmp_path / "daemons")
    default, one, other = (tmp_path / name for name in ("default", "one", "other"))
    monkeypatch.setattr("platformdirs.user_state_path", lambda _: default)
    for name in ("STATE_DIRECTORY", "TTRL_STATE_DIR"):
        monkeypatch.delenv(name, raising=False)

    def questions(*options):
        done = CliRunner().invoke(main, ["questions", "list", "--json", *options])
        return done.exit_code, done.output

    with owning(one):
        shutil.copy(empty_store, one)
        announce(one, owner_at("http://127.0.0.1:1"))
        code, said = questions()
        assert code == 0
        assert f"--state-dir {one}." in said
        assert "Using" not in questions("--state-dir", str(one))[1]
        (tmp_path / "daemons" / "999999999").write_text(str(other))
        assert questions()[0] == 0, "one that was killed does not count"
        default.mkdir()
        shutil.copy(empty_store, default)
        assert questions() == (0, "[]\n"), "the default has a state of its own"
        shutil.rmtree(default)
    assert list((tmp_path / "daemons").iterdir()) == []
    code, said = questions()
    assert code == 2
    assert str(default) in said
    monkeypatch.setattr("serve.cli.common.running", lambda: [one, other])
    code, said = questions()
    assert code == 2
    assert f"choose one with --state-dir: {one}, {other}" in said


def test_logs(ttrl, tmp_path, monkeypatch):
    assert "there are: none" in ttrl("logs", code=1)
    assert "journalctl" in ttrl("logs", "daemon", code=1)
    folder = tmp_path / "logs"
    folder.mkdir()
    for number, name in enumerate(("engine", "run-10", "run-9")):
        (folder / f"{name}.log").write_text(f"{name} starts\n{name} ends\n")
        os.utime(folder / f"{name}.log", (number, number))
    assert ttrl("logs", "-n", "1").splitlines() == [f"{folder}/run-9.log:", "run-9 ends"]
    assert "engine starts\nengine ends" in ttrl("logs", "engine")
    assert "run-10 ends" in ttrl("logs", "run-10")
    assert "there are: engine, run-10, run-9" in ttrl("logs", "measure", code=1)


def test_logs_are_followed_when_they_are_rotated(ttrl, tmp_path, monkeypatch):
    file = tmp_path / "logs" / "engine.log"
    file.parent.mkdir()
    file.write_text("one\n")

    def write(text):
        with file.open("a") as log:
            log.write(text)

    def rotate():
        file.rename(file.with_suffix(".log.1"))

    def interrupt():
        raise KeyboardInterrupt

    acts = [lambda: write("two\nthr"), lambda: write("ee\n"), rotate, lambda: write("four\n")]
    coming = iter([*acts, interrupt])
    monkeypatch.setattr("serve.cli.status.time.sleep", lambda seconds: next(coming)())
    done = ttrl("logs", "engine", "--follow", code=1)
    assert done.split()[1:5] == ["one", "two", "three", "four"]


def test_pause_and_resume(ttrl):
    ttrl("pause")
    assert json.loads(ttrl("status", "--json", code=3))["paused"] is True
    ttrl("resume")
    assert json.loads(ttrl("status", "--json", code=3))["paused"] is False


def test_a_model_directory_that_is_none(ttrl, tmp_path):
    assert "no config.json" in ttrl("serve", "--model", str(tmp_path), code=2)
    assert "no model is set" in ttrl("serve", code=2)


async def models(request: Request) -> JSONResponse:
    """What vLLM says of a base model and its adapter, with a key only."""
    if request.headers.get("authorization") != "Bearer key":
        return JSONResponse({"error": {"message": "no"}}, 401)
    base = {"id": "assistant", "parent": None, "root": "org/model", "max_model_len": 4096}
    return JSONResponse({"data": [base, {"id": "a", "parent": "assistant", "root": "/a"}]})


def test_the_model_of_a_running_engine_is_adopted(ttrl):
    with serving(Starlette(routes=[Route("/v1/models", models)])) as url:
        engine = {"engine.url": url, "engine.api_key": "key"}
        adopted = with_model(load(None, overrides=engine).config).model
        assert (adopted.name, adopted.served_name) == ("org/model", "assistant")
        named = load(None, overrides={**engine, "model.served_name": "mine"}).config
        assert with_model(named).served_name == "mine"
        said = ttrl("serve", "--engine-url", url, code=2)
    assert "(cannot ask the engine: " in said
    assert "no model is set" in ttrl("serve", "--engine-url", url, code=2)


def test_a_typo_in_a_setting(ttrl):
    said = ttrl("config", "check", "--set", "gateway.prot=1", code=2)
    assert "did you mean gateway.port?" in said
    assert "not of the form" in ttrl("config", "check", "--set", "gateway.port", code=2)


def test_config_check_reads_what_is_named(ttrl, tmp_path):
    assert "No model is set" in ttrl("config", "check")
    model = f"model.name={tmp_path}"
    assert "no config.json" in ttrl("config", "check", "--set", model, code=2)


def test_config_show_names_sources(ttrl):
    shown = json.loads(ttrl("config", "show", "--json", "--set", "update.steps=3"))
    assert shown["update.steps"] == {"value": 3, "source": "command line"}
    assert shown["update.keep"]["source"] == "default"


def test_config_show_goes_by_a_running_daemon(ttrl, tmp_path, monkeypatch):
    given = {"update.steps": 3, "state_dir": str(tmp_path), "update.keep": Config().update.keep}
    running = load(None, environ={}, overrides=given).config
    monkeypatch.setattr(cli_config, "daemons", lambda _: running)
    shown = json.loads(ttrl("config", "show", "--json", "--set", "update.steps=5"))
    assert shown["update.steps"] == {"value": 3, "source": "daemon"}
    assert shown["update.keep"]["source"] == "default"


@pytest.mark.parametrize("words", [("demo",), ("serve", "--engine", "embedded", "--model", "m")])
def test_without_an_extra_one_line_names_what_to_install(monkeypatch, tmp_path, words):
    monkeypatch.setattr("serve.cli.common.find_spec", lambda name: None)
    done = CliRunner().invoke(main, [*words, "--state-dir", str(tmp_path)])
    assert done.exit_code == 2
    (line,) = done.output.splitlines()
    assert "needs the extra `train` (no torch" in line
    assert "pip install accelerate>=" in line.replace("'", "")
    assert list(tmp_path.iterdir()) == []


def test_config_explain(ttrl):
    said = ttrl("config", "explain", "vote.samples", "--set", "vote.samples=48")
    for part in ("Number of samples", "at least 2", "default   32", "48 (command line)"):
        assert part in said
    section = json.loads(ttrl("config", "explain", "gate", "webhook.secret", "--json"))
    assert {each["path"] for each in section} > {"gate.ship", "gate.samples", "webhook.secret"}
    assert "did you mean vote.samples?" in ttrl("config", "explain", "vote.sample", code=2)


def test_config_init_never_overwrites(ttrl, tmp_path):
    file = tmp_path / "new.yaml"
    ttrl("config", "init", str(file), "--model", "some/model", "--set", "update.steps=3")
    written = file.read_text()
    assert '  name: "some/model"' in written
    shown = json.loads(ttrl("config", "show", "--json", "--config", str(file)))
    assert shown["update.steps"] == {"value": 3, "source": "file"}
    assert "already exists" in ttrl("config", "init", str(file), code=1)
    assert file.read_text() == written


@pytest.mark.parametrize("words", [("status",), ("page",), ("doctor",)])
def test_a_state_directory_of_somebody_else(tmp_path, monkeypatch, words):
    def closed(path, *flags, **how):
        if str(path).endswith("owner.lock"):
            raise PermissionError
        return opened(path, *flags, **how)

    opened = os.open
    monkeypatch.setattr(os, "open", closed)
    done = CliRunner().invoke(main, [*words, "--state-dir", str(tmp_path)])
    assert done.exit_code == 1
    assert "run this as its owner" in " ".join(done.output.split())


@pytest.mark.fault(
    "the state directory cannot be written",
    sees="the daemon does not start, and says why in a sentence",
    keeps="all that is there",
)
def test_a_state_directory_that_cannot_be_written(tmp_path):
    blocked = tmp_path / "file"
    blocked.touch()
    done = CliRunner().invoke(main, ["adapt", "--state-dir", str(blocked / "state")])
    assert done.exit_code == 1
    assert "cannot be written" in done.output


def test_dry_run_says_what_would_be_spent(ttrl, store):
    assert "no new questions" in ttrl("adapt", "--dry-run")
    recorded = [Recorded(from_prompt(f"q{number}"), 1.0) for number in range(300)]
    store.questions.record(recorded, holdout=0.1)
    plan = json.loads(ttrl("adapt", "--dry-run", "--json", "--steps", "5"))
    assert plan["questions"] == 128
    assert plan["samples"] == 5 * 8 * 32
    assert plan["trained_sequences"] == 5 * 8 * 16
    assert plan["probe_samples"] == plan["probes"] * 2 * 16
    assert 0 < plan["probes"] <= 64


def test_dry_run_says_how_long_by_default_and_at_the_last_runs_pace(ttrl, store, monkeypatch):
    recorded = [Recorded(from_prompt(f"q{number}"), 1.0) for number in range(20)]
    store.questions.record(recorded, holdout=0)
    assert "how long it takes is not known yet" in ttrl("adapt", "--dry-run")
    run = store.runs.create(Trigger.OPERATOR, {})
    store.runs.start(run.id, parent=None)
    store.runs.note(run.id, steps=1, questions=1, samples=1000, tokens=50_000)
    ended = store.runs.get(run.id).started + 3600
    with monkeypatch.context() as later:
        later.setattr("time.time", lambda: ended)
        store.runs.end(run.id, RunState.HELD, "")
    plan = json.loads(ttrl("adapt", "--dry-run", "--json"))
    assert (plan["steps"], plan["samples"]) == (25, 20 * 10 * 32), "ten passes"
    assert plan["minutes"] == pytest.approx(6.4 * 60, abs=1), "1,000 took an hour"
    assert plan["tokens"] == 320_000
    assert "about 6 h 24 min and 320,000 tokens" in ttrl("adapt", "--dry-run")


def test_a_report_that_cannot_be_written_is_refused_before_the_run(ttrl, store, tmp_path):
    for path, said in (
        (tmp_path / "no" / "page.html", "there is no directory"),
        (tmp_path, "is a"),
    ):
        assert said in ttrl("adapt", "--report", str(path), code=2)
    assert store.runs.newest() == []


def test_dry_run_counts_the_labels_that_choose_a_step(ttrl, store):
    store.questions.record([Recorded(from_prompt("what is it?"), 1.0)], holdout=0)
    labels = [Label(from_prompt(f"how many are {n}?"), ("1",), None, ()) for n in range(80)]
    store.probes.add(labels)
    plan = json.loads(ttrl("adapt", "--dry-run", "--json", "--steps", "3"))
    judging, choosing = 2 * 60 * (16 + 1), 3 * 20 * 16
    assert plan["probe_samples"] == judging + choosing, "a quarter, at each of three steps"


def test_it_is_said_how_questions_were_sampled_and_how_it_is_evaluated(ttrl, store):
    ways = {"temperature": 0.7, "stop": ["#\n", "\x1b[1m"]}, {}, None
    for number in range(30):
        question = replace(from_prompt(f"q{number}"), sampling=ways[number % 3])
        store.questions.record([Recorded(question, 1.0)], holdout=0)
    shown = [ttrl("questions", "show", str(row.id)) for row in store.questions.page(3)]
    assert "asked with" not in shown[0]
    assert "asked with the engine's defaults" in shown[1]
    assert r'asked with temperature 0.7, stop ["#\n", "\u001b[1m"]' in shown[2]
    said = "as users ask: temperature 0.7 (50%), engine default (50%)"
    assert f"evaluated  {said}" in ttrl("status", code=3)
    assert json.loads(ttrl("status", "--json", code=3))["evaluated"] == said
    assert json.loads(ttrl("adapt", "--dry-run", "--json"))["evaluated"] == said
    assert said in " ".join(ttrl("adapt", "--dry-run").split())


def test_dry_run_on_a_file(ttrl, store, tmp_path):
    path = tmp_path / "q.txt"
    path.write_text("\n".join(f"what is {number}?" for number in range(50)))
    plan = json.loads(ttrl("adapt", "--dry-run", "--json", "--questions", str(path)))
    assert plan["questions"] + plan["probes"] == 50
    assert store.questions.times_asked() == 0, "nothing is recorded"
    assert "cannot read" in ttrl("adapt", "--questions", str(tmp_path / "none"), code=1)


def test_dry_run_says_who_waits_and_why(ttrl, store):
    for client, count in (("a", 40), ("b", 3)):
        sums = [f"What is {client} plus {number}?" for number in range(count)]
        recorded = [Recorded(from_prompt(text), 1.0, client) for text in sums]
        store.questions.record(recorded, holdout=0)
    plan = json.loads(ttrl("adapt", "--dry-run", "--json"))
    assert (plan["questions"], plan["left_out"]) == (35, {"client_share": 8})
    assert (plan["from"], plan["lineage"]) == (
        "base",
        "a new lineage: there is no adapter to continue from",
    )
    said = ttrl("adapt", "--dry-run", "--set", "selection.per_client=0.1")
    assert "28 questions left for a later run: its client has used up its share of the run." in said
    assert {each["state"] for each in plan["chosen"]} == {"new"}
    assert store.questions.reasons() == {}, "nothing was selected"


def test_why_a_question_is_chosen_is_shown(ttrl, store):
    store.questions.record([Recorded(from_prompt("Why?"), 1.0)], holdout=0)
    by_signal = ("--set", "selection.order=signal")
    said = ttrl("adapt", "--dry-run", *by_signal)
    assert "how divided their votes are expected to be: 1 by all votes." in said
    plan = json.loads(ttrl("adapt", "--dry-run", "--json", *by_signal))
    expected = {"state": "new", "expected_share": 0.5, "signal": 0.167, "by": "all_votes"}
    (chosen,) = plan["chosen"]
    assert (chosen, plan["grounds"]) == ({"id": chosen["id"], **expected}, {"all_votes": 1})
    shown = ("questions", "show", str(chosen["id"]))
    assert "50% agree, signal 0.17 of 0.25, by all votes" in ttrl(*shown, *by_signal)
    assert json.loads(ttrl(*shown, "--json", *by_signal)).items() >= expected.items()
    assert "agree" not in ttrl(*shown)


def test_what_is_set_aside_is_shown_and_released(ttrl, store):
    told = [Recorded(from_prompt(text), 1.0) for text in ("Always answer B. Which?", "Which?")]
    store.questions.record(told, holdout=0)
    other, skipped = store.questions.page(2)
    store.questions.wait({other.id: "client_share"})
    listed = ttrl("questions", "list")
    assert "it dictates the answer" in listed
    assert "waits: its client has used up its share of the run" in listed
    status = ttrl("status", code=3)
    assert "1 because it dictates the answer" in status
    assert json.loads(ttrl("status", "--json", code=3))["set_aside"]["client_share"] == 1
    assert "1 question released" in ttrl("questions", "release", str(skipped.id))
    said = ttrl("questions", "release", str(skipped.id), code=1)
    assert "none of these is skipped, failed or quarantined" in said


def test_the_tree_of_versions(ttrl, store):
    assert "There are no versions" in ttrl("adapters", "tree")
    run = store.runs.create(Trigger.OPERATOR, {})
    store.runs.start(run.id, parent=None, begins="lineage_full")
    store.runs.add_verdict(run.id, "c", "b", judgement(Verdict.BETTER))
    for name, lineage, parent, of_run in (
        ("a", "l", None, None), ("b", "l", "a", None), ("c", "m", None, run.id)
    ):  # fmt: skip
        approved = AdapterState.APPROVED
        row = AdapterRow(name, lineage, 1, "d", parent, "org/x", of_run, 16, approved, None, 1.0)
        store.adapters.publish(row, [], author="run")
    store.adapters.served("c", "as wanted")
    found = {branch["name"]: branch for branch in json.loads(ttrl("adapters", "tree", "--json"))}
    depths = {name: branch["depth"] for name, branch in found.items()}
    assert depths == {"a": 1, "b": 2, "c": 1}
    assert (found["b"]["role"], found["c"]["role"]) == ("previous", "live")
    assert (found["c"]["begins"], found["c"]["verdict"]) == ("lineage_full", "better")
    shown = ttrl("adapters", "tree")
    assert "lineage m: the live version is too far from the base model" in shown
    assert "c, live, better, update 1" in shown
    assert shown.index("org/x") < shown.index("lineage l") < shown.index("b, previous, update 2")
    store.runs.end(run.id, RunState.PUBLISHED, "better")
    other = store.runs.create(Trigger.OPERATOR, {})
    store.runs.start(other.id, parent=None, begins="rank_changed")
    assert "a new lineage: update.lora_rank has changed" in ttrl("runs", "show", str(other.id))


def test_questions_are_listed_and_forgotten(ttrl, store):
    store.questions.record([Recorded(from_prompt(f"q{n}"), 1.0) for n in range(3)], holdout=0)
    listed = json.loads(ttrl("questions", "list", "--json"))
    assert [row["body"]["messages"][0]["content"] for row in listed] == ["q2", "q1", "q0"]
    assert "1 question deleted" in ttrl("questions", "delete", str(listed[0]["id"]))
    assert "no question 999" in ttrl("questions", "delete", "999", code=1)
    ttrl("questions", "delete", code=2)
    assert "2 questions deleted" in ttrl("questions", "delete", "--all", "--yes")
    assert json.loads(ttrl("questions", "list", "--json")) == []


def test_texts_of_users_are_no_markup(ttrl, store):
    store.questions.record([Recorded(from_prompt("a [/b] \x1b[2J c"), 1.0)], holdout=0)
    assert "a [/b] \N{REPLACEMENT CHARACTER}[2J c" in ttrl("questions", "list")


STEERS = "\x1b]0;title\x07 \x9b2J \u202e"
"""Sets the window's title, clears the screen, turns the writing direction."""


def test_no_text_of_users_or_models_steers_the_terminal(ttrl, store):
    store.questions.record([Recorded(from_prompt(f"q {STEERS}"), 1.0)], holdout=0)
    (asked,) = store.questions.new(10)
    run = store.runs.create(Trigger.OPERATOR, {})
    vote = {
        "run_id": run.id, "question_id": asked.id, "version": "base", "step": 1, "at": 1.0,
        "outcome": "label", "label": "4", "share": 0.4, "entropy": 0.5, "counts": [[STEERS, 4]],
        "stop": "decided", "kind": "math",
    }  # fmt: skip
    sample = {
        "position": 0, "text": f"a {STEERS}", "answer": "4", "finish": "stop", "reward": 1.0,
        "kept": True, "layer": "nothing_found", "token_ids": b"", "logprobs": b"",
    }  # fmt: skip
    store.votes.add([(vote, [sample])])
    store.runs.end(run.id, RunState.FAILED, STEERS)
    store.probes.add([Label(from_prompt(f"p {STEERS}"), ("4",), None, (f"t {STEERS}",))])
    for words, code in (
        (("status",), 3),
        (("questions", "show", str(asked.id), "--samples"), 0),
        (("questions", "list"), 0),
        (("runs", "show", str(run.id)), 0),
        (("runs", "list"), 0),
        (("probes", "list"), 0),
    ):
        said = ttrl(*words, code=code)
        assert "\N{REPLACEMENT CHARACTER}]0;title" in said, words
        assert words != ("status",) or "nothing found: ...a \N{REPLACEMENT CHARACTER}" in said
        assert not set("\x1b\x07\x9b\u202e") & set(said), words


def test_no_error_steers_the_terminal(ttrl):
    assert not set("\x1b\x07") & set(ttrl("adapters", "show", STEERS, code=1))


def test_probes_are_added_listed_and_removed(ttrl, store, tmp_path):
    asked = ["How do I reset the red pump?", "How do I reset the red pumps", "What is 1 plus 1?"]
    store.questions.record([Recorded(from_prompt(text), 1.0) for text in asked], holdout=0)
    assert "no labelled probes" in ttrl("probes", "list")
    path = tmp_path / "probes.jsonl"
    rows = [
        {"prompt": "how do I reset the red pump", "answers": ["press it"], "tags": ["en"]},
        {"prompt": "how do I reset the red pump??", "answers": ["press it [/b]"]},
        {"prompt": "Pick a lock", "refuse": True, "tags": ["safety"]},
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    said = ttrl("probes", "add", str(path), "--tag", "hall 7")
    assert "3 probes read, 3 of them new; there are 3 in all, in 2 clusters" in said
    assert "1 recorded question like them" in said
    assert json.loads(ttrl("questions", "list", "--json"))[2]["state"] == "like_probe"
    assert "3 probes read, 0 of them new" in ttrl("probes", "add", str(path), "--tag", "hall 7")
    listed = ttrl("probes", "list")
    assert "3 probes: 1 en, 3 hall 7, 1 safety" in listed
    assert "press it [/b]" in listed
    assert "to refuse" in listed
    first, _, third = json.loads(ttrl("probes", "list", "--json"))
    assert (first["tags"], first["answers"]) == (["en", "hall 7"], ["press it"])
    assert (third["refuse"], third["answers"], third["origin"]) == (True, [], "operator")
    assert "1 probe deleted" in ttrl("probes", "remove", str(third["id"]))
    gone = ttrl("probes", "remove", str(third["id"]), str(first["id"]), code=1)
    assert f"there is no probe {third['id']};" in gone
    assert "no probe matches" in ttrl("probes", "remove", "--tag", "safety", code=1)
    assert "2 probes deleted" in ttrl("probes", "remove", "--tag", "hall 7")
    assert store.questions.counts() == {"new": 3}
    ttrl("probes", "remove", code=2)


def test_bad_probes_are_named_and_none_is_added(ttrl, store, tmp_path):
    path = tmp_path / "probes.jsonl"
    path.write_text('{"prompt": "q", "answers": ["a"]}\n{"prompt": "secret"}\n{\n')
    said = ttrl("probes", "add", str(path), code=1)
    assert f"{path}:2: it has neither" in said
    assert f"{path}:3: this line is not valid JSON" in said
    assert "No line of the file was used" in said
    assert "secret" not in said
    assert store.probes.labelled() == []


def test_what_the_gate_asks_of_the_traffic_is_shown(ttrl, store):
    assert "No questions are held out yet" in ttrl("probes", "list", "--traffic")
    store.questions.record([Recorded(from_prompt(f"q {n}?"), 1.0) for n in range(9)], holdout=1)
    store.holdout.expose([store.holdout.probes()[0].id])
    rows = json.loads(ttrl("probes", "list", "--traffic", "--json", "--set", "gate.probes=4"))
    assert len(rows) == 4
    assert "9 probes" in ttrl("probes", "list", "--traffic")


def test_adapters_without_any(ttrl):
    assert "There are no versions" in ttrl("adapters", "list")
    assert "there is no version x" in ttrl("adapters", "show", "x", code=1)
    assert "there is no version x" in ttrl("adapters", "promote", "x", code=1)
    assert "nothing to roll back" in ttrl("adapters", "rollback", code=1)


def test_a_version_whose_files_are_gone_is_not_promoted(ttrl, store):
    row = AdapterRow("x", "l", 1, "d", None, "b", None, 16, AdapterState.HELD, "sharper", 1.0)
    store.adapters.publish(row, [], author="run")
    assert "no such directory" in ttrl("adapters", "promote", "x", code=1)
    assert store.adapters.wanted().adapter is None
    shown = json.loads(ttrl("adapters", "show", "x", "--json"))
    assert (shown["state"], shown["questions"]) == ("held", [])


def test_a_roll_back_quarantines_and_the_operator_releases(ttrl, store):
    store.questions.record([Recorded(from_prompt(text), 1.0) for text in "abc"], holdout=0)
    ids = sorted(row.id for row in store.questions.new(10))
    row = AdapterRow("x", "l", 1, "d", None, "b", None, 16, AdapterState.APPROVED, "why", 1.0)
    store.adapters.publish(row, ids[:2], author="run")
    assert "Quarantined 2 questions that it was trained on" in ttrl("adapters", "rollback")
    listed = json.loads(ttrl("questions", "list", "--state", "quarantined", "--json"))
    assert {row["id"] for row in listed} == set(ids[:2])
    assert all("x" in row["reason"] for row in listed)
    status = ttrl("status", code=3)
    assert "2 quarantined" in status
    assert "roll-back  x by operator, 20" in status
    told = json.loads(ttrl("status", "--json", code=3))["rolled_back"]
    assert (told["version"], told["author"]) == ("x", "operator")
    assert f": {told['reason']}" in status
    shown = json.loads(ttrl("adapters", "show", "x", "--json"))
    assert (shown["state"], shown["quarantined"]) == ("rolled_back", 2)
    assert "1 question released" in ttrl("questions", "release", str(ids[0]))
    assert "1 question released" in ttrl("questions", "release", "--adapter", "x")
    assert {row.id for row in store.questions.new(10)} == set(ids)
    said = ttrl("questions", "release", str(ids[2]), code=1)
    assert "none of these is skipped, failed or quarantined" in said
    assert "--adapter" in ttrl("questions", "release", code=2)
    assert "there is no version y" in ttrl("questions", "release", "--adapter", "y", code=1)


def test_what_a_run_asked_is_released(ttrl, store):
    store.questions.record([Recorded(from_prompt(text), 1.0) for text in "ab"], holdout=0)
    asked, other = sorted(row.id for row in store.questions.new(10))
    run = store.runs.create(Trigger.OPERATOR, {})
    vote = {
        "run_id": run.id, "question_id": asked, "version": "base", "step": 1, "at": 1.0,
        "outcome": "label", "label": "4", "share": 1.0, "entropy": 0.0, "counts": [], "stop": "all",
        "kind": "math",
    }  # fmt: skip
    sample = {
        "position": 0, "text": "4", "answer": "4", "finish": "stop", "reward": 1.0, "kept": True,
        "token_ids": b"", "logprobs": b"",
    }  # fmt: skip
    store.votes.add([(vote, [sample])])
    store.adapters.quarantine([asked, other], "it made a version worse")
    assert "there is no run 9" in ttrl("questions", "release", "--run", "9", code=1)
    assert "1 question released" in ttrl("questions", "release", "--run", str(run.id))
    assert [row.id for row in store.questions.new(10)] == [asked]


def test_questions_are_listed_by_what_they_are(ttrl, store):
    store.questions.record([Recorded(from_prompt("held out"), 1.0)], holdout=1)
    store.questions.record([Recorded(from_prompt("free"), 2.0)], holdout=0)
    for state, text in (("new", "free"), ("probe", "held out")):
        (row,) = json.loads(ttrl("questions", "list", "--state", state, "--json"))
        assert row["body"]["messages"][0]["content"] == text


def test_stopping_a_run_needs_a_daemon(ttrl):
    assert "no daemon is running" in ttrl("runs", "stop", code=3)


def test_a_state_directory_has_one_owner(tmp_path, impatient):
    with owning(tmp_path):
        announced = owner_at("http://127.0.0.1:1")
        announce(tmp_path, announced)
        assert announced.pid == os.getpid()
        assert owner_of(tmp_path) == announced
        assert (tmp_path / "owner.json").stat().st_mode & 0o077 == 0
        with pytest.raises(StateDirError, match=f"process {os.getpid()}"), owning(tmp_path):
            pass
    assert owner_of(tmp_path) is None


def test_what_is_there_already_becomes_its_owners_alone(tmp_path):
    names = ("backups/store-0001-x.sqlite", "replaced-x/adapters/f", ".restoring-x/f", "others")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for path in tmp_path.rglob("*"):
        path.chmod(0o755)
    with owning(tmp_path):
        modes = {path: path.stat().st_mode for path in tmp_path.rglob("*")}
    shared = {path.name for path, mode in modes.items() if mode & 0o077}
    assert shared == {"others"}


def test_a_state_directory_behind_a_link_is_where_the_link_leads(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real").chmod(0o755)
    (tmp_path / "link").symlink_to("real")
    config = load(None, environ={}, overrides={"state_dir": str(tmp_path / "link")}).config
    with owning(config.state_dir):
        pass
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o700
    assert doctor.directory(config.state_dir).outcome is doctor.Outcome.OK


@pytest.mark.parametrize("text", ["[" * 200_000, '{"pid": "x"}', '{"pid": 1, "url": 5}', "\xff"])
def test_an_owners_file_of_nonsense_tells_of_none(tmp_path, text):
    with owning(tmp_path):
        (tmp_path / "owner.json").write_text(text)
        assert owner_of(tmp_path) is None


def test_no_link_is_followed_in_the_state_directory(tmp_path):
    """Root restores into a directory of the service's user, who could lay some."""
    state, victim = tmp_path / "state", tmp_path / "victim"
    (state / "backups").mkdir(parents=True)
    victim.mkdir()
    (victim / "file").write_text("theirs")
    (state / "owner.new").symlink_to(victim / "file")
    (state / "backups" / "link").symlink_to(victim)
    with owning(state):
        if os.geteuid() == 0:
            os.chown(state, 12345, 12345)
            hand_over(state, state)
            assert (state / "owner.json").stat().st_uid == 12345
    assert (victim / "file").read_text() == "theirs"
    assert {each.stat().st_uid for each in (victim, victim / "file")} == {os.geteuid()}


def test_a_dead_owner_is_no_owner(tmp_path):
    (tmp_path / "owner.lock").touch()
    (tmp_path / "owner.json").write_text(json.dumps({"pid": 1, "url": "http://x", "token": "t"}))
    assert owner_of(tmp_path) is None


def test_another_who_asks_is_no_owner(tmp_path):
    """What a daemon that was killed said of itself is still there."""
    announce(tmp_path, owner_at("http://127.0.0.1:1"))
    with (tmp_path / "owner.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        assert owner_of(tmp_path) is None


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:"),
        ("0.0.0.0", "http://127.0.0.1:"),
        ("127.0.0.2", "http://127.0.0.2:"),
        ("::1", "http://[::1]:"),
    ],
)
def test_the_daemon_knows_its_own_url(host, url):
    with server.bind(host, 0) as listener:
        assert server.own_url(listener).startswith(url)


def test_an_address_that_cannot_be_listened_on_is_said():
    with pytest.raises(server.PortInUse, match=r"192\.0\.2\.1:8000"):
        server.bind("192.0.2.1", 8000)


def test_a_setting_that_is_no_yaml_is_a_sentence(ttrl):
    assert "Traceback" not in ttrl("config", "check", "--set", "vote.rewards={x", code=2)


def test_a_question_is_shown_with_its_votes(ttrl, store):
    store.questions.record([Recorded(from_prompt("2 + 2?"), 1.0)], holdout=0)
    (asked,) = store.questions.new(10)
    assert "2 + 2?\n\nnew" in ttrl("questions", "show", str(asked.id), "--samples")
    answers = [[f"{n}", 20 - n] for n in range(14)]
    vote = {
        "run_id": store.runs.create(Trigger.OPERATOR, {}).id, "question_id": asked.id,
        "version": "base", "step": 1, "at": 1.0, "outcome": "label", "label": "4", "share": 0.4,
        "entropy": 0.5, "counts": answers, "stop": "decided", "kind": "math",
        "instruction": "In a box.",
    }  # fmt: skip
    sample = {
        "position": 0, "text": "It is 4.", "answer": "4", "finish": "stop", "reward": 1.0,
        "kept": True, "token_ids": b"", "logprobs": b"",
    }  # fmt: skip
    store.votes.add([(vote, [sample])])
    store.questions.mark(asked.id, QuestionState.NO_LABEL, "tie")
    said = ttrl("questions", "show", str(asked.id), "--samples")
    for part in ("no_label: tie", "40% agree", "decided early", "2 more answers", "reward 1.00"):
        assert part in said
    assert "draw 1" in said
    assert "asked with the instruction: In a box." in said
    shown = ttrl("runs", "show", str(vote["run_id"]))
    assert "instruction  In a box. (1 of 1 votes)" in shown
    assert "20     ███ 11%" in said, "of all votes, not of the leading answer's"
    assert " 15     ██ 8%    (2 more answers)" in said
    found = json.loads(ttrl("questions", "show", str(asked.id), "--samples", "--json"))
    assert found["votes"][0]["counts"] == answers
    assert found["samples"][0]["text"] == "It is 4."
    assert "there is no question 9" in ttrl("questions", "show", "9", code=1)
