"""counts that are kept, and an index for whatever a clock or a request asks of the questions"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"

INDEXES = {
    "follows": (["follows"], "follows IS NOT NULL"),
    "turns": (["state", "probe", "origin", "client", "novel", "shared", "id"], None),
    "first_seen": (["first_seen"], None),
    "last_seen": (["probe", "last_seen", "id"], None),
    "reason": (["state", "reason"], "reason IS NOT NULL"),
    "sampled": (["id"], "origin = 'traffic' AND sampling IS NOT NULL"),
    "held_out": (["id"], "probe"),
    "held_out_cluster": (["cluster"], "probe"),
    "evaluable": (["first_seen", "id"], "probe AND novel AND state <> 'skipped'"),
    "evaluated": (["exposures"], "probe AND novel AND state <> 'skipped' AND exposures > 0"),
}
NOT_FIRST = """UPDATE questions SET novel = false
    WHERE id NOT IN (SELECT min(id) FROM questions GROUP BY cluster)"""


def upgrade() -> None:
    before = "no near-duplicate was recorded before it"
    novel = sa.Column("novel", sa.Boolean, nullable=False, server_default=sa.true(), comment=before)
    op.add_column("questions", novel)
    on = "the hash of the question that it goes on from"
    op.add_column("questions", sa.Column("follows", sa.String(64), comment=on))
    for name, (columns, condition) in INDEXES.items():
        only = None if condition is None else sa.text(condition)
        op.create_index(
            f"ix_questions_{name}", "questions", columns, sqlite_where=only, postgresql_where=only
        )
    op.execute(NOT_FIRST)
    op.create_table(
        "question_counts",
        sa.Column("state", sa.String(24), nullable=False),
        sa.Column("probe", sa.Boolean, nullable=False),
        sa.Column("reason", sa.Text, nullable=False, comment="of new and skipped ones; else empty"),
        sa.Column("questions", sa.BigInteger, nullable=False),
        sa.Column("asked", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("state", "probe", "reason", name="pk_question_counts"),
        comment="kept by triggers: how many questions there are, and how often they were asked",
    )
