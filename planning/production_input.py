"""What the production link reads: rows of all tenants of a batch brought together by where each product is made.

What belongs here: joining forecasts, orders, stock and master data, pooling the demand of the locations that a place
serves, and saying what is not known. What does not: how much is made (production).
"""

from dataclasses import dataclass
from datetime import date, datetime, time
from functools import cached_property

import numpy as np
import pandas as pd

from planning.distributions import QuantileDemand, pool_independent
from planning.frames import PLAN_DAYS, QUANTILE_LEVELS, ROUNDING, Panel, set_aside_of
from planning.keys import day_numbers, positions
from planning.newsvendor import BatchRules, UnitCosts, unit_costs
from planning.production_problems import LINK, SERIES, at_maker, exceptions_about, order_problems
from planning.shelf_life import LONGEST_LIFE_DAYS
from planning.workshop import PLACE, Workshop, as_datetime, instants, seconds_of_day

PRODUCT = ["tenant_id", "product_id"]
NUMBERS = (
    "batch_size_units",
    "batch_min",
    "batch_multiple",
    "batch_max_per_day",
    "batch_fixed_cost",
    "shelf_life_days",
    "unit_price",
    "variable_cost",
    "salvage_value",
    "goodwill_cost",
)


FRESHNESS_LOST_A_DAY = 0.05
"""Share of its price that a product is worth less with each day that it is older, while it can be sold: a convention. It
keeps products that outdate late or never from being made to the last unit that anybody may ask for."""

USUAL_READY_BY = time(8)
"""When the first units are needed where neither the product nor the opening of a location says so."""

DEMAND_DAYS = [*range(PLAN_DAYS), *(PLAN_DAYS - 7 + day % 7 for day in range(LONGEST_LIFE_DAYS))]
"""For each day of the horizon and of a life beyond, the day of the horizon that it is like: the last same weekday."""


@dataclass(frozen=True)
class Selling:
    """What each selling location asks for, sorted by where it is made: keys with made_at_location_id, the product's
    columns and default_critical_ratio; units per day, of walk-in customers (n, 14, levels) and orders (n, 14)."""

    keys: pd.DataFrame
    is_open: np.ndarray
    quantile_units: np.ndarray
    orders_units: np.ndarray


@dataclass(frozen=True)
class Making:
    """What each place of production makes of each product, before anything is decided.

    keys: location_id where it is made, and the product's columns. walk_in: demand (n, 14) without orders. Per row (n,):
    life_days (1 to LONGEST_LIFE_DAYS), keeps (for longer), costs, is_default (of them), rules, ready_by (local times).
    Per day (n, 14): orders_units, is_open, can_make. held_units (n, LONGEST_LIFE_DAYS): at hand on the plan date that can
    be sold for 1, 2, … more days, that day counted.
    """

    keys: pd.DataFrame
    walk_in: QuantileDemand
    orders_units: np.ndarray
    held_units: np.ndarray
    life_days: np.ndarray
    keeps: np.ndarray
    costs: UnitCosts
    is_default: np.ndarray
    rules: BatchRules
    is_open: np.ndarray
    can_make: np.ndarray
    ready_by: np.ndarray

    @cached_property
    def demand(self) -> QuantileDemand:
        """Walk-in demand and orders of the horizon (n, 14)."""
        return self.walk_in.shifted(self.orders_units)

    @cached_property
    def money_scale(self) -> np.ndarray:
        """What turns gains into money (n,): 1, or Cu + Co where a default critical ratio stands for prices or costs.

        Cu + Co = price + goodwill - salvage needs no cost. Without a price it is the cost over the share that falls to
        Co; without either, or with prices that make no sense, the mean of the tenant's other products, and 1 where it has
        none. It only weighs products against each other where an oven cannot hold them all.
        """
        made = self.keys
        salvage, goodwill = or_zero(made, "salvage_value"), or_zero(made, "goodwill_cost")
        stake = made["unit_price"].to_numpy() + goodwill - salvage
        by_cost = (made["variable_cost"].to_numpy() - salvage) / self.costs.overage
        stake = np.where(np.isnan(stake), by_cost, stake)
        is_usable = stake > 0
        tenant, _ = pd.factorize(made["tenant_id"])
        count = np.bincount(tenant, is_usable)
        total = np.bincount(tenant, np.where(is_usable, stake, 0))
        usual = np.divide(total, count, out=np.ones(len(count)), where=count > 0)
        return np.where(self.is_default, np.where(is_usable, stake, usual[tenant]), 1.0)

    @cached_property
    def aging_cost(self) -> np.ndarray:
        """What a unit is worth less with each day that it is older (n,), in the money of the costs."""
        price = self.keys["unit_price"].to_numpy()
        # Of the default critical ratio's Cu + Co = 1, which stands for a price.
        return FRESHNESS_LOST_A_DAY * np.where(self.is_default, 1.0, price)

    @property
    def opening_units(self) -> np.ndarray:
        """Units at hand that can be sold on the plan date (n,)."""
        return self.held_units.sum(axis=1)


def unplannable(forecasts: Panel, products: pd.DataFrame, orders: pd.DataFrame, tenants: pd.DataFrame) -> pd.DataFrame:
    """Tenants whose numbers cannot be computed with, the first reason of each."""
    keys, rows = forecasts.keys, []
    usable = np.ones(len(keys), dtype=bool)
    for name in ("mean_units", "quantile_units"):
        matrix = forecasts[name]
        usable &= (np.isfinite(matrix) & (matrix >= 0)).all(axis=tuple(range(1, matrix.ndim)))
    bad_forecasts = keys[~usable].sort_values(SERIES).groupby("tenant_id", sort=True).first().reset_index()
    for row in bad_forecasts.itertuples(index=False):
        reason = (
            f"the forecast of {row.product_id} at {row.location_id} is not a finite, non-negative number on all days"
        )
        rows.append((row.tenant_id, LINK, reason, "check the imported sales of that product and forecast again"))

    planned = pd.Index(pd.concat([keys["tenant_id"], orders["tenant_id"]]).unique())
    ratios = tenants.set_index("tenant_id")["default_critical_ratio"].astype(float).reindex(planned)
    for tenant_id, ratio in ratios[~((ratios > 0) & (ratios < 1))].items():
        reason = f"the default critical ratio {ratio} is not between 0 and 1"
        rows.append((tenant_id, LINK, reason, "set the tenant's default critical ratio, for example to 0.7"))

    sizes = products[products["tenant_id"].isin(planned)]
    size, multiple = (sizes[name].astype(float) for name in ("batch_size_units", "batch_multiple"))
    is_usable = np.isfinite(size) & (size > 0) & np.isfinite(multiple) & (multiple >= 1)
    for row in sizes[~is_usable].itertuples(index=False):
        reason = f"product {row.product_id} has no usable batch size: {row.batch_size_units} x {row.batch_multiple}"
        rows.append((row.tenant_id, LINK, reason, "give it a batch size above 0 and a batch multiple of 1 or more"))
    return set_aside_of(sorted(rows)).drop_duplicates("tenant_id", ignore_index=True)


def orders_within(orders: pd.DataFrame, plan_date: date) -> pd.DataFrame:
    """Orders of the horizon: units per series and `day` from the plan date."""
    due_on = pd.to_datetime(orders["due_on"])
    day = (due_on - pd.Timestamp(plan_date)).dt.days
    within = orders[SERIES].assign(day=day, orders_units=orders["quantity_units"].astype(float))
    within = within[(day >= 0) & (day < PLAN_DAYS)]
    return within.groupby([*SERIES, "day"], sort=True, as_index=False)["orders_units"].sum()


def selling_of(
    forecasts: Panel, assortment: pd.DataFrame, products: pd.DataFrame, orders: pd.DataFrame, tenants: pd.DataFrame
) -> tuple[Selling, list[tuple]]:
    """Forecast and order rows joined to where and how they are made, and the rows that nothing is known of.

    A product that is ordered but not forecast has orders only; it is open when its location is.
    """
    forecast_keys = forecasts.keys[SERIES]
    keys = pd.concat([forecast_keys, orders[SERIES]]).drop_duplicates(SERIES, ignore_index=True)
    keys["forecast_row"] = positions(keys, forecast_keys, SERIES)
    keys = keys.merge(assortment[[*SERIES, "made_at_location_id"]], on=SERIES, how="left", validate="many_to_one")
    # A time that nobody stated may come without its column.
    stated = products.assign(ready_by=products.get("ready_by"))
    products = stated[[*PRODUCT, "made_on_weekdays", "ready_by", *NUMBERS]]
    keys = keys.merge(products, on=PRODUCT, how="left", validate="many_to_one", indicator="product")
    keys = keys.merge(tenants[["tenant_id", "default_critical_ratio"]], on="tenant_id", validate="many_to_one")

    is_placed = keys["made_at_location_id"].notna()
    is_known = keys["product"] == "both"
    problems = exceptions_about(
        keys[~is_placed],
        "missing_made_at",
        "it is forecast or ordered here, but where it is made is not known: nothing is planned",
        "add the product to the location's assortment, with the location that makes it",
    )
    problems += exceptions_about(
        keys[is_placed & ~is_known],
        "missing_product",
        "it is forecast or ordered here, but is not among the products: nothing is planned",
        "import the product with its batch size, price and cost",
    )
    keys = keys[is_placed & is_known]
    keys = keys.sort_values(["tenant_id", "made_at_location_id", "product_id", "location_id"], ignore_index=True)
    keys[list(NUMBERS)] = keys[list(NUMBERS)].astype(float)
    keys["default_critical_ratio"] = keys["default_critical_ratio"].astype(float)

    row = keys["forecast_row"].to_numpy()
    is_forecast = row >= 0
    is_open = _location_is_open(forecasts, keys)
    is_open[is_forecast] = forecasts["is_open"][row[is_forecast]]
    # -1, which takes the last row, is put right with the closed days: one copy of the largest matrix of all.
    quantile_units = (
        forecasts["quantile_units"][row] if len(forecasts) else np.zeros((len(keys), PLAN_DAYS, len(QUANTILE_LEVELS)))
    )
    quantile_units[~is_open | ~is_forecast[:, None]] = 0

    orders_units = np.zeros((len(keys), PLAN_DAYS))
    position = positions(orders, keys, SERIES)
    known = orders[position >= 0]
    orders_units[position[position >= 0], known["day"].to_numpy(dtype=int)] = known["orders_units"]
    on_closed = np.where(is_open, 0, orders_units)
    problems += order_problems(
        at_maker(keys),
        forecasts.first_day,
        on_closed,
        code="order_on_closed_day",
        why="the location that sells it is closed then: not planned",
        remedy="open the location on that day, or move the order",
    )
    return Selling(keys, is_open, quantile_units, np.where(is_open, orders_units, 0)), problems


def _location_is_open(forecasts: Panel, keys: pd.DataFrame) -> np.ndarray:
    """Per key and day whether its location sells anything; open where no product of it is forecast."""
    place = ["tenant_id", "location_id"]
    groups = forecasts.keys.groupby(place, sort=True).ngroup().to_numpy()
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    is_open = np.ones((len(starts) + 1, PLAN_DAYS), dtype=bool)  # the last for a location that is not known
    is_open[:-1] = _reduce(np.logical_or, forecasts["is_open"][order], starts)
    return is_open[positions(keys, forecasts.keys.iloc[order[starts]], place)]


def making_of(selling: Selling, opening_lots: pd.DataFrame, workshop: Workshop, plan_date: date) -> Making:
    """Demand pooled over the locations that a place of production serves, with what is at hand there."""
    group = ["tenant_id", "made_at_location_id", "product_id"]
    starts = np.flatnonzero(~selling.keys.duplicated(group).to_numpy())
    made = at_maker(selling.keys.iloc[starts]).reset_index(drop=True)
    is_open = _reduce(np.logical_or, selling.is_open, starts)
    walk_in = QuantileDemand.from_quantiles(QUANTILE_LEVELS, selling.quantile_units)
    costs, is_default = costs_or_default(made)
    stated_life = made["shelf_life_days"].to_numpy()
    keeps = ~(stated_life <= LONGEST_LIFE_DAYS)
    life_days = np.where(keeps, LONGEST_LIFE_DAYS, np.nan_to_num(stated_life)).astype(np.int64)
    return Making(
        keys=made,
        walk_in=pool_independent(walk_in, starts),
        orders_units=_reduce(np.add, selling.orders_units, starts),
        held_units=_held(made, opening_lots, life_days, plan_date),
        life_days=life_days,
        keeps=keeps,
        costs=costs,
        is_default=is_default,
        rules=batch_rules(made, is_default),
        is_open=is_open,
        can_make=is_open & _made_on(made["made_on_weekdays"], plan_date),
        ready_by=_ready_by(selling.keys, starts, workshop, plan_date),
    )


def _held(made: pd.DataFrame, opening_lots: pd.DataFrame, life_days: np.ndarray, plan_date: date) -> np.ndarray:
    """Units at the place of production by the days that they can still be sold (n, LONGEST_LIFE_DAYS), today counted.

    A lot is not sold for longer than the product is: what expires later, or has no date, counts as made today.
    """
    keys = opening_lots[["tenant_id", "location_id", "item_id"]].rename(columns={"item_id": "product_id"})
    row = positions(keys, made, SERIES)
    days = day_numbers(opening_lots["expires_on"], plan_date) + 1
    units = opening_lots["quantity"].astype(float).to_numpy()
    # A product of the day that is left over from yesterday is day-old: customers take it at its salvage value only.
    is_usable = (row >= 0) & (days >= 1) & (life_days[row] > 1) if len(made) else np.zeros(len(row), dtype=bool)
    lots = pd.DataFrame({"row": row, "days": days, "units": units})[is_usable].sort_values(["row", "days", "units"])
    held = np.zeros((len(made), LONGEST_LIFE_DAYS))
    at = lots["row"].to_numpy()
    np.add.at(held, (at, np.minimum(lots["days"].to_numpy(), life_days[at]) - 1), lots["units"].to_numpy())
    return np.maximum(held, 0)


def _ready_by(selling_keys: pd.DataFrame, starts: np.ndarray, workshop: Workshop, plan_date: date) -> np.ndarray:
    """When the first units are needed (n,), local: the product's time, else the first opening of the locations served."""
    opens = np.full(len(selling_keys), np.nan)
    if len(workshop.opening):
        opening = workshop.opening[workshop.opening["weekday"].astype(int) == plan_date.weekday()]
        row = positions(selling_keys, opening.drop_duplicates(PLACE), PLACE)
        first = opening.assign(seconds=seconds_of_day(opening["opens_at"])).groupby(PLACE, sort=False)["seconds"].min()
        opens = np.where(row >= 0, first.to_numpy()[row] if len(first) else np.nan, np.nan)
    opens = _reduce(np.fmin, opens, starts)
    stated = seconds_of_day(selling_keys["ready_by"])[starts]
    usual = USUAL_READY_BY.hour * 3600
    seconds = np.where(np.isnan(stated), np.where(np.isnan(opens), usual, opens), stated)
    distinct, at = np.unique(seconds, return_inverse=True)
    times = [time(int(each) // 3600, int(each) % 3600 // 60, int(each) % 60) for each in distinct]
    return np.array([*times, None], dtype=object)[at]


def ready_at(
    making_keys: pd.DataFrame, ready_by: np.ndarray, tenants: pd.DataFrame, plan_date: date
) -> list[datetime | None]:
    """The local times `ready_by` (n,) of the plan date as instants in UTC; None where the tenant's time zone is not known."""
    if "timezone" not in tenants:
        return [None] * len(ready_by)
    zones = making_keys["tenant_id"].map(tenants.set_index("tenant_id")["timezone"])
    is_known = zones.notna().to_numpy()
    seconds = np.where(is_known, seconds_of_day(pd.Series(ready_by, dtype=object)), np.nan)
    at = instants(
        zones.where(is_known, "UTC").to_numpy(), np.array([[plan_date]], dtype="datetime64[D]"), seconds[:, None]
    )
    distinct, which = np.unique(at[:, 0], return_inverse=True)
    moments = [as_datetime(each) for each in distinct.tolist()]
    return [moments[each] for each in which.tolist()]


def _made_on(made_on_weekdays: pd.Series, plan_date: date) -> np.ndarray:
    """Whether each product is made on each day of the horizon (n, 14)."""
    weekdays = (plan_date.weekday() + np.arange(PLAN_DAYS)) % 7
    by_weekday = np.zeros((len(made_on_weekdays), 7), dtype=bool)
    counts = made_on_weekdays.map(len).to_numpy(dtype=int)
    listed = [weekday for days in made_on_weekdays for weekday in days]
    by_weekday[np.repeat(np.arange(len(counts)), counts), np.array(listed, dtype=int)] = True
    return by_weekday[:, weekdays]


def unit_costs_of(made: pd.DataFrame) -> UnitCosts:
    return unit_costs(
        made["unit_price"], made["variable_cost"], or_zero(made, "salvage_value"), or_zero(made, "goodwill_cost")
    )


def costs_or_default(made: pd.DataFrame) -> tuple[UnitCosts, np.ndarray]:
    """Cu and Co, of the default critical ratio (with Cu + Co = 1) where prices give none, and which those are."""
    money = unit_costs_of(made)
    is_default = ~((money.underage > 0) & (money.overage > 0))
    default = made["default_critical_ratio"].to_numpy()
    underage = np.where(is_default, default, money.underage)
    overage = np.where(is_default, 1 - default, money.overage)
    return UnitCosts(underage, overage), is_default


def batch_rules(made: pd.DataFrame, is_default: np.ndarray) -> BatchRules:
    limit = made["batch_max_per_day"].to_numpy()
    return BatchRules(
        batch_size_units=np.round(made["batch_size_units"], ROUNDING),
        batch_min=or_zero(made, "batch_min"),
        batch_multiple=made["batch_multiple"],
        batch_max=np.where(np.isnan(limit), np.inf, limit),
        batch_fixed_cost=np.where(is_default, 0, or_zero(made, "batch_fixed_cost")),
    )


def _reduce(function: np.ufunc, matrix: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """A matrix reduced over runs of rows that begin at `starts`."""
    return function.reduceat(matrix, starts, axis=0) if len(starts) else matrix


def or_zero(made: pd.DataFrame, name: str) -> np.ndarray:
    """A column whose unknown values are 0, the default that the store gives it: salvage, goodwill and batch extras."""
    return made[name].fillna(0).to_numpy()
