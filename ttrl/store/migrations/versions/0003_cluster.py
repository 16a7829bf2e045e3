"""which questions say nearly the same; each of those already there is one of its own"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    with op.batch_alter_table("questions") as batch_op:
        batch_op.add_column(sa.Column("cluster", sa.String(length=32), nullable=True))
    op.execute("update questions set cluster = substr(hash, 1, 32)")
    with op.batch_alter_table("questions") as batch_op:
        batch_op.alter_column("cluster", existing_type=sa.String(length=32), nullable=False)
        batch_op.create_index(op.f("ix_questions_cluster"), ["cluster"])
