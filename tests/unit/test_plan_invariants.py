"""What holds for every plan, end to end: forecasts to batches, batches to purchases, purchases to stock.

Small random fleets are planned with the three links as the daily run calls them, one after the other, and nothing of them is
replaced. Each invariant of a plan has a test that states it; what belongs to one formula alone is tested with the formula.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, time, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from planning.frames import PLAN_DAYS, QUANTILE_LEVELS, Panel, frame_of
from planning.pegging import peg_purchases
from planning.procurement import ProcurementPlans, plan_procurement
from planning.production import ProductionPlans, plan_production
from planning.projection import Projections, project_inventory
from planning.workshop import Workshop

MONDAY = date(2026, 3, 2)
MADRID = "Europe/Madrid"
SERIES = ["tenant_id", "location_id", "product_id"]
STOCK = ["tenant_id", "location_id", "item_id"]
LOT = [*STOCK, "lot_id", "quantity", "received_on", "expires_on", "unit_cost"]
CUT_OFF = time(12)
SHELF_DAYS = {"flour": None, "milk": 4}

SEEDS = (3, 1415, 9265, 3589)
"""Of the random fleets. Any others do; these are few and always the same, so that tests share their plans."""


@dataclass(frozen=True)
class Fleet:
    """Everything that the three links read of some tenants."""

    keys: pd.DataFrame
    quantile_units: np.ndarray
    frames: dict[str, pd.DataFrame]
    plan_date: date

    def of(self, tenant_id: str) -> "Fleet":
        """One of the tenants by itself."""
        is_part = (self.keys["tenant_id"] == tenant_id).to_numpy()
        frames = {
            name: frame[frame["tenant_id"] == tenant_id].reset_index(drop=True) for name, frame in self.frames.items()
        }
        return Fleet(self.keys[is_part].reset_index(drop=True), self.quantile_units[is_part], frames, self.plan_date)

    def workshop(self) -> Workshop:
        return Workshop(*(self.frames[name] for name in ("resources", "calendar", "steps", "opening")))


@dataclass(frozen=True)
class Plans:
    """What the three links say."""

    production: ProductionPlans
    procurement: ProcurementPlans
    projection: Projections


def fleet(seed: int, *, first_day: date = MONDAY, zone: str = MADRID, oven: float = 0.0, tenants: int = 2) -> Fleet:
    """Bakeries of three products that share a dough, with stock, open orders and two suppliers each.

    oven: batches that the one oven of a place holds at a time; 0 for no workshop at all. Each tenant has random numbers of
    its own, so that it is the same whoever else is in the fleet.
    """
    rows: dict[str, list[tuple]] = {}
    quantiles = []

    def add(name: str, *of: tuple) -> None:
        rows.setdefault(name, []).extend(of)

    for number in range(tenants):
        rng, tenant = np.random.default_rng([seed, number]), f"t{number}"
        add("tenants", (tenant, 0.7, zone, first_day, time(4)))
        for product, takes, keeps in (("baguette", 0.3, 1.0), ("rye", 0.9, 4.0), ("roll", 0.08, 1.0)):
            quantiles.append(np.sort(rng.gamma(4, rng.uniform(2, 25), (PLAN_DAYS, len(QUANTILE_LEVELS))), axis=1))
            add("keys", (tenant, "shop", product))
            size, multiple, most = float(rng.integers(4, 30)), int(rng.integers(1, 3)), rng.choice([np.nan, 6.0])
            prices = (round(rng.uniform(1, 4), 2), round(rng.uniform(0.2, 0.9), 2), 0.1, 0.0)
            product_facts = (
                size,
                int(rng.integers(0, 3)),
                multiple,
                most,
                0.0,
                list(range(7)),
                keeps,
                time(7),
                *prices,
            )
            add("products", (tenant, product, *product_facts))
            add("assortment", (tenant, "shop", product, "shop"))
            add("orders", (tenant, "shop", product, first_day + timedelta(days=int(rng.integers(0, 5))), 7.0))
            add("recipes", (tenant, product, 1, 1.0, 1.0, "dough", takes, 0.02))
            add("items", (tenant, product, "product", "unit", None, 0, 0.5, 0.0))
            add("steps", (tenant, product, 1, "oven", None, 35.0, 1.0, 0.0))
        add(
            "recipes",
            (tenant, "dough", 1, 10.0, 0.95, "flour", 6.0, 0.0),
            (tenant, "dough", 1, 10.0, 0.95, "milk", 3.5, 0.01),
        )
        add("items", (tenant, "dough", "dough", "kg", None, 0, None, 0.0))
        add("resources", (tenant, f"oven-{tenant}", "shop", "oven", max(oven, 1.0), time(4)))
        add("opening", *((tenant, "shop", weekday, time(7)) for weekday in range(7)))
        add("lots", (tenant, "shop", "rye", "baked", 6.0, first_day, first_day + timedelta(days=1), 0.5))
        for item, shelf_days in SHELF_DAYS.items():
            add("items", (tenant, item, "ingredient", "kg", shelf_days, int(shelf_days is not None), 1.0, 0.0))
            weekdays = sorted(rng.choice(7, int(rng.integers(1, 5)), replace=False).tolist())
            add("suppliers", (tenant, f"{item}-house", weekdays, CUT_OFF, 0.0))
            packs = (int(rng.integers(1, 3)), int(rng.integers(1, 4)))
            add(
                "supplier_items",
                (tenant, f"{item}-house", item, 1, int(rng.integers(0, 3)), rng.choice([1.0, 2.5, 25.0]), *packs),
            )
            add("supplier_prices", (tenant, f"{item}-house", item, 1, 20.0))
            for lot in range(3):
                expires_on = None if shelf_days is None else first_day + timedelta(days=lot)
                quantity = round(rng.uniform(0, 60), 3)
                add(
                    "lots",
                    (tenant, "shop", item, f"lot{lot}", quantity, first_day - timedelta(days=3), expires_on, 1.0),
                )
            due_on = first_day + timedelta(days=int(rng.integers(0, 6)))
            add("open_orders", (tenant, "shop", item, due_on, 20.0, None))

    batch = ["batch_size_units", "batch_min", "batch_multiple", "batch_max_per_day", "batch_fixed_cost"]
    money = ["unit_price", "variable_cost", "salvage_value", "goodwill_cost"]
    terms = ["priority", "lead_days", "pack_quantity", "min_packs", "multiple_packs"]
    recipe = ["output_item_id", "version", "output_quantity", "yield_frac", "item_id", "quantity", "scrap_frac"]
    stored = ["kind", "base_unit", "shelf_life_days", "removal_days", "unit_cost", "safety_stock_quantity"]
    empty = Workshop.empty()
    columns: dict[str, Iterable[str]] = {
        "tenants": ["tenant_id", "default_critical_ratio", "timezone", "run_date", "as_of_time"],
        "keys": SERIES,
        "products": ["tenant_id", "product_id", *batch, "made_on_weekdays", "shelf_life_days", "ready_by", *money],
        "assortment": [*SERIES, "made_at_location_id"],
        "orders": [*SERIES, "due_on", "quantity_units"],
        "recipes": ["tenant_id", *recipe],
        "items": ["tenant_id", "item_id", *stored],
        "suppliers": ["tenant_id", "supplier_id", "delivery_weekdays", "order_cutoff_at", "min_order_value"],
        "supplier_items": ["tenant_id", "supplier_id", "item_id", *terms],
        "supplier_prices": ["tenant_id", "supplier_id", "item_id", "from_packs", "price_per_pack"],
        "lots": LOT,
        "open_orders": [*STOCK, "delivery_on", "quantity", "expires_on"],
        **{name: getattr(empty, name).columns for name in ("resources", "calendar", "steps", "opening")},
    }
    if oven == 0:
        rows = {name: [] if name in ("resources", "steps") else of for name, of in rows.items()}
    frames = {name: frame_of(names, rows.get(name, [])) for name, names in columns.items()}
    return Fleet(frames.pop("keys"), np.array(quantiles), frames, first_day)


def plans_of(these: Fleet) -> Plans:
    """The three links, one after the other."""
    frames, day = these.frames, these.plan_date
    forecasts = Panel(
        these.keys,
        {
            "mean_units": these.quantile_units.mean(axis=2),
            "quantile_units": these.quantile_units,
            "is_open": np.ones((len(these.keys), PLAN_DAYS), dtype=bool),
        },
        day,
    )
    production = plan_production(
        forecasts,
        assortment=frames["assortment"],
        products=frames["products"],
        orders=frames["orders"],
        opening_lots=frames["lots"],
        tenants=frames["tenants"],
        plan_date=day,
        recipes=frames["recipes"],
        workshop=these.workshop(),
    )
    names = ("recipes", "items", "suppliers", "supplier_items", "supplier_prices", "lots", "open_orders", "tenants")
    procurement = plan_procurement(production.planned, *(frames[name] for name in names), day)
    projection = project_inventory(
        procurement.requirements,
        frames["lots"],
        receipts_of(these, procurement),
        frames["items"],
        frames["supplier_items"],
        day,
        suppliers=frames["suppliers"],
        tenants=frames["tenants"],
    )
    return Plans(production, procurement, projection)


@cache
def planned(seed: int, oven: float = 0.0) -> tuple[Fleet, Plans]:
    """A fleet and its plans, which the tests share and none changes."""
    these = fleet(seed, oven=oven)
    return these, plans_of(these)


def receipts_of(these: Fleet, procurement: ProcurementPlans) -> pd.DataFrame:
    """Open orders and planned lines, as the projection takes them."""
    parts = [
        frame.assign(lot_id=[f"{name}-{row}" for row in range(len(frame))], unit_cost=1.0)
        for name, frame in (("open", these.frames["open_orders"]), ("line", procurement.purchase_lines))
    ]
    columns = [*STOCK, "lot_id", "delivery_on", "quantity", "expires_on", "unit_cost"]
    return pd.concat([part[columns].astype(object) for part in parts], ignore_index=True)


def to_the_bit(part: Any) -> Any:
    """A result as something that is equal only where every bit of it is: floats by their shortest exact text."""
    if isinstance(part, pd.DataFrame):
        return repr(part.reset_index(drop=True).to_dict("list"))
    if isinstance(part, Panel):
        return to_the_bit(part.keys), {name: matrix.tolist() for name, matrix in part.values.items()}
    return {name: to_the_bit(getattr(part, name)) for name in part.__dataclass_fields__}


def only(part: Any, tenant_id: str) -> Any:
    """The rows of one tenant in a result."""
    if isinstance(part, pd.DataFrame):
        return part[part["tenant_id"] == tenant_id]
    if isinstance(part, Panel):
        return part.select((part.keys["tenant_id"] == tenant_id).to_numpy())
    return type(part)(**{name: only(getattr(part, name), tenant_id) for name in part.__dataclass_fields__})


def offers_of(these: Fleet, lines: pd.DataFrame) -> pd.DataFrame:
    """Purchase lines with the terms of their supplier."""
    offers = these.frames["supplier_items"].merge(these.frames["suppliers"], on=["tenant_id", "supplier_id"])
    return lines.merge(offers, on=["tenant_id", "supplier_id", "item_id"], suffixes=("", "_offered"), validate="m:1")


# ---------------------------------------------------------------- production


@pytest.mark.parametrize("oven", [0.0, 1.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_planned_quantities_are_whole_batch_multiples_or_nothing(seed: int, oven: float) -> None:
    these, plans = planned(seed, oven)
    rules = these.frames["products"].set_index(["tenant_id", "product_id"])
    production = plans.production
    units = production.planned["horizon_units"]
    for (tenant, _, product), made in zip(production.planned.keys.itertuples(index=False), units, strict=True):
        of = rules.loc[(tenant, product)]
        steps = made / (of["batch_size_units"] * of["batch_multiple"])
        np.testing.assert_allclose(steps, np.round(steps), atol=1e-9)
        assert (made >= 0).all()
        if not np.isnan(of["batch_max_per_day"]):
            assert (made <= of["batch_max_per_day"] * of["batch_size_units"] + 1e-9).all()
    lines = production.lines
    assert (lines["quantity_units"] == lines["batches"] * lines["batch_size_units"]).all()
    np.testing.assert_array_equal([of_days[0] for of_days in lines["horizon_units"]], lines["quantity_units"])


@pytest.mark.parametrize("seed", SEEDS)
def test_waste_less_lost_is_supply_less_mean_for_products_of_the_day(seed: int) -> None:
    lines = planned(seed)[1].production.lines
    lines = lines[lines["product_id"] != "rye"]
    over = lines["quantity_units"] + lines["opening_usable_units"] - lines["mean_demand_units"]
    np.testing.assert_allclose(lines["expected_waste_units"] - lines["expected_lost_units"], over, atol=1e-6)


# ---------------------------------------------------------------- procurement


@pytest.mark.parametrize("seed", SEEDS)
def test_projected_on_hand_follows_its_recursion_in_both_links(seed: int) -> None:
    _, plans = planned(seed)
    needs, stock = plans.procurement.requirements, plans.projection.panel
    before = np.column_stack([needs.keys["opening_quantity"], needs["projected_on_hand_quantity"][:, :-1]])
    moved = needs["scheduled_receipts_quantity"] + needs["planned_receipts_quantity"] - needs["gross_quantity"]
    moved += needs["lost_quantity"] - needs["expired_quantity"]
    np.testing.assert_allclose(before + moved, needs["projected_on_hand_quantity"], atol=1e-4)

    before = np.column_stack([stock.keys["opening_quantity"], stock["closing_quantity"][:, :-1]])
    moved = stock["receipts_quantity"] - stock["consumption_quantity"] - stock["expired_quantity"]
    np.testing.assert_allclose(before + moved, stock["closing_quantity"], atol=1e-4)
    met = stock["consumption_quantity"] + stock["shortage_quantity"]
    np.testing.assert_allclose(met, needs["gross_quantity"], atol=1e-4)


@pytest.mark.parametrize("seed", SEEDS)
def test_orders_are_for_delivery_days_and_placed_in_time_before_the_cut_off(seed: int) -> None:
    these, plans = planned(seed)
    tenants = these.frames["tenants"].assign(as_of_time=time(12, 1))
    late = plans_of(Fleet(these.keys, these.quantile_units, {**these.frames, "tenants": tenants}, MONDAY))
    for made, first_order in ((plans, MONDAY), (late, MONDAY + timedelta(days=1))):
        for line in offers_of(these, made.procurement.purchase_lines).itertuples():
            assert line.delivery_on.weekday() in line.delivery_weekdays
            assert line.order_by >= first_order
            assert (line.delivery_on - line.order_by).days >= line.lead_days


@pytest.mark.parametrize("seed", SEEDS)
def test_packs_times_pack_quantity_cover_the_net_requirement(seed: int) -> None:
    these, plans = planned(seed)
    lines = offers_of(these, plans.procurement.purchase_lines)
    np.testing.assert_allclose(lines["packs"] * lines["pack_quantity_offered"], lines["quantity"], atol=1e-6)
    assert (lines["quantity"] >= lines["net_quantity"].astype(float) - 1e-5).all()
    assert (lines["packs"] >= lines["min_packs"]).all()
    assert (lines["packs"] % lines["multiple_packs"] == 0).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_peg_shares_of_every_purchase_line_sum_to_one(seed: int) -> None:
    these, plans = planned(seed)
    lines = plans.procurement.purchase_lines
    for shares in lines["peg_shares"]:
        assert not len(shares) or sum(shares) == pytest.approx(1, abs=1e-6)
    pegs = peg_purchases(
        lines,
        plans.procurement.requirements,
        plans.production.planned,
        these.frames["recipes"],
        these.frames["items"],
        opening_lots=these.frames["lots"],
    )
    assert set(pegs["line"]) == set(range(len(lines)))
    assert (pegs.groupby("line")["share"].sum() == 1).all()
    np.testing.assert_allclose(pegs.groupby("line")["quantity"].sum(), lines["quantity"].astype(float), atol=1e-5)


# ---------------------------------------------------------------- stock


@pytest.mark.parametrize("seed", SEEDS)
def test_usable_lots_sum_to_the_opening_on_hand(seed: int) -> None:
    these, plans = planned(seed)
    lots = these.frames["lots"]
    # Milk is taken out of use the day before it expires.
    last_use = lots["expires_on"].map(lambda day: date.max if day is None else day - timedelta(days=1))
    by_hand = lots[last_use >= MONDAY].groupby(STOCK)["quantity"].sum()
    for keys in (plans.projection.panel.keys, plans.procurement.requirements.keys):
        on_hand = keys.set_index(STOCK)["opening_quantity"]
        np.testing.assert_allclose(on_hand, by_hand.reindex(on_hand.index, fill_value=0.0), atol=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_consumed_after_it_has_expired(seed: int) -> None:
    """From any day on no more can be used than is in lots that are usable on that day or later."""
    these, plans = planned(seed)
    supply = [
        these.frames["lots"].assign(from_day=-1),
        receipts_of(these, plans.procurement).assign(
            from_day=lambda rows: [(on - MONDAY).days for on in rows["delivery_on"]]
        ),
    ]
    lots = pd.concat([part[[*STOCK, "quantity", "expires_on", "from_day"]].astype(object) for part in supply])
    stock = plans.projection.panel
    for row, (tenant, place, item) in enumerate(stock.keys[STOCK].itertuples(index=False)):
        own = lots[(lots["tenant_id"] == tenant) & (lots["location_id"] == place) & (lots["item_id"] == item)]
        used = stock["consumption_quantity"][row]
        for day in range(PLAN_DAYS):
            usable = sum(lot.quantity for lot in own.itertuples() if last_use_of(lot, item) >= day)
            assert used[day:].sum() <= usable + 1e-5


def last_use_of(lot: Any, item: str) -> int:
    """The number of the last day on which a lot is usable; an open order without a date keeps for the shelf life."""
    removal = int(SHELF_DAYS[item] is not None)
    if lot.expires_on is not None and not pd.isna(lot.expires_on):
        return (lot.expires_on - MONDAY).days - removal
    shelf_days = SHELF_DAYS[item]
    return PLAN_DAYS if shelf_days is None else lot.from_day + shelf_days - 1 - removal


# ---------------------------------------------------------------- whole plans


@pytest.mark.parametrize("oven", [0.0, 1.0])
@pytest.mark.parametrize("seed", SEEDS[:2])
def test_same_inputs_give_the_identical_plan_to_the_bit(seed: int, oven: float) -> None:
    _, plans = planned(seed, oven)
    assert to_the_bit(plans) == to_the_bit(plans_of(fleet(seed, oven=oven)))


@pytest.mark.parametrize("oven", [0.0, 1.0])
@pytest.mark.parametrize("seed", SEEDS[:2])
def test_a_tenant_alone_is_planned_as_in_a_batch_also_where_the_oven_binds(seed: int, oven: float) -> None:
    these, together = planned(seed, oven)
    for tenant_id in these.frames["tenants"]["tenant_id"]:
        assert to_the_bit(only(together, tenant_id)) == to_the_bit(plans_of(these.of(tenant_id)))


def test_the_fleets_of_these_tests_have_what_the_invariants_are_about() -> None:
    for seed in SEEDS:
        _, plans = planned(seed)
        lines, stock = plans.procurement.purchase_lines, plans.projection.panel
        assert len(lines) > 5
        assert lines["peg_shares"].map(len).max() > 1
        assert (stock["expired_quantity"] > 0).any()
        assert (stock["consumption_quantity"] > 0).any()
        assert (plans.production.lines["opening_usable_units"] > 0).any()
    for seed in SEEDS[:2]:
        limited_by = [planned(seed, oven)[1].production.lines["limited_by"] for oven in (0.0, 1.0)]
        assert [(reasons == "capacity").any() for reasons in limited_by] == [False, True]


@pytest.mark.parametrize("change", [date(2026, 3, 29), date(2026, 10, 25)])
@pytest.mark.parametrize("days_before", [0, 8])
def test_days_of_23_and_25_hours_do_not_shift_dates(change: date, days_before: int) -> None:
    first_day = change - timedelta(days=days_before)
    here, elsewhere = (plans_of(fleet(5, first_day=first_day, zone=zone)) for zone in (MADRID, "UTC"))
    assert to_the_bit(here.procurement) == to_the_bit(elsewhere.procurement)
    assert to_the_bit(here.projection) == to_the_bit(elsewhere.projection)
    assert to_the_bit(here.production.planned) == to_the_bit(elsewhere.production.planned)
    assert here.production.planned.dates == [first_day + timedelta(days=day) for day in range(PLAN_DAYS)]
    for plans, zone in ((here, MADRID), (elsewhere, "UTC")):
        for ready_by in plans.production.lines["ready_by"]:
            local = ready_by.astimezone(ZoneInfo(zone))
            assert (local.date(), local.time()) == (first_day, time(7))
