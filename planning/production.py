"""The production link: how many batches of each product to make where, from forecasts, orders and stock at hand.

What belongs here: taking the days of the horizon one after the other, from what is worth making to what capacity and
people leave of it, and the lines that say so. What does not: the rows read (production_input), the choice of batches
(newsvendor, shelf_life), the room in ovens and mixers (capacity), doughs (doughs), and when in the night a batch is
mixed and baked (scheduling).

What is sold on its day only is planned day by day: what is left at its end is waste. What keeps is planned by its age:
stock at hand is sold first, and what a day is expected to leave is there on the next. Days after the plan date are
tentative. A place of production is open when any location that it serves is.

Customer orders are certain, and come on top of the forecast of walk-in demand, which is taken as it is: a history of
sales that holds collected orders forecasts them a second time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, time

import numpy as np
import pandas as pd

from planning.capacity import Limits
from planning.distributions import deviation_between, is_crossed
from planning.doughs import DOUGH_COLUMNS, plan_doughs
from planning.frames import EXCEPTION_COLUMNS, PLAN_DAYS, ROUNDING, Panel, exceptions_of, frame_of
from planning.keys import positions
from planning.newsvendor import Outcome
from planning.production_days import Asked, Days, Held, take_days
from planning.production_input import (
    Making,
    making_of,
    or_zero,
    orders_within,
    ready_at,
    selling_of,
    unit_costs_of,
    unplannable,
)
from planning.production_problems import (
    SERIES,
    capacity_problems,
    cost_problems,
    crossing_problems,
    early_start_problems,
    exceptions_about,
    override_problems,
    rule_problems,
    unmet_order_problems,
)
from planning.scheduling import schedule_day
from planning.workshop import Workshop

TIMES_HELD = 3
"""How often a tenant is planned again for want of time on the clock; what is then still too late is shown as late."""

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
    "unlimited_batches",
    "recommended_batches",
    "batches",
    "quantity_units",
    "expected_sales_units",
    "expected_waste_units",
    "expected_lost_units",
    "expected_carried_units",
    "expected_profit",
    "sold_out_probability",
    "limited_by",
    "limiting_resource_id",
    "override_by",
    "override_reason",
    "unit_price",
    "variable_cost",
    "salvage_value",
    "goodwill_cost",
    "batch_marginal_values",
    "horizon_units",
    "deviation_units",
    "batch_resource_ids",
    "batch_starts_at",
    "batch_bakes_at",
    "batch_ready_at",
    "ready_by",
    "is_late",
)
"""Columns of plans.production_line except the plan's id."""


@dataclass(frozen=True)
class ProductionPlans:
    """What to make.

    lines: one row per tenant, location of production and product, with LINE_COLUMNS, sorted by that key. Lists of
    numbers are in `batch_marginal_values` (one per batch made; see plan_production) and `horizon_units` and
    `deviation_units` (one per day); lists of times, one per batch, are empty where no process steps are known.
    planned: keys tenant_id, location_id (where it is made), product_id in the order of lines; horizon_units and
    deviation_units (n, 14).
    doughs: what is mixed for the plan date, with DOUGH_COLUMNS. exceptions, set_aside: see planning.frames.
    """

    lines: pd.DataFrame
    planned: Panel
    doughs: pd.DataFrame
    exceptions: pd.DataFrame
    set_aside: pd.DataFrame


def plan_production(
    forecasts: Panel,
    *,
    assortment: pd.DataFrame,
    products: pd.DataFrame,
    orders: pd.DataFrame,
    opening_lots: pd.DataFrame,
    tenants: pd.DataFrame,
    plan_date: date,
    recipes: pd.DataFrame | None = None,
    workshop: Workshop | None = None,
    overrides: pd.DataFrame | None = None,
) -> ProductionPlans:
    """The batches with the highest expected profit for the plan date, and tentative quantities for the 13 days after.

    forecasts: keys tenant_id, location_id (where it sells), product_id; mean_units and is_open (n, 14) and
        quantile_units (n, 14, 9) from plan_date on, in units of walk-in demand at QUANTILE_LEVELS.
    assortment: tenant_id, location_id, product_id, made_at_location_id.
    products: tenant_id, product_id, batch_size_units, batch_min, batch_multiple, batch_max_per_day (NaN: no limit),
        batch_fixed_cost, made_on_weekdays (lists), shelf_life_days (NaN: keeps), ready_by (datetime.time; none, or no such
        column: when the first location that it serves opens), and money per unit: unit_price, variable_cost (NaN:
        unknown), salvage_value, goodwill_cost.
    orders: tenant_id, location_id, product_id, due_on, quantity_units; standing orders expanded to dates.
    opening_lots: tenant_id, location_id, item_id, quantity, expires_on (none: keeps). Those of the product at the place
        of production are sold before what is made, oldest first, unless it is a product of the day (shelf life of one
        day).
    tenants: tenant_id, default_critical_ratio, timezone (IANA name; without it no times are given), run_date and
        as_of_time (when the plan is made, local; without them nothing is said of what starts before).
    recipes: tenant_id, output_item_id, output_quantity, yield_frac, item_id, quantity, scrap_frac. Without
        them there are neither doughs nor times, and nothing limits the batches; nor does it without a workshop.
    overrides: tenant_id, location_id (where it is made), product_id, batches, actor, reason; those in force.

    unlimited_batches are worth making if there were room for all, recommended_batches are those that there is room for,
    and `batches` what is made: a person's number where there is one. mean_demand_units is the mean of the quantile
    curve with the orders, so that on an open day, for a product of the day, expected waste - expected lost =
    quantity_units + opening_usable_units - mean_demand_units. Of a product that keeps, expected_sales_units and
    expected_lost_units are those of the plan date, expected_carried_units are left that night for the day after,
    and expected_waste_units outdate in their life, of what is there and made. optimal_units is the best supply
    before batches, opening stock included; expected_profit counts that stock at its cost, as if made, and what is
    carried over at its cost too, while batch_marginal_values of a product that keeps count what it loses in
    freshness (see planning/shelf_life, FRESHNESS_LOST_A_DAY). Where price or cost is unknown or leaves no ratio,
    the tenant's default critical ratio decides, an exception row says so, and batch_marginal_values are in shares
    of Cu + Co instead of money, without the fixed cost of a batch, which they cannot be compared with.

    Raises ValueError when the forecasts do not cover the 14 days from plan_date.
    """
    if forecasts.first_day != plan_date or forecasts.days != PLAN_DAYS:
        raise ValueError(f"forecasts must hold {PLAN_DAYS} days from {plan_date}")

    def planned(tenant_ids: pd.Series | None, held: pd.DataFrame | None) -> ProductionPlans:
        """The plans of these tenants, or of all, with no more batches than `held`."""

        def of(frame: pd.DataFrame) -> pd.DataFrame:
            return frame if tenant_ids is None else frame[frame["tenant_id"].isin(tenant_ids)]

        return _planned(
            forecasts
            if tenant_ids is None
            else forecasts.select(forecasts.keys["tenant_id"].isin(tenant_ids).to_numpy()),
            assortment=of(assortment),
            products=of(products),
            orders=of(orders),
            opening_lots=of(opening_lots),
            tenants=of(tenants),
            plan_date=plan_date,
            recipes=None if recipes is None else of(recipes),
            workshop=Workshop.empty() if workshop is None else workshop,
            overrides=None if overrides is None else of(overrides),
            held=held,
        )

    plans = planned(None, None)
    held = frame_of((*SERIES, "batches", "resource_id"))
    for _ in range(TIMES_HELD):
        late = _ready_after_the_day(plans.lines, tenants, plan_date)
        if late.empty:
            break
        held = late if held.empty else pd.concat([late, held], ignore_index=True).drop_duplicates(SERIES)
        plans = _with_tenants_of(plans, planned(late["tenant_id"].drop_duplicates(), held))
    return plans


def _planned(
    forecasts: Panel,
    *,
    assortment: pd.DataFrame,
    products: pd.DataFrame,
    orders: pd.DataFrame,
    opening_lots: pd.DataFrame,
    tenants: pd.DataFrame,
    plan_date: date,
    recipes: pd.DataFrame | None,
    workshop: Workshop,
    overrides: pd.DataFrame | None,
    held: pd.DataFrame | None,
) -> ProductionPlans:
    """plan_production in one go. held: tenant_id, location_id, product_id, batches (at most so many), resource_id (why)."""
    set_aside = unplannable(forecasts, products, orders, tenants)
    aside = set(set_aside["tenant_id"])
    forecasts = forecasts.select(~forecasts.keys["tenant_id"].isin(aside).to_numpy())
    orders = orders_within(orders[~orders["tenant_id"].isin(aside)], plan_date)

    selling, problems = selling_of(forecasts, assortment, products, orders, tenants)
    making = making_of(selling, opening_lots, workshop, plan_date)
    problems += crossing_problems(selling.keys[is_crossed(selling.quantile_units).any(axis=1)])
    problems += cost_problems(making.keys, unit_costs_of(making.keys))
    problems += rule_problems(making.keys, making.rules)

    limits = None
    if recipes is not None:
        made = making.keys[SERIES].assign(ready_by=making.ready_by)
        limits = Limits.of(made, recipes, workshop, tenants, plan_date, making.rules.batch_size_units)
        problems += limits.exceptions.itertuples(index=False, name=None)
    asked = _overrides_of(making, overrides, problems)
    days = take_days(making, limits, asked, _held_rows(making, held))
    problems += days.problems
    problems += _plan_problems(making, limits, asked, days, plan_date)

    deviation_units = _deviation(making)
    lines = _lines(making, asked, days, deviation_units, tenants, plan_date)
    planned = Panel(
        lines[SERIES].copy(),
        {"horizon_units": days.horizon_units, "deviation_units": deviation_units},
        plan_date,
    )
    doughs = frame_of(DOUGH_COLUMNS)
    if recipes is not None and limits is not None:
        doughs = plan_doughs(
            planned, recipes, workshop, opening_lots, plan_date, run_limits=limits.run_limits, use=limits.use
        )
        lines, doughs = _scheduled(lines, doughs, recipes, limits, workshop, tenants, plan_date, problems)
        problems += early_start_problems(lines, doughs, tenants, plan_date)
    return ProductionPlans(lines, planned, doughs, exceptions_of(sorted(problems)), set_aside)


# ---------------------------------------------------------------- what is ready too late to be sold


def _ready_after_the_day(lines: pd.DataFrame, tenants: pd.DataFrame, plan_date: date) -> pd.DataFrame:
    """How many batches of a line are ready before its selling day is over, where not all are: see _planned, `held`.

    Sums of resource time do not see every wait, so that a batch which fits by them may come out after midnight, when nobody
    buys it. What accepted orders or a person ask for stays, and is late.
    """
    ends = ready_at(lines, np.full(len(lines), time.max, dtype=object), tenants, plan_date)
    ready, batches = lines["batch_ready_at"].to_numpy(), lines["batches"].to_numpy()
    on_day = np.array(
        [
            count if end is None else count - sum(at > end for at in moments)
            for moments, count, end in zip(ready, batches, ends, strict=True)
        ],
        dtype=np.int64,
    )
    ordered = np.maximum(lines["orders_units"] - lines["opening_usable_units"], 0) / lines["batch_size_units"]
    most = np.maximum(on_day, np.ceil(np.round(ordered.to_numpy(dtype=float), ROUNDING)).astype(np.int64))
    is_late = (most < batches) & lines["override_by"].isna().to_numpy()
    resource_ids = [ids[-1] for ids in lines.loc[is_late, "batch_resource_ids"]]
    return lines.loc[is_late, SERIES].assign(
        batches=most[is_late], resource_id=pd.Series(resource_ids, dtype=object).to_numpy()
    )


def _held_rows(making: Making, held: pd.DataFrame | None) -> Held | None:
    """The most batches and the resource of each row of the plan."""
    if held is None:
        return None
    row = positions(held, making.keys, SERIES)
    most = np.full(len(making.keys), np.iinfo(np.int64).max)
    resource_id = np.full(len(making.keys), None, dtype=object)
    most[row[row >= 0]] = held["batches"].to_numpy()[row >= 0]
    resource_id[row[row >= 0]] = held["resource_id"].to_numpy()[row >= 0]
    return Held(most, resource_id)


def _with_tenants_of(plans: ProductionPlans, others: ProductionPlans) -> ProductionPlans:
    """The plans with those of other's tenants in place of their own; both have the same lines of these tenants."""
    tenant_ids = others.lines["tenant_id"].unique()
    is_replaced = plans.lines["tenant_id"].isin(tenant_ids).to_numpy()
    lines = pd.concat([plans.lines[~is_replaced], others.lines.set_axis(plans.lines.index[is_replaced])]).sort_index()
    values = {name: matrix.copy() for name, matrix in plans.planned.values.items()}
    for name, matrix in values.items():
        matrix[is_replaced] = others.planned[name]

    def joined(one: pd.DataFrame, other: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
        parts = [part for part in (one[~one["tenant_id"].isin(tenant_ids)], other) if len(part)]
        return pd.concat(parts).sort_values(list(columns), ignore_index=True) if parts else one.iloc[:0]

    return ProductionPlans(
        lines,
        Panel(plans.planned.keys, values, plans.planned.first_day),
        joined(plans.doughs, others.doughs, ("tenant_id", "location_id", "item_id")),
        joined(plans.exceptions, others.exceptions, EXCEPTION_COLUMNS),
        plans.set_aside,
    )


# ---------------------------------------------------------------- what people set, and what cannot be done


def _overrides_of(making: Making, overrides: pd.DataFrame | None, problems: list[tuple]) -> Asked:
    """The overrides of the rows that are planned; those of others are a problem."""
    count = len(making.keys)
    asked = Asked(np.full(count, -1), np.full(count, None, dtype=object), np.full(count, None, dtype=object))
    if overrides is None or overrides.empty:
        return asked
    row = positions(overrides, making.keys, SERIES)
    unknown = overrides[row < 0]
    problems += exceptions_about(
        unknown,
        "override_not_planned",
        [
            f"{n} batches are set by {who}, but it is not planned there"
            for n, who in zip(unknown["batches"], unknown["actor"], strict=True)
        ],
        "withdraw the override, or add the product to an assortment that is made there",
    )
    known = overrides[row >= 0]
    at = row[row >= 0]
    asked.batches[at] = known["batches"].astype(int)
    asked.by[at], asked.reason[at] = known["actor"], known["reason"]
    return asked


def _plan_problems(making: Making, limits: Limits | None, asked: Asked, days: Days, plan_date: date) -> list[tuple]:
    """What rules, capacity and people leave undone."""
    is_lowered = asked.is_set & (asked.batches < days.recommended)
    # What capacity keeps from being ordered comes from capacity itself, with the resource.
    unmet = np.where(days.is_short, 0, days.unmet_orders)
    problems = unmet_order_problems(making.keys, plan_date, unmet, making.can_make, is_lowered)
    problems += capacity_problems(making.keys, days.limiting_resource_id, days.given_up, ~making.is_default)

    rows = np.flatnonzero(asked.is_set)
    is_above = np.zeros(len(making.keys), dtype=bool)
    if limits is not None:
        is_above = _is_in_full_place(making, limits, days.batches[:, 0]) & (asked.batches > days.recommended)
    return problems + override_problems(
        making.keys.iloc[rows],
        pd.DataFrame({"batches": asked.batches[rows], "actor": asked.by[rows]}),
        is_open=making.is_open[rows, 0],
        can_make=making.can_make[rows, 0],
        is_above_max=asked.batches[rows] > making.rules.batch_max[rows],
        is_above_capacity=is_above[rows],
    )


def _is_in_full_place(making: Making, limits: Limits, batches: np.ndarray) -> np.ndarray:
    """Of which rows the place of production has no room for all the batches (n,) of the plan date."""
    fit = limits.fit(
        0,
        batches,
        fewest=np.maximum(batches, 1),
        multiple=np.ones(len(batches), dtype=np.int64),
        committed=batches,
        gains_of=lambda rows: np.ones((len(rows), 1)),
    )
    place = making.keys.groupby(["tenant_id", "location_id"], sort=False).ngroup().to_numpy()
    return np.isin(place, place[fit.batches < batches])


# ---------------------------------------------------------------- output


def _lines(
    making: Making,
    asked: Asked,
    days: Days,
    deviation_units: np.ndarray,
    tenants: pd.DataFrame,
    plan_date: date,
) -> pd.DataFrame:
    """The lines of the plan date, before they are scheduled."""
    made, costs = making.keys, making.costs
    today = making.demand.select((slice(None), 0))
    opening_units, batches, quantity = making.opening_units, days.batches[:, 0], days.horizon_units[:, 0]
    supply = quantity + opening_units
    lost = today.expected_lost(supply)
    outcome = Outcome(np.maximum(today.mean - lost, 0), days.waste_units, lost)
    salvage, goodwill = or_zero(made, "salvage_value"), or_zero(made, "goodwill_cost")
    profit = outcome.profit(made["unit_price"], made["variable_cost"], salvage, goodwill)
    is_rounded = np.abs(quantity - np.maximum(days.optimal_units - opening_units, 0)) > 10.0**-ROUNDING
    limited_by = np.select(
        [
            ~making.is_open[:, 0],
            ~making.can_make[:, 0],
            ~days.has_demand,
            asked.is_set,
            days.is_short[:, 0],
            days.is_limited_by_max,
            days.is_limited_by_min,
            is_rounded,
        ],
        ["closed", "not_made_today", "no_demand", "override", "capacity", "batch_max", "batch_min", "batch"],
        "none",
    )
    nothing: list[list[object]] = [[] for _ in batches]
    columns = {
        "tenant_id": made["tenant_id"],
        "plan_date": plan_date,
        "location_id": made["location_id"],
        "product_id": made["product_id"],
        "orders_units": making.orders_units[:, 0],
        "mean_demand_units": today.mean,
        "critical_ratio": costs.ratio,
        "is_default_critical_ratio": making.is_default,
        "optimal_units": days.optimal_units,
        "opening_usable_units": opening_units,
        "batch_size_units": making.rules.batch_size_units,
        "unlimited_batches": days.unlimited,
        "recommended_batches": days.recommended,
        "batches": batches,
        "quantity_units": quantity,
        "expected_sales_units": outcome.sales_units,
        "expected_waste_units": outcome.waste_units,
        "expected_lost_units": outcome.lost_units,
        "expected_carried_units": days.carried_units,
        "expected_profit": profit - or_zero(made, "batch_fixed_cost") * batches,
        "sold_out_probability": 1 - today.cdf(supply),
        "limited_by": limited_by,
        "limiting_resource_id": pd.Series(days.limiting_resource_id, dtype=object),
        "override_by": pd.Series(asked.by, dtype=object),
        "override_reason": pd.Series(asked.reason, dtype=object),
        "unit_price": made["unit_price"],
        "variable_cost": made["variable_cost"],
        "salvage_value": salvage,
        "goodwill_cost": goodwill,
        "batch_marginal_values": pd.Series(days.values, dtype=object),
        "horizon_units": pd.Series(days.horizon_units.tolist(), dtype=object),
        "deviation_units": pd.Series(deviation_units.tolist(), dtype=object),
        "batch_resource_ids": pd.Series(nothing, dtype=object),
        "batch_starts_at": pd.Series(nothing, dtype=object),
        "batch_bakes_at": pd.Series(nothing, dtype=object),
        "batch_ready_at": pd.Series(nothing, dtype=object),
        "ready_by": pd.Series(ready_at(made, making.ready_by, tenants, plan_date), dtype=object),
        "is_late": False,
    }
    return pd.DataFrame(columns, index=made.index, columns=list(LINE_COLUMNS))


def _deviation(making: Making) -> np.ndarray:
    """One sigma by which demand may still change the tentative quantities (n, 14): nothing on the plan date."""
    is_tentative = making.can_make & (np.arange(PLAN_DAYS) > 0)
    low, high = (making.demand.quantile(share) for share in (0.1, 0.9))
    return np.round(np.where(is_tentative, deviation_between(low, high), 0), ROUNDING)


def _scheduled(
    lines: pd.DataFrame,
    doughs: pd.DataFrame,
    recipes: pd.DataFrame,
    limits: Limits,
    workshop: Workshop,
    tenants: pd.DataFrame,
    plan_date: date,
    problems: list[tuple],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The lines and doughs with the times of their batches and runs."""
    made = lines[[*SERIES, "batches", "ready_by"]]
    schedule = schedule_day(made, doughs, recipes, workshop, tenants, plan_date, graph=limits.use.graph)
    times = {
        name: pd.Series(getattr(schedule, name), index=lines.index, dtype=object)
        for name in ("batch_resource_ids", "batch_starts_at", "batch_bakes_at", "batch_ready_at")
    }
    lines = lines.assign(**times, is_late=schedule.is_late)
    problems += schedule.exceptions.itertuples(index=False, name=None)
    return lines, schedule.doughs
