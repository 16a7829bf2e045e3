"""The operator's page: who is let in, what it says, what its buttons do."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from starlette.testclient import TestClient

from serve import admin
from serve.admin import SESSION_SECONDS, Door
from serve.daemon.schedule import PAUSED
from serve.gateway.admission import names
from serve.gateway.shadow import Compared
from serve.html import Facts, progress, sentence, versions
from serve.html import facts as gathered
from serve.views import sides
from tests.pages import KEY, Runs, daemonless, publish
from tests.runs import BARE, QUALITY, RUN
from ttrl.config.loading import ConfigError, load
from ttrl.evaluation.estimates import Estimate, Withheld
from ttrl.evaluation.probes import Judged, Pair, ProbeOrigin, Side
from ttrl.monitoring.live import Stream
from ttrl.questions.question import from_prompt
from ttrl.store.adapters import AdapterRow, AdapterState, RollBack
from ttrl.store.questions import Recorded
from ttrl.store.runs import RunState, Trigger

HOSTILE = "<script>alert(1)</script> & 'so'"


def test_the_door():
    door = Door(KEY)
    assert door.opens(KEY)
    assert not door.opens("another")
    session = door.session(1000.0)
    assert door.admits(session, 1000.0 + SESSION_SECONDS - 1)
    assert not door.admits(session, 1000.0 + SESSION_SECONDS)
    assert not Door("another").admits(session, 1000.0)
    for forged in ("", ".", "9999999999.", "9999999999." + session.split(".")[1], "ä.ö"):
        assert not door.admits(forged, 1000.0)
    assert door.takes(session, door.token(session))
    assert not door.takes(session, door.token("another"))
    assert not door.takes(session, "")


def in_state(state):
    return replace(RUN, state=state)


QUIET = Facts(True, "base", "base", False, None, None, 0, None)
BACK = RollBack("ttrl-1", "live_monitor", "it flips answers", 0.0)
MADE = AdapterRow("ttrl-1", "l", 1, "d", None, "b", 1, 16, AdapterState.APPROVED, "so", 60.0)


GOOD, FAIR, POOR = (
    Estimate(*ends, labels=50, unlabelled=0)
    for ends in ((0.85, 0.75, 0.92), (0.7, 0.6, 0.8), (0.12, 0.05, 0.25))
)


@pytest.mark.parametrize(
    ("facts", "mood", "said"),
    [
        (QUIET, "good", "Serving the base model; no problems."),
        (replace(QUIET, engine_up=False, paused=True), "bad", "no answers"),
        (replace(QUIET, damage="it is damaged"), "bad", "training is off: it is damaged"),
        (replace(QUIET, wanted="a"), "bad", "Users get the base model instead of a."),
        (replace(QUIET, uneasy="flips", paused=True), "busy", "near an alarm (flips)"),
        (replace(QUIET, run=in_state(RunState.JUDGING)), "busy", "run 3 is evaluating its"),
        (replace(QUIET, last=in_state(RunState.FAILED)), "busy", "the last run, 3, failed"),
        (
            replace(QUIET, last=in_state(RunState.REJECTED)), "busy",
            "Serving the base model; the last run, 3, was rejected: sharper.",
        ),
        (replace(QUIET, last=in_state(RunState.NOTHING)), "busy", "to train on: sharper"),
        (replace(QUIET, last=in_state(RunState.HELD)), "busy", "held for the operator: sharper"),
        (replace(QUIET, last=in_state(RunState.PUBLISHED)), "good", "no problems"),
        (
            replace(QUIET, taken_back=BACK), "busy",
            "ttrl-1 was rolled back by the live monitor, 1970-01-01 00:00 UTC: it flips answers.",
        ),
        (
            replace(QUIET, taken_back=BACK, run=in_state(RunState.UPDATING), paused=True),
            "busy", "it flips answers; run 3 is training; training is paused.",
        ),
        (replace(QUIET, answering="a", wanted="a", live=POOR, base=GOOD), "busy", "is worse"),
        (replace(QUIET, answering="a", wanted="a", live=GOOD, base=POOR), "good", "no problems"),
        (replace(QUIET, waiting=4, paused=True), "good", "4 pairs to label"),
        (replace(QUIET, waiting=1), "good", "1 pair to label"),
        (replace(QUIET, paused=True), "good", "training is paused"),
    ],
)  # fmt: skip
def test_the_one_sentence(facts, mood, said):
    found = sentence(facts)
    assert found[0] is mood
    assert said in found[1]


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (QUIET, "There are no versions yet."),
        (
            replace(QUIET, live=POOR, base=POOR, newest=MADE),
            "The base model's accuracy on the labelled probes is 12% (5% to 25%). "
            "The newest version, ttrl-1, was created 1970-01-01 00:01 UTC.",
        ),
        (replace(QUIET, answering="a"), "labelled probes are needed"),
        (
            replace(QUIET, answering="a", live=GOOD, base=POOR),
            "Its accuracy on the labelled probes is 85% (75% to 92%), the base model's "
            "12% (5% to 25%): it is better.",
        ),
        (replace(QUIET, answering="a", live=POOR, base=GOOD), "it is worse."),
        (replace(QUIET, answering="a", live=GOOD, base=FAIR), "not significant"),
    ],
)  # fmt: skip
def test_whether_it_learns_and_is_better(facts, said):
    assert said in progress(facts)


def test_what_the_sentence_rests_on(store):
    """A roll-back while it is recent; of runs the last that ended, unless its version was decided
    on."""

    def now():
        return sentence(
            gathered(store, engine_up=True, answering="base", uneasy=None, damage=None)
        )[1]

    assert "no problems" in now()
    publish(store, "one")
    store.adapters.roll_back(author="operator", reason="I do not like it")
    assert "one was rolled back by the operator, 20" in now()
    held = store.runs.create(Trigger.OPERATOR, {})
    publish(store, "two", AdapterState.HELD, run_id=held.id)
    store.runs.end(held.id, RunState.HELD, "sharper: it agrees", adapter="two")
    assert f"the last run, {held.id}, is held for the operator: sharper" in now()
    store.runs.create(Trigger.OPERATOR, {})
    assert f"the last run, {held.id}, is held" in now(), "another one is under way"
    store.adapters.want("two", author="operator", reason="promoted by hand")
    store.adapters.want(None, author="operator", reason="after all")
    assert "held for" not in now()


@dataclass
class Scene:
    """A page on a store, with stand-ins for what acts."""

    store: Any
    client: TestClient
    runs: Runs
    woken: list[bool] = field(default_factory=list)
    compared: list[Any] = field(default_factory=list)
    """What the live monitor reports, the newest last."""

    def login(self):
        assert self.client.get(f"/login?key={KEY}", follow_redirects=False).status_code == 303

    def push(self, path, page="/", **fields):
        token = re.search(r'name="token" value="(\w+)"', self.client.get(page).text)
        assert token is not None
        return self.client.post(path, data={"token": token[1], **fields}, follow_redirects=False)


@pytest.fixture
def scene(store, tmp_path):
    runs, woken, compared = Runs(store), [], [None]
    with TestClient(daemonless(store, tmp_path, runs, woken, compared)) as client:
        yield Scene(store, client, runs, woken, compared)


SHOWN = ("/", "/questions", "/questions/1", "/runs/1", "/label")
PUSHED = ("/adapt", "/stop", "/pause", "/resume", "/rollback", "/promote", "/label/1")


def test_nobody_is_let_in_without_the_key(scene):
    for path in SHOWN:
        answer = scene.client.get(path, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    for path in PUSHED:
        assert scene.client.post(path, follow_redirects=False).headers["location"] == "/login"
    assert scene.client.post("/login", data={"key": "wrong"}).status_code == 401
    assert scene.store.fact(PAUSED) is None


@pytest.mark.parametrize("path", PUSHED)
def test_other_sites_forms_do_nothing(scene, path):
    scene.login()
    for token in ("", "0" * 64, "ä"):
        assert scene.client.post(path, data={"token": token}).status_code == 403
    assert scene.client.get(path).status_code in (404, 405)
    assert scene.store.fact(PAUSED) is None
    assert scene.store.runs.active() is None


def test_no_row_has_a_number_of_thousands_of_digits(scene, caplog):
    """Python reads no such number; nobody needs to be let in to ask for one."""
    endless = "9" * 5000
    assert scene.client.get(f"/questions/{endless}").status_code == 404
    assert scene.client.get(f"/runs/{endless}").status_code == 404
    assert scene.client.post(f"/label/{endless}").status_code == 404
    scene.login()
    assert scene.client.get(f"/questions?before={endless}").status_code == 200
    assert scene.client.get(f"/label?last={endless}").status_code == 200
    assert "defect" not in caplog.text


def test_another_name_that_points_here_is_refused(scene):
    assert scene.client.get("/", headers={"host": "evil.example"}).status_code == 400


def test_what_browsers_may_do(scene):
    scene.login()
    answer = scene.client.get("/label")
    policy = answer.headers["content-security-policy"]
    nonce = re.search(r"script-src 'nonce-([\w-]+)'", policy)
    assert nonce is not None
    assert answer.text.count(f'nonce="{nonce[1]}"') == answer.text.count("<script") + 1
    assert "default-src 'none'" in policy
    assert answer.headers["cache-control"] == "no-store"
    login = scene.client.get(f"/login?key={KEY}", follow_redirects=False)
    assert {"HttpOnly", "SameSite=strict"} <= set(login.headers["set-cookie"].split("; "))


def test_who_logs_out_is_let_in_no_more(scene):
    scene.login()
    assert "log out" in scene.client.get("/").text
    scene.client.post("/logout")
    answer = scene.client.get("/", follow_redirects=False)
    assert answer.headers["location"] == "/login"
    assert "log out" not in scene.client.get("/login").text


def test_what_users_wrote_is_text(scene):
    scene.store.questions.record([Recorded(from_prompt(HOSTILE), 1.0)], holdout=0)
    run = scene.store.runs.create(Trigger.OPERATOR, {})
    vote = {
        "run_id": run.id, "question_id": 1, "version": "base", "step": 1, "at": 1.0, "kind": "text",
        "outcome": "label", "label": HOSTILE, "share": 1.0, "entropy": 0.0,
        "counts": [[HOSTILE, 2]], "stop": "all",
    }  # fmt: skip
    sample = {
        "position": 0, "text": HOSTILE, "answer": HOSTILE, "finish": "stop", "reward": 1.0,
        "kept": True, "layer": "nothing_found", "token_ids": b"", "logprobs": b"",
    }  # fmt: skip
    scene.store.votes.add([(vote, [sample])])
    scene.login()
    for path in ("/", "/questions", "/questions/1", f"/runs/{run.id}"):
        page = scene.client.get(path).text
        assert HOSTILE not in page
        assert "&lt;script&gt;" in page
    assert "100% agree" in scene.client.get("/questions/1").text


def test_everything_that_there_is_shows(scene):
    run = scene.store.runs.create(Trigger.OPERATOR, {})
    scene.store.runs.end(run.id, RunState.HELD, "sharper: it agrees", adapter="two")
    publish(scene.store, "one")
    publish(scene.store, "two", AdapterState.HELD, parent="one", run_id=run.id)
    scene.store.measurements.add("one", QUALITY)
    scene.store.measurements.add(None, BARE)
    scene.login()
    page = scene.client.get("/").text
    assert "Users get the base model instead of one." in page, "nothing loads it here"
    assert "40% to 70%" in page
    assert "no labels" in page
    assert "not measured" in page, "of the one that is held"
    assert "As of 20" in page
    assert 'http-equiv="refresh"' in page, "an open tab does not stay green"
    assert 'http-equiv="refresh"' not in scene.client.get("/label").text, "somebody types there"
    assert "sharper: it agrees" in page
    assert "sharper: it agrees" in scene.client.get(f"/runs/{run.id}").text
    for missing in ("/runs/99", "/questions/99"):
        assert scene.client.get(missing).status_code == 404


def test_why_a_version_was_taken_back_stands_beside_it(scene):
    publish(scene.store, "one")
    scene.store.adapters.roll_back(author="live_monitor", reason="it flips answers")
    scene.login()
    (row,) = [each for each in scene.client.get("/").text.split("<tr>") if ">rolled back<" in each]
    assert re.search(r"by the live monitor, 20[\d-]+ [\d:]+ UTC: it flips answers", row)


def test_what_the_live_guard_alerts_to_is_shown(scene):
    scene.login()
    assert "no other version to compare with" in scene.client.get("/").text
    words = "answers are otherwise: 25% on average in the last 80 of 90 pairs with one"
    seen = Compared("one", 90, Stream.AGREEMENT, 0.1, [words])
    scene.compared.append(seen)
    shown = scene.client.get("/").text
    assert "90 pairs with one" in shown
    assert f"alert: {words}" in shown
    scene.compared.append(replace(seen, differs=[]))
    assert "alert" not in scene.client.get("/").text


def test_each_version_has_the_same_quantity_and_why_another_is_missing(store):
    measured = replace(QUALITY, right=GOOD, estimate=None, withheld=Withheld.APART, speaking=50)
    store.measurements.add(None, measured)
    publish(store, "old")
    store.measurements.add("old", QUALITY)
    base, old = versions(store)
    assert (base["right"], base["estimate"]) == (GOOD, None)
    assert "agreement differs" in base["withheld"]
    assert (old["right"], old["estimate"]) == (QUALITY.right, QUALITY.estimate)
    assert old["withheld"] == ""


def test_versions_are_below_what_they_go_on_from(store):
    grown = (("a", None), ("b", None), ("a1", "a"), ("a2", "a1"), ("b1", "b"))
    for at, (name, parent) in enumerate(grown):
        publish(store, name, parent=parent, at=float(at))
    assert [(each["name"], each["depth"]) for each in versions(store)] == [
        ("base", 0), ("a", 1), ("a1", 2), ("a2", 3), ("b", 1), ("b1", 2),
    ]  # fmt: skip


def test_pause_and_resume(scene):
    scene.login()
    assert scene.push("/pause").status_code == 303
    assert scene.store.fact(PAUSED) is not None
    assert "Resume training" in scene.client.get("/").text
    scene.push("/resume")
    assert scene.store.fact(PAUSED) is None


def test_a_run_is_started_and_stopped(scene):
    scene.login()
    answer = scene.push("/adapt")
    assert answer.headers["location"] == "/runs/1"
    assert "Stop run 1" in scene.client.get("/").text
    scene.push("/stop")
    assert scene.runs.stopped == 1
    scene.runs.busy = True
    refused = scene.push("/adapt")
    assert refused.status_code == 409
    assert "already in progress" in refused.text


def test_a_run_with_settings_that_hold_no_more_is_refused_with_the_reason(scene, monkeypatch):
    def start(*_: object) -> None:
        raise ConfigError("meaning.references: there is no such file")

    scene.login()
    monkeypatch.setattr(scene.runs, "start", start)
    refused = scene.push("/adapt")
    assert refused.status_code == 409
    assert "there is no such file" in refused.text


def test_roll_back_only_what_was_seen(scene):
    publish(scene.store, "one")
    scene.login()
    assert scene.push("/rollback", version="older").status_code == 409
    assert scene.push("/rollback").status_code == 409
    assert scene.store.adapters.wanted().adapter == "one"
    assert scene.push("/rollback", version="one").status_code == 303
    assert scene.store.adapters.wanted().adapter is None
    assert scene.woken == [True]


def test_promote(scene):
    publish(scene.store, "one")
    publish(scene.store, "two", AdapterState.HELD)
    scene.login()
    assert scene.push("/promote", version="nobody").status_code == 404
    assert scene.push("/promote", version="two").status_code == 409, "its files are not there"
    assert scene.push("/promote", version="base").status_code == 303
    assert scene.store.adapters.wanted().adapter is None


def test_judging_blind(scene):
    store = scene.store
    store.questions.record([Recorded(from_prompt(f"q{n}"), 1.0) for n in range(2)], holdout=1)
    run = store.runs.create(Trigger.OPERATOR, {})
    pairs = [
        Pair(key, ProbeOrigin.RANDOM, Side(f"live {key}", "1"), Side(f"other {key}", "2"))
        for key in (1, 2)
    ]
    store.comparisons.add(run.id, pairs)
    scene.login()
    page = scene.client.get("/label").text
    assert "2 to label" in page
    assert "candidate" not in page.lower()
    newest = store.comparisons.waiting()[0]
    (_, a), (judged_b, _) = sides(newest)
    assert page.index(a.text) < page.index("<h2>B</h2>")
    answer = scene.push(f"/label/{newest.id}", "/label", word="b")
    assert answer.headers["location"] == f"/label?last={newest.id}"
    assert store.comparisons.get(newest.id).judged is judged_b
    assert len(store.probes.labelled()) == 1
    undone = scene.push(f"/label/{newest.id}", answer.headers["location"], word="undo")
    assert undone.status_code == 303
    assert store.comparisons.get(newest.id).judged is None
    scene.push(f"/label/{newest.id}", "/label", word="neither", answer=" 42 ")
    assert store.comparisons.get(newest.id).judged is Judged.NEITHER
    assert store.probes.labelled()[0].accepted == ("42",)
    assert scene.push(f"/label/{newest.id}", "/label", word="perhaps").status_code == 409
    assert scene.push("/label/99", "/label", word="a").status_code == 404
    mistaken = scene.push(f"/label/{newest.id}", "/label", word="a", answer="42")
    assert mistaken.status_code == 409, "what is typed says that neither is right"
    assert store.comparisons.get(newest.id).judged is Judged.NEITHER


def test_what_is_typed_and_sent_by_enter_is_what_is_right(scene):
    """Enter pushes the first button of a form."""
    scene.store.questions.record([Recorded(from_prompt("q"), 1.0)], holdout=1)
    run = scene.store.runs.create(Trigger.OPERATOR, {})
    pair = Pair(1, ProbeOrigin.RANDOM, Side("l", "1"), Side("c", "2"))
    scene.store.comparisons.add(run.id, [pair])
    scene.login()
    page = scene.client.get("/label").text
    (form,) = (each for each in page.split("<form")[1:] if 'name="answer"' in each)
    assert 'name="word" value="neither"' in form
    assert form.count("<button") == 1


def test_the_store_is_away(scene, monkeypatch):
    scene.login()

    def gone(*_, **_more):
        raise OperationalError("SELECT secret", {}, Exception("away"))

    monkeypatch.setattr(scene.store.runs, "newest", gone)
    monkeypatch.setattr(scene.store.questions, "page", gone)
    for path in ("/", "/questions"):
        answer = scene.client.get(path)
        assert answer.status_code == 503
        assert "Users are still served by base" in answer.text
        assert "secret" not in answer.text


@pytest.mark.parametrize(
    "path", ["/questions?before=²", "/questions/99999999999999999999", "/label?last=²"]
)
def test_odd_addresses(scene, path):
    scene.login()
    assert scene.client.get(path).status_code in (200, 404, 503)


def test_too_large_a_form(scene):
    for body in ("&".join(f"{n}=1" for n in range(50)), "key=" + "x" * 100_000):
        headers = {"content-type": "application/x-www-form-urlencoded"}
        assert scene.client.post("/login", content=body, headers=headers).status_code == 200


def test_one_answer_is_judged_alone(scene):
    """Both versions say the same; there is nothing to compare, and still something to know."""
    scene.store.questions.record([Recorded(from_prompt("q"), 1.0)], holdout=1)
    run = scene.store.runs.create(Trigger.OPERATOR, {})
    side = Side("It is 4.", "4")
    scene.store.comparisons.add(run.id, [Pair(1, ProbeOrigin.RANDOM, side, side)])
    scene.login()
    page = scene.client.get("/label").text
    assert "Is this answer correct?" in page
    assert page.count("It is 4.") == 1
    assert 'value="a"' not in page
    scene.push("/label/1", "/label", word="both")
    assert scene.store.probes.labelled()[0].accepted == ("4",)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"admin.host": "0.0.0.0"}, "needs admin.key"),
        ({"admin.host": "example.org"}, "needs admin.key"),
        ({"admin.key": "short"}, "at least 16"),
    ],
)
def test_a_page_for_others_needs_a_key(settings, said):
    with pytest.raises(ConfigError, match=said):
        load(None, environ={}, overrides=settings)
    load(None, environ={}, overrides={"admin.host": "::1"})
    load(None, environ={}, overrides={"admin.host": "0.0.0.0", "admin.port": None})


@pytest.mark.parametrize(
    ("hosts", "asked", "let_in"),
    [
        (("127.0.0.1", "127.0.0.1"), "localhost:8090", True),
        (("127.0.0.1", "127.0.0.1"), "evil.example", False),
        (("::1", "::1"), "[::1]:8090", True),
        (("ttrl.lan", "192.0.2.7"), "192.0.2.7:8090", True),
        (("ttrl.lan", "192.0.2.7"), "TTRL.lan", True),
        (("ttrl.lan", "192.0.2.7"), "www.ttrl.lan", False),
        (("0.0.0.0", "0.0.0.0"), "any.name", True),
    ],
)
def test_under_which_names_operators_are_let_in(hosts, asked, let_in):
    with TestClient(admin.app([], names(*hosts))) as client:
        answer = client.get("/", headers={"host": asked})
    assert answer.status_code == (404 if let_in else 400)
