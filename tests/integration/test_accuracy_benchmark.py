"""The exchange of the accuracy benchmark with forecasts of other programs: the right series, origin and day come back."""

import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.accuracy import is_common, rival_forecasts, stacked, through
from benchmarks.rivals import without_gaps
from daybreak.cli.backtest import Inputs
from planning.backtest import rolling_backtest
from planning.calendar import SERIES, build_calendar
from planning.features import MAX_HORIZON_DAYS
from planning.frames import Panel
from planning.scoring import score

FIRST, DAYS, NAN = date(2025, 1, 6), 60, float("nan")


def bakery(tenant_id: str = "a") -> Inputs:
    """Three series of 60 days; the shop is shut on Sundays and one Wednesday, and the last series begins late."""
    demand = np.random.default_rng(3).poisson(20, (3, DAYS)).astype(float)
    demand[:, 6::7] = NAN
    demand[:, 44] = NAN
    demand[2, :30] = NAN
    keys = pd.DataFrame([(tenant_id, "main", f"p{n}") for n in range(3)], columns=SERIES)
    none = pd.DataFrame(columns=[*SERIES, "business_date", "kind", "name"])
    hours = pd.DataFrame({"tenant_id": tenant_id, "location_id": "main", "weekday": range(6)})
    history = Panel(keys, {"demand_units": demand, "is_sold_out": np.zeros((3, DAYS), dtype=bool)}, FIRST)
    return Inputs(history, build_calendar(keys, FIRST, DAYS + MAX_HORIZON_DAYS, hours, none))


@pytest.mark.parametrize("every", [1, 5])
def test_a_rival_that_repeats_the_last_week_is_seasonal_naive_row_by_row(every: int) -> None:
    inputs = bakery()
    rows = rolling_backtest(inputs.history, inputs.calendar, days=14)
    units, cpu_s, failures = rival_forecasts(Path(sys.executable), "last_week", inputs, rows, every)
    is_asked = is_common(rows, every)
    assert 0 < is_asked.sum() <= len(rows.series)
    np.testing.assert_allclose(units[is_asked], rows.mean_units["seasonal_naive"][is_asked])
    assert np.isnan(units[~is_asked]).all()
    assert cpu_s >= 0
    assert failures == []


def test_gaps_are_filled_with_the_last_same_weekday_else_with_the_last_day() -> None:
    demand = np.array([[NAN, 1, 2, 3, NAN, 5, 6, NAN, 8, 9, NAN, NAN]])
    np.testing.assert_array_equal(without_gaps(demand), [[NAN, 1, 2, 3, 3, 5, 6, 6, 8, 9, 3, 3]])


def test_an_earlier_fold_is_scored_as_if_the_later_days_had_not_been() -> None:
    whole = bakery()
    earlier = through(whole, 10)
    known = {name: matrix[:, : DAYS - 10] for name, matrix in whole.history.values.items()}
    assert earlier.calendar.days == DAYS - 10 + MAX_HORIZON_DAYS
    again = replace(whole, history=Panel(whole.history.keys, known, FIRST))
    rows, expected = (rolling_backtest(one.history, one.calendar, days=14) for one in (earlier, again))
    assert score(rows) == score(expected)
    assert rows.target.max() == np.datetime64("2025-02-24")


def test_tenants_are_stacked_into_rows_that_keep_their_series() -> None:
    parts = [rolling_backtest(one.history, one.calendar, days=14) for one in (bakery("a"), bakery("b"))]
    both = stacked(parts)
    tenant = both.keys["tenant_id"].to_numpy()[both.series]
    assert tenant.tolist() == ["a"] * len(parts[0].series) + ["b"] * len(parts[1].series)
    assert score(both, tenant == "b")["models"] == score(parts[1])["models"]
