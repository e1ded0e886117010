"""The production link: how many batches of each product to make where, from forecasts, orders and stock at hand.

What belongs here: bringing rows, calendars and master data of all tenants of a batch to the newsvendor, and saying in
words what could not be known. What does not: the distributions and the choice of batches (distributions, newsvendor),
and when in the night a batch is mixed and baked.

One selling day is planned by itself: what is left at its end counts as waste, and stock of products that keep for
longer is used first on the plan date. Days after it are tentative: same rule, without stock. A place of production is
open when any location that it serves is.

Customer orders are certain, and come on top of the forecast of walk-in demand, which is taken as it is: a history of
sales that holds collected orders forecasts them a second time.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pandas as pd

from planning.distributions import QuantileDemand, is_crossed, pool_independent
from planning.frames import PLAN_DAYS, QUANTILE_LEVELS, ROUNDING, Panel, exceptions_of, set_aside_of
from planning.keys import looked_up, positions
from planning.newsvendor import (
    BatchChoice,
    BatchRules,
    UnitCosts,
    batch_marginal_values,
    best_batches,
    optimal_quantity,
    outcome_of,
    unit_costs,
)

LINK = "production_plans"

LINE_COLUMNS = (
    "tenant_id",
    "plan_date",
    "location_id",
    "product_id",
    "orders_units",
    "mean_demand_units",
    "critical_ratio",
    "is_default_critical_ratio",
    "optimal_units",
    "opening_usable_units",
    "batch_size_units",
    "batches",
    "quantity_units",
    "expected_sales_units",
    "expected_waste_units",
    "expected_lost_units",
    "expected_profit",
    "sold_out_probability",
    "limited_by",
    "unit_price",
    "variable_cost",
    "salvage_value",
    "goodwill_cost",
    "batch_marginal_values",
    "horizon_units",
)
"""Columns of plans.production_line except the plan's id."""

PRODUCT = ["tenant_id", "product_id"]
SERIES = ["tenant_id", "location_id", "product_id"]
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


@dataclass(frozen=True)
class ProductionPlans:
    """What to make.

    lines: one row per tenant, location of production and product, with LINE_COLUMNS, sorted by that key. Lists of
    numbers are in `batch_marginal_values` (one per batch made; see plan_production) and `horizon_units` (one per day).
    planned: keys tenant_id, location_id (where it is made), product_id in the order of lines; horizon_units (n, 14).
    exceptions, set_aside: see planning.frames.
    """

    lines: pd.DataFrame
    planned: Panel
    exceptions: pd.DataFrame
    set_aside: pd.DataFrame


@dataclass(frozen=True)
class _Selling:
    """What each selling location asks for, sorted by where it is made: keys with made_at_location_id, the product's
    columns and default_critical_ratio; units per day, of walk-in customers (n, 14, levels) and orders (n, 14)."""

    keys: pd.DataFrame
    is_open: np.ndarray
    quantile_units: np.ndarray
    orders_units: np.ndarray


@dataclass(frozen=True)
class _Making:
    """What each place of production makes of each product: keys with location_id where it is made, and the product's
    columns; demand (n, 14) with orders; per row (n,) opening units, costs and rules; per day (n, 14) the rest."""

    keys: pd.DataFrame
    demand: QuantileDemand
    orders_units: np.ndarray
    opening_units: np.ndarray
    costs: UnitCosts
    is_default: np.ndarray
    rules: BatchRules
    is_open: np.ndarray
    is_made: np.ndarray
    choice: BatchChoice

    @property
    def batches(self) -> np.ndarray:
        """Batches made on each day (n, 14)."""
        return np.where(self.is_made, self.choice.batches, 0)

    @property
    def horizon_units(self) -> np.ndarray:
        """Units made on each day (n, 14)."""
        return np.round(self.batches * self.rules.batch_size_units[:, None], ROUNDING)


def plan_production(
    forecasts: Panel,
    *,
    assortment: pd.DataFrame,
    products: pd.DataFrame,
    orders: pd.DataFrame,
    opening_lots: pd.DataFrame,
    tenants: pd.DataFrame,
    plan_date: date,
) -> ProductionPlans:
    """The batches with the highest expected profit for the plan date, and tentative quantities for the 13 days after.

    forecasts: keys tenant_id, location_id (where it sells), product_id; mean_units and is_open (n, 14) and
        quantile_units (n, 14, 9) from plan_date on, in units of walk-in demand at QUANTILE_LEVELS.
    assortment: tenant_id, location_id, product_id, made_at_location_id.
    products: tenant_id, product_id, batch_size_units, batch_min, batch_multiple, batch_max_per_day (NaN: no limit),
        batch_fixed_cost, made_on_weekdays (lists), shelf_life_days (NaN: keeps), and money per unit: unit_price,
        variable_cost (NaN: unknown), salvage_value, goodwill_cost.
    orders: tenant_id, location_id, product_id, due_on, quantity_units; standing orders expanded to dates.
    opening_lots: tenant_id, location_id, item_id, quantity, expires_on (none: keeps). Those of the product at the place
        of production reduce what the plan date makes, unless it is a product of the day (shelf life of one day).
    tenants: tenant_id, default_critical_ratio.

    mean_demand_units is the mean of the quantile curve with the orders, so that on an open day
    expected waste - expected lost = quantity_units + opening_usable_units - mean_demand_units. optimal_units is the
    best supply before batches, opening stock included; expected_profit counts that stock at its cost, as if made. Where
    price or cost is unknown or leaves no ratio, the tenant's default critical ratio decides, an exception row says so,
    and batch_marginal_values are in shares of Cu + Co instead of money, without the fixed cost of a batch, which they
    cannot be compared with.

    Raises ValueError when the forecasts do not cover the 14 days from plan_date.
    """
    if forecasts.first_day != plan_date or forecasts.days != PLAN_DAYS:
        raise ValueError(f"forecasts must hold {PLAN_DAYS} days from {plan_date}")
    set_aside = _unplannable(forecasts, products, orders, tenants)
    aside = set(set_aside["tenant_id"])
    forecasts = forecasts.select(~forecasts.keys["tenant_id"].isin(aside).to_numpy())
    orders = _orders_within(orders[~orders["tenant_id"].isin(aside)], plan_date)

    selling, problems = _selling(forecasts, assortment, products, orders, tenants)
    making = _making(selling, opening_lots, plan_date)
    lines = _lines(making, plan_date)
    planned = Panel(lines[SERIES].copy(), {"horizon_units": making.horizon_units}, plan_date)
    problems += [*_crossing_problems(selling), *_cost_problems(making), *_batch_problems(making, plan_date)]
    return ProductionPlans(lines, planned, exceptions_of(sorted(problems)), set_aside)


# ---------------------------------------------------------------- input


def _unplannable(forecasts: Panel, products: pd.DataFrame, orders: pd.DataFrame, tenants: pd.DataFrame) -> pd.DataFrame:
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


def _orders_within(orders: pd.DataFrame, plan_date: date) -> pd.DataFrame:
    """Orders of the horizon: units per series and `day` from the plan date."""
    due_on = pd.to_datetime(orders["due_on"])
    day = (due_on - pd.Timestamp(plan_date)).dt.days
    within = orders[SERIES].assign(day=day, orders_units=orders["quantity_units"].astype(float))
    within = within[(day >= 0) & (day < PLAN_DAYS)]
    return within.groupby([*SERIES, "day"], sort=True, as_index=False)["orders_units"].sum()


def _selling(
    forecasts: Panel, assortment: pd.DataFrame, products: pd.DataFrame, orders: pd.DataFrame, tenants: pd.DataFrame
) -> tuple[_Selling, list[tuple]]:
    """Forecast and order rows joined to where and how they are made, and the rows that nothing is known of.

    A product that is ordered but not forecast has orders only; it is open when its location is.
    """
    forecast_keys = forecasts.keys[SERIES]
    keys = pd.concat([forecast_keys, orders[SERIES]]).drop_duplicates(SERIES, ignore_index=True)
    keys["forecast_row"] = positions(keys, forecast_keys, SERIES)
    keys = keys.merge(assortment[[*SERIES, "made_at_location_id"]], on=SERIES, how="left", validate="many_to_one")
    products = products[[*PRODUCT, "made_on_weekdays", *NUMBERS]]
    keys = keys.merge(products, on=PRODUCT, how="left", validate="many_to_one", indicator="product")
    keys = keys.merge(tenants[["tenant_id", "default_critical_ratio"]], on="tenant_id", validate="many_to_one")

    is_placed = keys["made_at_location_id"].notna()
    is_known = keys["product"] == "both"
    problems = _exceptions(
        keys[~is_placed],
        "missing_made_at",
        "it is forecast or ordered here, but where it is made is not known: nothing is planned",
        "add the product to the location's assortment, with the location that makes it",
    )
    problems += _exceptions(
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
    quantile_units = np.zeros((len(keys), PLAN_DAYS, len(QUANTILE_LEVELS)))
    quantile_units[is_forecast] = forecasts["quantile_units"][row[is_forecast]]
    quantile_units[~is_open] = 0

    orders_units = np.zeros((len(keys), PLAN_DAYS))
    position = positions(orders, keys, SERIES)
    known = orders[position >= 0]
    orders_units[position[position >= 0], known["day"].to_numpy(dtype=int)] = known["orders_units"]
    on_closed = np.where(is_open, 0, orders_units)
    problems += _order_problems(
        _at_maker(keys),
        forecasts.first_day,
        on_closed,
        code="order_on_closed_day",
        why="the location that sells it is closed then: not planned",
        remedy="open the location on that day, or move the order",
    )
    return _Selling(keys, is_open, quantile_units, np.where(is_open, orders_units, 0)), problems


def _location_is_open(forecasts: Panel, keys: pd.DataFrame) -> np.ndarray:
    """Per key and day whether its location sells anything; open where no product of it is forecast."""
    place = ["tenant_id", "location_id"]
    groups = forecasts.keys.groupby(place, sort=True).ngroup().to_numpy()
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    is_open = np.ones((len(starts) + 1, PLAN_DAYS), dtype=bool)  # the last for a location that is not known
    is_open[:-1] = _reduce(np.logical_or, forecasts["is_open"][order], starts)
    return is_open[positions(keys, forecasts.keys.iloc[order[starts]], place)]


def _making(selling: _Selling, opening_lots: pd.DataFrame, plan_date: date) -> _Making:
    """Demand pooled over the locations that a place of production serves, and the batches that it is worth."""
    group = ["tenant_id", "made_at_location_id", "product_id"]
    starts = np.flatnonzero(~selling.keys.duplicated(group).to_numpy())
    made = _at_maker(selling.keys.iloc[starts]).reset_index(drop=True)
    is_open = _reduce(np.logical_or, selling.is_open, starts)
    orders_units = _reduce(np.add, selling.orders_units, starts)
    walk_in = QuantileDemand.from_quantiles(QUANTILE_LEVELS, selling.quantile_units)
    demand = pool_independent(walk_in, starts).shifted(orders_units)

    costs, is_default = _costs_or_default(made)
    rules = _batch_rules(made, is_default)
    opening_units = _opening_usable(made, opening_lots, plan_date)
    opening_by_day = np.zeros_like(orders_units)
    opening_by_day[:, 0] = opening_units
    choice = best_batches(
        demand,
        costs.for_each_day(),
        rules.for_each_day(),
        opening_units=opening_by_day,
        committed_units=orders_units,
    )
    return _Making(
        made,
        demand,
        orders_units,
        opening_units,
        costs,
        is_default,
        rules,
        is_open,
        is_open & _made_on(made["made_on_weekdays"], plan_date),
        choice,
    )


def _opening_usable(made: pd.DataFrame, opening_lots: pd.DataFrame, plan_date: date) -> np.ndarray:
    """Units of each product at the place of production that can still be sold on the plan date."""
    expires_on = pd.to_datetime(opening_lots["expires_on"])
    lots = opening_lots[(expires_on.isna() | (expires_on >= pd.Timestamp(plan_date))).to_numpy()]
    lots = lots[["tenant_id", "location_id", "item_id"]].assign(quantity=lots["quantity"].astype(float))
    stock = lots.groupby(["tenant_id", "location_id", "item_id"], sort=True, as_index=False)["quantity"].sum()
    stock = stock.rename(columns={"item_id": "product_id"})
    units = looked_up(stock["quantity"], positions(made, stock, SERIES), default=0.0)
    # A product of the day that is left over from yesterday is day-old: customers take it at its salvage value only.
    return np.where((made["shelf_life_days"] == 1).to_numpy(), 0.0, np.maximum(units, 0))


def _made_on(made_on_weekdays: pd.Series, plan_date: date) -> np.ndarray:
    """Whether each product is made on each day of the horizon (n, 14)."""
    weekdays = (plan_date.weekday() + np.arange(PLAN_DAYS)) % 7
    by_weekday = np.zeros((len(made_on_weekdays), 7), dtype=bool)
    counts = made_on_weekdays.map(len).to_numpy(dtype=int)
    listed = [weekday for days in made_on_weekdays for weekday in days]
    by_weekday[np.repeat(np.arange(len(counts)), counts), np.array(listed, dtype=int)] = True
    return by_weekday[:, weekdays]


def _unit_costs(made: pd.DataFrame) -> UnitCosts:
    return unit_costs(
        made["unit_price"], made["variable_cost"], _or_zero(made, "salvage_value"), _or_zero(made, "goodwill_cost")
    )


def _costs_or_default(made: pd.DataFrame) -> tuple[UnitCosts, np.ndarray]:
    """Cu and Co, of the default critical ratio (with Cu + Co = 1) where prices give none, and which those are."""
    money = _unit_costs(made)
    is_default = ~((money.underage > 0) & (money.overage > 0))
    default = made["default_critical_ratio"].to_numpy()
    underage = np.where(is_default, default, money.underage)
    overage = np.where(is_default, 1 - default, money.overage)
    return UnitCosts(underage, overage), is_default


def _batch_rules(made: pd.DataFrame, is_default: np.ndarray) -> BatchRules:
    limit = made["batch_max_per_day"].to_numpy()
    return BatchRules(
        batch_size_units=np.round(made["batch_size_units"], ROUNDING),
        batch_min=_or_zero(made, "batch_min"),
        batch_multiple=made["batch_multiple"],
        batch_max=np.where(np.isnan(limit), np.inf, limit),
        batch_fixed_cost=np.where(is_default, 0, _or_zero(made, "batch_fixed_cost")),
    )


# ---------------------------------------------------------------- output


def _lines(making: _Making, plan_date: date) -> pd.DataFrame:
    """The lines of the plan date."""
    made, costs, rules, choice = making.keys, making.costs, making.rules, making.choice
    demand, opening_units = making.demand.select((slice(None), 0)), making.opening_units
    batches, quantity = making.batches[:, 0], making.horizon_units[:, 0]
    is_open, is_made = making.is_open[:, 0], making.is_made[:, 0]
    # Behind closed doors nothing is offered, so stock stays stock and is neither sold nor wasted.
    offered = np.where(is_open, quantity + opening_units, 0)
    outcome = outcome_of(demand, offered)
    salvage, goodwill = _or_zero(made, "salvage_value"), _or_zero(made, "goodwill_cost")
    profit = outcome.profit(made["unit_price"], made["variable_cost"], salvage, goodwill)
    optimal = optimal_quantity(demand, costs)
    values = batch_marginal_values(demand, batches, costs, rules, opening_units=opening_units)
    is_rounded = np.abs(quantity - np.maximum(optimal - opening_units, 0)) > 10.0**-ROUNDING
    is_limited_by_max, is_limited_by_min = choice.is_limited_by_max[:, 0], choice.is_limited_by_min[:, 0]
    limited_by = np.select(
        [~is_open, ~is_made, demand.highest <= 0, is_limited_by_max, is_limited_by_min, is_rounded],
        ["closed", "not_made_today", "no_demand", "batch_max", "batch_min", "batch"],
        "none",
    )
    columns = {
        "tenant_id": made["tenant_id"],
        "plan_date": plan_date,
        "location_id": made["location_id"],
        "product_id": made["product_id"],
        "orders_units": making.orders_units[:, 0],
        "mean_demand_units": demand.mean,
        "critical_ratio": costs.ratio,
        "is_default_critical_ratio": making.is_default,
        "optimal_units": optimal,
        "opening_usable_units": opening_units,
        "batch_size_units": rules.batch_size_units,
        "batches": batches,
        "quantity_units": quantity,
        "expected_sales_units": outcome.sales_units,
        "expected_waste_units": outcome.waste_units,
        "expected_lost_units": outcome.lost_units,
        "expected_profit": profit - _or_zero(made, "batch_fixed_cost") * batches,
        "sold_out_probability": 1 - demand.cdf(offered),
        "limited_by": limited_by,
        "unit_price": made["unit_price"],
        "variable_cost": made["variable_cost"],
        "salvage_value": salvage,
        "goodwill_cost": goodwill,
        "batch_marginal_values": pd.Series(values, dtype=object),
        "horizon_units": pd.Series(making.horizon_units.tolist(), dtype=object),
    }
    return pd.DataFrame(columns, index=made.index, columns=list(LINE_COLUMNS))


def _crossing_problems(selling: _Selling) -> list[tuple]:
    crossed = selling.keys[is_crossed(selling.quantile_units).any(axis=1)]
    return _exceptions(
        _at_maker(crossed),
        "crossed_quantiles",
        [f"its forecast quantiles at {place} descend: sorted before planning" for place in crossed["location_id"]],
        "train the tenant's forecast model again",
    )


def _cost_problems(making: _Making) -> list[tuple]:
    """What keeps prices from giving a critical ratio. A product may have more than one problem."""
    made = making.keys
    money = _unit_costs(made)
    found = (
        (
            made["unit_price"].isna(),
            "missing_price",
            "its price is not known",
            "import the product with its unit_price",
        ),
        (
            made["variable_cost"].isna(),
            "missing_cost",
            "its variable cost is not known",
            "import the product with its variable_cost",
        ),
        (
            money.underage <= 0,
            "no_margin",
            "a unit sold earns nothing, as price plus goodwill is at most the cost",
            "correct unit_price or variable_cost, or stop making the product",
        ),
        (
            money.overage <= 0,
            "salvage_above_cost",
            "a unit left over costs nothing, as its salvage value is at least the cost",
            "correct salvage_value or variable_cost",
        ),
    )
    default = "planned with the tenant's default critical ratio"
    return [
        row
        for has_problem, code, message, remedy in found
        for row in _exceptions(made[has_problem], code, f"{message}: {default}", remedy)
    ]


def _batch_problems(making: _Making, plan_date: date) -> list[tuple]:
    """Batch rules that contradict each other, and orders that they leave unmet."""
    rules, is_made = making.rules, making.is_made
    fewest = np.ceil(np.maximum(rules.batch_min, 1) / rules.batch_multiple) * rules.batch_multiple
    problems = _exceptions(
        making.keys[fewest > rules.batch_max],
        "batch_limits_contradict",
        "the fewest batches it may be made in are more than the most a day allows: the most is kept to",
        "lower batch_min or batch_multiple, or raise batch_max_per_day",
    )
    unmet = making.orders_units - making.horizon_units
    unmet[:, 0] -= making.opening_units
    unmet = np.where(unmet > 10.0**-ROUNDING, unmet, 0)
    problems += _order_problems(
        making.keys,
        plan_date,
        np.where(is_made, 0, unmet),
        code="order_on_day_not_made",
        why="it is not made on that weekday: not planned",
        remedy="add the weekday to made_on_weekdays, or move the order",
    )
    problems += _order_problems(
        making.keys,
        plan_date,
        np.where(is_made, unmet, 0),
        code="orders_above_batch_max",
        why="that is more than the batches of a day can hold: planned up to batch_max_per_day",
        remedy="raise batch_max_per_day, or move part of the order",
    )
    return problems


def _order_problems(
    keys: pd.DataFrame, first_day: date, units: np.ndarray, *, code: str, why: str, remedy: str
) -> list[tuple]:
    """One exception per product and first day of units (n, 14) of orders that are not planned for."""
    rows = np.flatnonzero(units.any(axis=1))
    days = (units[rows] > 0).argmax(axis=1)
    messages = [
        f"{units[row, day]:g} units are ordered for {first_day + timedelta(days=int(day))}, and {why}"
        for row, day in zip(rows, days, strict=True)
    ]
    return _exceptions(keys.iloc[rows], code, messages, remedy)


def _exceptions(keys: pd.DataFrame, code: str, message: str | Iterable[str], remedy: str) -> list[tuple]:
    """Exception rows about the products of these keys."""
    messages = [message] * len(keys) if isinstance(message, str) else message
    return [
        (tenant_id, LINK, location_id, "product", product_id, code, f"{product_id}: {text}", remedy)
        for (tenant_id, location_id, product_id), text in zip(
            keys[SERIES].itertuples(index=False), messages, strict=True
        )
    ]


# ---------------------------------------------------------------- rows and groups


def _reduce(function: np.ufunc, matrix: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """A matrix reduced over runs of rows that begin at `starts`."""
    return function.reduceat(matrix, starts, axis=0) if len(starts) else matrix


def _or_zero(made: pd.DataFrame, name: str) -> np.ndarray:
    """A column whose unknown values are 0, the default that the store gives it: salvage, goodwill and batch extras."""
    return made[name].fillna(0).to_numpy()


def _at_maker(selling_keys: pd.DataFrame) -> pd.DataFrame:
    """The keys with the place of production as their location."""
    return selling_keys.drop(columns="location_id").rename(columns={"made_at_location_id": "location_id"})
