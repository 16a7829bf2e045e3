"""What commands share: the configuration's options, the store, the running daemon."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import click

from serve.cli.output import Command, Failure, fail, json_option
from serve.state import owner_of, prepare, running
from ttrl.config import Config
from ttrl.config.loading import Resolved, Source, load, override, scalar
from ttrl.questions.question import Question
from ttrl.store import Store
from ttrl.store.database import exists
from ttrl.words import install

Resolve = Callable[[], Resolved]

PATH = click.Path(path_type=Path)
ID = click.IntRange(1, 2**63 - 1)
"""Of a row in the store."""
NOT_RUNNING, NOT_SHIPPED = 3, 4
"""Exit codes: no daemon is running; what was trained did not pass its gate."""
OF_A_RUN = ("vote.", "verify.", "meaning.", "update.", "guard.", "gate.", "selection.")
"""Sections that a run may have otherwise than its daemon."""
OWN_STATE = frozenset({"serve", "restore", "service", "init"})
"""Commands for which another daemon's state directory is never meant."""
SETTLE_SECONDS = 30.0

model_option = click.option(
    "--model", "model__name", help="The base model, if no daemon is running."
)
yes_option = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
limit_option = click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)


def resolve_options(command: Command) -> Command:
    """--config, --state-dir and --set, handed over as `resolve`, which reads the configuration.
    An option or argument of the command that is called section__name is that setting."""

    @click.option("--config", "-c", "config_file", type=PATH, help="A YAML file.")
    @click.option(
        "--state-dir", type=click.Path(path_type=Path, readable=False), help="The state directory."
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
        *, config_file: Path | None, state_dir: Path | None, settings: tuple[str, ...], **rest: Any
    ) -> Any:
        overrides: dict[str, Any] = {}
        for text in settings:
            path, equals, value = text.partition("=")
            if not equals:
                raise click.BadParameter(
                    f"{text!r} is not of the form update.steps=20", param_hint="--set"
                )
            overrides[path.strip()] = scalar(value)
        named = {name.replace("__", "."): rest.pop(name) for name in [*rest] if "__" in name}
        named["state_dir"] = state_dir and str(state_dir)
        overrides |= {path: value for path, value in named.items() if value not in (None, ())}

        def resolve() -> Resolved:
            resolved = load(config_file, overrides=overrides)
            if (elsewhere := _elsewhere(resolved)) is None:
                return resolved
            return load(config_file, overrides={**overrides, "state_dir": str(elsewhere)})

        return command(resolve=resolve, **rest)

    return wrapped


def _elsewhere(resolved: Resolved) -> Path | None:
    """Return the state directory of the only running daemon, if none was named and there is no
    state in the default one. If several run, say which."""
    config, words = resolved.config, click.get_current_context().command_path.split()
    named = "state_dir" in resolved.sources or "STATE_DIRECTORY" in os.environ
    if named or config.store.url or OWN_STATE.intersection(words):
        return None
    found = [] if exists(config.state_dir, None) else running()
    if len(found) > 1:
        listed = ", ".join(map(str, found))
        click.echo(f"Several daemons run; choose one with --state-dir: {listed}", err=True)
    if len(found) != 1:
        return None
    click.echo(f"Using the running daemon's --state-dir {found[0]}.", err=True)
    return found[0]


def config_options(command: Command) -> Command:
    """The same, handed over as `config`."""

    @functools.wraps(command)
    def wrapped(*, resolve: Resolve, **rest: Any) -> Any:
        return command(config=resolve().config, **rest)

    return resolve_options(wrapped)


def standard_options(command: Command) -> Command:
    return json_option(config_options(command))


def require(what: str, extra: str, *modules: str) -> None:
    """End the command if one of an extra's modules is not installed."""
    if missing := [name for name in modules if find_spec(name) is None]:
        lacking = " and ".join(missing)
        fail(f"{what} needs the extra `{extra}` (no {lacking}): {install(extra)}", code=2)


@contextmanager
def open_store(config: Config, *, create: bool = False) -> Iterator[Store]:
    """The configured store; where there is none it is made if it may `create` one, or else the
    command ends."""
    if not create:
        require_state_dir(config)
    prepare(config.state_dir)
    if not create:
        require_store(config)
    with Store.open(config.state_dir, config.store.url) as store:
        yield store


@contextmanager
def look_store(config: Config, *, empty: bool = False) -> Iterator[Store]:
    """The configured store, to be read: nothing is made, migrated or written. Where there is none
    the command ends, or, if it may be `empty`, sees an empty one."""
    with ExitStack() as stack:
        state_dir, url = config.state_dir, config.store.url
        if not empty:
            require_store(config)
        elif not exists(state_dir, url):
            state_dir, url = Path(stack.enter_context(TemporaryDirectory())), None
            Store.open(state_dir).close()
        store = stack.enter_context(Store.look(state_dir, url))
        store.require_current()
        yield store


def require_state_dir(config: Config) -> None:
    if not config.state_dir.is_dir():
        fail(f"there is no state directory {config.state_dir}; is --state-dir right?", code=2)


def require_store(config: Config) -> None:
    require_state_dir(config)
    if not exists(config.state_dir, config.store.url):
        fail(f"there is no ttrl state in {config.state_dir}; is --state-dir right?", code=2)


def redacted(config: Config, questions: Sequence[Question]) -> list[Question]:
    """Of a file, what is recorded of them. Raises RedactionFailed."""
    from ttrl.redaction import Redactor

    if not config.record.entities:
        return list(questions)
    with Redactor(config.record.entities, config.record.redact_model) as redactor:
        return [redactor.question(question) for question in questions]


def ask_daemon(
    config: Config, method: str, path: str, body: Mapping[str, Any] | None = None
) -> dict[str, Any] | None:
    """The running daemon's answer; None when none is running. A refusal ends the command."""
    import httpx2

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
    value: dict[str, Any] = answer.json()
    return value


def no_daemon(config: Config) -> NoReturn:
    others = "".join(f"; one is running on {each}" for each in running())
    fail(f"no daemon is running on {config.state_dir}{others}", code=NOT_RUNNING)


def daemons(config: Config) -> Config | None:
    """What the running daemon on the state directory goes by; None if there is none."""
    settings = ask_daemon(config, "GET", "/admin/config")
    return None if settings is None else Config.model_validate(settings)


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
            sections = ", ".join(f"{section}*" for section in OF_A_RUN)
            fail(
                f"{path} is set by the running daemon and cannot be changed here; a run can only "
                f"override {sections}",
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
        status = ask_daemon(config, "GET", "/admin/status") or {}
        if status.get("answering") == (wanted or "base"):
            click.echo(f"{name} is live.", err=True)
            return True
        time.sleep(0.1)
    raise Failure(f"{name} could not be served: {store.adapters.serving().reason}")
