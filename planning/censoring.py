"""What would have sold on a day on which a product sold out: sales are then only the least that was demanded.

What belongs here: the estimate, from the time of the sell-out and an hourly profile, or from the days before. What does
not: which days count (`planning.demand`) and what a coming day will bring (`planning.forecasting`).

A day's estimate uses its own sales and time, the profiles, and days before it, never a later one: what is estimated for a
day does not change when more days are known, so that a backtest may stand on it.
"""

import numpy as np
import pandas as pd
from scipy.special import betainc, betaln

from planning.calendar import SERIES

NOT_SOLD_OUT = -1
"""The minute of a day on which a product did not sell out, as far as known."""

MIN_SHARE_SOLD = 0.2
"""The least share of a day by which sales are divided: demand is taken for five times the sales at most. What sells out
sooner tells little of the rest of the day, and an error of the profile would be multiplied."""

MIN_FREE_DAYS = 7
"""Days without a sell-out that must be among the last RECENT_DAYS before demand is estimated from them. Of a product
that sells out every day nothing is known but the least that was demanded."""

RECENT_DAYS = 56
"""Days before a day among which MIN_FREE_DAYS are looked for."""

WEEKDAY_WEIGHT = 0.2
"""Weight of a new day in its weekday's mean: about the last nine of them."""

LEVEL_WEIGHT = 0.1
"""Weight of a new day in the recent level: about the last three weeks."""

SPREAD_WEIGHT = 0.05
"""Weight of a new day in the dispersion: about the last six weeks."""

LEVEL_RANGE = (0.5, 2.0)
"""How far the recent level may take a weekday's mean away from itself."""

DISPERSION_RANGE = (1.02, 50.0)
"""Variance per unit of mean: a little above Poisson, for which the negative binomial is a limit, to erratic."""

LEAST_CHANCE = 1e-12
"""Where demand above the sales is less likely than this, only the sales themselves are known."""


def estimate_demand(
    keys: pd.DataFrame,
    weekday: np.ndarray,
    sales_units: np.ndarray,
    sold_out_minute: np.ndarray,
    profiles: pd.DataFrame,
) -> tuple[np.ndarray, np.ndarray]:
    """Demand (n, days), and whether it is estimated (n, days) bool.

    keys: tenant_id, location_id, product_id, unique. weekday: (days,), 0 is Monday. sales_units: (n, days), NaN where a
    day does not count. sold_out_minute: (n, days) minutes after midnight, NOT_SOLD_OUT elsewhere. profiles: tenant_id,
    location_id, product_id, weekday, hour, share; shares are taken relative to the sum of their day.

    Where a profile of the weekday is known, demand is sales divided by the share of the day that had passed, interpolated
    within the hour and at least MIN_SHARE_SOLD (Fisher, Raman & McClelland 2000, Harvard Business Review 78(4)). Elsewhere,
    and where nothing at all was sold, it is the mean of a negative binomial distribution above the sales, E[D | D >= sales],
    the distribution of retail demand in Agrawal & Smith (1996, Naval Research Logistics 43(6)); its mean is the weekday's
    times the recent level. Estimates enter the means in the place of the sales, an EM that sees each day once (Cappé &
    Moulines 2009, JRSS B 71(3)): from days without a sell-out alone, which are the quiet ones, the mean would be too low.

    A sold-out day stays at its sales, and is not marked, while fewer than MIN_FREE_DAYS of the last RECENT_DAYS had no
    sell-out.
    """
    is_sold_out = (sold_out_minute != NOT_SOLD_OUT) & ~np.isnan(sales_units)
    share = _share_sold(keys, weekday, sold_out_minute, is_sold_out & (sales_units > 0), profiles)
    by_time = ~np.isnan(share)
    demand = np.where(by_time, sales_units / np.maximum(np.nan_to_num(share, nan=1.0), MIN_SHARE_SOLD), sales_units)
    is_estimated = by_time.copy()
    censored = is_sold_out & ~by_time
    rows = np.flatnonzero(censored.any(axis=1))
    if rows.size:
        demand[rows], found = _from_days_before(weekday, demand[rows], censored[rows])
        is_estimated[rows] |= found
    return demand, is_estimated


def mean_above(least: np.ndarray, mean: np.ndarray, dispersion: np.ndarray) -> np.ndarray:
    """E[D | D >= least] of a negative binomial demand; all shapes broadcast.

    mean: above 0; dispersion: variance / mean, above 1. Where the condition has no chance, `least` itself. Between whole
    numbers the chances are interpolated by the incomplete beta function, so that 7.5 units are allowed.
    """
    size = mean / (dispersion - 1)
    odds = 1 - 1 / dispersion  # the chance of another unit
    above = np.maximum(least, 1.0)  # below one unit the condition says nothing
    chance = betainc(above, size, odds)
    is_possible = chance > LEAST_CHANCE
    # E[D; D >= s] = mean P(D' >= s - 1) with D' of size + 1, and P(D' >= s - 1) = P(D >= s) + the term below.
    before = np.maximum(above - 1, 1e-9)
    term = np.exp(before * np.log(odds) - size * np.log(dispersion) - betaln(before, size)) * (1 / size + 1 / before)
    raised = mean * (1 + term / np.where(is_possible, chance, 1.0))
    return np.where(least <= 0, mean, np.where(is_possible, np.maximum(raised, least), least))


def _share_sold(
    keys: pd.DataFrame, weekday: np.ndarray, minute: np.ndarray, is_wanted: np.ndarray, profiles: pd.DataFrame
) -> np.ndarray:
    """The share of the day's demand that had come by a minute, (n, days); NaN where not wanted or no profile is known."""
    share = np.full(minute.shape, np.nan)
    if profiles.empty:
        return share
    index = pd.MultiIndex.from_frame(profiles[SERIES].drop_duplicates().astype(object))
    known = index.get_indexer(pd.MultiIndex.from_frame(profiles[SERIES].astype(object)))
    by_hour = np.zeros((len(index), 7, 24))
    by_hour[known, profiles["weekday"].to_numpy(dtype=int), profiles["hour"].to_numpy(dtype=int)] = profiles["share"]
    passed = np.concatenate([np.zeros((len(index), 7, 1)), np.cumsum(by_hour, axis=2)], axis=2)
    total = passed[:, :, -1:]
    passed = np.divide(passed, total, out=np.full_like(passed, np.nan), where=total > 0)
    profile = index.get_indexer(pd.MultiIndex.from_frame(keys[SERIES].astype(object)))
    rows, columns = np.nonzero(is_wanted & (profile >= 0)[:, None])
    hour, past = np.divmod(np.minimum(minute[rows, columns].astype(int), 24 * 60 - 1), 60)
    of_day = passed[profile[rows], weekday[columns]]
    at = np.arange(len(rows))
    share[rows, columns] = of_day[at, hour] + (of_day[at, hour + 1] - of_day[at, hour]) * past / 60
    return share


class _Means:
    """What is known of n series before a day: weekday means, how the recent days lay beside them, and their dispersion.

    A weight falls from 1, when a series is first seen, to its lasting value, so that the first days count alike.
    """

    def __init__(self, n: int) -> None:
        self._weekday_units, self._weekday_days = np.zeros((7, n)), np.zeros((7, n))
        self._units, self._days = np.zeros(n), np.zeros(n)
        self._recent_units, self._recent_base = np.zeros(n), np.zeros(n)
        self._spread, self._free_days = np.zeros(n), np.zeros(n)

    def expected(self, weekday: int) -> np.ndarray:
        """The mean of a weekday at the recent level, (n,); the mean of all days while the weekday has none."""
        level = np.divide(
            self._recent_units, self._recent_base, out=np.ones_like(self._units), where=self._recent_base > 0
        )
        return self._base(weekday) * np.clip(level, *LEVEL_RANGE)

    def dispersion(self) -> np.ndarray:
        """Variance per unit of mean, (n,)."""
        return np.clip(self._spread, *DISPERSION_RANGE)

    def see(self, weekday: int, units: np.ndarray, is_seen: np.ndarray, is_free: np.ndarray) -> None:
        """Take in a day: its demand where `is_seen`, of which that of `is_free` is no estimate."""
        base, expected = self._base(weekday), self.expected(weekday)
        self._days += is_seen
        self._weekday_days[weekday] += is_seen
        self._free_days += is_free
        of_level = is_seen * np.maximum(LEVEL_WEIGHT, 1 / np.maximum(self._days, 1))
        of_weekday = is_seen * np.maximum(WEEKDAY_WEIGHT, 1 / np.maximum(self._weekday_days[weekday], 1))
        self._units += of_level * (units - self._units)
        self._weekday_units[weekday] += of_weekday * (units - self._weekday_units[weekday])
        of_level *= base > 0  # the first day has nothing to be compared with
        self._recent_units += of_level * (units - self._recent_units)
        self._recent_base += of_level * (base - self._recent_base)
        # From known demand only: what estimates add to the spread would raise the next estimates. About the mean of all
        # days, the quiet half that is left by a shelf near the mean is spread as widely as the whole.
        of_spread = is_free * (expected > 0) * np.maximum(SPREAD_WEIGHT, 1 / np.maximum(self._free_days, 1))
        self._spread += of_spread * ((units - expected) ** 2 / np.where(expected > 0, expected, 1.0) - self._spread)

    def _base(self, weekday: int) -> np.ndarray:
        return np.where(self._weekday_days[weekday] > 0, self._weekday_units[weekday], self._units)


def _from_days_before(weekday: np.ndarray, demand: np.ndarray, censored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Demand (n, days) with the censored days replaced where enough is known, and where that is."""
    demand, is_estimated = np.ascontiguousarray(demand.T), np.zeros(demand.shape[::-1], dtype=bool)
    censored = np.ascontiguousarray(censored.T)
    is_counted = ~np.isnan(demand)
    is_free = is_counted & ~censored
    is_enough = _days_before(is_free, RECENT_DAYS) >= MIN_FREE_DAYS
    means = _Means(demand.shape[1])
    for day, of_week in enumerate(weekday):
        rows = np.flatnonzero(censored[day] & is_enough[day])
        if rows.size:
            expected = means.expected(of_week)[rows]
            rows, expected = rows[expected > 0], expected[expected > 0]
            demand[day, rows] = mean_above(demand[day, rows], expected, means.dispersion()[rows])
            is_estimated[day, rows] = True
        is_seen = is_free[day] | is_estimated[day]
        means.see(of_week, np.where(is_seen, demand[day], 0.0), is_seen, is_free[day])
    return np.ascontiguousarray(demand.T), np.ascontiguousarray(is_estimated.T)


def _days_before(is_marked: np.ndarray, reach: int) -> np.ndarray:
    """How many of the `reach` days before each day are marked; days run along the first axis."""
    total = np.concatenate(
        [np.zeros((1, is_marked.shape[1]), dtype=np.int32), np.cumsum(is_marked, axis=0, dtype=np.int32)]
    )
    days = np.arange(len(is_marked))
    return total[days] - total[np.maximum(days - reach, 0)]
