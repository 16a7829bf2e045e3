"""What commands share: the configuration's options, errors as sentences, JSON, the daemon."""

from __future__ import annotations

import functools
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, ParamSpec, TypeVar

import click
import httpx2
from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy.exc import DBAPIError

from serve.state import Owner, StateDirError, owner_of, prepare
from ttrl.config import Config
from ttrl.lineage import WORDS, Begins
from ttrl.questions import Question
from ttrl.settings import ConfigError, Resolved, Source, load, override, scalar
from ttrl.store import Store, StoreError
from ttrl.store.outage import cause
from ttrl.times import clock

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
        help="Where everything is kept.",
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


def json_option(command: Callable[..., R]) -> Callable[..., R]:
    """--json, as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="One JSON value, for programs.")(
        command
    )


def _parse_setting(text: str) -> tuple[str, Any]:
    path, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(
            f"{text!r} is not written like update.steps=20", param_hint="--set"
        )
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


@contextmanager
def sentences() -> Iterator[None]:
    """Known failures become a sentence and an exit code, without a traceback."""
    from jobs.reading import MeaningRefused
    from serve.keys import KeysUnreadable
    from serve.listening import PortInUse
    from ttrl.adapters import AdapterDamaged
    from ttrl.engine.client import EngineError
    from ttrl.manifest import BackupError
    from ttrl.redaction import RedactionFailed
    from ttrl.store.runs import RunBusy

    known = (
        StateDirError, StoreError, PortInUse, EngineError, ConfigError, RunBusy, AdapterDamaged,
        MeaningRefused, BackupError, KeysUnreadable, RedactionFailed,
    )  # fmt: skip
    try:
        yield
    except known as error:
        fail(str(error))


@contextmanager
def open_store(config: Config, *, create: bool = False) -> Iterator[Store]:
    """The configured store; a state directory that is not there is made, or refused."""
    if not create:
        require_state_dir(config)
    try:
        prepare(config.state_dir)
        with Store.open(config.state_dir, config.store.url) as store:
            yield store
    except DBAPIError as error:
        fail(f"the store cannot be used: {cause(error)}; `ttrl doctor` looks into it")
    except (StateDirError, StoreError) as error:
        fail(str(error))


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
    if sure := evidence.get("certainty"):
        click.echo(f"{'':12} {sure['budget_left']:.1%} of this year's error budget is left")
    for check in evidence["checks"]:
        click.echo(f"{'':12} {check['outcome']:8} {check['words']}")
    for change in evidence["worst"]:
        said = " to ".join(one_line(change[side] or "-").plain for side in ("live", "candidate"))
        right = f"right {change['right_before']:.0%} to {change['right_after']:.0%}"
        asked = one_line(change["text"]).plain
        click.echo(f"{'':12} {'lost':8} {right}: {said} ({asked})")


def _echo_ruling(ruling: Mapping[str, Any]) -> None:
    click.echo(f"{'guard':12} {ruling['action']}, by its rule {ruling['rule']}")
    click.echo(f"{'':12} {ruling['reason']}")
    click.echo(f"{'':12} weights are trusted up to step {ruling['trusted']}")


def owner_here(config: Config) -> Owner | None:
    """Who owns the state directory; one that cannot be looked into ends the command."""
    try:
        return owner_of(config.state_dir)
    except StateDirError as error:
        fail(str(error))


def ask_daemon(
    config: Config, method: str, path: str, body: Mapping[str, Any] | None = None
) -> dict[str, Any] | None:
    """The running daemon's answer; None when none is running. A refusal ends the command."""
    owner = owner_here(config)
    if owner is None or owner.admin is None:
        return None
    try:
        answer = _request(owner, method, path, body)
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
                f"{path} is the running daemon's to say; its runs can have other values of "
                f"{', '.join(section + '*' for section in OF_A_RUN)}",
                code=2,
            )
    return override(config, changes), changes


def settle(config: Config, store: Store, wanted: str | None) -> bool:
    """Tell the daemon, and wait until users get what the store now says; False if none runs."""
    name = wanted or "the base model"
    if ask_daemon(config, "POST", "/admin/reconcile") is None:
        click.echo(f"{name} will serve when a daemon runs.", err=True)
        return False
    deadline = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < deadline:
        found = ask_daemon(config, "GET", "/admin/status") or {}
        if found.get("answering") == (wanted or "base"):
            click.echo(f"{name} is live.", err=True)
            return True
        time.sleep(0.1)
    fail(f"{name} could not be served: {store.adapters.serving().reason}")


def _request(
    owner: Owner, method: str, path: str, body: Mapping[str, Any] | None
) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {owner.token}"}
    with httpx2.Client(headers=headers, timeout=30, trust_env=False) as client:
        return client.request(method, f"{owner.admin}{path}", json=body)
