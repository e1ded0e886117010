"""Distributions of demand: mean, quantiles, and what a given quantity is expected to leave over or to miss.

What belongs here: random demand, whatever it is used for. What does not: prices, costs and decisions (see newsvendor).

Every distribution holds an array of demands: its leading shape is any shape, such as (rows, days), and units or shares
given to its methods broadcast against it. Two quantities describe a supply of Q units against a demand D:

    expected waste  E[(Q - D)+] = integral of F below Q
    expected lost   E[(D - Q)+] = integral of 1 - F above Q

and each is computed by itself, so that waste - lost = Q - mean is a check and not a definition.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

PROBABILITY_TOLERANCE = 1e-9
"""How far probabilities may be from adding up to one, and how close to a share a cumulated probability reaches it."""


class Demand(Protocol):
    """What decisions need to know of a demand. Quantities are in units, shares in 0..1."""

    @property
    def mean(self) -> np.ndarray:
        """Expected units."""

    def quantile(self, share: ArrayLike) -> np.ndarray:
        """The smallest units whose probability of not being exceeded reaches `share`."""

    def cdf(self, units: ArrayLike) -> np.ndarray:
        """The probability that demand does not exceed `units`."""

    def expected_waste(self, units: ArrayLike) -> np.ndarray:
        """Units expected to be left over from a supply of `units`."""

    def expected_lost(self, units: ArrayLike) -> np.ndarray:
        """Units expected to be asked for in vain with a supply of `units`."""


@dataclass(frozen=True)
class QuantileDemand:
    """Demand whose quantile function is linear between knots; nothing lies outside the first and the last of them.

    knot_shares: (k,), ascending from 0 to 1. knot_units: (..., k), ascending along the last axis, not below 0.
    A flat stretch of the curve is a probability mass, so products that often sell nothing are described as they are.
    """

    knot_shares: np.ndarray
    knot_units: np.ndarray

    @classmethod
    def from_quantiles(cls, levels: ArrayLike, values: ArrayLike) -> "QuantileDemand":
        """The curve through quantiles, its tails as steep as the outermost segments and never below 0 units.

        levels: (k,), k >= 2, ascending inside 0..1. values: (..., k) units; crossed ones are sorted, see `is_crossed`.
        Raises ValueError for levels out of order, and for values that are negative or not finite.
        """
        shares = np.asarray(levels, dtype=float)
        units = np.sort(np.asarray(values, dtype=float), axis=-1)
        if shares.ndim != 1 or len(shares) < 2 or units.shape[-1:] != shares.shape:
            raise ValueError(f"levels {shares.shape} and values {units.shape} must end in the same two or more levels")
        if not (shares[0] > 0 and shares[-1] < 1 and (np.diff(shares) > 0).all()):
            raise ValueError(f"levels must ascend inside 0..1, got {shares.tolist()}")
        if not (np.isfinite(units).all() and (units >= 0).all()):
            raise ValueError("quantiles must be finite and not negative")
        below = (units[..., 1] - units[..., 0]) * (shares[0] / (shares[1] - shares[0]))
        above = (units[..., -1] - units[..., -2]) * ((1 - shares[-1]) / (shares[-1] - shares[-2]))
        lowest = np.maximum(units[..., 0] - below, 0)
        highest = units[..., -1] + above
        return cls(
            np.concatenate([[0.0], shares, [1.0]]),
            np.concatenate([lowest[..., None], units, highest[..., None]], axis=-1),
        )

    @property
    def mean(self) -> np.ndarray:
        """Expected units, of the leading shape."""
        return self.knot_units[..., 0] + self._knot_lost[..., 0]

    @property
    def highest(self) -> np.ndarray:
        """Units that demand never exceeds, of the leading shape."""
        return self.knot_units[..., -1]

    def quantile(self, share: ArrayLike) -> np.ndarray:
        """Units at shares in 0..1, by interpolation between the knots."""
        share = np.asarray(share, dtype=float)
        left = np.searchsorted(self.knot_shares, share, side="right") - 1
        left = np.clip(left, 0, len(self.knot_shares) - 2)
        part = (share - self.knot_shares[left]) / (self.knot_shares[left + 1] - self.knot_shares[left])
        from_units, to_units = self._at(self.knot_units, left), self._at(self.knot_units, left + 1)
        return from_units + np.clip(part, 0, 1) * (to_units - from_units)

    def cdf(self, units: ArrayLike) -> np.ndarray:
        """The probability that demand does not exceed `units`."""
        units = np.asarray(units, dtype=float)
        _, _, share = self._locate(units)
        return np.where(units < self.knot_units[..., 0], 0.0, share)

    def expected_waste(self, units: ArrayLike) -> np.ndarray:
        """Units left over, exact for the curve: F is linear between knots, so its integral is a sum of trapezoids."""
        units = np.asarray(units, dtype=float)
        left, inside, share = self._locate(units)
        beyond = np.maximum(units - self.highest, 0)
        step = inside - self._at(self.knot_units, left)
        return self._at(self._knot_waste, left) + step * (self.knot_shares[left] + share) / 2 + beyond

    def expected_lost(self, units: ArrayLike) -> np.ndarray:
        """Units asked for in vain, exact for the curve, counted from its upper end."""
        units = np.asarray(units, dtype=float)
        left, inside, share = self._locate(units)
        short = np.maximum(self.knot_units[..., 0] - units, 0)
        step = self._at(self.knot_units, left + 1) - inside
        return self._at(self._knot_lost, left + 1) + step * (1 - (share + self.knot_shares[left + 1]) / 2) + short

    def shifted(self, units: ArrayLike) -> "QuantileDemand":
        """This demand plus a certain one of `units`."""
        return QuantileDemand(self.knot_shares, self.knot_units + np.asarray(units, dtype=float)[..., None])

    def select(self, index: Any) -> "QuantileDemand":
        """The demands at an index of the leading shape."""
        index = index if isinstance(index, tuple) else (index,)
        return QuantileDemand(self.knot_shares, self.knot_units[(*index, ...)])

    @cached_property
    def _knot_waste(self) -> np.ndarray:
        steps = np.diff(self.knot_units, axis=-1) * (self.knot_shares[:-1] + self.knot_shares[1:]) / 2
        return _with_zero_first(np.cumsum(steps, axis=-1))

    @cached_property
    def _knot_lost(self) -> np.ndarray:
        steps = np.diff(self.knot_units, axis=-1) * (1 - (self.knot_shares[:-1] + self.knot_shares[1:]) / 2)
        return _with_zero_first(np.cumsum(steps[..., ::-1], axis=-1))[..., ::-1]

    def _locate(self, units: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The segment that holds each of `units`, the units clipped to the curve, and their share."""
        inside = np.clip(units, self.knot_units[..., 0], self.highest)
        left = (self.knot_units[..., 1:-1] <= inside[..., None]).sum(axis=-1)
        from_units, to_units = self._at(self.knot_units, left), self._at(self.knot_units, left + 1)
        length = to_units - from_units
        # Only the end of a flat upper tail meets a segment without length: all of demand is at or below it.
        part = np.divide(inside - from_units, length, out=np.ones(np.shape(inside)), where=length > 0)
        share = self.knot_shares[left] + part * (self.knot_shares[left + 1] - self.knot_shares[left])
        return left, inside, share

    @staticmethod
    def _at(knots: np.ndarray, index: np.ndarray) -> np.ndarray:
        """The value of each demand at its own knot."""
        shape = np.broadcast_shapes(knots.shape[:-1], index.shape)
        knots = np.broadcast_to(knots, (*shape, knots.shape[-1]))
        return np.take_along_axis(knots, np.broadcast_to(index, shape)[..., None], axis=-1)[..., 0]


def is_crossed(values: ArrayLike, tolerance: float = 1e-6) -> np.ndarray:
    """Whether quantiles (..., k) of ascending levels descend anywhere by more than `tolerance` units."""
    return np.any(np.diff(np.asarray(values, dtype=float), axis=-1) < -tolerance, axis=-1)


def pool_independent(demand: QuantileDemand, starts: np.ndarray) -> QuantileDemand:
    """The demand of groups of independent demands, groups being runs along the first axis that begin at `starts`.

    Quantiles do not add: a sum of quantiles is the demand of outlets that are all busy on the same day. Means add, and
    at each share the distances from the mean add by their squares with their signs, which is exact for normal demands,
    keeps the curve ascending and leaves it at or above 0. What skewness is left in the mean is scaled out, so that the
    mean of a group is the sum of the means. A group of one is returned as it is. `starts` (groups,) ascends from 0.
    """
    units = demand.knot_units
    sizes = np.diff(np.append(starts, len(units)))
    if (sizes == 1).all():
        return demand
    means = demand.mean
    distance = units - means[..., None]
    squares = np.add.reduceat(distance * np.abs(distance), starts, axis=0)
    mean = np.add.reduceat(means, starts, axis=0)
    # Rounding may leave the lowest knot a hair below the 0 that it cannot pass.
    pooled = np.maximum(mean[..., None] + np.sign(squares) * np.sqrt(np.abs(squares)), 0)
    raw_mean = QuantileDemand(demand.knot_shares, pooled).mean
    scale = np.divide(mean, raw_mean, out=np.ones_like(mean), where=raw_mean > 0)
    is_single = (sizes == 1).reshape((-1,) + (1,) * (units.ndim - 1))
    return QuantileDemand(demand.knot_shares, np.where(is_single, units[starts], pooled * scale[..., None]))


@dataclass(frozen=True)
class NormalDemand:
    """Normally distributed demand: mu and sigma in units, sigma above 0, broadcast against each other."""

    mu: ArrayLike
    sigma: ArrayLike

    @property
    def mean(self) -> np.ndarray:
        """Expected units."""
        return np.asarray(self.mu, dtype=float)

    def quantile(self, share: ArrayLike) -> np.ndarray:
        """mu + z sigma."""
        return self.mean + special.ndtri(share) * np.asarray(self.sigma, dtype=float)

    def cdf(self, units: ArrayLike) -> np.ndarray:
        """The probability that demand does not exceed `units`."""
        return special.ndtr(self._z(units))

    def expected_waste(self, units: ArrayLike) -> np.ndarray:
        """The loss seen from below: sigma L(-z)."""
        return np.asarray(self.sigma, dtype=float) * standard_normal_loss(-self._z(units))

    def expected_lost(self, units: ArrayLike) -> np.ndarray:
        """sigma L(z)."""
        return np.asarray(self.sigma, dtype=float) * standard_normal_loss(self._z(units))

    def _z(self, units: ArrayLike) -> np.ndarray:
        return (np.asarray(units, dtype=float) - self.mean) / np.asarray(self.sigma, dtype=float)


def standard_normal_loss(z: ArrayLike) -> np.ndarray:
    """L(z) = phi(z) - z (1 - Phi(z)): the mean excess of a standard normal over z (Snyder & Shen, appendix C)."""
    z = np.asarray(z, dtype=float)
    return np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) - z * special.ndtr(-z)


@dataclass(frozen=True)
class PoissonDemand:
    """Poisson demand of rate `rate` units. Whole units are asked for; supplies may be fractional."""

    rate: ArrayLike

    @property
    def mean(self) -> np.ndarray:
        """Expected units."""
        return np.asarray(self.rate, dtype=float)

    def quantile(self, share: ArrayLike) -> np.ndarray:
        """The smallest whole units whose cdf reaches `share`."""
        share = np.asarray(share, dtype=float)
        whole = np.ceil(special.pdtrik(share, self.mean))
        # The inverse is of a smooth extension, so it may be one off where the cdf meets the share exactly.
        lower = np.maximum(whole - 1, 0)
        return np.where(self.cdf(lower) >= share - PROBABILITY_TOLERANCE, lower, np.maximum(whole, 0))

    def cdf(self, units: ArrayLike) -> np.ndarray:
        """The probability that demand does not exceed `units`."""
        return self._at_most(np.floor(np.asarray(units, dtype=float)))

    def expected_waste(self, units: ArrayLike) -> np.ndarray:
        """Q F(n) - rate F(n - 1), n the whole part of Q, from x p(x) = rate p(x - 1)."""
        units = np.asarray(units, dtype=float)
        whole = np.floor(units)
        return units * self._at_most(whole) - self.mean * self._at_most(whole - 1)

    def expected_lost(self, units: ArrayLike) -> np.ndarray:
        """rate (1 - F(n - 1)) - Q (1 - F(n)), n the whole part of Q."""
        units = np.asarray(units, dtype=float)
        whole = np.floor(units)
        return self.mean * self._more_than(whole - 1) - units * self._more_than(whole)

    def _at_most(self, whole: np.ndarray) -> np.ndarray:
        return np.where(whole < 0, 0.0, special.pdtr(np.maximum(whole, 0), self.mean))

    def _more_than(self, whole: np.ndarray) -> np.ndarray:
        return np.where(whole < 0, 1.0, special.pdtrc(np.maximum(whole, 0), self.mean))


@dataclass(frozen=True)
class DiscreteDemand:
    """Demand at listed points: points (m,) ascending units, probabilities (..., m) that add up to one."""

    points: np.ndarray
    probabilities: np.ndarray

    def __post_init__(self) -> None:
        """Raise ValueError for points out of order or probabilities that are none."""
        object.__setattr__(self, "points", np.asarray(self.points, dtype=float))
        object.__setattr__(self, "probabilities", np.asarray(self.probabilities, dtype=float))
        if self.points.ndim != 1 or not (np.diff(self.points) > 0).all():
            raise ValueError("points must be one ascending list of units")
        sums = self.probabilities.sum(axis=-1)
        if not ((self.probabilities >= 0).all() and (np.abs(sums - 1) <= PROBABILITY_TOLERANCE).all()):
            raise ValueError("probabilities must not be negative and must add up to one")

    @property
    def mean(self) -> np.ndarray:
        """Expected units."""
        return self._expected(self.points)

    def quantile(self, share: ArrayLike) -> np.ndarray:
        """The first point whose cdf reaches `share`."""
        share = np.asarray(share, dtype=float)
        reached = np.cumsum(self.probabilities, axis=-1) >= share[..., None] - PROBABILITY_TOLERANCE
        return self.points[np.argmax(reached, axis=-1)]

    def cdf(self, units: ArrayLike) -> np.ndarray:
        """The probability that demand does not exceed `units`."""
        return self._expected(self.points <= np.asarray(units, dtype=float)[..., None])

    def expected_waste(self, units: ArrayLike) -> np.ndarray:
        """The mean of what each point leaves over."""
        return self._expected(np.maximum(np.asarray(units, dtype=float)[..., None] - self.points, 0))

    def expected_lost(self, units: ArrayLike) -> np.ndarray:
        """The mean of what each point asks for in vain."""
        return self._expected(np.maximum(self.points - np.asarray(units, dtype=float)[..., None], 0))

    def _expected(self, values: np.ndarray) -> np.ndarray:
        return (self.probabilities * values).sum(axis=-1)


def _with_zero_first(values: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros((*values.shape[:-1], 1)), values], axis=-1)
