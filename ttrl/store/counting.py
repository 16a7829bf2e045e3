"""How many questions there are, kept by the database itself: triggers change `question_counts` in
the transaction that changes a question, whoever does it, so that nobody counts a million rows."""

from __future__ import annotations

import sqlalchemy as sa

from ttrl.store.schema import question_counts, questions

ROW = "{0}state, {0}probe, CASE WHEN {0}state IN ('new', 'skipped') THEN coalesce({0}reason, '') \
ELSE '' END"
"""What a question is counted as."""
KEY = "state, probe, reason"
ADD = f"""ON CONFLICT ({KEY}) DO UPDATE SET
    questions = question_counts.questions + excluded.questions,
    asked = question_counts.asked + excluded.asked"""

EVENTS = {
    "INSERT": ("NEW.", "NEW TABLE AS added"),
    "UPDATE": ("NEW. OLD.", "NEW TABLE AS added OLD TABLE AS removed"),
    "DELETE": ("OLD.", "OLD TABLE AS removed"),
}
COUNTED = "state, probe, reason, count"


def install(connection: sa.Connection) -> None:
    """Make the triggers and count all there is. Whoever makes the table of questions anew, as most
    migrations in SQLite do, drops the triggers with the old one."""
    of_rows = connection.dialect.name == "sqlite"
    for event, (rows, tables) in EVENTS.items():
        name = f"questions_counted_{event.lower()}"
        if of_rows:
            connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name}")
            connection.exec_driver_sql(_of_rows(name, event, rows.split()))
        else:
            for statement in _of_statements(name, event, tables):
                connection.exec_driver_sql(statement)
    connection.execute(question_counts.delete())
    counted = sa.select(
        sa.text(ROW.format("")), sa.func.count(), sa.func.sum(questions.c.count)
    ).select_from(questions)
    counted = counted.group_by(sa.text("1, 2, 3"))
    connection.execute(question_counts.insert().from_select(question_counts.c.keys(), counted))


def _of_rows(name: str, event: str, rows: list[str]) -> str:
    changes = ""
    for row in rows:
        values = f"{ROW.format(row)}, 1, {row}count"
        if row == "OLD.":
            values = f"{ROW.format(row)}, -1, -{row}count"
        changes += f"INSERT INTO question_counts VALUES ({values}) {ADD};\n"  # noqa: S608 - ours
    what = f"UPDATE OF {COUNTED}" if event == "UPDATE" else event
    return f"CREATE TRIGGER {name} AFTER {what} ON questions BEGIN\n{changes}END"


def _of_statements(name: str, event: str, tables: str) -> list[str]:
    """A statement changes thousands of rows, and a row of the counts once."""
    parts = [
        f"SELECT {ROW.format('')} AS reason, {sign}1 AS one, {sign}count AS times FROM {table}"  # noqa: S608
        for table, sign in (("added", ""), ("removed", "-"))
        if table in tables
    ]
    changes = " UNION ALL ".join(parts)
    return [
        f"""CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO question_counts
            SELECT {KEY}, sum(one), sum(times) FROM ({changes}) AS changed
            GROUP BY {KEY} HAVING sum(one) <> 0 OR sum(times) <> 0
        {ADD};
        RETURN NULL;
        END $$""",  # noqa: S608
        f"DROP TRIGGER IF EXISTS {name} ON questions",
        f"""CREATE TRIGGER {name} AFTER {event} ON questions
        REFERENCING {tables} FOR EACH STATEMENT EXECUTE FUNCTION {name}()""",
    ]
