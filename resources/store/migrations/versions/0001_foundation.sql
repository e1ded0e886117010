-- The store's first shape: one schema per concern, every tenant-owned key led by tenant_id.
-- Quantities are in base units (kg, L, unit), money in the tenant's currency, dates in the tenant's time zone.

CREATE SCHEMA master;
CREATE SCHEMA facts;
CREATE SCHEMA plans;
CREATE SCHEMA quality;

CREATE DOMAIN master.identifier AS text CHECK (VALUE ~ '^[a-z0-9][a-z0-9_-]{0,47}$');
CREATE DOMAIN master.weekday AS smallint CHECK (VALUE BETWEEN 0 AND 6); -- 0 is Monday
CREATE DOMAIN master.quantity AS numeric(16, 6) CHECK (VALUE >= 0);
CREATE DOMAIN master.money AS numeric(16, 4);

-- ---------------------------------------------------------------- ops: what the platform keeps about itself

CREATE TABLE ops.setting (
    name text PRIMARY KEY,
    value jsonb NOT NULL,
    updated_at timestamptz NOT NULL
);

-- ---------------------------------------------------------------- master: who bakes what, where, from what

CREATE TABLE master.schedule_group (
    schedule_group master.identifier PRIMARY KEY,
    production_planning_at time NOT NULL DEFAULT '05:30',
    procurement_planning_at time NOT NULL DEFAULT '06:00',
    forecast_validation_at time NOT NULL DEFAULT '08:00'
);
INSERT INTO master.schedule_group (schedule_group) VALUES ('default');

CREATE TABLE master.tenant (
    tenant_id master.identifier PRIMARY KEY,
    name text NOT NULL,
    timezone text NOT NULL,
    country char(2) NOT NULL CHECK (country ~ '^[A-Z]{2}$'),
    subdivision text,
    currency char(3) NOT NULL DEFAULT 'EUR' CHECK (currency ~ '^[A-Z]{3}$'),
    tier text NOT NULL DEFAULT 'starter' CHECK (tier IN ('starter', 'professional', 'enterprise')),
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended', 'cancelled')),
    parent_tenant_id master.identifier REFERENCES master.tenant,
    schedule_group master.identifier NOT NULL DEFAULT 'default' REFERENCES master.schedule_group,
    plan_lead_days smallint NOT NULL DEFAULT 0 CHECK (plan_lead_days IN (0, 1)),
    auto_approve boolean NOT NULL DEFAULT true,
    default_critical_ratio numeric(4, 3) NOT NULL DEFAULT 0.700 CHECK (default_critical_ratio > 0 AND default_critical_ratio < 1),
    is_synthetic boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL,
    CHECK (parent_tenant_id <> tenant_id)
);
CREATE INDEX tenant_schedule ON master.tenant (timezone, schedule_group) WHERE status = 'active';

CREATE TABLE master.location (
    tenant_id master.identifier NOT NULL REFERENCES master.tenant,
    location_id master.identifier NOT NULL,
    name text NOT NULL,
    kind text NOT NULL DEFAULT 'both' CHECK (kind IN ('outlet', 'central', 'both')),
    is_active boolean NOT NULL DEFAULT true,
    PRIMARY KEY (tenant_id, location_id)
);

-- A location without rows here is open every day; with rows, on the weekdays listed.
CREATE TABLE master.opening_hours (
    tenant_id master.identifier NOT NULL,
    location_id master.identifier NOT NULL,
    weekday master.weekday NOT NULL,
    opens_at time NOT NULL,
    closes_at time NOT NULL,
    PRIMARY KEY (tenant_id, location_id, weekday),
    FOREIGN KEY (tenant_id, location_id) REFERENCES master.location,
    CHECK (opens_at < closes_at)
);

-- Everything that can be stocked, made or bought. A product is an item that is sold.
CREATE TABLE master.item (
    tenant_id master.identifier NOT NULL REFERENCES master.tenant,
    item_id master.identifier NOT NULL,
    name text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('product', 'dough', 'ingredient', 'packaging')),
    base_unit text NOT NULL CHECK (base_unit IN ('kg', 'L', 'unit')),
    shelf_life_days smallint CHECK (shelf_life_days > 0), -- null: keeps beyond the horizon
    removal_days smallint NOT NULL DEFAULT 0 CHECK (removal_days >= 0), -- not used in the last days before expiry
    unit_cost master.money CHECK (unit_cost >= 0),
    safety_stock_quantity master.quantity NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, item_id)
);

CREATE TABLE master.unit_conversion (
    tenant_id master.identifier NOT NULL,
    item_id master.identifier NOT NULL,
    from_unit text NOT NULL,
    factor numeric(16, 8) NOT NULL CHECK (factor > 0), -- base units in one from_unit
    PRIMARY KEY (tenant_id, item_id, from_unit),
    FOREIGN KEY (tenant_id, item_id) REFERENCES master.item
);

CREATE TABLE master.product (
    tenant_id master.identifier NOT NULL,
    product_id master.identifier NOT NULL,
    batch_size_units master.quantity NOT NULL DEFAULT 1 CHECK (batch_size_units > 0),
    batch_min smallint NOT NULL DEFAULT 0 CHECK (batch_min >= 0),
    batch_multiple smallint NOT NULL DEFAULT 1 CHECK (batch_multiple > 0),
    batch_max_per_day smallint CHECK (batch_max_per_day > 0),
    batch_fixed_cost master.money NOT NULL DEFAULT 0 CHECK (batch_fixed_cost >= 0),
    made_on_weekdays smallint[] NOT NULL DEFAULT '{0,1,2,3,4,5,6}',
    daily_estimate_units master.quantity, -- the owner's estimate, used until there is history
    is_active boolean NOT NULL DEFAULT true,
    PRIMARY KEY (tenant_id, product_id),
    FOREIGN KEY (tenant_id, product_id) REFERENCES master.item
);

-- Append-only: a plan uses the version in force on its run date and stores the values it used.
CREATE TABLE master.product_price (
    tenant_id master.identifier NOT NULL,
    product_id master.identifier NOT NULL,
    valid_from date NOT NULL DEFAULT '0001-01-01',
    version integer NOT NULL CHECK (version > 0),
    unit_price master.money CHECK (unit_price > 0),
    variable_cost master.money CHECK (variable_cost >= 0), -- null: unknown, plans use the default critical ratio and say so
    salvage_value master.money NOT NULL DEFAULT 0, -- negative: disposal costs
    goodwill_cost master.money NOT NULL DEFAULT 0 CHECK (goodwill_cost >= 0),
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, product_id, version),
    FOREIGN KEY (tenant_id, product_id) REFERENCES master.product
);

-- What is sold where, and where it is made.
CREATE TABLE master.assortment (
    tenant_id master.identifier NOT NULL,
    location_id master.identifier NOT NULL,
    product_id master.identifier NOT NULL,
    made_at_location_id master.identifier NOT NULL,
    is_active boolean NOT NULL DEFAULT true,
    PRIMARY KEY (tenant_id, location_id, product_id),
    FOREIGN KEY (tenant_id, location_id) REFERENCES master.location,
    FOREIGN KEY (tenant_id, made_at_location_id) REFERENCES master.location,
    FOREIGN KEY (tenant_id, product_id) REFERENCES master.product
);

CREATE TABLE master.recipe (
    tenant_id master.identifier NOT NULL,
    output_item_id master.identifier NOT NULL,
    version integer NOT NULL CHECK (version > 0),
    valid_from date NOT NULL DEFAULT '0001-01-01',
    output_quantity master.quantity NOT NULL CHECK (output_quantity > 0), -- in the output's base unit
    yield_frac numeric(6, 5) NOT NULL DEFAULT 1 CHECK (yield_frac > 0 AND yield_frac <= 1),
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, output_item_id, version),
    FOREIGN KEY (tenant_id, output_item_id) REFERENCES master.item
);

CREATE TABLE master.recipe_line (
    tenant_id master.identifier NOT NULL,
    output_item_id master.identifier NOT NULL,
    version integer NOT NULL,
    item_id master.identifier NOT NULL,
    quantity master.quantity NOT NULL CHECK (quantity > 0), -- in the item's base unit, for output_quantity
    scrap_frac numeric(6, 5) NOT NULL DEFAULT 0 CHECK (scrap_frac >= 0 AND scrap_frac < 1),
    PRIMARY KEY (tenant_id, output_item_id, version, item_id),
    FOREIGN KEY (tenant_id, output_item_id, version) REFERENCES master.recipe,
    FOREIGN KEY (tenant_id, item_id) REFERENCES master.item,
    CHECK (item_id <> output_item_id)
);

CREATE TABLE master.resource (
    tenant_id master.identifier NOT NULL,
    resource_id master.identifier NOT NULL,
    location_id master.identifier NOT NULL,
    name text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('oven', 'mixer', 'prover', 'labour')),
    capacity numeric(12, 3) NOT NULL CHECK (capacity > 0),
    capacity_unit text NOT NULL,
    PRIMARY KEY (tenant_id, resource_id),
    FOREIGN KEY (tenant_id, location_id) REFERENCES master.location
);

CREATE TABLE master.supplier (
    tenant_id master.identifier NOT NULL REFERENCES master.tenant,
    supplier_id master.identifier NOT NULL,
    name text NOT NULL,
    delivery_weekdays smallint[] NOT NULL DEFAULT '{0,1,2,3,4,5,6}' CHECK (cardinality(delivery_weekdays) > 0),
    order_cutoff_at time NOT NULL DEFAULT '12:00',
    min_order_value master.money NOT NULL DEFAULT 0 CHECK (min_order_value >= 0),
    PRIMARY KEY (tenant_id, supplier_id)
);

CREATE TABLE master.supplier_item (
    tenant_id master.identifier NOT NULL,
    supplier_id master.identifier NOT NULL,
    item_id master.identifier NOT NULL,
    priority smallint NOT NULL DEFAULT 1 CHECK (priority > 0),
    lead_days smallint NOT NULL CHECK (lead_days >= 0),
    pack_quantity master.quantity NOT NULL CHECK (pack_quantity > 0), -- base units in a pack
    min_packs integer NOT NULL DEFAULT 1 CHECK (min_packs > 0),
    multiple_packs integer NOT NULL DEFAULT 1 CHECK (multiple_packs > 0),
    is_active boolean NOT NULL DEFAULT true,
    PRIMARY KEY (tenant_id, supplier_id, item_id),
    FOREIGN KEY (tenant_id, supplier_id) REFERENCES master.supplier,
    FOREIGN KEY (tenant_id, item_id) REFERENCES master.item
);

-- Append-only; from_packs 1 is the base price, higher ones are price breaks (all-units discount).
CREATE TABLE master.supplier_price (
    tenant_id master.identifier NOT NULL,
    supplier_id master.identifier NOT NULL,
    item_id master.identifier NOT NULL,
    from_packs integer NOT NULL DEFAULT 1 CHECK (from_packs > 0),
    version integer NOT NULL CHECK (version > 0),
    valid_from date NOT NULL DEFAULT '0001-01-01',
    price_per_pack master.money NOT NULL CHECK (price_per_pack >= 0),
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, supplier_id, item_id, from_packs, version),
    FOREIGN KEY (tenant_id, supplier_id, item_id) REFERENCES master.supplier_item
);

-- Empty location or product: all of them.
CREATE TABLE master.calendar_event (
    tenant_id master.identifier NOT NULL REFERENCES master.tenant,
    location_id master.identifier,
    product_id master.identifier,
    business_date date NOT NULL,
    kind text NOT NULL CHECK (kind IN ('holiday', 'school_holiday', 'promotion', 'closure')),
    name text NOT NULL,
    UNIQUE NULLS NOT DISTINCT (tenant_id, location_id, product_id, business_date, kind, name),
    FOREIGN KEY (tenant_id, location_id) REFERENCES master.location,
    FOREIGN KEY (tenant_id, product_id) REFERENCES master.product
);
CREATE INDEX calendar_event_by_date ON master.calendar_event (tenant_id, business_date);

-- ---------------------------------------------------------------- ops: imports, versions, executions, failures, outbox

CREATE TABLE ops.input_version (
    tenant_id master.identifier NOT NULL REFERENCES master.tenant,
    input text NOT NULL CHECK (input IN ('sales', 'stock', 'recipes', 'suppliers', 'orders', 'calendar', 'products', 'settings')),
    version bigint NOT NULL CHECK (version > 0),
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, input)
);

CREATE TABLE ops.import (
    import_id uuid PRIMARY KEY,
    tenant_id master.identifier NOT NULL REFERENCES master.tenant,
    kind text NOT NULL,
    input text NOT NULL,
    file_name text NOT NULL,
    content_sha256 char(64) NOT NULL,
    rows_read bigint NOT NULL,
    rows_written bigint NOT NULL,
    rows_unchanged bigint NOT NULL,
    rows_quarantined bigint NOT NULL,
    imported_at timestamptz NOT NULL,
    seq bigint GENERATED ALWAYS AS IDENTITY UNIQUE -- the order in which a sensor reports imports to Dagster
);
CREATE UNIQUE INDEX import_once ON ops.import (tenant_id, kind, content_sha256);

CREATE TABLE ops.quarantine (
    import_id uuid NOT NULL REFERENCES ops.import ON DELETE CASCADE,
    tenant_id master.identifier NOT NULL REFERENCES master.tenant,
    row_number bigint NOT NULL,
    column_name text NOT NULL,
    value text NOT NULL,
    problem text NOT NULL,
    remedy text NOT NULL,
    raw jsonb NOT NULL,
    PRIMARY KEY (import_id, row_number, column_name)
);

CREATE TABLE ops.execution (
    execution_id uuid PRIMARY KEY,
    workflow text NOT NULL,
    type text NOT NULL CHECK (type IN ('scheduled', 'manual', 'backfill', 'retry')),
    triggered_by text NOT NULL,
    tenant_id master.identifier NOT NULL REFERENCES master.tenant,
    plan_date date NOT NULL,
    status text NOT NULL CHECK (status IN ('pending', 'running', 'completed', 'failed', 'cancelled')),
    started_at timestamptz,
    completed_at timestamptz,
    duration_seconds double precision,
    steps_total smallint NOT NULL,
    steps_completed smallint NOT NULL DEFAULT 0,
    steps_failed smallint NOT NULL DEFAULT 0,
    error text,
    result jsonb NOT NULL DEFAULT '{}',
    run_id text NOT NULL,
    instance text NOT NULL
);
CREATE INDEX execution_by_tenant ON ops.execution (tenant_id, plan_date, workflow);
CREATE INDEX execution_by_run ON ops.execution (run_id);

CREATE TABLE ops.execution_log (
    execution_id uuid NOT NULL REFERENCES ops.execution ON DELETE CASCADE,
    step_index smallint NOT NULL,
    step_name text NOT NULL,
    level text NOT NULL CHECK (level IN ('debug', 'info', 'warning', 'error')),
    message text NOT NULL,
    data jsonb NOT NULL DEFAULT '{}',
    logged_at timestamptz NOT NULL,
    PRIMARY KEY (execution_id, step_index)
);

-- A tenant set aside: which link, why, and what mends it. Resolved when the same date is planned.
CREATE TABLE ops.failure (
    failure_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id master.identifier NOT NULL REFERENCES master.tenant,
    workflow text NOT NULL,
    plan_date date NOT NULL,
    link text NOT NULL,
    reason text NOT NULL,
    remedy text NOT NULL,
    run_id text NOT NULL,
    failed_at timestamptz NOT NULL,
    resolved_at timestamptz
);
CREATE INDEX failure_open ON ops.failure (tenant_id, plan_date) WHERE resolved_at IS NULL;

CREATE TABLE ops.outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id uuid NOT NULL UNIQUE,
    type text NOT NULL,
    subject text NOT NULL,
    tenant_id master.identifier REFERENCES master.tenant,
    payload jsonb NOT NULL,
    created_at timestamptz NOT NULL
);

-- ---------------------------------------------------------------- facts: what happened

CREATE TABLE facts.sales (
    tenant_id master.identifier NOT NULL,
    location_id master.identifier NOT NULL,
    product_id master.identifier NOT NULL,
    business_date date NOT NULL,
    source_id text NOT NULL DEFAULT '',
    quantity_units master.quantity NOT NULL,
    unit_price master.money CHECK (unit_price >= 0),
    sold_out_at time, -- local time at which the last one went; null: not sold out as far as known
    import_id uuid,
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, location_id, product_id, business_date, source_id),
    FOREIGN KEY (tenant_id, location_id) REFERENCES master.location,
    FOREIGN KEY (tenant_id, product_id) REFERENCES master.product
) PARTITION BY RANGE (business_date);

-- The values that later imports replaced.
CREATE TABLE facts.sales_replaced (
    tenant_id master.identifier NOT NULL,
    location_id master.identifier NOT NULL,
    product_id master.identifier NOT NULL,
    business_date date NOT NULL,
    source_id text NOT NULL,
    quantity_units master.quantity NOT NULL,
    unit_price master.money,
    sold_out_at time,
    import_id uuid,
    recorded_at timestamptz NOT NULL,
    replaced_by_import_id uuid,
    replaced_at timestamptz NOT NULL
);
CREATE INDEX sales_replaced_by_key ON facts.sales_replaced (tenant_id, location_id, product_id, business_date);

-- One compact row per series: the sales of each day from first_on, null where nothing was recorded.
-- Derived from facts.sales at sales_version; the rows stay the truth and the panel is rebuilt when the version moves on.
CREATE TABLE facts.demand_panel (
    tenant_id master.identifier NOT NULL,
    location_id master.identifier NOT NULL,
    product_id master.identifier NOT NULL,
    first_on date NOT NULL,
    sales_units real[] NOT NULL,
    is_sold_out boolean[] NOT NULL,
    sales_version bigint NOT NULL,
    PRIMARY KEY (tenant_id, location_id, product_id),
    FOREIGN KEY (tenant_id, location_id, product_id) REFERENCES master.assortment,
    CHECK (cardinality(sales_units) = cardinality(is_sold_out))
);

-- A stock count is the set of lots found at the opening of as_of. It replaces what was known before.
CREATE TABLE facts.stock_lot (
    tenant_id master.identifier NOT NULL,
    location_id master.identifier NOT NULL,
    item_id master.identifier NOT NULL,
    as_of date NOT NULL,
    lot_id text NOT NULL,
    quantity master.quantity NOT NULL, -- zero: counted, and none was there
    received_on date,
    expires_on date, -- usable through this day; null: keeps beyond the horizon
    unit_cost master.money,
    PRIMARY KEY (tenant_id, location_id, item_id, as_of, lot_id),
    FOREIGN KEY (tenant_id, location_id) REFERENCES master.location,
    FOREIGN KEY (tenant_id, item_id) REFERENCES master.item
);

CREATE TABLE facts.stock_movement (
    tenant_id master.identifier NOT NULL,
    movement_id text NOT NULL,
    location_id master.identifier NOT NULL,
    item_id master.identifier NOT NULL,
    occurred_on date NOT NULL,
    quantity_change numeric(16, 6) NOT NULL CHECK (quantity_change <> 0), -- positive: into stock
    kind text NOT NULL CHECK (kind IN ('receipt', 'waste', 'transfer', 'adjustment')),
    PRIMARY KEY (tenant_id, movement_id),
    FOREIGN KEY (tenant_id, location_id) REFERENCES master.location,
    FOREIGN KEY (tenant_id, item_id) REFERENCES master.item
);

-- Goods on their way. plan_date is set when the order came from a plan's approval.
CREATE TABLE facts.purchase_order_line (
    tenant_id master.identifier NOT NULL,
    order_line_id text NOT NULL,
    supplier_id master.identifier NOT NULL,
    item_id master.identifier NOT NULL,
    location_id master.identifier NOT NULL,
    quantity master.quantity NOT NULL CHECK (quantity > 0),
    amount master.money CHECK (amount >= 0),
    ordered_on date NOT NULL,
    delivery_on date NOT NULL,
    expires_on date,
    status text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'cancelled')),
    plan_date date,
    PRIMARY KEY (tenant_id, order_line_id),
    FOREIGN KEY (tenant_id, supplier_id) REFERENCES master.supplier,
    FOREIGN KEY (tenant_id, item_id) REFERENCES master.item,
    FOREIGN KEY (tenant_id, location_id) REFERENCES master.location,
    CHECK (ordered_on <= delivery_on)
);
CREATE INDEX purchase_order_line_by_delivery ON facts.purchase_order_line (tenant_id, delivery_on);

CREATE TABLE facts.customer_order (
    tenant_id master.identifier NOT NULL,
    order_id text NOT NULL,
    location_id master.identifier NOT NULL,
    product_id master.identifier NOT NULL,
    due_on date NOT NULL,
    quantity_units master.quantity NOT NULL CHECK (quantity_units > 0),
    ordered_on date NOT NULL,
    PRIMARY KEY (tenant_id, order_id, product_id),
    FOREIGN KEY (tenant_id, location_id) REFERENCES master.location,
    FOREIGN KEY (tenant_id, product_id) REFERENCES master.product
);
CREATE INDEX customer_order_by_due ON facts.customer_order (tenant_id, due_on);

CREATE TABLE facts.standing_order (
    tenant_id master.identifier NOT NULL,
    order_id text NOT NULL,
    location_id master.identifier NOT NULL,
    product_id master.identifier NOT NULL,
    weekday master.weekday NOT NULL,
    quantity_units master.quantity NOT NULL CHECK (quantity_units > 0),
    valid_from date NOT NULL,
    valid_to date CHECK (valid_to >= valid_from),
    PRIMARY KEY (tenant_id, order_id, product_id, weekday),
    FOREIGN KEY (tenant_id, location_id) REFERENCES master.location,
    FOREIGN KEY (tenant_id, product_id) REFERENCES master.product
);

-- ---------------------------------------------------------------- plans: one header, lines by horizon

CREATE TABLE plans.plan (
    tenant_id master.identifier NOT NULL,
    plan_id uuid NOT NULL, -- uuid5 of tenant, kind, location, plan date and revision
    kind text NOT NULL CHECK (kind IN ('forecast', 'production', 'procurement', 'projection')),
    location_id master.identifier NOT NULL,
    plan_date date NOT NULL,
    run_date date NOT NULL,
    revision integer NOT NULL CHECK (revision > 0),
    status text NOT NULL CHECK (status IN ('active', 'superseded')),
    approval text CHECK (approval IN ('pending', 'approved', 'rejected', 'sent')),
    inputs_hash char(64) NOT NULL,
    input_versions jsonb NOT NULL,
    is_replayed boolean NOT NULL, -- made after the location had opened on the plan date
    is_reported boolean NOT NULL DEFAULT false, -- Dagster has the materialization event of this revision
    summary jsonb NOT NULL DEFAULT '{}',
    run_id text NOT NULL,
    created_at timestamptz NOT NULL,
    superseded_at timestamptz,
    PRIMARY KEY (tenant_id, plan_date, plan_id),
    UNIQUE (tenant_id, plan_date, kind, location_id, revision),
    FOREIGN KEY (tenant_id, location_id) REFERENCES master.location,
    CHECK ((approval IS NOT NULL) = (kind = 'procurement')),
    CHECK ((status = 'superseded') = (superseded_at IS NOT NULL)),
    CHECK (run_date <= plan_date)
) PARTITION BY RANGE (plan_date);
CREATE UNIQUE INDEX plan_one_active ON plans.plan (tenant_id, plan_date, kind, location_id) WHERE status = 'active';

-- Arrays run over target dates from plan_date: 14 days, of which those from extended_from on repeat the last forecast week.
CREATE TABLE plans.forecast (
    tenant_id master.identifier NOT NULL,
    plan_date date NOT NULL,
    plan_id uuid NOT NULL,
    location_id master.identifier NOT NULL,
    product_id master.identifier NOT NULL,
    method text NOT NULL, -- the candidate that made the row, and why
    method_reason text NOT NULL,
    model_version text NOT NULL,
    last_history_on date, -- null: no history
    extended_from smallint NOT NULL,
    is_open boolean[] NOT NULL,
    mean_units real[] NOT NULL,
    quantile_levels real[] NOT NULL,
    quantile_units real[] NOT NULL, -- days x levels
    PRIMARY KEY (tenant_id, plan_date, plan_id, location_id, product_id),
    FOREIGN KEY (tenant_id, plan_date, plan_id) REFERENCES plans.plan ON DELETE CASCADE,
    CHECK (cardinality(mean_units) = cardinality(is_open)),
    CHECK (cardinality(quantile_units) = cardinality(mean_units) * cardinality(quantile_levels))
) PARTITION BY RANGE (plan_date);

CREATE TABLE plans.production_line (
    tenant_id master.identifier NOT NULL,
    plan_date date NOT NULL,
    plan_id uuid NOT NULL,
    location_id master.identifier NOT NULL, -- where it is made
    product_id master.identifier NOT NULL,
    orders_units master.quantity NOT NULL,
    mean_demand_units master.quantity NOT NULL,
    critical_ratio numeric(6, 5) NOT NULL,
    is_default_critical_ratio boolean NOT NULL,
    optimal_units master.quantity NOT NULL,
    opening_usable_units master.quantity NOT NULL,
    batch_size_units master.quantity NOT NULL,
    batches integer NOT NULL CHECK (batches >= 0),
    quantity_units master.quantity NOT NULL,
    expected_sales_units master.quantity NOT NULL,
    expected_waste_units master.quantity NOT NULL,
    expected_lost_units master.quantity NOT NULL,
    expected_profit master.money, -- null where price or cost is unknown
    sold_out_probability numeric(6, 5) NOT NULL,
    limited_by text NOT NULL CHECK (limited_by IN ('none', 'batch', 'batch_min', 'batch_max', 'closed', 'not_made_today', 'no_demand')),
    unit_price master.money,
    variable_cost master.money,
    salvage_value master.money NOT NULL,
    goodwill_cost master.money NOT NULL,
    batch_marginal_values numeric[] NOT NULL, -- expected gain of the 1st, 2nd, … batch made
    horizon_units numeric[] NOT NULL, -- 14 days from plan_date, the first is quantity_units, the others tentative
    PRIMARY KEY (tenant_id, plan_date, plan_id, location_id, product_id),
    FOREIGN KEY (tenant_id, plan_date, plan_id) REFERENCES plans.plan ON DELETE CASCADE,
    CHECK (horizon_units[1] = quantity_units),
    CHECK (quantity_units = batches * batch_size_units)
) PARTITION BY RANGE (plan_date);

CREATE TABLE plans.requirement (
    tenant_id master.identifier NOT NULL,
    plan_date date NOT NULL,
    plan_id uuid NOT NULL,
    location_id master.identifier NOT NULL,
    item_id master.identifier NOT NULL,
    opening_quantity master.quantity NOT NULL,
    safety_stock_quantity master.quantity NOT NULL,
    gross_quantity numeric[] NOT NULL, -- 14 days each, base units
    scheduled_receipts_quantity numeric[] NOT NULL,
    net_quantity numeric[] NOT NULL,
    planned_receipts_quantity numeric[] NOT NULL,
    projected_on_hand_quantity numeric[] NOT NULL,
    PRIMARY KEY (tenant_id, plan_date, plan_id, location_id, item_id),
    FOREIGN KEY (tenant_id, plan_date, plan_id) REFERENCES plans.plan ON DELETE CASCADE
) PARTITION BY RANGE (plan_date);

CREATE TABLE plans.purchase_line (
    tenant_id master.identifier NOT NULL,
    plan_date date NOT NULL,
    plan_id uuid NOT NULL,
    line_id uuid NOT NULL, -- uuid5 of plan, supplier, item and delivery date
    location_id master.identifier NOT NULL,
    supplier_id master.identifier NOT NULL,
    item_id master.identifier NOT NULL,
    order_by date NOT NULL,
    delivery_on date NOT NULL,
    needed_on date NOT NULL,
    net_quantity master.quantity NOT NULL,
    packs integer NOT NULL CHECK (packs > 0),
    pack_quantity master.quantity NOT NULL,
    quantity master.quantity NOT NULL,
    price_per_pack master.money,
    amount master.money, -- null where the price is unknown
    status text NOT NULL CHECK (status IN ('pending', 'ordered')),
    is_late boolean NOT NULL, -- arrives after it is needed: expedite
    reason text NOT NULL,
    peg_product_ids text[] NOT NULL,
    peg_shares numeric[] NOT NULL,
    PRIMARY KEY (tenant_id, plan_date, plan_id, line_id),
    FOREIGN KEY (tenant_id, plan_date, plan_id) REFERENCES plans.plan ON DELETE CASCADE,
    CHECK (quantity = packs * pack_quantity),
    CHECK (cardinality(peg_product_ids) = cardinality(peg_shares)),
    CHECK (order_by <= delivery_on)
) PARTITION BY RANGE (plan_date);

CREATE TABLE plans.projection (
    tenant_id master.identifier NOT NULL,
    plan_date date NOT NULL,
    plan_id uuid NOT NULL,
    location_id master.identifier NOT NULL,
    item_id master.identifier NOT NULL,
    opening_quantity master.quantity NOT NULL,
    receipts_quantity numeric[] NOT NULL, -- 14 days each, base units
    consumption_quantity numeric[] NOT NULL, -- met from stock
    shortage_quantity numeric[] NOT NULL,
    expired_quantity numeric[] NOT NULL,
    closing_quantity numeric[] NOT NULL,
    cover_days smallint NOT NULL,
    stock_out_on date,
    order_by date,
    expired_value master.money,
    PRIMARY KEY (tenant_id, plan_date, plan_id, location_id, item_id),
    FOREIGN KEY (tenant_id, plan_date, plan_id) REFERENCES plans.plan ON DELETE CASCADE
) PARTITION BY RANGE (plan_date);

-- What a plan could not know or do, never left out in silence.
CREATE TABLE plans.exception (
    tenant_id master.identifier NOT NULL,
    plan_date date NOT NULL,
    plan_id uuid NOT NULL,
    exception_no integer NOT NULL,
    link text NOT NULL,
    location_id master.identifier NOT NULL,
    subject_kind text NOT NULL CHECK (subject_kind IN ('product', 'item', 'supplier', 'location')),
    subject_id text NOT NULL,
    code text NOT NULL,
    message text NOT NULL,
    remedy text NOT NULL,
    PRIMARY KEY (tenant_id, plan_date, plan_id, exception_no),
    FOREIGN KEY (tenant_id, plan_date, plan_id) REFERENCES plans.plan ON DELETE CASCADE
) PARTITION BY RANGE (plan_date);

-- ---------------------------------------------------------------- quality: how good it was

CREATE TABLE quality.validation (
    tenant_id master.identifier NOT NULL REFERENCES master.tenant,
    business_date date NOT NULL,
    sales_version bigint NOT NULL, -- the actuals it was made from
    run_id text NOT NULL,
    validated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, business_date)
);

CREATE TABLE quality.validation_metric (
    tenant_id master.identifier NOT NULL,
    business_date date NOT NULL,
    scope text NOT NULL CHECK (scope IN ('overall', 'location', 'product')),
    location_id text NOT NULL DEFAULT '', -- empty: all
    product_id text NOT NULL DEFAULT '',
    days_ahead smallint NOT NULL, -- target date - plan date; 0 is the headline
    is_replayed boolean NOT NULL,
    rows_used integer NOT NULL,
    rows_zero integer NOT NULL, -- actual is zero, so left out of mape_pct
    rows_without_actual integer NOT NULL,
    forecast_units double precision NOT NULL,
    actual_units double precision NOT NULL,
    mae_units double precision, -- null where undefined, never zero
    rmse_units double precision,
    mape_pct double precision,
    wape_pct double precision,
    accuracy_pct double precision,
    bias_pct double precision,
    r2 double precision,
    mase double precision,
    pinball_units double precision,
    naive_wape_pct double precision, -- seasonal naive on the same rows
    quantile_coverage jsonb NOT NULL DEFAULT '{}', -- level: share of rows with demand at most the quantile
    coverage_pct double precision, -- forecasts with actuals
    PRIMARY KEY (tenant_id, business_date, scope, location_id, product_id, days_ahead),
    FOREIGN KEY (tenant_id, business_date) REFERENCES quality.validation ON DELETE CASCADE
);

-- ---------------------------------------------------------------- date partitions, made when first needed

CREATE FUNCTION ops.ensure_partitions(parent regclass, first_on date, last_on date, step interval) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    lower_on date := date_trunc(CASE step WHEN interval '1 year' THEN 'year' ELSE 'month' END, first_on)::date;
    upper_on date;
    child text;
    made integer := 0;
BEGIN
    WHILE lower_on <= last_on LOOP
        upper_on := (lower_on + step)::date;
        child := format('%s_%s', parent::text, to_char(lower_on, CASE step WHEN interval '1 year' THEN 'YYYY' ELSE 'YYYYMM' END));
        IF to_regclass(child) IS NULL THEN
            PERFORM pg_advisory_xact_lock(hashtext('ops.ensure_partitions'));
            IF to_regclass(child) IS NULL THEN
                EXECUTE format('CREATE TABLE %s PARTITION OF %s FOR VALUES FROM (%L) TO (%L)', child, parent, lower_on, upper_on);
                made := made + 1;
            END IF;
        END IF;
        lower_on := upper_on;
    END LOOP;
    RETURN made;
END $$;

-- ---------------------------------------------------------------- views that unnest the horizons

CREATE VIEW plans.forecast_day AS
SELECT f.tenant_id, f.plan_date, f.plan_id, p.revision, f.location_id, f.product_id,
       (f.plan_date + (day.n - 1)::integer) AS target_date, (day.n - 1)::smallint AS days_ahead,
       f.is_open[day.n] AS is_open, day.n > f.extended_from AS is_extended, f.method, f.model_version,
       day.mean_units, f.quantile_levels,
       (SELECT array_agg(f.quantile_units[day.n][level.n] ORDER BY level.n)
          FROM generate_subscripts(f.quantile_levels, 1) AS level (n)) AS quantile_units
FROM plans.forecast AS f
JOIN plans.plan AS p USING (tenant_id, plan_date, plan_id)
CROSS JOIN LATERAL unnest(f.mean_units) WITH ORDINALITY AS day (mean_units, n)
WHERE p.status = 'active';

CREATE VIEW plans.requirement_day AS
SELECT r.tenant_id, r.plan_date, r.plan_id, p.revision, r.location_id, r.item_id,
       (r.plan_date + (day.n - 1)::integer) AS target_date,
       day.gross_quantity, r.scheduled_receipts_quantity[day.n] AS scheduled_receipts_quantity,
       r.net_quantity[day.n] AS net_quantity, r.planned_receipts_quantity[day.n] AS planned_receipts_quantity,
       r.projected_on_hand_quantity[day.n] AS projected_on_hand_quantity
FROM plans.requirement AS r
JOIN plans.plan AS p USING (tenant_id, plan_date, plan_id)
CROSS JOIN LATERAL unnest(r.gross_quantity) WITH ORDINALITY AS day (gross_quantity, n)
WHERE p.status = 'active';

CREATE VIEW plans.projection_day AS
SELECT s.tenant_id, s.plan_date, s.plan_id, p.revision, s.location_id, s.item_id,
       (s.plan_date + (day.n - 1)::integer) AS target_date,
       s.receipts_quantity[day.n] AS receipts_quantity, s.consumption_quantity[day.n] AS consumption_quantity,
       s.shortage_quantity[day.n] AS shortage_quantity, s.expired_quantity[day.n] AS expired_quantity,
       day.closing_quantity
FROM plans.projection AS s
JOIN plans.plan AS p USING (tenant_id, plan_date, plan_id)
CROSS JOIN LATERAL unnest(s.closing_quantity) WITH ORDINALITY AS day (closing_quantity, n)
WHERE p.status = 'active';

CREATE VIEW plans.production_day AS
SELECT l.tenant_id, l.plan_date, l.plan_id, p.revision, l.location_id, l.product_id,
       (l.plan_date + (day.n - 1)::integer) AS target_date, day.n > 1 AS is_tentative, day.quantity_units
FROM plans.production_line AS l
JOIN plans.plan AS p USING (tenant_id, plan_date, plan_id)
CROSS JOIN LATERAL unnest(l.horizon_units) WITH ORDINALITY AS day (quantity_units, n)
WHERE p.status = 'active';
