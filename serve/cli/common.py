"""What commands share: the configuration's options, errors as sentences, JSON, the daemon."""

from __future__ import annotations

import functools
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn, ParamSpec, TypeVar

import click
import httpx2
from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy.exc import DBAPIError

from jobs.selection import WORDS, Begins
from serve import restore
from serve.state import StateDirError, owner_of, prepare
from ttrl.config import Config
from ttrl.config.loading import ConfigError, Resolved, Source, load, override, scalar
from ttrl.config.section import clock
from ttrl.questions.question import Question
from ttrl.store import Store, StoreError
from ttrl.store.database import cause, exists

P = ParamSpec("P")
R = TypeVar("R")

ID = click.IntRange(1, 2**63 - 1)
"""Of a row in the store."""
NOT_RUNNING = 3
OF_A_RUN = ("vote.", "meaning.", "update.", "guard.", "gate.", "selection.")
"""Sections that a run may have otherwise than its daemon."""
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Escapes, other ends of lines, turns of the writing direction, and halves of characters."""
TIMES = frozenset({"created", "started", "finished", "heartbeat"})
SETTLE_SECONDS = 30.0
WIDEST = 10_000
LAST_COLUMN = 20
"""Characters that the last column of a table has at least."""


def config_options(command: Callable[..., R]) -> Callable[..., R]:
    """--config, --state-dir and --set, handed over as one `resolved` configuration."""

    @click.option(
        "--config", "-c", "config_file", type=click.Path(path_type=Path), help="A YAML file."
    )
    @click.option(
        "--state-dir",
        type=click.Path(path_type=Path, readable=False),
        help="The state directory.",
    )
    @click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="PATH=VALUE",
        help="Any setting, such as update.steps=20; `ttrl config show` names them.",
    )
    @functools.wraps(command)
    def wrapped(
        *args: Any,
        config_file: Path | None,
        state_dir: Path | None,
        settings: tuple[str, ...],
        **rest: Any,
    ) -> R:
        overrides = dict(map(_parse_setting, settings))
        if state_dir is not None:
            overrides["state_dir"] = str(state_dir)
        return command(*args, resolve=functools.partial(_resolve, config_file, overrides), **rest)

    return wrapped


def standard_options(command: Callable[..., R]) -> Callable[..., R]:
    """--json and the configuration's options."""
    return json_option(config_options(command))


def json_option(command: Callable[..., R]) -> Callable[..., R]:
    """--json, as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def _parse_setting(text: str) -> tuple[str, Any]:
    path, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} is not of the form update.steps=20", param_hint="--set")
    return path.strip(), scalar(value)


def _resolve(
    file: Path | None, overrides: Mapping[str, Any], more: Mapping[str, Any] | None = None
) -> Resolved:
    given = {key: value for key, value in (more or {}).items() if value is not None}
    try:
        return load(file, overrides={**overrides, **given})
    except ConfigError as error:
        fail(str(error), code=2)


Resolve = Callable[..., Resolved]


class Failure(click.ClickException):
    """A sentence on standard error and an exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(plain(message).plain)  # it may quote a file, a backup or another's answer
        self.exit_code = code  # type: ignore[misc]  # click means it to be set


def fail(message: str, *, code: int = 1) -> NoReturn:
    """End with a sentence and an exit code."""
    raise Failure(message, code)


def known_failures() -> tuple[type[Exception], ...]:
    """What ends a command with its message as a sentence."""
    from jobs.process import MeaningRefused
    from serve.demo import DemoFailed
    from serve.gateway.keys import KeysUnreadable
    from serve.gateway.server import PortInUse
    from ttrl.adapters.versions import AdapterDamaged
    from ttrl.backup import BackupError
    from ttrl.datasets import QuestionsUnreadable
    from ttrl.engine.client import EngineError
    from ttrl.redaction import RedactionFailed
    from ttrl.rewards import RewardUnknown
    from ttrl.store.adapters import AdapterGone
    from ttrl.store.runs import RunBusy

    return (
        StateDirError, StoreError, PortInUse, EngineError, ConfigError, RunBusy, AdapterDamaged,
        AdapterGone, MeaningRefused, BackupError, KeysUnreadable, QuestionsUnreadable,
        RedactionFailed, DemoFailed, RewardUnknown,
    )  # fmt: skip


@contextmanager
def open_store(config: Config, *, create: bool = False) -> Iterator[Store]:
    """The configured store; where there is none it is made, or the command ends."""
    try:
        if not create:
            require_state_dir(config)
        if create or restore.unfinished(config.state_dir):
            prepare(config.state_dir)
        if not create:
            _require_store(config)
        with Store.open(config.state_dir, config.store.url) as store:
            yield store
    except DBAPIError as error:
        fail(f"the store cannot be used: {cause(error)}; see `ttrl doctor`")


@contextmanager
def look_store(config: Config, *, empty: bool = False) -> Iterator[Store]:
    """The configured store, to be read: nothing is made, migrated or written. Where there is none
    the command ends, or, if it may be `empty`, sees an empty one."""
    with ExitStack() as stack:
        state_dir, url = config.state_dir, config.store.url
        if not empty:
            require_state_dir(config)
            _require_store(config)
        elif not exists(state_dir, url):
            state_dir, url = Path(stack.enter_context(TemporaryDirectory())), None
            Store.open(state_dir).close()
        store = stack.enter_context(Store.look(state_dir, url))
        try:
            store.require_current()
            yield store
        except DBAPIError as error:
            fail(f"the store cannot be read: {cause(error)}; see `ttrl doctor`")


def _require_store(config: Config) -> None:
    if not exists(config.state_dir, config.store.url):
        fail(f"there is no ttrl state in {config.state_dir}; is --state-dir right?", code=2)


def require_state_dir(config: Config) -> None:
    """End when there is none."""
    if not config.state_dir.is_dir():
        fail(f"there is no state directory {config.state_dir}; is --state-dir right?", code=2)


def redacted(config: Config, questions: Sequence[Question]) -> list[Question]:
    """Of a file, what is recorded of them; a failure ends the command."""
    from ttrl.redaction import RedactionFailed, Redactor

    record = config.record
    if not record.entities:
        return list(questions)
    try:
        with Redactor(record.entities, record.redact_model) as redactor:
            return [redactor.question(question) for question in questions]
    except RedactionFailed as error:
        fail(f"{error}; nothing was recorded")


def print_json(value: object) -> None:
    """One line of JSON on standard output."""
    click.echo(json.dumps(value, default=str))


def tell(as_json: bool, words: str, **found: object) -> None:
    """What came of a command, in words or for programs."""
    print_json(found) if as_json else click.echo(words)


def plain(text: str) -> Text:
    """Text of users and models for the terminal: no markup, and nothing that steers it."""
    return Text(STEERING.sub("\N{REPLACEMENT CHARACTER}", text))


def say(text: str) -> None:
    """Print text of users and models, whole."""
    click.echo(plain(text).plain)


def one_line(text: str) -> Text:
    """The same in one line, which is cut where a table has no room for it."""
    found = plain(" ".join(text.split()))
    found.no_wrap, found.overflow = True, "ellipsis"
    return found


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> None:
    """Each column as wide as it needs, but for the last, which has the rest of the terminal's line.
    Nothing is cut where there is no terminal."""
    table, console = Table(box=None), Console()
    for heading in headings[:-1]:
        table.add_column(heading, no_wrap=True)
    table.add_column(headings[-1], overflow="ellipsis", min_width=LAST_COLUMN)
    for row in rows:
        table.add_row(*row)
    wanted = Console(width=WIDEST).measure(table)
    console.width = max(console.width, wanted.minimum if console.is_terminal else wanted.maximum)
    console.print(table)


def counted(count: int, what: str) -> str:
    """How many of something there are, in words."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def echo_fields(found: Mapping[str, Any]) -> None:
    """One line a field; times and verdicts as people read them."""
    for name, value in found.items():
        if name in TIMES and value is not None:
            value = clock(value)
        if name == "begins" and value is not None:
            value = f"a new lineage: {WORDS[Begins(value)]}"
        if name == "verdicts":
            for verdict in value:
                _echo_verdict(verdict)
        elif name == "guard" and value is not None:
            _echo_ruling(value)
        else:
            say(f"{name:12} {'-' if value in (None, '') else value}")


def _echo_verdict(verdict: Mapping[str, Any]) -> None:
    evidence = verdict["evidence"]
    click.echo(f"{'verdict':12} {verdict['verdict']}, against {verdict['against']}")
    click.echo(f"{'':12} {evidence['reason']}")
    for check in evidence["checks"]:
        click.echo(f"{'':12} {check['outcome']:8} {check['words']}")
    for change in evidence["worst"]:
        said = " to ".join(one_line(change[side] or "-").plain for side in ("live", "candidate"))
        correct = f"correct {change['right_before']:.0%} to {change['right_after']:.0%}"
        asked = one_line(change["text"]).plain
        click.echo(f"{'':12} {'lost':8} {correct}: {said} ({asked})")


def _echo_ruling(ruling: Mapping[str, Any]) -> None:
    click.echo(f"{'run monitor':12} {ruling['action']}, rule {ruling['rule']}")
    click.echo(f"{'':12} {ruling['reason']}")
    click.echo(f"{'':12} weights are trusted up to step {ruling['trusted']}")


def labels_words(outlook: Mapping[str, Any]) -> str:
    """How far a verdict by labels is away."""
    needed = ", ".join(f"{labels} for {gain} points" for gain, labels in outlook["needed"].items())
    have = counted(outlook["labels"], "labelled probe")
    return f"{have}; about {needed} needed to prove a candidate better"


def ask_daemon(
    config: Config, method: str, path: str, body: Mapping[str, Any] | None = None
) -> dict[str, Any] | None:
    """The running daemon's answer; None when none is running. A refusal ends the command."""
    owner = owner_of(config.state_dir)
    if owner is None or owner.admin is None:
        return None
    headers = {"Authorization": f"Bearer {owner.token}"}
    try:
        with httpx2.Client(headers=headers, timeout=30, trust_env=False) as client:
            answer = client.request(method, f"{owner.admin}{path}", json=body)
    except httpx2.HTTPError as error:
        fail(f"the daemon (process {owner.pid}) does not answer: {error}")
    if answer.is_error:
        fail(answer.json()["error"]["message"])
    found: dict[str, Any] = answer.json()
    return found


def daemons(config: Config) -> Config | None:
    """What the running daemon on the state directory goes by; None if there is none."""
    found = ask_daemon(config, "GET", "/admin/config")
    return None if found is None else Config.model_validate(found)


def run_config(resolved: Resolved) -> tuple[Config, dict[str, Any]]:
    """What a run goes by, and what this command line changes of it: the settings of the daemon on
    the state directory if one is up, else those given here. A change that is not a run's ends the
    command."""
    given = resolved.given(Source.COMMAND_LINE)
    if given.pop("recipe", None):
        given = resolved.given(Source.RECIPE) | given
    changes = {path: value for path, value in given.items() if path.startswith(OF_A_RUN)}
    config = daemons(resolved.config)
    if config is None:
        return resolved.config, changes
    if "vote.rewards" in changes:  # those of a recipe are all there are
        changes["vote.rewards"] = dict.fromkeys(config.vote.rewards, 0.0) | changes["vote.rewards"]
    for path in given.keys() - changes.keys() - {"state_dir"}:
        if override(config, {path: given[path]}) != config:
            fail(
                f"{path} is set by the running daemon and cannot be changed here; a run can only "
                f"override "
                f"{', '.join(section + '*' for section in OF_A_RUN)}",
                code=2,
            )
    return override(config, changes), changes


def settle(config: Config, store: Store, wanted: str | None) -> bool:
    """Tell the daemon, and wait until users get what the store now says; False if none runs."""
    name = wanted or "the base model"
    if ask_daemon(config, "POST", "/admin/reconcile") is None:
        click.echo(f"{name} will serve once a daemon is running.", err=True)
        return False
    deadline = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < deadline:
        found = ask_daemon(config, "GET", "/admin/status") or {}
        if found.get("answering") == (wanted or "base"):
            click.echo(f"{name} is live.", err=True)
            return True
        time.sleep(0.1)
    fail(f"{name} could not be served: {store.adapters.serving().reason}")
