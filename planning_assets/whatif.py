"""What a day's plans would be if something were different: both sides planned by the same functions, nothing written.

What belongs here: the changes that can be asked for, the frames that they alter, and the difference between two plans.
What does not: how a person writes a change (the command line) and how plans are made (`planning`).

Everything is read once, in one transaction that the database itself keeps from writing. The base is planned anew from what
is known now, not taken from the stored plan, so that a difference is due to the changes and to nothing else.
"""

import time as clocks
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from datetime import date, datetime, time, timedelta
from typing import Any

import numpy as np
import pandas as pd

from planning.explosion import BOUGHT_KINDS, explode
from planning.frames import EXCEPTION_COLUMNS, Panel
from planning.procurement import ProcurementPlans, plan_procurement
from planning.production import ProductionPlans, plan_production
from planning.projection import Projections, project_inventory
from planning.workshop import Workshop
from planning_assets import forecasts, procurement_plans, production_plans
from planning_assets.chunk import usable_tenants
from planning_assets.inventory_projections import RISK, receipts_of
from planning_assets.link import Batch
from planning_assets.production_plans import late_batches
from resources.model_cache import ModelCache
from resources.store.database import Connection, Store
from resources.store.inputs import read_tenants
from resources.store.plans import WriteContext
from resources.store.versions import input_versions

LONGEST_LIST = 12
"""Known names that a refusal lists."""

CENT = 0.005
"""Money that differs by less is the same."""

QUANTITY = 1e-6
CHANCE = 0.005
"""Quantities, and probabilities, that differ by less are the same."""

TOTALS = (
    "batches",
    "units",
    "expected_profit",
    "expected_waste_units",
    "expected_lost_units",
    "late_batches",
    "purchase_lines",
    "purchase_amount",
    "late_purchases",
    "stock_outs",
    "items_at_risk",
)
"""The sums that both sides are compared by, in the order in which they are told."""


DEMAND_MATRICES = ("mean_units", "raw_mean_units", "quantile_units")
"""What of a forecast is demand."""


class WhatIfRefused(Exception):
    """What was asked cannot be answered; the message names it and the remedy."""


@dataclass(frozen=True)
class Adjustment:
    """A number that is changed: multiplied by `factor`, or set to `amount`; of one subject, or of all where it is None."""

    subject: str | None
    factor: float | None = None
    amount: float | None = None

    def __post_init__(self) -> None:
        """Raise WhatIfRefused unless exactly one of factor and amount is given and it is usable."""
        if (self.factor is None) == (self.amount is None):
            raise WhatIfRefused("A change is either a factor or an amount. Remedy: give one of them.")
        value = self.factor if self.factor is not None else self.amount
        if value is None or not np.isfinite(value) or value < 0:
            raise WhatIfRefused(
                f"{self._named()} cannot fall below nothing. Remedy: a change of -100 % is the most, an amount is not negative."
            )

    def apply(self, values: np.ndarray) -> np.ndarray:
        """The values as they would be."""
        return values * self.factor if self.factor is not None else np.full_like(values, self.amount)

    def _named(self) -> str:
        return self.subject or "Demand"

    def __str__(self) -> str:
        if self.factor is not None:
            return f"{100 * (self.factor - 1):+g} %"
        return f"{self.amount:g}"


@dataclass(frozen=True)
class Downtime:
    """A resource that holds nothing on the plan date, in local time; over midnight where from_at is after until_at.

    None: from the day before on, or to the end of the plan date.
    """

    resource_id: str
    from_at: time | None = None
    until_at: time | None = None

    def __str__(self) -> str:
        if self.from_at is None and self.until_at is None:
            return "from the evening before to the end of the day"
        begins = "the evening before" if self.from_at is None else f"{self.from_at:%H:%M}"
        ends = "the end of the day" if self.until_at is None else f"{self.until_at:%H:%M}"
        return f"from {begins} to {ends}"


@dataclass(frozen=True)
class Delay:
    """A supplier that delivers so many days later: what is on order, and what will be."""

    supplier_id: str
    days: int


@dataclass(frozen=True)
class Changes:
    """What would be different. Each subject may be changed once."""

    demand: Sequence[Adjustment] = ()
    downtimes: Sequence[Downtime] = ()
    delays: Sequence[Delay] = ()
    prices: Sequence[Adjustment] = ()
    costs: Sequence[Adjustment] = ()


@dataclass(frozen=True)
class Side:
    """The plans of one side."""

    production: ProductionPlans
    procurement: ProcurementPlans
    projections: Projections


@dataclass(frozen=True)
class WhatIf:
    """The difference that changes make to a tenant's day.

    told: the changes in words. assumed: what was taken to stay as it is. totals: TOTALS -> (base, changed), None where
    unknown. production, purchases, stock_outs, problems: the rows that differ, with columns `base_…` beside the changed
    ones, missing where a side has no such row; `problems` holds exceptions with `side` new, changed or gone. seconds: the time that
    reading and planning took.
    """

    tenant_id: str
    plan_date: date
    currency: str
    told: Sequence[str]
    assumed: Sequence[str]
    totals: Mapping[str, tuple[float | None, float | None]]
    production: pd.DataFrame
    purchases: pd.DataFrame
    stock_outs: pd.DataFrame
    problems: pd.DataFrame
    seconds: float = field(compare=False)

    @property
    def is_changed(self) -> bool:
        """Whether anything differs."""
        tables = (self.production, self.purchases, self.stock_outs, self.problems)
        return any(len(rows) for rows in tables) or any(_differs(*sides) for sides in self.totals.values())

    def as_json(self) -> dict[str, Any]:
        """All of it as plain lists and mappings; what is unknown is null."""
        return {
            "tenant_id": self.tenant_id,
            "plan_date": self.plan_date.isoformat(),
            "currency": self.currency,
            "changes": list(self.told),
            "assumptions": list(self.assumed),
            "is_changed": self.is_changed,
            "totals": {
                name: {"base": base, "changed": changed, "difference": _difference(base, changed)}
                for name, (base, changed) in self.totals.items()
            },
            "production": _records(self.production),
            "purchases": _records(self.purchases),
            "stock_outs": _records(self.stock_outs),
            "problems": _records(self.problems),
            "seconds": round(self.seconds, 4),
        }


def what_if(store: Store, tenant_id: str, plan_date: date, changes: Changes, now: datetime) -> WhatIf:
    """What the plans of a tenant's day would be with these changes, beside what they would be without.

    Stands on the active forecasts of the date, which are not made again. Raises WhatIfRefused for a tenant that cannot be
    planned, a date without forecasts, and a change of something that is not known.
    """
    began = clocks.perf_counter()
    with read_only(store) as connection:
        batch = _batch(connection, tenant_id, plan_date, now)
        production_inputs = _with_quick_text(production_plans.inputs_of(batch))
        base_production = plan_production(**production_inputs)
        _raise_if_set_aside(base_production.set_aside, "The day cannot be planned as it is.")
        batch.results["production_plans"] = base_production
        procurement_inputs = _with_quick_text(procurement_plans.inputs_of(batch))
    base = _plan(production_inputs, procurement_inputs, base_production)
    overlay = Overlay(production_inputs, procurement_inputs, plan_date)
    told = overlay.apply(changes)
    changed = _plan(overlay.production, overlay.procurement)
    return WhatIf(
        tenant_id,
        plan_date,
        str(batch.tenants["currency"].iloc[0]),
        told,
        [*_assumptions(production_inputs, procurement_inputs, batch), *overlay.notes],
        {name: (_totals(base)[name], _totals(changed)[name]) for name in TOTALS},
        _production_difference(base, changed),
        _purchase_difference(base, changed),
        _stock_out_difference(base, changed),
        _problem_difference(base, changed),
        clocks.perf_counter() - began,
    )


@contextmanager
def read_only(store: Store) -> Iterator[Connection]:
    """A transaction in which all queries see the same instant and the database refuses to write."""
    with store.transaction() as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield connection


def _batch(connection: Connection, tenant_id: str, plan_date: date, now: datetime) -> Batch:
    """The batch of one tenant with the active forecasts of the date, read and never written."""
    tenants, unusable = usable_tenants(read_tenants(connection, [tenant_id]), [tenant_id], plan_date, now)
    _raise_if_set_aside(unusable, "")
    context = WriteContext(
        plan_date=plan_date,
        run_dates=dict(zip(tenants["tenant_id"], tenants["run_date"], strict=True)),
        versions=input_versions(connection, [tenant_id]),
        run_id="",
        now=now,
        opened_at={},
    )
    batch = Batch(connection, plan_date, tenants, context, ModelCache())
    stored = forecasts.load(batch)
    if not len(stored.panel):
        raise WhatIfRefused(
            f"{tenant_id} has no forecast for {plan_date}, which every side is planned from. "
            f"Remedy: daybreak plan run --tenant {tenant_id} --date {plan_date}."
        )
    batch.results["forecasts"] = stored
    return batch


def _with_quick_text(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs whose text columns hold Python strings: of a single tenant's few rows, they are found in half the time."""

    def quick(value: Any) -> Any:
        if isinstance(value, pd.DataFrame):
            return value.astype({name: object for name, dtype in value.dtypes.items() if dtype == "str"})
        if isinstance(value, Panel):
            return Panel(quick(value.keys), value.values, value.first_day)
        if isinstance(value, Workshop):
            return Workshop(*(quick(getattr(value, part.name)) for part in fields(value)))
        return value

    return {name: quick(value) for name, value in inputs.items()}


def _raise_if_set_aside(set_aside: pd.DataFrame, when: str) -> None:
    for row in set_aside.itertuples():
        raise WhatIfRefused(f"{when} {row.reason.rstrip('.')}. Remedy: {row.remedy}".strip())


def _plan(
    production_inputs: Mapping[str, Any],
    procurement_inputs: Mapping[str, Any],
    production: ProductionPlans | None = None,
) -> Side:
    """One side: production, procurement from it, and the projection from both."""
    if production is None:
        production = plan_production(**production_inputs)
        _raise_if_set_aside(production.set_aside, "With these changes the day cannot be planned.")
    procurement = plan_procurement(**{**procurement_inputs, "planned": production.planned})
    _raise_if_set_aside(procurement.set_aside, "Purchases cannot be planned.")
    projections = project_inventory(
        procurement.requirements,
        opening_lots=procurement_inputs["opening_lots"],
        # Nothing is ordered here, so that every line is still to come beside the orders on their way.
        receipts=receipts_of(procurement_inputs["open_orders"], procurement.purchase_lines),
        items=procurement_inputs["items"],
        supplier_items=procurement_inputs["supplier_items"],
        plan_date=procurement_inputs["plan_date"],
        suppliers=procurement_inputs["suppliers"],
        tenants=procurement_inputs["tenants"],
    )
    return Side(production, procurement, projections)


def _assumptions(production: Mapping[str, Any], procurement: Mapping[str, Any], batch: Batch) -> list[str]:
    """What both sides take as it is."""
    made = [
        f"Both sides are planned as of now, from the stored forecasts of {batch.plan_date}; no forecast is made again.",
        "Customer orders, stock counts and recipes stay as they are.",
    ]
    placed = len(procurement["open_orders"])
    if placed:
        made.append(f"{placed} order lines that are on their way stand; what they bring is not bought again.")
    in_force = len(production["overrides"]) + len(procurement["overrides"])
    if in_force:
        made.append(f"{in_force} numbers that people set by hand stay in force.")
    return made


# ---------------------------------------------------------------- changing the frames


class Overlay:
    """The inputs of both links as they would be. The frames that it is given are not touched.

    notes: what had to be assumed to carry a change out.
    """

    def __init__(self, production: Mapping[str, Any], procurement: Mapping[str, Any], plan_date: date) -> None:
        self.production, self.procurement = dict(production), dict(procurement)
        self.plan_date = plan_date
        self.notes: list[str] = []

    def apply(self, changes: Changes) -> list[str]:
        """Change the frames, and say what was changed."""
        return [
            *self._demand(changes.demand),
            *(self._down(downtime) for downtime in changes.downtimes),
            *(self._late(delay) for delay in _once(changes.delays, "supplier_id")),
            *(self._price(price) for price in _once(changes.prices, "subject")),
            *(self._cost(cost) for cost in _once(changes.costs, "subject")),
        ]

    def _demand(self, adjustments: Sequence[Adjustment]) -> list[str]:
        panel: Panel = self.production["forecasts"]
        factors = np.ones(len(panel))
        products = panel.keys["product_id"].to_numpy(dtype=object)
        # A product's own change takes the place of the one for all.
        for adjustment in sorted(_once(adjustments, "subject"), key=lambda each: each.subject is not None):
            if adjustment.factor is None:
                raise WhatIfRefused("Demand is changed by a share. Remedy: give it as +20% or -10%.")
            if adjustment.subject is not None:
                _known("product with a forecast", adjustment.subject, products)
            chosen = (products == adjustment.subject) if adjustment.subject is not None else np.ones(len(panel), bool)
            factors[chosen] = adjustment.factor
        if adjustments:
            scaled = {
                name: matrix * factors.reshape(-1, *[1] * (matrix.ndim - 1)) if name in DEMAND_MATRICES else matrix
                for name, matrix in panel.values.items()
            }
            self.production["forecasts"] = Panel(panel.keys, scaled, panel.first_day)
            self.notes.append("Demand changes on all 14 days, and its spread with it; customer orders do not.")
        return [f"Demand of {each.subject or 'every product'} {each}" for each in adjustments]

    def _down(self, downtime: Downtime) -> str:
        workshop: Workshop = self.production["workshop"]
        known = workshop.resources
        _known("oven, mixer or other resource", downtime.resource_id, known["resource_id"])
        kind = known.loc[known["resource_id"] == downtime.resource_id, "kind"].iloc[0]
        steps = workshop.steps
        is_used = (steps["resource_kind"] == kind) & (
            steps["resource_id"].isna() | (steps["resource_id"] == downtime.resource_id)
        )
        if not is_used.any():
            self.notes.append(f"No product or dough has a step on {downtime.resource_id}, so nothing waits for it.")
        calendar = workshop.calendar
        for on, from_at, until_at in _windows(downtime, self.plan_date):
            calendar = _with_downtime(calendar, known, downtime.resource_id, on, from_at, until_at)
        changed = Workshop(workshop.resources, calendar, workshop.steps, workshop.opening)
        self.production["workshop"] = changed
        return f"{downtime.resource_id} is down {downtime} ({self.plan_date})"

    def _late(self, delay: Delay) -> str:
        if delay.days < 0:
            raise WhatIfRefused(f"{delay.supplier_id} cannot be {delay.days} days late. Remedy: give days from 0 on.")
        _known("supplier", delay.supplier_id, self.procurement["suppliers"]["supplier_id"])
        offers, orders = self.procurement["supplier_items"], self.procurement["open_orders"]
        of_offer = offers["supplier_id"] == delay.supplier_id
        self.procurement["supplier_items"] = offers.assign(lead_days=offers["lead_days"] + delay.days * of_offer)
        of_order = orders["supplier_id"] == delay.supplier_id
        self.procurement["open_orders"] = orders.assign(
            delivery_on=[
                on + timedelta(days=delay.days) if is_late else on
                for on, is_late in zip(orders["delivery_on"], of_order, strict=True)
            ]
        ).astype({"delivery_on": object})
        self.notes.append(
            f"{int(of_order.sum())} order lines of {delay.supplier_id} come {delay.days} days later, and what is ordered "
            f"from it now takes {delay.days} days more."
        )
        return f"{delay.supplier_id} delivers {delay.days} days late"

    def _price(self, price: Adjustment) -> str:
        products = self.production["products"]
        _known("product", price.subject, products["product_id"])
        self.production["products"] = self._with_money(products, "product_id", price, "unit_price", "price")
        if price.amount == 0 or price.factor == 0:
            raise WhatIfRefused(f"The price of {price.subject} cannot be 0. Remedy: give a price above 0.")
        self.notes.append("What is asked for does not depend on the price.")
        return f"Price of {price.subject} {price}"

    def _cost(self, cost: Adjustment) -> str:
        products, items = self.production["products"], self.procurement["items"]
        if (products["product_id"] == cost.subject).any():
            self.production["products"] = self._with_money(products, "product_id", cost, "variable_cost", "cost")
            return f"Variable cost of {cost.subject} {cost}"
        bought = items[items["kind"].isin(BOUGHT_KINDS)]
        _known("product, ingredient or packaging", cost.subject, [*products["product_id"], *bought["item_id"]])
        before = self._unit_cost(str(cost.subject))
        if cost.factor is not None and np.isnan(before):
            raise WhatIfRefused(
                f"What {cost.subject} costs is not known, so a share of it is not either. Remedy: give an amount a base unit."
            )
        after = float(cost.apply(np.array([before]))[0])
        is_item = items["item_id"] == cost.subject
        self.procurement["items"] = items.assign(unit_cost=items["unit_cost"].where(~is_item, after))
        self._reprice(cost)
        if np.isnan(before):
            self.notes.append(f"What {cost.subject} has cost is not known, so the costs of products stay as they are.")
        else:
            self._pass_on(str(cost.subject), after - before)
        return f"Cost of {cost.subject} {cost}"

    def _with_money(
        self, products: pd.DataFrame, key: str, change: Adjustment, column: str, named: str
    ) -> pd.DataFrame:
        is_subject = (products[key] == change.subject).to_numpy()
        values = products[column].to_numpy(dtype=float).copy()
        if change.factor is not None and np.isnan(values[is_subject]).any():
            raise WhatIfRefused(
                f"The {named} of {change.subject} is not known, so a share of it is not either. Remedy: give an amount."
            )
        values[is_subject] = change.apply(values[is_subject])
        return products.assign(**{column: values})

    def _unit_cost(self, item_id: str) -> float:
        """What a base unit of a bought item costs: as the item says, else by the cheapest first price break; else NaN."""
        items = self.procurement["items"]
        known = items.loc[items["item_id"] == item_id, "unit_cost"].astype(float)
        if known.notna().any():
            return float(known.iloc[0])
        prices = self._prices_per_unit(item_id)
        return float(prices.min()) if len(prices) else float("nan")

    def _prices_per_unit(self, item_id: str) -> pd.Series:
        prices, offers = self.procurement["supplier_prices"], self.procurement["supplier_items"]
        key = ["tenant_id", "supplier_id", "item_id"]
        found = prices[prices["item_id"] == item_id].merge(offers[[*key, "pack_quantity"]], on=key)
        return found["price_per_pack"] / found["pack_quantity"]

    def _reprice(self, cost: Adjustment) -> None:
        """Every supplier's prices of the item, at every break."""
        prices, offers = self.procurement["supplier_prices"], self.procurement["supplier_items"]
        key = ["tenant_id", "supplier_id", "item_id"]
        packs = prices[key].merge(offers[[*key, "pack_quantity"]], on=key, how="left")["pack_quantity"].to_numpy(float)
        is_item = (prices["item_id"] == cost.subject).to_numpy()
        before = prices["price_per_pack"].to_numpy(dtype=float)
        after = before * cost.factor if cost.factor is not None else (cost.amount or 0.0) * packs
        usable = is_item & ~np.isnan(after)
        self.procurement["supplier_prices"] = prices.assign(price_per_pack=np.where(usable, after, before))

    def _pass_on(self, item_id: str, difference: float) -> None:
        """Add to each product's variable cost what its recipe takes of the item, at the difference of a base unit."""
        products = self.production["products"]
        keys = products[["tenant_id", "product_id"]].assign(location_id="")
        one_of_each = Panel(
            keys[["tenant_id", "location_id", "product_id"]], {"horizon_units": np.ones((len(keys), 1))}, self.plan_date
        )
        exploded = explode(one_of_each, self.procurement["recipes"], self.procurement["items"])
        uses = exploded.uses
        used = exploded.requirements.keys["item_id"].to_numpy(dtype=object)[uses["requirement_row"].to_numpy()]
        makes = exploded.planned.keys["product_id"].to_numpy(dtype=object)[uses["planned_row"].to_numpy()]
        per_unit = uses["quantity_per"].to_numpy(dtype=float)
        takes = dict(zip(makes[used == item_id], per_unit[used == item_id], strict=True))
        more = products["product_id"].map(takes).fillna(0.0).astype(float) * difference
        self.production["products"] = products.assign(
            variable_cost=np.maximum(products["variable_cost"].astype(float) + more, 0)
        )
        self.notes.append(
            f"The cost of {item_id} is passed on to {len(takes)} products by their recipes, "
            f"{difference:+.4g} a base unit; all its suppliers' prices change alike."
        )


def _once(changes: Sequence[Any], name: str) -> Sequence[Any]:
    """The changes. Raises WhatIfRefused for two of the same subject, since it would be unclear which holds."""
    subjects = [getattr(change, name) for change in changes]
    for subject in subjects:
        if subjects.count(subject) > 1:
            raise WhatIfRefused(
                f"{subject or 'Everything'} is changed twice in one way. Remedy: give one change of it."
            )
    return changes


def _known(what: str, name: str | None, names: Sequence[str] | pd.Series | np.ndarray) -> None:
    """Raise WhatIfRefused for a name that is not among the known ones, and list them."""
    known = sorted({str(each) for each in names})
    if name is None or name not in known:
        listed = ", ".join(known[:LONGEST_LIST]) + (" …" if len(known) > LONGEST_LIST else "")
        raise WhatIfRefused(
            f"There is no {what} {name}. Remedy: "
            + (f"choose one of {listed}." if known else "import one; none is known for this tenant.")
        )


def _windows(downtime: Downtime, plan_date: date) -> list[tuple[date, time, time | None]]:
    """The times of a downtime by date, each within its day."""
    before = plan_date - timedelta(days=1)
    from_at, until_at = downtime.from_at, downtime.until_at
    if from_at is None:
        return [(before, time.min, None), (plan_date, time.min, until_at)]
    if until_at is None or from_at < until_at:
        return [(plan_date, from_at, until_at)]
    begins: list[tuple[date, time, time | None]] = [(before, from_at, None)]
    return begins if until_at == time.min else [*begins, (plan_date, time.min, until_at)]


def _with_downtime(
    calendar: pd.DataFrame, resources: pd.DataFrame, resource_id: str, on: date, from_at: time, until_at: time | None
) -> pd.DataFrame:
    """The calendar with a resource down for a time; what it said of that time gives way, and stays before and after."""
    end = until_at or time.max
    kept = []
    for row in calendar.to_dict("records"):
        if row["resource_id"] != resource_id or row["on_date"] != on:
            kept.append(row)
            continue
        row_end = _time_or_none(row["until_at"]) or time.max
        if row["from_at"] < from_at:
            kept.append({**row, "until_at": from_at if row_end >= from_at else row["until_at"]})
        if row_end > end:
            kept.append({**row, "from_at": max(row["from_at"], end)})
    tenant_id = resources.loc[resources["resource_id"] == resource_id, "tenant_id"].iloc[0]
    down = {
        "tenant_id": tenant_id,
        "resource_id": resource_id,
        "on_date": on,
        "from_at": from_at,
        "until_at": until_at,
        "capacity": 0.0,
    }
    changed = pd.DataFrame([*kept, down], columns=list(calendar.columns))
    return changed.astype({"on_date": object, "from_at": object, "until_at": object, "capacity": float}).sort_values(
        ["tenant_id", "resource_id", "on_date", "from_at"], ignore_index=True
    )


def _time_or_none(value: Any) -> time | None:
    return value if isinstance(value, time) else None


# ---------------------------------------------------------------- comparing the sides


def _totals(side: Side) -> dict[str, float | None]:
    lines, purchases, stock = side.production.lines, side.procurement.purchase_lines, side.projections.panel.keys
    return {
        "batches": _sum(lines["batches"]),
        "units": _sum(lines["quantity_units"]),
        "expected_profit": _sum(lines["expected_profit"]),
        "expected_waste_units": _sum(lines["expected_waste_units"]),
        "expected_lost_units": _sum(lines["expected_lost_units"]),
        "late_batches": float(late_batches(lines).sum()),
        "purchase_lines": float(len(purchases)),
        "purchase_amount": _sum(purchases["amount"]),
        "late_purchases": float(purchases["is_late"].sum()),
        "stock_outs": float(stock["stock_out_on"].notna().sum()),
        "items_at_risk": float((stock["stock_out_probability"] > RISK).sum()),
    }


def _sum(values: pd.Series) -> float | None:
    """The sum of what is known; None where there are rows and nothing is."""
    known = pd.to_numeric(values).dropna()
    return None if len(values) and not len(known) else round(float(known.sum()), 6)


def _production_difference(base: Side, changed: Side) -> pd.DataFrame:
    """The production lines that differ."""

    def of(side: Side) -> pd.DataFrame:
        lines = side.production.lines
        return lines[["location_id", "product_id", "batches", "quantity_units", "limited_by"]].assign(
            limiting_resource_id=lines["limiting_resource_id"]
            .astype(object)
            .where(lines["limiting_resource_id"].notna(), None),
            expected_profit=lines["expected_profit"].astype(float),
            expected_waste_units=lines["expected_waste_units"].astype(float),
            expected_lost_units=lines["expected_lost_units"].astype(float),
            late_batches=late_batches(lines),
        )

    return _differing(
        of(base),
        of(changed),
        ["location_id", "product_id"],
        {
            "batches": QUANTITY,
            "quantity_units": QUANTITY,
            "limited_by": None,
            "limiting_resource_id": None,
            "expected_profit": CENT,
            "expected_waste_units": CENT,
            "expected_lost_units": CENT,
            "late_batches": QUANTITY,
        },
    )


def _purchase_difference(base: Side, changed: Side) -> pd.DataFrame:
    """The deliveries that differ, in packs or money."""
    key = ["location_id", "item_id", "supplier_id", "delivery_on"]

    def of(side: Side) -> pd.DataFrame:
        lines = side.procurement.purchase_lines
        return lines[[*key, "order_by", "is_late"]].assign(
            packs=lines["packs"].astype(float),
            quantity=lines["quantity"].astype(float),
            amount=lines["amount"].astype(float),
        )

    return _differing(
        of(base),
        of(changed),
        key,
        {"packs": QUANTITY, "quantity": QUANTITY, "amount": CENT, "order_by": None, "is_late": None},
    )


def _stock_out_difference(base: Side, changed: Side) -> pd.DataFrame:
    """The items that run out, or are at risk of it, on one side only or on another day."""
    key = ["location_id", "item_id"]

    def of(side: Side) -> pd.DataFrame:
        panel = side.projections.panel
        keys = panel.keys
        return keys[key].assign(
            stock_out_on=keys["stock_out_on"].astype(object).where(keys["stock_out_on"].notna(), None),
            stock_out_probability=keys["stock_out_probability"].astype(float),
            shortage_quantity=panel["shortage_quantity"].sum(axis=1),
        )

    rows = _differing(
        of(base),
        of(changed),
        key,
        {"stock_out_on": None, "stock_out_probability": CHANCE, "shortage_quantity": QUANTITY},
    )
    matters = rows[["base_stock_out_on", "stock_out_on"]].notna().any(axis=1) | (
        rows[["base_stock_out_probability", "stock_out_probability"]].max(axis=1) > RISK
    )
    return rows[matters].reset_index(drop=True)


def _problem_difference(base: Side, changed: Side) -> pd.DataFrame:
    """Exceptions that the sides do not share; `side` is new, gone, or changed where both have one of the same code and
    subject: then base_message is what it was."""
    about = ["link", "location_id", "subject_kind", "subject_id", "code"]

    def of(side: Side) -> pd.DataFrame:
        parts = [side.production.exceptions, side.procurement.exceptions, side.projections.exceptions]
        rows = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
        return rows[list(EXCEPTION_COLUMNS[1:])].drop_duplicates()

    either = of(base).merge(of(changed), how="outer", indicator="side")
    was, now = (
        # Of several of the same code and subject the first belongs to the first.
        rows.drop(columns="side").assign(n=rows.groupby(about).cumcount())
        for rows in (either[either["side"] == side] for side in ("left_only", "right_only"))
    )
    both = was.merge(now, how="outer", on=[*about, "n"], suffixes=("_was", ""), indicator="side")
    side = both["side"].astype(str).map({"left_only": "gone", "right_only": "new", "both": "changed"})
    is_gone = side == "gone"
    problems = both[about].assign(
        base_message=both["message_was"].where(side == "changed", None),
        message=both["message"].where(~is_gone, both["message_was"]),
        remedy=both["remedy"].where(~is_gone, both["remedy_was"]),
        side=side,
    )
    order = side.map({"new": 0, "changed": 1, "gone": 2})
    return (
        problems.assign(order=order)
        .sort_values(["order", "link", "location_id", "subject_id", "code", "message"], ignore_index=True)
        .drop(columns="order")
    )


def _differing(
    base: pd.DataFrame, changed: pd.DataFrame, key: Sequence[str], columns: Mapping[str, float | None]
) -> pd.DataFrame:
    """The rows whose columns differ by more than their tolerance (None: at all), with `base_` columns before the others."""
    key = list(key)
    names = list(columns)
    joined = (
        base[[*key, *names]]
        .rename(columns={name: f"base_{name}" for name in names})
        .merge(changed[[*key, *names]], how="outer", on=key, validate="one_to_one")
    )
    differs = np.zeros(len(joined), dtype=bool)
    for name, tolerance in columns.items():
        before, after = joined[f"base_{name}"], joined[name]
        is_unknown = (before.isna() & after.isna()).to_numpy(dtype=bool)
        if tolerance is None:
            is_same = np.array([one == other for one, other in zip(before, after, strict=True)], dtype=bool)
        else:
            # Where only one side is known the difference is NaN, which is within no tolerance.
            is_same = np.abs(before.to_numpy(dtype=float) - after.to_numpy(dtype=float)) <= tolerance
        differs |= ~(is_unknown | is_same)
    ordered = [*key, *(side for name in names for side in (f"base_{name}", name))]
    return joined.loc[differs, ordered].sort_values(key, ignore_index=True)


def _differs(base: float | None, changed: float | None) -> bool:
    if base is None or changed is None:
        return base is not changed
    return abs(base - changed) > CENT


def _difference(base: float | None, changed: float | None) -> float | None:
    return None if base is None or changed is None else round(changed - base, 6)


def _records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {str(name): _plain(value) for name, value in row.items()}
        for row in rows.astype(object).where(rows.notna(), None).to_dict("records")
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, date):
        return value.isoformat()
    return value.item() if hasattr(value, "item") else value
