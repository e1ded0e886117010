"""Demand forecasts, the head of the daily lineage. The rules themselves live in planning/forecasting."""

from collections.abc import Mapping

import dagster as dg
import numpy as np
import pandas as pd

from planning.demand import opening_calendar
from planning.forecasting import Forecasts, forecast_demand
from planning.frames import FORECAST_DAYS, PLAN_DAYS, QUANTILE_LEVELS, exceptions_of, frame_of, set_aside_of
from planning_assets.link import Batch, Link, Metadata, remaining
from planning_assets.specs import PLAN_DATE, TENANT, table_spec
from planning_assets.summaries import number, sparkline, table
from resources.store.inputs import read_events, read_forecasts, read_opening_hours, read_products
from resources.store.plans import write_forecasts


def compute(batch: Batch) -> Forecasts:
    """Units each product is expected to sell, per tenant, location and product, for 14 days from the plan date."""
    history = batch.results["demand_history"].panel
    is_open = opening_calendar(
        history.keys,
        batch.plan_date,
        PLAN_DAYS,
        read_opening_hours(batch.connection, batch.tenant_ids),
        read_events(batch.connection, batch.tenant_ids, batch.plan_date, batch.horizon_end),
    )
    products = read_products(batch.connection, batch.tenant_ids, batch.run_dates)
    return forecast_demand(history, is_open, products, batch.tenants, batch.plan_date)


def write(batch: Batch, result: Forecasts) -> None:
    """A new revision per location supersedes the old one, so a backfill needs no clean-up."""
    # The demand history has no plan of its own: what it could not know is shown with the forecast made from it.
    seen = batch.results["demand_history"].exceptions
    parts = [part for part in (seen[seen["tenant_id"].isin(batch.tenant_ids)], result.exceptions) if len(part)]
    exceptions = pd.concat(parts, ignore_index=True) if parts else result.exceptions
    write_forecasts(
        batch.connection,
        batch.write_context,
        result.panel,
        result.backtest,
        exceptions,
        remaining(batch, result.set_aside),
    )


def load(batch: Batch) -> Forecasts:
    """The active forecasts, for a run that starts below them."""
    return Forecasts(
        panel=read_forecasts(batch.connection, batch.tenant_ids, batch.plan_date),
        backtest=frame_of(["tenant_id", "method", "rows", "wape_pct", "bias_pct", "is_champion"]),
        exceptions=exceptions_of(),
        set_aside=set_aside_of(),
    )


def describe(_batch: Batch, result: Forecasts) -> Mapping[str, Metadata]:
    """Units, the champion and its backtest, the largest products, and a picture of the horizon with its band."""
    panel, low, high = result.panel, QUANTILE_LEVELS.index(0.10), QUANTILE_LEVELS.index(0.90)
    backtests = dict(tuple(result.backtest.groupby("tenant_id")))
    described = {}
    for tenant_id, rows in panel.keys.groupby("tenant_id").indices.items():
        mean, quantiles = panel["mean_units"][rows], panel["quantile_units"][rows]
        keys = panel.keys.iloc[rows]
        total = mean.sum(axis=0)
        # Days of different series are neither independent nor the same: the band of the sum uses independence.
        spread_low = np.sqrt((np.clip(mean - quantiles[:, :, low], 0, None) ** 2).sum(axis=0))
        spread_high = np.sqrt((np.clip(quantiles[:, :, high] - mean, 0, None) ** 2).sum(axis=0))
        largest = np.argsort(-mean[:, 0], kind="stable")
        metadata = {
            "dagster/row_count": dg.MetadataValue.int(len(rows)),
            "units_today": number(total[0]),
            "units_week": number(total[:FORECAST_DAYS].sum()),
            "method": dg.MetadataValue.text(", ".join(sorted(keys["method"].unique()))),
            "horizon": sparkline(
                total, np.clip(total - spread_low, 0, None), total + spread_high, "units per day, 14 days"
            ),
            "today": table(
                ["location", "product", "units", "10 %", "90 %", "method"],
                [
                    (
                        keys["location_id"].iloc[n],
                        keys["product_id"].iloc[n],
                        float(mean[n, 0]),
                        float(quantiles[n, 0, low]),
                        float(quantiles[n, 0, high]),
                        keys["method"].iloc[n],
                    )
                    for n in largest
                ],
            ),
        }
        if tenant_id in backtests:
            backtest = backtests[tenant_id]
            champion = backtest[backtest["is_champion"]]
            if champion["wape_pct"].notna().any():
                metadata["backtest_wape_pct"] = number(champion["wape_pct"].iloc[0])
            metadata["backtest"] = table(
                ["candidate", "rows", "WAPE %", "bias %", "serves"],
                [
                    (row.method, row.rows, float(row.wape_pct), float(row.bias_pct), "yes" if row.is_champion else "")
                    for row in backtest.itertuples()
                ],
            )
        described[str(tenant_id)] = metadata
    return described


LINK = Link(
    spec=table_spec(
        "forecasts",
        table="plans.forecast",
        group="demand",
        deps=["demand_history", "calendar"],
        description=(
            "Units expected to be sold per location, product and target date, seven days from the plan date with nine "
            "quantiles; days 8 to 14 repeat the last forecast week with a wider spread and are marked as extended."
        ),
        columns=[
            TENANT,
            PLAN_DATE,
            ("location_id", "text", "point of sale"),
            ("product_id", "text", "product"),
            ("method", "text", "the rule that made the row; its reason stands beside it"),
            ("model_version", "text", "version of that rule"),
            ("mean_units", "real[]", "expected units per day, 14 days from plan_date"),
            ("quantile_levels", "real[]", "levels of quantile_units, 0 to 1"),
            ("quantile_units", "real[]", "units per day and level"),
            ("is_open", "boolean[]", "whether the location opens that day"),
            ("extended_from", "smallint", "first day that repeats the last forecast week"),
        ],
    ),
    kind="forecast",
    compute=compute,
    write=write,
    load=load,
    describe=describe,
)
