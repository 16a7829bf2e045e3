"""the instruction that a vote's prompt carried, and by which layer a sample was read"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    asked = "added to the prompt; null when asked as recorded"
    op.add_column("votes", sa.Column("instruction", sa.Text, comment=asked))
    read = "by which it was read or why not; null before 0015"
    op.add_column("samples", sa.Column("layer", sa.String(24), comment=read))
    op.drop_index("ix_samples_vote_id", "samples")
    op.create_index("ix_samples_vote_id", "samples", ["vote_id", "layer"])
