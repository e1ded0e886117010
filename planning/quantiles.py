"""How far demand strays from its mean: quantiles from residuals, and an assumed spread where there are none.

What belongs here: spreads around a mean that another module forecast. What does not: choosing that mean.
A residual is scaled by a power of its forecast, since larger demand strays further, but less than in proportion.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import gammaincinv

from planning.distributions import QuantileDemand
from planning.frames import FORECAST_DAYS, QUANTILE_LEVELS

VOLUME_CLASSES = 4
"""Slow and fast products of a tenant stray differently; finer classes would leave too few residuals in each."""

MIN_RESIDUALS = 60
"""Fewer do not show a 0.95 quantile."""

RESIDUAL_DAYS = 42
"""Target days whose residuals make a spread. Of 28, 42 and 56 days the middle was best calibrated across seasons."""

SCALE_POWER = 0.7
"""Between counting noise (0.5) and a constant relative error (1). Against 0.5, which covers as well, the pinball loss over
all levels was 2 to 6 % lower on three folds of a real bakery and 1 % on synthetic ones."""

UNMEASURED_WIDENING = 1.1
WIDENING_LIMITS = (1.0, 1.5)
"""An extended day is further off than a forecast day, and its spread is as much wider as such errors were in the backtest,
within these limits; 1.1 where that could not be measured."""

SMALLEST_SCALE_UNITS = 0.25
"""Forecasts below this scale residuals as if they were this, or one sale of a dormant product would look infinite."""

OF_CLASS, OF_TENANT, ASSUMED = 0, 1, 2
"""Where a series' spread comes from."""

ASSUMED_CV = 0.3
"""Relative error assumed of a mean that no backtest has tried, beside the noise of counting."""


@dataclass(frozen=True)
class Spread:
    """Scaled residual quantiles of one tenant, per volume class and of all of its series.

    by_class: (VOLUME_CLASSES, levels), NaN for a class without residuals; class_means and class_counts: (VOLUME_CLASSES,).
    pooled: (levels,); pooled_mean; pooled_count. widening: by how much wider extended days spread than forecast days.
    """

    by_class: np.ndarray
    class_means: np.ndarray
    class_counts: np.ndarray
    pooled: np.ndarray
    pooled_mean: float
    pooled_count: int
    widening: float

    @classmethod
    def of(cls, residuals: np.ndarray, volume_class: np.ndarray, widening: float) -> "Spread":
        """The spread that scaled residuals (rows,) of series in these classes (rows,) show."""
        by_class, counts = grouped_quantiles(residuals, volume_class, VOLUME_CLASSES)
        pooled, pooled_count = grouped_quantiles(residuals, np.zeros(len(residuals), dtype=np.int64), 1)
        sums = np.bincount(volume_class, weights=residuals, minlength=VOLUME_CLASSES)
        return cls(
            by_class=by_class,
            class_means=sums / np.maximum(counts, 1),
            class_counts=counts,
            pooled=pooled[0],
            pooled_mean=float(sums.sum() / max(len(residuals), 1)),
            pooled_count=int(pooled_count[0]),
            widening=widening,
        )

    def as_json(self) -> dict[str, object]:
        """The spread as JSON keeps it."""
        return {
            "levels": list(QUANTILE_LEVELS),
            "scale_power": SCALE_POWER,
            "by_class": [None if np.isnan(row).any() else row.tolist() for row in self.by_class],
            "class_means": self.class_means.tolist(),
            "class_counts": self.class_counts.tolist(),
            "pooled": None if np.isnan(self.pooled).any() else self.pooled.tolist(),
            "pooled_mean": self.pooled_mean,
            "pooled_count": self.pooled_count,
            "widening": self.widening,
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, object]) -> "Spread | None":
        """The spread that JSON keeps; None when it is of another version: of other levels, another
        scale, or without a part."""
        if kept.get("levels") != list(QUANTILE_LEVELS) or kept.get("scale_power") != SCALE_POWER:
            return None
        if not {"by_class", "class_means", "class_counts", "pooled", "pooled_mean", "pooled_count", "widening"} <= set(
            kept
        ):
            return None
        empty = [float("nan")] * len(QUANTILE_LEVELS)
        rows: Any = kept["by_class"]
        numbers: Any = kept
        return cls(
            by_class=np.array([row or empty for row in rows], dtype=float),
            class_means=np.array(kept["class_means"], dtype=float),
            class_counts=np.array(kept["class_counts"], dtype=np.int64),
            pooled=np.array(kept["pooled"] or empty, dtype=float),
            pooled_mean=float(numbers["pooled_mean"]),
            pooled_count=int(numbers["pooled_count"]),
            widening=float(numbers["widening"]),
        )

    def of_classes(self, volume_class: np.ndarray) -> "SeriesSpread":
        """The spread of series in these classes (n,): of their class, else of the tenant, else assumed."""
        n = len(volume_class)
        has_class = self.class_counts[volume_class] >= MIN_RESIDUALS
        has_pooled = self.pooled_count >= MIN_RESIDUALS
        source = np.where(has_class, OF_CLASS, OF_TENANT if has_pooled else ASSUMED)
        pooled_count = self.pooled_count if has_pooled else 0
        return SeriesSpread(
            residual_quantiles=np.where(has_class[:, None], self.by_class[volume_class], self.pooled),
            mean_residual=np.where(has_class, self.class_means[volume_class], self.pooled_mean if has_pooled else 0.0),
            source=source,
            counts=np.where(has_class, self.class_counts[volume_class], pooled_count),
            widening=np.full(n, self.widening),
        )


@dataclass(frozen=True)
class SeriesSpread:
    """The spread of each of n series: residual_quantiles (n, levels) and mean_residual (n,), scaled; source (n,):
    OF_CLASS, OF_TENANT or ASSUMED; counts (n,), of how many residuals; widening (n,) of extended days."""

    residual_quantiles: np.ndarray
    mean_residual: np.ndarray
    source: np.ndarray
    counts: np.ndarray
    widening: np.ndarray

    @classmethod
    def assumed(cls, n: int) -> "SeriesSpread":
        """The spread of n series of which no residual is known."""
        return cls(
            residual_quantiles=np.full((n, len(QUANTILE_LEVELS)), np.nan),
            mean_residual=np.zeros(n),
            source=np.full(n, ASSUMED),
            counts=np.zeros(n, dtype=np.int64),
            widening=np.full(n, UNMEASURED_WIDENING),
        )

    def put(self, rows: np.ndarray, other: "SeriesSpread") -> None:
        """Set the spread of the series at these positions, or of a mask, in place."""
        for name, values in vars(other).items():
            getattr(self, name)[rows] = values

    def select(self, rows: np.ndarray) -> "SeriesSpread":
        """The series at these positions, or of a mask."""
        return SeriesSpread(**{name: values[rows] for name, values in vars(self).items()})


def forecast_curve(mean_units: np.ndarray, spread: SeriesSpread) -> tuple[np.ndarray, np.ndarray]:
    """Corrected means (n, days) and quantiles (n, days, levels) of demand whose means a rule or model gave (n, days).

    The mean is corrected by how far off, on average, such forecasts were of late. Quantiles are the mean given and the
    scaled residual quantiles, days after FORECAST_DAYS wider by `widening`; where no residual is known, the spread is
    assumed. The curve through them is then scaled, by a few percent, so that its mean is the corrected one: straight lines
    between nine levels lie a little above the curve they stand for.
    """
    is_assumed = spread.source == ASSUMED
    units = np.empty((*mean_units.shape, len(QUANTILE_LEVELS)))
    units[~is_assumed] = residual_spread(mean_units[~is_assumed], spread.residual_quantiles[~is_assumed])
    units[is_assumed] = assumed_spread(mean_units[is_assumed])
    mean = mean_units[:, :, None]
    far = slice(FORECAST_DAYS, None)
    units[:, far] = mean[:, far] + spread.widening[:, None, None] * (units - mean)[:, far]
    units = orderly(units)
    corrected = np.maximum(mean_units + scale_units(mean_units) * spread.mean_residual[:, None], 0.0)
    of_curve = curve_mean(units)
    is_positive = of_curve > 0
    corrected = np.where(is_positive, corrected, 0.0)
    return corrected, units * np.where(is_positive, corrected / np.where(is_positive, of_curve, 1.0), 1.0)[:, :, None]


def scale_units(mean_units: np.ndarray) -> np.ndarray:
    """What a residual is divided by: max(mean, 0.25) to the power SCALE_POWER, in units."""
    return np.maximum(mean_units, SMALLEST_SCALE_UNITS) ** SCALE_POWER


def volume_classes(tenant: np.ndarray, volume_units: np.ndarray) -> np.ndarray:
    """The quarter of its tenant's series in which each series lies by volume, 0 (slowest) to 3; NaN volume counts as 0.

    tenant: code of each series' tenant, ascending; volume_units: its usual demand per open day. Ties go by position.
    """
    order = np.lexsort((np.nan_to_num(volume_units), tenant))
    sizes = np.bincount(tenant)
    starts = np.cumsum(sizes) - sizes
    rank = np.empty(len(tenant), dtype=np.int64)
    rank[order] = np.arange(len(tenant)) - starts[tenant[order]]
    return rank * VOLUME_CLASSES // np.maximum(sizes[tenant], 1)


def grouped_quantiles(values: np.ndarray, groups: np.ndarray, n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Empirical quantiles per group at QUANTILE_LEVELS, and the count per group.

    Returns (n_groups, levels), NaN for an empty group, and (n_groups,). Interpolated at rank (n + 1) * level, the
    unbiased plotting position (type 6 of Hyndman and Fan, 1996), so that small groups do not understate their tails.
    """
    # Sorted group by group: one sort by two keys takes several times as long.
    together = values[np.argsort(groups, kind="stable")]
    counts = np.bincount(groups, minlength=n_groups)
    ordered = np.concatenate([np.sort(part) for part in np.split(together, np.cumsum(counts)[:-1])])
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


def orderly(quantile_units: np.ndarray) -> np.ndarray:
    """Quantiles that are non-negative and ascending."""
    return np.maximum.accumulate(np.maximum(quantile_units, 0.0), axis=-1)


def curve_mean(quantile_units: np.ndarray) -> np.ndarray:
    """The mean of the curve through quantiles (..., levels), as waste and lost sales are integrated from it."""
    return QuantileDemand.from_quantiles(QUANTILE_LEVELS, quantile_units).mean
