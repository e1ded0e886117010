-- The loop that learns and calls: late sales, checks, retraining, retries of failed tenants, alerts, pauses.

-- ---------------------------------------------------------------- late sales

-- The version of what was sold on a day: raised in the transaction of every change of that day's sales.
CREATE TABLE facts.actuals_day (
    tenant_id master.identifier NOT NULL REFERENCES master.tenant,
    business_date date NOT NULL,
    version bigint NOT NULL CHECK (version > 0), -- of the tenant's sales when the day last changed (ops.input_version)
    changed_at timestamptz NOT NULL,
    changed_by xid8 NOT NULL DEFAULT pg_current_xact_id(), -- the transaction: readers go by it, past those still open
    PRIMARY KEY (tenant_id, business_date)
);
CREATE INDEX actuals_day_changed ON facts.actuals_day (changed_by);
INSERT INTO facts.actuals_day (tenant_id, business_date, version, changed_at)
SELECT s.tenant_id, s.business_date, max(i.version), max(s.recorded_at)
  FROM facts.sales AS s JOIN ops.input_version AS i ON i.tenant_id = s.tenant_id AND i.input = 'sales'
 GROUP BY s.tenant_id, s.business_date;

-- A finished day asked to be validated again, one row per version of its actuals: asked once, launched until it is done.
CREATE TABLE ops.validation_request (
    tenant_id master.identifier NOT NULL REFERENCES master.tenant,
    business_date date NOT NULL,
    actuals_version bigint NOT NULL, -- 0: nothing was sold, yet the day has forecasts
    batch_id uuid NOT NULL, -- the run that validates it, with others
    reason text NOT NULL CHECK (reason IN ('late_sales', 'gap')),
    requested_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, business_date, actuals_version)
);
CREATE INDEX validation_request_batch ON ops.validation_request (batch_id);

-- Batches of requests and their runs: a batch is launched again, with backoff, while it has days that are not done.
CREATE TABLE ops.validation_batch (
    batch_id uuid PRIMARY KEY,
    attempt smallint NOT NULL DEFAULT 1 CHECK (attempt > 0),
    launch_after timestamptz NOT NULL,
    requested_at timestamptz NOT NULL,
    completed_at timestamptz, -- every day of it has a validation by these actuals, or was given up
    error text
);
CREATE INDEX validation_batch_open ON ops.validation_batch (launch_after) WHERE completed_at IS NULL;

-- Where a tenant's sales are pulled from. The token is a secret of the environment: only its variable's name is kept.
CREATE TABLE ops.sales_service (
    tenant_id master.identifier PRIMARY KEY REFERENCES master.tenant,
    base_url text NOT NULL CHECK (base_url ~ '^https?://'),
    token_variable text NOT NULL CHECK (token_variable ~ '^[A-Z][A-Z0-9_]*$'),
    cursor text, -- where the next pull goes on; null: from the beginning
    is_active boolean NOT NULL DEFAULT true,
    failures integer NOT NULL DEFAULT 0, -- in a row
    next_pull_at timestamptz NOT NULL,
    last_pull_at timestamptz,
    last_error text
);

-- Answers that could not be read, kept whole.
CREATE TABLE ops.quarantined_answer (
    answer_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id master.identifier NOT NULL REFERENCES master.tenant,
    source text NOT NULL, -- address without query, or file name
    cursor text,
    problem text NOT NULL,
    remedy text NOT NULL,
    body bytea NOT NULL,
    received_at timestamptz NOT NULL
);

-- ---------------------------------------------------------------- validation: when it used which actuals, and trends

ALTER TABLE quality.validation ADD COLUMN actuals_version bigint NOT NULL DEFAULT 0; -- of facts.actuals_day; 0: none
UPDATE quality.validation AS v SET actuals_version = a.version
  FROM facts.actuals_day AS a
 WHERE (a.tenant_id, a.business_date) = (v.tenant_id, v.business_date) AND a.version <= v.sales_version;

-- Share of rows with demand below the quantile, by level: a calibrated one lies between the two shares. Empty: not known.
ALTER TABLE quality.validation_metric ADD COLUMN quantile_below jsonb NOT NULL DEFAULT '{}';

-- Of a day's thousand rows trends read one, and one per product.
CREATE INDEX validation_metric_headline ON quality.validation_metric (tenant_id, business_date)
 WHERE scope = 'overall' AND days_ahead = 0;
CREATE INDEX validation_metric_product ON quality.validation_metric (tenant_id, business_date)
 WHERE scope = 'product' AND days_ahead = 0;

-- The errors of each open day beside those of the 28 open days that end on it, weighted by units. Closed days have no row.
-- Trailing errors are null with fewer than 7 open days, planning/checks.py says why.
CREATE VIEW quality.validation_trend AS
WITH open_day AS (
    SELECT tenant_id, business_date, rows_used, actual_units, mae_units * rows_used AS absolute_units,
           wape_pct, mape_pct, naive_wape_pct, bias_pct, coverage_pct
      FROM quality.validation_metric
     WHERE scope = 'overall' AND days_ahead = 0 AND rows_used > 0 AND actual_units > 0
), with_trailing AS (
    SELECT *, (count(*) OVER last_28)::integer AS trailing_days,
           CASE WHEN count(*) OVER last_28 >= 7
                THEN 100 * sum(absolute_units) OVER last_28 / sum(actual_units) OVER last_28 END AS trailing_wape_pct,
           wape_pct - first_value(wape_pct) OVER week_before AS week_over_week_points
      FROM open_day
    WINDOW last_28 AS (PARTITION BY tenant_id ORDER BY business_date ROWS 27 PRECEDING),
           week_before AS (PARTITION BY tenant_id ORDER BY business_date
                           RANGE BETWEEN '7 days' PRECEDING AND '7 days' PRECEDING)
)
SELECT tenant_id, business_date, rows_used, wape_pct, mape_pct, naive_wape_pct, bias_pct, coverage_pct, trailing_days,
       trailing_wape_pct, week_over_week_points,
       trailing_wape_pct - last_value(trailing_wape_pct) OVER (
           PARTITION BY tenant_id ORDER BY business_date RANGE BETWEEN UNBOUNDED PRECEDING AND '30 days' PRECEDING
       ) AS change_in_30_days_points
  FROM with_trailing;

-- ---------------------------------------------------------------- checks

-- What each check said of a tenant's day: the truth behind the grid, also where no event was worth writing.
CREATE TABLE quality.check_result (
    tenant_id master.identifier NOT NULL REFERENCES master.tenant,
    asset text NOT NULL,
    check_name text NOT NULL,
    business_date date NOT NULL, -- the day or plan date that it is about
    status text NOT NULL CHECK (status IN ('passed', 'warned', 'failed', 'undefined')),
    value double precision, -- null where undefined
    threshold double precision,
    message text NOT NULL,
    details jsonb NOT NULL DEFAULT '{}', -- such as the products above the threshold
    reported_status text, -- what Dagster was told of it last; null: nothing, since it said no more than the day before
    run_id text,
    evaluated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, asset, check_name, business_date)
);
CREATE INDEX check_result_latest ON quality.check_result (tenant_id, asset, check_name, business_date DESC);

-- What each check says last: of the latest day, not of the latest evaluation.
CREATE VIEW quality.check_state AS
SELECT DISTINCT ON (tenant_id, asset, check_name) *
  FROM quality.check_result
 ORDER BY tenant_id, asset, check_name, business_date DESC;

-- ---------------------------------------------------------------- retraining

CREATE TABLE ops.retraining_request (
    request_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id master.identifier NOT NULL REFERENCES master.tenant,
    trigger text NOT NULL CHECK (trigger IN ('manual', 'first', 'age', 'error', 'drift')),
    product_ids text[] NOT NULL DEFAULT '{}', -- on whose account
    requested_by text NOT NULL,
    reason text NOT NULL,
    status text NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'launched', 'completed', 'failed', 'cancelled')),
    batch_id uuid, -- the run that it went into
    attempt smallint NOT NULL DEFAULT 0,
    launch_after timestamptz NOT NULL,
    outcome text, -- action of quality.model_decision
    requested_at timestamptz NOT NULL,
    launched_at timestamptz,
    completed_at timestamptz
);
CREATE UNIQUE INDEX retraining_open ON ops.retraining_request (tenant_id) WHERE status IN ('queued', 'launched');
CREATE INDEX retraining_of_tenant ON ops.retraining_request (tenant_id, completed_at);

-- Whether a promoted model is better on live days than what it replaced was before.
CREATE TABLE quality.model_improvement (
    tenant_id master.identifier NOT NULL,
    version integer NOT NULL,
    promoted_at timestamptz NOT NULL,
    days integer NOT NULL, -- live open days since the promotion, at most 14
    wape_pct double precision, -- on those days
    naive_wape_pct double precision,
    wape_before_pct double precision, -- on the 14 open days before the promotion
    naive_wape_before_pct double precision,
    verdict text NOT NULL CHECK (verdict IN ('waiting', 'improved', 'not_improved', 'rolled_back', 'undefined')),
    evaluated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, version, promoted_at),
    FOREIGN KEY (tenant_id, version) REFERENCES quality.forecast_model (tenant_id, version)
);

-- ---------------------------------------------------------------- failed tenants

ALTER TABLE ops.failure
    ADD COLUMN attempts smallint NOT NULL DEFAULT 1, -- failures in a row of this tenant, date and job
    ADD COLUMN retry_at timestamptz, -- when it is planned again by itself; null: not by itself
    ADD COLUMN retry_id uuid, -- the run that plans it again: claimed first, launched then
    ADD COLUMN state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'review', 'dismissed', 'resolved')),
    ADD COLUMN dismissed_by text,
    ADD COLUMN notes text NOT NULL DEFAULT '';
UPDATE ops.failure SET state = 'resolved' WHERE resolved_at IS NOT NULL;
UPDATE ops.failure SET state = 'review' WHERE resolved_at IS NULL;
ALTER TABLE ops.failure ADD CHECK ((resolved_at IS NULL) = (state IN ('open', 'review')));
CREATE INDEX failure_retry ON ops.failure (retry_at) WHERE resolved_at IS NULL AND retry_at IS NOT NULL;

-- ---------------------------------------------------------------- alerts

CREATE TABLE ops.alert (
    alert_id uuid PRIMARY KEY,
    fingerprint text NOT NULL, -- name, tenant, asset, check
    name text NOT NULL, -- of resources/vocabulary.py
    tenant_id master.identifier REFERENCES master.tenant, -- null: of the whole instance
    asset text NOT NULL DEFAULT '',
    check_name text NOT NULL DEFAULT '',
    severity text NOT NULL CHECK (severity IN ('critical', 'high', 'medium', 'low')),
    state text NOT NULL CHECK (state IN ('pending', 'firing', 'acknowledged', 'resolved')),
    summary text NOT NULL,
    remedy text NOT NULL,
    runbook text NOT NULL, -- anchor in docs/runbook.md
    about_date date, -- the latest day that it is about
    occurrences integer NOT NULL DEFAULT 1, -- days that it was seen on
    started_at timestamptz NOT NULL,
    fired_at timestamptz,
    last_seen_at timestamptz NOT NULL,
    acknowledged_at timestamptz,
    acknowledged_by text,
    escalation smallint NOT NULL DEFAULT 0, -- 0, 1 after 30, 2 after 60 minutes unacknowledged
    reminded_at timestamptz,
    resolved_at timestamptz
);
CREATE UNIQUE INDEX alert_open ON ops.alert (fingerprint) WHERE state <> 'resolved';

CREATE TABLE ops.alert_silence (
    silence_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text, -- null: all
    tenant_id master.identifier REFERENCES master.tenant, -- null: all
    reason text NOT NULL CHECK (reason <> ''),
    actor text NOT NULL CHECK (actor <> ''),
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    CHECK (starts_at < ends_at)
);

-- What is told to whom: written with the change of state that it tells of, sent afterwards until it is received.
CREATE TABLE ops.alert_message (
    message_id uuid PRIMARY KEY, -- the same when it is sent again
    target text NOT NULL, -- log, webhook, email
    kind text NOT NULL CHECK (kind IN ('firing', 'reminder', 'escalation', 'resolved')),
    group_key text NOT NULL,
    alert_ids uuid[] NOT NULL,
    payload jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    send_after timestamptz NOT NULL,
    attempts smallint NOT NULL DEFAULT 0,
    sent_at timestamptz,
    given_up_at timestamptz,
    last_error text
);
CREATE INDEX alert_message_open ON ops.alert_message (send_after) WHERE sent_at IS NULL AND given_up_at IS NULL;

CREATE INDEX alert_by_name ON ops.alert (name, resolved_at);
CREATE INDEX execution_completed ON ops.execution (completed_at); -- how long generations of the last day took

-- ---------------------------------------------------------------- pauses, holidays, weekends

CREATE TABLE ops.pause (
    pause_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id master.identifier REFERENCES master.tenant, -- null: everybody
    reason text NOT NULL CHECK (reason <> ''),
    actor text NOT NULL CHECK (actor <> ''),
    paused_at timestamptz NOT NULL,
    resumed_by text,
    resumed_at timestamptz
);
CREATE UNIQUE INDEX pause_open ON ops.pause (coalesce(tenant_id, '')) WHERE resumed_at IS NULL;

-- When a workflow runs on public holidays and weekends; without a row it runs on every day.
CREATE TABLE master.workflow_policy (
    tenant_id master.identifier NOT NULL REFERENCES master.tenant,
    workflow text NOT NULL,
    on_holidays text NOT NULL DEFAULT 'run' CHECK (on_holidays IN ('run', 'skip', 'move')),
    on_weekends text NOT NULL DEFAULT 'run' CHECK (on_weekends IN ('run', 'skip', 'move')),
    moved_to time, -- the local time on such days where a workflow is moved
    PRIMARY KEY (tenant_id, workflow),
    CHECK ((on_holidays <> 'move' AND on_weekends <> 'move') OR moved_to IS NOT NULL)
);
