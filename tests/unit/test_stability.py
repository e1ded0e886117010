"""Nervousness of plans: published examples, and what the measures must be for any plans."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planning.stability import (
    STABILITY_COLUMNS,
    changed_quantity,
    compare_revisions,
    instability,
    instability_per_order,
    weighted_change,
)

PREVIOUS, CURRENT = [100, 100, 0, 80], [120, 100, 40, 40]
plans = st.lists(st.floats(0, 1000), min_size=4, max_size=4)


def test_the_worked_example_to_the_digits_given() -> None:
    assert changed_quantity(PREVIOUS, CURRENT) == 100
    assert instability(PREVIOUS, CURRENT) == pytest.approx(0.357143, abs=5e-7)
    assert weighted_change(PREVIOUS, CURRENT, 0.5) == pytest.approx(17.5)


def test_many_plans_are_measured_at_once_each_by_itself() -> None:
    previous, current = (
        np.array([PREVIOUS, [0, 0, 0, 0], [5, 5, 0, 0]]),
        np.array([CURRENT, [1, 0, 0, 0], [5, 5, 0, 0]]),
    )
    np.testing.assert_allclose(instability(previous, current), [100 / 280, np.nan, 0])
    np.testing.assert_allclose(weighted_change(previous, current, 0.25), [0.75 * (20 + 40 / 16 + 40 / 64), 0.75, 0])


def test_plans_of_other_periods_and_weights_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="same periods"):
        instability([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="alpha"):
        weighted_change([1], [2], 1.5)
    with pytest.raises(ValueError, match="orders"):
        instability_per_order([[1], [2]], [0, 0], 0)


def test_a_rolling_plan_is_compared_only_where_both_plans_hold_the_period() -> None:
    rolling = [[10, 0, 20], [5, 20, 7], [25, 7, 9]]
    # Periods 1, 2 of the second against the first: |5 - 0| + |20 - 20|; periods 2, 3: |25 - 20| + |7 - 7|.
    assert instability_per_order(rolling, [0, 1, 2], orders=4) == pytest.approx((5 + 5) / 4)
    assert instability_per_order([[1, 2], [3, 4]], [0, 2], orders=1) == 0


@given(plans, plans)
def test_a_plan_is_stable_only_if_nothing_changed(previous: list[float], current: list[float]) -> None:
    assert changed_quantity(previous, previous) == 0
    assert (changed_quantity(previous, current) == 0) == (previous == current)


@given(plans, plans, st.floats(0, 1))
def test_the_weighted_change_is_never_above_the_change(
    previous: list[float], current: list[float], alpha: float
) -> None:
    assert 0 <= weighted_change(previous, current, alpha) <= changed_quantity(previous, current) * (1 + 1e-12)


@given(plans, plans)
def test_changes_do_not_depend_on_which_plan_came_first(previous: list[float], current: list[float]) -> None:
    assert weighted_change(previous, current) == weighted_change(current, previous)


def revisions(*rows: tuple[str, str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["tenant_id", "plan_id", "previous_plan_id"])


def announced(*rows: tuple[str, str, list[float]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["plan_id", "line", "quantities"])


def test_lines_that_came_went_and_changed_are_counted_per_revision() -> None:
    made = compare_revisions(
        revisions(("a", "a2", "a1"), ("b", "b2", "b1")),
        announced(
            ("a1", "bread", PREVIOUS), ("a1", "cake", [10, 0, 0, 0]), ("a1", "roll", [3]), ("b1", "bread", [2, 2])
        ),
        announced(("a2", "bread", CURRENT), ("a2", "pie", [0, 8]), ("a2", "roll", [3]), ("b2", "bread", [2, 2])),
    )
    assert tuple(made.columns) == STABILITY_COLUMNS
    first, second = made.to_dict("records")
    assert (first["previous_quantity"], first["changed_quantity"]) == (293, 118)
    assert first["instability"] == pytest.approx(118 / 293)
    assert first["weighted_change"] == pytest.approx(17.5 + 0.5 * 10 + 0.25 * 8)
    assert first["lines_changed"] == 3
    assert (second["changed_quantity"], second["instability"], second["lines_changed"]) == (0, 0, 0)


def test_where_nothing_had_been_planned_there_is_no_share() -> None:
    made = compare_revisions(revisions(("a", "a2", "a1")), announced(), announced(("a2", "bread", [5])))
    assert np.isnan(made["instability"].item())
    assert (made["changed_quantity"].item(), made["lines_changed"].item()) == (5, 1)
    empty = compare_revisions(revisions(("a", "a2", "a1")), announced(), announced())
    assert (empty["changed_quantity"].item(), empty["weighted_change"].item()) == (0, 0)
    assert compare_revisions(revisions(), announced(), announced()).empty


@given(st.permutations(range(4)))
def test_the_order_of_lines_changes_nothing(order: list[int]) -> None:
    before = announced(*[("a1", str(n), [float(n), 1.0]) for n in range(4)])
    after = announced(*[("a2", str(n), [1.0, float(n)]) for n in range(4)])
    pairs = revisions(("a", "a2", "a1"))
    shuffled = compare_revisions(pairs, before.iloc[order], after.iloc[order[::-1]])
    pd.testing.assert_frame_equal(shuffled, compare_revisions(pairs, before, after))
