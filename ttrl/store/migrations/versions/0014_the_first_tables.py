"""the first tables"""

import sqlalchemy as sa
from alembic import op

revision = "0014"  # 0001 to 0013 were development stores, which this does not read
down_revision = None

QUESTION_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "facts",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_table(
        "questions",
        sa.Column("id", QUESTION_ID, primary_key=True),
        sa.Column("hash", sa.String(64), nullable=False, unique=True),
        sa.Column("cluster", sa.String(32), nullable=False, index=True),
        sa.Column("body", sa.JSON, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("first_seen", sa.Float, nullable=False),
        sa.Column("last_seen", sa.Float, nullable=False),
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
        sa.Index("ix_questions_selection", "state", "probe", "id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "question_clients",
        sa.Column(
            "question_id",
            QUESTION_ID,
            sa.ForeignKey("questions.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("client", sa.String(64), primary_key=True, index=True),
        comment="everybody with a key who asked it",
    )
    op.create_table(
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
        sa.Column("steps", sa.Integer, nullable=False),
        sa.Column("questions", sa.Integer, nullable=False),
        sa.Column("samples", sa.Integer, nullable=False),
        sa.Column("tokens", sa.Integer, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "votes",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column(
            "run_id",
            sa.Integer,
            sa.ForeignKey("runs.id", ondelete="CASCADE"),
            nullable=False,
            index=True,
        ),
        sa.Column(
            "question_id",
            QUESTION_ID,
            sa.ForeignKey("questions.id", ondelete="CASCADE"),
            nullable=False,
            index=True,
        ),
        sa.Column("version", sa.String(128), nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False, comment="as what the answers were read"),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("label", sa.Text),
        sa.Column("share", sa.Float, nullable=False),
        sa.Column("entropy", sa.Float, nullable=False),
        sa.Column("counts", sa.JSON, nullable=False),
        sa.Column("stop", sa.String(16), nullable=False, comment="why there were no more samples"),
    )
    op.create_table(
        "samples",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column(
            "vote_id",
            sa.Integer,
            sa.ForeignKey("votes.id", ondelete="CASCADE"),
            nullable=False,
            index=True,
        ),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("answer", sa.Text),
        sa.Column("finish", sa.String(16), nullable=False),
        sa.Column("reward", sa.Float, nullable=False),
        sa.Column("kept", sa.Boolean, nullable=False),
        sa.Column("token_ids", sa.LargeBinary, nullable=False, comment="int32"),
        sa.Column("logprobs", sa.LargeBinary, nullable=False, comment="float32"),
    )
    op.create_table(
        "probes",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("hash", sa.String(64), nullable=False, unique=True),
        sa.Column("body", sa.JSON, nullable=False),
        sa.Column("answers", sa.JSON, nullable=False),
        sa.Column("rejected", sa.JSON, nullable=False, comment="wrong answers"),
        sa.Column("refuse", sa.Boolean, comment="null says nothing of it"),
        sa.Column("tags", sa.JSON, nullable=False),
        sa.Column("cluster", sa.String(32), nullable=False),
        sa.Column("origin", sa.String(16), nullable=False),
        sa.Column("added", sa.Float, nullable=False),
        sa.Column("exposures", sa.Integer, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "comparisons",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column(
            "run_id",
            sa.Integer,
            sa.ForeignKey("runs.id", ondelete="CASCADE"),
            nullable=False,
            index=True,
        ),
        sa.Column(
            "question_id",
            QUESTION_ID,
            sa.ForeignKey("questions.id", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column(
            "round",
            sa.Integer,
            nullable=False,
            comment="how often the question was asked about before",
        ),
        sa.Column("origin", sa.String(16), nullable=False),
        sa.Column("text_live", sa.Text, nullable=False),
        sa.Column("label_live", sa.Text, nullable=False),
        sa.Column("text_candidate", sa.Text, nullable=False),
        sa.Column("label_candidate", sa.Text, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("judgement", sa.String(16)),
        sa.Column("judged_at", sa.Float),
        sa.UniqueConstraint("question_id", "round"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "adapters",
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("lineage", sa.String(32), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("parent", sa.String(128)),
        sa.Column("base_model", sa.Text, nullable=False),
        sa.Column("run_id", sa.Integer, sa.ForeignKey("runs.id", ondelete="SET NULL")),
        sa.Column("rank", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("created", sa.Float, nullable=False),
    )
    op.create_table(
        "adapter_questions",
        sa.Column(
            "adapter",
            sa.String(128),
            sa.ForeignKey("adapters.name", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column(
            "question_id",
            QUESTION_ID,
            sa.ForeignKey("questions.id", ondelete="CASCADE"),
            primary_key=True,
            index=True,
        ),
    )
    op.create_table(
        "adapter_clients",
        sa.Column(
            "adapter",
            sa.String(128),
            sa.ForeignKey("adapters.name", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("client", sa.String(64), primary_key=True),
        comment="whose questions a version learned from that are no longer kept",
    )
    op.create_table(
        "pinned",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column(
            "adapter",
            sa.String(128),
            sa.ForeignKey("adapters.name", ondelete="CASCADE"),
            nullable=False,
            index=True,
        ),
        sa.Column(
            "question_id",
            QUESTION_ID,
            sa.ForeignKey("questions.id", ondelete="CASCADE"),
            nullable=False,
            index=True,
        ),
        sa.Column("dtype", sa.String(16), nullable=False),
        sa.Column("start", sa.Integer, nullable=False),
        sa.Column("token_ids", sa.LargeBinary, nullable=False, comment="int32"),
        sa.Column("own", sa.LargeBinary, nullable=False, comment="float32"),
        sa.Column("base", sa.LargeBinary, nullable=False, comment="float32"),
        sa.Column("parent", sa.LargeBinary, comment="float32"),
    )
    op.create_table(
        "verdicts",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column(
            "run_id",
            sa.Integer,
            sa.ForeignKey("runs.id", ondelete="CASCADE"),
            nullable=False,
            index=True,
        ),
        sa.Column("adapter", sa.String(128)),
        sa.Column("against", sa.String(128), nullable=False),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("evidence", sa.JSON, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
    )
    op.create_table(
        "mentions",
        sa.Column("hash", sa.String(64), primary_key=True),
        sa.Column(
            "run_id",
            sa.Integer,
            sa.ForeignKey("runs.id", ondelete="CASCADE"),
            primary_key=True,
            index=True,
        ),
        comment="questions that a run was started with or that its verdicts quote",
    )
    op.create_table(
        "wanted",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("adapter", sa.String(128), comment="null is the base model"),
        sa.Column("author", sa.String(32), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
    )
    op.create_table(
        "serving",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("adapter", sa.String(128), comment="null is the base model"),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
    )
    op.create_table(
        "shadow",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("live", sa.String(128), nullable=False),
        sa.Column("other", sa.String(128), comment="null is the base model"),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("differences", sa.JSON, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "measurements",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("version", sa.String(128), comment="null is the base model"),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("numbers", sa.JSON, nullable=False),
        sa.Index("ix_measurements_newest", "kind", "version", "id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "observations",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column(
            "run_id",
            sa.Integer,
            sa.ForeignKey("runs.id", ondelete="CASCADE"),
            nullable=False,
            index=True,
        ),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("numbers", sa.JSON, nullable=False),
    )
