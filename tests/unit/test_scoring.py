"""Scores of a backtest: worked by hand on a few rows, and recomputed by scikit-learn on many."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import (
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_pinball_loss,
    r2_score,
    root_mean_squared_error,
)

from planning.backtest import BacktestRows
from planning.frames import QUANTILE_LEVELS
from planning.scoring import LEVEL_NAMES, score, select

FIRST = np.datetime64("2024-03-01", "D")


def rows_of(actual, models, *, quantiles=None, **columns) -> BacktestRows:
    """One series, one origin per row and a target the day after, unless the columns say otherwise."""
    n = len(actual)
    plain = {
        "series": np.zeros(n, dtype=np.int64),
        "origin": FIRST + np.arange(n),
        "horizon_days": np.ones(n, dtype=np.int64),
        "is_censored": np.zeros(n, dtype=bool),
        "volume_class": np.zeros(n, dtype=np.int64),
        "day_kind": np.full(n, "normal", dtype=object),
        "scale_units": np.full(n, np.nan),
    }
    given = plain | {name: np.asarray(values) for name, values in columns.items()}
    means = {name: np.asarray(values, dtype=float) for name, values in models.items()}
    return BacktestRows(
        keys=pd.DataFrame([("a", "main", "bread")], columns=["tenant_id", "location_id", "product_id"]),
        target=given["origin"] + given["horizon_days"],
        actual_units=np.asarray(actual, dtype=float),
        mean_units=means,
        quantile_units=flat(means) if quantiles is None else quantiles,
        champions=pd.DataFrame(columns=["tenant_id", "origin", "candidate", "reason"]),
        **given,
    )


def flat(means: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Quantiles that all equal the mean."""
    return {name: np.repeat(mean[:, None], len(QUANTILE_LEVELS), axis=1) for name, mean in means.items()}


def test_the_figures_of_a_small_example_by_hand() -> None:
    # e = 2, -1, 3; actuals 8, 5, 0 sum to 13, |e| to 6.
    scored = score(rows_of([8, 5, 0], {"m": [10, 4, 3]}, scale_units=[2, 1, 0], horizon_days=[1, 2, 7]))
    model = scored["models"]["m"]
    assert {name: scored[name] for name in ("rows", "rows_censored", "from", "to", "horizon_days")} == {
        "rows": 3, "rows_censored": 0, "from": "2024-03-02", "to": "2024-03-10", "horizon_days": 7,
    }  # fmt: skip
    assert (model["rows"], model["rows_used"], model["rows_zero"]) == (3, 3, 1)
    assert (model["forecast_units"], model["actual_units"]) == (17, 13)
    assert model["mae_units"] == pytest.approx(2)
    assert model["rmse_units"] == pytest.approx(np.sqrt(14 / 3))
    assert model["mape_pct"] == pytest.approx(100 * (2 / 8 + 1 / 5) / 2)
    assert model["wape_pct"] == pytest.approx(100 * 6 / 13)
    assert model["bias_pct"] == pytest.approx(100 * 4 / 13)
    assert model["mase"] == pytest.approx((2 / 2 + 1 / 1) / 2)
    assert model["r2"] is None


def test_every_candidate_is_scored_as_scikit_learn_scores_it() -> None:
    rng = np.random.default_rng(5)
    actual = rng.poisson(12, 60) + 1.0
    means = {name: rng.gamma(3, 4, 60) for name in ("boosting", "seasonal_naive")}
    quantiles = {name: np.sort(rng.gamma(3, 4, (60, len(QUANTILE_LEVELS))), axis=1) for name in means}
    models = score(rows_of(actual, means, quantiles=quantiles))["models"]
    assert list(models) == ["boosting", "seasonal_naive"]
    for name, mean in means.items():
        pinball = [mean_pinball_loss(actual, quantiles[name][:, n], alpha=q) for n, q in enumerate(QUANTILE_LEVELS)]
        model = models[name]
        assert model["mae_units"] == pytest.approx(mean_absolute_error(actual, mean))
        assert model["wape_pct"] == pytest.approx(100 * mean_absolute_error(actual, mean) / actual.mean())
        assert model["rmse_units"] == pytest.approx(root_mean_squared_error(actual, mean))
        assert model["mape_pct"] == pytest.approx(100 * mean_absolute_percentage_error(actual, mean))
        assert model["r2"] == pytest.approx(r2_score(actual, mean))
        assert list(model["pinball_units"].values()) == pytest.approx(pinball)
        assert model["pinball_mean_units"] == pytest.approx(np.mean(pinball))
        expected = 100 * (1 - pinball[6] / mean_pinball_loss(actual, mean, alpha=0.9))
        assert model["newsvendor"]["reduction_pct"] == pytest.approx(expected)


def test_a_level_of_counts_is_met_between_the_shares_below_and_at_most_the_quantile() -> None:
    # Ten days of demand 0 to 9; the 0.5 quantile is 4, the 0.9 quantile 5, the others 100.
    levels = np.full((10, len(QUANTILE_LEVELS)), 100.0)
    levels[:, LEVEL_NAMES.index("0.5")] = 4
    levels[:, LEVEL_NAMES.index("0.9")] = 5
    model = score(rows_of(np.arange(10), {"m": np.full(10, 4.5)}, quantiles={"m": levels}))["models"]["m"]
    covered = {name: model[name]["0.5"] for name in ("coverage_pct", "coverage_below_pct", "coverage_gap_pct")}
    assert covered == {"coverage_pct": 50, "coverage_below_pct": 40, "coverage_gap_pct": 0}
    assert model["coverage_pct"]["0.9"] == 60
    assert model["coverage_gap_pct"]["0.9"] == pytest.approx(30)
    assert model["coverage_gap_pct"]["0.01"] == pytest.approx(99)


def test_ordering_the_quantile_is_compared_with_ordering_the_mean() -> None:
    # Demand 20, mean 10: short by 10, a loss of 9. The 0.9 quantile of 25 is 5 too many: a loss of 0.5.
    quantiles = {"m": np.full((1, len(QUANTILE_LEVELS)), 25.0)}
    found = score(rows_of([20], {"m": [10]}, quantiles=quantiles))["models"]["m"]["newsvendor"]
    assert found == {
        "level": 0.9,
        "ordering_quantile_units": pytest.approx(0.5),
        "ordering_mean_units": pytest.approx(9),
        "reduction_pct": pytest.approx(100 * (1 - 0.5 / 9)),
    }
    perfect = score(rows_of([20], {"m": [20]}, quantiles=quantiles))["models"]["m"]["newsvendor"]
    assert perfect["reduction_pct"] is None


def test_sold_out_rows_are_counted_and_left_out_of_everything_else() -> None:
    with_one = rows_of([8, 5, 40], {"m": [10, 4, 90]}, is_censored=[False, False, True], scale_units=[1, 1, 1])
    scored, without = score(with_one), score(select(with_one, np.array([True, True, False])))
    assert (scored["rows"], scored["rows_censored"]) == (3, 1)
    model, plain = scored["models"]["m"], without["models"]["m"]
    assert (model["rows"], model["rows_used"]) == (3, 2)
    unlike = {"rows", "by_horizon", "by_volume_class", "by_day_kind"}
    assert {k: v for k, v in model.items() if k not in unlike} == {k: v for k, v in plain.items() if k not in unlike}


def test_scores_are_told_apart_by_horizon_volume_class_and_kind_of_day() -> None:
    rows = rows_of(
        [10, 10, 10, 10],
        {"m": [11, 12, 14, 18]},
        horizon_days=[1, 7, 7, 1],
        volume_class=[0, 0, 3, 3],
        day_kind=np.array(["normal", "holiday", "promotion", "normal"], dtype=object),
    )
    model = score(rows)["models"]["m"]
    wape = {cut: {key: part["wape_pct"] for key, part in model[cut].items()} for cut in model if cut.startswith("by_")}
    assert wape == {
        "by_horizon": {"1": pytest.approx(45), "7": pytest.approx(30)},
        "by_volume_class": {"0": pytest.approx(15), "3": pytest.approx(60)},
        "by_day_kind": {"holiday": pytest.approx(20), "normal": pytest.approx(45), "promotion": pytest.approx(40)},
    }
    assert model["by_volume_class"]["3"]["rows_used"] == 2
    assert set(model["by_horizon"]["1"]) == {name for name in model if not name.startswith("by_")}


def test_a_selection_is_scored_as_if_it_were_all() -> None:
    rng = np.random.default_rng(7)
    rows = rows_of(rng.poisson(5, 30), {"m": rng.gamma(2, 3, 30)}, scale_units=rng.gamma(2, 2, 30))
    selection = rng.random(30) < 0.5
    assert score(rows, selection) == score(select(rows, selection))


def test_without_a_usable_row_counts_are_zero_and_everything_else_is_undefined() -> None:
    sold_out = score(rows_of([5], {"m": [4]}, is_censored=[True]))["models"]["m"]
    none = score(rows_of([5], {"m": [4]}), np.array([False]))
    assert (none["rows"], none["from"], none["to"], none["horizon_days"]) == (0, None, None, None)
    for model in (sold_out, none["models"]["m"]):
        assert (model["rows_used"], model["rows_zero"]) == (0, 0)
        for name in ("wape_pct", "bias_pct", "mape_pct", "mae_units", "rmse_units", "mase", "r2", "pinball_mean_units"):
            assert model[name] is None
    assert set(sold_out["coverage_pct"].values()) == {None}
    assert sold_out["newsvendor"]["reduction_pct"] is None


def test_percentages_of_nothing_demanded_are_undefined_while_errors_in_units_are_not() -> None:
    model = score(rows_of([0, 0], {"m": [1, 3]}))["models"]["m"]
    assert [model[name] for name in ("wape_pct", "bias_pct", "mape_pct")] == [None, None, None]
    assert model["mae_units"] == 2


def test_a_candidate_without_quantiles_is_scored_by_its_mean_alone() -> None:
    rows = rows_of([8, 5], {"m": [10, 4], "rival": [9, 5]})
    model = score(replace(rows, quantile_units={"m": rows.quantile_units["m"]}))["models"]["rival"]
    assert model["wape_pct"] == pytest.approx(100 / 13)
    assert model["pinball_units"] is None
    assert model["coverage_pct"] is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_forecast_that_is_no_number_is_refused_by_name_unless_its_row_is_not_scored(value: float) -> None:
    with pytest.raises(ValueError, match="boosting"):
        score(rows_of([8, 5], {"boosting": [value, 4]}))
    score(rows_of([8, 5], {"boosting": [value, 4]}, is_censored=[True, False]))
