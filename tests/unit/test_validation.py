"""Metrics of finished days, checked against a second way of computing them."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mean_absolute_percentage_error, mean_pinball_loss, r2_score, root_mean_squared_error

from planning.frames import QUANTILE_LEVELS, PlanningError
from planning.validation import METRIC_COLUMNS, validate_forecasts

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
        "actual_units": np.array(actual, dtype=float),
        "naive_units": [NAN] * n if naive is None else naive,
        "scale_units": [NAN] * n if scale is None else scale,
    }
    return pd.DataFrame({**frame, **columns})


def overall(rows: pd.DataFrame) -> pd.Series:
    metrics = validate_forecasts(rows)
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


def test_scopes_are_overall_per_location_and_per_product_and_days_ahead_is_kept_apart():
    rows = pd.concat(
        [
            rows_of([10, 4], [8, 5], location_id="shop"),
            rows_of([6], [6], location_id="kiosk", is_replayed=True),
            rows_of([7], [6], days_ahead=1),
        ]
    )
    metrics = validate_forecasts(rows)
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


def test_a_forecast_that_is_no_number_is_refused_by_name():
    with pytest.raises(PlanningError, match="tenant a, location shop, product p01"):
        validate_forecasts(rows_of([1, NAN], [1, 1]))


def test_nothing_to_validate_gives_no_metrics():
    assert tuple(validate_forecasts(rows_of([], [])).columns) == METRIC_COLUMNS
    assert validate_forecasts(rows_of([], [])).empty


UNITS = st.floats(0, 1000).map(lambda value: round(value, 3))
ROWS = st.lists(st.tuples(UNITS, st.one_of(st.just(NAN), UNITS), UNITS), min_size=1, max_size=20)


@settings(max_examples=25, deadline=None)
@given(ROWS)
def test_no_metric_is_ever_infinite_and_counts_add_up(values):
    forecast, actual, scale = zip(*values, strict=True)
    metrics = validate_forecasts(rows_of(forecast, actual, naive=list(scale), scale=list(scale)))
    numbers = metrics.drop(columns=["tenant_id", "scope", "location_id", "product_id", "quantile_coverage"])
    assert not np.isinf(numbers.to_numpy(dtype=float)).any()
    assert (metrics["rows_used"] + metrics["rows_without_actual"]).iloc[0] == len(values)
    assert (metrics["rows_zero"] <= metrics["rows_used"]).all()


@settings(max_examples=25, deadline=None)
@given(ROWS, ROWS)
def test_one_tenant_does_not_move_the_figures_of_another(mine, others):
    def frame(values, tenant_id):
        forecast, actual, scale = zip(*values, strict=True)
        return rows_of(forecast, actual, scale=list(scale), tenant_id=tenant_id)

    alone = validate_forecasts(frame(mine, "m"))
    together = validate_forecasts(pd.concat([frame(others, "a"), frame(mine, "m"), frame(others, "z")]))
    pd.testing.assert_frame_equal(
        alone, together[together["tenant_id"] == "m"].reset_index(drop=True), check_exact=True
    )
