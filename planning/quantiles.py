"""How far demand strays from its mean: quantiles from residuals, and an assumed spread where there are none.

What belongs here: spreads around a mean that another module forecast. What does not: choosing that mean.
A residual is scaled by the root of its forecast, since the spread of counted demand grows about as fast.
"""

import numpy as np
from scipy.special import gammaincinv

from planning.frames import QUANTILE_LEVELS

VOLUME_CLASSES = 4
"""Slow and fast products of a tenant stray differently; finer classes would leave too few residuals in each."""

MIN_RESIDUALS = 60
"""Fewer do not show a 0.95 quantile."""

SMALLEST_SCALE_UNITS = 0.25
"""Forecasts below this scale residuals as if they were this, or one sale of a dormant product would look infinite."""

ASSUMED_CV = 0.3
"""Relative error assumed of a mean that no backtest has tried, beside the noise of counting."""


def scale_units(mean_units: np.ndarray) -> np.ndarray:
    """What a residual is divided by: sqrt(max(mean, 0.25)), in units."""
    return np.sqrt(np.maximum(mean_units, SMALLEST_SCALE_UNITS))


def volume_classes(tenant: np.ndarray, volume_units: np.ndarray) -> np.ndarray:
    """The quarter of its tenant's series in which each series lies by volume, 0 (slowest) to 3; NaN volume counts as 0.

    tenant: code of each series' tenant, ascending; volume_units: its usual demand per open day. Ties go by position.
    """
    order = np.lexsort((np.nan_to_num(volume_units), tenant))
    sizes = np.bincount(tenant)
    starts = np.cumsum(sizes) - sizes
    rank = np.empty(len(tenant), dtype=np.int64)
    rank[order] = np.arange(len(tenant)) - starts[tenant]
    return rank * VOLUME_CLASSES // np.maximum(sizes[tenant], 1)


def grouped_quantiles(values: np.ndarray, groups: np.ndarray, n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Empirical quantiles per group at QUANTILE_LEVELS, and the count per group.

    Returns (n_groups, levels), NaN for an empty group, and (n_groups,). Interpolated at rank (n + 1) * level, the
    unbiased plotting position (type 6 of Hyndman and Fan, 1996), so that small groups do not understate their tails.
    """
    ordered = values[np.lexsort((values, groups))]
    counts = np.bincount(groups, minlength=n_groups)
    starts = (np.cumsum(counts) - counts)[:, None]
    last = np.maximum(counts - 1, 0)[:, None]
    rank = np.clip((counts[:, None] + 1) * np.array(QUANTILE_LEVELS) - 1, 0, last)
    below = np.floor(rank).astype(np.int64)
    above = np.minimum(below + 1, last)
    if not len(ordered):
        return np.full((n_groups, len(QUANTILE_LEVELS)), np.nan), counts
    # An empty last group starts behind the last value; its result is blanked below.
    low = ordered[np.minimum(starts + below, len(ordered) - 1)]
    high = ordered[np.minimum(starts + above, len(ordered) - 1)]
    return np.where(counts[:, None] > 0, low + (rank - below) * (high - low), np.nan), counts


def residual_spread(mean_units: np.ndarray, residual_quantiles: np.ndarray) -> np.ndarray:
    """Demand quantiles (n, days, levels) from means (n, days) and scaled residual quantiles (n, levels)."""
    return mean_units[:, :, None] + scale_units(mean_units)[:, :, None] * residual_quantiles[:, None, :]


def assumed_spread(mean_units: np.ndarray) -> np.ndarray:
    """Demand quantiles (n, days, levels) of a gamma distribution with variance mean + (0.3 mean)^2.

    That is the variance of Poisson counts whose rate is itself known to 30 %; a mean of 0 has quantiles of 0.
    """
    safe = np.where(mean_units > 0, mean_units, 1.0)[:, :, None]
    shape = 1 / (1 / safe + ASSUMED_CV**2)
    quantiles = gammaincinv(shape, np.array(QUANTILE_LEVELS)) * (safe / shape)
    return np.where(mean_units[:, :, None] > 0, quantiles, 0.0)


def orderly(quantile_units: np.ndarray, mean_units: np.ndarray) -> np.ndarray:
    """Quantiles that are non-negative, ascending, and have the mean between the lowest and the highest level."""
    units = np.maximum(quantile_units, 0.0)
    units[..., 0] = np.minimum(units[..., 0], mean_units)
    units[..., -1] = np.maximum(units[..., -1], mean_units)
    return np.maximum.accumulate(units, axis=-1)
