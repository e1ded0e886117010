"""The safety stock of each stocked item of a plan: how much, from when on, and why, in words.

The formulas for one item or a thousand are in planning/safety_stock; here they meet the frozen plan, the delivery
calendar and the shelf life.
"""

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pandas as pd

from planning.deliveries import DeliveryTerms
from planning.frames import ROUNDING
from planning.keys import NEVER, looked_up
from planning.safety_stock import safety_stock, service_z, window_deviation
from planning.suppliers import Market, first_days, next_days

FROZEN_DAYS = 1
"""Days of a plan that do not change any more, where no deviation says it: the plan date."""


@dataclass(frozen=True)
class SafetyStocks:
    """quantity and reason (n,) of each stock; by_day (n, T), what each day is to leave; uncapped (n,) without the cap."""

    quantity: np.ndarray
    by_day: np.ndarray
    uncapped: np.ndarray
    reason: np.ndarray


def safety_stocks(
    rows: pd.DataFrame,
    market: Market,
    terms: DeliveryTerms,
    gross: np.ndarray,
    deviation: np.ndarray,
    plan_date: date,
) -> SafetyStocks:
    """Safety stock against changes of the plan beyond its frozen days, and against late deliveries.

    z·√(Σ σ² + d̄²·σL²) over the protection interval, from the first order day to the delivery after the next: what is
    ordered now has to last until what is ordered next. The frozen days count nothing, since what they take is decided.
    At least the item's own safety_stock_quantity, which holds on frozen days too; at most what a delivery has left to
    serve while it keeps, beside the needs until the next one.
    """
    count, days = gross.shape
    column = np.arange(days)
    first_order = np.maximum(looked_up(market.offers["first_order_day"], market.at_offer, 0.0), 0.0)
    lead_sd = looked_up(market.offers["lead_sd_days"], market.at_offer, 0.0)
    first = first_days(terms.delivers)
    is_delivered = (first < NEVER) & rows["is_taken"].to_numpy()
    start = np.minimum(first, max(days - 1, 0))
    second = np.take_along_axis(next_days(terms.delivers), start[:, None], axis=1)[:, 0] if days else start
    is_changing = deviation > 0
    frozen = np.where(is_changing.any(axis=1), is_changing.argmax(axis=1), FROZEN_DAYS) if days else start
    interval = (column >= first_order[:, None]) & (column < second[:, None])
    length = interval.sum(axis=1)
    mean = np.divide(np.where(interval, gross, 0.0).sum(axis=1), length, out=np.zeros(count), where=length > 0)
    sigma = window_deviation(
        deviation, interval & (column >= frozen[:, None]), mean_demand=mean, lead_time_deviation=lead_sd
    )
    z = service_z(rows["service_level"].to_numpy())
    computed = np.where(is_delivered, np.round(safety_stock(sigma, z), ROUNDING), 0.0)
    own = rows["safety_stock_quantity"].to_numpy()
    uncapped = np.maximum(own, computed)
    until = np.concatenate([np.zeros((count, 1)), np.cumsum(gross, axis=1)], axis=1)
    at = np.arange(count)
    end = start + np.clip(terms.keeps_days, 0, NEVER)
    served = until[at, np.minimum(end, days)] + np.maximum(end - days, 0) * until[:, -1] / max(days, 1)
    cap = np.where(is_delivered & (terms.keeps_days < NEVER), np.maximum(served - until[at, second], 0.0), np.inf)
    quantity = np.minimum(uncapped, np.round(cap, ROUNDING))
    by_day = np.where(column >= frozen[:, None], quantity[:, None], np.minimum(own, quantity)[:, None])
    since = np.maximum(first_order, frozen).astype(np.int64)
    return SafetyStocks(
        quantity,
        by_day,
        uncapped,
        _safety_words(rows, quantity, uncapped, computed > own, since, second, sigma, lead_sd, plan_date),
    )


def _safety_words(
    rows: pd.DataFrame,
    quantity: np.ndarray,
    uncapped: np.ndarray,
    is_computed: np.ndarray,
    since: np.ndarray,
    until: np.ndarray,
    sigma: np.ndarray,
    lead_sd: np.ndarray,
    plan_date: date,
) -> np.ndarray:
    """Why each stock has its safety stock: "" for none."""
    reason = np.full(len(rows), "", dtype=object)
    reason[uncapped > 0] = "the item's own safety stock"
    at = np.flatnonzero(is_computed)
    levels, level = np.unique(rows["service_level"].to_numpy()[at], return_inverse=True)
    services = [
        f"{share:.1%} service, z {z:.3f}: needs may change by "
        for share, z in zip(levels, service_z(levels), strict=True)
    ]
    spans, span = np.unique(since[at] * NEVER + until[at], return_inverse=True)
    dates = [
        f" from {plan_date + timedelta(days=first)} to {plan_date + timedelta(days=last - 1)}" if first < last else ""
        for first, last in zip(*(part.tolist() for part in np.divmod(spans, NEVER)), strict=True)
    ]
    late = [f", the lead time by {days:g} days" if days else "" for days in lead_sd[at].tolist()]
    reason[at] = [
        f"{services[service]}{size:.4g} {unit}{dates[when]}{delay}"
        for service, size, unit, when, delay in zip(
            level.tolist(),
            sigma[at].tolist(),
            rows["base_unit"].to_numpy(dtype=object)[at].tolist(),
            span.tolist(),
            late,
            strict=True,
        )
    ]
    reason[uncapped > quantity] += "; held down to what is used before it spoils"
    return reason
