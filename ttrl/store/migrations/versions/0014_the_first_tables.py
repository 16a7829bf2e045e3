"""the first tables

Never run: a new store is made from ttrl/store/schema.py (`migrations.upgrade`), and what a store of
this revision looks like is in tests/data/stores. 0001 to 0013 were development stores, which this
does not read.

The next revision: change schema.py, and write 0015 beside this file with the `upgrade` that makes
the same change to a store of 0014 (in SQLite with `op.batch_alter_table` and
`sqlite_autoincrement` where the table has it). tests/quick/test_migrations.py holds the store of
0014, migrated, against schema.py.
"""

revision = "0014"
down_revision = None


def upgrade() -> None:
    raise NotImplementedError("a new store is made from ttrl/store/schema.py")
