"""as what a vote's answers were read"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    with op.batch_alter_table("votes") as batch_op:
        batch_op.add_column(
            sa.Column(
                "kind",
                sa.String(length=16),
                nullable=False,
                server_default="",
                comment="as what the answers were read",
            )
        )
    with op.batch_alter_table("votes") as batch_op:
        batch_op.alter_column("kind", existing_type=sa.String(length=16), server_default=None)
