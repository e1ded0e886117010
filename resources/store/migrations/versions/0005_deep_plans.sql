-- How products pass through the bakery, what an item is stocked and ordered by, the approval of purchases, what people
-- changed by hand, and what each plan turned out to cost.

-- ---------------------------------------------------------------- master: the workshop, and how items are bought

ALTER TABLE master.product ADD COLUMN ready_by time; -- local time at which a day's first units are needed; null: at opening

-- From when on a resource works for a plan date: the last such local time before what it makes is needed.
ALTER TABLE master.resource ADD COLUMN available_from time NOT NULL DEFAULT '00:00';

-- A resource that holds something else than usual for a time: 0 while it is down.
CREATE TABLE master.resource_calendar (
    tenant_id master.identifier NOT NULL,
    resource_id master.identifier NOT NULL,
    on_date date NOT NULL,
    from_at time NOT NULL DEFAULT '00:00',
    until_at time, -- null: to the end of the day
    capacity numeric(12, 3) NOT NULL CHECK (capacity >= 0),
    reason text NOT NULL DEFAULT '',
    PRIMARY KEY (tenant_id, resource_id, on_date, from_at),
    FOREIGN KEY (tenant_id, resource_id) REFERENCES master.resource,
    CHECK (from_at < until_at)
);

-- What happens to a batch of a product or a run of a dough, in the order of step_no.
CREATE TABLE master.process_step (
    tenant_id master.identifier NOT NULL,
    item_id master.identifier NOT NULL,
    step_no smallint NOT NULL CHECK (step_no > 0),
    resource_kind text NOT NULL CHECK (resource_kind IN ('oven', 'mixer', 'prover', 'labour')),
    resource_id master.identifier, -- null: any of the kind at the place
    minutes numeric(8, 2) NOT NULL CHECK (minutes > 0), -- of a batch, or of a mixer run whatever is in it
    capacity_use numeric(12, 3) NOT NULL DEFAULT 1 CHECK (capacity_use > 0), -- of a batch, in the resource's unit; mixers hold kg
    wait_minutes numeric(8, 2) NOT NULL DEFAULT 0 CHECK (wait_minutes >= 0), -- after it, before the next step: rest, prove, cool
    PRIMARY KEY (tenant_id, item_id, step_no),
    FOREIGN KEY (tenant_id, item_id) REFERENCES master.item,
    FOREIGN KEY (tenant_id, resource_id) REFERENCES master.resource
);

ALTER TABLE master.item
    ADD COLUMN service_level numeric(5, 4) NOT NULL DEFAULT 0.95 CHECK (service_level >= 0.5 AND service_level < 1),
    ADD COLUMN lot_rule text NOT NULL DEFAULT 'delivery_calendar'
        CHECK (lot_rule IN ('delivery_calendar', 'lot_for_lot', 'fixed', 'period', 'wagner_whitin')),
    ADD COLUMN lot_quantity master.quantity CHECK (lot_quantity > 0), -- of a fixed lot, base units
    ADD COLUMN lot_periods smallint CHECK (lot_periods > 0), -- days that a period lot covers
    ADD CHECK (lot_rule <> 'fixed' OR lot_quantity IS NOT NULL),
    ADD CHECK (lot_rule <> 'period' OR lot_periods IS NOT NULL);

ALTER TABLE master.supplier ADD COLUMN delivery_fee master.money NOT NULL DEFAULT 0 CHECK (delivery_fee >= 0);
ALTER TABLE master.supplier_item
    ADD COLUMN lead_sd_days numeric(6, 3) NOT NULL DEFAULT 0 CHECK (lead_sd_days >= 0),
    ADD COLUMN on_time_rate numeric(5, 4) NOT NULL DEFAULT 1 CHECK (on_time_rate > 0 AND on_time_rate <= 1);

-- ---------------------------------------------------------------- plans: production in depth

ALTER TABLE plans.production_line
    ADD COLUMN unlimited_batches integer, -- worth making if nothing else needed the ovens and mixers
    ADD COLUMN recommended_batches integer, -- what planning says, before a person's override
    ADD COLUMN limiting_resource_id master.identifier,
    ADD COLUMN expected_carried_units master.quantity NOT NULL DEFAULT 0, -- expected to be left and sellable the day after
    ADD COLUMN deviation_units real[] NOT NULL DEFAULT '{}', -- 14 days: what demand may change in the tentative quantity, one sigma
    ADD COLUMN override_by text,
    ADD COLUMN override_reason text,
    ADD COLUMN batch_resource_ids text[] NOT NULL DEFAULT '{}', -- oven of each batch of the plan date; empty without process steps
    ADD COLUMN batch_starts_at timestamptz[] NOT NULL DEFAULT '{}', -- its first step, beside the mixing of its dough
    ADD COLUMN batch_bakes_at timestamptz[] NOT NULL DEFAULT '{}', -- into the oven
    ADD COLUMN batch_ready_at timestamptz[] NOT NULL DEFAULT '{}',
    ADD COLUMN ready_by timestamptz, -- when the first units are needed
    ADD COLUMN is_late boolean NOT NULL DEFAULT false, -- a batch is ready after that
    ADD CHECK (cardinality(batch_ready_at) IN (0, batches)),
    ADD CHECK ((override_by IS NULL) = (override_reason IS NULL));
ALTER TABLE plans.production_line DROP CONSTRAINT production_line_limited_by_check;
ALTER TABLE plans.production_line ADD CONSTRAINT production_line_limited_by_check CHECK (limited_by IN (
    'none', 'batch', 'batch_min', 'batch_max', 'capacity', 'override', 'closed', 'not_made_today', 'no_demand'));

-- What is mixed for the plan date: each dough once for all products that take it, cut into runs that the mixer holds.
CREATE TABLE plans.dough_line (
    tenant_id master.identifier NOT NULL,
    plan_date date NOT NULL,
    plan_id uuid NOT NULL, -- of the production plan
    location_id master.identifier NOT NULL,
    item_id master.identifier NOT NULL,
    quantity master.quantity NOT NULL, -- base units to mix for the plan date, net of dough at hand
    opening_usable_quantity master.quantity NOT NULL DEFAULT 0,
    runs integer NOT NULL CHECK (runs >= 0),
    run_quantities numeric[] NOT NULL,
    run_resource_ids text[] NOT NULL DEFAULT '{}', -- empty without a mixing step
    run_starts_at timestamptz[] NOT NULL DEFAULT '{}',
    run_ends_at timestamptz[] NOT NULL DEFAULT '{}',
    product_ids text[] NOT NULL,
    product_quantities numeric[] NOT NULL, -- of the dough, beside each product
    horizon_quantity numeric[] NOT NULL, -- 14 days
    PRIMARY KEY (tenant_id, plan_date, plan_id, location_id, item_id),
    FOREIGN KEY (tenant_id, plan_date, plan_id) REFERENCES plans.plan ON DELETE CASCADE,
    CHECK (cardinality(run_quantities) = runs),
    CHECK (cardinality(product_ids) = cardinality(product_quantities))
) PARTITION BY RANGE (plan_date);

-- One row per batch of the plan date, numbered from 1.
CREATE VIEW plans.production_batch AS
SELECT l.tenant_id, l.plan_date, l.plan_id, p.revision, l.location_id, l.product_id, batch.n::integer AS batch_no,
       l.batch_size_units, l.batch_marginal_values[batch.n] AS expected_gain,
       l.batch_resource_ids[batch.n] AS resource_id, l.batch_starts_at[batch.n] AS starts_at,
       l.batch_bakes_at[batch.n] AS bakes_at, l.batch_ready_at[batch.n] AS ready_at, l.ready_by
FROM plans.production_line AS l
JOIN plans.plan AS p USING (tenant_id, plan_date, plan_id)
CROSS JOIN LATERAL generate_series(1, l.batches) AS batch (n)
WHERE p.status = 'active';

-- ---------------------------------------------------------------- plans: procurement and projection in depth

ALTER TABLE plans.requirement
    ADD COLUMN deviation_quantity real[] NOT NULL DEFAULT '{}', -- 14 days: one sigma of the gross requirement, 0 inside the frozen plan
    ADD COLUMN safety_stock_reason text NOT NULL DEFAULT '';

ALTER TABLE plans.purchase_line
    ADD COLUMN purchase_order_id uuid, -- lines that go out in one order; uuid5 of plan, supplier, order day and delivery
    ADD COLUMN lot_rule text NOT NULL DEFAULT 'delivery_calendar',
    ADD COLUMN recommended_packs integer, -- what planning says, before a person's override
    ADD COLUMN override_by text,
    ADD COLUMN override_reason text,
    ADD COLUMN covers_quantity numeric[] NOT NULL DEFAULT '{}', -- 14 days: the net requirement of each day that it covers
    ADD COLUMN alternatives jsonb NOT NULL DEFAULT '[]', -- other suppliers: price, earliest delivery, and why not
    ADD CHECK ((override_by IS NULL) = (override_reason IS NULL));
CREATE INDEX purchase_line_by_id ON plans.purchase_line (line_id);

ALTER TABLE plans.projection
    ADD COLUMN stock_out_probability real, -- that it runs out within the horizon; null: made before this was known
    ADD COLUMN stock_out_probability_by_day real[] NOT NULL DEFAULT '{}', -- that it has run out by each day
    ADD COLUMN closing_low_quantity numeric[] NOT NULL DEFAULT '{}', -- on the 0.9 path of demand
    ADD COLUMN closing_high_quantity numeric[] NOT NULL DEFAULT '{}'; -- on the 0.1 path of demand

ALTER TABLE plans.exception DROP CONSTRAINT exception_subject_kind_check;
ALTER TABLE plans.exception ADD CONSTRAINT exception_subject_kind_check
    CHECK (subject_kind IN ('product', 'item', 'supplier', 'location', 'model', 'resource'));

-- The views of 0001 with what each day adds.
CREATE OR REPLACE VIEW plans.requirement_day AS
SELECT r.tenant_id, r.plan_date, r.plan_id, p.revision, r.location_id, r.item_id,
       (r.plan_date + (day.n - 1)::integer) AS target_date,
       day.gross_quantity, r.scheduled_receipts_quantity[day.n] AS scheduled_receipts_quantity,
       r.net_quantity[day.n] AS net_quantity, r.planned_receipts_quantity[day.n] AS planned_receipts_quantity,
       r.projected_on_hand_quantity[day.n] AS projected_on_hand_quantity,
       r.deviation_quantity[day.n] AS deviation_quantity
FROM plans.requirement AS r
JOIN plans.plan AS p USING (tenant_id, plan_date, plan_id)
CROSS JOIN LATERAL unnest(r.gross_quantity) WITH ORDINALITY AS day (gross_quantity, n)
WHERE p.status = 'active';

CREATE OR REPLACE VIEW plans.projection_day AS
SELECT s.tenant_id, s.plan_date, s.plan_id, p.revision, s.location_id, s.item_id,
       (s.plan_date + (day.n - 1)::integer) AS target_date,
       s.receipts_quantity[day.n] AS receipts_quantity, s.consumption_quantity[day.n] AS consumption_quantity,
       s.shortage_quantity[day.n] AS shortage_quantity, s.expired_quantity[day.n] AS expired_quantity,
       day.closing_quantity, s.closing_low_quantity[day.n] AS closing_low_quantity,
       s.closing_high_quantity[day.n] AS closing_high_quantity,
       s.stock_out_probability_by_day[day.n] AS stock_out_probability_by_day
FROM plans.projection AS s
JOIN plans.plan AS p USING (tenant_id, plan_date, plan_id)
CROSS JOIN LATERAL unnest(s.closing_quantity) WITH ORDINALITY AS day (closing_quantity, n)
WHERE p.status = 'active';

CREATE OR REPLACE VIEW plans.production_day AS
SELECT l.tenant_id, l.plan_date, l.plan_id, p.revision, l.location_id, l.product_id,
       (l.plan_date + (day.n - 1)::integer) AS target_date, day.n > 1 AS is_tentative, day.quantity_units,
       l.deviation_units[day.n] AS deviation_units
FROM plans.production_line AS l
JOIN plans.plan AS p USING (tenant_id, plan_date, plan_id)
CROSS JOIN LATERAL unnest(l.horizon_units) WITH ORDINALITY AS day (quantity_units, n)
WHERE p.status = 'active';

-- ---------------------------------------------------------------- plans: approval and what people change

-- approval_version counts the revisions of a date's plan and the decisions on them: who decides says which one he has seen.
ALTER TABLE plans.plan
    ADD COLUMN approval_version integer NOT NULL DEFAULT 1,
    ADD COLUMN decided_at timestamptz,
    ADD COLUMN decided_by text,
    ADD COLUMN reason_code text CHECK (reason_code IN ('stale_data', 'wrong_qty', 'wrong_supplier', 'price', 'budget', 'other')),
    ADD COLUMN decision_notes text,
    ADD COLUMN regenerated_from uuid; -- the rejected plan that this one takes the place of

-- Everything that a person, or a tenant's auto-approval, decided on a plan. Rows are only added.
CREATE TABLE ops.plan_decision (
    decision_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id master.identifier NOT NULL REFERENCES master.tenant,
    plan_date date NOT NULL,
    plan_id uuid NOT NULL,
    action text NOT NULL CHECK (action IN ('approve', 'reject', 'send', 'override', 'withdraw_override', 'regenerate')),
    actor text NOT NULL CHECK (actor <> ''),
    from_state text NOT NULL,
    to_state text NOT NULL,
    reason_code text,
    notes text NOT NULL DEFAULT '',
    warnings jsonb NOT NULL DEFAULT '[]',
    data jsonb NOT NULL DEFAULT '{}',
    approval_version integer NOT NULL, -- after the decision
    decided_at timestamptz NOT NULL
);
CREATE INDEX plan_decision_by_date ON ops.plan_decision (tenant_id, plan_date);

-- Plans to be made again since one was rejected for stale data: a sensor launches them, at most three times a date.
CREATE TABLE ops.plan_regeneration (
    tenant_id master.identifier NOT NULL REFERENCES master.tenant,
    plan_date date NOT NULL,
    attempt smallint NOT NULL CHECK (attempt BETWEEN 1 AND 3),
    plan_id uuid NOT NULL, -- the rejected one
    requested_by text NOT NULL,
    requested_at timestamptz NOT NULL,
    completed_at timestamptz, -- when the new revision was written
    PRIMARY KEY (tenant_id, plan_date, attempt)
);
CREATE INDEX plan_regeneration_open ON ops.plan_regeneration (requested_at) WHERE completed_at IS NULL;

-- A person's own number for a line. It holds for plans made from the inputs that it was given on.
CREATE TABLE plans.plan_override (
    override_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id master.identifier NOT NULL REFERENCES master.tenant,
    plan_date date NOT NULL,
    kind text NOT NULL CHECK (kind IN ('production', 'purchase')),
    location_id master.identifier NOT NULL,
    subject_id master.identifier NOT NULL, -- the product, or the item bought
    supplier_id master.identifier, -- of a purchase
    delivery_on date, -- of a purchase
    amount integer NOT NULL CHECK (amount >= 0), -- batches, or packs
    actor text NOT NULL CHECK (actor <> ''),
    reason text NOT NULL CHECK (reason <> ''),
    inputs_hash char(64) NOT NULL,
    made_at timestamptz NOT NULL,
    withdrawn_at timestamptz,
    withdrawn_by text,
    CHECK ((kind = 'purchase') = (supplier_id IS NOT NULL)),
    CHECK ((kind = 'purchase') = (delivery_on IS NOT NULL)),
    FOREIGN KEY (tenant_id, location_id) REFERENCES master.location,
    FOREIGN KEY (tenant_id, subject_id) REFERENCES master.item
);
CREATE UNIQUE INDEX plan_override_one ON plans.plan_override
    (tenant_id, plan_date, kind, location_id, subject_id, supplier_id, delivery_on) NULLS NOT DISTINCT WHERE withdrawn_at IS NULL;

-- ---------------------------------------------------------------- quality: plans judged

-- What a day's production turned out to cost against the best that could have been made, in the tenant's currency.
CREATE TABLE quality.plan_outcome (
    tenant_id master.identifier NOT NULL,
    business_date date NOT NULL,
    location_id master.identifier NOT NULL, -- where it is made
    product_id master.identifier NOT NULL,
    plan_id uuid NOT NULL,
    is_replayed boolean NOT NULL,
    made_units double precision NOT NULL,
    opening_units double precision NOT NULL,
    sold_units double precision NOT NULL,
    demand_units double precision NOT NULL, -- sold, or where it sold out the estimate of what would have been
    is_censored boolean NOT NULL, -- sold out: demand is an estimate
    waste_units double precision NOT NULL,
    lost_units double precision NOT NULL,
    underage_cost double precision NOT NULL, -- Cu and Co; of the default critical ratio where is_default_critical_ratio
    overage_cost double precision NOT NULL,
    is_default_critical_ratio boolean NOT NULL, -- money is then in shares of Cu + Co, not in the currency
    cost double precision NOT NULL, -- Cu lost + Co waste
    hindsight_units double precision NOT NULL, -- the best quantity in whole batches, had demand been known
    hindsight_cost double precision NOT NULL,
    regret double precision NOT NULL, -- cost - hindsight_cost = the sum of the parts below
    regret_forecast double precision NOT NULL,
    regret_rounding double precision NOT NULL,
    regret_capacity double precision NOT NULL,
    regret_override double precision NOT NULL,
    PRIMARY KEY (tenant_id, business_date, location_id, product_id),
    FOREIGN KEY (tenant_id, business_date) REFERENCES quality.validation ON DELETE CASCADE
);

-- How much a revision of a plan changed what the one before had announced.
CREATE TABLE quality.plan_stability (
    tenant_id master.identifier NOT NULL,
    plan_date date NOT NULL,
    plan_id uuid NOT NULL,
    previous_plan_id uuid NOT NULL,
    kind text NOT NULL CHECK (kind IN ('production', 'procurement')),
    previous_quantity double precision NOT NULL,
    changed_quantity double precision NOT NULL, -- sum of the absolute changes over lines and days
    instability double precision, -- changed over previous; null where nothing was planned before
    weighted_change double precision NOT NULL, -- sum of (1 - a) a^t |change|, a = 0.5
    lines_changed integer NOT NULL,
    PRIMARY KEY (tenant_id, plan_date, plan_id),
    FOREIGN KEY (tenant_id, plan_date, plan_id) REFERENCES plans.plan ON DELETE CASCADE
);
