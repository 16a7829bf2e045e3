"""labelled probes, and comparisons for the operator to judge"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "probes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("answers", sa.JSON(), nullable=False),
        sa.Column("refuse", sa.Boolean(), nullable=True, comment="null says nothing of it"),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("cluster", sa.String(length=32), nullable=False),
        sa.Column("origin", sa.String(length=16), nullable=False),
        sa.Column("added", sa.Float(), nullable=False),
        sa.Column("exposures", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_probes")),
        sa.UniqueConstraint("hash", name=op.f("uq_probes_hash")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "comparisons",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column(
            "question_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("origin", sa.String(length=16), nullable=False),
        sa.Column("text_live", sa.Text(), nullable=False),
        sa.Column("label_live", sa.Text(), nullable=False),
        sa.Column("text_candidate", sa.Text(), nullable=False),
        sa.Column("label_candidate", sa.Text(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("judgement", sa.String(length=16), nullable=True),
        sa.Column("judged_at", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_comparisons_run_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["question_id"],
            ["questions.id"],
            name=op.f("fk_comparisons_question_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_comparisons")),
        sa.UniqueConstraint("question_id", name=op.f("uq_comparisons_question_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_comparisons_run_id"), "comparisons", ["run_id"])
    with op.batch_alter_table("questions") as batch_op:
        batch_op.add_column(
            sa.Column("exposures", sa.Integer(), nullable=False, server_default="0")
        )
