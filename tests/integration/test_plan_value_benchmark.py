"""The money replay's arithmetic, on rows whose demand distribution is known."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks.plan_value import DAYBREAK, RATIOS, SIMPLE, Money, as_text, measure, quantities, targets
from planning.backtest import CHAMPION, BacktestRows
from planning.frames import QUANTILE_LEVELS
from planning.rules import SEASONAL_NAIVE, WEEKDAY_MEAN

SERIES, DAYS = 4, 200


@pytest.fixture(scope="module")
def rows() -> BacktestRows:
    """Four series of normal demand around a mean that moves by the day and that only the champion knows; every tenth row
    is sold out, at an absurd demand.

    The series are of the four volume classes, the first sells a tenth of the last.
    """
    rng = np.random.default_rng(5)
    series = np.repeat(np.arange(SERIES), DAYS)
    usual = np.array([10.0, 20.0, 50.0, 100.0])[series]
    mean = usual * rng.uniform(0.5, 1.5, len(series))
    spread = 0.15 * usual
    actual = np.maximum(np.round(rng.normal(mean, spread)), 0)
    is_censored = np.arange(len(series)) % 10 == 0
    target = np.datetime64("2025-01-01") + np.tile(np.arange(DAYS), SERIES)
    return BacktestRows(
        keys=pd.DataFrame({"product_id": [f"p{n}" for n in range(SERIES)]}),
        series=series,
        origin=target - 1,
        target=target,
        horizon_days=np.ones(len(series), dtype=np.int64),
        actual_units=np.where(is_censored, 1e6, actual),
        is_censored=is_censored,
        volume_class=series.copy(),
        day_kind=np.full(len(series), "normal", dtype=object),
        scale_units=np.ones(len(series)),
        mean_units={CHAMPION: mean, SEASONAL_NAIVE: np.roll(actual, 7), WEEKDAY_MEAN: usual},
        quantile_units={CHAMPION: np.maximum(mean[:, None] + spread[:, None] * stats.norm.ppf(QUANTILE_LEVELS), 0)},
        champions=pd.DataFrame(),
    )


@pytest.fixture
def money() -> Money:
    return Money(np.array([4.0, 2.0, 1.0, 0.5]), np.full(SERIES, 0.4), np.array([2.0, 4.0, 10.0, 25.0]))


def test_simple_policies_make_the_nearest_whole_batch_and_a_half_makes_one_more(rows: BacktestRows) -> None:
    first = np.arange(len(rows.series)) < 3
    means = {name: np.zeros(len(rows.series)) for name in (CHAMPION, SEASONAL_NAIVE, WEEKDAY_MEAN)}
    means[CHAMPION][:3] = (11.9, 12.0, 18.0)
    means[WEEKDAY_MEAN][:3] = (3.9, 4.0, 100.0)
    made = quantities(replace(rows, mean_units=means), first, np.full(3, 0.5), np.full(3, 8.0))
    assert made["point_forecast"].tolist() == [8.0, 16.0, 16.0]
    assert made["last_week"].tolist() == [0.0, 0.0, 0.0]
    assert made["weekday_mean"].tolist() == [0.0, 8.0, 104.0]


def test_costs_are_the_newsvendors_summed_over_rows_that_did_not_sell_out(rows: BacktestRows, money: Money) -> None:
    found = measure(rows, money)
    used = ~rows.is_censored
    assert found["rows"] == used.sum() == 720
    assert found["rows_censored"] == 80
    for ratio in RATIOS:
        units = eur = 0.0
        for asked, made, series in zip(
            rows.actual_units[used], rows.mean_units[SEASONAL_NAIVE][used], rows.series[used], strict=True
        ):
            cost = ratio * (asked - made) if asked > made else (1 - ratio) * (made - asked)
            units += cost
            eur += money.price[series] * cost
        table = found["batch_1"][f"{ratio:g}"]
        assert table["units"]["cost"]["last_week"] == pytest.approx(units)
        assert table["eur"]["cost"]["last_week"] == pytest.approx(eur)


def test_where_the_quantiles_are_true_daybreak_costs_least_and_covers_the_ratio(
    rows: BacktestRows, money: Money
) -> None:
    found = measure(rows, money)
    for name in ("batch_1", "batches"):
        for label in ("0.7", "0.9"):
            for unit in ("units", "eur"):
                below = found[name][label][unit]["below_pct"]
                assert min(below.values()) > 0, (name, label, unit)
                best = found[name][label][unit]["best_simple"]
                assert below[best] == min(below.values())
    for label, part in found["covered_pct"].items():
        assert part["below"] - 5 < part["ratio"] < part["at_most"] + 5, label
    assert found["covered_pct"]["own"]["ratio"] == pytest.approx(60)


def test_rounding_is_what_the_same_policy_pays_more_with_batches_and_its_classes_add_up(
    rows: BacktestRows, money: Money
) -> None:
    found = measure(rows, money)
    for label, rounding in found["rounding"].items():
        for policy in (DAYBREAK, *SIMPLE):
            whole, single = (found[name][label]["eur"]["cost"][policy] for name in ("batches", "batch_1"))
            assert rounding["eur"][policy] == pytest.approx(whole - single)
        parts = [part["added_eur"] for part in rounding["by_volume_class"]]
        assert sum(parts) == pytest.approx(rounding["eur"][DAYBREAK])
        assert rounding["eur"][DAYBREAK] > 0
    single = measure(rows, replace(money, batch_size_units=np.ones(SERIES)))
    assert single["batches"] == single["batch_1"]


def test_a_forecast_without_spread_misses_what_is_required_at_a_high_ratio(rows: BacktestRows, money: Money) -> None:
    flat = np.repeat(rows.mean_units[CHAMPION][:, None], len(QUANTILE_LEVELS), axis=1)
    blind = replace(rows, quantile_units={CHAMPION: flat})
    verdict = {(row["ratio"], row["policy"]): row for row in targets(measure(blind, money))}
    assert not verdict[0.9, "point_forecast"]["is_met"]
    assert verdict[0.9, "point_forecast"]["required_pct"] == 35
    sharp = {(row["ratio"], row["policy"]): row for row in targets(measure(rows, money))}
    assert sharp[0.9, "last_week"]["is_met"]


def test_the_result_is_json_and_text(rows: BacktestRows, money: Money) -> None:
    fold = {"fold": 0, **measure(rows, money)}
    result = {"mornings": DAYS, "folds": [fold], "targets": targets(fold)}
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    text = "\n".join(as_text(result))
    assert "4 products, 720 product-days" in text
    assert f"{fold['batch_1']['0.9']['eur']['cost'][DAYBREAK]:,.0f}" in text
