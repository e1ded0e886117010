"""The rules of retraining: nobody is asked twice a week or for nothing, and promotions are judged beside seasonal naive."""

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planning.champion import LEAST_DAYS_BETWEEN_ATTEMPTS
from planning.retraining import (
    IMPROVEMENT_DAYS,
    LEAST_SALES_DAYS,
    Evidence,
    LiveError,
    Standing,
    ask_of,
    evidence_of_days,
    live_error,
    verdict_of,
)
from planning.training import LEAST_OPEN_DAYS

ON = date(2026, 3, 2)
NAN = float("nan")


def ago(days: int) -> date:
    return ON - timedelta(days=days)


def standing(attempted: int | None = None, trained: int | None = None, sales_days: int = LEAST_SALES_DAYS) -> Standing:
    """Attempted and trained so many days ago, with sales through yesterday."""
    trained_on = None if trained is None else ago(trained)
    return Standing(None if attempted is None else ago(attempted), trained_on, trained_on, sales_days, ago(1))


HIGH = Evidence(ago(1), error_pct=34.0, error_reason="WAPE is 34 %.", product_ids=("bread",))
RISEN = Evidence(ago(1), rise_points=6.0, rise_reason="It has risen by 6 points.")


def test_the_least_days_are_those_of_the_training() -> None:
    assert LEAST_SALES_DAYS == LEAST_OPEN_DAYS


@pytest.mark.parametrize(
    ("where", "evidence", "trigger"),
    [
        (standing(), None, "first"),
        (standing(sales_days=89), None, None),
        (standing(sales_days=89), HIGH, None),
        (standing(attempted=30), None, None),
        (standing(attempted=31), None, "first"),
        (standing(attempted=8), HIGH, "error"),
        (standing(10, 10), None, None),
        (standing(30, 30), None, None),
        (standing(31, 31), None, "age"),
        (standing(31, 31), HIGH, "error"),
        (standing(31, 31), RISEN, "drift"),
        (standing(7, 7), HIGH, "error"),
        (standing(6, 6), HIGH, None),
        (standing(6, 40), None, None),
        (standing(7, 40), None, "age"),
    ],
)
def test_who_is_asked_for(where: Standing, evidence: Evidence | None, trigger: str | None) -> None:
    ask = ask_of(ON, where, evidence)
    assert (None if ask is None else ask.trigger) == trigger
    if ask is not None:
        assert ask.reason.endswith(".")


def test_an_error_names_the_products_and_says_what_the_check_said() -> None:
    ask = ask_of(ON, standing(10, 10), HIGH)
    assert ask is not None
    assert (ask.reason, ask.product_ids) == ("WAPE is 34 %.", ("bread",))


def test_an_error_of_days_before_the_last_attempt_is_no_reason_for_another() -> None:
    old = Evidence(ago(11), error_pct=50.0, error_reason="WAPE is 50 %.")
    assert ask_of(ON, standing(10, 10), old) is None
    assert ask_of(ON, standing(12, 12), old) is not None


def test_an_old_model_is_not_trained_again_on_what_it_has_seen() -> None:
    closed = Standing(ago(40), ago(40), ago(41), LEAST_SALES_DAYS, ago(41))
    assert ask_of(ON, closed, None) is None
    assert ask_of(ON, Standing(ago(40), ago(40), ago(41), LEAST_SALES_DAYS, ago(40)), None) is not None


@given(
    attempted=st.integers(0, 400),
    trained=st.none() | st.integers(0, 400),
    sales_days=st.integers(0, 90),
    error_pct=st.none() | st.floats(0, 500),
    rise=st.none() | st.floats(-100, 100),
)
def test_nobody_is_asked_for_within_a_week_or_without_a_reason(
    attempted: int, trained: int | None, sales_days: int, error_pct: float | None, rise: float | None
) -> None:
    ask = ask_of(
        ON,
        standing(attempted, trained, sales_days),
        Evidence(ago(1), error_pct=error_pct, error_reason="E.", rise_points=rise, rise_reason="R."),
    )
    if attempted < LEAST_DAYS_BETWEEN_ATTEMPTS:
        assert ask is None
    if ask is not None:
        assert {"E.": "error", "R.": "drift"}.get(ask.reason, ask.trigger) == ask.trigger
        assert trained is not None or sales_days >= LEAST_SALES_DAYS
        if ask.trigger == "error":
            assert error_pct is not None
            assert error_pct > 30
        if ask.trigger == "drift":
            assert rise is not None
            assert rise > 5


def test_the_error_of_days_is_weighted_and_names_the_products_that_cost_most() -> None:
    days = pd.DataFrame({"error_units": [10.0, 40.0], "actual_units": [100.0, 50.0]})
    products = pd.DataFrame(
        {
            "product_id": ["bread", "cake", "roll"],
            "error_units": [35.0, 12.0, 3.0],
            "actual_units": [100.0, 20.0, 30.0],
        }
    )
    found = evidence_of_days(days, products, ON)
    assert found.error_pct == pytest.approx(100 * 50 / 150)
    assert found.product_ids == ("bread", "cake")
    calm = days.assign(error_units=[10.0, 35.0])  # 30 % exactly
    assert evidence_of_days(calm, products, ON).error_pct is None
    assert evidence_of_days(days.iloc[:0], products.iloc[:0], ON).error_pct is None


def err(wape: float, naive: float, days: int = IMPROVEMENT_DAYS) -> LiveError:
    return LiveError(days, wape, naive)


@pytest.mark.parametrize(
    ("since", "latest", "before", "is_over", "verdict"),
    [
        (err(20, 30), err(20, 30), err(25, 30), False, "improved"),
        # It is worse than before, and so is naive: the season has turned.
        (err(28, 42), err(28, 42), err(25, 30), False, "improved"),
        (err(25, 30), err(25, 30), err(25, 30), False, "not_improved"),
        (err(20, 30), err(20, 30), err(NAN, NAN, 0), False, "improved"),
        (err(30, 30), err(30, 30), err(NAN, NAN, 0), False, "not_improved"),
        (err(20, 30, 13), err(20, 30, 13), err(25, 30), False, "waiting"),
        (err(20, 30, 13), err(20, 30, 13), err(25, 30), True, "improved"),
        (err(20, 30, 6), err(20, 30, 6), err(25, 30), True, "undefined"),
        (err(0, 0), err(0, 0), err(25, 30), False, "undefined"),
        (err(33, 30), err(33, 30), err(25, 30), False, "not_improved"),  # 10 % exactly
        (err(33.1, 30), err(33.1, 30), err(25, 30), False, "rolled_back"),
        (err(20, 30), err(33.1, 30), err(25, 30), True, "rolled_back"),
        (err(60, 30, 13), err(60, 30, 13), err(25, 30), False, "waiting"),
        (err(5, 0), err(5, 0), err(25, 30), False, "rolled_back"),
    ],
)
def test_a_promotion_is_judged_beside_naive(
    since: LiveError, latest: LiveError, before: LiveError, is_over: bool, verdict: str
) -> None:
    assert verdict_of(since, latest, before, is_over) == verdict


percent = st.floats(0, 300) | st.just(NAN)
errors = st.builds(LiveError, st.integers(0, IMPROVEMENT_DAYS), percent, percent)


@given(since=errors, latest=errors, before=errors, is_over=st.booleans())
def test_no_model_is_rolled_back_before_fourteen_days_or_while_naive_is_no_better(
    since: LiveError, latest: LiveError, before: LiveError, is_over: bool
) -> None:
    verdict = verdict_of(since, latest, before, is_over)
    if verdict == "rolled_back":
        assert latest.days == IMPROVEMENT_DAYS
        assert latest.wape_pct > latest.naive_wape_pct
    if is_over:
        assert verdict != "waiting"
    if verdict in ("improved", "not_improved"):
        assert np.isfinite(since.wape_pct)


def test_the_live_error_is_weighted_by_what_was_sold() -> None:
    days = pd.DataFrame({"error_units": [10.0, 1.0], "naive_error_units": [5.0, 10.0], "actual_units": [100.0, 10.0]})
    assert live_error(days) == LiveError(2, 10.0, pytest.approx(100 * 15 / 110))
    nothing = live_error(days.iloc[:0])
    assert nothing.days == 0
    assert np.isnan(nothing.wape_pct)
