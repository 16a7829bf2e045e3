CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO alembic_version VALUES ('0014');
CREATE TABLE facts (
    name VARCHAR(64) NOT NULL,
    value TEXT NOT NULL,
    CONSTRAINT pk_facts PRIMARY KEY (name)
);
CREATE TABLE questions (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    hash VARCHAR(64) NOT NULL,
    cluster VARCHAR(32) NOT NULL,
    body JSON NOT NULL,
    count INTEGER NOT NULL,
    first_seen FLOAT NOT NULL,
    last_seen FLOAT NOT NULL,
    client VARCHAR(64),
    shared BOOLEAN NOT NULL,
    origin VARCHAR(16) NOT NULL,
    probe BOOLEAN NOT NULL,
    state VARCHAR(24) NOT NULL,
    reason TEXT,
    exposures INTEGER DEFAULT '0' NOT NULL,
    sampling JSON,
    CONSTRAINT uq_questions_hash UNIQUE (hash)
);
CREATE INDEX ix_questions_selection ON questions (state, probe, id);
CREATE INDEX ix_questions_cluster ON questions (cluster);
CREATE TABLE runs (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    "trigger" VARCHAR(16) NOT NULL,
    state VARCHAR(16) NOT NULL,
    reason TEXT,
    created FLOAT NOT NULL,
    started FLOAT,
    finished FLOAT,
    heartbeat FLOAT,
    pid INTEGER,
    request JSON NOT NULL,
    parent VARCHAR(128),
    begins VARCHAR(24),
    adapter VARCHAR(128),
    steps INTEGER NOT NULL,
    questions INTEGER NOT NULL,
    samples INTEGER NOT NULL,
    tokens INTEGER NOT NULL
);
CREATE INDEX ix_runs_state ON runs (state);
CREATE TABLE probes (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    hash VARCHAR(64) NOT NULL,
    body JSON NOT NULL,
    answers JSON NOT NULL,
    rejected JSON NOT NULL,
    refuse BOOLEAN,
    tags JSON NOT NULL,
    cluster VARCHAR(32) NOT NULL,
    origin VARCHAR(16) NOT NULL,
    added FLOAT NOT NULL,
    exposures INTEGER NOT NULL,
    CONSTRAINT uq_probes_hash UNIQUE (hash)
);
CREATE TABLE wanted (
    id INTEGER NOT NULL,
    adapter VARCHAR(128),
    author VARCHAR(32) NOT NULL,
    reason TEXT NOT NULL,
    at FLOAT NOT NULL,
    CONSTRAINT pk_wanted PRIMARY KEY (id)
);
CREATE TABLE serving (
    id INTEGER NOT NULL,
    adapter VARCHAR(128),
    reason TEXT NOT NULL,
    at FLOAT NOT NULL,
    CONSTRAINT pk_serving PRIMARY KEY (id)
);
CREATE TABLE shadow (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    live VARCHAR(128) NOT NULL,
    other VARCHAR(128),
    at FLOAT NOT NULL,
    differences JSON NOT NULL
);
CREATE TABLE measurements (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    kind VARCHAR(16) NOT NULL,
    version VARCHAR(128),
    at FLOAT NOT NULL,
    numbers JSON NOT NULL
);
CREATE INDEX ix_measurements_newest ON measurements (kind, version, id);
CREATE TABLE question_clients (
    question_id INTEGER NOT NULL,
    client VARCHAR(64) NOT NULL,
    CONSTRAINT pk_question_clients PRIMARY KEY (question_id, client),
    CONSTRAINT fk_question_clients_question_id FOREIGN KEY(question_id) REFERENCES questions (id) ON DELETE CASCADE
);
CREATE INDEX ix_question_clients_client ON question_clients (client);
CREATE TABLE votes (
    id INTEGER NOT NULL,
    run_id INTEGER NOT NULL,
    question_id INTEGER NOT NULL,
    version VARCHAR(128) NOT NULL,
    step INTEGER NOT NULL,
    at FLOAT NOT NULL,
    kind VARCHAR(16) NOT NULL,
    outcome VARCHAR(16) NOT NULL,
    label TEXT,
    share FLOAT NOT NULL,
    entropy FLOAT NOT NULL,
    counts JSON NOT NULL,
    stop VARCHAR(16) NOT NULL,
    CONSTRAINT pk_votes PRIMARY KEY (id),
    CONSTRAINT fk_votes_run_id FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE,
    CONSTRAINT fk_votes_question_id FOREIGN KEY(question_id) REFERENCES questions (id) ON DELETE CASCADE
);
CREATE INDEX ix_votes_question_id ON votes (question_id);
CREATE INDEX ix_votes_run_id ON votes (run_id);
CREATE TABLE comparisons (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    run_id INTEGER NOT NULL,
    question_id INTEGER NOT NULL,
    round INTEGER NOT NULL,
    origin VARCHAR(16) NOT NULL,
    text_live TEXT NOT NULL,
    label_live TEXT NOT NULL,
    text_candidate TEXT NOT NULL,
    label_candidate TEXT NOT NULL,
    at FLOAT NOT NULL,
    judgement VARCHAR(16),
    judged_at FLOAT,
    CONSTRAINT uq_comparisons_question_id UNIQUE (question_id, round),
    CONSTRAINT fk_comparisons_run_id FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE,
    CONSTRAINT fk_comparisons_question_id FOREIGN KEY(question_id) REFERENCES questions (id) ON DELETE CASCADE
);
CREATE INDEX ix_comparisons_run_id ON comparisons (run_id);
CREATE TABLE adapters (
    name VARCHAR(128) NOT NULL,
    lineage VARCHAR(32) NOT NULL,
    number INTEGER NOT NULL,
    digest VARCHAR(64) NOT NULL,
    parent VARCHAR(128),
    base_model TEXT NOT NULL,
    run_id INTEGER,
    rank INTEGER NOT NULL,
    state VARCHAR(16) NOT NULL,
    reason TEXT,
    created FLOAT NOT NULL,
    CONSTRAINT pk_adapters PRIMARY KEY (name),
    CONSTRAINT fk_adapters_run_id FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE SET NULL
);
CREATE TABLE verdicts (
    id INTEGER NOT NULL,
    run_id INTEGER NOT NULL,
    adapter VARCHAR(128),
    against VARCHAR(128) NOT NULL,
    verdict VARCHAR(16) NOT NULL,
    evidence JSON NOT NULL,
    at FLOAT NOT NULL,
    CONSTRAINT pk_verdicts PRIMARY KEY (id),
    CONSTRAINT fk_verdicts_run_id FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE
);
CREATE INDEX ix_verdicts_run_id ON verdicts (run_id);
CREATE TABLE mentions (
    hash VARCHAR(64) NOT NULL,
    run_id INTEGER NOT NULL,
    CONSTRAINT pk_mentions PRIMARY KEY (hash, run_id),
    CONSTRAINT fk_mentions_run_id FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE
);
CREATE INDEX ix_mentions_run_id ON mentions (run_id);
CREATE TABLE observations (
    id INTEGER NOT NULL,
    run_id INTEGER NOT NULL,
    kind VARCHAR(16) NOT NULL,
    at FLOAT NOT NULL,
    numbers JSON NOT NULL,
    CONSTRAINT pk_observations PRIMARY KEY (id),
    CONSTRAINT fk_observations_run_id FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE
);
CREATE INDEX ix_observations_run_id ON observations (run_id);
CREATE TABLE samples (
    id INTEGER NOT NULL,
    vote_id INTEGER NOT NULL,
    position INTEGER NOT NULL,
    text TEXT NOT NULL,
    answer TEXT,
    finish VARCHAR(16) NOT NULL,
    reward FLOAT NOT NULL,
    kept BOOLEAN NOT NULL,
    token_ids BLOB NOT NULL,
    logprobs BLOB NOT NULL,
    CONSTRAINT pk_samples PRIMARY KEY (id),
    CONSTRAINT fk_samples_vote_id FOREIGN KEY(vote_id) REFERENCES votes (id) ON DELETE CASCADE
);
CREATE INDEX ix_samples_vote_id ON samples (vote_id);
CREATE TABLE adapter_questions (
    adapter VARCHAR(128) NOT NULL,
    question_id INTEGER NOT NULL,
    CONSTRAINT pk_adapter_questions PRIMARY KEY (adapter, question_id),
    CONSTRAINT fk_adapter_questions_adapter FOREIGN KEY(adapter) REFERENCES adapters (name) ON DELETE CASCADE,
    CONSTRAINT fk_adapter_questions_question_id FOREIGN KEY(question_id) REFERENCES questions (id) ON DELETE CASCADE
);
CREATE INDEX ix_adapter_questions_question_id ON adapter_questions (question_id);
CREATE TABLE adapter_clients (
    adapter VARCHAR(128) NOT NULL,
    client VARCHAR(64) NOT NULL,
    CONSTRAINT pk_adapter_clients PRIMARY KEY (adapter, client),
    CONSTRAINT fk_adapter_clients_adapter FOREIGN KEY(adapter) REFERENCES adapters (name) ON DELETE CASCADE
);
CREATE TABLE pinned (
    id INTEGER NOT NULL,
    adapter VARCHAR(128) NOT NULL,
    question_id INTEGER NOT NULL,
    dtype VARCHAR(16) NOT NULL,
    start INTEGER NOT NULL,
    token_ids BLOB NOT NULL,
    own BLOB NOT NULL,
    base BLOB NOT NULL,
    parent BLOB,
    CONSTRAINT pk_pinned PRIMARY KEY (id),
    CONSTRAINT fk_pinned_adapter FOREIGN KEY(adapter) REFERENCES adapters (name) ON DELETE CASCADE,
    CONSTRAINT fk_pinned_question_id FOREIGN KEY(question_id) REFERENCES questions (id) ON DELETE CASCADE
);
CREATE INDEX ix_pinned_question_id ON pinned (question_id);
CREATE INDEX ix_pinned_adapter ON pinned (adapter);
