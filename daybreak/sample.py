"""Synthetic bakeries: who they are, what they bake, and years of sales, seeded and loaded through the importer.

Nothing here is measured: shapes and prices are made up, and every name says "(synthetic)". A day's sales depend on the
seed, the bakery and the date alone, so that generating again on a later day adds days and changes none.
"""

import calendar
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from zoneinfo import ZoneInfo

import holidays
import numpy as np
import pandas as pd

from resources.imports.contracts import KINDS
from resources.imports.importer import import_batch
from resources.imports.source import Source
from resources.store.database import Store
from resources.store.master import Tenant, add_tenants

DEFAULT_TENANTS, DEFAULT_DAYS, DEFAULT_SEED = 6, 730, 1
TENANTS_AT_A_TIME = 50
EVENT_DAYS_AHEAD = 60
OPENS_HOUR, CLOSES_HOUR = 7.0, 19.5
RUSH = 1.2
"""The share of a day's demand that has come after a share x of its opening hours is x to the power of 1 / RUSH."""

PROFILED = 3
"""Products whose tills are read by the hour, at the first location. Of the others only the day is known."""
GROWTH_SINCE = date(2020, 1, 1)
GROWTH_PER_YEAR = 0.03
WEEKDAY_SHAPE = np.array([0.92, 0.88, 0.90, 0.97, 1.10, 1.30, 1.05])

OnStep = Callable[[str, int, int], object]
"""Told the kind being loaded, and how many of how many tenants are done."""


class SampleError(Exception):
    """Synthetic bakeries cannot be loaded here. The message carries the remedy."""


@dataclass(frozen=True)
class Product:
    """A product of the catalogue; prices and costs in euro, weights in grams a unit."""

    product_id: str
    name: str
    price: float
    cost: float
    shelf_life_days: int
    batch: int
    dough: str
    dough_g: float
    extras: Mapping[str, float]
    packaging: str
    daily_units: float
    sweetness: float
    """How much more is sold in summer (negative: in winter), as a share."""
    is_new: bool = False


CATALOGUE = (
    Product("croissant", "Butter croissant", 1.40, 0.42, 1, 24, "laminated-dough", 70, {}, "paper-bag", 95, -0.05),
    Product("baguette", "Baguette", 1.20, 0.33, 1, 20, "white-dough", 330, {}, "paper-bag", 110, -0.02),
    Product("bread-roll", "Bread roll", 0.50, 0.12, 1, 40, "white-dough", 65, {}, "paper-bag", 90, 0.04),
    Product("sourdough-loaf", "Sourdough loaf", 4.20, 1.10, 3, 8, "sourdough-dough", 900, {}, "paper-bag", 38, -0.08),
    Product(
        "walnut-loaf", "Walnut loaf", 5.20, 1.60, 3, 1, "sourdough-dough", 850, {"walnuts": 90}, "paper-bag", 0.7, -0.15
    ),
    Product(
        "seeded-roll",
        "Seeded roll",
        0.70,
        0.18,
        1,
        24,
        "white-dough",
        70,
        {"seeds": 8},
        "paper-bag",
        42,
        0.0,
        is_new=True,
    ),
    Product(
        "pain-au-chocolat",
        "Pain au chocolat",
        1.60,
        0.52,
        1,
        24,
        "laminated-dough",
        70,
        {"chocolate": 16},
        "paper-bag",
        60,
        -0.06,
    ),
    Product(
        "cookie", "Chocolate cookie", 1.30, 0.34, 5, 30, "sweet-dough", 65, {"chocolate": 15}, "paper-bag", 36, -0.04
    ),
    Product(
        "celebration-cake", "Celebration cake", 28.0, 9.0, 2, 1, "batter", 900, {"cream": 300}, "cake-box", 0.4, 0.1
    ),
    Product(
        "cinnamon-roll",
        "Cinnamon roll",
        2.40,
        0.62,
        1,
        12,
        "brioche-dough",
        90,
        {"cinnamon": 4, "sugar": 12},
        "paper-bag",
        34,
        -0.14,
    ),
    Product("muffin", "Muffin", 2.10, 0.50, 2, 12, "batter", 95, {}, "paper-bag", 24, 0.02),
    Product(
        "wholemeal-loaf",
        "Wholemeal loaf",
        3.80,
        1.05,
        3,
        8,
        "sourdough-dough",
        850,
        {"seeds": 40},
        "paper-bag",
        22,
        -0.05,
    ),
    Product("ciabatta", "Ciabatta", 1.50, 0.40, 1, 12, "white-dough", 320, {"olive-oil": 15}, "paper-bag", 28, 0.12),
    Product("apple-tart", "Apple tart", 3.20, 0.95, 2, 10, "sweet-dough", 80, {"apples": 110}, "cake-box", 15, -0.10),
    Product("rye-loaf", "Rye loaf", 4.40, 1.20, 4, 8, "rye-dough", 900, {}, "paper-bag", 14, -0.08),
    Product("doughnut", "Doughnut", 1.50, 0.35, 1, 24, "brioche-dough", 60, {"sugar": 10}, "paper-bag", 40, -0.05),
    Product("focaccia", "Focaccia", 2.60, 0.70, 1, 8, "white-dough", 260, {"olive-oil": 25}, "paper-bag", 16, 0.15),
    Product("brioche-loaf", "Brioche loaf", 5.50, 1.60, 2, 6, "brioche-dough", 520, {}, "paper-bag", 12, -0.06),
    Product("palmier", "Palmier", 1.80, 0.45, 2, 20, "laminated-dough", 60, {"sugar": 10}, "paper-bag", 18, -0.02),
    Product(
        "pistachio-croissant",
        "Pistachio croissant",
        2.90,
        0.95,
        1,
        12,
        "laminated-dough",
        75,
        {"pistachios": 14},
        "paper-bag",
        22,
        0.0,
        is_new=True,
    ),
)
"""All products, the ones that every bakery has first. Both new ones start in the month before last's end."""

BAKING: Mapping[str, tuple[float, int, int, int, str]] = {
    "croissant": (2, 75, 18, 10, ""),
    "baguette": (4, 45, 24, 15, ""),
    "bread-roll": (2, 45, 16, 10, ""),
    "sourdough-loaf": (2, 60, 42, 30, ""),
    "walnut-loaf": (0.5, 60, 45, 30, ""),
    "seeded-roll": (2, 45, 16, 10, ""),
    "pain-au-chocolat": (2, 75, 18, 10, ""),
    "cookie": (2, 0, 13, 10, "10:00"),
    "celebration-cake": (0.5, 0, 45, 60, "12:00"),
    "cinnamon-roll": (1, 60, 20, 10, ""),
    "muffin": (1, 0, 24, 15, "09:00"),
    "wholemeal-loaf": (2, 60, 45, 30, ""),
    "ciabatta": (2, 45, 25, 15, "10:00"),
    "apple-tart": (1, 0, 32, 30, "11:00"),
    "rye-loaf": (2, 60, 55, 45, "09:00"),
    "doughnut": (1, 45, 0, 0, ""),
    "focaccia": (2, 40, 24, 15, "11:30"),
    "brioche-loaf": (1, 90, 32, 30, ""),
    "palmier": (1, 0, 18, 10, ""),
    "pistachio-croissant": (1, 75, 18, 10, ""),
}
"""Per product: trays of a batch, minutes in the prover, in the oven and to cool, and the local time of first need (empty:
at opening). What is not baked is fried by hand."""

FRYING_MINUTES = 25

GOODWILL: Mapping[str, float] = {"baguette": 0.6, "bread-roll": 0.2}
"""Euro of other sales that a customer takes elsewhere who finds none of what every bakery has."""

MIXING: Mapping[str, tuple[int, int]] = {
    "levain": (10, 120),
    "white-dough": (14, 45),
    "sourdough-dough": (16, 90),
    "rye-dough": (12, 45),
    "laminated-dough": (12, 60),
    "brioche-dough": (18, 45),
    "sweet-dough": (8, 30),
    "batter": (8, 0),
}
"""Per dough: minutes of a mixer run, and of rest after it."""

STOCKED = {"sourdough-loaf": 0.1, "cookie": 0.4, "wholemeal-loaf": 0.1}
"""Products that keep and of which some are left at the count, as a share of a day's sales."""

DOUGHS: Mapping[str, tuple[str, float, float, Mapping[str, tuple[float, str]]]] = {
    "levain": ("Levain", 5, 1.0, {"flour-wheat": (1.5, "kg"), "flour-rye": (1.0, "kg")}),
    "white-dough": ("White dough", 10, 0.98, {"flour-wheat": (6.1, "kg"), "salt": (120, "g"), "yeast": (90, "g")}),
    "sourdough-dough": (
        "Sourdough",
        10,
        0.97,
        {"levain": (2.0, "kg"), "flour-wheat": (4.6, "kg"), "flour-wholemeal": (0.7, "kg"), "salt": (120, "g")},
    ),
    "rye-dough": (
        "Rye dough",
        10,
        0.97,
        {"levain": (2.5, "kg"), "flour-rye": (4.3, "kg"), "salt": (110, "g"), "seeds": (0.4, "kg")},
    ),
    "laminated-dough": (
        "Laminated dough",
        10,
        0.96,
        {
            "flour-wheat": (4.6, "kg"),
            "butter": (2.6, "kg"),
            "milk": (1200, "ml"),
            "sugar": (550, "g"),
            "yeast": (200, "g"),
            "salt": (100, "g"),
        },
    ),
    "brioche-dough": (
        "Brioche dough",
        10,
        0.97,
        {
            "flour-wheat": (4.5, "kg"),
            "butter": (1.9, "kg"),
            "eggs": (30, "unit"),
            "milk": (900, "ml"),
            "sugar": (0.7, "kg"),
            "yeast": (200, "g"),
            "salt": (90, "g"),
        },
    ),
    "sweet-dough": (
        "Sweet dough",
        10,
        0.98,
        {"flour-wheat": (4.4, "kg"), "butter": (2.8, "kg"), "sugar": (2.0, "kg"), "eggs": (16, "unit")},
    ),
    "batter": (
        "Cake batter",
        10,
        0.98,
        {
            "flour-wheat": (3.3, "kg"),
            "sugar": (2.3, "kg"),
            "eggs": (32, "unit"),
            "sunflower-oil": (1500, "ml"),
            "milk": (1500, "ml"),
        },
    ),
}
"""Per dough: name, kg made, share that comes out, and what goes in. Tap water is neither stocked nor bought."""

INGREDIENTS: Mapping[str, tuple[str, str, str, int | None, float, str, float, int]] = {
    "flour-wheat": ("Wheat flour", "ingredient", "kg", 180, 0.72, "mill", 25, 7),
    "flour-rye": ("Rye flour", "ingredient", "kg", 180, 0.85, "mill", 25, 7),
    "flour-wholemeal": ("Wholemeal flour", "ingredient", "kg", 120, 0.90, "mill", 25, 7),
    "salt": ("Sea salt", "ingredient", "kg", None, 0.40, "grocer", 10, 14),
    "yeast": ("Fresh yeast", "ingredient", "kg", 21, 2.60, "dairy", 1, 4),
    "butter": ("Butter", "ingredient", "kg", 45, 6.80, "dairy", 10, 3),
    "milk": ("Whole milk", "ingredient", "L", 9, 0.95, "dairy", 10, 2),
    "cream": ("Cream", "ingredient", "L", 14, 3.40, "dairy", 1, 4),
    "eggs": ("Eggs", "ingredient", "unit", 24, 0.16, "dairy", 30, 3),
    "sugar": ("Sugar", "ingredient", "kg", None, 0.95, "grocer", 10, 12),
    "chocolate": ("Chocolate sticks and drops", "ingredient", "kg", 360, 8.50, "grocer", 5, 12),
    "cinnamon": ("Cinnamon", "ingredient", "kg", 540, 14.0, "grocer", 0.5, 20),
    "walnuts": ("Walnuts", "ingredient", "kg", 240, 11.5, "grocer", 1, 20),
    "pistachios": ("Pistachios", "ingredient", "kg", 240, 24.0, "grocer", 1, 12),
    "seeds": ("Mixed seeds", "ingredient", "kg", 240, 4.20, "grocer", 5, 14),
    "olive-oil": ("Olive oil", "ingredient", "L", 360, 7.90, "grocer", 5, 14),
    "sunflower-oil": ("Sunflower oil", "ingredient", "L", 360, 2.10, "grocer", 10, 14),
    "apples": ("Apples", "ingredient", "kg", 21, 1.70, "market", 10, 3),
    "paper-bag": ("Paper bag", "packaging", "unit", None, 0.02, "packaging", 1000, 14),
    "cake-box": ("Cake box", "packaging", "unit", None, 0.22, "packaging", 100, 14),
}
"""Per item: name, kind, base unit, shelf life in days, cost of a base unit in euro, supplier, pack, days of stock kept."""

SUPPLIERS: Mapping[str, tuple[str, str, str, float, int, float, float, float]] = {
    "mill": ("Old mill (synthetic)", "1 4", "12:00", 90.0, 2, 0.0, 0.5, 0.92),
    "dairy": ("Valley dairy (synthetic)", "0 1 2 3 4 5", "17:00", 40.0, 1, 4.0, 0.2, 0.97),
    "grocer": ("Wholesale grocer (synthetic)", "2 4", "12:00", 60.0, 3, 6.0, 0.4, 0.95),
    "market": ("Fruit market (synthetic)", "0 2 5", "15:00", 0.0, 1, 0.0, 0.0, 0.99),
    "packaging": ("Packaging works (synthetic)", "3", "12:00", 50.0, 5, 9.0, 0.8, 0.9),
    "cash-and-carry": ("Cash and carry (synthetic)", "0 1 2 3 4 5", "19:00", 0.0, 0, 12.0, 0.0, 1.0),
}
"""Per supplier: name, delivery weekdays, cut-off, least value of an order in euro, lead days, fee of a delivery in euro, one
sigma of the lead in days, and the share of deliveries that come on their day."""

SECOND_SOURCE: Mapping[str, tuple[str, float, float]] = {
    "flour-wheat": ("cash-and-carry", 10, 1.3),
    "butter": ("cash-and-carry", 5, 1.18),
}
"""Per item that a second supplier has too: the supplier, its pack, and its price by that of the first."""

LOT_RULES: Mapping[str, tuple[str, float | None]] = {"sugar": ("fixed", 30), "chocolate": ("wagner_whitin", None)}
"""Per item that is not ordered for the days until the next delivery: the rule, and the quantity of a fixed lot."""


@dataclass(frozen=True)
class Place:
    """Where a synthetic bakery is: its zone, calendar, money and size."""

    tenant_id: str
    name: str
    timezone: str
    country: str
    subdivision: str
    currency: str
    euro_rate: float
    tier: str
    products: int
    size: float
    closed_weekday: int | None = None
    plan_lead_days: int = 1
    """All of them bake in the night before they open."""
    is_southern: bool = False
    outlets: tuple[str, ...] = ()
    oven_trays: tuple[int, ...] = (12, 18)
    """Of the deck oven, and of the rack oven where there is one."""
    oven_from: str = "01:00"
    is_ready_at_opening: bool = False
    """Everything is needed when the shop opens, also what others bake later."""
    is_serviced: bool = False
    """On the first open day that is planned the rack oven is down for service, and the deck oven for the night."""
    saturday_trays: int | None = None
    """What the deck oven holds on Saturday mornings, where a market stall bakes in it."""
    auto_approve: bool = True


PLACES = (
    Place(
        "sample-madrid-chain",
        "Tahona chain",
        "Europe/Madrid",
        "ES",
        "MD",
        "EUR",
        1.0,
        "enterprise",
        20,
        1.3,
        outlets=("sol", "chamberi"),
        oven_trays=(16, 36),
        oven_from="23:00",
    ),
    Place(
        "sample-madrid",
        "Panadería del barrio",
        "Europe/Madrid",
        "ES",
        "MD",
        "EUR",
        1.0,
        "starter",
        12,
        0.8,
        oven_trays=(8,),
        is_ready_at_opening=True,
        saturday_trays=5,
    ),
    Place(
        "sample-london",
        "Railway arch bakery",
        "Europe/London",
        "GB",
        "ENG",
        "GBP",
        0.9,
        "professional",
        16,
        1.1,
        closed_weekday=6,
    ),
    Place(
        "sample-new-york",
        "Corner bakery",
        "America/New_York",
        "US",
        "NY",
        "USD",
        1.4,
        "professional",
        18,
        1.2,
        closed_weekday=0,
        is_serviced=True,
    ),
    Place(
        "sample-kolkata",
        "Park Street bakery",
        "Asia/Kolkata",
        "IN",
        "WB",
        "INR",
        60.0,
        "starter",
        14,
        1.4,
        auto_approve=False,
    ),
    Place(
        "sample-auckland",
        "Harbour bakery",
        "Pacific/Auckland",
        "NZ",
        "AUK",
        "NZD",
        2.0,
        "starter",
        13,
        0.9,
        is_southern=True,
    ),
)


@dataclass(frozen=True)
class SampleTenant:
    """One synthetic bakery, with `days` of sales that end on the day before `until`."""

    place: Place
    seed: int
    days: int
    until: date

    @property
    def tenant_id(self) -> str:
        """The bakery's id."""
        return self.place.tenant_id

    def tenant(self, created_at: datetime) -> Tenant:
        """The row of the tenant."""
        place = self.place
        return Tenant(
            place.tenant_id,
            f"{place.name} (synthetic)",
            place.timezone,
            place.country,
            created_at,
            subdivision=place.subdivision,
            currency=place.currency,
            tier=place.tier,
            plan_lead_days=place.plan_lead_days,
            auto_approve=place.auto_approve,
            is_synthetic=True,
        )

    def frames(self) -> dict[str, pd.DataFrame]:
        """A frame per kind of import, with the columns of its contract, in the order in which they are loaded."""
        frames = {
            "locations": self._locations(),
            "opening-hours": self._opening_hours(),
            "products": self._products(),
            "assortment": self._assortment,
            "items": self._items(),
            "unit-conversions": pd.DataFrame({"item_id": ["eggs"], "from_unit": ["tray"], "factor": [30]}),
            "recipes": self._recipes(),
            "resources": self._resources(),
            "resource-calendar": self._resource_calendar(),
            "process-steps": self._process_steps(),
            "suppliers": self._suppliers(),
            "supplier-items": self._supplier_items(),
            "events": self._events(),
            "hourly-profile": self._hourly_profile(),
            "sales": self.sales(),
            "stock": self._stock(),
            "orders": self._orders(),
            "customer-orders": self._customer_orders(),
            "standing-orders": self._standing_orders(),
        }
        return {kind: frames[kind] for kind in KINDS if kind in frames and len(frames[kind])}

    # ------------------------------------------------------------ master data

    @property
    def locations(self) -> tuple[str, ...]:
        """Where it sells; the first one also bakes for the others."""
        return ("central", *self.place.outlets) if self.place.outlets else ("main",)

    @property
    def first_day(self) -> date:
        """The first day with sales."""
        return self.until - timedelta(days=self.days)

    @cached_property
    def products(self) -> tuple[Product, ...]:
        """What it sells."""
        return CATALOGUE[: self.place.products]

    @cached_property
    def _used(self) -> list[str]:
        """Doughs and what goes into them or a product, each after its parents."""
        named = [name for p in self.products for name in (p.dough, *p.extras, p.packaging)]
        for dough in ("sourdough-dough", "rye-dough"):
            named += ["levain"] if dough in named else []
        doughs = [name for name in DOUGHS if name in named]
        bought = {name for dough in doughs for name in DOUGHS[dough][3]} | set(named)
        return doughs + [name for name in INGREDIENTS if name in bought]

    def _locations(self) -> pd.DataFrame:
        kinds = ["both"] + ["outlet"] * len(self.place.outlets)
        names = [f"{location.capitalize()} (synthetic)" for location in self.locations]
        return pd.DataFrame({"location_id": self.locations, "name": names, "kind": kinds})

    def _opening_hours(self) -> pd.DataFrame:
        weekdays = [day for day in range(7) if day != self.place.closed_weekday]
        rows = [(location, day, "07:00", "19:30") for location in self.locations for day in weekdays]
        return pd.DataFrame(rows, columns=["location_id", "weekday", "opens_at", "closes_at"])

    def _products(self) -> pd.DataFrame:
        rate = self.place.euro_rate
        return pd.DataFrame(
            [
                {
                    "product_id": p.product_id,
                    "name": f"{p.name} (synthetic)",
                    "unit_price": round(p.price * rate, 2),
                    "variable_cost": round(p.cost * rate, 2),
                    "salvage_value": round(0.1 * p.cost * rate, 2),
                    "goodwill_cost": round(GOODWILL.get(p.product_id, 0.0) * rate, 2),
                    "shelf_life_days": p.shelf_life_days,
                    "batch_size_units": p.batch,
                    "batch_max_per_day": 60,
                    "ready_by": self._ready_by(p),
                    "daily_estimate_units": round(p.daily_units * self.place.size, 1) if p.is_new else None,
                }
                for p in self.products
            ]
        )

    def _ready_by(self, product: Product) -> str | None:
        """When the first ones are needed: vans leave for the outlets an hour before they open. None: at opening."""
        usual = BAKING[product.product_id][4] or ("06:00" if self.place.outlets else None)
        return None if self.place.is_ready_at_opening else usual

    @cached_property
    def _assortment(self) -> pd.DataFrame:
        own = {"cookie", "muffin"}  # the first outlet bakes these itself
        rows = [
            (location, p.product_id, location if n == 1 and p.product_id in own else self.locations[0])
            for n, location in enumerate(self.locations)
            for p in self.products
        ]
        return pd.DataFrame(rows, columns=["location_id", "product_id", "made_at_location_id"])

    def _items(self) -> pd.DataFrame:
        rate = self.place.euro_rate
        rows: list[tuple[object, ...]] = []
        for item in self._used:
            rule = LOT_RULES.get(item, ("delivery_calendar", None))
            if item in DOUGHS:
                rows.append((item, f"{DOUGHS[item][0]} (synthetic)", "dough", "kg", 2, None, *rule))
            else:
                name, kind, unit, shelf_life, cost, *_ = INGREDIENTS[item]
                rows.append((item, f"{name} (synthetic)", kind, unit, shelf_life, round(cost * rate, 4), *rule))
        columns = ["item_id", "name", "kind", "base_unit", "shelf_life_days", "unit_cost", "lot_rule", "lot_quantity"]
        return pd.DataFrame(rows, columns=columns).astype({"shelf_life_days": "Int64"})

    def _recipes(self) -> pd.DataFrame:
        rows: list[tuple[object, ...]] = []
        for dough in (item for item in self._used if item in DOUGHS):
            _, made, yield_frac, lines = DOUGHS[dough]
            rows += [(dough, made, "kg", yield_frac, item, *line, 0.01) for item, line in lines.items()]
        for p in self.products:
            batch = 10
            lines_of = [(p.dough, p.dough_g * batch, "g", 0.02)]
            lines_of += [(item, g * batch, _small_unit(item), 0.01) for item, g in p.extras.items()]
            lines_of += [(p.packaging, batch, "unit", 0.0)]
            rows += [(p.product_id, batch, "unit", 0.98, *line) for line in lines_of]
        columns = ["output_item_id", "output_quantity", "output_unit", "yield_frac", "item_id", "quantity", "unit"]
        return pd.DataFrame(rows, columns=[*columns, "scrap_frac"])

    def _resources(self) -> pd.DataFrame:
        place = self.place
        ovens = (("deck-oven", "Deck oven"), ("rack-oven", "Rack oven"))
        by_size = 3 if place.outlets else 1
        equipment = [
            *(
                (resource, name, "oven", trays, "trays", place.oven_from)
                for (resource, name), trays in zip(ovens, place.oven_trays, strict=False)
            ),
            ("spiral-mixer", "Spiral mixer", "mixer", 40 * by_size, "kg", "19:00"),
            ("prover", "Prover", "prover", 80 * by_size, "trays", "20:00"),
            ("bakers", "Bakers", "labour", 3 * by_size, "people", "21:00"),
        ]
        at_an_outlet = [
            ("deck-oven", "Deck oven", "oven", 12, "trays", "03:00"),
            ("planetary-mixer", "Planetary mixer", "mixer", 20, "kg", "03:00"),
        ]
        bakes = sorted(set(self._assortment["made_at_location_id"]), key=self.locations.index)
        rows = [
            (f"{location}-{resource}", location, f"{name} (synthetic)", *values)
            for location in bakes
            for resource, name, *values in (equipment if location == self.locations[0] else at_an_outlet)
        ]
        columns = ["resource_id", "location_id", "name", "kind", "capacity", "capacity_unit", "available_from"]
        return pd.DataFrame(rows, columns=columns)

    def _resource_calendar(self) -> pd.DataFrame:
        """The first open day on which ovens are serviced, and the Saturdays on which a deck oven is shared."""
        first = self.locations[0]
        rows: list[tuple[object, ...]] = []
        if self.place.is_serviced:
            first_day = self.until + timedelta(days=self.place.plan_lead_days)
            opened = (first_day + timedelta(days=n) for n in range(2))
            day = next(day for day in opened if day.weekday() != self.place.closed_weekday)
            rows.append((f"{first}-rack-oven", day, "00:00", None, 0, "Service (synthetic)"))
            rows.append((f"{first}-deck-oven", day, "00:00", "04:00", 0, "Service (synthetic)"))
        if self.place.saturday_trays is not None:
            days = (self.until + timedelta(days=n) for n in range(-EVENT_DAYS_AHEAD, EVENT_DAYS_AHEAD))
            shared = (self.place.saturday_trays, "A market stall bakes (synthetic)")
            rows += [(f"{first}-deck-oven", day, "00:00", "08:00", *shared) for day in days if day.weekday() == 5]
        columns = ["resource_id", "on_date", "from_at", "until_at", "capacity", "reason"]
        return pd.DataFrame(rows, columns=columns)

    def _process_steps(self) -> pd.DataFrame:
        """Doughs are mixed and rest; products prove, are baked or fried, and cool."""
        rows: list[tuple[object, ...]] = [
            (dough, 1, "mixer", MIXING[dough][0], 1, MIXING[dough][1]) for dough in self._used if dough in DOUGHS
        ]
        for p in self.products:
            trays, prove, bake, cool, _ = BAKING[p.product_id]
            steps = [("prover", prove, trays, 0)] if prove else []
            steps += [("oven", bake, trays, cool)] if bake else [("labour", FRYING_MINUTES, 1, cool)]
            rows += [(p.product_id, number, *step) for number, step in enumerate(steps, start=1)]
        columns = ["item_id", "step_no", "resource_kind", "minutes", "capacity_use", "wait_minutes"]
        return pd.DataFrame(rows, columns=columns)

    def _suppliers(self) -> pd.DataFrame:
        used = {INGREDIENTS[item][5] for item in self._bought} | {source for source, *_ in SECOND_SOURCE.values()}
        rate = self.place.euro_rate
        rows = [
            (supplier, name, weekdays, cutoff, round(least * rate, 2), round(fee * rate, 2))
            for supplier, (name, weekdays, cutoff, least, _, fee, *_) in SUPPLIERS.items()
            if supplier in used
        ]
        columns = ["supplier_id", "name", "delivery_weekdays", "order_cutoff_at", "min_order_value", "delivery_fee"]
        return pd.DataFrame(rows, columns=columns)

    @property
    def _bought(self) -> list[str]:
        return [item for item in self._used if item in INGREDIENTS]

    def _supplier_items(self) -> pd.DataFrame:
        rows = []
        for item in self._bought:
            _, _, unit, _, cost, supplier, pack, _ = INGREDIENTS[item]
            offers = [(supplier, 1, pack, cost)]
            if item in SECOND_SOURCE:
                second, second_pack, by_first = SECOND_SOURCE[item]
                offers.append((second, 2, second_pack, cost * by_first))
            for source, priority, quantity, unit_cost in offers:
                lead, _, sigma, on_time = SUPPLIERS[source][4:]
                price = unit_cost * quantity * self.place.euro_rate
                has_breaks = source in {"mill", "packaging"}
                for from_packs, share in ((1, 1.0), (8, 0.95), (20, 0.91)) if has_breaks else ((1, 1.0),):
                    terms = (lead, sigma, on_time, quantity, unit, from_packs, round(price * share, 2))
                    rows.append((source, item, priority, *terms))
        columns = ["supplier_id", "item_id", "priority", "lead_days", "lead_sd_days", "on_time_rate", "pack_quantity"]
        return pd.DataFrame(rows, columns=[*columns, "unit", "from_packs", "price_per_pack"])

    # ------------------------------------------------------------ calendar

    @cached_property
    def _years(self) -> range:
        return range(self.first_day.year, (self.until + timedelta(days=EVENT_DAYS_AHEAD)).year + 1)

    def _events(self) -> pd.DataFrame:
        last = self.until + timedelta(days=EVENT_DAYS_AHEAD)
        rows = [
            ("", "", day, "holiday", name)
            for day, name in sorted(self._holidays.items())
            if self.first_day <= day <= last
        ]
        for year in self._years:
            rows += [("", "", day, "school_holiday", "School holidays") for day in _school_holidays(year)]
            rows += [(location, "", day, "closure", "Closed") for location, day in self._closures(year)]
            rows += [("", product, day, "promotion", "Offer of the week") for product, day in self._promotions(year)]
        rows = [row for row in rows if self.first_day <= row[2] <= last]
        return pd.DataFrame(rows, columns=["location_id", "product_id", "business_date", "kind", "name"])

    def _hourly_profile(self) -> pd.DataFrame:
        hours = range(int(OPENS_HOUR), int(np.ceil(CLOSES_HOUR)))
        passed = np.clip((np.array([*hours, hours.stop]) - OPENS_HOUR) / (CLOSES_HOUR - OPENS_HOUR), 0, 1) ** (1 / RUSH)
        rows = [
            (self.locations[0], product.product_id, weekday, hour, round(share, 6))
            for product in self.products[:PROFILED]
            for weekday in range(7)
            for hour, share in zip(hours, np.diff(passed), strict=True)
        ]
        return pd.DataFrame(rows, columns=["location_id", "product_id", "weekday", "hour", "share"])

    @cached_property
    def _holidays(self) -> dict[date, str]:
        place = self.place
        days = holidays.country_holidays(
            place.country, subdiv=place.subdivision, years=list(self._years), language="en_US"
        )
        return {day: name[:200] for day, name in days.items()}

    def _closures(self, year: int) -> list[tuple[str, date]]:
        """Christmas and New Year everywhere, a week's holiday, and a day of works at one place."""
        rng = self._rng(year, "closures")
        closed = [("", date(year, 12, 25)), ("", date(year, 1, 1))]
        if not self.place.outlets:
            first = date(year, 1 if self.place.is_southern else 8, 8) + timedelta(days=int(rng.integers(10)))
            closed += [("", first + timedelta(days=n)) for n in range(7)]
        works = date(year, 3, 1) + timedelta(days=int(rng.integers(60)))
        return [*closed, (self.locations[-1], works)]

    def _promotions(self, year: int) -> list[tuple[str, date]]:
        rng = self._rng(year, "promotions")
        lasting = [p.product_id for p in self.products if not p.is_new]
        offered = []
        for month in range(2, 13, 2):
            first = date(year, month, 3) + timedelta(days=int(rng.integers(18)))
            product = lasting[int(rng.integers(len(lasting)))]
            offered += [(product, first + timedelta(days=n)) for n in range(7)]
        return offered

    # ------------------------------------------------------------ sales

    def sales(self) -> pd.DataFrame:
        """Sales rows of all locations: what demand left of the shelves, with the time when one ran empty."""
        years = [self._sales_of(year) for year in range(self.first_day.year, self.until.year + 1)]
        return pd.concat([rows for rows in years if len(rows)], ignore_index=True) if years else pd.DataFrame()

    def _sales_of(self, year: int) -> pd.DataFrame:
        """Rows of one year. Everything is drawn for the whole year before days are cut, so that a day never changes."""
        length = 366 if calendar.isleap(year) else 365
        days = np.datetime64(f"{year}-01-01") + np.arange(length)
        weekday = (days.astype(int) + 3) % 7
        rng = self._rng(year, "demand")
        expected = self._expected(days, weekday)  # (locations, products, days)
        is_open = self._is_open(year, days, weekday)  # (locations, days)
        shocks = rng.normal(0.0, 0.07, (1, 1, length)) + rng.normal(0.0, 0.05, (len(self.locations), 1, length))
        demand = rng.poisson(
            expected * self._lift(year, days) * np.exp(shocks) * rng.gamma(40.0, 1 / 40.0, expected.shape)
        )
        batch = np.array([p.batch for p in self.products])[None, :, None]
        shelf = expected * 1.12 + 1.0 * np.sqrt(expected)
        baked = np.maximum(np.ceil(shelf / np.minimum(batch, 12)) * np.minimum(batch, 12), 2)
        sold = np.minimum(demand, baked).astype(int)
        is_sold_out = demand >= baked
        hours = OPENS_HOUR + (CLOSES_HOUR - OPENS_HOUR) * np.clip(baked / np.maximum(demand, 1), 0.2, 0.99) ** RUSH
        start, end = np.datetime64(self.first_day), np.datetime64(self.until)
        introduced = np.array([self._introduced_on if p.is_new else date(1970, 1, 1) for p in self.products], "M8[D]")
        is_kept = is_open[:, None, :] & (sold > 0) & ((days >= start) & (days < end))[None, None, :]
        is_kept &= days[None, None, :] >= introduced[None, :, None]
        location, product, day = np.nonzero(is_kept)
        minutes = (hours[is_kept] * 12).astype(int) * 5
        clock = np.array([f"{m // 60:02d}:{m % 60:02d}" for m in range(24 * 60)])[minutes]
        price = np.array([round(p.price * self.place.euro_rate, 2) for p in self.products])
        return pd.DataFrame(
            {
                "location_id": np.array(self.locations)[location],
                "product_id": np.array([p.product_id for p in self.products])[product],
                "business_date": np.datetime_as_string(days)[day],
                "quantity_units": sold[is_kept],
                "unit_price": price[product],
                "sold_out_at": np.where(is_sold_out[is_kept], clock, ""),
            }
        )

    @property
    def _introduced_on(self) -> date:
        """New products start with the month before that of `until`: four to nine weeks of history."""
        return (self.until.replace(day=1) - timedelta(days=1)).replace(day=1)

    def _expected(self, days: np.ndarray, weekday: np.ndarray) -> np.ndarray:
        """Mean demand without offers and surprises: weekday, season and growth; shape (locations, products, days)."""
        base = np.array([p.daily_units for p in self.products]) * self.place.size
        share = np.array([1.0, 0.8, 0.6])[: len(self.locations)]
        day_of_year = (days - days.astype("M8[Y]")).astype(int)
        summer = -np.cos(2 * np.pi * (day_of_year - 15) / 365.25) * (-1 if self.place.is_southern else 1)
        season = 1 + np.array([p.sweetness for p in self.products])[:, None] * summer[None, :]
        years = (days - np.datetime64(GROWTH_SINCE)).astype(int) / 365.25
        level = WEEKDAY_SHAPE[weekday] * (1 + GROWTH_PER_YEAR * years)
        return share[:, None, None] * base[None, :, None] * season[None] * level[None, None, :]

    def _lift(self, year: int, days: np.ndarray) -> np.ndarray:
        """What offers, holidays and their eves do to demand; shape (1, products, days)."""
        lift = np.ones((1, len(self.products), len(days)))
        index = {p.product_id: n for n, p in enumerate(self.products)}
        first = days[0].astype(date)
        for day in (day for day in self._holidays if day.year == year):
            column = (day - first).days
            lift[:, :, column] *= 0.8
            if column > 0:
                lift[:, :, column - 1] *= 1.25
        for product, day in self._promotions(year):
            lift[:, index[product], (day - first).days] *= 1.5
        return lift

    def _is_open(self, year: int, days: np.ndarray, weekday: np.ndarray) -> np.ndarray:
        is_open = np.repeat((weekday != self.place.closed_weekday)[None, :], len(self.locations), axis=0)
        first = days[0].astype(date)
        for location, day in self._closures(year):
            where = slice(None) if not location else self.locations.index(location)
            is_open[where, (day - first).days] = False
        return is_open

    # ------------------------------------------------------------ stock and orders

    def _daily_use(self) -> pd.DataFrame:
        """About how much of each bought item goes a day: location_id, item_id, quantity in its base unit."""
        sold = self._assortment.copy()
        share = dict(zip(self.locations, (1.0, 0.8, 0.6), strict=False))
        units = {p.product_id: p.daily_units * self.place.size for p in self.products}
        sold["units"] = sold["product_id"].map(units) * sold["location_id"].map(share)
        made = sold.groupby(["made_at_location_id", "product_id"])["units"].sum()
        per_unit = {p.product_id: _bought_per_unit(p) for p in self.products}
        rows = [
            (location, item, units * quantity)
            for (location, product), units in made.items()
            for item, quantity in per_unit[product].items()
        ]
        frame = pd.DataFrame(rows, columns=["location_id", "item_id", "quantity"])
        return frame.groupby(["location_id", "item_id"], as_index=False)["quantity"].sum()

    def _stock(self) -> pd.DataFrame:
        """Two counts: at the start of the month before last's end, so that the past can be replayed, and on `until`."""
        counts = [self._count(self._introduced_on), self._count(self.until), self._leftover_products()]
        return pd.concat(counts, ignore_index=True)

    def _count(self, as_of: date) -> pd.DataFrame:
        rng = self._rng(as_of.toordinal(), "stock")
        rows = []
        for location, item, daily in self._daily_use().itertuples(index=False):
            _, _, _, shelf_life, cost, _, pack, cover = INGREDIENTS[item]
            on_hand = max(daily * cover, 0.3 * pack) * rng.uniform(0.7, 1.3)
            old = 0.3 if shelf_life else 0.0
            for number, part in enumerate((old, 1.0 - old)):
                if part == 0:
                    continue
                received = as_of - timedelta(days=int(rng.integers(4, 7) if number == 0 else rng.integers(1, 4)))
                # The older lot of what spoils soon is on its last day.
                life = timedelta(days=shelf_life or 0)
                expires = None if not shelf_life else (as_of if number == 0 and shelf_life < 15 else received + life)
                quantity = round(on_hand * part, 0 if INGREDIENTS[item][2] == "unit" else 3)
                lot = f"{as_of:%y%m%d}-{number + 1}"
                unit_cost = round(cost * self.place.euro_rate, 4)
                rows.append((location, item, lot, as_of, quantity, INGREDIENTS[item][2], expires, unit_cost, received))
        columns = ["location_id", "item_id", "lot_id", "as_of", "quantity", "unit", "expires_on", "unit_cost"]
        return pd.DataFrame(rows, columns=[*columns, "received_on"])

    def _leftover_products(self) -> pd.DataFrame:
        """What was baked on the day before `until` and not sold, of products that keep, where they are made."""
        made_at = self._assortment.drop_duplicates("product_id").set_index("product_id")["made_at_location_id"]
        baked = self.until - timedelta(days=1)
        rows = [
            (made_at[p.product_id], p.product_id, f"{self.until:%y%m%d}-{p.product_id}", self.until,
             max(1, round(STOCKED[p.product_id] * p.daily_units * self.place.size)), "unit",
             baked + timedelta(days=p.shelf_life_days - 1), round(p.cost * self.place.euro_rate, 4), baked)
            for p in self.products if p.product_id in STOCKED
        ]  # fmt: skip
        columns = ["location_id", "item_id", "lot_id", "as_of", "quantity", "unit", "expires_on", "unit_cost"]
        return pd.DataFrame(rows, columns=[*columns, "received_on"])

    def _orders(self) -> pd.DataFrame:
        """One open order at the mill for the next delivery."""
        daily = self._daily_use().set_index(["location_id", "item_id"])["quantity"]
        packs = max(1, round(2 * daily[self.locations[0], "flour-wheat"] / 25))
        delivery = next(day for n in range(1, 8) if (day := self.until + timedelta(days=n)).weekday() in {1, 4})
        amount = round(packs * 25 * 0.72 * self.place.euro_rate, 2)
        row = {
            "order_line_id": f"sample-{delivery:%y%m%d}-1",
            "supplier_id": "mill",
            "item_id": "flour-wheat",
            "location_id": self.locations[0],
            "quantity": packs * 25,
            "unit": "kg",
            "amount": amount,
            "ordered_on": delivery - timedelta(days=5),
            "delivery_on": delivery,
            "expires_on": delivery + timedelta(days=180),
        }
        return pd.DataFrame([row])

    def _customer_orders(self) -> pd.DataFrame:
        """An order for each of the next three open days."""
        closed = self.place.closed_weekday
        due = [day for n in range(5) if (day := self.until + timedelta(days=n)).weekday() != closed][:3]
        wanted = (("croissant", 30), ("sourdough-loaf", 6), ("bread-roll", 60))
        rows = [
            (f"sample-{day:%y%m%d}", self.locations[-1], *wanted[day.toordinal() % 3], day, day - timedelta(days=6))
            for day in due
        ]
        columns = ["order_id", "location_id", "product_id", "quantity_units", "due_on", "ordered_on"]
        return pd.DataFrame(rows, columns=columns)

    def _standing_orders(self) -> pd.DataFrame:
        """A café takes bread and croissants on working days."""
        weekdays = [day for day in range(5) if day != self.place.closed_weekday]
        rows = [
            ("sample-cafe", self.locations[0], product, day, units, GROWTH_SINCE)
            for product, units in (("baguette", 12), ("croissant", 15))
            for day in weekdays
        ]
        columns = ["order_id", "location_id", "product_id", "weekday", "quantity_units", "valid_from"]
        return pd.DataFrame(rows, columns=columns)

    def _rng(self, number: int, purpose: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(f"{self.tenant_id}/{purpose}".encode()), number])


@dataclass(frozen=True)
class SampleFleet:
    """Synthetic bakeries. Their frames are made when asked for, so that ten thousand fit into memory."""

    tenants: tuple[SampleTenant, ...]

    def frames(self) -> Iterator[tuple[SampleTenant, dict[str, pd.DataFrame]]]:
        """Each bakery with its frames."""
        for tenant in self.tenants:
            yield tenant, tenant.frames()


def generate(
    seed: int = DEFAULT_SEED, tenants: int | None = None, days: int = DEFAULT_DAYS, *, until: date | datetime
) -> SampleFleet:
    """Synthetic bakeries whose sales end on the day before `until`; given an instant, each in its own time zone."""
    count = DEFAULT_TENANTS if tenants is None else tenants
    return SampleFleet(
        tuple(
            SampleTenant(
                place,
                seed,
                days,
                until.astimezone(ZoneInfo(place.timezone)).date() if isinstance(until, datetime) else until,
            )
            for place in _places(count)
        )
    )


def load_sample(
    store: Store,
    now: datetime,
    tenants: int | None = None,
    days: int = DEFAULT_DAYS,
    seed: int = DEFAULT_SEED,
    on_step: OnStep | None = None,
) -> list[str]:
    """Generate bakeries and load them through the importer; returns their ids. What is there already is left as it is.

    Raises SampleError when one of the ids belongs to a tenant that is not synthetic.
    """
    fleet = generate(seed, tenants, days, until=now)
    for first in range(0, len(fleet.tenants), TENANTS_AT_A_TIME):
        group = fleet.tenants[first : first + TENANTS_AT_A_TIME]
        _add(store, group, now)
        files: dict[str, list[Source]] = {}
        for tenant in group:
            for kind, frame in tenant.frames().items():
                content = frame.to_csv(index=False).encode()
                files.setdefault(kind, []).append(Source.of_bytes(tenant.tenant_id, f"sample-{kind}.csv", content))
        for kind, sources in files.items():
            if on_step is not None:
                on_step(kind, first, len(fleet.tenants))
            _load(store, kind, sources, now)
    return [tenant.tenant_id for tenant in fleet.tenants]


def _add(store: Store, group: Sequence[SampleTenant], now: datetime) -> None:
    ids = [tenant.tenant_id for tenant in group]
    with store.transaction() as connection:
        add_tenants(connection, [tenant.tenant(now) for tenant in group])
        taken = connection.execute(
            "SELECT tenant_id FROM master.tenant WHERE tenant_id = ANY(%s) AND NOT is_synthetic", (ids,)
        ).fetchone()
        if taken:
            raise SampleError(
                f"Tenant {taken[0]} exists and is not synthetic. Remedy: use another database for the sample."
            )


def _load(store: Store, kind: str, sources: Sequence[Source], now: datetime) -> None:
    for report in import_batch(store, kind, sources, now=now):
        if report.status == "refused" and report.problems:
            raise SampleError(
                f"{report.file_name} of {report.tenant_id} is refused: {report.problems[0]}. "
                "Remedy: this database holds other data for it; use another one."
            )


def _places(count: int) -> list[Place]:
    """The first ones as they are, then independent bakeries in their turn with numbers of their own."""
    independents = PLACES[1:]
    more = (independents[n % len(independents)] for n in range(max(0, count - len(PLACES))))
    numbered = [
        Place(**{**vars(place), "tenant_id": f"{place.tenant_id}-{n:05d}", "name": f"{place.name} {n}"})
        for n, place in enumerate(more, start=len(PLACES) + 1)
    ]
    return [*PLACES[:count], *numbered]


def _school_holidays(year: int) -> list[date]:
    summer = [date(year, 7, 15) + timedelta(days=n) for n in range(35)]
    return [*summer, *(date(year, 12, 22) + timedelta(days=n) for n in range(10))]


def _small_unit(item: str) -> str:
    return "ml" if INGREDIENTS[item][2] == "L" else "g"


def _bought_per_unit(product: Product) -> dict[str, float]:
    """Bought items in one unit of a product, in their base units, through its doughs."""
    total = {item: g / 1000 for item, g in product.extras.items()}
    total[product.packaging] = total.get(product.packaging, 0.0) + 1
    pending = [(product.dough, product.dough_g / 1000)]
    while pending:
        dough, kg = pending.pop()
        _, made, yield_frac, lines = DOUGHS[dough]
        for item, (quantity, unit) in lines.items():
            used = kg / (made * yield_frac) * quantity * (0.001 if unit in {"g", "ml"} else 1.0)
            if item in DOUGHS:
                pending.append((item, used))
            else:
                total[item] = total.get(item, 0.0) + used
    return total
