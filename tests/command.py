"""`ttrl` in the tests' own process: to start one takes longer than most commands do."""

from __future__ import annotations

from typing import Any

from click.testing import CliRunner, Result

from serve.cli import main


def ttrl(*words: object, code: int | None = 0, columns: int = 200, **options: Any) -> Result:
    """Run a command on a terminal so wide; a `code` of None stands for any. What is unforeseen is
    raised."""
    env = {"COLUMNS": str(columns)}
    done = CliRunner().invoke(main, [str(word) for word in words], env=env, **options)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert code in (None, done.exit_code), done.output
    return done
