"""Demand forecasts, the head of the daily lineage. Models and rules themselves live in planning/forecasting."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import dagster as dg
import numpy as np
import pandas as pd

from planning.forecasting import Forecasts, forecast_demand
from planning.frames import EXCEPTION_COLUMNS, FORECAST_DAYS, QUANTILE_LEVELS, exceptions_of, frame_of, set_aside_of
from planning.quantiles import Spread
from planning_assets.link import Batch, Link, Metadata, remaining
from planning_assets.specs import PLAN_DATE, TENANT, table_spec
from planning_assets.summaries import number, sparkline, table
from resources.model_cache import Serving, load_serving, record_serving
from resources.store.inputs import read_forecasts, read_products
from resources.store.plans import write_forecasts
from resources.store.residuals import read_spreads


@dataclass(frozen=True)
class ServedForecasts(Forecasts):
    """Forecasts, and the champions that were asked for them."""

    serving: Serving


def compute(batch: Batch) -> ServedForecasts:
    """Units each product is expected to sell, per tenant, location and product, for 14 days from the plan date.

    A model that has seen the run date or later is not asked: a replayed morning must not know its own future. A residual
    table that this version does not read, as from before an upgrade, gives way to the one stored with the model.
    """
    history = batch.results["demand_history"]
    products = read_products(batch.connection, batch.tenant_ids, batch.run_dates)
    serving = load_serving(batch.connection, batch.model_cache, batch.tenant_ids)
    spreads = {
        tenant_id: spread
        for tenant_id, spread in read_spreads(batch.connection, batch.run_dates).items()
        if Spread.from_json(spread) is not None
    }
    models = {
        tenant_id: replace(model, spread=spreads.get(tenant_id, model.spread))
        for tenant_id, model in serving.models.items()
        if model.trained_to < batch.run_dates[tenant_id]
    }
    made = forecast_demand(history.panel, history.calendar, products, batch.tenants, batch.plan_date, models)
    passed_over = {
        tenant_id: f"; {model.label} has seen days up to {model.trained_to} and is not asked about them"
        for tenant_id, model in serving.models.items()
        if tenant_id not in models
    }
    keys = made.panel.keys
    told = [reason + passed_over.get(t, "") for t, reason in zip(keys["tenant_id"], keys["method_reason"], strict=True)]
    panel = replace(made.panel, keys=keys.assign(method_reason=pd.array(told, dtype="str")))
    return ServedForecasts(panel, made.backtest, made.exceptions, made.set_aside, serving)


def write(batch: Batch, result: ServedForecasts) -> None:
    """A new revision per location supersedes the old one, so a backfill needs no clean-up."""
    # The demand history has no plan of its own: what it could not know is shown with the forecast made from it.
    seen = batch.results["demand_history"].exceptions
    unusable = _per_location(result.serving.problems, result.panel.keys)
    parts = [seen[seen["tenant_id"].isin(batch.tenant_ids)], unusable, result.exceptions]
    kept = [part for part in parts if len(part)]
    write_forecasts(
        batch.connection,
        batch.write_context,
        result.panel,
        result.backtest,
        pd.concat(kept, ignore_index=True) if kept else result.exceptions,
        remaining(batch, result.set_aside),
    )
    context = batch.write_context
    record_serving(batch.connection, result.serving, batch.plan_date, context.run_id, context.now)


def _per_location(problems: pd.DataFrame, keys: pd.DataFrame) -> pd.DataFrame:
    """A tenant's problem at each of its locations, since plans are made per location."""
    places = keys[["tenant_id", "location_id"]].drop_duplicates()
    found = places.merge(problems.drop(columns="location_id"), on="tenant_id")
    return found.assign(subject_kind="location", subject_id=found["location_id"])[list(EXCEPTION_COLUMNS)]


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
        # Quantiles do not add up. The band takes series for independent, which the weather, moving them all, makes too narrow.
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
        deps=["demand_history", "forecast_models", "calendar"],
        description=(
            "Units expected to be sold per location, product and target date, seven days from the plan date with nine "
            "quantiles; days 8 to 14 are extended with a wider spread and marked."
        ),
        columns=[
            TENANT,
            PLAN_DATE,
            ("location_id", "text", "point of sale"),
            ("product_id", "text", "product"),
            ("method", "text", "the model or rule that made the row; its reason stands beside it"),
            ("model_version", "text", "version of that model or rule"),
            ("mean_units", "real[]", "expected units per day, 14 days from plan_date"),
            ("quantile_levels", "real[]", "levels of quantile_units, 0 to 1"),
            ("quantile_units", "real[]", "units per day and level"),
            ("is_open", "boolean[]", "whether the location opens that day"),
            ("extended_from", "smallint", "first extended day, 0 the plan date: spread wider than a forecast day"),
        ],
    ),
    kind="forecast",
    compute=compute,
    write=write,
    load=load,
    describe=describe,
)
