-- Residuals of model forecasts, by which their quantiles are kept calibrated between trainings.

-- What the rule or model said before its recent mean error was taken off, and the series' quarter of its tenant by volume.
-- Null in plans made before these were kept.
ALTER TABLE plans.forecast ADD COLUMN raw_mean_units real[];
ALTER TABLE plans.forecast ADD COLUMN volume_class smallint CHECK (volume_class BETWEEN 0 AND 3);

-- One row per tenant and day: the scaled residuals of its model's forecasts of that day.
CREATE TABLE quality.residual (
    tenant_id master.identifier NOT NULL REFERENCES master.tenant,
    business_date date NOT NULL,
    is_live boolean NOT NULL, -- of forecasts that served; else of the model that was tried when one was trained
    volume_class smallint[] NOT NULL,
    residual real[] NOT NULL, -- demand less forecast, over the forecast's scale
    PRIMARY KEY (tenant_id, business_date),
    CHECK (cardinality(volume_class) = cardinality(residual))
);

-- The residual quantile table made of the weeks through a day. A morning uses the last one from before its run date.
CREATE TABLE quality.residual_spread (
    tenant_id master.identifier NOT NULL REFERENCES master.tenant,
    through_on date NOT NULL,
    spread jsonb NOT NULL,
    PRIMARY KEY (tenant_id, through_on)
);
