"""Made-up demand with a known shape, and plain calendars, for tests of the forecast engine."""

from datetime import date, timedelta

import numpy as np
import pandas as pd

from planning.calendar import SERIES, Calendar, build_calendar
from planning.frames import Panel

FIRST_DAY = date(2024, 1, 1)  # a Monday
WEEK = np.array([0.7, 0.8, 0.9, 1.0, 1.2, 1.5, 0.9])


def calendar_of(keys: pd.DataFrame, days: int, events: list[tuple] | None = None) -> Calendar:
    """Open every day; events are rows of location, product, day, kind, name of tenant `a`."""
    opening = pd.DataFrame(columns=["tenant_id", "location_id", "weekday"])
    rows = pd.DataFrame(
        [("a", *event) for event in events or []], columns=[*SERIES, "business_date", "kind", "name"], dtype=object
    )
    return build_calendar(keys, FIRST_DAY, days, opening, rows)


def seasonal_demand(series: int, days: int, seed: int = 1) -> np.ndarray:
    """Counted demand with a week, a yearly wave that all share, and levels from 3 to 60 units a day."""
    rng = np.random.default_rng(seed)
    level = np.geomspace(3, 60, series)[:, None]
    season = 1 + 0.5 * np.sin(2 * np.pi * np.arange(days) / 365.25)
    return rng.poisson(level * season * WEEK[np.arange(days) % 7]).astype(float)


def tenant(demand: np.ndarray, events: list[tuple] | None = None, tenant_id: str = "a") -> tuple[Panel, Calendar]:
    """The history of one tenant's products at one location, and its calendar three weeks beyond."""
    keys = pd.DataFrame([(tenant_id, "shop", f"p{n:02d}") for n in range(len(demand))], columns=SERIES)
    values = {"demand_units": demand, "is_sold_out": np.zeros(demand.shape, dtype=bool)}
    return Panel(keys, values, FIRST_DAY), calendar_of(keys, demand.shape[1] + 21, events)


def day(column: int) -> date:
    """The date of a column."""
    return FIRST_DAY + timedelta(days=column)
