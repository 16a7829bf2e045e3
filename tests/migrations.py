"""A store with a row in every table, and migrations with one more revision than this ttrl has."""

from __future__ import annotations

import shutil
from pathlib import Path

import sqlalchemy as sa

from ttrl.store import migrations
from ttrl.store.database import Database

BODY = '{"messages": [{"role": "user", "content": "What is 1 + 1?"}]}'
ROWS = {
    "facts": {"name": "mine", "value": "yes"},
    "questions": {
        "id": 1, "hash": "h", "cluster": "c", "body": BODY, "count": 3, "first_seen": 1.0,
        "last_seen": 2.0, "client": "k", "shared": False, "origin": "traffic", "probe": False,
        "state": "new", "exposures": 0, "sampling": '{"temperature": 0.7}',
    },
    "runs": {
        "id": 7, "trigger": "operator", "state": "published", "created": 1.0, "request": "{}",
        "adapter": "ttrl-a-1-d", "steps": 1, "questions": 1, "samples": 1, "tokens": 1,
    },
    "votes": {
        "id": 1, "run_id": 7, "question_id": 1, "version": "base", "step": 1, "at": 1.0,
        "kind": "math", "outcome": "label", "label": "7", "share": 1.0, "entropy": 0.0,
        "counts": "[]", "stop": "all",
    },
    "samples": {
        "id": 1, "vote_id": 1, "position": 0, "text": "so 7", "answer": "7", "finish": "stop",
        "reward": 1.0, "kept": True, "token_ids": b"\0\0\0\0", "logprobs": b"\0\0\0\0",
    },
    "probes": {
        "id": 1, "hash": "p", "body": BODY, "answers": '["2"]', "rejected": "[]", "tags": "[]",
        "cluster": "c",
        "origin": "operator", "added": 1.0, "exposures": 0,
    },
    "comparisons": {
        "id": 1, "run_id": 7, "question_id": 1, "round": 0, "origin": "random",
        "text_live": "1", "label_live": "1", "text_candidate": "2",
        "label_candidate": "2", "at": 1.0,
    },
    "answers": {"hash": "a", "question": "h", "client": "k", "at": 2.0},
    "feedback": {
        "id": 1, "answer": "a", "metric": "default", "score": 1.0, "tags": "[]", "at": 3.0,
        "state": "scored",
    },
    "adapters": {
        "name": "ttrl-a-1-d", "lineage": "a", "number": 1, "digest": "d", "base_model": "base",
        "run_id": 7, "rank": 16, "state": "approved", "created": 1.0,
    },
    "adapter_questions": {"adapter": "ttrl-a-1-d", "question_id": 1},
    "adapter_clients": {"adapter": "ttrl-a-1-d", "client": "c"},
    "question_clients": {"question_id": 1, "client": "k"},
    "question_counts": {"state": "gone", "probe": False, "reason": "", "questions": 0, "asked": 0},
    "pinned": {
        "id": 1, "adapter": "ttrl-a-1-d", "question_id": 1, "dtype": "float32", "start": 0,
        "token_ids": b"\1\0\0\0", "own": b"\0\0\0\0", "base": b"\0\0\0\0",
    },
    "verdicts": {
        "id": 1, "run_id": 7, "against": "base", "verdict": "better", "evidence": "{}", "at": 1.0,
    },
    "mentions": {"hash": "p", "run_id": 7},
    "wanted": {"id": 1, "adapter": "ttrl-a-1-d", "author": "run", "reason": "r", "at": 1.0},
    "serving": {"id": 1, "adapter": "ttrl-a-1-d", "reason": "as wanted", "at": 1.0},
    "shadow": {"id": 1, "live": "ttrl-a-1-d", "at": 1.0, "differences": "{}"},
    "measurements": {"id": 1, "kind": "quality", "at": 1.0, "numbers": "{}"},
    "observations": {"id": 1, "run_id": 7, "kind": "step", "at": 1.0, "numbers": "{}"},
}  # fmt: skip
"""A row of every table."""

TODAY = migrations.known()[0]
NEWER = "9000"
NEWER_REVISION = f"""
import sqlalchemy as sa
from alembic import op

revision = "{NEWER}"
down_revision = "{TODAY}"


def upgrade() -> None:
    # SQLite makes the table anew for the second change, and drops the old one.
    with op.batch_alter_table("questions", table_kwargs={{"sqlite_autoincrement": True}}) as batch:
        batch.add_column(sa.Column("mood", sa.String(8), nullable=False, server_default="calm"))
    with op.batch_alter_table("questions", table_kwargs={{"sqlite_autoincrement": True}}) as batch:
        batch.alter_column("mood", existing_type=sa.String(8), server_default=None)
"""


def fill(state_dir: Path, url: str | None = None) -> None:
    """Make a store of today's revision with a row in every table."""
    database = Database.open(state_dir, url)
    with database.write() as connection:
        for name, row in ROWS.items():
            values = ", ".join(f":{column}" for column in row)
            query = f"INSERT INTO {name} ({', '.join(row)}) VALUES ({values})"
            connection.execute(sa.text(query), row)
    database.close()


def newer_migrations(folder: Path) -> Path:
    """Copy today's migrations to `folder` and add the revision NEWER."""
    shutil.copytree(str(migrations.DIRECTORY), folder)
    (folder / "versions" / f"{NEWER}_newer.py").write_text(NEWER_REVISION)
    return folder
