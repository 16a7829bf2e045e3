"""The tables. Who writes what: the daemon writes questions, `answers`, `feedback` with the labels
that come of it, `serving` and `shadow`; a run writes its votes, samples, verdicts, adapters,
comparisons and observations; an operator writes probes and judges comparisons; `wanted` is appended
to by runs, operators and the live monitor. What is purged or old is deleted from all of them by an
operator or the daemon. Ids of questions and runs are never used twice (`autoincrement`), because
adapters are named for runs."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

QuestionId = sa.BigInteger().with_variant(sa.Integer, "sqlite")
"""PostgreSQL uses up a number each time that a question comes in, new or not."""


class AnyText(sa.TypeDecorator[str]):
    """Text of models. PostgreSQL keeps no NUL characters."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        if value is None or dialect.name == "sqlite":
            return value
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _table(name: str, *parts: sa.schema.SchemaItem, **options: Any) -> sa.Table:
    return sa.Table(name, metadata, *parts, **options)


def _columns(kind: Any, *names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, kind, nullable=False) for name in names]


def _belongs_to(name: str, owner: str, **options: Any) -> sa.Column[Any]:
    """A column that names a row of another table, and goes with it."""
    return sa.Column(name, sa.ForeignKey(owner, ondelete="CASCADE"), nullable=False, **options)


facts = _table(
    "facts",
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
HOLDOUT_KEY = "holdout_key"
"""The fact that is the store's own key, in hexadecimal: by it questions become probes, and probes
have their turns. No user can choose to be one."""

SAMPLED = "origin = 'traffic' AND sampling IS NOT NULL"
HELD_OUT = "probe"
EVALUABLE = "probe AND novel AND state <> 'skipped'"
EVALUATED = f"{EVALUABLE} AND exposures > 0"
"""Which questions some indexes are of."""


def _where(condition: str) -> dict[str, Any]:
    """Options of an index of some rows. A query must say the same condition in the same words, with
    literals: what is bound later proves nothing to a planner."""
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


questions = _table(
    "questions",
    sa.Column("id", QuestionId, primary_key=True),
    sa.Column("hash", sa.String(64), nullable=False, unique=True),
    sa.Column("cluster", sa.String(32), nullable=False, index=True),
    sa.Column("body", sa.JSON, nullable=False),
    sa.Column("count", sa.Integer, nullable=False),
    *_columns(sa.Float, "first_seen", "last_seen"),
    sa.Column("client", sa.String(64)),
    sa.Column("shared", sa.Boolean, nullable=False, comment="asked by more than one client"),
    sa.Column("origin", sa.String(16), nullable=False),
    sa.Column("probe", sa.Boolean, nullable=False),
    sa.Column("state", sa.String(24), nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("exposures", sa.Integer, nullable=False, server_default="0"),
    sa.Column(
        "sampling", sa.JSON(none_as_null=True), comment="as users sent it; null when unknown"
    ),
    sa.Column(
        "novel",
        sa.Boolean,
        nullable=False,
        server_default=sa.true(),
        comment="no near-duplicate was recorded before it",
    ),
    sa.Column("follows", sa.String(64), comment="the hash of the question that it goes on from"),
    sa.Index("ix_questions_follows", "follows", **_where("follows IS NOT NULL")),
    sa.Index("ix_questions_selection", "state", "probe", "id"),
    sa.Index("ix_questions_turns", "state", "probe", "origin", "client", "novel", "shared", "id"),
    sa.Index("ix_questions_first_seen", "first_seen"),
    sa.Index("ix_questions_last_seen", "probe", "last_seen", "id"),
    sa.Index("ix_questions_reason", "state", "reason", **_where("reason IS NOT NULL")),
    sa.Index("ix_questions_sampled", "id", **_where(SAMPLED)),
    sa.Index("ix_questions_held_out", "id", **_where(HELD_OUT)),
    sa.Index("ix_questions_held_out_cluster", "cluster", **_where(HELD_OUT)),
    sa.Index("ix_questions_evaluable", "first_seen", "id", **_where(EVALUABLE)),
    sa.Index("ix_questions_evaluated", "exposures", **_where(EVALUATED)),
    sqlite_autoincrement=True,
)

question_counts = _table(
    "question_counts",
    sa.Column("state", sa.String(24), primary_key=True),
    sa.Column("probe", sa.Boolean, primary_key=True),
    sa.Column("reason", sa.Text, primary_key=True, comment="of new and skipped ones; else empty"),
    *_columns(sa.BigInteger, "questions", "asked"),
    comment="kept by triggers: how many questions there are, and how often they were asked",
)

question_clients = _table(
    "question_clients",
    _belongs_to("question_id", "questions.id", primary_key=True),
    sa.Column("client", sa.String(64), primary_key=True, index=True),
    comment="everybody with a key who asked it",
)

runs = _table(
    "runs",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("trigger", sa.String(16), nullable=False),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("reason", sa.Text),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("started", sa.Float),
    sa.Column("finished", sa.Float),
    sa.Column("heartbeat", sa.Float),
    sa.Column("pid", sa.Integer),
    sa.Column("request", sa.JSON, nullable=False),
    sa.Column("parent", sa.String(128)),
    sa.Column("begins", sa.String(24), comment="why a new lineage; null when it goes on"),
    sa.Column("adapter", sa.String(128)),
    *_columns(sa.Integer, "steps", "questions", "samples", "tokens"),
    sqlite_autoincrement=True,
)

votes = _table(
    "votes",
    sa.Column("id", sa.Integer, primary_key=True),
    _belongs_to("run_id", "runs.id", index=True),
    _belongs_to("question_id", "questions.id", index=True),
    sa.Column("version", sa.String(128), nullable=False),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("kind", sa.String(16), nullable=False, comment="as what the answers were read"),
    sa.Column("outcome", sa.String(16), nullable=False),
    sa.Column("label", AnyText),
    *_columns(sa.Float, "share", "entropy"),
    sa.Column("counts", sa.JSON, nullable=False),
    sa.Column("stop", sa.String(16), nullable=False, comment="why there were no more samples"),
    sa.Column("instruction", sa.Text, comment="added to the prompt; null when asked as recorded"),
)

samples = _table(
    "samples",
    sa.Column("id", sa.Integer, primary_key=True),
    _belongs_to("vote_id", "votes.id"),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("layer", sa.String(24), comment="by which it was read or why not; null before 0015"),
    sa.Column("text", AnyText, nullable=False),
    sa.Column("answer", AnyText),
    sa.Column("finish", sa.String(16), nullable=False),
    sa.Column("reward", sa.Float, nullable=False),
    sa.Column("kept", sa.Boolean, nullable=False),
    sa.Column("token_ids", sa.LargeBinary, nullable=False, comment="int32"),
    sa.Column("logprobs", sa.LargeBinary, nullable=False, comment="float32"),
    sa.Index("ix_samples_vote_id", "vote_id", "layer"),  # counts by layer read no text
)

probes = _table(
    "probes",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("hash", sa.String(64), nullable=False, unique=True),
    *_columns(sa.JSON, "body", "answers"),
    sa.Column("rejected", sa.JSON, nullable=False, comment="wrong answers"),
    sa.Column("refuse", sa.Boolean, comment="null says nothing of it"),
    sa.Column("tags", sa.JSON, nullable=False),
    sa.Column("cluster", sa.String(32), nullable=False),
    sa.Column("origin", sa.String(16), nullable=False),
    sa.Column("added", sa.Float, nullable=False),
    sa.Column("exposures", sa.Integer, nullable=False),
    sqlite_autoincrement=True,
)

comparisons = _table(
    "comparisons",
    sa.Column("id", sa.Integer, primary_key=True),
    _belongs_to("run_id", "runs.id", index=True),
    _belongs_to("question_id", "questions.id"),
    sa.Column(
        "round", sa.Integer, nullable=False, comment="how often the question was asked about before"
    ),
    sa.Column("origin", sa.String(16), nullable=False),
    *_columns(AnyText, "text_live", "label_live", "text_candidate", "label_candidate"),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("judgement", sa.String(16)),
    sa.Column("judged_at", sa.Float),
    sa.UniqueConstraint("question_id", "round"),
    sqlite_autoincrement=True,
)

answers = _table(
    "answers",
    sa.Column("hash", sa.String(64), primary_key=True, comment="of its id and its client"),
    sa.Column("question", sa.String(64), index=True, comment="its hash; null when not recorded"),
    sa.Column("client", sa.String(64), index=True, comment="null without keys"),
    sa.Column("version", sa.String(128), comment="null is the base model"),
    sa.Column("at", sa.Float, nullable=False, index=True),
    comment="what is kept of answers so that their clients can give feedback",
)

feedback = _table(
    "feedback",
    sa.Column("id", sa.Integer, primary_key=True),
    _belongs_to("answer", "answers.hash"),
    sa.Column("metric", sa.String(64), nullable=False),
    sa.Column("score", sa.Float),
    sa.Column("correction", AnyText),
    sa.Column("comment", AnyText),
    sa.Column("tags", sa.JSON, nullable=False),
    sa.Column("at", sa.Float, nullable=False, index=True),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.UniqueConstraint("answer", "metric"),
    sqlite_autoincrement=True,
)

adapters = _table(
    "adapters",
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("lineage", sa.String(32), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("parent", sa.String(128)),
    sa.Column("base_model", sa.Text, nullable=False),
    sa.Column("run_id", sa.ForeignKey("runs.id", ondelete="SET NULL")),
    sa.Column("rank", sa.Integer, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("created", sa.Float, nullable=False),
)

adapter_questions = _table(
    "adapter_questions",
    _belongs_to("adapter", "adapters.name", primary_key=True),
    _belongs_to("question_id", "questions.id", primary_key=True, index=True),
)

adapter_clients = _table(
    "adapter_clients",
    _belongs_to("adapter", "adapters.name", primary_key=True),
    sa.Column("client", sa.String(64), primary_key=True),
    comment="whose questions a version learned from that are no longer kept",
)

pinned = _table(
    "pinned",
    sa.Column("id", sa.Integer, primary_key=True),
    _belongs_to("adapter", "adapters.name", index=True),
    _belongs_to("question_id", "questions.id", index=True),
    sa.Column("dtype", sa.String(16), nullable=False),
    sa.Column("start", sa.Integer, nullable=False),
    sa.Column("token_ids", sa.LargeBinary, nullable=False, comment="int32"),
    sa.Column("own", sa.LargeBinary, nullable=False, comment="float32"),
    sa.Column("base", sa.LargeBinary, nullable=False, comment="float32"),
    sa.Column("parent", sa.LargeBinary, comment="float32"),
)

verdicts = _table(
    "verdicts",
    sa.Column("id", sa.Integer, primary_key=True),
    _belongs_to("run_id", "runs.id", index=True),
    sa.Column("adapter", sa.String(128)),
    sa.Column("against", sa.String(128), nullable=False),
    sa.Column("verdict", sa.String(16), nullable=False),
    sa.Column("evidence", sa.JSON, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)

mentions = _table(
    "mentions",
    sa.Column("hash", sa.String(64), primary_key=True),
    _belongs_to("run_id", "runs.id", primary_key=True, index=True),
    comment="questions that a run was started with or that its verdicts quote",
)

wanted = _table(
    "wanted",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("adapter", sa.String(128), comment="null is the base model"),
    sa.Column("author", sa.String(32), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)

serving = _table(
    "serving",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("adapter", sa.String(128), comment="null is the base model"),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)

shadow = _table(
    "shadow",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("live", sa.String(128), nullable=False),
    sa.Column("other", sa.String(128), comment="null is the base model"),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("differences", sa.JSON, nullable=False),
    sqlite_autoincrement=True,
)

measurements = _table(
    "measurements",
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("version", sa.String(128), comment="null is the base model"),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("numbers", sa.JSON, nullable=False),
    sa.Index("ix_measurements_newest", "kind", "version", "id"),
    sqlite_autoincrement=True,
)

observations = _table(
    "observations",
    sa.Column("id", sa.Integer, primary_key=True),
    _belongs_to("run_id", "runs.id", index=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("numbers", sa.JSON, nullable=False),
)
