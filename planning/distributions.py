"""Distributions of demand: mean, quantiles, and what a given quantity is expected to leave over or to miss.

What belongs here: random demand, whatever it is used for. What does not: prices, costs and decisions (see newsvendor).

Every distribution holds an array of demands: its leading shape is any shape, such as (rows, days), and units or shares
given to its methods broadcast against it. Two quantities describe a supply of Q units against a demand D:

    expected waste  E[(Q - D)+] = integral of F below Q
    expected lost   E[(D - Q)+] = integral of 1 - F above Q

and each is computed by itself, so that waste - lost = Q - mean is a check and not a definition. Plain numbers and lists
are taken like arrays; a result of single numbers is a number or an array without dimensions.
"""

from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any, Protocol, overload

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
    Quantiles at some levels only are made such a curve by `from_quantiles`.
    """

    knot_shares: np.ndarray
    knot_units: np.ndarray

    def __post_init__(self) -> None:
        """Take any array-like. Raise ValueError for shares that do not ascend from 0 to 1, one per knot."""
        object.__setattr__(self, "knot_shares", np.asarray(self.knot_shares, dtype=float))
        object.__setattr__(self, "knot_units", np.asarray(self.knot_units, dtype=float))
        shares = self.knot_shares
        if shares.ndim != 1 or len(shares) < 2 or self.knot_units.shape[-1:] != shares.shape:
            raise ValueError(f"shares {shares.shape} and units {self.knot_units.shape} must end in the same knots")
        if not (shares[0] == 0 and shares[-1] == 1 and (np.diff(shares) > 0).all()):
            raise ValueError(f"knot shares must ascend from 0 to 1, got {shares.tolist()}; see from_quantiles")

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
        share = _shares(share)
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
        certain = np.asarray(units, dtype=float)
        if not certain.any() and certain.shape == self.knot_units.shape[:-1]:
            return self
        return QuantileDemand(self.knot_shares, self.knot_units + certain[..., None])

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


NORMAL_90 = 1.2815515655446004
"""z of a standard normal that 0.9 of its values do not exceed."""


def deviation_between(low_units: ArrayLike, high_units: ArrayLike) -> np.ndarray:
    """One standard deviation, from the 0.1 and the 0.9 quantile as those of a normal: (q0.9 - q0.1) / (2 z0.9)."""
    return (np.asarray(high_units, dtype=float) - np.asarray(low_units, dtype=float)) / (2 * NORMAL_90)


@dataclass(frozen=True)
class NormalDemand:
    """Normally distributed demand: mu and sigma in units, broadcast against each other; at sigma 0 it is certain."""

    mu: ArrayLike
    sigma: ArrayLike

    def __post_init__(self) -> None:
        """Raise ValueError for a negative sigma."""
        if np.any(np.asarray(self.sigma, dtype=float) < 0):
            raise ValueError("sigma must not be negative")

    @property
    def mean(self) -> np.ndarray:
        """Expected units."""
        return np.asarray(self.mu, dtype=float)

    def quantile(self, share: ArrayLike) -> np.ndarray:
        """mu + z sigma."""
        z, sigma = np.broadcast_arrays(special.ndtri(_shares(share)), np.asarray(self.sigma, dtype=float))
        # z is infinite at the shares 0 and 1, and what is certain is so at all shares.
        return self.mean + np.multiply(z, sigma, out=np.zeros(z.shape), where=sigma != 0)

    def cdf(self, units: ArrayLike) -> np.ndarray:
        """The probability that demand does not exceed `units`."""
        is_certain, z = self._z(units)
        return np.where(is_certain, (self._over(units) >= 0).astype(float), special.ndtr(z))

    def expected_waste(self, units: ArrayLike) -> np.ndarray:
        """The loss seen from below: sigma L(-z)."""
        is_certain, z = self._z(units)
        loss = np.asarray(self.sigma, dtype=float) * standard_normal_loss(-z)
        return np.where(is_certain, np.maximum(self._over(units), 0), loss)

    def expected_lost(self, units: ArrayLike) -> np.ndarray:
        """sigma L(z)."""
        is_certain, z = self._z(units)
        loss = np.asarray(self.sigma, dtype=float) * standard_normal_loss(z)
        return np.where(is_certain, np.maximum(-self._over(units), 0), loss)

    def _over(self, units: ArrayLike) -> np.ndarray:
        return np.asarray(units, dtype=float) - self.mean

    def _z(self, units: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Where demand is certain, and (units - mu) / sigma elsewhere."""
        over, sigma = np.broadcast_arrays(self._over(units), np.asarray(self.sigma, dtype=float))
        return sigma == 0, np.divide(over, sigma, out=np.zeros(over.shape), where=sigma > 0)


def standard_normal_loss(z: ArrayLike) -> np.ndarray:
    """L(z) = phi(z) - z (1 - Phi(z)): the mean excess of a standard normal over z (Snyder & Shen, appendix C)."""
    z = np.asarray(z, dtype=float)
    chance = special.ndtr(-z)
    # Far to the right nothing exceeds z, however large: infinity times no chance is nothing.
    return np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) - np.multiply(z, chance, out=np.zeros(z.shape), where=chance != 0)


@dataclass(frozen=True)
class PoissonDemand:
    """Poisson demand of rate `rate` units. Whole units are asked for; supplies may be fractional."""

    rate: ArrayLike

    def __post_init__(self) -> None:
        """Raise ValueError for a negative rate."""
        if np.any(np.asarray(self.rate, dtype=float) < 0):
            raise ValueError("a rate must not be negative")

    @property
    def mean(self) -> np.ndarray:
        """Expected units."""
        return np.asarray(self.rate, dtype=float)

    def quantile(self, share: ArrayLike) -> np.ndarray:
        """The smallest whole units whose cdf reaches `share`; infinite at the share 1 of any demand."""
        share = _shares(share)
        # The inverse is not defined without any demand, of which 0 units are every quantile.
        whole = np.where(self.mean > 0, np.ceil(special.pdtrik(share, np.where(self.mean > 0, self.mean, 1))), 0)
        # The inverse is of a smooth extension, so it may be one off where the cdf meets the share exactly.
        lower = np.maximum(whole - 1, 0)
        found = np.where(self.cdf(lower) >= share - PROBABILITY_TOLERANCE, lower, np.maximum(whole, 0))
        return np.where((share == 1) & (self.mean > 0), np.inf, found)

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
        if self.points.ndim != 1 or not (np.isfinite(self.points).all() and (np.diff(self.points) > 0).all()):
            raise ValueError("points must be one ascending list of units")
        if self.probabilities.shape[-1:] != self.points.shape:
            raise ValueError(f"{len(self.points)} points need as many probabilities, got {self.probabilities.shape}")
        sums = self.probabilities.sum(axis=-1)
        if not ((self.probabilities >= 0).all() and (np.abs(sums - 1) <= PROBABILITY_TOLERANCE).all()):
            raise ValueError("probabilities must not be negative and must add up to one")

    @property
    def mean(self) -> np.ndarray:
        """Expected units."""
        return self._expected(self.points)

    def quantile(self, share: ArrayLike) -> np.ndarray:
        """The first point whose cdf reaches `share`; NaN for a share of NaN."""
        share = _shares(share)
        reached = np.cumsum(self.probabilities, axis=-1) >= share[..., None] - PROBABILITY_TOLERANCE
        return np.where(np.isnan(share), np.nan, self.points[np.argmax(reached, axis=-1)])

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


@overload
def over_periods(demand: NormalDemand, periods: ArrayLike) -> NormalDemand: ...
@overload
def over_periods(demand: PoissonDemand, periods: ArrayLike) -> PoissonDemand: ...
@overload
def over_periods(demand: DiscreteDemand, periods: int) -> DiscreteDemand: ...
@overload
def over_periods(demand: QuantileDemand, periods: int) -> QuantileDemand: ...


def over_periods(
    demand: NormalDemand | PoissonDemand | DiscreteDemand | QuantileDemand, periods: Any
) -> NormalDemand | PoissonDemand | DiscreteDemand | QuantileDemand:
    """The demand of several independent periods together, each distributed as `demand`.

    With a lead time of L periods and a decision every period, a stock has to last for L + 1 of them (Snyder & Shen,
    example 4.4). Normal: mean n mu, standard deviation sqrt(n) sigma; Poisson: rate n times; discrete: every sum with
    its probability, exact; a quantile curve: pooled as pool_independent does, its shape kept and its mean exact.
    `periods` is a whole number from 1, or for normal and Poisson demand any array of positive numbers; ValueError if not.
    """
    if isinstance(demand, NormalDemand | PoissonDemand) and not (np.asarray(periods, dtype=float) > 0).all():
        raise ValueError(f"periods must be above 0, got {periods}")
    if isinstance(demand, NormalDemand):
        return NormalDemand(demand.mean * periods, np.asarray(demand.sigma, dtype=float) * np.sqrt(periods))
    if isinstance(demand, PoissonDemand):
        return PoissonDemand(demand.mean * periods)
    if int(periods) != periods or periods < 1:
        raise ValueError(f"periods must be a whole number from 1, got {periods}")
    if isinstance(demand, DiscreteDemand):
        return reduce(sum_of_independent, [demand] * int(periods))
    repeated = np.repeat(demand.knot_units[None], int(periods), axis=0)
    return pool_independent(QuantileDemand(demand.knot_shares, repeated), np.array([0])).select(0)


def sum_of_independent(one: DiscreteDemand, other: DiscreteDemand) -> DiscreteDemand:
    """The sum of two independent discrete demands of the same leading shape, with every sum of their points."""
    sums = np.add.outer(one.points, other.points)
    points, at = np.unique(np.round(sums, 9), return_inverse=True)
    joint = one.probabilities[..., :, None] * other.probabilities[..., None, :]
    joint = joint.reshape((*joint.shape[:-2], -1))
    probabilities = np.zeros((*joint.shape[:-1], len(points)))
    for column, point in enumerate(at.ravel().tolist()):
        probabilities[..., point] += joint[..., column]
    return DiscreteDemand(points, probabilities)


def _shares(share: ArrayLike) -> np.ndarray:
    """Shares as an array; NaN, which is unknown, stays. Raises ValueError for any other that is not in 0..1."""
    shares = np.asarray(share, dtype=float)
    if ((shares < 0) | (shares > 1)).any():
        raise ValueError(f"shares lie in 0..1, got {shares[(shares < 0) | (shares > 1)].flat[0]}")
    return shares


def _with_zero_first(values: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros((*values.shape[:-1], 1)), values], axis=-1)
