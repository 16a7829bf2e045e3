"""`ttrl questions purge`."""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
import time
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from serve.cli.common import ID, ask_daemon, open_store, settle, standard_options, yes_option
from serve.cli.output import fail, tell
from serve.gateway.keys import KeysUnreadable, read
from serve.state import StateDirError, older_stores, owning
from ttrl.backup import newest
from ttrl.config import Config
from ttrl.config.section import parse_duration
from ttrl.judge import FOLDER
from ttrl.store import Store
from ttrl.store.forgetting import Doomed, Purged
from ttrl.words import counted

SHA256 = re.compile("[0-9a-fA-F]{64}")
NOTHING = "nothing matches: no such question is recorded or was trained on"


@click.command()
@click.option(
    "--id", "ids", type=ID, multiple=True, help="The question with this id; may be repeated."
)
@click.option(
    "--key",
    metavar="NAME|FILE|-|SHA256",
    help="Questions sent with this key: its name in gateway.keys, a file that holds it, - to "
    "type it, or its SHA-256.",
)
@click.option(
    "--text",
    metavar="TEXT|-",
    help="Questions that contain this text, ignoring case; - to type it, hidden from `ps`.",
)
@click.option("--regex", metavar="REGEX|-", help="Questions that match this regular expression.")
@click.option(
    "--before",
    metavar="AGE|DATE",
    help='Questions not asked since: "90d" ago, or 2026-11-01, local time.',
)
@click.option(
    "--keep-serving",
    is_flag=True,
    help="Keep serving a live version that was trained on what is purged until a run replaces it.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be deleted; change nothing.")
@yes_option
@standard_options
def purge(config: Config, keep_serving: bool, dry_run: bool, yes: bool, **by: Any) -> None:
    """Delete questions as if they had never been asked.

    With them go their votes, samples, labels and quoted answers, and every version that learned
    from them or goes on from one that did: it is tainted, serves nobody any more, and its files are
    removed. So are the judge's recorded scores and the distilled judge. The newest other version
    serves, or the base model, and runs may learn again from the rest of what the tainted ones
    learned from. A run under way is stopped. What several clients asked goes when any of them is
    purged. Older stores, from before upgrades and restores, go even if nothing is found: what was
    deleted before may still be in them.

    Exits with 1 when nothing was found and there was no older store.
    """
    given = [(how, what) for how, what in by.items() if what not in (None, ())]
    if len(given) != 1:
        raise click.UsageError("give one of --id, --key, --text, --regex and --before")
    find = _finder(config, *given[0])
    with open_store(config) as store:
        doomed = find(store)
        would = store.forgetting.purge(doomed, keep_serving=keep_serving, dry=True)
        stores = older_stores(config.state_dir)
        names = [f"{path.name}/" if path.is_dir() else path.name for path in stores]
        nothing = not (would.anything or stores)
        if not (dry_run or nothing or yes):
            click.confirm(f"{_words(would, names)}\nDelete all this?", abort=True, err=True)
            doomed = find(store)  # and what came in since
        if not dry_run:  # one that was cut off is finished, also if it left nothing to be found
            if would.run is not None:
                ask_daemon(config, "POST", "/admin/runs/stop")
            if would.anything:  # before the rows, by which the same command would find it again
                shutil.rmtree(config.state_dir / FOLDER, ignore_errors=True)
            would = _purge(config, store, doomed, keep_serving, stores)
        if nothing and by["before"] is None:
            fail(NOTHING)
    unchanged = dry_run or nothing
    done = "Nothing was changed." if unchanged else "Deleted."
    tell(
        f"{_words(would, names)}\n{done}",
        **asdict(would),
        older_stores=names,
        dry_run=unchanged,
    )


def _purge(
    config: Config, store: Store, doomed: Doomed, keep_serving: bool, stores: Sequence[Path]
) -> Purged:
    """The rows first: whatever happens then, nothing serves or learns from them again. Cut off
    anywhere, it goes on when it is asked for once more."""
    before = store.adapters.wanted()
    purged = store.forgetting.purge(doomed, keep_serving=keep_serving)
    whole = store.forgetting.give_back()
    for path in stores:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if store.adapters.wanted() != before:
        settle(config, store, purged.wanted)
    if ask_daemon(config, "POST", "/admin/prune") is None:
        from jobs import prune

        try:
            with owning(config.state_dir):
                prune.remove_files(config, store, frozenset())
        except StateDirError as error:
            fail(f"the questions are purged, but no version's files were removed: {error}")
    if (made := newest(config.state_dir)) and made.file and Path(made.file).exists():
        click.echo(f"Older backups still contain it, such as {made.file}.", err=True)
    if not whole:
        click.echo(
            "Deleted text may remain in the store's write-ahead log until the daemon empties it.",
            err=True,
        )
    root = config.state_dir / "adapters"
    if left := [name for name in purged.adapters if (root / name).exists()]:
        click.echo(
            f"The daemon will remove these once they are unloaded: {', '.join(left)}.", err=True
        )
    return purged


def _finder(config: Config, how: str, given: Any) -> Callable[[Store], Doomed]:
    """What finds it in a store, after all that was typed has been read."""
    if how == "key":
        client = _client(given, config.gateway.keys)
        return lambda store: Doomed(store.forgetting.asked_by(client), client=client)
    if how == "before":
        try:
            at = time.time() - parse_duration(given).total_seconds()
        except ValueError:
            try:
                at = datetime.fromisoformat(given).timestamp()
            except ValueError:
                raise click.BadParameter(
                    'give an age such as "90d" or a date such as 2026-11-01',
                    param_hint="--before",
                ) from None
        return lambda store: Doomed(store.forgetting.asked_before(at))
    if how == "text":
        wanted = _plain(_typed(given, "Text"))
        if not wanted:
            raise click.UsageError("--text must not be empty: it would match every question")
        word = max(re.findall("[a-z0-9]+", wanted), key=len, default="")
        return lambda store: store.forgetting.saying(lambda asked: wanted in _plain(asked), word)
    if how == "regex":
        try:
            pattern = re.compile(_typed(given, "Regular expression"))
        except re.error as error:
            raise click.BadParameter(f"not a regular expression: {error}") from None
        if pattern.search(""):
            raise click.UsageError(
                "--regex must not match the empty text: it would match every question"
            )
        return lambda store: store.forgetting.saying(pattern.search)
    return lambda _: Doomed(given)


def _client(key: str, keys: Path | None) -> str:
    """The hash by which the store knows a client. The key itself is not taken from the command
    line, where everybody on the machine can read it."""
    if SHA256.fullmatch(key):
        return key.lower()
    with suppress(KeysUnreadable):
        for known in read(keys) if keys is not None else []:
            if known.name == key:
                return known.sha256
    if key == "-":
        typed = _typed(key, "Key")
    else:
        try:
            typed = Path(key).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise click.BadParameter(
                "give the key's name in gateway.keys, a file that holds it, - to type it, or its "
                "SHA-256; never the key itself, which others could see in the process list",
                param_hint="--key",
            ) from None
    if len(typed.split()) != 1:
        raise click.BadParameter("a key is one word, but the file has more", param_hint="--key")
    return hashlib.sha256(typed.strip().encode()).hexdigest()


def _typed(given: str, what: str) -> str:
    """What was given, or with - a line of standard input."""
    if given != "-":
        return given
    if sys.stdin.isatty():
        return str(click.prompt(what, hide_input=True, err=True))
    return sys.stdin.readline().rstrip("\n")


def _plain(text: str) -> str:
    """As questions are compared: Unicode form, white space and case do not count."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def _words(purged: Purged, stores: Sequence[str]) -> str:
    found = f"{counted(purged.questions, 'question')}, with votes, samples and labels"
    lines = [found if purged.anything else NOTHING]
    if purged.probes:
        lines.append(counted(purged.probes, "labelled probe"))
    if purged.feedback:
        lines.append(f"{counted(purged.feedback, 'piece')} of feedback, or receipts for it")
    if purged.adapters:
        lines.append(f"versions trained on it: {', '.join(purged.adapters)}")
        lines.append(f"should be live afterwards: {purged.wanted or 'the base model'}")
    if purged.run is not None:
        lines.append(f"run {purged.run}, which may be training on it, is stopped")
    if stores:
        lines.append(f"older stores, which may still contain it: {', '.join(stores)}")
    return "\n".join(lines)
