"""what the live guard compared"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "shadow",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("live", sa.String(length=128), nullable=False),
        sa.Column("other", sa.String(length=128), nullable=True, comment="null is the base model"),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("differences", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shadow")),
        sqlite_autoincrement=True,
    )
