"""ids of questions are never used twice in SQLite, which earlier changes of the table had undone"""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    if op.get_context().dialect.name == "sqlite":
        kwargs = {"sqlite_autoincrement": True}
        with op.batch_alter_table("questions", recreate="always", table_kwargs=kwargs):
            pass
