"""everybody who asked a question, and whose forgotten questions a version learned from"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "question_clients",
        sa.Column(
            "question_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("client", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["question_id"],
            ["questions.id"],
            name=op.f("fk_question_clients_question_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("question_id", "client", name=op.f("pk_question_clients")),
        comment="everybody with a key who asked it",
    )
    op.create_index(op.f("ix_question_clients_client"), "question_clients", ["client"])
    op.execute(
        "INSERT INTO question_clients (question_id, client) "
        "SELECT id, client FROM questions WHERE client IS NOT NULL"
    )
    op.create_table(
        "adapter_clients",
        sa.Column("adapter", sa.String(length=128), nullable=False),
        sa.Column("client", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["adapter"],
            ["adapters.name"],
            name=op.f("fk_adapter_clients_adapter"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("adapter", "client", name=op.f("pk_adapter_clients")),
        comment="whose questions a version learned from that are no longer kept",
    )
    op.create_index(op.f("ix_adapter_questions_question_id"), "adapter_questions", ["question_id"])
