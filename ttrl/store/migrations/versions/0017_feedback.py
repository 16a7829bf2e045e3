"""feedback on answers"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.create_table(
        "answers",
        sa.Column("hash", sa.String(64), nullable=False, comment="of its id and its client"),
        sa.Column("question", sa.String(64), comment="its hash; null when not recorded"),
        sa.Column("client", sa.String(64), comment="null without keys"),
        sa.Column("version", sa.String(128), comment="null is the base model"),
        sa.Column("at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("hash", name="pk_answers"),
        comment="what is kept of answers so that their clients can give feedback",
    )
    for column in ("question", "client", "at"):
        op.create_index(f"ix_answers_{column}", "answers", [column])
    owner = sa.ForeignKey("answers.hash", name="fk_feedback_answer", ondelete="CASCADE")
    op.create_table(
        "feedback",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("answer", sa.String(64), owner, nullable=False),
        sa.Column("metric", sa.String(64), nullable=False),
        sa.Column("score", sa.Float),
        sa.Column("correction", sa.Text),
        sa.Column("comment", sa.Text),
        sa.Column("tags", sa.JSON, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_feedback"),
        sa.UniqueConstraint("answer", "metric", name="uq_feedback_answer"),
        sqlite_autoincrement=True,
    )
    for column in ("at", "state"):
        op.create_index(f"ix_feedback_{column}", "feedback", [column])
