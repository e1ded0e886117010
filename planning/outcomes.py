"""What a day's production turned out to cost, once it is known what was asked for, and which decision cost it.

What belongs here: demand of a finished day where it sold out, the cost of a quantity against it, the best quantity in
hindsight, and the share of each decision in the difference. What does not: how good the forecasts were in units
(`planning.validation`), and what a quantity is expected to cost beforehand (`planning.newsvendor`).

With Cu the money lost by a unit asked for in vain and Co that by a unit left over, a supply Q against a demand D costs

    cost(Q, D) = Cu (D - Q)+ + Co (Q - D)+        regret = cost(Q, D) - min over feasible Q' of cost(Q', D)

and the regret is told apart by decision, each against the one before it, so that the parts add up to it:

    forecast   the best quantity for the forecast, before batches, against the best feasible one in hindsight
    rounding   whole batches, as if each product had the ovens and mixers to itself
    capacity   what the ovens and mixers had room for, all products together
    override   what a person made of it

A part may be negative: a quantity before batches can lie nearer to the demand than any batch could, and the batches that
it is rounded to then cost what it seemed to save; a person who knew better saves money.

What is left over of a product that keeps is not lost on its day, so overage counts the share of it that the plan expected
to outdate later in its life: expected waste over expected left-overs of that night. A plan that expected none of either is
taken to lose nothing of it. Of a product of the day all that is left is lost.
"""

from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import special

from planning.calendar import SERIES
from planning.censoring import NOT_SOLD_OUT, estimate_demand
from planning.distributions import Demand, QuantileDemand
from planning.frames import QUANTILE_LEVELS, ROUNDING
from planning.keys import positions
from planning.newsvendor import unit_costs

OUTCOME_COLUMNS = (
    "tenant_id",
    "location_id",
    "product_id",
    "plan_id",
    "is_replayed",
    "made_units",
    "opening_units",
    "sold_units",
    "demand_units",
    "is_censored",
    "waste_units",
    "lost_units",
    "underage_cost",
    "overage_cost",
    "is_default_critical_ratio",
    "cost",
    "hindsight_units",
    "hindsight_cost",
    "regret",
    "regret_forecast",
    "regret_rounding",
    "regret_capacity",
    "regret_override",
)
"""Columns of quality.plan_outcome except the business date."""

PARTS = ("regret_forecast", "regret_rounding", "regret_capacity", "regret_override")
"""What the regret is made of."""

SUMMARY_COLUMNS = (
    "tenant_id",
    "product_id",
    "is_default_critical_ratio",
    "days",
    "days_censored",
    "days_replayed",
    "made_units",
    "demand_units",
    "waste_units",
    "lost_units",
    "cost",
    "regret",
    *PARTS,
    "service_pct",
    "critical_ratio_pct",
    "calibration",
)

ACTUAL_COLUMNS = ("tenant_id", "location_id", "product_id", "sold_units", "demand_units", "is_censored", "is_known")

FEWEST_DAYS = 14
"""Judged days from which on it is said whether a product's demand is met as often as its costs ask for."""

SIGNIFICANCE = 0.05
"""How unlikely the days on which demand was met must be, at the critical ratio, for that to be said of them."""

LEAST_CHANCE = 1e-9
"""Where demand of at least the sales was less likely than this, only the sales themselves are known."""


def mismatch_cost(quantity: ArrayLike, demand: ArrayLike, underage: ArrayLike, overage: ArrayLike) -> np.ndarray:
    """Cu (D - Q)+ + Co (Q - D)+: what a supply of `quantity` units against a demand of `demand` units lost, in money."""
    short = np.asarray(demand, dtype=float) - np.asarray(quantity, dtype=float)
    return np.asarray(underage) * np.maximum(short, 0) + np.asarray(overage) * np.maximum(-short, 0)


def hindsight_quantity(
    demand: ArrayLike,
    underage: ArrayLike,
    overage: ArrayLike,
    *,
    batch_size_units: ArrayLike = 1.0,
    batch_min: ArrayLike = 0.0,
    batch_multiple: ArrayLike = 1.0,
    batch_max: ArrayLike = np.inf,
    opening_units: ArrayLike = 0.0,
) -> np.ndarray:
    """The supply with the least mismatch cost among the feasible ones, had demand been known; of equal ones the smaller.

    Feasible are the opening units and, on top of them, whole batches: none, or a multiple of `batch_multiple` from
    `batch_min` to `batch_max`. A minimum above the maximum gives way. The cost falls until the demand and rises from it,
    so that the answer is no batch at all, or lies next to the demand. NaN where the demand is unknown. Raises ValueError
    for a batch size that is not above 0 or a multiple below 1.
    """
    if not ((np.asarray(batch_size_units) > 0).all() and (np.asarray(batch_multiple) >= 1).all()):
        raise ValueError("batch_size_units must be above 0, and batch_multiple at least 1")
    opening = np.asarray(opening_units, dtype=float)
    multiple = np.asarray(batch_multiple, dtype=float)
    step = np.asarray(batch_size_units, dtype=float) * multiple
    most = np.floor(np.asarray(batch_max, dtype=float) / multiple)
    fewest = np.minimum(np.maximum(np.ceil(np.asarray(batch_min, dtype=float) / multiple), 1), most)
    below = np.floor(np.round(np.maximum(np.asarray(demand, dtype=float) - opening, 0) / step, ROUNDING))
    best = opening + 0 * below * step
    least = mismatch_cost(best, demand, underage, overage)
    for steps in (below, below + 1):
        quantity = opening + np.clip(steps, fewest, most) * step
        cost = mismatch_cost(quantity, demand, underage, overage)
        is_better = cost < least - 10.0**-ROUNDING
        best, least = np.where(is_better, quantity, best), np.where(is_better, cost, least)
    return best


def expected_at_least(demand: Demand, least: ArrayLike) -> np.ndarray:
    """E[D | D >= least]: the demand of a day of which only its sales are known, from what was forecast for it.

    Of the leading shape of `demand`; `least` itself where that much had no chance.
    """
    least = np.asarray(least, dtype=float)
    # A distribution that jumps at `least` has the jump among what is at least that.
    chance = 1 - demand.cdf(least - 10.0**-ROUNDING)
    is_possible = chance > LEAST_CHANCE
    return least + np.where(is_possible, demand.expected_lost(least) / np.where(is_possible, chance, 1.0), 0.0)


def demand_of_day(outlets: pd.DataFrame, profiles: pd.DataFrame, business_date: date) -> pd.DataFrame:
    """What was asked for of each product at each place that makes it: ACTUAL_COLUMNS, sorted by key.

    outlets: tenant_id, location_id (where it sells), product_id, made_at_location_id, is_open (forecast to be),
    has_reported (the location sold anything that day), sold_units, sold_out_minute (NOT_SOLD_OUT elsewhere) and
    quantile_units (array of 9, the forecast that served). profiles: as `planning.censoring.estimate_demand` takes them.

    An outlet's demand is what it sold. Where it sold out it is estimated: by the time of it and the hourly profile of the
    weekday where there is one (see ADR 0013), else E[D | D >= sold] of the forecast. Outlets that were forecast closed
    and sold nothing have no part in it; is_known is false where one that was open has not reported.
    """
    is_counted = outlets["is_open"].to_numpy(dtype=bool) | outlets["has_reported"].to_numpy(dtype=bool)
    outlets = outlets[is_counted].reset_index(drop=True)
    sold = outlets["sold_units"].to_numpy(dtype=float)
    minute = outlets["sold_out_minute"].to_numpy(dtype=np.int64)
    is_sold_out = minute != NOT_SOLD_OUT
    # A single day holds no days before it, so that what comes back estimated is so by the time of the sell-out.
    by_time, is_timed = estimate_demand(
        outlets[SERIES], np.array([business_date.weekday()]), sold[:, None], minute[:, None], profiles
    )
    demand = by_time[:, 0]
    rows = np.flatnonzero(is_sold_out & ~is_timed[:, 0])
    if len(rows):
        curves = np.stack([np.asarray(units, dtype=float) for units in outlets["quantile_units"].iloc[rows]])
        forecast = QuantileDemand.from_quantiles(QUANTILE_LEVELS, curves)
        demand[rows] = expected_at_least(forecast, sold[rows])
    made_at = outlets.assign(
        location_id=outlets["made_at_location_id"],
        sold_units=sold,
        demand_units=demand,
        is_censored=is_sold_out,
        is_known=outlets["has_reported"].to_numpy(dtype=bool),
    )
    totals = made_at.groupby(SERIES, sort=True).agg(
        sold_units=("sold_units", "sum"),
        demand_units=("demand_units", "sum"),
        is_censored=("is_censored", "any"),
        is_known=("is_known", "all"),
    )
    return totals.reset_index()[list(ACTUAL_COLUMNS)]


@dataclass(frozen=True)
class Supplies:
    """The supply of each line, opening units included, as it stood after each decision: arrays (n,) in units."""

    optimal: np.ndarray
    unlimited: np.ndarray
    recommended: np.ndarray
    made: np.ndarray

    @classmethod
    def of(cls, lines: pd.DataFrame) -> "Supplies":
        """The supplies of production lines. Plans from before a decision was stored have taken none there."""
        opening = lines["opening_usable_units"].to_numpy(dtype=float)
        size = lines["batch_size_units"].to_numpy(dtype=float)
        made = opening + lines["quantity_units"].to_numpy(dtype=float)
        recommended = _known(lines, "recommended_batches")
        recommended = np.where(np.isnan(recommended), made, opening + recommended * size)
        unlimited = _known(lines, "unlimited_batches")
        unlimited = np.where(np.isnan(unlimited), recommended, opening + unlimited * size)
        # Stock at hand cannot be unmade, and on a weekday on which it is not made nothing is decided.
        optimal = np.maximum(lines["optimal_units"].to_numpy(dtype=float), opening)
        is_made = (lines["limited_by"] != "not_made_today").to_numpy()
        return cls(np.where(is_made, optimal, unlimited), unlimited, recommended, made)


def judge(lines: pd.DataFrame, actuals: pd.DataFrame) -> pd.DataFrame:
    """What each line of a finished day's production plans cost against the best in hindsight: OUTCOME_COLUMNS.

    lines: columns of plans.production_line (unlimited_batches and recommended_batches may be missing or NaN), with
    is_replayed, shelf_life_days (NaN: keeps), batch_min, batch_multiple and batch_max_per_day (NaN: no limit).
    actuals: as of `demand_of_day`, of walk-in customers; the line's orders come on top, as they do in the plan.

    Left out are lines of places that were closed, and those of which the day's demand is not known. What was made is taken
    to be what was planned, and counts among the feasible quantities also where it breaks the rules of batches: it was done.
    Where costs give no ratio, Cu and Co are those of the tenant's default, which add up to 1: shares instead of money.
    """
    at = positions(lines, actuals, SERIES)
    is_known = actuals["is_known"].to_numpy(dtype=bool)[at] if len(actuals) else np.zeros(len(lines), dtype=bool)
    is_judged = (at >= 0) & is_known & (lines["limited_by"] != "closed").to_numpy()
    at, lines = at[is_judged], lines[is_judged].reset_index(drop=True)
    of_day = actuals.iloc[at].reset_index(drop=True)
    demand = of_day["demand_units"].to_numpy(dtype=float) + lines["orders_units"].to_numpy(dtype=float)

    underage, overage, is_default = _costs(lines)
    supplies = Supplies.of(lines)
    wasted_share = _wasted_share(lines, supplies.made)
    effective = overage * wasted_share
    cost = mismatch_cost(supplies.made, demand, underage, effective)
    multiple = np.maximum(lines["batch_multiple"].to_numpy(dtype=float), 1)
    limit = lines["batch_max_per_day"].to_numpy(dtype=float)
    is_made = (lines["limited_by"] != "not_made_today").to_numpy()
    hindsight = hindsight_quantity(
        demand,
        underage,
        effective,
        batch_size_units=lines["batch_size_units"].to_numpy(dtype=float),
        batch_min=np.nan_to_num(lines["batch_min"].to_numpy(dtype=float)),
        batch_multiple=multiple,
        batch_max=np.where(is_made, np.where(np.isnan(limit), np.inf, limit), 0),
        opening_units=lines["opening_usable_units"].to_numpy(dtype=float),
    )
    best_cost = mismatch_cost(hindsight, demand, underage, effective)
    hindsight = np.where(cost < best_cost, supplies.made, hindsight)
    best_cost = np.minimum(cost, best_cost)

    after = [
        mismatch_cost(quantity, demand, underage, effective)
        for quantity in (supplies.optimal, supplies.unlimited, supplies.recommended)
    ]
    decided = np.stack([best_cost, *after, cost])
    parts = dict(zip(PARTS, np.diff(decided, axis=0), strict=True))
    made = supplies.made
    columns = {
        "made_units": lines["quantity_units"].to_numpy(dtype=float),
        "opening_units": lines["opening_usable_units"].to_numpy(dtype=float),
        "sold_units": of_day["sold_units"].to_numpy(dtype=float),
        "demand_units": demand,
        "is_censored": of_day["is_censored"].to_numpy(dtype=bool),
        "waste_units": np.maximum(made - demand, 0) * wasted_share,
        "lost_units": np.maximum(demand - made, 0),
        "underage_cost": underage,
        "overage_cost": overage,
        "is_default_critical_ratio": is_default,
        "cost": cost,
        "hindsight_units": hindsight,
        "hindsight_cost": best_cost,
        "regret": cost - best_cost,
        **parts,
    }
    return lines[[*SERIES, "plan_id", "is_replayed"]].assign(**columns)[list(OUTCOME_COLUMNS)]


def summarise(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Outcomes by product, the most regretted first: SUMMARY_COLUMNS; days are rows, one per day and place that makes it.

    outcomes: OUTCOME_COLUMNS of any days. Products whose costs were unknown on some days have those days apart, in shares
    of Cu + Co instead of money. service_pct is the share of days on which supply met demand; critical_ratio_pct, the mean
    of Cu / (Cu + Co), is what it is for a forecast that is right in the long run, batches apart. calibration: `as_costs_ask`,
    or met_too_often or met_too_rarely where that many days have a chance below SIGNIFICANCE (exact binomial, two-sided);
    too_few_days below FEWEST_DAYS.
    """
    supply = outcomes["made_units"].to_numpy(dtype=float) + outcomes["opening_units"].to_numpy(dtype=float)
    underage, overage = outcomes["underage_cost"].to_numpy(dtype=float), outcomes["overage_cost"].to_numpy(dtype=float)
    rows = outcomes.assign(
        days=1,
        is_met=outcomes["demand_units"].to_numpy(dtype=float) <= supply + 10.0**-ROUNDING,
        ratio=underage / (underage + overage),
    )
    sums = ["made_units", "demand_units", "waste_units", "lost_units", "cost", "regret", *PARTS]
    by_product = rows.groupby(["tenant_id", "product_id", "is_default_critical_ratio"], sort=True).agg(
        days=("days", "sum"),
        days_censored=("is_censored", "sum"),
        days_replayed=("is_replayed", "sum"),
        met=("is_met", "sum"),
        ratio=("ratio", "mean"),
        **{name: (name, "sum") for name in sums},
    )
    by_product = by_product.reset_index().sort_values(
        ["tenant_id", "is_default_critical_ratio", "regret", "cost", "product_id"],
        ascending=[True, True, False, False, True],
        ignore_index=True,
    )
    days, met = (by_product[name].to_numpy(dtype=np.int64) for name in ("days", "met"))
    ratio = by_product["ratio"].to_numpy(dtype=float)
    too_rarely = special.bdtr(met, days, ratio) < SIGNIFICANCE / 2
    too_often = np.where(met > 0, special.bdtrc(met - 1, days, ratio), 1.0) < SIGNIFICANCE / 2
    return by_product.assign(
        service_pct=100 * met / np.maximum(days, 1),
        critical_ratio_pct=100 * ratio,
        calibration=np.select(
            [days < FEWEST_DAYS, too_often, too_rarely],
            ["too_few_days", "met_too_often", "met_too_rarely"],
            "as_costs_ask",
        ),
    )[list(SUMMARY_COLUMNS)]


def _costs(lines: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cu and Co of each line, and whether they are those of the default critical ratio, in shares of Cu + Co."""
    money = unit_costs(
        *(_known(lines, name) for name in ("unit_price", "variable_cost", "salvage_value", "goodwill_cost"))
    )
    ratio = lines["critical_ratio"].to_numpy(dtype=float)
    is_default = lines["is_default_critical_ratio"].to_numpy(dtype=bool)
    return np.where(is_default, ratio, money.underage), np.where(is_default, 1 - ratio, money.overage), is_default


def _wasted_share(lines: pd.DataFrame, supply: np.ndarray) -> np.ndarray:
    """The share of what is left at the end of the day that is never sold, as the plan expected it: (n,)."""
    waste = np.nan_to_num(_known(lines, "expected_waste_units"))
    left = supply - np.nan_to_num(_known(lines, "expected_sales_units"))
    keeps = (lines["shelf_life_days"] != 1).to_numpy()
    share = np.divide(waste, left, out=np.zeros(len(lines)), where=left > 10.0**-ROUNDING)
    return np.where(keeps, np.clip(share, 0, 1), 1.0)


def _known(lines: pd.DataFrame, name: str) -> np.ndarray:
    """A column as floats, NaN where it is empty or missing."""
    if name not in lines:
        return np.full(len(lines), np.nan)
    return pd.to_numeric(lines[name]).to_numpy(dtype=float)
