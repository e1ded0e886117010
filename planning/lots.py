"""Stock as lots, used first-expired-first-out (FEFO).

A lot is usable through its expiry date, less the item's removal days: through its removal date. Lots are used in the
order of their last usable day (lots that keep come last), then expiry, receipt and lot id. What is left of a lot when its
last usable day ends has expired that day. Forecasting what stock will be is in planning/projection.
"""

from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from planning.frames import ROUNDING, PlanningError, exceptions_of, figure
from planning.keys import NEVER, dates_of, day_numbers, distinct, looked_up, positions

STOCK_KEY = ["tenant_id", "location_id", "item_id"]
LOT_COLUMNS = (*STOCK_KEY, "lot_id", "quantity", "received_on", "expires_on", "unit_cost")
NOTHING = 0.5 * 10**-ROUNDING
"""Quantities below this, in base units, are arithmetic dust."""

GROUPS_AT_ONCE = 8192
"""Groups whose lots are run together: as many as a processor's cache holds."""


@dataclass(frozen=True)
class LotTable:
    """Lots of n groups side by side: row g holds the lots of group g in FEFO order, padded with empty ones.

    quantity (n, L) in base units; usable_from, usable_through (n, L) as day numbers; lot (n, L) is the position of the
    lot in the frame it came from, -1 for padding.
    """

    quantity: np.ndarray
    usable_from: np.ndarray
    usable_through: np.ndarray
    lot: np.ndarray


@dataclass(frozen=True)
class FefoRun:
    """What n groups of lots do over T days. All (n, T) in base units but for the last two, (n, L) per lot; each with
    the leading shape of the demand in front, if that has several paths.

    For each group and day: closing + expired + consumption = closing of the day before + receipts. slack: usable stock of
    the day less its demand, so what is left over before expiry, and negative where something is short.
    """

    receipts: np.ndarray
    consumption: np.ndarray
    shortage: np.ndarray
    expired: np.ndarray
    closing: np.ndarray
    slack: np.ndarray
    remaining_of_lot: np.ndarray
    expired_of_lot: np.ndarray


@dataclass(frozen=True)
class LotDates:
    """When a lot expires, and when it is taken out of use: dates, or arrays of dates."""

    expires_on: Any
    removal_on: Any


@dataclass(frozen=True)
class OpeningStock:
    """Lots on hand at the opening of a day, and what the records could not explain."""

    lots: pd.DataFrame
    exceptions: pd.DataFrame


def take_first(stock: ArrayLike, demand: ArrayLike) -> np.ndarray:
    """What a demand (n,) takes from stock (n, L), whose columns are used from left to right."""
    stock, demand = np.asarray(stock, dtype=float), np.asarray(demand, dtype=float)
    ahead = np.cumsum(stock, axis=1) - stock
    return np.clip(demand[:, None] - ahead, 0.0, stock)


def lot_dates(received_on: Any, expiration_days: ArrayLike, removal_days: ArrayLike = 0) -> LotDates:
    """When lots expire, expiration_days after their receipt, and when they are taken out, removal_days before that.

    One date and two numbers, or arrays of them. Received on 1 January, 30 days, 15 days: 31 January and 16 January
    (Odoo, expiration dates). A shelf life of n days counts the day of receipt, so that its expiration_days are n - 1.
    """
    expires = np.asarray(received_on, dtype="datetime64[D]") + np.asarray(expiration_days, dtype=np.int64)
    removal = expires - np.asarray(removal_days, dtype=np.int64)
    return LotDates(expires.astype(object), removal.astype(object))


def last_usable_days(
    expires_on: pd.Series, received: np.ndarray, shelf_life_days: np.ndarray, removal_days: np.ndarray, first_day: date
) -> np.ndarray:
    """The day number of each lot's last usable day.

    An unknown expiry is taken from the shelf life, counted from the day of receipt; NEVER when that is NaN too.
    """
    return last_usable_numbers(day_numbers(expires_on, first_day), received, shelf_life_days, removal_days)


def last_usable_numbers(
    expires: np.ndarray, received: np.ndarray, shelf_life_days: np.ndarray, removal_days: np.ndarray
) -> np.ndarray:
    """As `last_usable_days`, of expiries that are day numbers already, NEVER where unknown."""
    by_shelf_life = received + np.where(np.isnan(shelf_life_days), 0, shelf_life_days).astype(np.int64) - 1
    expires = np.where((expires >= NEVER) & ~np.isnan(shelf_life_days), by_shelf_life, expires)
    return np.where(expires >= NEVER, NEVER, expires - removal_days.astype(np.int64))


def lot_table(
    group: np.ndarray, groups: int, lots: pd.DataFrame, usable_from: np.ndarray, usable_through: np.ndarray
) -> LotTable:
    """Lay lots out by group in FEFO order.

    group: (m,) the row of each lot, -1 to leave it out. lots: quantity, received_on, expires_on (dates, or day numbers)
    and lot_id.
    """
    expires, received = (_days(lots[name]) for name in ("expires_on", "received_on"))
    # A shelf life may give a lot without an expiry date its last day, so that day sorts before the date itself.
    which = np.lexsort((received, expires, usable_through, group))
    which = which[group[which] >= 0]
    which = _by_lot_id(which, (group, usable_through, expires, received), lots["lot_id"].to_numpy(dtype=object))
    at = group[which]
    counts = np.bincount(at, minlength=groups)
    rank = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
    shape = (groups, int(counts.max(initial=0)))
    table = LotTable(np.zeros(shape), np.full(shape, NEVER), np.full(shape, NEVER), np.full(shape, -1))
    table.quantity[at, rank] = lots["quantity"].astype(float).to_numpy()[which]
    table.usable_from[at, rank] = usable_from[which]
    table.usable_through[at, rank] = usable_through[which]
    table.lot[at, rank] = which
    return table


def _days(dates: pd.Series) -> np.ndarray:
    """Dates as numbers that sort, those not set last; numbers as they are."""
    return dates.to_numpy() if dates.dtype.kind == "i" else day_numbers(dates, date(1970, 1, 1))


def _by_lot_id(which: np.ndarray, keys: tuple[np.ndarray, ...], lot_id: np.ndarray) -> np.ndarray:
    """Positions sorted by `keys`, those with equal keys now by lot id. Only they are compared as text, which is slow."""
    is_equal = np.ones(max(len(which) - 1, 0), dtype=bool)
    for key in keys:
        is_equal &= key[which[1:]] == key[which[:-1]]
    tied = np.flatnonzero(np.append(is_equal, False) | np.append(False, is_equal)) if len(which) else which
    if not len(tied):
        return which
    run_of = np.cumsum(np.append(True, ~is_equal))[tied]
    result = which.copy()
    result[tied] = which[tied][np.lexsort((pd.factorize(lot_id[which[tied]], sort=True)[0], run_of))]
    return result


def run_fefo(table: LotTable, demand: np.ndarray) -> FefoRun:
    """Use lots first-expired-first-out over the T days of demand (n, T), or of several paths of it (..., n, T).

    A lot counts as a receipt on its usable_from day when that is 0 or later; earlier ones are opening stock. A demand
    that cannot be met is lost, not carried on. Convention of a lot's last day: Oracle SCM, How On-Hand Lots Are Consumed.
    """
    *paths, groups, days = demand.shape
    lots = table.lot.shape[1]
    many = demand.reshape(int(np.prod(paths)), groups, days)
    by_day = {name: np.zeros(many.shape) for name in ("receipts", "consumption", "expired", "closing", "slack")}
    by_lot = {name: np.zeros((len(many), groups, lots)) for name in ("remaining_of_lot", "expired_of_lot")}
    for first in range(0, groups, GROUPS_AT_ONCE):
        rows = slice(first, first + GROUPS_AT_ONCE)
        _run_groups(table, many, rows, by_day | by_lot)
    unmet = many - by_day["consumption"]
    made = {**by_day, **by_lot, "shortage": np.where(unmet > NOTHING, unmet, 0.0)}
    return FefoRun(**{name: values.reshape(*paths, *values.shape[1:]) for name, values in made.items()})


def _run_groups(table: LotTable, demand: np.ndarray, rows: slice, made: dict[str, np.ndarray]) -> None:
    """Run some groups on all paths of demand (paths, n, T), and write what becomes of them into the rows of `made`."""
    lots_of = (table.lot[rows] >= 0).sum(axis=1)
    # Groups with the most lots first: the k-th lots are then a run from the first group on, and no padding is looked at.
    order = np.argsort(-lots_of, kind="stable")
    holding = [int((lots_of > lot).sum()) for lot in range(table.lot.shape[1])]
    quantity, usable_from, through = (
        np.ascontiguousarray(matrix[rows][order].T)
        for matrix in (table.quantity, table.usable_from, table.usable_through)
    )
    wanted = np.ascontiguousarray(np.moveaxis(demand[:, rows][:, order], 2, 0), dtype=float)
    days, paths, groups = wanted.shape
    held = np.zeros((len(quantity), paths, groups))
    held += np.where(usable_from < 0, quantity, 0.0)[:, None]
    expired_of_lot = np.zeros_like(held)
    receipts, consumption, expired, closing, slack = np.zeros((5, days, paths, groups))
    for day in range(days):
        left = wanted[day].copy()
        for lot, count in enumerate(holding):
            stock, unmet = held[lot, :, :count], left[:, :count]
            arriving = np.where(usable_from[lot, :count] == day, quantity[lot, :count], 0.0)
            stock += arriving
            receipts[day, :, :count] += arriving
            is_usable = through[lot, :count] >= day
            taken = np.minimum(stock, unmet)
            taken *= is_usable
            stock -= taken
            unmet -= taken
            slack[day, :, :count] += stock * is_usable
            over = stock * (through[lot, :count] <= day)
            stock -= over
            expired_of_lot[lot, :, :count] += over
            expired[day, :, :count] += over
            closing[day, :, :count] += stock
        consumption[day] = wanted[day] - left
        slack[day] -= left
    place = np.argsort(order)
    for name, values in (
        ("receipts", receipts),
        ("consumption", consumption),
        ("expired", expired),
        ("closing", closing),
        ("slack", slack),
        ("remaining_of_lot", held),
        ("expired_of_lot", expired_of_lot),
    ):
        made[name][:, rows] = np.moveaxis(values, 0, 2)[:, place]


def roll_forward(
    lots: pd.DataFrame,
    movements: pd.DataFrame,
    receipts: pd.DataFrame,
    consumption: pd.DataFrame,
    to_date: date,
    *,
    items: pd.DataFrame | None = None,
) -> OpeningStock:
    """The lots on hand at the opening of to_date.

    lots: the last count of each tenant, location and item, with as_of, the day at whose opening it was made; what
    happened before as_of is in the count, and a stock never counted starts empty. movements, receipts and consumption
    from as_of up to the day before to_date are applied: what comes in first, then what goes out, FEFO, then expiry.
    An inward movement becomes a lot of its own. items (tenant_id, item_id, shelf_life_days, removal_days), when given,
    dates the lots whose expiry is unknown and takes lots out at their removal day instead of their expiry.

    Work is proportional to the days since the oldest count. Stock never falls below zero: what went out beyond it is an
    exception, and so is a counted lot below zero. Raises PlanningError when a stock has counts of two days.
    """
    groups = distinct((lots, movements, receipts, consumption), STOCK_KEY)
    counted_on = _count_days(lots, groups, to_date)
    supply = _supply(
        lots=lots,
        movements=movements,
        receipts=receipts,
        groups=groups,
        counted_on=counted_on,
        to_date=to_date,
    )
    taken = _taken(movements, consumption, groups, counted_on, to_date)

    start = int(min([0, *supply["day"], *taken["day"]]))
    demand = np.zeros((len(groups), -start))
    np.add.at(demand, (taken["group"].to_numpy(), taken["day"].to_numpy() - start), taken["quantity"].to_numpy())

    shelf_life_days, removal_days = _keeping(supply, items)
    usable_from = supply["day"].to_numpy()
    through = last_usable_days(supply["expires_on"], usable_from, shelf_life_days, removal_days, to_date)
    positive = supply.assign(quantity=supply["quantity"].clip(lower=0.0))
    # A count is of the opening of its day, so its lots are there when the day before ends.
    opening = usable_from - supply["is_counted"].to_numpy(dtype=np.int64)
    table = lot_table(supply["group"].to_numpy(), len(groups), positive, opening - start, through - start)
    run = run_fefo(table, demand)

    is_lot = (table.lot >= 0) & (table.usable_through >= -start)
    left = np.zeros(len(supply))
    left[table.lot[is_lot]] = run.remaining_of_lot[is_lot]
    expires = np.where(through < NEVER, through + removal_days.astype(np.int64), NEVER)
    return OpeningStock(
        _remaining(supply.assign(quantity=np.round(left, ROUNDING), expires_on=dates_of(expires, to_date))),
        _unexplained(groups, run.shortage.sum(axis=1), supply, to_date),
    )


def _count_days(lots: pd.DataFrame, groups: pd.DataFrame, to_date: date) -> np.ndarray:
    """The day number, from to_date, of each group's count; -NEVER where it was never counted."""
    counted_on = np.full(len(groups), -NEVER)
    at, days = positions(lots, groups, STOCK_KEY), day_numbers(lots["as_of"], to_date)
    np.maximum.at(counted_on, at, days)
    mixed = counted_on[at] != days
    if mixed.any():
        tenant_id, location_id, item_id = lots.loc[mixed, STOCK_KEY].iloc[0]
        raise PlanningError(
            f"The stock of {item_id} at {location_id} of {tenant_id} has counts of two days; pass only the last one"
        )
    if (counted_on > 0).any():
        raise PlanningError(f"A stock count after {to_date} cannot be rolled back to it; pass the last one before")
    return counted_on


def _supply(
    *,
    lots: pd.DataFrame,
    movements: pd.DataFrame,
    receipts: pd.DataFrame,
    groups: pd.DataFrame,
    counted_on: np.ndarray,
    to_date: date,
) -> pd.DataFrame:
    """Counted lots, receipts and a lot per stock and day of inward movements, from the count to before to_date.

    Adds group, day (number of the arrival, from to_date) and is_counted.
    """
    inward = movements[movements["quantity_change"].astype(float) > 0]
    moved = inward.groupby([*STOCK_KEY, "occurred_on"], as_index=False)["quantity_change"].sum()
    moved = moved.rename(columns={"quantity_change": "quantity", "occurred_on": "received_on"})
    moved = moved.assign(lot_id=[f"movement-{day}" for day in moved["received_on"]], expires_on=None, unit_cost=np.nan)
    parts = []
    for frame, arrival in ((lots, "as_of"), (receipts, "received_on"), (moved, "received_on")):
        group, day = positions(frame, groups, STOCK_KEY), day_numbers(frame[arrival], to_date)
        is_counted = frame is lots
        types = {"quantity": float, "unit_cost": float, "received_on": object, "expires_on": object, "lot_id": str}
        part = frame[list(LOT_COLUMNS)].astype(types).assign(group=group, day=day, is_counted=is_counted)
        parts.append(part if is_counted else part[(day >= counted_on[group]) & (day < 0)])
    return pd.concat(parts, ignore_index=True)


def _taken(
    movements: pd.DataFrame, consumption: pd.DataFrame, groups: pd.DataFrame, counted_on: np.ndarray, to_date: date
) -> pd.DataFrame:
    """What left each stock from its count to before to_date: group, day (number, from to_date), quantity above zero."""
    outward = movements[movements["quantity_change"].astype(float) < 0]
    events = pd.concat(
        [
            outward[STOCK_KEY].assign(on=outward["occurred_on"], quantity=-outward["quantity_change"].astype(float)),
            consumption[STOCK_KEY].assign(
                on=consumption["consumed_on"], quantity=consumption["quantity"].astype(float)
            ),
        ],
        ignore_index=True,
    )
    events = events.assign(group=positions(events, groups, STOCK_KEY), day=day_numbers(events["on"], to_date))
    since_count = (events["day"] >= counted_on[events["group"]]) & (events["day"] < 0)
    return events.loc[since_count, ["group", "day", "quantity"]].sort_values(["group", "day", "quantity"])


def _keeping(supply: pd.DataFrame, items: pd.DataFrame | None) -> tuple[np.ndarray, np.ndarray]:
    """Shelf life and removal days of each lot. A counted lot has no shelf life: its count says whether it expires."""
    if items is None:
        return np.full(len(supply), np.nan), np.zeros(len(supply))
    at = positions(supply, items, ["tenant_id", "item_id"])
    shelf_life_days = np.where(supply["is_counted"], np.nan, looked_up(items["shelf_life_days"], at))
    return shelf_life_days, looked_up(items["removal_days"], at, 0.0)


def _remaining(supply: pd.DataFrame) -> pd.DataFrame:
    """The lots that hold something, in a fixed order."""
    kept = supply[supply["quantity"] > 0].sort_values([*STOCK_KEY, "day", "lot_id"], ignore_index=True)
    return kept[list(LOT_COLUMNS)]


def _unexplained(groups: pd.DataFrame, beyond: np.ndarray, supply: pd.DataFrame, to_date: date) -> pd.DataFrame:
    """Exceptions where the records took more than there was, or counted less than nothing."""
    below = np.zeros(len(groups))
    np.add.at(below, supply["group"].to_numpy(), -supply["quantity"].clip(upper=0.0).to_numpy())
    rows = []
    for code, amounts, what in (
        ("stock_below_zero", beyond, "more was taken from stock than was recorded there"),
        ("negative_count", below, "the count holds a lot below zero"),
    ):
        for at in np.flatnonzero(amounts > NOTHING).tolist():
            tenant_id, location_id, item_id = groups.iloc[at]
            message = f"{item_id}: {what}, by {figure(amounts[at])} before {to_date}; the stock was taken as zero"
            remedy = f"Count the stock of {item_id} at {location_id} and import it"
            rows.append((tenant_id, "procurement_plans", location_id, "item", item_id, code, message, remedy))
    return exceptions_of(sorted(rows))
