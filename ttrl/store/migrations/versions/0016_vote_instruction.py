"""the instruction that a vote's prompt carried"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    comment = "added to the prompt; null when asked as recorded"
    op.add_column("votes", sa.Column("instruction", sa.Text, comment=comment))
