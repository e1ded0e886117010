"""Import files of a real bakery for benchmarks/french_bakery.py: its sales as they are, master data made up around them.

The sales are real. Groups, recipes, costs, ovens, mixers, baking times, suppliers, packs and stock are plausible figures of
a French craft bakery, not this bakery's: nobody published those. A piece is taken to weigh in proportion to its price
within its group. Nothing is planned or measured here.
"""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import pandas as pd

LEAST_SELLING_DAYS = 14
LOCATION = "main"
NOT_FOOD = re.compile(r"COUPE|REDUCTION|ARTICLE|FORMULE|CAFE OU EAU|BOISSON|THE$|SACHET|TRAITEUR|DIVERS")
"""Slicing, rebates, menus, drinks, bags of leftovers, and lines whose price is typed in, so that units are unknown."""

NEED_DAYS = 14
"""The days before the first morning whose mean need sets opening and safety stock."""


@dataclass(frozen=True)
class Group:
    """Products made alike: grams a euro of price, the share of the price that making one costs, and the parts of a kg.

    `parts` are in base units of the item per kg of product (more than 1 kg in all: baking loses water).
    """

    pattern: str
    grams_per_euro: float
    cost_share: float
    batch_size_units: int
    packaging: str
    parts: Mapping[str, float]


# The first group whose pattern is found in the name takes the product; the last takes the rest.
GROUPS: Mapping[str, Group] = {
    "sweets": Group(r"SUCETTE|^CHOCOLAT$|CARAMEL NOIX", 30, 0.50, 1, "bag", {"sweets": 1.0}),
    "sandwiches": Group(
        r"^SAND", 60, 0.45, 2, "bag",
        {"dough-white": 0.62, "ham": 0.15, "emmental": 0.12, "butter": 0.04, "salad": 0.1},
    ),
    "dishes": Group(r"^PLAT ", 55, 0.50, 1, "box", {"pasta": 0.35, "cream": 0.15, "ham": 0.2, "emmental": 0.1}),
    "fruit cakes": Group(
        r"FRAISE|FRAISIER|FRAMBOISIER", 40, 0.50, 2, "box",
        {"batter": 0.35, "pastry-cream": 0.3, "strawberries": 0.3, "whipped-cream": 0.1},
    ),
    "galettes": Group(r"^GAL ", 45, 0.45, 1, "box", {"dough-puff": 0.6, "almond-cream": 0.5}),
    "tarts": Group(
        r"^TART|FLAN|TROPICAL", 50, 0.45, 2, "box", {"dough-shortcrust": 0.42, "pastry-cream": 0.35, "apples": 0.35}
    ),
    "chocolate cakes": Group(
        r"CHOCO?$|FONDANT|ROYAL|BROWNIES|TRIANGLES", 40, 0.50, 2, "box",
        {"batter": 0.5, "chocolate": 0.25, "whipped-cream": 0.3},
    ),
    "choux": Group(
        r"ECLAIR|PARIS BREST|CHOU|RELIGIEUSE|HONORE|MILLES|SAVARIN", 45, 0.45, 2, "box",
        {"choux": 0.4, "pastry-cream": 0.55, "fondant": 0.1},
    ),
    "almond viennoiserie": Group(r"AMANDES", 60, 0.45, 2, "bag", {"dough-puff": 0.8, "almond-cream": 0.3}),
    "viennoiserie": Group(
        r"CROISSANT|CHOCOLAT|RAISINS|KOUIGN|CHAUSSON", 50, 0.40, 4, "bag",
        {"dough-puff": 1.1, "chocolate": 0.04, "raisins": 0.02, "apples": 0.03},
    ),
    "brioches": Group(
        r"BRIOCHE|VIENNOISE|GACHE|TROPEZIENNE|BOTTEREAU|MIE$", 60, 0.40, 2, "bag", {"dough-brioche": 1.12}
    ),
    "biscuits": Group(
        r"COOKIE|PALET|SABLE|MACARON|MERINGUE|NOIX", 45, 0.45, 4, "bag", {"dough-shortcrust": 1.1, "chocolate": 0.08}
    ),
    "cakes": Group(r"FAR BRETON|FINANCIER|NANTAIS", 55, 0.45, 1, "box", {"batter": 1.1}),
    "dark breads": Group(
        r"CAMPAGNE|COMPLET|SEIGLE|CEREAL|SPECIAL|VIK|MOISSON|QUIM|GRAINE", 170, 0.35, 4, "bag",
        {"dough-country": 1.18, "seeds": 0.03},
    ),
    "white breads": Group(r"", 190, 0.35, 5, "bag", {"dough-white": 1.2}),
}  # fmt: skip

BAKING: Mapping[str, tuple[float, int, int, str]] = {
    "sandwiches": (0.4, 45, 20, "11:00"),
    "dishes": (0.3, 0, 25, "11:30"),
    "fruit cakes": (0.5, 0, 30, "10:00"),
    "galettes": (0.5, 0, 40, "10:00"),
    "tarts": (0.5, 0, 35, "10:00"),
    "chocolate cakes": (0.5, 0, 30, "10:00"),
    "choux": (0.3, 0, 28, "10:00"),
    "almond viennoiserie": (0.2, 0, 15, "08:00"),
    "viennoiserie": (0.3, 75, 17, "07:00"),
    "brioches": (0.4, 75, 25, "07:00"),
    "biscuits": (0.3, 0, 14, "10:00"),
    "cakes": (0.3, 0, 40, "10:00"),
    "dark breads": (1, 60, 40, "07:00"),
    "white breads": (1, 45, 22, "07:00"),
}
"""Per group that is baked: trays of a batch, minutes in the prover and in the oven, and when the first are needed."""

MIXING: Mapping[str, tuple[str, int, int]] = {
    "levain": ("mixer", 10, 120),
    "dough-white": ("mixer", 15, 45),
    "dough-country": ("mixer", 15, 60),
    "dough-puff": ("mixer", 12, 60),
    "dough-brioche": ("mixer", 18, 60),
    "dough-shortcrust": ("mixer", 10, 30),
    "batter": ("mixer", 10, 0),
    "choux": ("labour", 20, 0),
    "pastry-cream": ("labour", 25, 30),
    "almond-cream": ("labour", 15, 0),
    "whipped-cream": ("labour", 10, 0),
}
"""Per dough or cream: by what it is made, minutes of a run, and of rest after it."""

RESOURCES = (
    ("deck-oven", "Deck oven", "oven", 20, "trays", "23:00"),
    ("rack-oven", "Rack oven", "oven", 18, "trays", "23:00"),
    ("spiral-mixer", "Spiral mixer", "mixer", 80, "kg", "18:00"),
    ("prover", "Prover", "prover", 72, "trays", "20:00"),
    ("bakers", "Bakers", "labour", 4, "people", "20:00"),
)
"""Id, name, kind, what it holds, unit, and from when it works for a day. Room for a day in August."""

# What a kg of each dough or cream takes, in base units; water is free.
DOUGHS: Mapping[str, Mapping[str, float]] = {
    "levain": {"flour-t65": 0.5},
    "dough-white": {"flour-t65": 0.56, "levain": 0.1, "salt": 0.011, "yeast": 0.006},
    "dough-country": {"flour-t80": 0.42, "flour-rye": 0.1, "levain": 0.16, "salt": 0.011, "yeast": 0.003},
    "dough-puff": {
        "flour-t55": 0.42, "butter": 0.28, "milk": 0.1, "eggs": 0.6, "sugar": 0.05, "yeast": 0.015, "salt": 0.009,
    },
    "dough-brioche": {
        "flour-t55": 0.45, "butter": 0.2, "eggs": 5, "sugar": 0.07, "milk": 0.08, "yeast": 0.015, "salt": 0.008,
    },
    "dough-shortcrust": {"flour-t55": 0.5, "butter": 0.28, "sugar": 0.14, "eggs": 1.5},
    "choux": {"flour-t55": 0.22, "butter": 0.17, "milk": 0.25, "eggs": 6},
    "pastry-cream": {"milk": 0.68, "eggs": 3, "sugar": 0.14, "starch": 0.06, "vanilla": 0.002},
    "almond-cream": {"almonds": 0.27, "butter": 0.26, "sugar": 0.26, "eggs": 4},
    "batter": {"flour-t55": 0.3, "butter": 0.2, "sugar": 0.25, "eggs": 4, "milk": 0.1},
    "whipped-cream": {"cream": 0.9, "sugar": 0.1},
}  # fmt: skip
DOUGH_YIELD = 0.97


@dataclass(frozen=True)
class Supplier:
    """When and how reliably a supplier delivers, and the days of need on hand at the opening of the first morning of what it
    brings. Lead days, with their standard deviation; euro an order; share of deliveries that come on their day."""

    name: str
    delivery_weekdays: str
    lead_days: int
    min_order_value: int
    opening_days: float
    lead_sd_days: float
    on_time_rate: float


SUPPLIERS: Mapping[str, Supplier] = {
    "mill": Supplier("Mill", "tue fri", 2, 80, 7, 0.4, 0.95),
    "fresh": Supplier("Dairy, fruit and charcuterie", "mon wed fri", 1, 50, 4, 0.2, 0.98),
    "wholesale": Supplier("Bakery wholesaler", "thu", 3, 100, 10, 0.5, 0.95),
}


@dataclass(frozen=True)
class Ingredient:
    """What is bought: base unit, shelf life in days (None: it keeps), euro a base unit, pack, and packs of an order."""

    name: str
    base_unit: str
    shelf_life_days: int | None
    unit_cost: float
    supplier_id: str
    pack_quantity: float
    min_packs: int = 1
    multiple_packs: int = 1
    kind: str = "ingredient"


INGREDIENTS: Mapping[str, Ingredient] = {
    "flour-t65": Ingredient("Bread flour T65", "kg", 180, 0.75, "mill", 25, min_packs=4),
    "flour-t55": Ingredient("Pastry flour T55", "kg", 180, 0.80, "mill", 25),
    "flour-t80": Ingredient("Stone-ground flour T80", "kg", 120, 0.95, "mill", 25),
    "flour-rye": Ingredient("Rye flour", "kg", 120, 0.90, "mill", 25),
    "seeds": Ingredient("Mixed seeds", "kg", 180, 3.60, "mill", 5),
    "yeast": Ingredient("Fresh yeast", "kg", 21, 2.80, "fresh", 1),
    "butter": Ingredient("Butter", "kg", 60, 6.20, "fresh", 10),
    "eggs": Ingredient("Eggs", "unit", 21, 0.19, "fresh", 30, multiple_packs=2),
    "milk": Ingredient("Milk", "L", 7, 0.85, "fresh", 10),
    "cream": Ingredient("Cream", "L", 14, 3.90, "fresh", 6),
    "ham": Ingredient("Ham", "kg", 10, 7.50, "fresh", 3),
    "emmental": Ingredient("Emmental", "kg", 30, 6.80, "fresh", 3),
    "salad": Ingredient("Salad", "kg", 4, 3.20, "fresh", 1),
    "apples": Ingredient("Apples", "kg", 28, 1.60, "fresh", 10),
    "strawberries": Ingredient("Strawberries", "kg", 4, 6.50, "fresh", 1),
    "sugar": Ingredient("Sugar", "kg", None, 0.95, "wholesale", 10),
    "salt": Ingredient("Salt", "kg", None, 0.30, "wholesale", 10),
    "almonds": Ingredient("Ground almonds", "kg", 180, 8.50, "wholesale", 5),
    "chocolate": Ingredient("Chocolate", "kg", 365, 7.80, "wholesale", 5),
    "raisins": Ingredient("Raisins", "kg", 365, 3.40, "wholesale", 2.5),
    "fondant": Ingredient("Fondant", "kg", 180, 2.60, "wholesale", 5),
    "starch": Ingredient("Custard starch", "kg", 365, 2.20, "wholesale", 5),
    "vanilla": Ingredient("Vanilla extract", "L", 365, 60.0, "wholesale", 0.5),
    "pasta": Ingredient("Pasta", "kg", 365, 1.50, "wholesale", 5),
    "sweets": Ingredient("Sweets", "kg", 365, 8.00, "wholesale", 1),
    "bag": Ingredient("Paper bag", "unit", None, 0.02, "wholesale", 500, kind="packaging"),
    "box": Ingredient("Cake box", "unit", None, 0.12, "wholesale", 100, kind="packaging"),
}


@dataclass(frozen=True)
class Prepared:
    """What was prepared: the sales as imported, the closures, the products by group, and the kinds of file in order.

    sales: product_id, business_date, units, unit_price; units > 0. daily_need: base units a day of each ingredient.
    """

    sales: pd.DataFrame
    closures: list[date]
    groups: dict[str, str]
    daily_need: dict[str, float]
    files: dict[str, Path]


def read_sales(path: Path) -> tuple[pd.DataFrame, list[date]]:
    """The bakery's sales in units, food only, and the days on which the whole shop sold nothing.

    The file has revenue: units are the whole number next to revenue / price. Rows of no units are left out: on an open
    day an absent row is a zero, and on a closed one it is not, which is what is meant.
    """
    rows = pd.read_csv(path, parse_dates=["ds"])
    rows["business_date"] = rows["ds"].dt.date
    revenue = rows.groupby("business_date")["y"].sum()
    rows = rows[(rows["y"] > 0) & (rows["unit_price"] > 0) & ~rows["unique_id"].str.match(NOT_FOOD)]
    rows = rows.assign(units=(rows["y"] / rows["unit_price"]).round().astype(int))
    rows = rows[rows["units"] > 0]
    selling_days = rows.groupby("unique_id")["business_date"].transform("nunique")
    rows = rows[selling_days >= LEAST_SELLING_DAYS].assign(product_id=rows["unique_id"].map(identifier))
    return rows.reset_index(drop=True), list(revenue.index[revenue == 0])


def identifier(name: str) -> str:
    """An id from a name: small letters, digits and single hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def group_of(name: str) -> str:
    """The group of a product by its name."""
    return next(group for group, made in GROUPS.items() if re.search(made.pattern, name))


def prepare(source: Path, folder: Path, first_day: date, last_day: date) -> Prepared:
    """Write the import files of a replay of the mornings first_day to last_day into `folder`.

    Closures of the replayed days are events, since the owner knows when the shop will be shut; earlier ones are left for
    the product to find.
    """
    sales, closures = read_sales(source)
    last = sales.sort_values("business_date").drop_duplicates("product_id", keep="last").set_index("product_id")
    groups = {product_id: group_of(name) for product_id, name in last["unique_id"].items()}
    prices = last["unit_price"].to_dict()
    recipes = [
        *(
            (dough, 1, DOUGH_YIELD, item, quantity)
            for dough, parts in DOUGHS.items()
            for item, quantity in parts.items()
        ),
        *(
            (product_id, 1, 1, item, round(quantity, 6))
            for product_id in groups
            for item, quantity in _piece(GROUPS[groups[product_id]], prices[product_id]).items()
        ),
    ]
    days_before = pd.Series(sales["business_date"]).between(
        first_day - timedelta(days=NEED_DAYS), first_day - timedelta(1)
    )
    daily_units = sales[days_before].groupby("product_id")["units"].sum() / NEED_DAYS
    need = daily_need(daily_units.to_dict(), recipes)
    rows: dict[str, tuple[str, Iterable[Sequence[object]]]] = {
        "products": (
            "product_id,name,unit_price,variable_cost,shelf_life_days,batch_size_units,ready_by",
            [
                (product_id, last.at[product_id, "unique_id"], prices[product_id],
                 round(prices[product_id] * GROUPS[group].cost_share, 4), 1, GROUPS[group].batch_size_units,
                 BAKING[group][3] if group in BAKING else "")
                for product_id, group in groups.items()
            ],
        ),
        "items": (
            "item_id,name,kind,base_unit,shelf_life_days,unit_cost,safety_stock_quantity",
            [
                *((dough, dough.replace("-", " "), "dough", "kg", 1, "", 0) for dough in DOUGHS),
                *(
                    (item_id, item.name, item.kind, item.base_unit, item.shelf_life_days or "", item.unit_cost,
                     round(_safety_days(item) * need.get(item_id, 0), 3))
                    for item_id, item in INGREDIENTS.items()
                ),
            ],
        ),
        "recipes": ("output_item_id,output_quantity,yield_frac,item_id,quantity", recipes),
        "resources": (
            "resource_id,location_id,name,kind,capacity,capacity_unit,available_from",
            [(resource_id, LOCATION, *values) for resource_id, *values in RESOURCES],
        ),
        "process-steps": (
            "item_id,step_no,resource_kind,minutes,capacity_use,wait_minutes",
            [
                *((dough, 1, kind, minutes, 1, rest) for dough, (kind, minutes, rest) in MIXING.items()),
                *(step for product_id, group in groups.items() for step in _steps(product_id, group)),
            ],
        ),
        "suppliers": (
            "supplier_id,name,delivery_weekdays,order_cutoff_at,min_order_value",
            [
                (supplier_id, one.name, one.delivery_weekdays, "12:00", one.min_order_value)
                for supplier_id, one in SUPPLIERS.items()
            ],
        ),
        "supplier-items": (
            "supplier_id,item_id,lead_days,lead_sd_days,on_time_rate,pack_quantity,min_packs,multiple_packs,price_per_pack",
            [
                (item.supplier_id, item_id, SUPPLIERS[item.supplier_id].lead_days,
                 SUPPLIERS[item.supplier_id].lead_sd_days, SUPPLIERS[item.supplier_id].on_time_rate, item.pack_quantity,
                 item.min_packs, item.multiple_packs, round(item.pack_quantity * item.unit_cost, 4))
                for item_id, item in INGREDIENTS.items()
            ],
        ),
        "events": (
            "location_id,product_id,business_date,kind,name",
            [(LOCATION, "", day, "closure", "Closed") for day in closures if first_day <= day <= last_day],
        ),
        "sales": (
            "location_id,product_id,business_date,quantity_units,unit_price",
            ((LOCATION, *row) for row in sales[["product_id", "business_date", "units", "unit_price"]].to_numpy()),
        ),
        "stock": (
            "location_id,item_id,lot_id,as_of,quantity,expires_on,unit_cost,received_on",
            [_opening_lot(item_id, item, need.get(item_id, 0), first_day) for item_id, item in INGREDIENTS.items()],
        ),
    }  # fmt: skip
    files = {}
    for kind, (header, lines) in rows.items():
        listed = list(lines)
        if listed:
            files[kind] = folder / f"{kind}.csv"
            _write(files[kind], header, listed)
    return Prepared(sales, closures, groups, need, files)


def daily_need(
    daily_units: Mapping[str, float], recipes: Iterable[tuple[str, float, float, str, float]]
) -> dict[str, float]:
    """Base units a day that products made at daily_units take of each ingredient, through their doughs."""
    parts: dict[str, list[tuple[str, float]]] = {}
    for output, quantity_out, yield_frac, item_id, quantity in recipes:
        parts.setdefault(output, []).append((item_id, quantity / quantity_out / yield_frac))
    need: dict[str, float] = {}
    waiting = list(daily_units.items())
    while waiting:
        output, quantity = waiting.pop()
        for item_id, per_unit in parts[output]:
            if item_id in parts:
                waiting.append((item_id, quantity * per_unit))
            else:
                need[item_id] = need.get(item_id, 0.0) + quantity * per_unit
    return need


def _piece(group: Group, price: float) -> dict[str, float]:
    weight_kg = price * group.grams_per_euro / 1000
    return {item_id: weight_kg * part for item_id, part in group.parts.items()} | {group.packaging: 1}


def _steps(product_id: str, group: str) -> list[tuple[object, ...]]:
    """What happens to a batch of the product: it proves, where it does, and is baked."""
    if group not in BAKING:
        return []
    trays, prove, bake, _ = BAKING[group]
    steps = [("prover", prove, trays, 0)] if prove else []
    return [(product_id, number, *step) for number, step in enumerate([*steps, ("oven", bake, trays, 10)], start=1)]


def _safety_days(item: Ingredient) -> int:
    return 0 if item.shelf_life_days is not None and item.shelf_life_days < 14 else 1


def _opening_lot(item_id: str, item: Ingredient, need: float, first_day: date) -> tuple[object, ...]:
    """What is on hand at the opening: some days' need, delivered two days before."""
    received_on = first_day - timedelta(days=2)
    expires_on = received_on + timedelta(days=item.shelf_life_days - 1) if item.shelf_life_days else ""
    quantity = round(need * SUPPLIERS[item.supplier_id].opening_days, 3)
    return LOCATION, item_id, "opening", first_day, quantity, expires_on, item.unit_cost, received_on


def _write(path: Path, header: str, rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(header.split(","))
        writer.writerows(rows)
