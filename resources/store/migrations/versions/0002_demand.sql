-- Demand instead of sales: when products sold out, how a day's demand spreads over its hours, and what each import changed.

-- The panel is derived: it is built anew from facts.sales when a tenant is next planned.
DELETE FROM facts.demand_panel;
ALTER TABLE facts.demand_panel DROP COLUMN is_sold_out;
ALTER TABLE facts.demand_panel
    ADD COLUMN sold_out_on date[] NOT NULL, -- the days on which it sold out, ascending
    ADD COLUMN sold_out_minute smallint[] NOT NULL, -- beside each, the local time at which the last one went, in minutes
    ADD CHECK (cardinality(sales_units) > 0),
    ADD CHECK (cardinality(sold_out_on) = cardinality(sold_out_minute));

-- The business dates of the rows that each version of an input changed, so that what is derived from them can be patched.
-- A version without a row here is a change of unknown extent. Rows that every reader has used are deleted.
CREATE TABLE ops.input_change (
    tenant_id master.identifier NOT NULL,
    input text NOT NULL,
    version bigint NOT NULL,
    first_on date NOT NULL,
    last_on date NOT NULL,
    PRIMARY KEY (tenant_id, input, version),
    FOREIGN KEY (tenant_id, input) REFERENCES ops.input_version,
    CHECK (first_on <= last_on)
);

-- The share of a weekday's demand that comes in each hour. The shares of a location, product and weekday add up to 1.
CREATE TABLE master.hourly_profile (
    tenant_id master.identifier NOT NULL,
    location_id master.identifier NOT NULL,
    product_id master.identifier NOT NULL,
    weekday master.weekday NOT NULL,
    hour smallint NOT NULL CHECK (hour BETWEEN 0 AND 23), -- from this full hour to the next, local time
    share numeric(9, 8) NOT NULL CHECK (share BETWEEN 0 AND 1),
    PRIMARY KEY (tenant_id, location_id, product_id, weekday, hour),
    FOREIGN KEY (tenant_id, location_id) REFERENCES master.location,
    FOREIGN KEY (tenant_id, product_id) REFERENCES master.product
);
