"""Feedback: what may be said, what it decides, and what is kept of it, in a store and over HTTP."""

from __future__ import annotations

import errno
import json
import random
import time
from contextlib import suppress

import pytest
from click.testing import CliRunner

from jobs import prune
from serve.cli import main
from serve.daemon.housekeeping import Screening
from serve.gateway.keys import KeyFile, digest_of
from tests.house import asking, house
from tests.standin import dying_after, saying
from tests.stores import DAY, both_stores, publish
from ttrl.answers import Reader
from ttrl.config import Config
from ttrl.evaluation.probes import Label, ProbeOrigin
from ttrl.feedback import (
    FEW,
    HOUR_SECONDS,
    VOICES,
    Allowance,
    Correction,
    Given,
    Invalid,
    Receipt,
    State,
    bursts,
    parse,
    receipt_hash,
    screen,
    share,
    voices,
)
from ttrl.questions.question import Unlearnable, from_prompt
from ttrl.redaction import RedactionFailed
from ttrl.store.feedback import Taken
from ttrl.store.forgetting import Doomed
from ttrl.store.questions import QuestionState, Recorded
from ttrl.store.runs import RunState, Trigger

URL = "/v1/feedback"
SUM = "What is 3 plus 4?"


@pytest.mark.parametrize(
    ("fields", "kind", "given"),
    [
        ({"score": True}, "score", Given(1.0)),
        ({"score": False}, "score", Given(0.0)),
        ({"score": 0.25, "metric": "tone"}, "score", Given(0.25, metric="tone")),
        ({"score": 1}, "score", Given(1.0)),
        ({"thumb": "up", "tags": ["a", "b"]}, "thumb", Given(1.0, tags=("a", "b"))),
        ({"thumb": "down", "correction": "7"}, "correction", Given(0.0, "7")),
        ({"comment": "slow", "score": None}, "comment", Given(comment="slow")),
    ],
)
def test_what_may_be_said(fields, kind, given):
    assert parse({"id": "chatcmpl-1", **fields}, max_chars=9) == ("chatcmpl-1", kind, given)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"id": None}, "id"),
        ({"id": 7}, "id"),
        ({"id": "x" * 257}, "id"),
        ({"score": 1.01}, "score"),
        ({"score": -0.1}, "score"),
        ({"score": "1"}, "score"),
        ({"score": [1]}, "score"),
        ({"thumb": "sideways"}, "thumb"),
        ({"thumb": ["up"]}, "thumb"),
        ({"score": 1, "thumb": "up"}, "thumb"),
        ({"correction": "  "}, "correction"),
        ({"correction": "0123456789"}, "correction"),
        ({"correction": 7}, "correction"),
        ({"comment": "x" * 2001}, "comment"),
        ({"metric": "a b"}, "metric"),
        ({"metric": ""}, "metric"),
        ({"tags": "a"}, "tags"),
        ({"tags": ["a"] * 17}, "tags"),
        ({"tags": [""]}, "tags"),
        ({"tags": [1]}, "tags"),
        ({"secret": 1}, "*"),
        ({"thumb": None, "tags": ["a"]}, "score"),
    ],
)
def test_what_may_not(fields, named):
    with pytest.raises(Invalid) as raised:
        parse({"id": "chatcmpl-1", "thumb": None if "score" in fields else "up", **fields},
              max_chars=9)  # fmt: skip
    assert raised.value.field == named
    assert named in str(raised.value)
    assert "secret" not in str(raised.value)


def test_so_much_in_an_hour_and_each_for_itself():
    allowance, now = Allowance(2), 10 * HOUR_SECONDS + 3000
    assert [allowance.wait("a", now) for _ in range(3)] == [0, 0, 600]
    assert allowance.wait(None, now) == 0
    assert allowance.wait("a", now + 600) == 0


def said(*pairs):
    """Corrections by clients with what they say."""
    given = [
        Correction(n, client, f"it is {answer}", n) for n, (client, answer) in enumerate(pairs)
    ]
    return given, [answer for _, answer in pairs]


@pytest.mark.parametrize(
    ("pairs", "agree", "label", "states"),
    [
        ([], 2, None, []),
        ([("a", "7")], 2, None, ["waiting"]),
        ([("a", "7"), ("b", "7")], 2, "7", ["label", "label"]),
        ([("a", "7"), ("b", "7")], 3, None, ["waiting", "waiting"]),
        ([("a", "7"), ("b", "8")], 2, None, ["disputed", "disputed"]),
        ([("a", "7"), ("b", "7"), ("c", "8")], 2, None, ["disputed"] * 3),
        ([("a", "7"), ("b", "7"), ("c", None)], 2, "7", ["label", "label", "unreadable"]),
        ([("a", "7"), ("b", None)], 2, None, ["waiting", "unreadable"]),
        ([(None, "7")], 2, None, ["waiting"]),
        ([(None, "7"), ("a", "7")], 2, None, ["waiting", "waiting"]),
        ([(None, "8"), ("a", "7"), ("b", "7")], 2, None, ["disputed"] * 3),
    ],
)
def test_which_corrections_make_a_label(pairs, agree, label, states):
    given, answers = said(*pairs)
    made, found = screen(given, answers, agree=agree)
    assert made == label
    assert [found[each.id] for each in given] == states
    assert screen(given, answers, agree=agree, closed=State.TRAINED) == (
        None,
        {each.id: State.TRAINED for each in given},
    )


def test_the_newest_of_each_client_counts():
    assert voices([(9, "a"), (8, "b"), (7, "a"), (6, None), (5, None)]) == [9, 8, 6]
    assert voices([(n, f"client {n}") for n in range(99)]) == list(range(VOICES))


QUIET = {(f"user {n}", hour): 1 + n % 3 for n in range(6) for hour in (1, 2, 3)}


@pytest.mark.parametrize(
    ("hours", "found"),
    [
        ({}, set()),
        (QUIET, set()),
        (QUIET | {("eve", 3): 60}, {("eve", 3)}),
        (QUIET | {("eve", 3): FEW}, set()),
        # What she says often makes it no more usual for others to say as much.
        (QUIET | {("eve", n): 60 for n in range(99)} | {("mallory", 3): 60},
         {("mallory", 3)} | {("eve", n) for n in range(99)}),
        # Nothing to compare with: the first hours of the first clients.
        ({("a", 1): 60, ("b", 1): 1}, set()),
        # Alone, and without keys: by its own hours before.
        ({(None, n): 2 + n % 3 for n in range(8)} | {(None, 8): 60}, {(None, 8)}),
        ({(None, n): 2 + n % 3 for n in range(7)} | {(None, 8): 60}, set()),
        ({(None, n): 50 + n for n in range(8)} | {(None, 8): 60}, set()),
        # Where all are busy nobody stands out.
        ({(f"user {n}", 1): 30 + 5 * n for n in range(7)}, set()),
    ],
)  # fmt: skip
def test_what_is_a_burst(hours, found):
    assert bursts(hours) == found


RATES = {
    "steady": lambda rng: (lambda rate: lambda: rate)(rng.uniform(1, 8)),
    "skewed": lambda rng: (lambda rate: lambda: rate)(rng.lognormvariate(1, 1)),
    "bursty": lambda rng: (lambda rate: lambda: rate * rng.expovariate(1))(
        rng.lognormvariate(1, 1)
    ),
}
"""Of a client, what makes its rate in an hour."""


@pytest.mark.parametrize("kind", RATES)
def test_usual_clients_are_no_bursts(kind):
    hours = found = 0
    for seed in range(20):
        rng = random.Random(seed)
        rates = {f"user {n}": RATES[kind](rng) for n in range(20)}
        counts = {}
        for user, rate in rates.items():
            for hour in range(24):
                chance = rate() / 200
                if count := sum(rng.random() < chance for _ in range(200)):
                    counts[user, hour] = min(count, 60)
        hours, found = hours + len(counts), found + len(bursts(counts))
    assert found < hours / 150


@pytest.mark.parametrize(
    ("scores", "value", "low", "high"),
    [
        ([1.0], 1.0, 0.17, 1.0),
        ([1.0] * 50, 1.0, 0.91, 1.0),
        ([1.0, 0.0] * 50, 0.5, 0.40, 0.60),
        ([0.5] * 96, 0.5, 0.48, 0.52),
    ],
)
def test_the_share_of_what_is_good(scores, value, low, high):
    found = share(len(scores), sum(scores), sum(x * x for x in scores), 1)
    assert (found.value, found.low, found.high) == pytest.approx((value, low, high), abs=0.01)


# In the store.


def answered(store, text, client, *, n=0, version=None, days_ago=0.0):
    """An answer that was given to a client; its receipt."""
    name = receipt_hash(f"{text} {n}", client)
    item = Recorded(
        None if text is None else from_prompt(text),
        time.time() - days_ago * DAY,
        client,
        Receipt(name, client, version),
    )
    store.questions.record([item], holdout=0)
    return name


def give(store, text, client, *, n=0, **given):
    return store.feedback.give(answered(store, text, client, n=n), Given(**given), since=0.0)


class Looking:
    """A daemon's core, as far as screening needs it."""

    def __init__(self, store, **settings):
        self.store = store
        self.config = Config.model_validate({"feedback": {"enabled": True, **settings}})


def look(store, **settings):
    Screening(Looking(store, **settings), Reader()).screen()


def labels(store):
    return {p.question.text: (p.accepted, p.origin) for p in store.probes.labelled()}


def states_of(store):
    return {row["correction"]: row["state"] for row in store.feedback.each() if row["correction"]}


@both_stores
def test_feedback_is_kept_once_for_a_metric(store):
    name = answered(store, SUM, "a")
    good, bad = Given(1.0), Given(0.0, comment="no", tags=("x",))
    assert store.feedback.give("nobody's", good, since=0.0) is Taken.UNKNOWN
    assert store.feedback.give(name, good, since=time.time() + 1) is Taken.EXPIRED
    taken = [store.feedback.give(name, each, since=0.0) for each in (good, good, bad, bad)]
    assert taken == [Taken.NEW, Taken.UNCHANGED, Taken.REPLACED, Taken.UNCHANGED]
    assert store.feedback.give(name, Given(1.0, metric="tone"), since=0.0) is Taken.NEW
    rows = list(store.feedback.each())
    assert [(row["metric"], row["score"], row["tags"]) for row in rows] == [
        ("tone", 1.0, []),
        ("default", 0.0, ["x"]),
    ]
    assert store.feedback.shares()[None].value == 0.0, "of the default metric alone"
    assert store.feedback.counts() == {"scored": 2}


@both_stores
def test_corrections_that_agree_make_a_probe_and_dispute_takes_it_back(store):
    give(store, SUM, "a", correction="7")
    look(store)
    assert (labels(store), states_of(store)) == ({}, {"7": "waiting"})
    give(store, SUM, "b", correction="The answer is 7.")
    look(store)
    assert labels(store) == {SUM: (("7",), ProbeOrigin.FEEDBACK)}
    assert set(states_of(store).values()) == {"label"}
    (made,) = [probe.id for probe in store.probes.labelled()]
    give(store, SUM, "c", correction="It is 7")
    look(store)
    assert [probe.id for probe in store.probes.labelled()] == [made], "the same label stays"
    give(store, SUM, "d", correction="8")
    look(store)
    assert labels(store) == {}
    assert set(states_of(store).values()) == {"disputed"}
    # Who takes it back by saying something else gives the label back.
    give(store, SUM, "d", n=1, correction="7.0")
    look(store)
    assert labels(store) == {SUM: (("7",), ProbeOrigin.FEEDBACK)}
    assert states_of(store)["8"] == "older"


@both_stores
def test_a_correction_that_is_taken_back_makes_no_label(store):
    give(store, SUM, "a", correction="7")
    name = answered(store, SUM, "b")
    store.feedback.give(name, Given(correction="7"), since=0.0)
    look(store)
    assert labels(store)
    store.feedback.give(name, Given(0.0), since=0.0)
    assert labels(store) == {}
    look(store)
    assert labels(store) == {}


@both_stores
@pytest.mark.parametrize("state", [QuestionState.LEARNED_FROM, QuestionState.QUARANTINED])
def test_what_was_learned_from_is_no_probe(store, state):
    """Nor what is nearly the same: the gate would ask what was trained on."""
    for client in "ab":
        give(store, SUM, client, correction="7")
    give(store, "What is  3 plus 4 ?!", "c", correction="7")
    store.questions.mark(1, state)
    look(store)
    assert labels(store) == {}
    assert set(states_of(store).values()) == {"trained"}


@both_stores
def test_what_an_adapter_learned_from_is_no_probe(store):
    for client in "ab":
        give(store, SUM, client, correction="7")
    publish(store, "one", [1])
    look(store)
    assert labels(store) == {}


def test_nothing_becomes_a_probe_while_a_run_may_be_learning_from_it(store):
    for client in "ab":
        give(store, SUM, client, correction="7")
    question, corrections = store.feedback.about(from_prompt(SUM).hash)
    run = store.runs.create(Trigger.OPERATOR, {})
    look(store)
    store.feedback.settle(question, corrections, ["7", "7"], agree=2)
    assert (labels(store), states_of(store)) == ({}, {"7": "new"})
    store.runs.end(run.id, RunState.NOTHING, "")
    look(store)
    assert labels(store) == {SUM: (("7",), ProbeOrigin.FEEDBACK)}


def test_the_operators_label_stays(store):
    store.probes.add([Label(from_prompt(SUM), ("8",), None, ())])
    for client in "ab":
        give(store, SUM, client, correction="7")
    look(store)
    assert labels(store) == {SUM: (("8",), ProbeOrigin.OPERATOR)}
    assert set(states_of(store).values()) == {"labelled"}


def test_a_question_that_dictates_its_answer_gets_no_label(store):
    text = "Always answer 9. What is 3 plus 4?"
    for client in "ab":
        give(store, text, client, correction="9")
    assert store.questions.counts() == {"skipped": 1}
    look(store)
    assert labels(store) == {}


@both_stores
def test_a_flood_from_one_key_changes_no_label_and_no_score(store):
    """She corrects each question that she asked, scores each answer, and disputes a label."""
    for user in "abcdef":
        for n in range(3):
            give(store, f"What is {n} plus 1?", f"user {user}", n=n, score=1.0)
    for client in ("user a", "user b"):
        give(store, SUM, client, n=9, correction="7")
    look(store)
    before = labels(store), store.feedback.shares()
    for n in range(50):
        text = SUM if n == 25 else f"What is {n} plus 100?"
        give(store, text, "eve", score=0.0, correction=f"{n}")
    look(store)
    assert (labels(store), store.feedback.shares()) == before
    assert store.feedback.counts()["burst"] == 50
    assert before[0] == {SUM: (("7",), ProbeOrigin.FEEDBACK)}


@both_stores
def test_a_label_goes_when_its_keys_turn_out_to_be_a_burst(store):
    for user in "abcdef":
        give(store, "What is 1 plus 1?", f"user {user}", score=1.0)
    for client in ("eve", "mallory"):
        give(store, SUM, client, correction="9")
    look(store)
    assert labels(store) == {SUM: (("9",), ProbeOrigin.FEEDBACK)}, "two keys in concert"
    for client in ("eve", "mallory"):
        for n in range(30):
            give(store, f"What is {n} plus 100?", client, correction="9")
    look(store)
    assert labels(store) == {}


@both_stores
def test_a_flood_without_keys_makes_suggestions_alone(store):
    for n in range(30):
        give(store, SUM, None, n=n, correction="9")
    look(store)
    assert labels(store) == {}
    assert store.feedback.counts() == {"older": 29, "waiting": 1}


@both_stores
def test_an_id_that_was_chosen_for_two_questions_corrects_neither(store):
    give(store, SUM, "a", correction="7")
    name = answered(store, SUM, "b")
    for text in (SUM, "What is 1 plus 1?", "What is 1 plus 1?"):
        receipt = Receipt(name, "b", None)
        store.questions.record([Recorded(from_prompt(text), 1.0, "b", receipt)], holdout=0)
    store.feedback.give(name, Given(correction="7"), since=0.0)
    look(store)
    assert labels(store) == {}
    assert store.feedback.counts() == {"no_question": 1, "waiting": 1}


@both_stores
def test_purging_takes_receipts_feedback_and_labels(store):
    for client in "ab":
        give(store, SUM, client, correction="7")
    give(store, "What is 1 plus 1?", "a", comment="Ada said so")
    answered(store, None, "c")
    look(store)
    doomed = store.forgetting.saying(lambda text: "Ada" in text, "Ada")
    assert (len(doomed.feedback), list(doomed.questions)) == (1, [])
    assert store.forgetting.purge(doomed).feedback == 1
    assert store.forgetting.purge(Doomed(client="c")).feedback == 1
    doomed = Doomed(store.forgetting.asked_by("b"), client="b")
    assert store.forgetting.purge(doomed).probes == 1
    assert (labels(store), store.feedback.counts()) == ({}, {})
    left = [answered(store, "x", None), answered(store, None, None)]
    store.forgetting.purge(Doomed([]))
    assert [store.feedback.give(n, Given(1.0), since=0.0) for n in left] == [Taken.NEW] * 2


@both_stores
def test_deleting_a_question_takes_its_feedback(store):
    give(store, SUM, "a", correction="7")
    store.forgetting.delete([1])
    assert store.feedback.counts() == {}


@both_stores
def test_old_receipts_go_and_what_a_label_rests_on_stays(store, tmp_path):
    config = Config.model_validate(
        {"state_dir": tmp_path, "feedback": {"answers": 5}, "keep": {"questions_for": "30d"}}
    )
    ages = {"new": 0, "expired": 8, "old": 15, "scored": 31, "a": 31, "b": 31}
    names = {}
    for who, days in ages.items():
        text = SUM if who in "ab" else f"What is {days} plus 1?"
        names[who] = answered(store, text, who, days_ago=days)
    for who in ("a", "b"):
        store.feedback.give(names[who], Given(correction="7"), since=0.0)
    store.feedback.give(names["scored"], Given(1.0), since=0.0)
    look(store)
    prune.run(config, store)
    week = time.time() - 7 * DAY
    found = {who: store.feedback.give(n, Given(0.5), since=week) for who, n in names.items()}
    assert found == {
        "new": Taken.NEW,
        "expired": Taken.EXPIRED,
        "old": Taken.UNKNOWN,
        "scored": Taken.UNKNOWN,
        "a": Taken.EXPIRED,
        "b": Taken.EXPIRED,
    }
    for n in range(9):
        answered(store, None, f"more {n}")
    assert store.feedback.expire(unused=0.0, used=None, most=5) == 5
    assert labels(store) == {SUM: (("7",), ProbeOrigin.FEEDBACK)}


# Over HTTP.


@pytest.fixture
def keys(tmp_path):
    entries = [{"name": name, "sha256": digest_of(name)} for name in ("key", "other")]
    entries.append({"name": "shy", "sha256": digest_of("shy"), "learn": False})
    path = tmp_path / "keys.yaml"
    path.write_text(json.dumps(entries))
    path.chmod(0o600)
    return KeyFile(path, wall=lambda: float("inf"))


@pytest.fixture
def home(store, keys):
    with house(store=store, keys=keys, feedback={"per_hour": 40}) as started:
        yield started


def say(home, body, key="key"):
    with home.http() as http:
        return http.post(URL, json=body, headers={"Authorization": f"Bearer {key}"})


def outcomes(home):
    family = next(iter(home.tally.metrics.recording.feedback.collect()))
    return {(s.labels["kind"], s.labels["outcome"]): s.value for s in family.samples}


def test_feedback_on_an_answer_by_the_client_that_got_it(home, store, openai):
    with home.client() as client:
        answer = client.chat.completions.create(model="demo", messages=asking(SUM), seed=1)
        pieces = list(
            client.chat.completions.create(model="demo", messages=asking(SUM), seed=2, stream=True)
        )
        ids = [answer.id, pieces[0].id]
        for each in ids:
            said = client.post(URL.removeprefix("/v1"), body={"id": each, "thumb": "up"},
                               cast_to=dict)  # fmt: skip
            assert said == {"object": "feedback", "id": each, "status": "new"}
    assert say(home, {"id": ids[0], "thumb": "up"}).json()["status"] == "unchanged"
    assert say(home, {"id": ids[0], "score": 0.5}).json()["status"] == "replaced"
    for key, answer_id in (("other", ids[0]), ("key", "chatcmpl-9")):
        refused = say(home, {"id": answer_id, "thumb": "down"}, key)
        assert (refused.status_code, refused.json()["error"]["param"]) == (404, "id")
    assert say(home, {"id": ids[0], "thumb": "up"}, "nobody's").status_code == 401
    assert store.feedback.shares()[None].answers == 2
    assert store.feedback.shares()[None].value == 0.75
    assert outcomes(home) == {
        ("thumb", "new"): 2, ("thumb", "unchanged"): 1, ("score", "replaced"): 1,
        ("thumb", "unknown"): 2, ("unknown", "refused"): 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("route", "said", "media_type"),
    [
        ("messages", '{"id":"id-7","type":"message"}', "application/json"),
        ("messages", 'event: message_start\n'
         'data: {"type":"message_start","message":{"id":"id-7"}}\n\n', "text/event-stream"),
        ("responses", '{"id":"id-7","object":"response"}', "application/json"),
        ("responses", 'event: response.created\ndata: {"response":{"id":"id-7"}}\n\n',
         "text/event-stream"),
    ],
)  # fmt: skip
def test_an_answer_of_another_protocol_has_a_receipt(home, store, route, said, media_type):
    home.engine.behave = saying(200, said.encode(), media_type)
    asked = {"messages": asking(SUM), "input": SUM, "max_tokens": 5}
    with home.http() as http:
        http.post(f"/v1/{route}", json=asked, headers={"Authorization": "Bearer key"})
    assert say(home, {"id": "id-7", "correction": "4"}).json()["status"] == "new"
    assert store.feedback.counts() == {"new": 1}


def test_a_bad_value_names_its_field_and_nothing_of_it(home):
    refused = say(home, {"id": "chatcmpl-1", "score": 2, "comment": "a secret"})
    assert refused.status_code == 422
    assert refused.json()["error"]["param"] == "score"
    assert "from 0 to 1" in refused.json()["error"]["message"]
    assert "secret" not in refused.text


def test_an_answer_of_long_ago(home, store):
    with home.client() as client:
        answer = client.chat.completions.create(model="demo", messages=asking(SUM))
    home.settle()
    with store.write() as connection:
        connection.exec_driver_sql(f"update answers set at = {time.time() - 8 * DAY}")
    refused = say(home, {"id": answer.id, "thumb": "up"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (410, "expired_answer")


def test_so_much_of_one_key_in_an_hour(home):
    codes = [say(home, {"id": "x", "thumb": "up"}).status_code for _ in range(41)]
    # An hour may end meanwhile.
    assert codes.count(404) >= 40
    assert set(codes) <= {404, 429}
    if 429 in codes:
        assert 0 < int(say(home, {"id": "x", "thumb": "up"}).headers["retry-after"]) <= 3600
        assert say(home, {"id": "x", "thumb": "up"}, "other").status_code == 404


@pytest.mark.parametrize(
    ("key", "headers"), [("shy", {}), ("key", {"X-TTRL-No-Learn": "1"})], ids=["key", "header"]
)
def test_nothing_is_kept_of_who_does_not_want_it(home, key, headers):
    headers = {"Authorization": f"Bearer {key}", **headers}
    with home.http() as http:
        body = {"model": "demo", "messages": asking(SUM)}
        answer = http.post("/v1/chat/completions", json=body, headers=headers).json()["id"]
        text = {"model": "demo", "prompt": "x", "seed": 5}
        other = http.post("/v1/completions", json=text, headers=headers).json()["id"]
    assert [
        say(home, {"id": each, "thumb": "up"}, key).status_code for each in (answer, other)
    ] == [
        404,
        404,
    ]


def test_an_answer_without_a_question_has_a_receipt(home, store):
    with home.http() as http:
        text = {"model": "demo", "prompt": "x", "seed": 5}
        headers = {"Authorization": "Bearer key"}
        answer = http.post("/v1/completions", json=text, headers=headers).json()["id"]
    assert say(home, {"id": answer, "correction": "y"}).json()["status"] == "new"
    assert store.feedback.counts() == {"no_question": 1}
    assert home.tally.skips == {Unlearnable.NOT_CHAT: 1}
    assert home.tally.written == 0


def test_a_stream_that_was_cut_has_no_receipt(home):
    home.engine.behave = dying_after(["4"])
    with home.client() as client, suppress(Exception):
        list(client.chat.completions.create(model="demo", messages=asking(SUM), stream=True))
    assert say(home, {"id": "chatcmpl-1", "thumb": "up"}).status_code == 404


def test_what_is_said_is_redacted_or_not_kept(store):
    def redact(texts):
        if "cannot" in texts:
            raise RedactionFailed("a text could not be redacted")
        return [text.replace("Ada", "<PERSON>") for text in texts]

    with house(store=store, redact=redact) as home:
        with home.client() as client:
            answer = client.chat.completions.create(model="demo", messages=asking(SUM)).id
        assert say(home, {"id": answer, "comment": "Ada", "tags": ["Ada"]}).status_code == 200
        assert say(home, {"id": answer, "comment": "cannot"}).status_code == 422
    (row,) = store.feedback.each()
    assert (row["comment"], row["tags"], row["correction"]) == ("<PERSON>", ["<PERSON>"], None)


def test_a_store_that_fails_is_said_to_and_answers_go_on(home, store, monkeypatch):
    def locked(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store.feedback, "give", locked)
    refused = say(home, {"id": "chatcmpl-1", "thumb": "up"})
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    with home.client() as client:
        assert client.chat.completions.create(model="demo", messages=asking(SUM)).id


def test_feedback_needs_recording():
    with pytest.raises(ValueError, match="needs record"):
        Config.model_validate({"feedback": {"enabled": True}, "record": {"enabled": False}})


def test_without_a_setting_there_is_no_such_route():
    with house() as home, home.http() as http:
        assert http.post(URL, json={"id": "x", "thumb": "up"}).status_code == 404
        http.post("/v1/chat/completions", json={"model": "demo", "messages": asking(SUM)})
        home.settle()
        assert [each.receipt for each in home.stored] == [None]


def test_without_keys_everybody_is_one(store):
    with house(store=store) as home:
        with home.client() as client:
            answer = client.chat.completions.create(model="demo", messages=asking(SUM))
        assert say(home, {"id": answer.id, "correction": "7"}, "another").status_code == 200
    look(store)
    assert states_of(store) == {"7": "waiting"}


# On the command line.


def test_the_operator_lists_exports_and_accepts(store, tmp_path):
    give(store, SUM, "a" * 64, correction="Surely it is 7.", comment="\x1b[2J")
    give(store, "What is 1 plus 1?", "b" * 64, score=1.0)
    look(store)

    def run(*words, code=0):
        found = CliRunner().invoke(main, [*words, "--state-dir", str(tmp_path)])
        assert found.exit_code == code, found.output
        return found.output

    listed = run("feedback", "list")
    assert "Surely it is 7." in listed
    assert "aaaaaaaa" in listed
    (row,) = json.loads(run("feedback", "list", "--state", "waiting", "--json"))
    assert (row["question"], row["comment"]) == (SUM, "\x1b[2J")
    run("feedback", "export", str(tmp_path / "out.jsonl"))
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(each["score"], each["client"]) for each in lines] == [(1.0, None), (None, None)]
    assert "score 100%" in run("status", code=3)
    assert run("probes", "accept", str(row["id"])) == "The label is 7.\n"
    assert labels(store) == {SUM: (("7",), ProbeOrigin.OPERATOR)}
    run("probes", "accept", "99", code=1)
    store.questions.mark(1, QuestionState.LEARNED_FROM)
    assert "trained on" in run("probes", "accept", str(row["id"]), code=1)
