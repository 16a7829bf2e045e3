"""which questions more than one client asked, and why a run began a new lineage"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    with op.batch_alter_table("questions") as batch_op:
        batch_op.add_column(
            sa.Column(
                "shared",
                sa.Boolean(),
                nullable=False,
                server_default=sa.false(),
                comment="asked by more than one client",
            )
        )
    with op.batch_alter_table("questions") as batch_op:
        batch_op.alter_column("shared", existing_type=sa.Boolean(), server_default=None)
    with op.batch_alter_table("runs") as batch_op:
        batch_op.add_column(
            sa.Column(
                "begins",
                sa.String(length=24),
                nullable=True,
                comment="why a new lineage; null when it goes on",
            )
        )
