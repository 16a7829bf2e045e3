"""The tables. Who writes what: the daemon writes questions, `serving` and `shadow`; a run writes
its votes, samples, verdicts, adapters, comparisons and observations; an operator writes probes and
judges comparisons; `wanted` is appended to by runs, operators and the live monitor. What is purged
or old is deleted from all of them by an operator or the daemon. Ids of questions
and runs are never used twice (`autoincrement`), because adapters are named for runs."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

QuestionId = BigInteger().with_variant(Integer, "sqlite")
"""PostgreSQL uses up a number each time that a question comes in, new or not."""


class AnyText(TypeDecorator[str]):
    """Text of models. PostgreSQL keeps no NUL characters."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        """As it can be kept."""
        if value is None or dialect.name == "sqlite":
            return value
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}")


facts = Table(
    "facts",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

questions = Table(
    "questions",
    metadata,
    Column("id", QuestionId, primary_key=True),
    Column("hash", String(64), nullable=False, unique=True),
    Column("cluster", String(32), nullable=False, index=True),
    Column("body", JSON, nullable=False),
    Column("count", Integer, nullable=False),
    Column("first_seen", Float, nullable=False),
    Column("last_seen", Float, nullable=False),
    Column("client", String(64)),
    Column("shared", Boolean, nullable=False, comment="asked by more than one client"),
    Column("origin", String(16), nullable=False),
    Column("probe", Boolean, nullable=False),
    Column("state", String(24), nullable=False),
    Column("reason", Text),
    Column("exposures", Integer, nullable=False, server_default="0"),
    Column("sampling", JSON(none_as_null=True), comment="as users sent it; null when unknown"),
    Index("ix_questions_selection", "state", "probe", "id"),
    sqlite_autoincrement=True,
)

question_clients = Table(
    "question_clients",
    metadata,
    Column("question_id", ForeignKey("questions.id", ondelete="CASCADE"), primary_key=True),
    Column("client", String(64), primary_key=True, index=True),
    comment="everybody with a key who asked it",
)

runs = Table(
    "runs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("trigger", String(16), nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("reason", Text),
    Column("created", Float, nullable=False),
    Column("started", Float),
    Column("finished", Float),
    Column("heartbeat", Float),
    Column("pid", Integer),
    Column("request", JSON, nullable=False),
    Column("parent", String(128)),
    Column("begins", String(24), comment="why a new lineage; null when it goes on"),
    Column("adapter", String(128)),
    Column("steps", Integer, nullable=False),
    Column("questions", Integer, nullable=False),
    Column("samples", Integer, nullable=False),
    Column("tokens", Integer, nullable=False),
    sqlite_autoincrement=True,
)

votes = Table(
    "votes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", ForeignKey("runs.id", ondelete="CASCADE"), nullable=False, index=True),
    Column(
        "question_id", ForeignKey("questions.id", ondelete="CASCADE"), nullable=False, index=True
    ),
    Column("version", String(128), nullable=False),
    Column("step", Integer, nullable=False),
    Column("at", Float, nullable=False),
    Column("kind", String(16), nullable=False, comment="as what the answers were read"),
    Column("outcome", String(16), nullable=False),
    Column("label", AnyText),
    Column("share", Float, nullable=False),
    Column("entropy", Float, nullable=False),
    Column("counts", JSON, nullable=False),
    Column("stop", String(16), nullable=False, comment="why there were no more samples"),
)

samples = Table(
    "samples",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("vote_id", ForeignKey("votes.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("position", Integer, nullable=False),
    Column("text", AnyText, nullable=False),
    Column("answer", AnyText),
    Column("finish", String(16), nullable=False),
    Column("reward", Float, nullable=False),
    Column("kept", Boolean, nullable=False),
    Column("token_ids", LargeBinary, nullable=False, comment="int32"),
    Column("logprobs", LargeBinary, nullable=False, comment="float32"),
)

probes = Table(
    "probes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("hash", String(64), nullable=False, unique=True),
    Column("body", JSON, nullable=False),
    Column("answers", JSON, nullable=False),
    Column("rejected", JSON, nullable=False, comment="wrong answers"),
    Column("refuse", Boolean, comment="null says nothing of it"),
    Column("tags", JSON, nullable=False),
    Column("cluster", String(32), nullable=False),
    Column("origin", String(16), nullable=False),
    Column("added", Float, nullable=False),
    Column("exposures", Integer, nullable=False),
    sqlite_autoincrement=True,
)

comparisons = Table(
    "comparisons",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", ForeignKey("runs.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("question_id", ForeignKey("questions.id", ondelete="CASCADE"), nullable=False),
    Column(
        "round",
        Integer,
        nullable=False,
        comment="how often the question was asked about before",
    ),
    Column("origin", String(16), nullable=False),
    Column("text_live", AnyText, nullable=False),
    Column("label_live", AnyText, nullable=False),
    Column("text_candidate", AnyText, nullable=False),
    Column("label_candidate", AnyText, nullable=False),
    Column("at", Float, nullable=False),
    Column("judgement", String(16)),
    Column("judged_at", Float),
    UniqueConstraint("question_id", "round"),
    sqlite_autoincrement=True,
)

adapters = Table(
    "adapters",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("lineage", String(32), nullable=False),
    Column("number", Integer, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("parent", String(128)),
    Column("base_model", Text, nullable=False),
    Column("run_id", ForeignKey("runs.id", ondelete="SET NULL")),
    Column("rank", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text),
    Column("created", Float, nullable=False),
)

adapter_questions = Table(
    "adapter_questions",
    metadata,
    Column("adapter", ForeignKey("adapters.name", ondelete="CASCADE"), primary_key=True),
    Column(
        "question_id",
        ForeignKey("questions.id", ondelete="CASCADE"),
        primary_key=True,
        index=True,
    ),
)

adapter_clients = Table(
    "adapter_clients",
    metadata,
    Column("adapter", ForeignKey("adapters.name", ondelete="CASCADE"), primary_key=True),
    Column("client", String(64), primary_key=True),
    comment="whose questions a version learned from that are no longer kept",
)

pinned = Table(
    "pinned",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("adapter", ForeignKey("adapters.name", ondelete="CASCADE"), nullable=False, index=True),
    Column(
        "question_id", ForeignKey("questions.id", ondelete="CASCADE"), nullable=False, index=True
    ),
    Column("dtype", String(16), nullable=False),
    Column("start", Integer, nullable=False),
    Column("token_ids", LargeBinary, nullable=False, comment="int32"),
    Column("own", LargeBinary, nullable=False, comment="float32"),
    Column("base", LargeBinary, nullable=False, comment="float32"),
    Column("parent", LargeBinary, comment="float32"),
)

verdicts = Table(
    "verdicts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", ForeignKey("runs.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("adapter", String(128)),
    Column("against", String(128), nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("evidence", JSON, nullable=False),
    Column("at", Float, nullable=False),
)

mentions = Table(
    "mentions",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("run_id", ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True, index=True),
    comment="questions that a run was started with or that its verdicts quote",
)

wanted = Table(
    "wanted",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("adapter", String(128), comment="null is the base model"),
    Column("author", String(32), nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Float, nullable=False),
)

serving = Table(
    "serving",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("adapter", String(128), comment="null is the base model"),
    Column("reason", Text, nullable=False),
    Column("at", Float, nullable=False),
)

shadow = Table(
    "shadow",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("live", String(128), nullable=False),
    Column("other", String(128), comment="null is the base model"),
    Column("at", Float, nullable=False),
    Column("differences", JSON, nullable=False),
    sqlite_autoincrement=True,
)

measurements = Table(
    "measurements",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("version", String(128), comment="null is the base model"),
    Column("at", Float, nullable=False),
    Column("numbers", JSON, nullable=False),
    Index("ix_measurements_newest", "kind", "version", "id"),
    sqlite_autoincrement=True,
)

observations = Table(
    "observations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", ForeignKey("runs.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("kind", String(16), nullable=False),
    Column("at", Float, nullable=False),
    Column("numbers", JSON, nullable=False),
)
