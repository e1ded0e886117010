"""Safety stock, reorder points and order-up-to levels, and the service they buy.

What belongs here: stock held against uncertain demand and lead times, for any number of items at once. What does not:
who delivers when (see procurement), and the newsvendor quantity of what keeps for a day (see newsvendor).

Time is in periods, the same for a demand and its lead time. A service is given as a share in 0..1 or as z, the number
of standard deviations: z for a cycle service level, or z_for_fill_rate for a share of the demand.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from planning.distributions import standard_normal_loss


def service_z(service_level: ArrayLike) -> np.ndarray:
    """z = Φ⁻¹(cycle service level): the standard deviations held so that this share of cycles has no shortage.

    Raises ValueError for a level outside 0..1, both excluded.
    """
    level = np.asarray(service_level, dtype=float)
    if not ((level > 0) & (level < 1)).all():
        raise ValueError(f"a service level lies between 0 and 1, both excluded; got {level.tolist()}")
    return special.ndtri(level)


def _not_negative(**values: ArrayLike) -> None:
    """Raise ValueError, with the name, for a value that is negative or not a number."""
    for name, value in values.items():
        if not (np.asarray(value, dtype=float) >= 0).all():
            raise ValueError(f"{name} must be a number and cannot be negative")


def lead_time_deviation(
    demand_deviation: ArrayLike,
    lead_time: ArrayLike,
    *,
    mean_demand: ArrayLike = 0.0,
    lead_time_deviation: ArrayLike = 0.0,
) -> np.ndarray:
    """One sigma of the demand over a lead time of independent, alike periods: √(L·σd² + d²·σL²).

    demand_deviation and mean_demand: per period. lead_time and its deviation: in periods.
    """
    _not_negative(
        demand_deviation=demand_deviation,
        lead_time=lead_time,
        mean_demand=mean_demand,
        of_lead_time=lead_time_deviation,
    )
    of_demand = np.asarray(lead_time, dtype=float) * np.square(demand_deviation)
    of_lead_time = np.square(np.asarray(mean_demand, dtype=float) * np.asarray(lead_time_deviation, dtype=float))
    return np.sqrt(of_demand + of_lead_time)


def window_deviation(
    deviations: ArrayLike,
    in_window: ArrayLike = True,
    *,
    mean_demand: ArrayLike = 0.0,
    lead_time_deviation: ArrayLike = 0.0,
) -> np.ndarray:
    """One sigma of the demand over a window whose periods differ: √(Σ σ_t² over the window + d̄²·σL²).

    deviations (..., T): one sigma of each period, independent of each other. in_window (..., T): which of them count.
    """
    _not_negative(deviations=deviations, mean_demand=mean_demand, of_lead_time=lead_time_deviation)
    of_demand = np.where(in_window, np.square(np.asarray(deviations, dtype=float)), 0.0).sum(axis=-1)
    of_lead_time = np.square(np.asarray(mean_demand, dtype=float) * np.asarray(lead_time_deviation, dtype=float))
    return np.sqrt(of_demand + of_lead_time)


def safety_stock(deviation: ArrayLike, z: ArrayLike) -> np.ndarray:
    """z·σ of the demand over the lead time or protection interval."""
    _not_negative(deviation=deviation)
    return np.asarray(z, dtype=float) * np.asarray(deviation, dtype=float)


def reorder_point(mean_demand: ArrayLike, lead_time: ArrayLike, safety: ArrayLike) -> np.ndarray:
    """d·L + SS: the stock, with what is on order, at which the next order goes out."""
    return np.asarray(mean_demand, dtype=float) * np.asarray(lead_time, dtype=float) + np.asarray(safety, dtype=float)


def order_up_to_level(
    mean_demand: ArrayLike,
    demand_deviation: ArrayLike,
    *,
    review_period: ArrayLike,
    lead_time: ArrayLike,
    z: ArrayLike,
    lead_time_deviation: ArrayLike = 0.0,
) -> np.ndarray:
    """Periodic review: d·(R+L) + z·√((R+L)σd² + d²σL²), the stock, with what is on order, to which each review orders.

    R+L is the protection interval: from an order to the delivery of the next one.
    """
    _not_negative(
        demand_deviation=demand_deviation,
        review_period=review_period,
        lead_time=lead_time,
        mean_demand=mean_demand,
        of_lead_time=lead_time_deviation,
    )
    interval = np.asarray(review_period, dtype=float) + np.asarray(lead_time, dtype=float)
    of_demand = interval * np.square(demand_deviation)
    of_lead_time = np.square(np.asarray(mean_demand, dtype=float) * np.asarray(lead_time_deviation, dtype=float))
    return reorder_point(mean_demand, interval, safety_stock(np.sqrt(of_demand + of_lead_time), z))


def cycle_service_level(reorder_point: ArrayLike, mean_lead_time_demand: ArrayLike, deviation: ArrayLike) -> np.ndarray:
    """The share of order cycles without a shortage: Φ((ROP − mean)/σ) of the demand over the lead time.

    Without any deviation it is 1 where the reorder point covers the mean, else 0.
    """
    _not_negative(deviation=deviation)
    over = np.asarray(reorder_point, dtype=float) - np.asarray(mean_lead_time_demand, dtype=float)
    deviation = np.asarray(deviation, dtype=float)
    certain = np.where(over >= 0, np.inf, -np.inf)
    shape = np.broadcast_shapes(over.shape, deviation.shape)
    z = np.divide(over, deviation, out=np.broadcast_to(certain, shape).copy(), where=deviation > 0)
    return special.ndtr(z)


def expected_shortage(deviation: ArrayLike, z: ArrayLike) -> np.ndarray:
    """Units short per order cycle with a safety stock of z·σ: σ·L(z); none where nothing deviates, whatever z."""
    _not_negative(deviation=deviation)
    sigma, loss = np.broadcast_arrays(np.asarray(deviation, dtype=float), standard_normal_loss(z))
    return np.multiply(sigma, loss, out=np.zeros(sigma.shape), where=sigma > 0)


def fill_rate(order_quantity: ArrayLike, deviation: ArrayLike, z: ArrayLike) -> np.ndarray:
    """The share of the demand met from stock: 1 − σ·L(z)/Q, at least 0. Raises ValueError for a Q that is not above 0."""
    if not (np.asarray(order_quantity) > 0).all():
        raise ValueError("a fill rate needs order quantities above 0")
    return np.maximum(1.0 - expected_shortage(deviation, z) / np.asarray(order_quantity, dtype=float), 0.0)


def z_for_fill_rate(rate: ArrayLike, order_quantity: ArrayLike, deviation: ArrayLike) -> np.ndarray:
    """The z whose fill rate is `rate`: L(z) = (1 − rate)·Q/σ. Negative where the orders alone serve more than asked.

    -inf where the deviation is 0, since no safety stock is needed then. Raises ValueError for a rate outside 0..1, both
    excluded, and for an order quantity that is not positive.
    """
    rate, order_quantity, deviation = np.broadcast_arrays(
        *(np.asarray(value, dtype=float) for value in (rate, order_quantity, deviation))
    )
    if not ((rate > 0) & (rate < 1)).all():
        raise ValueError(f"a fill rate lies between 0 and 1, both excluded; got {rate.tolist()}")
    if not (order_quantity > 0).all():
        raise ValueError(f"a fill rate needs order quantities above 0, got {order_quantity.tolist()}")
    _not_negative(deviation=deviation)
    is_random = deviation > 0
    asked = np.where(is_random, (1.0 - rate) * order_quantity / np.where(is_random, deviation, 1.0), 1.0)
    # L falls from about −z on the far left to 0, and L(z) > −z, so the answer lies between these.
    low, high = -asked - 1.0, np.full_like(asked, 40.0)
    for _ in range(200):
        middle = (low + high) / 2
        is_too_low = standard_normal_loss(middle) > asked
        low, high = np.where(is_too_low, middle, low), np.where(is_too_low, high, middle)
    return np.where(is_random, (low + high) / 2, -np.inf)
