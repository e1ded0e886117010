"""How fast a morning is planned, and how good the plans are where ovens and mixers do not suffice.

Run by `python -m benchmarks.planning [--tenants N] [--instances N] [--json]`. Nothing here is measured at a bakery.

Speed: CPU time of one thread for production, procurement and projection of a batch of tenants of 30 products and 60
ingredients on three levels (products, doughs, pre-doughs and fillings), with ovens, provers and mixers in which there is
room for everything; the same batch with a tenth of the tenants, at even distances, short of an oven, and again of an oven
and a mixer; and the tenants of a sample one at a time. What a tenant takes that is short is the difference of the batches
divided by these tenants, and what any tenant takes besides.

Quality: random instances of batches that compete for two resources of which each alone is too small, planned by
planning.capacity.allocate and by scipy's MILP solver to proven optimality.
"""

import argparse
import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from datetime import time as clock
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import Bounds, LinearConstraint, milp

from planning.capacity import allocate
from planning.distributions import NormalDemand
from planning.frames import PLAN_DAYS, Panel, frame_of
from planning.newsvendor import batch_marginal_value, unit_costs
from planning.procurement import plan_procurement
from planning.production import plan_production
from planning.projection import project_inventory
from planning.quantiles import assumed_spread
from planning.workshop import Workshop
from planning_assets.chunk import collector_at_rest

PLAN_DATE = date(2026, 3, 2)
PRODUCTS, DOUGHS, FILLINGS, INGREDIENTS = 30, 8, 6, 60
PLACE = "main"
SHORT_SHARE = 0.1
SHORT_BY = 0.8
"""What a short oven and mixer hold, as a share of what the products of the plan date would take."""

SHORT_KINDS: tuple[tuple[str, ...], ...] = (("oven",), ("oven", "mixer"))

BATCH_SIZES = np.array([6.0, 8.0, 12.0, 20.0, 24.0, 40.0])
BATCHES_A_DAY = 4
"""Of a product, about: what sells more is made in larger batches."""

OPENS_AT, OVEN_FROM = clock(7), clock(0, 30)
BAKE_MINUTES, MIX_MINUTES = 25.0, 18.0
ROOM = 1000.0
"""What a resource holds that binds nothing."""

LEAD_DAYS, STOCK_DAYS = (2, 3, 1, 3, 2), (6, 7, 3, 10, 6)
"""Of each supplier: days from the order to the delivery, and days of need on hand of what it brings."""

ONE_BY_ONE = 20
REPEATS = 3
LINKS = ("production", "procurement", "projection")
RECEIPT_COLUMNS = (
    "tenant_id",
    "location_id",
    "item_id",
    "lot_id",
    "delivery_on",
    "quantity",
    "expires_on",
    "unit_cost",
)


def main() -> None:
    """Measure, and print a table or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tenants", type=int, default=500)
    parser.add_argument("--instances", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with quiet_stdout():
        result = {"speed": speed(options.tenants), "quality": quality(options.instances)}
    if options.json:
        print(json.dumps(result, allow_nan=False))
        return
    for title, figures in result.items():
        print(title)
        for name, value in figures.items():
            print(f"  {name:<44}{value:>14,.4f}" if isinstance(value, float) else f"  {name:<44}{value!s:>14}")


@contextmanager
def quiet_stdout() -> Iterator[None]:
    """Standard output sent to standard error: the solver behind scipy writes lines of its own, which are no JSON."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


# ---------------------------------------------------------------- speed


@dataclass(frozen=True)
class Bakeries:
    """The frames of a batch of tenants, as the links read them."""

    forecasts: Panel
    frames: Mapping[str, pd.DataFrame]
    workshop: Workshop

    def of(self, tenant_ids: set[str]) -> "Bakeries":
        """These tenants alone."""

        def part(frame: pd.DataFrame) -> pd.DataFrame:
            return frame[frame["tenant_id"].isin(tenant_ids)].reset_index(drop=True)

        return Bakeries(
            self.forecasts.select(self.forecasts.keys["tenant_id"].isin(tenant_ids).to_numpy()),
            {name: part(frame) for name, frame in self.frames.items()},
            Workshop(**{name: part(frame) for name, frame in vars(self.workshop).items()}),
        )


def speed(tenants: int) -> dict[str, Any]:
    """Milliseconds of CPU per tenant, medians of REPEATS runs."""
    roomy = bakeries(tenants)
    tenant_ids = list(roomy.frames["tenants"]["tenant_id"])
    few = tenant_ids[:: max(1, round(1 / SHORT_SHARE))]
    crowded = {kinds: with_short_resources(roomy, few, kinds) for kinds in SHORT_KINDS}
    alone = [roomy.of({tenant_id}) for tenant_id in tenant_ids[:ONE_BY_ONE]]
    plan(roomy.of(set(tenant_ids[:5])))  # imports and first calls are not what is measured

    roomy_ms, alone_ms = [], []
    crowded_ms: dict[tuple[str, ...], list[dict[str, float]]] = {kinds: [] for kinds in SHORT_KINDS}
    for _ in range(REPEATS):
        roomy_ms.append(timed(lambda: plan(roomy)))
        for kinds, batch in crowded.items():
            crowded_ms[kinds].append(timed(partial(plan, batch)))
        alone_ms.append(timed(lambda: [plan(one) for one in alone]))
    by_link = {f"{link}_ms_per_tenant": statistics.median(run[link] for run in roomy_ms) / tenants for link in LINKS}
    of_all = statistics.median(run["all"] for run in roomy_ms) / tenants
    one_by_one = statistics.median(run["all"] for run in alone_ms) / len(alone)
    short: dict[str, Any] = {}
    for short_of, runs in crowded_ms.items():
        extra = statistics.median(
            (crowd["all"] - room["all"]) / len(few) for crowd, room in zip(runs, roomy_ms, strict=True)
        )
        lines = plan(crowded[short_of])["production"].lines
        bound = lines[lines["limited_by"] == "capacity"]
        named = "_and_".join(short_of)
        short |= {
            f"short_of_{named}_tenants_bound": int(bound["tenant_id"].nunique()),
            f"short_of_{named}_ms_more": extra,
            f"short_of_{named}_ms_per_tenant": of_all + extra,
        }
    return {
        "tenants": tenants,
        "products": PRODUCTS,
        "ingredients": INGREDIENTS,
        "ms_per_tenant": of_all,
        **by_link,
        "short_tenants": len(few),
        **short,
        "one_at_a_time_ms_per_tenant": one_by_one,
        "one_at_a_time_by_batch": one_by_one / of_all,
    }


def timed(work: Callable[[], Any]) -> dict[str, float]:
    """CPU milliseconds of a call, in all and by link."""
    gc.collect()
    with collector_at_rest():
        began = time.process_time()
        done = work()
        total = 1000 * (time.process_time() - began)
    every = done if isinstance(done, list) else [done]
    return {"all": total, **{link: sum(one["ms"][link] for one in every) for link in LINKS}}


def plan(given: Bakeries) -> dict[str, Any]:
    """The three links one after the other, as a morning's run calls them; `ms` holds the CPU time of each."""
    frames, marks = given.frames, [time.process_time()]
    production = plan_production(
        given.forecasts,
        assortment=frames["assortment"],
        products=frames["products"],
        orders=frames["orders"],
        opening_lots=frames["lots"],
        tenants=frames["tenants"],
        plan_date=PLAN_DATE,
        recipes=frames["recipes"],
        workshop=given.workshop,
    )
    marks.append(time.process_time())
    procurement = plan_procurement(
        production.planned,
        recipes=frames["recipes"],
        items=frames["items"],
        suppliers=frames["suppliers"],
        supplier_items=frames["supplier_items"],
        supplier_prices=frames["supplier_prices"],
        opening_lots=frames["lots"],
        open_orders=frames["open_orders"],
        tenants=frames["tenants"],
        plan_date=PLAN_DATE,
    )
    marks.append(time.process_time())
    lines = procurement.purchase_lines.assign(unit_cost=np.nan)
    lines["lot_id"] = np.arange(len(lines)).astype(str)
    projection = project_inventory(
        procurement.requirements,
        opening_lots=frames["lots"],
        receipts=pd.concat([part[list(RECEIPT_COLUMNS)] for part in (frames["open_orders"], lines)]),
        items=frames["items"],
        supplier_items=frames["supplier_items"],
        plan_date=PLAN_DATE,
        suppliers=frames["suppliers"],
        tenants=frames["tenants"],
    )
    marks.append(time.process_time())
    spent = dict(zip(LINKS, 1000 * np.diff(marks), strict=True))
    return {"production": production, "procurement": procurement, "projection": projection, "ms": spent}


# ---------------------------------------------------------------- synthetic bakeries


def bakeries(tenants: int, seed: int = 7) -> Bakeries:
    """Tenants of one make whose demand, stock and orders differ; every resource has room for all."""
    rng = np.random.default_rng(seed)
    tenant_ids = [f"t{n:05d}" for n in range(tenants)]
    recipes, dough_kg = _recipes(rng)
    usual = rng.uniform(4, 150, PRODUCTS)
    size = BATCH_SIZES[np.abs(BATCH_SIZES[:, None] - usual / BATCHES_A_DAY).argmin(axis=0)]
    price = np.round(rng.uniform(1.0, 6.0, PRODUCTS), 2)
    product_ids = [_product(n) for n in range(PRODUCTS)]
    units = usual[None, :, None] * rng.uniform(0.6, 1.6, (tenants, PRODUCTS, 1))
    week = np.array([0.92, 0.88, 0.90, 0.97, 1.10, 1.30, 1.05])[(PLAN_DATE.weekday() + np.arange(PLAN_DAYS)) % 7]
    mean = (units * week).reshape(tenants * PRODUCTS, PLAN_DAYS)
    keys = _crossed(tenant_ids, pd.DataFrame({"location_id": PLACE, "product_id": product_ids}))
    products = pd.DataFrame(
        {
            "product_id": product_ids,
            "name": product_ids,
            "base_unit": "unit",
            "shelf_life_days": np.where(np.arange(PRODUCTS) % 5 == 4, 2.0, 1.0),
            "batch_size_units": size,
            "batch_min": 0,
            "batch_multiple": 1,
            "batch_max_per_day": np.nan,
            "batch_fixed_cost": 0.0,
            "made_on_weekdays": [list(range(7))] * PRODUCTS,
            "ready_by": pd.Series([None] * PRODUCTS, dtype=object),
            "unit_price": price,
            "variable_cost": np.round(price * rng.uniform(0.25, 0.5, PRODUCTS), 3),
            "salvage_value": 0.0,
            "goodwill_cost": 0.0,
        }
    )
    need = _daily_need(recipes, units.mean(axis=(0, 2)))
    items, suppliers, supplier_items, supplier_prices = _purchasing(rng, need)
    frames = {
        "assortment": keys.assign(made_at_location_id=PLACE),
        "products": _crossed(tenant_ids, products),
        "orders": _crossed(
            tenant_ids,
            pd.DataFrame(
                {"location_id": PLACE, "product_id": product_ids[:3], "due_on": PLAN_DATE, "quantity_units": 12.0}
            ),
        ),
        "tenants": pd.DataFrame(
            {
                "tenant_id": tenant_ids,
                "default_critical_ratio": 0.7,
                "timezone": "Europe/Madrid",
                "run_date": PLAN_DATE - timedelta(days=1),  # they bake at night, and plan the day ahead
                "as_of_time": clock(4, 30),
            }
        ),
        "recipes": _crossed(tenant_ids, recipes),
        "items": _crossed(tenant_ids, items),
        "suppliers": _crossed(tenant_ids, suppliers),
        "supplier_items": _crossed(tenant_ids, supplier_items),
        "supplier_prices": _crossed(tenant_ids, supplier_prices),
        "lots": _lots(rng, tenant_ids, need),
        "open_orders": _crossed(
            tenant_ids,
            pd.DataFrame(
                [
                    (PLACE, item, f"open-{item}", PLAN_DATE + timedelta(days=1), 2 * quantity, None, 1.0)
                    for item, quantity in list(need.items())[:5]
                ],
                columns=list(RECEIPT_COLUMNS[1:]),
            ),
        ),
    }
    forecasts = Panel(
        keys,
        {
            "mean_units": mean,
            "quantile_units": assumed_spread(mean),
            "is_open": np.ones(mean.shape, dtype=bool),
        },
        PLAN_DATE,
    )
    return Bakeries(forecasts, frames, _workshop(tenant_ids, size, dough_kg))


def with_short_resources(roomy: Bakeries, tenant_ids: list[str], kinds: tuple[str, ...]) -> Bakeries:
    """The batch with resources of these kinds (oven, mixer) of these tenants that hold SHORT_BY of what their products of
    the plan date take."""
    few = set(tenant_ids)
    made = plan(roomy.of(few))["production"].lines
    steps = roomy.workshop.steps
    bake = steps[steps["resource_kind"] == "oven"].rename(columns={"item_id": "product_id"})
    made = made.merge(bake[["tenant_id", "product_id", "minutes", "capacity_use"]], on=["tenant_id", "product_id"])
    tray_minutes = (made["batches"] * made["minutes"] * made["capacity_use"]).groupby(made["tenant_id"]).sum()
    recipes = roomy.frames["recipes"]
    of_product = recipes[recipes["item_id"].str.startswith("dough")].rename(columns={"output_item_id": "product_id"})
    mixed = made.merge(of_product[["tenant_id", "product_id", "quantity"]], on=["tenant_id", "product_id"])
    dough_kg = (mixed["quantity_units"] * mixed["quantity"]).groupby(mixed["tenant_id"]).sum()

    resources = roomy.workshop.resources.copy()
    is_few = resources["tenant_id"].isin(few)
    oven, mixer = is_few & (resources["kind"] == "oven"), is_few & (resources["kind"] == "mixer")
    oven_minutes = _minutes(OPENS_AT) - _minutes(OVEN_FROM)
    if "oven" in kinds:
        trays = resources.loc[oven, "tenant_id"].map(tray_minutes) * SHORT_BY / oven_minutes
        resources.loc[oven, "capacity"] = trays.clip(lower=2.0).round(1)
    if "mixer" in kinds:
        # Runs that fit into the time, less half a run a dough that its last one leaves empty.
        runs = oven_minutes / MIX_MINUTES / SHORT_BY - DOUGHS / 2
        resources.loc[mixer, "capacity"] = (resources.loc[mixer, "tenant_id"].map(dough_kg) / runs).round(1)
        resources.loc[mixer, "available_from"] = OVEN_FROM
    return Bakeries(roomy.forecasts, roomy.frames, Workshop(**{**vars(roomy.workshop), "resources": resources}))


def _recipes(rng: np.random.Generator) -> tuple[pd.DataFrame, np.ndarray]:
    """Recipe lines of products, doughs and fillings by which every ingredient is used; kg of dough per unit."""
    rows = []
    dough_kg = np.round(rng.uniform(0.06, 0.9, PRODUCTS), 3)
    for n in range(PRODUCTS):
        rows.append((_product(n), 1.0, f"dough{n % DOUGHS}", dough_kg[n], 0.02))
        rows.append((_product(n), 1.0, f"filling{n % FILLINGS}", 0.02, 0.0))
        rows += [(_product(n), 1.0, _ingredient(item), 0.01, 0.0) for item in (n, (n + 30) % INGREDIENTS)]
    for n in range(DOUGHS):
        rows.append((f"dough{n}", 0.97, f"filling{(n + 1) % FILLINGS}", 0.1, 0.0))
        rows += [(f"dough{n}", 0.97, _ingredient((7 * n + k) % INGREDIENTS), 0.15, 0.01) for k in range(6)]
    for n in range(FILLINGS):
        rows += [(f"filling{n}", 0.98, _ingredient((11 * n + k) % INGREDIENTS), 0.25, 0.0) for k in range(4)]
    frame = pd.DataFrame(rows, columns=["output_item_id", "yield_frac", "item_id", "quantity", "scrap_frac"])
    frame = frame.groupby(["output_item_id", "yield_frac", "item_id", "scrap_frac"], as_index=False)["quantity"].sum()
    return frame.assign(version=1, output_quantity=1.0), dough_kg


def _daily_need(recipes: pd.DataFrame, units: np.ndarray) -> dict[str, float]:
    """Base units a day of each ingredient that these daily units of the products take."""
    lines = dict(tuple(recipes.groupby("output_item_id")))
    need = dict.fromkeys((_ingredient(n) for n in range(INGREDIENTS)), 0.0)
    pending = [(_product(n), float(quantity)) for n, quantity in enumerate(units)]
    while pending:
        output, quantity = pending.pop()
        for line in lines[output].itertuples():
            used = quantity * line.quantity / line.yield_frac
            if line.item_id in need:
                need[line.item_id] += used
            else:
                pending.append((line.item_id, used))
    return need


def _purchasing(
    rng: np.random.Generator, need: Mapping[str, float]
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Items, five suppliers, and one or two offers of each ingredient with price breaks."""
    supplier = np.arange(INGREDIENTS) % len(LEAD_DAYS)
    shelf_life = np.array([180.0, 60.0, 9.0, np.nan, 21.0])[supplier]
    cost = np.round(rng.uniform(0.4, 9.0, INGREDIENTS), 2)
    rules = np.resize(["delivery_calendar"] * 4 + ["lot_for_lot", "period"], INGREDIENTS)
    bought = pd.DataFrame(
        {
            "item_id": list(need),
            "kind": "ingredient",
            "shelf_life_days": shelf_life,
            "unit_cost": cost,
            "safety_stock_quantity": 0.0,
            "service_level": 0.95,
            "lot_rule": rules,
            "lot_periods": np.where(rules == "period", 4.0, np.nan),
        }
    )
    made = [(f"dough{n}", "dough", 2.0) for n in range(DOUGHS)]
    made += [(f"filling{n}", "dough", 2.0) for n in range(FILLINGS)]
    made += [(_product(n), "product", 1.0) for n in range(PRODUCTS)]
    others = pd.DataFrame(made, columns=["item_id", "kind", "shelf_life_days"]).assign(
        unit_cost=np.nan,
        safety_stock_quantity=0.0,
        service_level=0.95,
        lot_rule="delivery_calendar",
        lot_periods=np.nan,
    )
    items = pd.concat([bought, others], ignore_index=True).assign(base_unit="kg", removal_days=0, lot_quantity=np.nan)
    suppliers = pd.DataFrame(
        {
            "supplier_id": [f"s{n}" for n in range(5)],
            "name": [f"Supplier {n}" for n in range(5)],
            "delivery_weekdays": [[0, 2, 4], [1, 4], [0, 1, 2, 3, 4, 5], [2], [0, 3]],
            "order_cutoff_at": clock(12),
            "min_order_value": [60.0, 90.0, 30.0, 80.0, 40.0],
            "delivery_fee": [0.0, 5.0, 0.0, 8.0, 0.0],
        }
    )
    offers = [
        (f"s{source % 5}", item, priority, LEAD_DAYS[source % 5], float(max(1, round(3 * need[item]))))
        for n, item in enumerate(need)
        for priority, source in enumerate((n, n + 2)[: 1 + (n % 4 == 0)], start=1)
    ]
    offered = pd.DataFrame(offers, columns=["supplier_id", "item_id", "priority", "lead_days", "pack_quantity"])
    offered = offered.assign(min_packs=1, multiple_packs=1, lead_sd_days=0.3, on_time_rate=0.95)
    price = offered["item_id"].map(dict(zip(need, cost, strict=True))) * offered["pack_quantity"]
    prices = pd.concat(
        [
            offered[["supplier_id", "item_id"]].assign(from_packs=packs, version=1, price_per_pack=price * share)
            for packs, share in ((1, 1.0), (5, 0.96))
        ],
        ignore_index=True,
    )
    return items, suppliers, offered, prices


def _lots(rng: np.random.Generator, tenant_ids: list[str], need: Mapping[str, float]) -> pd.DataFrame:
    """Two lots of every ingredient, that together mostly last until its supplier's first delivery and the one after it."""
    one = pd.DataFrame(
        [
            (PLACE, item, f"{item}-{k}", PLAN_DATE - timedelta(days=4 - k), PLAN_DATE + timedelta(days=5 + 9 * k), 1.0,
             need[item] * STOCK_DAYS[n % len(STOCK_DAYS)] / 2)
            for n, item in enumerate(need)
            for k in range(2)
        ],
        columns=["location_id", "item_id", "lot_id", "received_on", "expires_on", "unit_cost", "quantity"],
    )  # fmt: skip
    lots = _crossed(tenant_ids, one)
    return lots.assign(quantity=np.round(lots["quantity"] * rng.uniform(0.7, 1.6, len(lots)), 3))


def _workshop(tenant_ids: list[str], size: np.ndarray, dough_kg: np.ndarray) -> Workshop:
    """An oven, a prover and a mixer a tenant that hold everything: doughs are mixed, products proved and baked."""
    resources = pd.DataFrame(
        [
            ("oven", PLACE, "oven", OVEN_FROM),
            ("prover", PLACE, "prover", clock(0)),
            ("mixer", PLACE, "mixer", clock(0)),
        ],
        columns=["resource_id", "location_id", "kind", "available_from"],
    ).assign(capacity=ROOM)
    trays = np.maximum(1, np.round(size * dough_kg / 2))
    steps: list[tuple[str, int, str, float, float, float]] = []
    for n in range(DOUGHS):
        steps.append((f"dough{n}", 1, "mixer", MIX_MINUTES, 1.0, 20.0))
    for n in range(PRODUCTS):
        steps.append((_product(n), 1, "prover", 50.0, trays[n], 0.0))
        steps.append((_product(n), 2, "oven", BAKE_MINUTES, trays[n], 10.0))
    of_one = pd.DataFrame(
        steps, columns=["item_id", "step_no", "resource_kind", "minutes", "capacity_use", "wait_minutes"]
    ).assign(resource_id=None)
    opening = pd.DataFrame({"location_id": PLACE, "weekday": range(7), "opens_at": OPENS_AT})
    return Workshop(
        _crossed(tenant_ids, resources),
        frame_of(("tenant_id", "resource_id", "on_date", "from_at", "until_at", "capacity")),
        _crossed(tenant_ids, of_one),
        _crossed(tenant_ids, opening),
    )


def _crossed(tenant_ids: list[str], of_one: pd.DataFrame) -> pd.DataFrame:
    """The frame of one tenant for every tenant, tenant by tenant."""
    return pd.DataFrame({"tenant_id": tenant_ids}).merge(of_one, how="cross")


def _product(number: int) -> str:
    return f"product{number:02d}"


def _ingredient(number: int) -> str:
    return f"item{number:02d}"


def _minutes(at: clock) -> int:
    return 60 * at.hour + at.minute


# ---------------------------------------------------------------- quality


@dataclass(frozen=True)
class Instance:
    """Batches that compete: gains (n, K), descending, 0 where a batch is not worth making; usage (n, 2); capacity (2,)."""

    gains: np.ndarray
    usage: np.ndarray
    capacity: np.ndarray


def quality(instances: int) -> dict[str, Any]:
    """Expected profit of allocate as a share of the optimum, over random instances of two binding resources."""
    shares, is_exact, is_solved, spent, solved = [], [], [], [], []
    for number in range(instances):
        one = instance(number)
        began = time.process_time()
        found = allocate(one.gains, one.usage, one.capacity)
        spent.append(1000 * (time.process_time() - began))
        steps = np.asarray(found.steps)
        if (one.usage.T @ steps > one.capacity * (1 + 1e-7)).any():
            raise SystemExit(f"instance {number}: the batches allocated do not fit")
        profit = sum(float(one.gains[row, :made].sum()) for row, made in enumerate(steps))
        began = time.process_time()
        optimum = best_profit(one)
        solved.append(1000 * (time.process_time() - began))
        shares.append(profit / optimum)
        is_exact.append(bool(found.is_exact))
        is_solved.append(bool(found.is_solved))
    return {
        "instances": instances,
        "least_share_of_optimum": min(shares),
        "mean_share_of_optimum": statistics.fmean(shares),
        "instances_below_99_pct": sum(share < 0.99 for share in shares),
        "proven_best": sum(is_exact),
        "exact_solver_used": sum(is_solved),
        "ms_per_instance": statistics.fmean(spent),
        "ms_per_optimum": statistics.fmean(solved),
    }


def instance(number: int) -> Instance:
    """10 to 60 products of normal demand, each worth some two to ten batches, and capacity of each resource for 55 to 90 %
    of what is worth making. Few and large batches are the hard case: many small ones fill any capacity.
    """
    rng = np.random.default_rng([11, number])
    n = int(rng.integers(10, 61))
    mean = rng.uniform(5, 200, n)
    demand = NormalDemand(mean[:, None], (mean * rng.uniform(0.15, 0.5, n))[:, None])
    size = np.maximum(np.round(mean / rng.uniform(1.0, 8.0, n)), 1.0)
    price = rng.uniform(0.8, 6.0, n)
    costs = unit_costs(price, price * rng.uniform(0.2, 0.6, n))
    most = int(np.ceil((mean * 3 / size).max()))
    value = batch_marginal_value(
        demand, np.arange(1, most + 1), batch_size_units=size[:, None], costs=costs.for_each_day()
    )
    gains = np.maximum(value, 0.0)
    usage = np.stack(
        [size * rng.uniform(0.05, 0.2, n) * rng.uniform(15, 45, n), size * rng.uniform(0.05, 0.9, n)], axis=1
    )
    wanted = (gains > 0).sum(axis=1)
    return Instance(gains, usage, usage.T @ wanted * rng.uniform(0.55, 0.9, 2))


def best_profit(one: Instance) -> float:
    """The optimum by mixed integer programming: a binary for each batch worth making, both capacities its only limits.

    Batches of a product take the same and gain less one after the other, so an optimum never skips one.
    """
    row, step = np.nonzero(one.gains > 0)
    gains = one.gains[row, step]
    solved = milp(
        -gains,
        integrality=np.ones(len(gains)),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(one.usage[row].T, -np.inf, one.capacity),
        options={"mip_rel_gap": 1e-7},
    )
    if not solved.success:
        raise SystemExit(f"the exact solver failed: {solved.message}")
    return -float(solved.fun)


if __name__ == "__main__":
    main()
