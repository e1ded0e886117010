"""The simple rules that every model must beat: seasonal naive, weekday means, and a product's own mean.

What belongs here: what a rule says after an origin. What does not: comparing rules and choosing one (`planning.forecasting`).

Every rule repeats by the week, so the code never asks which weekday a column is: histories end with the last history day,
and the seven columns before an origin are the slots of the seven days after it.
"""

import numpy as np

SEASONAL_NAIVE = "seasonal_naive"
WEEKDAY_MEAN = "weekday_mean_8w"
WEEKDAY_MEAN_X_LEVEL = "weekday_mean_x_level"
BOOSTING = "boosting"
"""What the rules compete with: the name of a tenant's model among the candidates and in forecast rows."""

CANDIDATES = (SEASONAL_NAIVE, WEEKDAY_MEAN, WEEKDAY_MEAN_X_LEVEL)

PROFILE_DAYS = 56
"""Days that a weekday mean looks back: eight of each weekday."""

LEVEL_HALF_LIFE_DAYS = 3.0
"""Weight of a day in the recent level, halved every so many days. A short memory is for demand that moves: on a seasonal
shop 3 days beat 7 in summer (WAPE 0.335, 0.382) and lost in spring (0.398, 0.384), where the plain weekday mean won."""


def candidate_slots(demand: np.ndarray, last_seen: np.ndarray, end: int) -> np.ndarray:
    """What each candidate says after column end - 1: (candidates, n, 7), slot h - 1 for the day h (or h + 7) days on.

    demand, last_seen: (n, days), end at least 56. NaN where a candidate has no open day to go by. The recent level is
    demand over what the weekday profile would have said of the same days, both weighted by a half-life of 3 days.
    """
    recent = demand[:, end - PROFILE_DAYS : end]
    is_known = ~np.isnan(recent)
    units = np.where(is_known, recent, 0.0)
    by_week = (len(demand), PROFILE_DAYS // 7, 7)
    counts = is_known.reshape(by_week).sum(axis=1)
    profile = units.reshape(by_week).sum(axis=1) / np.maximum(counts, 1)
    weights = 0.5 ** (np.arange(PROFILE_DAYS)[::-1] / LEVEL_HALF_LIFE_DAYS)
    usual = (np.where(is_known, np.tile(profile, PROFILE_DAYS // 7), 0.0) * weights).sum(axis=1)
    level = np.where(usual > 0, (units * weights).sum(axis=1) / np.where(usual > 0, usual, 1.0), 1.0)
    profile = np.where(counts > 0, profile, np.nan)
    return np.stack([last_seen[:, end - 7 : end], profile, profile * level[:, None]])


def filled_slots(demand: np.ndarray, last_seen: np.ndarray, end: int) -> np.ndarray:
    """As `candidate_slots`, with the series' own mean where a candidate has nothing to go by."""
    slots = candidate_slots(demand, last_seen, end)
    rows = np.flatnonzero(np.isnan(slots).any(axis=(0, 2)))
    of_rows = slots[:, rows]
    slots[:, rows] = np.where(np.isnan(of_rows), own_mean(demand[rows], last_seen[rows], end)[:, None], of_rows)
    return slots


def last_same_weekday(demand: np.ndarray) -> np.ndarray:
    """Each missing day replaced by the last known same weekday before it, which is the seasonal naive of that day.

    demand: (n, days), NaN where missing. Returns (n, days), NaN where there is no such day before.
    """
    filled = demand.copy()
    for week in range(7, demand.shape[1], 7):
        days = filled[:, week : week + 7]
        days[...] = np.where(np.isnan(days), filled[:, week - 7 : week][:, : days.shape[1]], days)
    return filled


def own_mean(demand: np.ndarray, last_seen: np.ndarray, end: int) -> np.ndarray:
    """Mean of the open days among the 56 before column end, else of the last known week; NaN without history: (n,)."""
    recent = _mean(demand[:, end - PROFILE_DAYS : end])
    return np.where(np.isnan(recent), _mean(last_seen[:, end - 7 : end]), recent)


def _mean(units: np.ndarray) -> np.ndarray:
    is_known = ~np.isnan(units)
    counts = is_known.sum(axis=1)
    return np.where(counts > 0, np.where(is_known, units, 0.0).sum(axis=1) / np.maximum(counts, 1), np.nan)
