"""What models cost: training one, loading one, and forecasting a batch of tenants with theirs. Made-up demand, one core.

`python -m benchmarks.models [--tenants 500] [--json]` prints processor seconds. The batch is compared with the same tenants
forecast one after another, and with the rules instead of models, in the same run.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from planning.boosting import dump_model, load_model
from planning.calendar import SERIES, Calendar, build_calendar
from planning.champion import ServingModel
from planning.features import Past, build_features
from planning.forecasting import forecast_demand
from planning.frames import FORECAST_DAYS, PLAN_DAYS, Panel
from planning.training import Challenger, train_challenger

T = TypeVar("T")

PRODUCTS = 30
TRAINING_DAYS = 730
MORNING_DAYS = 420
TEMPLATES = 5
"""Models that are really trained; each tenant gets a copy of its own, since that is what costs."""

ONE_BY_ONE = 50
"""Tenants that are forecast one after another, for the ratio."""

WEEK = np.array([0.7, 0.8, 0.9, 1.0, 1.2, 1.5, 0.9])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tenants", type=int, default=500, help="tenants of the batch")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    measured = measure(arguments.tenants)
    if arguments.json:
        print(json.dumps(measured, indent=2))
        return
    for name, value in measured.items():
        print(f"{name:<44} {value:>12,.3f}" if isinstance(value, float) else f"{name:<44} {value:>12,}")


def measure(tenants: int) -> dict[str, Any]:
    """The figures, by name."""
    trained, training_cpu_s = [], []
    for seed in range(TEMPLATES):
        history, calendar = bakeries(1, TRAINING_DAYS, seed)
        challenger, cpu_s = timed(lambda h=history, c=calendar: train_challenger(h, c))  # type: ignore[misc]
        trained.append(challenger)
        training_cpu_s.append(cpu_s)
    loading = [timed(lambda a=one.artefact: load_model(a))[1] for one in trained for _ in range(5)]  # type: ignore[misc]

    history, calendar = bakeries(tenants, MORNING_DAYS, 99)
    models = {
        tenant_id: serving(tenant_id, trained[n % TEMPLATES])
        for n, tenant_id in enumerate(history.keys["tenant_id"].unique())
    }
    series = len(history)
    every = np.arange(series)
    origin = np.full(series, MORNING_DAYS - 1)

    def asked(days: int) -> tuple[float, float]:
        horizon = np.tile(np.arange(1, days + 1), (series, 1))
        past = Past.of(history["demand_units"], calendar, MORNING_DAYS - 1)
        features, features_s = timed(lambda: build_features(past, every, origin, horizon))
        values = features.values.reshape(tenants, PRODUCTS * days, -1)
        _, prediction_s = timed(lambda: [m.model.predict(v) for m, v in zip(models.values(), values, strict=True)])
        return features_s, prediction_s

    week_s, fortnight_s = asked(FORECAST_DAYS), asked(PLAN_DAYS)
    plan_date = history.first_day + timedelta(days=MORNING_DAYS)

    def forecast(part: Panel, of_part: Calendar, with_models: bool) -> None:
        ids = part.keys["tenant_id"].unique()
        products = part.keys[["tenant_id", "product_id"]].drop_duplicates().assign(daily_estimate_units=np.nan)
        run_dates = pd.DataFrame({"tenant_id": ids, "run_date": [plan_date] * len(ids)})
        chosen = {t: models[t] for t in ids} if with_models else {}
        forecast_demand(part, of_part, products, run_dates, plan_date, chosen)

    _, batch_s = timed(lambda: forecast(history, calendar, True))
    _, rules_s = timed(lambda: forecast(history, calendar, False))

    def one_by_one() -> None:
        for n in range(ONE_BY_ONE):
            rows = np.arange(n * PRODUCTS, (n + 1) * PRODUCTS)
            forecast(history.select(rows), calendar.select(rows), True)

    _, single_s = timed(one_by_one)
    return {
        "tenants": tenants,
        "series": series,
        "training_cpu_s": statistics.median(training_cpu_s),
        "artefact_kib": statistics.median(len(dump_model(load_model(one.artefact))) / 1024 for one in trained),
        "load_cold_ms": 1000 * statistics.median(loading),
        "features_series_per_s": series / week_s[0],
        "prediction_series_per_s": series / week_s[1],
        "features_and_prediction_series_per_s": series / sum(week_s),
        "features_and_prediction_14_days_series_per_s": series / sum(fortnight_s),
        "forecast_series_per_s": series / batch_s,
        "forecast_by_rules_series_per_s": series / rules_s,
        "one_by_one_over_batch": (single_s / ONE_BY_ONE) / (batch_s / tenants),
    }


def serving(tenant_id: str, challenger: Challenger) -> ServingModel:
    """The challenger as what serves a tenant, with a model object of its own."""
    return ServingModel(
        tenant_id=tenant_id,
        version=1,
        label="boosting@v1",
        model=load_model(challenger.artefact),
        spread=challenger.spread,
        backtest_wape_pct=0.0,
        backtest_reason="benchmark",
        trained_to=challenger.trained_to,
    )


def bakeries(tenants: int, days: int, seed: int) -> tuple[Panel, Calendar]:
    """Counted demand with a week, a year and levels from 2 to 100 units; one location a tenant, open every day."""
    random = np.random.default_rng(seed)
    n = tenants * PRODUCTS
    level = np.exp(random.uniform(np.log(2), np.log(100), (n, 1)))
    season = 1 + 0.3 * np.sin(2 * np.pi * (np.arange(days) + random.uniform(0, 365, (n, 1))) / 365.25)
    demand = random.poisson(level * season * WEEK[np.arange(days) % 7]).astype(float)
    first_day = date(2024, 1, 1)
    keys = pd.DataFrame(
        [(f"t{tenant:05d}", "main", f"p{product:02d}") for tenant in range(tenants) for product in range(PRODUCTS)],
        columns=SERIES,
    )
    opening = pd.DataFrame(columns=["tenant_id", "location_id", "weekday"])
    events = pd.DataFrame(columns=[*SERIES, "business_date", "kind", "name"])
    calendar = build_calendar(keys, first_day, days + PLAN_DAYS + 2, opening, events)
    return Panel(keys, {"demand_units": demand, "is_sold_out": np.zeros(demand.shape, dtype=bool)}, first_day), calendar


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What the work returns, and the processor seconds of this process that it took."""
    began = time.process_time()
    result = work()
    return result, time.process_time() - began


if __name__ == "__main__":
    main()
