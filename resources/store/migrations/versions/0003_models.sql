-- Forecast models: every version that was trained, how it did on held-out days, its artefact, and who decided what serves.

-- A promotion makes plans out of date like an import does.
ALTER TABLE ops.input_version DROP CONSTRAINT input_version_input_check;
ALTER TABLE ops.input_version ADD CONSTRAINT input_version_input_check CHECK (input IN
    ('sales', 'stock', 'recipes', 'suppliers', 'orders', 'calendar', 'products', 'settings', 'models'));

ALTER TABLE plans.exception DROP CONSTRAINT exception_subject_kind_check;
ALTER TABLE plans.exception ADD CONSTRAINT exception_subject_kind_check CHECK (subject_kind IN
    ('product', 'item', 'supplier', 'location', 'model'));

CREATE TABLE quality.forecast_model (
    tenant_id master.identifier NOT NULL REFERENCES master.tenant,
    version integer NOT NULL CHECK (version > 0),
    status text NOT NULL CHECK (status IN ('challenger', 'champion', 'archived')), -- challenger: has never served
    algorithm text NOT NULL,
    parameters jsonb NOT NULL,
    feature_schema text NOT NULL, -- sha256 of the feature definition that it was trained on
    library_versions jsonb NOT NULL,
    trained_from date NOT NULL,
    trained_to date NOT NULL,
    series_count integer NOT NULL,
    row_count integer NOT NULL,
    data_hash text NOT NULL, -- sha256 of the training data
    backtest_from date NOT NULL,
    backtest_to date NOT NULL,
    spread jsonb NOT NULL, -- the residual quantile table
    importances jsonb NOT NULL, -- feature group: share of the gain; empty where the algorithm offers none
    trigger text NOT NULL CHECK (trigger IN ('manual', 'first', 'age', 'error', 'drift')),
    decision text NOT NULL, -- what became of it and why, in words
    artefact_sha256 char(64) NOT NULL,
    parent_version integer, -- what served when it was trained; null: the rules
    run_id text NOT NULL,
    cpu_s double precision NOT NULL,
    created_at timestamptz NOT NULL,
    promoted_at timestamptz, -- the last time; null: has never served
    archived_at timestamptz,
    PRIMARY KEY (tenant_id, version),
    FOREIGN KEY (tenant_id, parent_version) REFERENCES quality.forecast_model (tenant_id, version),
    CHECK (trained_from <= trained_to),
    CHECK (parent_version < version),
    CHECK ((status = 'challenger') = (promoted_at IS NULL)),
    CHECK ((status = 'archived') = (archived_at IS NOT NULL))
);
CREATE UNIQUE INDEX forecast_model_one_champion ON quality.forecast_model (tenant_id) WHERE status = 'champion';

-- All candidates on the same held-out rows. Null where undefined, never zero.
CREATE TABLE quality.model_backtest (
    tenant_id master.identifier NOT NULL,
    version integer NOT NULL,
    candidate text NOT NULL, -- boosting: this version; serving: its parent; else a rule
    row_count integer NOT NULL,
    wape_pct double precision,
    bias_pct double precision,
    mae_units double precision,
    mase double precision,
    pinball_units double precision,
    PRIMARY KEY (tenant_id, version, candidate),
    FOREIGN KEY (tenant_id, version) REFERENCES quality.forecast_model ON DELETE CASCADE
);

-- Text, not code: LightGBM's own format or skops, compressed already. Kept for the versions that may serve again.
CREATE TABLE quality.model_artefact (
    tenant_id master.identifier NOT NULL,
    version integer NOT NULL,
    content bytea NOT NULL,
    PRIMARY KEY (tenant_id, version),
    FOREIGN KEY (tenant_id, version) REFERENCES quality.forecast_model ON DELETE CASCADE
);
ALTER TABLE quality.model_artefact ALTER COLUMN content SET STORAGE EXTERNAL;

-- Every attempt to train and every change of what serves, also those that ended without a model.
CREATE TABLE quality.model_decision (
    tenant_id master.identifier NOT NULL REFERENCES master.tenant,
    decision_id bigint GENERATED ALWAYS AS IDENTITY,
    action text NOT NULL CHECK (action IN ('promoted', 'not_improvable', 'retired', 'rolled_back', 'skipped')),
    version integer, -- the version trained or returned to; null: none, or the rules
    serving_version integer, -- what serves from then on; null: the rules
    previous_version integer, -- what served before
    trigger text NOT NULL CHECK (trigger IN ('manual', 'first', 'age', 'error', 'drift')),
    reason text NOT NULL,
    run_id text, -- null: by command
    decided_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, decision_id),
    FOREIGN KEY (tenant_id, version) REFERENCES quality.forecast_model (tenant_id, version),
    FOREIGN KEY (tenant_id, serving_version) REFERENCES quality.forecast_model (tenant_id, version),
    FOREIGN KEY (tenant_id, previous_version) REFERENCES quality.forecast_model (tenant_id, version)
);
CREATE INDEX model_decision_by_run ON quality.model_decision (run_id);
