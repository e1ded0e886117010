"""What a production plan could not know or do, in words: exception rows with their remedies.

What belongs here: sentences. What does not: what they are about, which comes as rows and numbers.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from planning.frames import figure
from planning.newsvendor import BatchRules, UnitCosts

LINK = "production_plans"
SERIES = ["tenant_id", "location_id", "product_id"]
DEFAULT_RATIO = "planned with the tenant's default critical ratio"


def exceptions_about(keys: pd.DataFrame, code: str, message: str | Iterable[str], remedy: str) -> list[tuple]:
    """Exception rows about the products of these keys, whose ids the messages are given."""
    if keys.empty:
        return []
    messages = [message] * len(keys) if isinstance(message, str) else message
    return [
        (tenant_id, LINK, location_id, "product", product_id, code, f"{product_id}: {text}", remedy)
        for (tenant_id, location_id, product_id), text in zip(
            keys[SERIES].itertuples(index=False), messages, strict=True
        )
    ]


def at_maker(selling_keys: pd.DataFrame) -> pd.DataFrame:
    """The keys with the place of production as their location."""
    return selling_keys.drop(columns="location_id").rename(columns={"made_at_location_id": "location_id"})


def order_problems(
    keys: pd.DataFrame, first_day: date, units: np.ndarray, *, code: str, why: str, remedy: str
) -> list[tuple]:
    """One exception per product and first day of units (n, 14) of orders that are not planned for."""
    rows = np.flatnonzero(units.any(axis=1))
    days = (units[rows] > 0).argmax(axis=1)
    messages = [
        f"{figure(units[row, day])} units are ordered for {first_day + timedelta(days=int(day))}, and {why}"
        for row, day in zip(rows, days, strict=True)
    ]
    return exceptions_about(keys.iloc[rows], code, messages, remedy)


def crossing_problems(crossed: pd.DataFrame) -> list[tuple]:
    """About the selling keys whose quantiles descend."""
    return exceptions_about(
        at_maker(crossed),
        "crossed_quantiles",
        [f"its forecast quantiles at {place} descend: sorted before planning" for place in crossed["location_id"]],
        "train the tenant's forecast model again",
    )


def cost_problems(made: pd.DataFrame, money: UnitCosts) -> list[tuple]:
    """What keeps prices from giving a critical ratio. A product may have more than one problem."""
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
    return [
        row
        for has_problem, code, message, remedy in found
        for row in exceptions_about(made[has_problem], code, f"{message}: {DEFAULT_RATIO}", remedy)
    ]


def rule_problems(made: pd.DataFrame, rules: BatchRules) -> list[tuple]:
    """Batch rules that contradict each other."""
    fewest = np.maximum(rules.fewest_steps, 1) * rules.batch_multiple
    return exceptions_about(
        made[fewest > rules.batch_max],
        "batch_limits_contradict",
        "the fewest batches it may be made in are more than the most a day allows: the most is kept to",
        "lower batch_min or batch_multiple, or raise batch_max_per_day",
    )


def unmet_order_problems(
    made: pd.DataFrame, plan_date: date, unmet: np.ndarray, can_make: np.ndarray, is_lowered: np.ndarray
) -> list[tuple]:
    """Orders (n, 14) in units that the plan does not meet: the day does not make them, or not enough of them.

    is_lowered (n,): a person set fewer batches for the plan date than are worth making.
    """
    is_by_hand = is_lowered[:, None] & (np.arange(unmet.shape[1]) == 0)
    problems = order_problems(
        made,
        plan_date,
        np.where(can_make, 0, unmet),
        code="order_on_day_not_made",
        why="it is not made on that weekday: not planned",
        remedy="add the weekday to made_on_weekdays, or move the order",
    )
    problems += order_problems(
        made,
        plan_date,
        np.where(can_make & ~is_by_hand, unmet, 0),
        code="orders_above_batch_max",
        why="that is more than the batches of a day can hold: planned up to batch_max_per_day",
        remedy="raise batch_max_per_day, or move part of the order",
    )
    problems += order_problems(
        made,
        plan_date,
        np.where(can_make & is_by_hand, unmet, 0),
        code="orders_above_override",
        why="a person's own number of batches does not hold that: planned as it was set",
        remedy="withdraw the override, or move part of the order",
    )
    return problems


def capacity_problems(
    made: pd.DataFrame, resource_ids: np.ndarray, given_up: np.ndarray, in_money: np.ndarray
) -> list[tuple]:
    """One exception per place and resource that keeps batches from being made, with the expected profit that it costs.

    resource_ids (n,): what limits each product, or None. given_up (n,): expected profit of the batches not made.
    in_money (n,): False where prices are unknown, so that given_up is only an estimate.
    """
    is_short = np.array([resource is not None for resource in resource_ids], dtype=bool)
    short = made.loc[is_short, SERIES].assign(
        resource_id=resource_ids[is_short], given_up=given_up[is_short], in_money=in_money[is_short]
    )
    rows = []
    for (tenant_id, location_id, resource_id), products in short.groupby(
        ["tenant_id", "location_id", "resource_id"], sort=True
    ):
        names = ", ".join(products["product_id"])
        cost = f"{products['given_up'].sum():.2f} of expected profit"
        estimated = "" if products["in_money"].all() else ", estimated where a price or cost is not known"
        message = f"{resource_id} has no room for all batches worth making of {names}: {cost} given up{estimated}"
        remedy = (
            f"Give {resource_id} more time or capacity on that day, or move the ready-by time of one of the products"
        )
        rows.append((tenant_id, LINK, location_id, "resource", resource_id, "capacity_short", message, remedy))
    return rows


def override_problems(
    made: pd.DataFrame, overrides: pd.DataFrame, *, is_open: np.ndarray, can_make: np.ndarray,
    is_above_max: np.ndarray, is_above_capacity: np.ndarray,
) -> list[tuple]:  # fmt: skip
    """About overrides that are kept although they ask for more than there is.

    made and the arrays (n,) have the rows of the overrides, which hold batches and actor.
    """
    asked = [
        f"{batches} batches are set by {actor}"
        for batches, actor in zip(overrides["batches"], overrides["actor"], strict=True)
    ]
    makes_any = (overrides["batches"] > 0).to_numpy()
    found = (
        (makes_any & ~is_open, "override_on_closed_day", "but nothing that it serves is open on that day"),
        (makes_any & is_open & ~can_make, "override_on_day_not_made", "on a weekday on which it is not made"),
        (is_above_max, "override_above_batch_max", "more than batch_max_per_day"),
        (
            is_above_capacity,
            "override_above_capacity",
            "and with the rest of the plan the ovens and mixers do not hold that",
        ),
    )
    return [
        row
        for has_problem, code, why in found
        for row in exceptions_about(
            made[has_problem],
            code,
            [f"{text}, {why}: kept as it is" for text, is_so in zip(asked, has_problem, strict=True) if is_so],
            "withdraw the override, or set fewer batches",
        )
    ]


def early_start_problems(
    lines: pd.DataFrame, doughs: pd.DataFrame, tenants: pd.DataFrame, plan_date: date
) -> list[tuple]:
    """One exception per place whose first batch or mixer run was to start before the plan was made.

    tenants: timezone, run_date and as_of_time, which say when; without these columns nothing is said. Neither is it of a
    tenant whose as_of_time is midnight: its plan is made on another day than its run date, as of the day's beginning.
    """
    if not {"timezone", "run_date", "as_of_time"} <= set(tenants):
        return []
    zones = {row.tenant_id: ZoneInfo(row.timezone) for row in tenants.itertuples()}
    made_at = {
        row.tenant_id: datetime.combine(row.run_date, row.as_of_time, zones[row.tenant_id]).astimezone(UTC)
        for row in tenants.itertuples()
        if row.as_of_time > time.min
    }
    early: dict[tuple[str, str], dict[str, list[datetime]]] = {}
    for what, rows, name in (("batch", lines, "batch_starts_at"), ("mixer run", doughs, "run_starts_at")):
        for tenant_id, location_id, starts_at in rows[["tenant_id", "location_id", name]].itertuples(index=False):
            if tenant_id in made_at:
                before = [at for at in starts_at if at < made_at[tenant_id]]
                if before:
                    early.setdefault((tenant_id, location_id), {}).setdefault(what, []).extend(before)
    batches = lines.groupby(["tenant_id", "location_id"])["batches"].sum()
    problems = []
    for (tenant_id, location_id), starts in early.items():
        zone = zones[tenant_id]
        what, first = min(((what, min(times)) for what, times in starts.items()), key=lambda start: start[1])
        count = f"{len(starts.get('batch', ()))} of {batches[tenant_id, location_id]} batches"
        early_runs = len(starts.get("mixer run", ()))
        runs = f" and {early_runs} mixer run{'s' if early_runs > 1 else ''}" if early_runs else ""
        message = (
            f"The first {what} starts {first.astimezone(zone):%a %H:%M}, but the plan was made "
            f"{made_at[tenant_id].astimezone(zone):%a %H:%M}: {count}{runs} start before it"
        )
        earlier = (
            "earlier on the day before"
            if made_at[tenant_id].astimezone(zone).date() < plan_date
            else f"a day ahead (daybreak tenant set {tenant_id} --plan-lead-days 1)"
        )
        remedy = f"Plan {earlier}, or let the resources start later (available_from)"
        problems.append((tenant_id, LINK, location_id, "location", location_id, "starts_before_plan", message, remedy))
    return problems
