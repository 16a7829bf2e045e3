"""`ttrl questions purge`, `export` and `import`, as an operator types them."""

from __future__ import annotations

import hashlib
import json
import shutil
import time

import pytest
from click.testing import CliRunner

from serve.cli import main
from serve.state import ASIDE, older_stores
from tests.stores import ask, on_disk, publish, states
from ttrl import backup, datasets
from ttrl.judge import FOLDER
from ttrl.store import Store, migrations
from ttrl.store.adapters import AdapterState
from ttrl.store.database import BACKUPS, FILE
from ttrl.store.questions import Exported, Origin
from ttrl.store.runs import Trigger

KEY = "sk-somebody's"
CLIENT = hashlib.sha256(KEY.encode()).hexdigest()


@pytest.fixture
def ttrl(tmp_path):
    def run(*words, code=0, typed=None):
        done = CliRunner().invoke(main, [*words, "--state-dir", str(tmp_path)], input=typed)
        assert done.exit_code == code, done.output
        return done

    return run


@pytest.fixture
def asked(store):
    """Three questions, one of them asked with the key."""
    ask(store, "What is 1 + 1?", CLIENT)
    ask(store, "My name is  Ada\nLovelace")
    ask(store, "old", days_ago=100)
    return store


@pytest.mark.parametrize(
    ("words", "typed", "gone"),
    [
        (("--key", "-"), f"{KEY}\n", "What is 1 + 1?"),
        (("--key", CLIENT.upper()), None, "What is 1 + 1?"),
        (("--text", "ada lovelace"), None, "My name is  Ada\nLovelace"),
        (("--text", "-"), "Ada Lovelace\n", "My name is  Ada\nLovelace"),
        (("--regex", r"\d \+ \d"), None, "What is 1 + 1?"),
        (("--before", "90d"), None, "old"),
        (("--before", time.strftime("%Y-%m-%d")), None, "old"),
        (("--id", "1"), None, "What is 1 + 1?"),
    ],
)
def test_what_is_meant_can_be_said_in_many_ways(ttrl, asked, words, typed, gone):
    would = json.loads(
        ttrl("questions", "purge", *words, "--dry-run", "--json", typed=typed).stdout
    )
    assert (would["questions"], would["dry_run"]) == (1, True)
    assert len(states(asked)) == 3, "nothing was changed"
    ttrl("questions", "purge", *words, "--yes", typed=typed)
    assert gone not in states(asked)
    assert len(states(asked)) == 2


def test_what_a_judge_was_distilled_from_is_not_kept_in_it(ttrl, asked, tmp_path):
    """Unless nothing is purged."""
    scores = tmp_path / FOLDER / "scores.jsonl"
    weights = tmp_path / FOLDER / "distilled" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    for file in (scores, weights):
        file.touch()
    ttrl("questions", "purge", "--text", "nobody asked this", "--yes", code=1)
    ttrl("questions", "purge", "--id", "1", "--dry-run")
    assert scores.exists()
    assert weights.exists()
    ttrl("questions", "purge", "--id", "1", "--yes")
    assert not (tmp_path / FOLDER).exists()


def test_a_key_in_a_file(ttrl, asked, tmp_path):
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    ttrl("questions", "purge", "--key", str(file), "--yes")
    assert len(states(asked)) == 2
    file.write_text(f'{{"name": "a", "key": "{KEY}"}}')
    assert "the file has more" in ttrl("questions", "purge", "--key", str(file), code=2).stderr


def test_a_key_by_its_name(ttrl, asked, tmp_path):
    file = tmp_path / "keys.yaml"
    words = ("questions", "purge", "--yes", "--set", f"gateway.keys={file}", "--key", "lab")
    assert "name in gateway.keys" in ttrl(*words, code=2).stderr
    file.write_text(f"[{{name: lab, sha256: '{CLIENT}'}}]")
    file.chmod(0o600)
    ttrl(*words)
    assert "What is 1 + 1?" not in states(asked)
    assert len(states(asked)) == 2


@pytest.mark.parametrize(
    "words",
    [
        ("purge", "--regex", ""),
        ("purge", "--regex", "a*"),
        ("purge", "--id", "9" * 30),
        ("purge", "--before", f"{'9' * 15}d"),
        ("show", "9" * 30),
        ("delete", "9" * 30),
        ("list", "--before", "9" * 30),
    ],
)
def test_what_nobody_can_mean(ttrl, asked, words):
    assert "Error: " in ttrl("questions", *words, code=2).stderr
    assert len(states(asked)) == 3


def test_a_purge_by_age_may_find_nothing(ttrl, asked):
    found = json.loads(ttrl("questions", "purge", "--before", "200d", "--yes", "--json").stdout)
    assert (found["questions"], found["dry_run"]) == (0, True)


def test_the_newest_backup_is_named(ttrl, asked, tmp_path):
    file = tmp_path / "there.tar"
    file.touch()
    backup.remember(tmp_path, backup.Newest(1.0, str(file)))
    said = ttrl("questions", "purge", "--text", "Ada", "--yes").stderr
    assert "still contain it" in said
    assert "there.tar" in said.replace("\n", "")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "give one of"),
        (("--id", "1", "--text", "x"), 2, "give one of"),
        (("--key", KEY), 2, "process list"),
        (("--text", " "), 2, "match every question"),
        (("--regex", "("), 2, "not a regular expression"),
        (("--before", "soon"), 2, "give an age"),
        (("--id", "77"), 1, "nothing matches"),
        (("--text", "nobody said this"), 1, "nothing matches"),
    ],
)
def test_what_is_wrong_is_said(ttrl, asked, words, code, said):
    found = ttrl("questions", "purge", *words, "--yes", code=code)
    assert said in found.stderr
    assert KEY not in found.stderr
    assert len(states(asked)) == 3


def test_it_asks_before_and_says_what_goes(ttrl, asked, tmp_path):
    publish(asked, "one", [1])
    (tmp_path / "adapters" / "one").mkdir(parents=True)
    words = ("questions", "purge", "--id", "1")
    assert "versions trained on it: one" in ttrl(*words, code=1, typed="n\n").stderr
    assert asked.adapters.get("one").state is AdapterState.APPROVED
    said = ttrl(*words, typed="y\n").stdout
    assert "1 question" in said
    assert asked.adapters.get("one").state is AdapterState.TAINTED
    assert not (tmp_path / "adapters" / "one").exists()


def test_what_is_exported_is_taken_in_as_it_was(ttrl, asked, tmp_path):
    ask(asked, "What is 1 + 1?", "f" * 64)
    ask(asked, "\ud800 ünd 中文")
    file = tmp_path / "out.jsonl"
    ttrl("questions", "export", str(file), "--keys")
    assert "already exists" in ttrl("questions", "export", str(file), code=1).stderr
    (tmp_path / "other").mkdir()
    with Store.open(tmp_path / "other") as other:
        out = list(asked.questions.export())
        read = datasets.read_exported(file, max_chars=1000, now=time.time())
        assert read == out
        assert out[0].count == 2
        assert out[0].clients == tuple(sorted((CLIENT, "f" * 64)))
        assert other.questions.take_in(read, holdout=0) == 4
        assert list(other.questions.export()) == out
        assert other.questions.take_in(read, holdout=0) == 0
        assert list(other.questions.export()) == out, "once more does no harm"
        assert other.forgetting.asked_by(CLIENT) == [1]
    assert [q.text for q in datasets.read_questions(file, max_chars=1000)] == [
        e.question.text for e in out
    ]


def test_without_keys_and_of_one_state(ttrl, asked, tmp_path):
    file = tmp_path / "out.jsonl"
    ttrl("questions", "export", str(file), "--state", "new")
    assert CLIENT not in file.read_text()
    assert len(file.read_text().splitlines()) == 3
    assert ttrl("questions", "export", "-", "--state", "skipped").stdout == ""
    said = ttrl("questions", "import", str(file)).stdout
    assert "3 questions read, 0 of them new" in said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "not valid JSON"),
        ('{"prompt": "x", "asked": {"count": "many"}}', "export"),
        ('{"prompt": "x", "asked": {"keys": ["me"]}}', "export"),
        ('{"prompt": "x", "asked": 7}', "export"),
        ('{"prompt": "x", "asked": {"last": 1e12}}', "in Unix seconds"),
        ('{"prompt": "x", "asked": {"first": 9, "last": 8}}', "in Unix seconds"),
        ('{"prompt": "x", "asked": {"count": 99999999999999999999}}', "a count"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_taken(ttrl, store, tmp_path, line, said):
    file = tmp_path / "in.jsonl"
    file.write_text(f'{{"prompt": "good"}}\n{line}\n')
    found = ttrl("questions", "import", str(file), code=1).stderr
    assert f"{file}:2" in found.replace("\n", "")
    assert said in found
    assert store.questions.page(1) == []


def test_a_file_of_plain_questions(ttrl, store, tmp_path):
    file = tmp_path / "in.jsonl"
    file.write_text('{"prompt": "good"}\n')
    ttrl("questions", "import", str(file))
    (found,) = store.questions.export()
    assert isinstance(found, Exported)
    assert (found.count, found.origin, found.clients) == (1, Origin.FILE, ())


def test_copies_from_before_upgrades_go_too(ttrl, asked, tmp_path):
    copy = migrations.copy_before(tmp_path / FILE, tmp_path / BACKUPS, "0001", time.time())
    assert b"Ada" in copy.read_bytes()
    assert copy.name in ttrl("questions", "purge", "--text", "Ada", "--yes").stdout
    assert not copy.exists()


def test_what_was_deleted_before_is_purged_from_older_stores(ttrl, asked, tmp_path):
    migrations.copy_before(tmp_path / FILE, tmp_path / BACKUPS, "0001", time.time())
    aside = tmp_path / f"{ASIDE}20260101T000000Z"
    aside.mkdir()
    shutil.copy(next((tmp_path / BACKUPS).iterdir()), aside / FILE)
    run = asked.runs.create(Trigger.OPERATOR, {})
    ttrl("questions", "delete", "2")
    words = ("questions", "purge", "--text", "Ada")
    would = json.loads(ttrl(*words, "--dry-run", "--json").stdout)
    assert (would["questions"], len(would["older_stores"])) == (0, 2)
    assert "Delete all this?" in ttrl(*words, code=1, typed="n\n").stderr
    assert len(older_stores(tmp_path)) == 2, "nothing was changed"
    said = ttrl(*words, "--yes").stdout
    assert "nothing matches" in said
    assert f"{aside.name}/" in said
    assert b"Lovelace" not in on_disk(tmp_path)
    assert "nothing matches" in ttrl(*words, "--yes", code=1).stderr
    assert asked.runs.active().id == run.id, "which learns from nothing of this"
