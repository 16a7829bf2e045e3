"""Who may ask, and how much: keys in a file, through the gateway and by `ttrl keys`."""

from __future__ import annotations

import json
import logging
import math
import os
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from click.testing import CliRunner

from serve.cli import main
from serve.gateway import keys
from serve.gateway.admission import Admission, host_in, names
from serve.gateway.keys import Key, KeyFile, KeysUnreadable, changing, digest_of, read
from serve.gateway.request import Refused, counts_as
from tests.house import House, Tally, asking, house, until
from tests.standin import DEADLINE, Gate, streaming
from ttrl.metrics import Metrics
from ttrl.questions.question import Unlearnable

CHAT = "/v1/chat/completions"


class Clock:
    """Moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def later() -> float:
    """The time of day long after a file was written."""
    return math.inf


def written(path: Path, *entries: dict[str, object]) -> Path:
    path.write_text(yaml.safe_dump(list(entries)))
    path.chmod(0o600)
    return path


def entry(key: str, **more: object) -> dict[str, object]:
    return {"name": key, "sha256": digest_of(key), **more}


@pytest.mark.parametrize("a_minute", [1, 7, 60, 1000])
def test_a_minutes_worth_is_there_and_comes_back(tmp_path: Path, a_minute: int) -> None:
    clock = Clock()
    file = KeyFile(written(tmp_path / "keys.yaml", entry("a", requests_a_minute=a_minute)))
    admission = Admission(file, 10, Tally().metrics.serving, clock)

    def admitted() -> int:
        """How many are let in before one is not."""
        count = 0
        with pytest.raises(Refused) as refused:  # noqa: PT012 - the last of many
            while True:
                with admission.admitted({"x-api-key": "a"}):
                    count += 1
        assert refused.value.headers == {"retry-after": str(math.ceil(60 / a_minute))}
        return count

    assert admitted() == a_minute
    clock.now += 60 / a_minute
    assert admitted() == 1
    clock.now += 9999
    assert admitted() == a_minute


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({}, None),
        ({"authorization": "Bearer a"}, "a"),
        ({"authorization": "bearer  a "}, "a"),
        ({"authorization": "Basic a"}, None),
        ({"authorization": "Bearer"}, None),
        ({"authorization": "a"}, None),
        ({"x-api-key": "a"}, "a"),
        ({"x-api-key": " "}, None),
        ({"api-key": "a"}, "a"),
        ({"x-api-key": "a", "api-key": "b"}, "a"),
        ({"authorization": "Bearer b", "api-key": "a"}, "b"),
        ({"authorization": "Basic b", "x-api-key": "a"}, "a"),
        ({"authorization": "Bearer b", "x-api-key": "a"}, "b"),
        ({"authorization": "Bearer \xe9"}, "\xe9"),
    ],
)
def test_whose_key_it_is(headers: dict[str, str], key: str | None) -> None:
    assert keys.client(headers) == (digest_of(key) if key else None)


BAD_FILES = [
    ("", "not a list of keys"),
    ("just: this", "not a list of keys"),
    ("[", "is not valid YAML"),
    ("- {name: a}", r"0\.sha256: Field required"),
    ("- {name: a, sha256: abc}", r"0\.sha256"),
    ("- {name: 'a b', sha256: " + "0" * 64 + "}", r"0\.name"),
    ("- {name: a, sha256: " + "a" * 64 + ", at_once: 0}", r"0\.at_once"),
    ("- {name: a, sha256: " + "a" * 64 + ", lern: false}", r"0\.lern"),
    ("- &a {name: a, sha256: " + "a" * 64 + "}\n- *a", "duplicate name"),
    (
        "- {name: a, sha256: " + "a" * 64 + "}\n- {name: b, sha256: " + "a" * 64 + "}",
        "duplicate sha256",
    ),
]


@pytest.mark.parametrize(("text", "said"), BAD_FILES)
def test_a_file_that_is_none(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(KeysUnreadable, match=said):
        read(path)


def test_a_file_that_others_may_write_is_none(tmp_path: Path) -> None:
    path = written(tmp_path / "keys.yaml", entry("a"))
    path.chmod(0o620)
    with pytest.raises(KeysUnreadable, match="chmod 600"):
        read(path)


def test_what_is_wrong_never_shows_a_key(tmp_path: Path) -> None:
    path = written(tmp_path / "keys.yaml", {"name": "a", "sha256": "hush", "key": "hush"})
    with pytest.raises(KeysUnreadable) as told:
        read(path)
    assert "hush" not in str(told.value)


def test_a_file_that_could_not_be_read_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the same file when it can be read again."""
    clock, path = Clock(), written(tmp_path / "keys.yaml", entry("a"))
    file = KeyFile(path, clock, later)
    written(path, entry("a"), entry("b"))
    with monkeypatch.context() as patched:

        def fails(*_: object, **__: object) -> str:
            raise OSError(24, "Too many open files")

        patched.setattr(Path, "read_text", fails)
        clock.now += keys.LOOK_SECONDS
        assert not file.ok()
    clock.now += keys.LOOK_SECONDS
    assert file.ok()
    assert file.find(digest_of("b")) is not None


def test_a_file_that_another_changes_is_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "LOCK_SECONDS", 0.1)
    path = written(tmp_path / "keys.yaml", entry("a"))
    with changing(path), ThreadPoolExecutor(1) as other:

        def change() -> None:
            with changing(path):
                raise AssertionError("it is locked")

        with pytest.raises(KeysUnreadable, match="could not be locked"):
            other.submit(change).result()


@pytest.mark.fault(
    "the file of keys is half-written, wrong or gone",
    sees="nothing: the keys before go on to be taken; ttrl_keys_file_ok is 0. A file that is cut "
    "right after an entry, and stays so for a second, is a whole one",
    keeps="the keys before",
)
def test_a_bad_file_keeps_the_keys_that_there_were(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock, metrics = Clock(), Metrics()
    path = written(tmp_path / "keys.yaml", entry("a"), entry("b"))
    file = KeyFile(path, clock, later)
    metrics.host.keys_ok.set_function(file.ok)
    whole = path.read_text()
    for bad in (whole[: len(whole) // 2 + 3], "", None):
        path.unlink() if bad is None else path.write_text(bad)
        caplog.clear()
        for _ in range(3):
            clock.now += keys.LOOK_SECONDS
            assert file.find(digest_of("b")) is not None
            assert b"ttrl_keys_file_ok 0.0" in metrics.text()
        assert [record.levelno for record in caplog.records] == [logging.ERROR], "said once"
        assert digest_of("b") not in caplog.text
    written(path, entry("c"))
    assert file.find(digest_of("c")) is None, "not looked at yet"
    clock.now += keys.LOOK_SECONDS
    assert file.find(digest_of("c")) is not None
    assert file.find(digest_of("b")) is None
    assert b"ttrl_keys_file_ok 1.0" in metrics.text()


@pytest.mark.fault(
    "the file of keys is being written, and what is there by now is whole entries",
    sees="nothing: it is taken once it has been the same for a second",
    keeps="the keys before",
)
def test_a_file_that_is_being_written_is_not_taken(tmp_path: Path) -> None:
    clock, both = Clock(), (entry("a"), entry("b", learn=False))
    path = written(tmp_path / "keys.yaml", *both)
    file = KeyFile(path, clock, wall=lambda: 0.0)

    def looks(until: str) -> bool:
        clock.now += keys.LOOK_SECONDS
        return file.find(digest_of(until)) is not None

    written(path, entry("a"))
    assert looks("b"), "the writer may go on"
    written(path, *both)
    assert looks("b")
    assert looks("b")
    written(path, entry("a"))
    assert looks("b")
    assert not looks("b"), "it was found the same twice"


def test_a_file_that_changed_long_ago_is_taken_at_once(tmp_path: Path) -> None:
    """A key that was removed does not get in because nobody asked meanwhile."""
    clock, path = Clock(), written(tmp_path / "keys.yaml", entry("a"), entry("b"))
    file = KeyFile(path, clock, later)
    written(path, entry("a"))
    clock.now += keys.LOOK_SECONDS
    assert file.find(digest_of("b")) is None


def test_a_file_that_changes_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, path = Clock(), written(tmp_path / "keys.yaml", entry("a"), entry("b"))
    file, read_now = KeyFile(path, clock, later), read

    def cut(path: Path) -> list[Key]:
        monkeypatch.undo()
        written(path, entry("a"))
        found = read_now(path)
        written(path, entry("a"), entry("b"), entry("c"))
        return found

    written(path, *map(entry, "abxy"))
    monkeypatch.setattr(keys, "read", cut)
    clock.now += keys.LOOK_SECONDS
    assert file.find(digest_of("b")) is not None
    clock.now += keys.LOOK_SECONDS
    assert file.find(digest_of("c")) is not None


def test_quotas_outlive_the_file_and_are_each_keys_own(tmp_path: Path) -> None:
    clock, tally = Clock(), Tally()
    path = written(tmp_path / "keys.yaml", entry("a", requests_a_minute=2), entry("b"))
    admission = Admission(KeyFile(path, clock, later), 100, tally.metrics.serving, clock)

    def ask(key: str) -> str | None:
        """Seconds to wait, if turned away."""
        try:
            with admission.admitted({"x-api-key": key}):
                return None
        except Refused as refused:
            return (refused.headers or {})["retry-after"]

    assert [ask("a") for _ in range(4)] == [None, None, "30", "30"]
    assert ask("b") is None
    written(path, entry("a", requests_a_minute=4))
    clock.now += 15
    assert [ask("a"), ask("a")] == [None, "15"]
    assert tally.away == {"rate": 3}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(
        tmp_path_factory.mktemp("keys") / "keys.yaml",
        entry("alice"),
        entry("shy", learn=False),
        entry("busy", at_once=1),
        entry("slow", requests_a_minute=1),
    )


@pytest.fixture(scope="module")
def running(file: Path) -> Iterator[House]:
    with house(keys=KeyFile(file)) as started:
        yield started


@pytest.fixture
def home(running: House) -> House:
    running.clear()
    return running


def ask(home: House, key: str | None, path: str = CHAT) -> httpx2.Response:
    with home.http() as client:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        if path != CHAT:
            return client.get(path, headers=headers)
        return client.post(path, json={"messages": asking()}, headers=headers)


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("127.0.0.1:8000", "127.0.0.1"),
        ("LocalHost", "localhost"),
        ("[::1]:8000", "::1"),
        ("[::1]", "::1"),
        ("evil.example:8000", "evil.example"),
        ("evil.example:x", "evil.example:x"),
        ("", ""),
    ],
)
def test_the_name_in_a_host_header(header: str, name: str) -> None:
    assert host_in(header) == name


@pytest.mark.parametrize("path", [CHAT, "/v1/models"])
def test_without_keys_no_other_sites_name_can_be_made_to_point_here(path: str) -> None:
    with house() as home, home.http() as client:

        def asked(host: str) -> httpx2.Response:
            headers = {"host": host, "origin": f"http://{host}"}
            if path != CHAT:
                return client.get(path, headers=headers)
            return client.post(path, json={"messages": asking()}, headers=headers)

        for ours in ("localhost:1", "127.0.0.1", "[::1]:8000", client.base_url.netloc.decode()):
            assert asked(ours).status_code == 200
        home.clear()
        for theirs in ("evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example"):
            answer = asked(theirs)
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "wrong_host")
        home.settle()
        assert home.engine.received == []
        assert home.texts() == []
        assert home.tally.away == {"wrong_host": 3}


def test_names_that_are_set_are_answered_and_keys_go_before_names(tmp_path: Path) -> None:
    headers = {"host": "Box.lan:80", "x-api-key": "a"}
    file = KeyFile(written(tmp_path / "keys.yaml", entry("a")))
    for admission in (
        Admission(
            None, 100, Tally().metrics.serving, hosts=names("127.0.0.1", "0.0.0.0", "Box.lan")
        ),
        Admission(file, 100, Tally().metrics.serving),
    ):
        with admission.admitted(headers):
            pass
    with pytest.raises(Refused), Admission(None, 100, Tally().metrics.serving).admitted(headers):
        pass


@pytest.mark.parametrize("key", [None, "mallory", "alice2", "ALICE"])
@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/v1/models/demo"])
def test_without_a_right_key_nothing_is_answered(home: House, path: str, key: str | None) -> None:
    answer = ask(home, key, path)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.json()["error"]["type"] == "authentication_error"
    home.settle()
    assert home.engine.received == []
    assert home.tally.away == {"wrong_key" if key else "no_key": 1}


def test_with_one_all_is_as_ever(home: House) -> None:
    assert ask(home, "alice").status_code == 200
    assert ask(home, "alice", "/v1/models").status_code == 200
    with home.http() as client:
        told = {"model": "demo", "messages": asking(), "max_tokens": 1}
        answer = client.post("/v1/messages", json=told, headers={"x-api-key": "alice"})
        assert answer.status_code == 200
    home.settle()
    assert [got.headers["authorization"] for got in home.engine.received] == [
        "Bearer engine-key"
    ] * 2
    assert not any("alice" in str(got.headers) for got in home.engine.received)
    assert [row.client for row in home.stored] == [digest_of("alice")] * 2


def test_whether_we_are_well_needs_no_key(home: House) -> None:
    assert ask(home, None, "/healthz").status_code == 200
    assert ask(home, None, "/readyz").status_code == 200
    assert not home.tally.away


def test_a_key_that_is_not_learned_from(home: House) -> None:
    assert ask(home, "shy").status_code == 200
    assert home.texts() == []
    assert home.tally.skips == {Unlearnable.KEY_OPTED_OUT: 1}


def test_too_many_in_a_minute(home: House) -> None:
    assert ask(home, "slow").status_code == 200
    answer = ask(home, "slow")
    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= 60
    assert answer.json()["error"]["type"] == "rate_limit_error"
    assert ask(home, "alice").status_code == 200, "others are served"
    assert home.tally.away == {"rate": 1}
    home.settle()
    assert home.tally.requests["4xx"] == 1


def test_too_many_at_once(home: House) -> None:
    gate = Gate()
    home.engine.behave = streaming(["one", "two"], [gate])
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, home, "busy")
        assert home.engine.arrived.wait(DEADLINE)
        assert ask(home, "busy").status_code == 429
        gate.open()
        assert first.result().status_code == 200
    home.settle()
    assert ask(home, "busy").status_code == 200
    assert home.tally.away == {"at_once": 1}


@pytest.mark.parametrize(
    ("request_", "count"),
    [
        ({"messages": [{"role": "user"}] * 99}, 1),
        ({"messages": [], "n": 16}, 1),
        ({"prompt": "one"}, 1),
        ({"prompt": list(range(999))}, 1),
        ({"prompt": []}, 1),
        ({"prompt": ["a"] * 16}, 1),
        ({"prompt": ["a"] * 17}, 2),
        ({"prompt": [[1, 2]] * 16, "n": 16}, 16),
        ({"prompt": ["a"] * 300_000, "n": 16}, 300_000),
        ({"prompt": ["a"] * 8, "best_of": 4, "n": 2}, 2),
        ({"input": ["a"] * 160}, 10),
        ({"input": [{"role": "user"}] * 160}, 1),
    ],
)
def test_as_how_many_requests_one_counts(request_: dict[str, Any], count: int) -> None:
    assert counts_as(request_, max_n=16) == count


@pytest.mark.fault(
    "one request has the work of thousands",
    sees="it counts as thousands: 429 or 503 to whoever sent it, nothing to others",
    keeps="everything",
)
@pytest.mark.parametrize(
    ("key", "prompts", "status"),
    [("busy", 16, 200), ("busy", 17, 429), ("alice", 300_000, 503)],
)
def test_many_prompts_count_as_many_requests(home, key, prompts, status) -> None:
    body = {"model": "demo", "prompt": ["a"] * prompts}
    with home.http() as client:
        answer = client.post("/v1/completions", json=body, headers={"x-api-key": key})
    assert answer.status_code == status
    assert len(home.engine.received) == (status == 200)
    assert ask(home, "alice").status_code == 200


@pytest.mark.fault(
    "more requests come than the daemon takes",
    sees="503 with Retry-After at once for those beyond gateway.max_requests; others are served",
    keeps="the requests under way",
)
def test_a_flood_is_shed_and_counted_and_afterwards_all_is_as_before() -> None:
    gate, flood = Gate(), 60
    with house(gateway={"max_requests": 4}) as home, home.http() as client:
        home.engine.behave = streaming(["one", "two"], [gate])

        def one(_: int) -> tuple[int, str | None]:
            answer = ask(home, None)
            if answer.status_code == 503:
                shed.release()
            return answer.status_code, answer.headers.get("retry-after")

        shed = threading.Semaphore(0)
        with ThreadPoolExecutor(flood) as pool:
            asked = [pool.submit(one, number) for number in range(flood)]
            for _ in range(flood - 4):
                assert shed.acquire(timeout=DEADLINE), "they are refused while others wait"
            assert client.get("/healthz").status_code == 200
            gate.open()
            answers = [each.result() for each in asked]
        assert answers.count((200, None)) == 4
        assert answers.count((503, "5")) == flood - 4
        home.settle()
        assert home.tally.away == {"overloaded": flood - 4}
        assert home.tally.requests["5xx"] == flood - 4
        assert ask(home, None).status_code == 200


def ttrl(*words: str, keys: Path | None, code: int = 0) -> str:
    sets = ["--set", f"gateway.keys={keys}"] if keys else []
    done = CliRunner().invoke(main, ["keys", *words, *sets], env={"COLUMNS": "200"})
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.output


def test_the_commands(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    first = ttrl("add", "support", "--requests-a-minute", "600", keys=path).strip()
    second = json.loads(ttrl("add", "nightly", "--no-learn", "--at-once", "4", "--json", keys=path))
    assert path.stat().st_mode & 0o777 == 0o600
    assert first not in path.read_text()
    assert read(path) == [
        Key(name="support", sha256=digest_of(first), requests_a_minute=600),
        Key(name="nightly", sha256=digest_of(second["key"]), learn=False, at_once=4),
    ]
    table = ttrl("list", keys=path)
    assert first not in table
    assert [row["name"] for row in json.loads(ttrl("list", "--json", keys=path))] == [
        "support",
        "nightly",
    ]
    assert "already" in ttrl("add", "support", keys=path, code=1)
    assert "is not a valid name" in ttrl("add", "a b", keys=path, code=2)
    assert "there is no key nobody" in ttrl("remove", "nobody", keys=path, code=1)
    assert json.loads(ttrl("remove", "support", "--json", keys=path))["left"] == 1
    assert "0 keys left" in ttrl("remove", "nightly", keys=path)
    assert "every request is refused" in ttrl("list", keys=path)
    assert "gateway.keys" in ttrl("list", keys=None, code=2)
    assert {each.name for each in tmp_path.iterdir()} <= {"keys.yaml", ".keys.yaml.lock"}


def test_the_file_stays_whose_and_what_it_is(tmp_path: Path) -> None:
    """A link, a file that its group reads, and a file that is gone."""
    path, link = written(tmp_path / "real.yaml", entry("a")), tmp_path / "link.yaml"
    link.symlink_to(path)
    path.chmod(0o640)
    ttrl("add", "b", keys=link)
    assert link.is_symlink()
    assert [key.name for key in read(path)] == ["a", "b"]
    assert path.stat().st_mode & 0o777 == 0o640
    if os.geteuid() == 0:
        os.chown(path, 12345, 12345)
        ttrl("add", "c", keys=path)
        lock = tmp_path / ".real.yaml.lock"
        assert {each.stat().st_uid for each in (path, lock)} == {12345}
    remove = ["keys", "remove", "a", "--set", f"gateway.keys={path}"]
    assert f"purge --key {digest_of('a')}" in CliRunner().invoke(main, remove).output
    path.unlink()
    assert "uses the keys" in ttrl("remove", "b", keys=path, code=1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_root_follows_no_link_of_the_service_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They own the directory, and swap files for links at the worst moment."""
    home, victim = tmp_path / "home", tmp_path / "victim"
    home.mkdir()
    victim.touch()
    os.chown(home, 12345, 12345)

    def swap(file: Path) -> None:
        file.unlink()
        file.symlink_to(victim)

    class Lock(keys.FileLock):  # type: ignore[misc,valid-type]
        def __enter__(self) -> Lock:
            super().__enter__()
            swap(Path(self.lock_file))
            return self

    made = tempfile.mkstemp

    def mkstemp(*words: object) -> tuple[int, str]:
        handle, name = made(*words)  # type: ignore[call-overload]
        swap(Path(name))
        return handle, name

    monkeypatch.setattr(keys, "FileLock", Lock)
    monkeypatch.setattr(tempfile, "mkstemp", mkstemp)
    with changing(home / "keys.yaml"):
        pass
    assert victim.stat().st_uid == 0


def test_a_bad_file_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text("[")
    assert "not valid YAML" in ttrl("add", "a", keys=path, code=2)
    assert path.read_text() == "["


def test_two_who_add_at_once_both_do(tmp_path: Path) -> None:
    path, inside = tmp_path / "keys.yaml", threading.Event()

    def add(name: str) -> None:
        with changing(path) as found:
            inside.set()
            found.append(Key(name=name, sha256=digest_of(name)))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, "abcdefgh"))
    assert sorted(key.name for key in read(path)) == list("abcdefgh")


def test_a_crash_while_writing_leaves_the_file_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "keys.yaml"
    ttrl("add", "a", keys=path)
    before = path.read_bytes()

    def crash(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(KeyboardInterrupt), changing(path) as found:
        found.clear()
    assert path.read_bytes() == before
    monkeypatch.undo()
    ttrl("add", "b", keys=path)
    assert [key.name for key in read(path)] == ["a", "b"]


def test_serve_refuses_a_file_of_keys_that_is_none(tmp_path: Path) -> None:
    words = ["serve", "--model", "some/model", "--state-dir", str(tmp_path)]
    words += ["--set", f"gateway.keys={tmp_path}/none.yaml", "--set", "engine.memory_plan=false"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2
    assert "`ttrl keys add NAME` makes one" in done.output


def test_what_is_under_way_is_counted_once_though_its_client_leaves(home: House) -> None:
    home.engine.behave = streaming(["one", "two"], [Gate()])
    with home.http() as client:
        headers = {"authorization": "Bearer busy"}
        told = {"messages": asking(), "stream": True}
        with client.stream("POST", CHAT, json=told, headers=headers) as answer:
            assert answer.status_code == 200
    until(lambda: not home.tally.under_way, "its end is noticed")
    home.clear()
    assert ask(home, "busy").status_code == 200
