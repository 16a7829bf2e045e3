"""why a vote's samples were no more"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    with op.batch_alter_table("votes") as batch_op:
        batch_op.add_column(
            sa.Column(
                "stop",
                sa.String(length=16),
                nullable=False,
                server_default="all",
                comment="why there were no more samples",
            )
        )
    with op.batch_alter_table("votes") as batch_op:
        batch_op.alter_column("stop", existing_type=sa.String(length=16), server_default=None)
