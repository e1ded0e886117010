"""Claims about errors, quantiles, models and plans: what keeps them, what breaks them, and what leaves them undefined."""

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planning import checks

ON = date(2026, 3, 31)
NO_PRODUCTS = pd.DataFrame(columns=["location_id", "product_id", "error_pct", "wape_pct", "units", "money"])


def days(errors: list[float], sold: float | list[float] = 100.0, on: date = ON, rows: int = 10) -> pd.DataFrame:
    """Validated days that end on a day, oldest first: the absolute error of each, and the units sold."""
    units = np.broadcast_to(np.array(sold, dtype=float), (len(errors),))
    absolute = np.array(errors, dtype=float)
    return pd.DataFrame(
        {
            "business_date": [on - timedelta(days=n) for n in reversed(range(len(errors)))],
            "rows_used": rows,
            "rows_zero": 0,
            "rows_without_actual": 0,
            "actual_units": units,
            "mae_units": absolute / rows,
            "mape_pct": 2 * absolute,
            "wape_pct": 100 * absolute / np.where(units > 0, units, np.nan),
            "coverage_pct": 100.0,
            "quantile_coverage": [{"0.1": 0.1, "0.5": 0.5, "0.9": 0.9}] * len(errors),
            "quantile_below": [{"0.1": 0.1, "0.5": 0.5, "0.9": 0.9}] * len(errors),
        }
    )


def test_the_trailing_error_weighs_days_by_what_they_sold():
    trailing = checks.trailing_error(days([10.0] * 7 + [80.0], [100.0] * 7 + [20.0]), ON)
    assert trailing.error_pct == pytest.approx(100 * 150 / 720)
    assert (trailing.days, trailing.first_on, trailing.last_on) == (8, ON - timedelta(days=7), ON)


def test_only_the_last_28_open_days_count_and_closed_ones_are_none():
    history = days([90.0] * 5 + [10.0] * 28)
    assert checks.trailing_error(history, ON).error_pct == pytest.approx(10)
    closed = days([90.0] * 5 + [10.0] * 28 + [5.0], [100.0] * 33 + [0.0], on=ON + timedelta(days=1))
    assert checks.trailing_error(closed, ON + timedelta(days=1)).error_pct == pytest.approx(10)
    assert checks.trailing_error(history, ON - timedelta(days=28)).days == 5


def test_less_than_a_week_is_undefined():
    assert checks.trailing_error(days([50.0] * 6), ON).error_pct is None
    assert checks.trailing_error(days([50.0] * 7), ON).error_pct == pytest.approx(50)
    result = checks.check_trailing_error("a", ON, checks.trailing_error(days([50.0] * 6), ON), 50.0, NO_PRODUCTS)
    assert (result.status, result.value) == ("undefined", None)


def test_mape_is_used_where_it_is_set():
    trailing = checks.trailing_error(days([10.0] * 10), ON, "mape")
    assert trailing.error_pct == pytest.approx(20)
    assert "MAPE 20.0 %" in checks.check_trailing_error("a", ON, trailing, 20.0, NO_PRODUCTS, "mape").message


@pytest.mark.parametrize(
    ("error", "status"), [(20.0, "passed"), (20.1, "warned"), (30.0, "warned"), (30.1, "failed"), (None, "undefined")]
)
def test_thresholds_belong_to_the_better_side(error, status):
    assert checks.error_level(error) == status


def test_a_failed_check_names_the_products_above_by_money_and_shows_the_day_beside_it():
    products = pd.DataFrame(
        [
            ("", "fine", 25.0, 25.0, 900.0, 99.0),
            ("", "cheap", 80.0, 80.0, 500.0, np.nan),
            ("", "small", 90.0, 90.0, 10.0, np.nan),
            ("", "dear", 40.0, 40.0, 50.0, 70.0),
            ("", "dearest", 35.0, 35.0, 20.0, 80.0),
        ],
        columns=NO_PRODUCTS.columns,
    )
    result = checks.check_trailing_error("a", ON, checks.Trailing(42.0, 28, ON, ON), 12.34, products)
    assert result.status == "failed"
    assert [row["product_id"] for row in result.details["products"]] == ["dearest", "dear", "cheap", "small"]
    assert result.details["products"][2] == {
        "location_id": "", "product_id": "cheap", "wape_pct": 80.0, "units": 500.0, "money": None,
    }  # fmt: skip
    assert result.details["day_error_pct"] == 12.34
    assert "12.3 % on 2026-03-31 itself" in result.message
    many = pd.concat([products.iloc[[1]]] * 30, ignore_index=True)
    result = checks.check_trailing_error("a", ON, checks.Trailing(42.0, 28, ON, ON), None, many)
    assert len(result.details["products"]) == checks.MOST_PRODUCTS


def test_an_error_has_risen_when_it_is_more_than_five_points_above_that_of_a_month_before():
    def rise(now: float | None, before: float | None) -> checks.CheckResult:
        return checks.check_error_rise("a", checks.Trailing(now, 28), checks.Trailing(before, 28))

    assert rise(25.0, 20.0).status == "passed"
    assert (rise(25.2, 20.0).status, rise(25.2, 20.0).value) == ("failed", pytest.approx(5.2))
    assert rise(10.0, 20.0).status == "passed"
    assert rise(10.0, None).status == rise(None, 10.0).status == "undefined"


def shares(below: dict[str, float], at_most: dict[str, float], count: int = 28) -> pd.DataFrame:
    return days([1.0] * count).assign(quantile_below=[below] * count, quantile_coverage=[at_most] * count)


def test_a_level_between_the_shares_below_and_at_most_is_calibrated():
    heavy = shares({"0.1": 0.0, "0.5": 0.3, "0.9": 0.88}, {"0.1": 0.4, "0.5": 0.6, "0.9": 0.91})
    result = checks.check_calibration("a", heavy, ON)
    assert (result.status, result.value) == ("passed", 0)
    assert result.details["levels"]["0.1"] == {"below_pct": 0.0, "at_most_pct": 40.0}


@pytest.mark.parametrize(("share", "status"), [(0.85, "passed"), (0.84, "failed"), (0.95, "passed"), (0.96, "failed")])
def test_a_level_may_be_five_points_off_either_way(share, status):
    same = {"0.1": 0.1, "0.5": 0.5, "0.9": share}
    assert checks.check_calibration("a", shares(same, same), ON).status == status


def test_few_rows_and_days_without_the_share_below_leave_calibration_undefined():
    bad = {"0.1": 0.9, "0.5": 0.9, "0.9": 0.9}
    assert checks.check_calibration("a", shares(bad, bad, 19), ON).status == "undefined"
    assert checks.check_calibration("a", shares(bad, bad, 20), ON).status == "failed"
    assert checks.check_calibration("a", shares({}, bad), ON).details["rows"] == 0


def test_coverage_counts_the_day_and_is_undefined_where_nothing_was_open():
    day = days([1.0]).assign(rows_without_actual=2, rows_used=18, coverage_pct=90.0)
    assert checks.check_coverage("a", ON, day).status == "passed"
    result = checks.check_coverage("a", ON, day.assign(coverage_pct=89.9))
    assert (result.status, result.value) == ("failed", 89.9)
    assert "18 of 20" in result.message
    assert checks.check_coverage("a", ON + timedelta(days=1), day).status == "undefined"


def test_a_model_is_old_from_the_31st_day_and_rules_do_not_age():
    assert checks.check_model_age("a", ON, 3, ON - timedelta(days=30)).status == "passed"
    assert checks.check_model_age("a", ON, 3, ON - timedelta(days=31)).status == "failed"
    assert checks.check_model_age("a", ON, None, None).status == "undefined"


def test_faults_are_counted_and_told():
    result = checks.check_faults(checks.PLAN_INVARIANTS, "a", 10, {"negative stock": 2, "late": 0}, "flour at main")
    assert (result.status, result.value, result.details["faults"]) == ("failed", 2, {"negative stock": 2})
    assert "flour at main" in result.message
    assert checks.check_faults(checks.PLAN_INVARIANTS, "a", 10, {}, "").status == "passed"
    assert checks.check_faults(checks.PLAN_INVARIANTS, "a", 0, {}, "").status == "undefined"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 200), st.one_of(st.just(0.0), st.floats(1, 500))), min_size=1, max_size=70))
def test_a_trailing_error_is_that_of_its_rows_put_together(values):
    errors, sold = (list(column) for column in zip(*values, strict=True))
    open_days = [(error, units) for error, units in values if units > 0][-28:]
    trailing = checks.trailing_error(days(errors, sold), ON)
    assert trailing.days == len(open_days)
    if len(open_days) >= checks.LEAST_OPEN_DAYS:
        assert trailing.error_pct == pytest.approx(100 * sum(e for e, _ in open_days) / sum(u for _, u in open_days))
    else:
        assert trailing.error_pct is None
