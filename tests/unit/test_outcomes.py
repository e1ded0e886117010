"""Plans judged in money: the worked example, censored days, and what regret and its parts must be for any day."""

from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planning.censoring import NOT_SOLD_OUT
from planning.distributions import DiscreteDemand, NormalDemand, PoissonDemand, QuantileDemand
from planning.frames import QUANTILE_LEVELS, frame_of
from planning.outcomes import (
    OUTCOME_COLUMNS,
    PARTS,
    SUMMARY_COLUMNS,
    demand_of_day,
    expected_at_least,
    hindsight_quantity,
    judge,
    mismatch_cost,
    summarise,
)

MONDAY = date(2026, 3, 2)
NO_PROFILES = frame_of(["tenant_id", "location_id", "product_id", "weekday", "hour", "share"])

LINE = {
    "tenant_id": "t", "location_id": "main", "product_id": "bread", "plan_id": "p1", "is_replayed": False,
    "limited_by": "batch", "orders_units": 0.0, "optimal_units": 113.176471, "opening_usable_units": 0.0,
    "batch_size_units": 24.0, "quantity_units": 120.0, "unlimited_batches": 5.0, "recommended_batches": 5.0,
    "critical_ratio": 0.705882, "is_default_critical_ratio": False, "expected_waste_units": 22.3,
    "expected_sales_units": 97.7, "unit_price": 1.7, "variable_cost": 0.5, "salvage_value": 0.0, "goodwill_cost": 0.0,
    "shelf_life_days": 1.0, "batch_min": 0, "batch_multiple": 1, "batch_max_per_day": np.nan,
}  # fmt: skip


def judged(demand: float, is_censored: bool = False, is_known: bool = True, **facts: object) -> pd.DataFrame:
    """The outcome of one line against a demand."""
    actuals = pd.DataFrame(
        [("t", "main", "bread", demand, demand, is_censored, is_known)],
        columns=["tenant_id", "location_id", "product_id", "sold_units", "demand_units", "is_censored", "is_known"],
    )
    return judge(pd.DataFrame([{**LINE, **facts}]), actuals)


def outcome(demand: float, **facts: Any) -> pd.Series:
    rows = judged(demand, **facts)
    assert tuple(rows.columns) == OUTCOME_COLUMNS
    assert len(rows) == 1
    return rows.iloc[0]


class TestTheWorkedExample:
    """Cu 1.2, Co 0.5, batches of 24, 120 made against a demand of 101."""

    def test_cost_best_feasible_and_regret(self) -> None:
        assert mismatch_cost(120, 101, 1.2, 0.5) == pytest.approx(9.5)
        best = hindsight_quantity(101, 1.2, 0.5, batch_size_units=24)
        assert best == 96
        assert mismatch_cost(best, 101, 1.2, 0.5) == pytest.approx(6.0)

    def test_a_line_is_judged_by_the_same_numbers(self) -> None:
        row = outcome(101)
        assert (row["underage_cost"], row["overage_cost"]) == (pytest.approx(1.2), 0.5)
        assert (row["cost"], row["hindsight_units"]) == (pytest.approx(9.5), 96)
        assert (row["hindsight_cost"], row["regret"]) == (pytest.approx(6.0), pytest.approx(3.5))
        assert (row["waste_units"], row["lost_units"]) == (19, 0)
        # The best quantity for the forecast would have cost 0.5 (113.18 - 101), a dime more than whole batches allow.
        assert row["regret_forecast"] == pytest.approx(0.5 * 12.176471 - 6.0)
        assert row["regret_rounding"] == pytest.approx(9.5 - 0.5 * 12.176471)
        assert row["regret_capacity"] == row["regret_override"] == 0


def test_each_decision_answers_for_what_it_changed() -> None:
    row = outcome(101, unlimited_batches=5, recommended_batches=3, quantity_units=48)
    assert row["cost"] == pytest.approx(1.2 * 53)
    assert row["regret_capacity"] == pytest.approx(1.2 * (101 - 72) - 9.5)
    assert row["regret_override"] == pytest.approx(1.2 * (72 - 48))
    better = outcome(101, quantity_units=96)
    assert better["regret"] == pytest.approx(0)
    assert better["regret_override"] == pytest.approx(6.0 - 9.5), "who knew better is seen to have saved money"


def test_plans_from_before_the_decisions_were_stored_have_only_forecast_and_rounding() -> None:
    rows = pd.DataFrame([LINE]).drop(columns=["unlimited_batches", "recommended_batches"])
    actuals = frame_of(
        ["tenant_id", "location_id", "product_id", "sold_units", "demand_units", "is_censored", "is_known"],
        [("t", "main", "bread", 101.0, 101.0, False, True)],
    )
    row = judge(rows, actuals).iloc[0]
    assert row["regret"] == pytest.approx(row["regret_forecast"] + row["regret_rounding"])


def test_what_a_person_made_counts_as_feasible_whatever_the_rules_say() -> None:
    row = outcome(72, quantity_units=72, batch_multiple=2, batch_min=4)
    assert (row["hindsight_units"], row["regret"]) == (72, 0)


def test_opening_stock_cannot_be_unmade() -> None:
    row = outcome(20, opening_usable_units=50.0, quantity_units=24.0, optimal_units=30.0)
    assert (row["hindsight_units"], row["hindsight_cost"]) == (50, pytest.approx(15.0))
    assert row["regret"] == pytest.approx(12.0)
    assert row["regret_forecast"] == 0, "30 wanted of 50 at hand is 50"


def test_orders_are_asked_for_on_top_of_the_counter() -> None:
    assert outcome(81, orders_units=20.0)["demand_units"] == 101


def test_closed_places_and_days_that_nobody_reported_are_not_judged() -> None:
    assert judged(101, limited_by="closed").empty
    assert judged(101, is_known=False).empty
    nothing = judge(pd.DataFrame([LINE]), demand_of_day(outlets(), NO_PROFILES, MONDAY))
    assert tuple(nothing.columns) == OUTCOME_COLUMNS
    assert nothing.empty


def test_a_day_on_which_it_is_not_made_has_nothing_to_regret() -> None:
    row = outcome(101, limited_by="not_made_today", quantity_units=0.0, unlimited_batches=0, recommended_batches=0)
    assert row["cost"] == pytest.approx(1.2 * 101)
    assert (row["regret"], row["regret_forecast"], row["regret_rounding"]) == (0, 0, 0)


def test_without_costs_the_default_ratio_stands_in_shares() -> None:
    row = outcome(101, unit_price=np.nan, is_default_critical_ratio=True, critical_ratio=0.7)
    assert (row["underage_cost"], row["overage_cost"]) == (pytest.approx(0.7), pytest.approx(0.3))
    assert row["is_default_critical_ratio"]
    assert row["cost"] == pytest.approx(0.3 * 19)


class TestWhatIsLeftOfAProductThatKeeps:
    def test_costs_nothing_where_all_of_it_is_expected_to_be_sold_later(self) -> None:
        row = outcome(101, shelf_life_days=3.0, expected_waste_units=0.0, expected_sales_units=100.0)
        assert (row["cost"], row["waste_units"], row["regret"]) == (0, 0, 0)
        nothing_left = outcome(101, shelf_life_days=np.nan, expected_waste_units=0.0, expected_sales_units=120.0)
        assert nothing_left["waste_units"] == 0

    def test_counts_by_the_share_that_is_expected_to_outdate(self) -> None:
        row = outcome(101, shelf_life_days=2.0, expected_waste_units=5.0, expected_sales_units=100.0)
        assert row["waste_units"] == pytest.approx(19 / 4)
        assert row["cost"] == pytest.approx(0.5 * 19 / 4)
        assert row["overage_cost"] == 0.5

    def test_what_was_missing_was_missing_all_the_same(self) -> None:
        row = outcome(140, shelf_life_days=3.0, expected_waste_units=0.0, expected_sales_units=100.0)
        assert (row["cost"], row["lost_units"]) == (pytest.approx(24.0), 20)


money = st.floats(0.01, 50)
units = st.floats(0, 500)
batches = st.integers(0, 20)


@given(
    demand=units, optimal=units, opening=units, price=money, cost=money, size=st.sampled_from([1.0, 7.5, 24.0]),
    unlimited=batches, recommended=batches, made=batches, fewest=st.integers(0, 5), multiple=st.integers(1, 4),
    most=st.one_of(st.just(np.nan), st.floats(0, 20)), waste=units, sales=units, life=st.sampled_from([1.0, 2.0, np.nan]),
)  # fmt: skip
def test_regret_is_the_sum_of_its_parts_and_never_negative(
    demand: float, optimal: float, opening: float, price: float, cost: float, size: float, unlimited: int,
    recommended: int, made: int, fewest: int, multiple: int, most: float, waste: float, sales: float, life: float,
) -> None:  # fmt: skip
    row = outcome(
        demand, optimal_units=optimal, opening_usable_units=opening, unit_price=cost + price, variable_cost=cost,
        batch_size_units=size, unlimited_batches=unlimited, recommended_batches=recommended, quantity_units=made * size,
        batch_min=fewest, batch_multiple=multiple, batch_max_per_day=most, expected_waste_units=waste,
        expected_sales_units=sales, shelf_life_days=life,
    )  # fmt: skip
    assert row["regret"] == row["cost"] - row["hindsight_cost"]
    assert sum(row[part] for part in PARTS) == pytest.approx(row["regret"], abs=1e-9 * max(1.0, row["cost"]))
    assert row["regret"] >= 0
    assert row["cost"] == pytest.approx(
        row["underage_cost"] * row["lost_units"] + row["overage_cost"] * row["waste_units"]
    )


@given(
    demand=units, underage=money, overage=st.one_of(st.just(0.0), money), size=st.sampled_from([0.5, 3.0, 24.0]),
    opening=units, fewest=st.integers(0, 5), multiple=st.integers(1, 4), most=st.integers(0, 30),
)  # fmt: skip
def test_hindsight_is_the_best_of_all_feasible_numbers_of_batches(
    demand: float, underage: float, overage: float, size: float, opening: float, fewest: int, multiple: int, most: int
) -> None:
    feasible = [k for k in range(0, most + 1, multiple) if k == 0 or k >= min(fewest, most - most % multiple)]
    costs = [mismatch_cost(opening + k * size, demand, underage, overage) for k in feasible]
    best = hindsight_quantity(
        demand, underage, overage, batch_size_units=size, batch_min=fewest, batch_multiple=multiple, batch_max=most,
        opening_units=opening,
    )  # fmt: skip
    assert mismatch_cost(best, demand, underage, overage) == pytest.approx(min(costs), abs=1e-5)
    assert any(best == pytest.approx(opening + k * size) for k in feasible)


def test_of_equally_good_quantities_hindsight_makes_the_smaller() -> None:
    assert hindsight_quantity(12, 1.0, 1.0, batch_size_units=24) == 0
    assert hindsight_quantity([5, 50], 1.0, 0.0, batch_size_units=10).tolist() == [10, 50]


def test_lines_are_judged_alike_alone_and_in_a_batch() -> None:
    lines = pd.DataFrame(
        [{**LINE, "tenant_id": t, "product_id": p, "optimal_units": 90.0 + n} for n, (t, p) in enumerate(
            [("a", "bread"), ("a", "cake"), ("b", "bread")])]
    )  # fmt: skip
    actuals = lines[["tenant_id", "location_id", "product_id"]].assign(
        sold_units=[80.0, 90.0, 130.0],
        demand_units=[80.0, 90.0, 130.0],
        is_censored=[False, True, False],
        is_known=True,
    )
    together = judge(lines, actuals.iloc[::-1].reset_index(drop=True))
    alone = judge(lines[lines["tenant_id"] == "b"].reset_index(drop=True), actuals[actuals["tenant_id"] == "b"])
    pd.testing.assert_frame_equal(together[together["tenant_id"] == "b"].reset_index(drop=True), alone)
    assert together["is_censored"].tolist() == [False, True, False]


# ---------------------------------------------------------------- demand of the day


CURVE = tuple(np.interp(QUANTILE_LEVELS, (0, 1), (50, 150)))


def outlets(*rows: dict[str, object]) -> pd.DataFrame:
    """Outlets served by main; uniform demand from 50 to 150 was forecast for each."""
    usual = {
        "tenant_id": "t", "location_id": "main", "product_id": "bread", "made_at_location_id": "main", "is_open": True,
        "has_reported": True, "sold_units": 0.0, "sold_out_minute": NOT_SOLD_OUT, "quantile_units": np.array(CURVE),
    }  # fmt: skip
    return pd.DataFrame([{**usual, **row} for row in rows], columns=list(usual))


def profile(*shares: tuple[int, float]) -> pd.DataFrame:
    return frame_of(
        ["tenant_id", "location_id", "product_id", "weekday", "hour", "share"],
        [("t", "kiosk", "bread", 0, hour, share) for hour, share in shares],
    )


def test_demand_is_summed_over_the_outlets_that_a_place_serves() -> None:
    day = demand_of_day(
        outlets(
            {"sold_units": 40.0},
            {"location_id": "kiosk", "sold_units": 25.0},
            {"location_id": "far", "made_at_location_id": "far", "sold_units": 7.0},
        ),
        NO_PROFILES,
        MONDAY,
    )
    assert day["location_id"].tolist() == ["far", "main"]
    assert day["demand_units"].tolist() == [7, 65]
    assert not day["is_censored"].any()
    assert day["is_known"].all()


def test_a_sold_out_outlet_is_estimated_by_the_time_and_its_hourly_profile() -> None:
    day = demand_of_day(
        outlets({"sold_units": 10.0}, {"location_id": "kiosk", "sold_units": 30.0, "sold_out_minute": 12 * 60}),
        profile((10, 0.3), (11, 0.3), (12, 0.4)),
        MONDAY,
    )
    assert day["demand_units"].item() == pytest.approx(10 + 30 / 0.6)
    assert (day["sold_units"].item(), day["is_censored"].item()) == (40, True)


def test_without_a_profile_it_is_what_the_forecast_expects_above_the_sales() -> None:
    sold_out = {"sold_units": 120.0, "sold_out_minute": 15 * 60}
    day = demand_of_day(outlets(sold_out), NO_PROFILES, MONDAY)
    assert day["demand_units"].item() == pytest.approx(135, abs=1e-6), "uniform from 120 to 150"
    above_all = demand_of_day(outlets({**sold_out, "sold_units": 500.0}), NO_PROFILES, MONDAY)
    assert above_all["demand_units"].item() == 500


def test_an_outlet_that_was_open_and_silent_leaves_the_day_unknown_and_a_closed_one_does_not() -> None:
    silent = {"location_id": "kiosk", "has_reported": False}
    assert not demand_of_day(outlets({"sold_units": 40.0}, silent), NO_PROFILES, MONDAY)["is_known"].item()
    closed = demand_of_day(outlets({"sold_units": 40.0}, {**silent, "is_open": False}), NO_PROFILES, MONDAY)
    assert (closed["is_known"].item(), closed["demand_units"].item()) == (True, 40)


@pytest.mark.parametrize(
    ("demand", "least", "expected"),
    [
        (DiscreteDemand(np.array([2.0, 4.0, 6.0]), np.array([0.3, 0.4, 0.3])), 4.0, (0.4 * 4 + 0.3 * 6) / 0.7),
        (PoissonDemand(4.0), 0.0, 4.0),
        (NormalDemand(100.0, 10.0), 100.0, 100 + 10 * np.sqrt(2 / np.pi)),
        (QuantileDemand.from_quantiles((0.25, 0.75), (0.0, 0.0)), 0.0, 0.0),
    ],
)
def test_demand_of_at_least_the_sales_is_the_conditional_mean(demand: Any, least: float, expected: float) -> None:
    assert expected_at_least(demand, least) == pytest.approx(expected, rel=1e-5)


@given(st.lists(units, min_size=9, max_size=9), units)
def test_what_was_asked_for_is_never_below_what_was_sold(quantiles: list[float], sold: float) -> None:
    demand = QuantileDemand.from_quantiles(QUANTILE_LEVELS, np.array(quantiles))
    estimate = float(expected_at_least(demand, sold))
    assert estimate >= sold
    assert estimate <= max(sold, float(demand.highest)) * (1 + 1e-6) + 1e-6


# ---------------------------------------------------------------- many days


def season(days: int, met: int, **facts: object) -> pd.DataFrame:
    """Days of which the first `met` had no more demand than supply, at a critical ratio of 0.70588."""
    rows = [judged(100.0 if n < met else 140.0, **facts) for n in range(days)]  # type: ignore[arg-type]
    return pd.concat(rows, ignore_index=True)


def test_products_are_told_worst_first_with_what_each_decision_cost() -> None:
    bread, cake = season(3, 2), season(2, 2, product_id="bread").assign(product_id="cake")
    made = summarise(pd.concat([cake, bread, bread.assign(is_default_critical_ratio=True)], ignore_index=True))
    assert tuple(made.columns) == SUMMARY_COLUMNS
    assert made["product_id"].tolist() == ["bread", "cake", "bread"]
    assert made["is_default_critical_ratio"].tolist() == [False, False, True]
    row = made.iloc[0]
    assert row["cost"] == pytest.approx(bread["cost"].sum())
    assert sum(row[part] for part in PARTS) == pytest.approx(row["regret"])
    assert row["service_pct"] == pytest.approx(200 / 3)
    assert row["critical_ratio_pct"] == pytest.approx(70.588235)
    assert summarise(bread.iloc[:0]).empty


@pytest.mark.parametrize(
    ("days", "met", "said"),
    [
        (13, 0, "too_few_days"),
        (14, 0, "met_too_rarely"),
        (30, 21, "as_costs_ask"),
        (30, 30, "met_too_often"),
        (14, 14, "met_too_often"),
        (14, 13, "as_costs_ask"),
    ],
)
def test_costs_are_audited_by_how_often_demand_was_met(days: int, met: int, said: str) -> None:
    assert summarise(season(days, met))["calibration"].item() == said


def test_the_hindsight_of_an_unknown_demand_is_unknown_and_batches_of_nothing_are_refused() -> None:
    np.testing.assert_array_equal(hindsight_quantity([np.nan, 10], 1, 1, batch_size_units=10), [np.nan, 10])
    with pytest.raises(ValueError, match="batch_size_units"):
        hindsight_quantity(10, 1, 1, batch_size_units=0)
    with pytest.raises(ValueError, match="batch_multiple"):
        hindsight_quantity(10, 1, 1, batch_multiple=0)
