"""The facts of why a purchase or a batch was planned: plain values, as JSON gives them. Their words are in stories.

They are put together from what resources/store/pegs reads and planning/pegging derives. Unknown is None, never zero.
"""

from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd

from planning.distributions import QuantileDemand
from planning.frames import PlanningError
from planning.lots import LOT_COLUMNS, STOCK_KEY
from planning.newsvendor import unit_costs
from planning.pegging import (
    BY_FORECAST,
    BY_NOBODY,
    FOR_PRODUCTS,
    FOR_ROUNDING,
    batch_needs,
    demand_behind,
    lots_drawn,
    peg_purchases,
)
from resources.clock import is_time_zone
from resources.store.pegs import Basis, BatchBasis, PurchaseBasis, Row

Facts = dict[str, Any]


def purchase_facts(found: PurchaseBasis) -> Facts:
    """A purchase line: what, from whom, when, how much for what, and the demand and model behind it."""
    line, basis = found.line, found.basis
    quantity = float(line["quantity"])
    pegs = _pegs_of(found)
    first_day = basis.plan_date
    parts: list[Facts] = []
    if pegs is None:
        # A plan from before the days that a line covers were kept: its stored pegs say the products, not the days.
        net = min(float(line["net_quantity"]), quantity)
        parts = [
            _part(purpose, amount, amount / quantity)
            for purpose, amount in ((FOR_PRODUCTS, net), (FOR_ROUNDING, quantity - net))
            if amount > 0
        ]
        products = [
            {"product_id": product_id, "quantity": float(share) * net, "share": float(share) * net / quantity}
            for product_id, share in zip(line["peg_product_ids"], line["peg_shares"], strict=True)
        ]
        uses, demands = [], []
    else:
        grouped = pegs.groupby("purpose", sort=False)[["quantity", "share"]].sum()
        parts = [_part(str(purpose), row["quantity"], row["share"]) for purpose, row in grouped.iterrows()]
        of_products = pegs[pegs["purpose"] == FOR_PRODUCTS]
        summed = of_products.groupby("product_id", sort=True)[["quantity", "share"]].sum().reset_index()
        products = summed.sort_values(["share", "product_id"], ascending=[False, True]).to_dict("records")
        uses = _uses(of_products, basis)
        demands = _demands(of_products, basis)
    names = {row["product_id"]: row["product_name"] for row in basis.production}
    gross = found.requirement["gross_quantity"] if found.requirement else []
    covers = [float(amount) for amount in line["covers_quantity"]]
    for_products = np.zeros(len(covers))
    if pegs is not None:
        rows = pegs[pegs["day"] >= 0]
        np.add.at(for_products, rows["day"].to_numpy(dtype=int), rows["quantity"].to_numpy(dtype=float))
    decided_on = sorted({(use["product_id"], use["date"]) for use in uses})
    return {
        "kind": "purchase",
        "tenant": _tenant_facts(basis),
        "plan": _plan_facts(found.plan),
        "purchase": {
            **{
                name: line[name]
                for name in (
                    *(
                        "line_id",
                        "item_id",
                        "item_name",
                        "base_unit",
                        "location_id",
                        "location_name",
                        "packs",
                        "status",
                    ),
                    *("order_by", "delivery_on", "needed_on", "is_late", "reason", "lot_rule", "recommended_packs"),
                    *("override_by", "override_reason", "purchase_order_id"),
                )
            },
            **{
                name: _number(line[name])
                for name in ("quantity", "pack_quantity", "net_quantity", "price_per_pack", "amount")
            },
            "order": found.order and {**found.order, "quantity": _number(found.order["quantity"])},
        },
        "supplier": {
            **{
                name: line[name]
                for name in (
                    "supplier_id",
                    "supplier_name",
                    "lead_days",
                    "min_packs",
                    "multiple_packs",
                    "order_cutoff_at",
                )
            },
            "delivery_weekdays": list(line["delivery_weekdays"]),
            "min_order_value": _number(line["min_order_value"]),
            "delivery_fee": _number(line["delivery_fee"]),
            "alternatives": line["alternatives"],
        },
        "safety_stock": {
            "quantity": found.requirement["safety_stock_quantity"] if found.requirement else None,
            "reason": found.requirement["safety_stock_reason"] if found.requirement else "",
        },
        "parts": parts,
        "days": [
            {
                "date": first_day + timedelta(days=day),
                "gross_quantity": float(gross[day]) if len(gross) else None,
                "covered_quantity": amount,
                "for_products_quantity": float(for_products[day]),
            }
            for day, amount in enumerate(covers)
            if amount > 0
        ],
        "products": [{**row, "product_name": names.get(row["product_id"], row["product_id"])} for row in products],
        "uses": uses,
        "demand": demands,
        "decisions_on_products": [
            fact for product_id, on in decided_on if (fact := _decided(basis, line["location_id"], product_id, on))
        ],
        "made_from": _made_from(basis, found.plan),
        "overrides": found.overrides,
        "decisions": found.decisions,
    }


def _pegs_of(found: PurchaseBasis) -> pd.DataFrame | None:
    """The pegs of the line alone; None where the plan did not keep what it covers."""
    days = len(found.requirements["gross_quantity"][0]) if len(found.requirements) else 0
    lines = found.lines[[len(covers) == days and days > 0 for covers in found.lines["covers_quantity"]]]
    at = np.flatnonzero((lines["line_id"] == found.line["line_id"]).to_numpy())
    if not len(at):
        return None
    basis = found.basis
    pegs = peg_purchases(
        lines.reset_index(drop=True),
        found.requirements,
        basis.planned,
        basis.recipes,
        basis.items,
        opening_lots=basis.opening_lots,
        forecasts=basis.forecasts,
        assortment=basis.assortment,
        orders=basis.orders,
    )
    return pegs[pegs["line"] == at[0]]


def _part(purpose: str, quantity: float, share: float) -> Facts:
    return {"purpose": purpose, "quantity": float(quantity), "share": float(share)}


def _uses(pegs: pd.DataFrame, basis: Basis) -> list[Facts]:
    """Days, products and recipe ways that the line serves, with the batches of the plan date by their ids."""
    made = {row["product_id"]: row for row in basis.production}
    uses = []
    for (day, product_id, path), rows in pegs.groupby(["day", "product_id", "path"], sort=True):
        line = made[product_id]
        on = basis.plan_date + timedelta(days=int(day))
        uses.append(
            {
                "date": on,
                "product_id": product_id,
                "path": list(path),
                "planned_units": float(line["horizon_units"][day]),
                "is_tentative": bool(day > 0),
                "batch_ids": []
                if day
                else [
                    f"{line['tenant_id']}/{on}/{line['location_id']}/{product_id}/{n + 1}"
                    for n in range(line["batches"])
                ],
                "quantity": float(rows["quantity"].sum()),
                "share": float(rows["share"].sum()),
            }
        )
    return uses


def _demands(pegs: pd.DataFrame, basis: Basis) -> list[Facts]:
    """The forecast rows and orders that the line comes from in the end."""
    keys = ["day", "product_id", "sold_at_location_id", "demand_source", "forecast_row"]
    return [
        {
            "date": basis.plan_date + timedelta(days=int(day)),
            "product_id": product_id,
            "location_id": location_id,
            "source": source,
            **(_forecast_facts(basis, int(row), int(day)) if source == BY_FORECAST else {}),
            "quantity": float(part["quantity"].sum()),
            "share": float(part["share"].sum()),
        }
        for (day, product_id, location_id, source, row), part in pegs.groupby(keys, sort=True)
    ]


def _forecast_facts(basis: Basis, row: int, day: int) -> Facts:
    forecasts = basis.forecasts
    key = forecasts.keys.iloc[row]
    curve = dict(zip(basis.quantile_levels, forecasts["quantile_units"][row, day].tolist(), strict=True))
    return {
        "mean_units": float(forecasts["mean_units"][row, day]),
        "low_units": curve.get(0.1),
        "high_units": curve.get(0.9),
        "method": key["method"],
        "method_reason": key["method_reason"],
        "model_version": key["model_version"],
        "last_history_on": None if pd.isna(key["last_history_on"]) else key["last_history_on"],
        "is_extended": bool(day >= int(key["extended_from"])),
    }


def _decided(basis: Basis, location_id: str, product_id: str, on: date) -> Facts | None:
    """Why so many of a product are made on a day: the quantile of demand at the critical ratio, and what came of it."""
    line = next((row for row in basis.production if row["product_id"] == product_id), None)
    demand = _demand(basis, location_id, product_id)
    if line is None or demand is None:
        return None
    day = (on - basis.plan_date).days
    ratio = float(line["critical_ratio"])
    return {
        "product_id": product_id,
        "date": on,
        "mean_demand_units": float(demand.mean[day]),
        "critical_ratio": ratio,
        "is_default_critical_ratio": line["is_default_critical_ratio"],
        "deciding_quantile_units": float(demand.quantile(ratio)[day]),
        "planned_units": float(line["horizon_units"][day]),
        "batches": line["batches"] if day == 0 else None,
        "batch_size_units": _number(line["batch_size_units"]),
        "limited_by": line["limited_by"] if day == 0 else None,
        **_costs(line),
    }


def _demand(basis: Basis, location_id: str, product_id: str) -> QuantileDemand | None:
    """The pooled demand of what is made at a place; None where the plan's forecasts are gone."""
    if not basis.quantile_levels:
        return None
    made = (basis.tenant["tenant_id"], location_id, product_id)
    return demand_behind(made, basis.forecasts, basis.quantile_levels, basis.assortment, basis.orders)


def _costs(line: Row) -> Facts:
    """Price and costs of a unit, and what a unit missed or left over costs; None where unknown."""
    money = {name: _number(line[name]) for name in ("unit_price", "variable_cost", "salvage_value", "goodwill_cost")}
    if money["unit_price"] is None or money["variable_cost"] is None:
        return {**money, "underage_cost": None, "overage_cost": None}
    costs = unit_costs(*(np.array([money[name]], dtype=float) for name in money))
    return {
        **money,
        "underage_cost": float(np.asarray(costs.underage)[0]),
        "overage_cost": float(np.asarray(costs.overage)[0]),
    }


def batch_facts(found: BatchBasis, number: int) -> Facts:
    """The nth batch of a production line: what it brings, what limited the line, when it is made, and from what."""
    line, basis = found.line, found.basis
    size = float(line["batch_size_units"])
    needs, recipe_problem = _needs(found, size)
    values = [float(value) for value in line["batch_marginal_values"]]
    before = float(line["opening_usable_units"]) + (number - 1) * size
    demand = _demand(basis, line["location_id"], line["product_id"])
    today = demand.select(0) if demand is not None else None
    return {
        "kind": "batch",
        "tenant": _tenant_facts(basis),
        "plan": _plan_facts(found.plan),
        "batch": {
            "batch_id": "/".join(
                map(str, (line["tenant_id"], basis.plan_date, line["location_id"], line["product_id"], number))
            ),
            **{
                name: line[name]
                for name in (
                    *("location_id", "location_name", "product_id", "product_name", "batches", "recommended_batches"),
                    *("unlimited_batches", "limited_by", "limiting_resource_id", "limiting_resource_name"),
                    *("is_default_critical_ratio", "override_by", "override_reason", "ready_by", "is_late"),
                )
            },
            "number": number,
            "batch_size_units": size,
            "expected_gain": values[number - 1] if number <= len(values) else None,
            "expected_gain_unit": "share of Cu + Co" if line["is_default_critical_ratio"] else basis.tenant["currency"],
            "supply_before_units": before,
            "expected_sold_units": None
            if today is None
            else float(today.expected_lost(before) - today.expected_lost(before + size)),
            "sells_out_probability": None if today is None else float(1 - today.cdf(before + size)),
            "not_needed_probability": None if today is None else float(today.cdf(before)),
        },
        "line": {
            **{
                name: _number(line[name])
                for name in (
                    *("quantity_units", "orders_units", "opening_usable_units", "mean_demand_units", "optimal_units"),
                    *("expected_sales_units", "expected_waste_units", "expected_lost_units", "expected_carried_units"),
                    *("expected_profit", "sold_out_probability", "critical_ratio", "batch_fixed_cost"),
                )
            },
            **_costs(line),
            "batch_gains": values,
        },
        "times": _times(line, number),
        "doughs": _dough_facts(found, number, needs),
        "demand": _outlets(found),
        "ingredients": _ingredients(found, needs),
        "recipe_problem": recipe_problem,
        "made_from": _made_from(basis, found.plan),
        "overrides": found.overrides,
        "decisions": found.decisions,
    }


def _times(line: Row, number: int) -> Facts:
    """When the batch is made and on what; None where its product has no process steps."""
    names = {
        "resource_id": "batch_resource_ids",
        "starts_at": "batch_starts_at",
        "bakes_at": "batch_bakes_at",
        "ready_at": "batch_ready_at",
    }
    return {name: line[column][number - 1] if len(line[column]) >= number else None for name, column in names.items()}


def _needs(found: BatchBasis, units: float) -> tuple[pd.DataFrame, str | None]:
    """What a batch takes, level by level; nothing, and why, where its recipes go round in a circle."""
    tenant_id, product_id, recipes = found.line["tenant_id"], found.line["product_id"], found.basis.recipes
    try:
        return batch_needs(recipes, tenant_id, product_id, units), None
    except PlanningError as error:
        return batch_needs(recipes.iloc[:0], tenant_id, product_id, units), str(error)


def _dough_facts(found: BatchBasis, number: int, needs: pd.DataFrame) -> list[Facts]:
    """The doughs that the batch takes, each with its runs; the last run that ends before the batch starts feeds it."""
    line, basis = found.line, found.basis
    starts = _times(line, number)["starts_at"]
    of_item = needs.groupby("item_id")["quantity"].sum()
    doughs = []
    for dough in basis.doughs:
        if dough["item_id"] not in of_item.index:
            continue
        ends = list(dough["run_ends_at"])
        runs = [
            {
                "number": n + 1,
                "quantity": float(quantity),
                "resource_id": dough["run_resource_ids"][n] if dough["run_resource_ids"] else None,
                "starts_at": dough["run_starts_at"][n] if dough["run_starts_at"] else None,
                "ends_at": ends[n] if ends else None,
            }
            for n, quantity in enumerate(dough["run_quantities"])
        ]
        in_time = [run for run in runs if starts and run["ends_at"] and run["ends_at"] <= starts]
        doughs.append(
            {
                "item_id": dough["item_id"],
                "item_name": dough["item_name"],
                "base_unit": dough["base_unit"],
                "quantity": float(of_item[dough["item_id"]]),
                "mixed_quantity": float(dough["quantity"]),
                "opening_usable_quantity": float(dough["opening_usable_quantity"]),
                "fed_by_run": max(in_time, key=lambda run: (run["ends_at"], run["number"]))["number"]
                if in_time
                else None,
                "runs": runs,
            }
        )
    return doughs


def _outlets(found: BatchBasis) -> list[Facts]:
    """Who the product is made for on the plan date: forecasts and orders of each outlet."""
    line, basis = found.line, found.basis
    series = basis.assortment[
        (basis.assortment["product_id"] == line["product_id"])
        & (basis.assortment["made_at_location_id"] == line["location_id"])
    ]
    keys = basis.forecasts.keys
    rows = []
    for outlet in series["location_id"]:
        at = np.flatnonzero((keys["location_id"] == outlet) & (keys["product_id"] == line["product_id"]))
        placed = basis.orders[
            (basis.orders["location_id"] == outlet)
            & (basis.orders["product_id"] == line["product_id"])
            & (basis.orders["due_on"] == basis.plan_date)
        ]
        facts = {"location_id": outlet, "orders_units": float(placed["quantity_units"].sum())}
        if len(at):
            is_open = bool(basis.forecasts["is_open"][at[0], 0])
            facts |= {"source": BY_FORECAST, "is_open": is_open, **_forecast_facts(basis, int(at[0]), 0)}
        else:
            facts |= {"source": BY_NOBODY, "is_open": None}
        rows.append({"date": basis.plan_date, "product_id": line["product_id"], **facts})
    return rows


def _ingredients(found: BatchBasis, needs: pd.DataFrame) -> list[Facts]:
    """What the batch takes, level by level, and the lots and purchases that give what is bought."""
    line, basis = found.line, found.basis
    items = basis.items.set_index("item_id")
    bought = needs[~needs["is_made"].astype(bool)].groupby("item_id", as_index=False)["quantity"].sum()
    wanted = bought.assign(tenant_id=line["tenant_id"], location_id=line["location_id"])[[*STOCK_KEY, "quantity"]]
    gross = found.requirements.keys.assign(total=found.requirements["gross_quantity"][:, :1].sum(axis=1))
    total = wanted.merge(gross, on=STOCK_KEY, how="left")
    # An item that the requirements do not know, as no procurement plan was made, is needed for this batch at least.
    total = wanted.assign(quantity=total["total"].fillna(0.0).clip(lower=wanted["quantity"]))
    drawn = lots_drawn(wanted, total, _lots_of_the_day(found), basis.items, basis.plan_date)
    purchases: dict[str, list[Facts]] = {}
    for row in found.purchases:
        if row["covers_quantity"] and row["covers_quantity"][0] > 0:
            said = {name: row[name] for name in ("line_id", "supplier_id", "delivery_on", "status", "is_late")}
            purchases.setdefault(row["item_id"], []).append(
                {**said, "quantity": float(row["quantity"]), "covers_quantity": row["covers_quantity"][0]}
            )
    lots = {str(item_id): rows for item_id, rows in drawn.groupby("item_id")}
    return [
        {
            "level": int(need.level),
            "path": list(need.path),
            "item_id": need.item_id,
            "item_name": items["name"].get(need.item_id, need.item_id),
            "base_unit": items["base_unit"].get(need.item_id, ""),
            "is_made": bool(need.is_made),
            "quantity": float(need.quantity),
            "lots": []
            if need.is_made
            else [
                {
                    "lot_id": lot.lot_id or None,
                    "quantity": float(lot.quantity),
                    "expires_on": None if pd.isna(lot.expires_on) else lot.expires_on,
                }
                for lot in lots.get(need.item_id, drawn.iloc[:0]).itertuples()
            ],
            "purchases": [] if need.is_made else purchases.get(need.item_id, []),
        }
        for need in needs.itertuples()
    ]


def _lots_of_the_day(found: BatchBasis) -> pd.DataFrame:
    """Stock at the opening of the plan date and what is received on it, by order or by a line not ordered yet."""
    line, basis = found.line, found.basis
    pending = pd.DataFrame(
        [
            (
                *(line["tenant_id"], line["location_id"], row["item_id"], str(row["line_id"])),
                *(float(row["quantity"]), row["delivery_on"], row["expires_on"], np.nan),
            )
            for row in found.purchases
            if row["status"] == "pending" and row["delivery_on"] == basis.plan_date
        ],
        columns=list(LOT_COLUMNS),
    )
    ordered = found.receipts.rename(columns={"delivery_on": "received_on"})[list(LOT_COLUMNS)]
    parts = [part.astype(object) for part in (basis.opening_lots, ordered, pending) if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else pending


def _tenant_facts(basis: Basis) -> Facts:
    zone = basis.tenant["timezone"]
    return {**basis.tenant, "timezone": zone if is_time_zone(zone) else "UTC"}


def _plan_facts(plan: Row) -> Facts:
    names = (
        *("plan_id", "kind", "location_id", "plan_date", "run_date", "revision", "status", "approval", "is_replayed"),
        *(
            "created_at",
            "superseded_at",
            "decided_at",
            "decided_by",
            "reason_code",
            "decision_notes",
            "regenerated_from",
        ),
    )
    return {name: plan[name] for name in names}


def _made_from(basis: Basis, plan: Row) -> Facts:
    """The data versions of the plan, and the plans that it rests on."""
    below = [row for row in (*basis.forecast_plans, *basis.plans.values()) if row["plan_id"] != plan["plan_id"]]
    order = {"forecast": 0, "production": 1, "procurement": 2}
    return {
        "input_versions": plan["input_versions"],
        "inputs_hash": plan["inputs_hash"],
        "run_id": plan["run_id"],
        "plans": [
            {name: row[name] for name in ("plan_id", "kind", "location_id", "revision", "created_at")}
            for row in below
            if order.get(row["kind"], 3) < order.get(plan["kind"], 3)
        ],
    }


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
