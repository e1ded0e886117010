"""Metrics of finished days, checked against a second way of computing them."""

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import mean_absolute_percentage_error, mean_pinball_loss, r2_score, root_mean_squared_error

from planning.calendar import SERIES
from planning.frames import QUANTILE_LEVELS, SET_ASIDE_COLUMNS, Panel
from planning.validation import (
    METRIC_COLUMNS,
    ROW_COLUMNS,
    SALES_DAYS,
    live_residuals,
    rows_to_score,
    validate_forecasts,
)
from tests.unit.examples import few_examples

NAN = float("nan")
UNDEFINED_WITHOUT_ACTUALS = [
    "mae_units", "rmse_units", "mape_pct", "wape_pct", "accuracy_pct", "bias_pct", "r2", "mase", "pinball_units", "naive_wape_pct",
]  # fmt: skip


def rows_of(forecast, actual, naive=None, scale=None, **columns) -> pd.DataFrame:
    n = len(forecast)
    spread = np.linspace(0.2, 2, len(QUANTILE_LEVELS))
    frame = {
        "tenant_id": "a",
        "location_id": "shop",
        "product_id": [f"p{row:02d}" for row in range(n)],
        "days_ahead": 0,
        "mean_units": np.array(forecast, dtype=float),
        "quantile_units": [value * spread for value in forecast],
        "is_replayed": False,
        "method": "boosting",
        "raw_mean_units": 1.0,
        "volume_class": 0.0,
        "is_sold_out": False,
        "is_open": True,
        "actual_units": np.array(actual, dtype=float),
        "naive_units": [NAN] * n if naive is None else naive,
        "scale_units": [NAN] * n if scale is None else scale,
    }
    return pd.DataFrame({**frame, **columns})


def overall(rows: pd.DataFrame) -> pd.Series:
    metrics = validate_forecasts(rows).metrics
    return metrics[metrics["scope"] == "overall"].iloc[0]


def test_the_figures_of_a_small_example_by_hand():
    # e = 2, -1, 3; actuals 8, 5, 0 sum to 13, |e| to 6.
    metric = overall(rows_of([10, 4, 3], [8, 5, 0], naive=[8, 7, 2], scale=[2, 1, NAN]))
    assert metric[["rows_used", "rows_zero", "rows_without_actual"]].tolist() == [3, 1, 0]
    assert metric["forecast_units"] == 17
    assert metric["actual_units"] == 13
    assert metric["mae_units"] == pytest.approx(2)
    assert metric["rmse_units"] == pytest.approx(np.sqrt(14 / 3))
    assert metric["mape_pct"] == pytest.approx(100 * (2 / 8 + 1 / 5) / 2)
    assert metric["wape_pct"] == pytest.approx(100 * 6 / 13)
    assert metric["accuracy_pct"] == pytest.approx(100 - 100 * 6 / 13)
    assert metric["bias_pct"] == pytest.approx(100 * 4 / 13)
    assert metric["mase"] == pytest.approx((2 / 2 + 1 / 1) / 2)
    assert metric["naive_wape_pct"] == pytest.approx(100 * 4 / 13)
    assert np.isnan(metric["r2"])
    assert metric["coverage_pct"] == 100


def test_metrics_agree_with_scikit_learn():
    rng = np.random.default_rng(3)
    forecast, actual = rng.gamma(3, 4, 40), rng.poisson(12, 40) + 1.0
    rows = rows_of(forecast, actual)
    metric = overall(rows)
    quantile = np.stack(rows["quantile_units"])
    pinball = [mean_pinball_loss(actual, quantile[:, n], alpha=level) for n, level in enumerate(QUANTILE_LEVELS)]
    assert metric["rmse_units"] == pytest.approx(root_mean_squared_error(actual, forecast))
    assert metric["mape_pct"] == pytest.approx(100 * mean_absolute_percentage_error(actual, forecast))
    assert metric["r2"] == pytest.approx(r2_score(actual, forecast))
    assert metric["pinball_units"] == pytest.approx(np.mean(pinball))


def test_without_actuals_everything_but_the_counts_is_undefined():
    metric = overall(rows_of([10, 4], [NAN, NAN], naive=[1, 1], scale=[1, 1]))
    assert metric[UNDEFINED_WITHOUT_ACTUALS].isna().all()
    assert metric["quantile_coverage"] == {}
    assert metric["coverage_pct"] == 0
    assert metric["rows_without_actual"] == 2


def test_percentages_of_nothing_sold_are_undefined_while_errors_in_units_are_not():
    metric = overall(rows_of([1, 3], [0, 0], naive=[1, 1]))
    assert metric[["mape_pct", "wape_pct", "accuracy_pct", "bias_pct", "naive_wape_pct"]].isna().all()
    assert metric["mae_units"] == 2


def test_a_hopeless_forecast_has_an_accuracy_of_zero_and_not_less():
    assert overall(rows_of([50], [10]))["accuracy_pct"] == 0


@pytest.mark.parametrize(("actuals", "is_defined"), [(range(14), True), (range(13), False), ([0.1] * 14, False)])
def test_r2_needs_fourteen_rows_and_some_variance(actuals, is_defined):
    actual = list(actuals)
    assert np.isfinite(overall(rows_of([5.0] * len(actual), actual))["r2"]) == is_defined


def test_naive_is_compared_only_on_the_same_rows():
    assert np.isnan(overall(rows_of([10, 4], [8, 5], naive=[8, NAN]))["naive_wape_pct"])
    assert overall(rows_of([10, 4], [8, NAN], naive=[4, NAN]))["naive_wape_pct"] == 50


def test_a_scale_of_zero_leaves_the_row_out_of_mase():
    assert overall(rows_of([10, 4], [8, 5], scale=[0, 2]))["mase"] == 0.5
    assert np.isnan(overall(rows_of([10, 4], [8, 5], scale=[0, 0]))["mase"])


def test_coverage_counts_demand_at_or_below_each_quantile():
    levels = [np.arange(1.0, 10.0), np.arange(11.0, 20.0)]
    coverage = overall(rows_of([5, 15], [5, 20], quantile_units=levels))["quantile_coverage"]
    assert coverage == dict(zip(["0.01", "0.05", "0.1", "0.25", "0.5", "0.75", "0.9", "0.95", "0.99"],
                                [0, 0, 0, 0, 0.5, 0.5, 0.5, 0.5, 0.5], strict=True))  # fmt: skip


def test_demand_that_equals_a_quantile_is_not_below_it():
    metric = overall(rows_of([0, 15], [0, 20], quantile_units=[np.zeros(9), np.arange(16.0, 25.0)]))
    assert metric["quantile_coverage"]["0.5"] == 1
    assert metric["quantile_below"]["0.5"] == 0
    assert metric["quantile_below"]["0.95"] == 0.5


def test_scopes_are_overall_per_location_and_per_product_and_days_ahead_is_kept_apart():
    rows = pd.concat(
        [
            rows_of([10, 4], [8, 5], location_id="shop"),
            rows_of([6], [6], location_id="kiosk", is_replayed=True),
            rows_of([7], [6], days_ahead=1),
        ]
    )
    metrics = validate_forecasts(rows).metrics
    assert tuple(metrics.columns) == METRIC_COLUMNS
    found = metrics.set_index(["scope", "location_id", "product_id", "days_ahead"])["actual_units"].to_dict()
    assert found == {
        ("overall", "", "", 0): 19,
        ("overall", "", "", 1): 6,
        ("location", "kiosk", "", 0): 6,
        ("location", "shop", "", 0): 13,
        ("location", "shop", "", 1): 6,
        ("product", "", "p00", 0): 14,
        ("product", "", "p00", 1): 6,
        ("product", "", "p01", 0): 5,
    }
    replayed = metrics.set_index(["scope", "location_id", "product_id", "days_ahead"])["is_replayed"]
    assert replayed["overall", "", "", 0]
    assert not replayed["location", "shop", "", 0]


def test_a_tenant_with_a_forecast_that_is_no_number_is_set_aside_and_the_others_are_scored():
    broken = rows_of([1, NAN, np.inf], [1, 1, 1], tenant_id="broken")
    broken_quantile = rows_of([1], [1], tenant_id="quantile", quantile_units=[np.array([*range(8), NAN])])
    alone = validate_forecasts(rows_of([10, 4], [8, 5]))
    together = validate_forecasts(pd.concat([broken, rows_of([10, 4], [8, 5]), broken_quantile]))
    assert alone.set_aside.empty
    assert together.set_aside[["tenant_id", "link"]].values.tolist() == [
        ["broken", "validation_metrics"],
        ["quantile", "validation_metrics"],
    ]
    assert "product p01 at location shop, made 0 days ahead" in together.set_aside["reason"].iloc[0]
    assert together.set_aside["remedy"].all()
    pd.testing.assert_frame_equal(alone.metrics, together.metrics)


def test_when_every_tenant_is_set_aside_there_are_no_metrics():
    validation = validate_forecasts(rows_of([NAN], [1]))
    assert tuple(validation.metrics.columns) == METRIC_COLUMNS
    assert validation.metrics.empty
    assert len(validation.set_aside) == 1


def test_nothing_to_validate_gives_no_metrics():
    validation = validate_forecasts(rows_of([], []))
    assert tuple(validation.metrics.columns) == METRIC_COLUMNS
    assert validation.metrics.empty
    assert tuple(validation.set_aside.columns) == SET_ASIDE_COLUMNS
    assert validation.set_aside.empty


DAY = date(2024, 3, 31)


def sales_of(*series: tuple[str, str, dict[int, float]], has_begun: bool = False) -> Panel:
    """Series of location, product and units by days before DAY."""
    sold = np.full((len(series), SALES_DAYS), NAN)
    for row, (_, _, units) in enumerate(series):
        for days_before, quantity in units.items():
            sold[row, SALES_DAYS - 1 - days_before] = quantity
    keys = pd.DataFrame([("a", *names) for *names, _ in series], columns=SERIES).assign(has_begun=has_begun)
    return Panel(keys, {"sold_units": sold}, DAY - timedelta(days=SALES_DAYS - 1))


def forecasts_of(*rows: tuple[str, str, int, bool], lead_days: int = 0) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["location_id", "product_id", "days_ahead", "is_open"])
    run_dates = [DAY - timedelta(days=days_ahead + lead_days) for days_ahead in frame["days_ahead"]]
    levels = pd.Series([np.ones(len(QUANTILE_LEVELS))] * len(frame), dtype=object)
    return frame.assign(
        tenant_id="a",
        run_date=run_dates,
        mean_units=1.0,
        quantile_units=levels,
        is_replayed=False,
        method="boosting",
        raw_mean_units=1.0,
        volume_class=0.0,
        is_sold_out=False,
    )


class TestRowsToScore:
    def test_what_was_not_recorded_sold_nothing_where_the_location_sold_something(self):
        sales = sales_of(("shop", "bread", {0: 12}), ("shop", "cake", {1: 4}), ("kiosk", "bread", {1: 3}))
        asked = forecasts_of(("shop", "bread", 0, True), ("shop", "cake", 0, True), ("shop", "new", 0, True),
                             ("kiosk", "bread", 0, True), ("nowhere", "bread", 0, True))  # fmt: skip
        rows = rows_to_score(asked, sales)
        assert tuple(rows.columns) == ROW_COLUMNS
        np.testing.assert_array_equal(rows["actual_units"], [12, 0, 0, NAN, NAN])

    def test_a_day_forecast_closed_counts_only_where_something_was_sold(self):
        sales = sales_of(("shop", "bread", {0: 12}), ("kiosk", "bread", {1: 3}))
        rows = rows_to_score(forecasts_of(("shop", "bread", 0, False), ("kiosk", "bread", 0, False)), sales)
        assert rows["location_id"].tolist() == ["shop"]

    @pytest.mark.parametrize(
        ("days_ahead", "lead_days", "expected"),
        [(0, 0, 7), (6, 0, 7), (6, 1, 14), (7, 0, 14), (13, 0, 14), (13, 1, 21)],
    )
    def test_naive_is_the_last_same_weekday_before_the_run_date(self, days_ahead, lead_days, expected):
        sales = sales_of(("shop", "bread", {days: float(days) for days in range(SALES_DAYS)}))
        rows = rows_to_score(forecasts_of(("shop", "bread", days_ahead, True), lead_days=lead_days), sales)
        assert rows["naive_units"].tolist() == [expected]

    def test_naive_skips_a_day_on_which_the_location_sold_nothing_and_keeps_a_zero_of_the_product(self):
        units = {days: 5.0 for days in range(SALES_DAYS) if days not in (7, 14)}
        sales = sales_of(("shop", "bread", units), ("shop", "cake", {0: 1.0, 14: 2.0, 21: 3.0}))
        rows = rows_to_score(forecasts_of(("shop", "bread", 0, True), ("shop", "cake", 0, True)), sales)
        np.testing.assert_array_equal(rows["naive_units"], [0, 2])

    def test_nothing_before_the_first_sale_is_a_zero(self):
        bread = dict.fromkeys(range(SALES_DAYS), 5.0)
        asked = forecasts_of(("shop", "cake", 0, True))
        new = rows_to_score(asked, sales_of(("shop", "bread", bread), ("shop", "cake", {0: 1, 3: 1})))
        old = rows_to_score(asked, sales_of(("shop", "bread", bread), ("shop", "cake", {0: 1}), has_begun=True))
        assert new[["naive_units", "scale_units"]].isna().all(axis=None)
        assert old[["naive_units", "scale_units"]].values.tolist() == [[0, 0]]

    @pytest.mark.parametrize(("days_ahead", "lead_days"), [(0, 0), (5, 1), (13, 1)])
    def test_scale_is_the_error_of_seasonal_naive_in_the_eight_weeks_before_the_run_date(self, days_ahead, lead_days):
        rng = np.random.default_rng(1)
        units = dict(enumerate(rng.poisson(20, SALES_DAYS) + 1.0))
        del units[30]
        rows = rows_to_score(
            forecasts_of(("shop", "bread", days_ahead, True), lead_days=lead_days), sales_of(("shop", "bread", units))
        )
        before = range(days_ahead + lead_days + 1, days_ahead + lead_days + 57)
        changes = [abs(units[n] - units[n + 7]) for n in before if n + 7 in before and {n, n + 7} <= units.keys()]
        assert len(changes) == 47
        assert rows["scale_units"].item() == pytest.approx(np.mean(changes))

    def test_nothing_to_score_is_an_empty_frame(self):
        assert tuple(rows_to_score(forecasts_of(), sales_of(("shop", "bread", {0: 1}))).columns) == ROW_COLUMNS
        rows = rows_to_score(forecasts_of(("shop", "bread", 0, True)), sales_of())
        assert rows[["actual_units", "naive_units", "scale_units"]].isna().all(axis=None)


UNITS = st.floats(0, 1000).map(lambda value: round(value, 3))
ROWS = st.lists(st.tuples(UNITS, st.one_of(st.just(NAN), UNITS), UNITS), min_size=1, max_size=20)


@few_examples
@given(ROWS)
def test_no_metric_is_ever_infinite_and_counts_add_up(values):
    forecast, actual, scale = zip(*values, strict=True)
    metrics = validate_forecasts(rows_of(forecast, actual, naive=list(scale), scale=list(scale))).metrics
    texts = ["tenant_id", "scope", "location_id", "product_id", "quantile_coverage", "quantile_below"]
    numbers = metrics.drop(columns=texts)
    assert not np.isinf(numbers.to_numpy(dtype=float)).any()
    assert (metrics["rows_used"] + metrics["rows_without_actual"]).iloc[0] == len(values)
    assert (metrics["rows_zero"] <= metrics["rows_used"]).all()


@few_examples
@given(ROWS, ROWS)
def test_one_tenant_does_not_move_the_figures_of_another(mine, others):
    def frame(values, tenant_id):
        forecast, actual, scale = zip(*values, strict=True)
        return rows_of(forecast, actual, scale=list(scale), tenant_id=tenant_id)

    alone = validate_forecasts(frame(mine, "m")).metrics
    together = validate_forecasts(pd.concat([frame(others, "a"), frame(mine, "m"), frame(others, "z")])).metrics
    pd.testing.assert_frame_equal(
        alone, together[together["tenant_id"] == "m"].reset_index(drop=True), check_exact=True
    )


def test_only_what_a_model_forecast_within_its_horizon_makes_a_live_residual():
    kinds = {
        "method": ["boosting", "seasonal_naive", "boosting", "boosting", "boosting", "boosting", "boosting"],
        "is_sold_out": [False, False, True, False, False, False, False],
        "days_ahead": [3, 0, 0, 7, 0, 0, 0],
        "volume_class": [2.0, 0, 0, 0, NAN, 0, 0],
        "is_open": [True, True, True, True, True, True, False],
    }
    rows = rows_of([9] * 7, [6, 6, 6, 6, 6, NAN, 6], **kinds).assign(raw_mean_units=4.0)
    found = live_residuals(rows)
    assert found["volume_class"].tolist() == [2]
    assert found["residual"].tolist() == [pytest.approx((6 - 4) / 4**0.7)]
