"""what proves that a version is served"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "pinned",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("adapter", sa.String(length=128), nullable=False),
        sa.Column(
            "question_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("dtype", sa.String(length=16), nullable=False),
        sa.Column("start", sa.Integer(), nullable=False),
        sa.Column("token_ids", sa.LargeBinary(), nullable=False, comment="int32"),
        sa.Column("own", sa.LargeBinary(), nullable=False, comment="float32"),
        sa.Column("base", sa.LargeBinary(), nullable=False, comment="float32"),
        sa.Column("parent", sa.LargeBinary(), nullable=True, comment="float32"),
        sa.ForeignKeyConstraint(
            ["adapter"],
            ["adapters.name"],
            name=op.f("fk_pinned_adapter"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["question_id"],
            ["questions.id"],
            name=op.f("fk_pinned_question_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pinned")),
    )
    op.create_index(op.f("ix_pinned_adapter"), "pinned", ["adapter"])
    op.create_index(op.f("ix_pinned_question_id"), "pinned", ["question_id"])
