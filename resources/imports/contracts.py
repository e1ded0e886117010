"""The table of kinds: which columns a file of each kind has, what each cell may hold, and where its rows go.

Only data belongs here, with the few SQL conditions that hold for one kind; how it is applied is `importer`'s.
In the conditions `s` is the staged row, `b` its tenant in this import, with the tenant's date `today`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString

from resources.imports.values import TYPES, OneOf, Reader


@dataclass(frozen=True)
class Column:
    """A column of a file.

    `default` is read in place of an empty cell or an absent column; without one they are unknown (null).
    `refers_to` names what the cell must be known as, `measured_in` the columns of item and unit to convert it by.
    """

    name: str
    type: str
    meaning: str
    example: str
    unit: str = ""
    is_required: bool = False
    default: str | None = None
    words: Sequence[str] = ()
    refers_to: str | None = None
    measured_in: tuple[str, str] | None = None

    @property
    def reader(self) -> Reader:
        """Reads a cell of the column."""
        return OneOf(self.words) if self.words else TYPES[self.type].reader

    @property
    def staged_as(self) -> str:
        """The column's Postgres type while it is checked."""
        return TYPES[self.type].staged_as

    @property
    def described_as(self) -> str:
        """What a cell may hold, for people."""
        if self.refers_to:
            return f"id of a known {self.refers_to}"
        return f"one of {', '.join(self.words)}" if self.words else TYPES[self.type].described_as


@dataclass(frozen=True)
class Rule:
    """A condition that every staged row meets; a row that does not is reported at `column`."""

    column: str
    holds: LiteralString
    problem: str
    remedy: str


@dataclass(frozen=True)
class Total:
    """What a column adds up to over the rows that share the columns `by`; a group that misses it is reported as a whole."""

    column: str
    by: tuple[str, ...]
    total: float
    tolerance: float
    remedy: str


@dataclass(frozen=True)
class Target:
    """A table that rows are merged into: new keys are inserted, changed values updated, the rest is left alone.

    `source` gives the staged expression of a table column that is not named as in the file. With `replaces_by`, the rows
    of the table that share these columns with the file and are not in it are deleted: the file holds the whole set.
    With `is_history_kept`, rows carry the import and its time, and replaced ones are kept in the table named `…_replaced`.
    """

    table: str
    key: tuple[str, ...]
    values: tuple[str, ...] = ()
    constants: tuple[tuple[str, str], ...] = ()
    source: tuple[tuple[str, LiteralString], ...] = ()
    replaces_by: tuple[str, ...] = ()
    is_history_kept: bool = False
    partitioned_by: str | None = None


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    `input` is the data version that a change bumps, `key` identifies a row in the file, `agreeing` are columns that must
    be equal in all rows of the group `agreeing_by`. `versions` names the append-only history that the importer extends;
    with `is_widening_assortment`, a known product joins the assortment of the location that the row names. `dated_by` names
    the column whose dates are recorded with the version, so that what is derived from the rows can be patched.
    """

    name: str
    input: str
    meaning: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    targets: tuple[Target, ...] = ()
    rules: tuple[Rule, ...] = ()
    agreeing_by: tuple[str, ...] = ()
    agreeing: tuple[str, ...] = ()
    versions: str | None = None
    is_widening_assortment: bool = False
    total: Total | None = None
    dated_by: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def group(self) -> tuple[str, ...]:
        """Columns of the rows that only make sense together; empty where each row stands alone."""
        return self.agreeing_by or next((target.replaces_by for target in self.targets if target.replaces_by), ())

    def column(self, name: str) -> Column:
        """The column of this name."""
        return next(column for column in self.columns if column.name == name)


LOCATION = Column("location_id", "id", "where", "main", is_required=True, refers_to="location")
PRODUCT = Column("product_id", "id", "what", "croissant", is_required=True, refers_to="product")
ITEM = Column("item_id", "id", "what", "flour-wheat", is_required=True, refers_to="item")
SUPPLIER = Column("supplier_id", "id", "from whom", "mill", is_required=True, refers_to="supplier")
ACTIVE = Column("is_active", "flag", "whether it is in use", "true", default="true")
VALID_FROM = Column(
    "valid_from",
    "date",
    "first day on which it holds; empty: from the beginning for the first version, from the day of the import for later ones",
    "2025-01-31",
)


def _not_in_the_future(column: str, holds: LiteralString) -> Rule:
    return Rule(
        column,
        holds,
        "in the future of the tenant's time zone",
        "Check the date; what has not happened cannot be imported.",
    )


SALES = Kind(
    "sales",
    "sales",
    "What was sold, one row per location, product and business date (and source).",
    (
        LOCATION,
        PRODUCT,
        Column("business_date", "date", "day of the sale in the tenant's time zone", "2025-01-31", is_required=True),
        Column("quantity_units", "quantity", "how many were sold", "42", unit="units", is_required=True),
        Column("unit_price", "money", "price of one", "1.40", unit="tenant's currency"),
        Column("sold_out_at", "time", "when the last one went; empty: not sold out as far as known", "15:30"),
        Column("source_id", "text", "till or system, where several report the same product", "till-1", default=""),
    ),
    key=("location_id", "product_id", "business_date", "source_id"),
    targets=(
        Target(
            "facts.sales",
            ("location_id", "product_id", "business_date", "source_id"),
            ("quantity_units", "unit_price", "sold_out_at"),
            is_history_kept=True,
            partitioned_by="business_date",
        ),
    ),
    rules=(_not_in_the_future("business_date", "s.business_date <= b.today + 1"),),
    is_widening_assortment=True,
    dated_by="business_date",
    notes=(
        "A later file replaces a row of the same location, product, date and source; "
        "the old values are kept in facts.sales_replaced.",
        "A known product that a location sells for the first time joins its assortment, made where it is sold.",
        "With --create-products, unknown products are created with a shelf life of one day and without prices and costs, "
        "which plans then flag; with --create-locations, unknown locations.",
    ),
)

EVENTS = Kind(
    "events",
    "calendar",
    "Days that differ: holidays, school holidays, promotions and closures.",
    (
        Column("location_id", "id", "where; empty: everywhere", "main", refers_to="location"),
        Column("product_id", "id", "for what; empty: everything", "croissant", refers_to="product"),
        Column("business_date", "date", "the day", "2025-12-25", is_required=True),
        Column(
            "kind",
            "text",
            "what kind of day",
            "holiday",
            is_required=True,
            words=("holiday", "school_holiday", "promotion", "closure"),
        ),
        Column("name", "text", "its name", "Christmas", is_required=True),
    ),
    key=("location_id", "product_id", "business_date", "kind", "name"),
    targets=(Target("master.calendar_event", ("location_id", "product_id", "business_date", "kind", "name")),),
)

HOURLY_PROFILE = Kind(
    "hourly-profile",
    "calendar",
    "How a day's demand spreads over its hours: one row per location, product, weekday and hour.",
    (
        LOCATION,
        PRODUCT,
        Column("weekday", "weekday", "the day of the week", "0", is_required=True),
        Column("hour", "hour", "from this full hour to the next, local time", "7", is_required=True),
        Column("share", "share", "share of the day's demand that comes in it", "1", is_required=True),
    ),
    key=("location_id", "product_id", "weekday", "hour"),
    targets=(
        Target(
            "master.hourly_profile",
            ("location_id", "product_id", "weekday", "hour"),
            ("share",),
            replaces_by=("location_id", "product_id", "weekday"),
        ),
    ),
    total=Total(
        "share",
        ("location_id", "product_id", "weekday"),
        1.0,
        0.01,
        "Give every hour of the day with its share, 0.05 for 5 %, so that they add up to 1.",
    ),
    notes=(
        "The shares of a location, product and weekday add up to 1, give or take 0.01.",
        "The file holds the whole day of every location, product and weekday that it names: hours that it leaves out have "
        "no demand.",
        "When a product sold out at a known time, demand is what was sold by the share of the day that had passed. Count "
        "the shares from days on which it did not sell out, else the late hours are too small.",
    ),
)

PRODUCTS = Kind(
    "products",
    "products",
    "What is sold, with prices and batches.",
    (
        Column("product_id", "id", "id of the product", "croissant", is_required=True),
        Column("name", "text", "its name", "Butter croissant", is_required=True),
        Column("unit_price", "positive_money", "sales price; empty: unknown", "1.40", unit="tenant's currency"),
        Column("variable_cost", "money", "cost of making one; empty: unknown", "0.45", unit="tenant's currency"),
        Column(
            "salvage_value",
            "signed_money",
            "what an unsold one brings; negative where disposal costs",
            "0.10",
            unit="tenant's currency",
            default="0",
        ),
        Column(
            "goodwill_cost",
            "money",
            "cost of a lost sale beyond its margin",
            "0",
            unit="tenant's currency",
            default="0",
        ),
        Column(
            "shelf_life_days",
            "positive_count",
            "days on which it can be sold, counted with the day it is made",
            "1",
            unit="days",
            default="1",
        ),
        Column("batch_size_units", "positive_quantity", "made at a time", "24", unit="units", default="1"),
        Column("batch_min", "count", "least number of batches when it is made", "0", unit="batches", default="0"),
        Column("batch_multiple", "positive_count", "batches come in multiples of it", "1", unit="batches", default="1"),
        Column("batch_max_per_day", "positive_count", "most batches a day; empty: no limit", "12", unit="batches"),
        Column("batch_fixed_cost", "money", "cost of each batch as such", "0", unit="tenant's currency", default="0"),
        Column("made_on_weekdays", "weekdays", "days on which it is made", "0 1 2 3 4 5", default="0 1 2 3 4 5 6"),
        Column(
            "daily_estimate_units",
            "quantity",
            "the owner's estimate, used until there is history",
            "60",
            unit="units a day",
        ),
        Column(
            "ready_by",
            "time",
            "when a day's first ones are needed; empty: when the earliest of the locations that it is made for opens",
            "06:30",
        ),
        ACTIVE,
        VALID_FROM,
    ),
    key=("product_id",),
    targets=(
        Target(
            "master.item",
            ("item_id",),
            ("name", "shelf_life_days"),
            constants=(("kind", "product"), ("base_unit", "unit")),
            source=(("item_id", "s.product_id"),),
        ),
        Target(
            "master.product",
            ("product_id",),
            (
                "batch_size_units",
                "batch_min",
                "batch_multiple",
                "batch_max_per_day",
                "batch_fixed_cost",
                "made_on_weekdays",
                "daily_estimate_units",
                "ready_by",
                "is_active",
            ),
        ),
    ),
    rules=(
        Rule(
            "product_id",
            "NOT EXISTS (SELECT FROM master.item AS i WHERE i.tenant_id = s.tenant_id AND i.item_id = s.product_id"
            " AND i.kind <> 'product')",
            "the id belongs to an item that is not sold",
            "Give the product an id of its own.",
        ),
    ),
    versions="product_price",
    notes=(
        "Prices are versions: a new one is written only when a price or cost changed.",
        "A product without a stated shelf life is sold on the day it is made and not later; only other items keep.",
    ),
)

LOCATIONS = Kind(
    "locations",
    "calendar",
    "Points of sale and production sites.",
    (
        Column("location_id", "id", "id of the location", "main", is_required=True),
        Column("name", "text", "its name", "High Street", is_required=True),
        Column("kind", "text", "sells, makes, or both", "both", words=("outlet", "central", "both"), default="both"),
        ACTIVE,
    ),
    key=("location_id",),
    targets=(Target("master.location", ("location_id",), ("name", "kind", "is_active")),),
)

OPENING_HOURS = Kind(
    "opening-hours",
    "calendar",
    "When a location is open: one row per open weekday.",
    (
        LOCATION,
        Column("weekday", "weekday", "the day of the week", "0", is_required=True),
        Column("opens_at", "time", "opening", "07:00", is_required=True),
        Column("closes_at", "time", "closing, later on the same day", "19:30", is_required=True),
    ),
    key=("location_id", "weekday"),
    targets=(
        Target(
            "master.opening_hours",
            ("location_id", "weekday"),
            ("opens_at", "closes_at"),
            replaces_by=("location_id",),
        ),
    ),
    rules=(
        Rule(
            "closes_at",
            "s.opens_at < s.closes_at",
            "not later than opens_at",
            "Write the closing time of the same day, 23:59 for midnight.",
        ),
    ),
    notes=(
        "The file holds the whole week of every location it names: weekdays that it leaves out are closed.",
        "A location without any row is open every day.",
    ),
)

ASSORTMENT = Kind(
    "assortment",
    "products",
    "What is sold where, and where it is made.",
    (
        LOCATION,
        PRODUCT,
        Column("made_at_location_id", "id", "where it is made; empty: where it is sold", "main", refers_to="location"),
        ACTIVE,
    ),
    key=("location_id", "product_id"),
    targets=(
        Target(
            "master.assortment",
            ("location_id", "product_id"),
            ("made_at_location_id", "is_active"),
            source=(("made_at_location_id", "coalesce(s.made_at_location_id, s.location_id)"),),
        ),
    ),
)

ITEMS = Kind(
    "items",
    "recipes",
    "Doughs, ingredients and packaging. Products come with their own file.",
    (
        Column("item_id", "id", "id of the item", "flour-wheat", is_required=True),
        Column("name", "text", "its name", "Wheat flour", is_required=True),
        Column(
            "kind", "text", "what it is", "ingredient", is_required=True, words=("dough", "ingredient", "packaging")
        ),
        Column(
            "base_unit",
            "text",
            "unit in which it is kept and planned; cannot change later",
            "kg",
            is_required=True,
            words=("kg", "L", "unit"),
        ),
        Column(
            "shelf_life_days", "positive_count", "days on which it can be used; empty: it keeps", "180", unit="days"
        ),
        Column(
            "removal_days", "count", "days before expiry on which it is no longer used", "0", unit="days", default="0"
        ),
        Column(
            "unit_cost",
            "money",
            "cost of one base unit; empty: unknown",
            "0.85",
            unit="tenant's currency per base unit",
        ),
        Column("safety_stock_quantity", "quantity", "stock kept for surprises", "25", unit="base unit", default="0"),
        Column(
            "service_level",
            "service_level",
            "share of the days between deliveries on which stock should last, where demand may still change",
            "0.95",
            default="0.95",
        ),
        Column(
            "lot_rule",
            "text",
            "how much a purchase covers: until the next delivery, each day's need, a fixed quantity, so many days, or "
            "what is cheapest in fees and storage",
            "delivery_calendar",
            words=("delivery_calendar", "lot_for_lot", "fixed", "period", "wagner_whitin"),
            default="delivery_calendar",
        ),
        Column("lot_quantity", "positive_quantity", "what a fixed lot holds", "50", unit="base unit"),
        Column("lot_periods", "positive_count", "days that a period lot covers", "3", unit="days"),
    ),
    key=("item_id",),
    targets=(
        Target(
            "master.item",
            ("item_id",),
            (
                "name",
                "kind",
                "base_unit",
                "shelf_life_days",
                "removal_days",
                "unit_cost",
                "safety_stock_quantity",
                "service_level",
                "lot_rule",
                "lot_quantity",
                "lot_periods",
            ),
        ),
    ),
    rules=(
        Rule(
            "lot_quantity",
            "s.lot_rule <> 'fixed' OR s.lot_quantity IS NOT NULL",
            "a fixed lot without its quantity",
            "Give lot_quantity in the base unit, or another lot_rule.",
        ),
        Rule(
            "lot_periods",
            "s.lot_rule <> 'period' OR s.lot_periods IS NOT NULL",
            "a lot of a period without its days",
            "Give lot_periods, or another lot_rule.",
        ),
        Rule(
            "base_unit",
            "NOT EXISTS (SELECT FROM master.item AS i WHERE i.tenant_id = s.tenant_id AND i.item_id = s.item_id"
            " AND i.base_unit <> s.base_unit)",
            "the item is kept in another unit",
            "Keep its base unit, or make a new item: recipes and stock are counted in the old one.",
        ),
        Rule(
            "item_id",
            "NOT EXISTS (SELECT FROM master.item AS i WHERE i.tenant_id = s.tenant_id AND i.item_id = s.item_id"
            " AND i.kind = 'product')",
            "the id belongs to a product",
            "Change it with a file of kind products, or give the item an id of its own.",
        ),
    ),
)

UNIT_CONVERSIONS = Kind(
    "unit-conversions",
    "recipes",
    "Units of your own per item, such as the weight of an egg. g, kg, ml, cl and L need none.",
    (
        ITEM,
        Column("from_unit", "text", "the unit", "tray", is_required=True),
        Column("factor", "factor", "base units in one of it", "30", unit="base units", is_required=True),
    ),
    key=("item_id", "from_unit"),
    targets=(Target("master.unit_conversion", ("item_id", "from_unit"), ("factor",)),),
)

RECIPES = Kind(
    "recipes",
    "recipes",
    "What goes into a product or dough, one row per line; a dough may be a line of several products.",
    (
        Column("output_item_id", "id", "what is made", "croissant", is_required=True, refers_to="item"),
        Column(
            "output_quantity",
            "positive_quantity",
            "how much the lines below make, before the yield",
            "24",
            unit="output_unit",
            is_required=True,
            measured_in=("output_item_id", "output_unit"),
        ),
        Column("output_unit", "text", "unit of output_quantity; empty: the item's base unit", "unit"),
        Column("yield_frac", "yield", "share that comes out", "0.98", default="1"),
        Column("item_id", "id", "what goes in", "butter", is_required=True, refers_to="item"),
        Column(
            "quantity",
            "positive_quantity",
            "how much of it",
            "600",
            unit="unit",
            is_required=True,
            measured_in=("item_id", "unit"),
        ),
        Column("unit", "text", "unit of quantity; empty: the item's base unit", "g"),
        Column("scrap_frac", "scrap", "share of the line that is lost", "0.02", default="0"),
        VALID_FROM,
    ),
    key=("output_item_id", "item_id"),
    rules=(
        Rule(
            "item_id",
            "s.item_id <> s.output_item_id",
            "an item cannot go into itself",
            "Name the ingredient, or put a dough in between.",
        ),
    ),
    agreeing_by=("output_item_id",),
    agreeing=("output_quantity", "output_unit", "yield_frac", "valid_from"),
    versions="recipe",
    notes=(
        "The file holds the whole recipe of every output it names. "
        "A changed recipe is a new version; older plans keep the one they used.",
        "A circle through several recipes is found when planning, which names it.",
    ),
)

RESOURCES = Kind(
    "resources",
    "products",
    "Ovens, mixers, provers and hands.",
    (
        Column("resource_id", "id", "id of the resource", "deck-oven", is_required=True),
        LOCATION,
        Column("name", "text", "its name", "Deck oven", is_required=True),
        Column("kind", "text", "what it is", "oven", is_required=True, words=("oven", "mixer", "prover", "labour")),
        Column("capacity", "capacity", "what it holds at a time", "12", unit="capacity_unit", is_required=True),
        Column("capacity_unit", "text", "unit of the capacity; kg for mixers", "trays", is_required=True),
        Column(
            "available_from",
            "time",
            "from when on it works for a day: the last such time before what it makes is needed",
            "03:00",
            default="00:00",
        ),
    ),
    key=("resource_id",),
    targets=(
        Target(
            "master.resource",
            ("resource_id",),
            ("location_id", "name", "kind", "capacity", "capacity_unit", "available_from"),
        ),
    ),
)

PROCESS_STEPS = Kind(
    "process-steps",
    "products",
    "What happens to a batch of a product, or to a mixer run of a dough: one row per step, in their order.",
    (
        Column("item_id", "id", "the product or dough", "croissant", is_required=True, refers_to="item"),
        Column("step_no", "positive_count", "the order of the steps", "1", is_required=True),
        Column(
            "resource_kind",
            "text",
            "what it needs",
            "oven",
            is_required=True,
            words=("oven", "mixer", "prover", "labour"),
        ),
        Column(
            "resource_id",
            "id",
            "the one that it needs; empty: any of the kind where it is made",
            "deck-oven",
            refers_to="resource",
        ),
        Column(
            "minutes",
            "minutes",
            "how long a batch takes, or a mixer run whatever is in it",
            "18",
            unit="minutes",
            is_required=True,
        ),
        Column(
            "capacity_use",
            "capacity",
            "what a batch takes of the resource; not of mixers, which are filled by weight",
            "4",
            unit="capacity_unit",
            default="1",
        ),
        Column(
            "wait_minutes",
            "wait",
            "after it, before the next step or before it is ready: rest, prove, cool",
            "20",
            unit="minutes",
            default="0",
        ),
    ),
    key=("item_id", "step_no"),
    targets=(
        Target(
            "master.process_step",
            ("item_id", "step_no"),
            ("resource_kind", "resource_id", "minutes", "capacity_use", "wait_minutes"),
            replaces_by=("item_id",),
        ),
    ),
    rules=(
        Rule(
            "item_id",
            "NOT EXISTS (SELECT FROM master.item AS i WHERE i.tenant_id = s.tenant_id AND i.item_id = s.item_id"
            " AND i.kind NOT IN ('product', 'dough'))",
            "it is bought, not made",
            "Name the product or dough that it goes into.",
        ),
        Rule(
            "resource_id",
            "NOT EXISTS (SELECT FROM master.resource AS r WHERE r.tenant_id = s.tenant_id"
            " AND r.resource_id = s.resource_id AND r.kind <> s.resource_kind)",
            "the resource is of another kind",
            "Correct resource_kind, or name a resource of that kind.",
        ),
    ),
    notes=(
        "The file holds all steps of every item it names; steps that it leaves out are gone.",
        "An item without steps takes no capacity, and its batches get no times.",
    ),
)

RESOURCE_CALENDAR = Kind(
    "resource-calendar",
    "products",
    "When a resource holds something else than usual: repairs, helpers, a second oven.",
    (
        Column("resource_id", "id", "the resource", "deck-oven", is_required=True, refers_to="resource"),
        Column("on_date", "date", "the day", "2025-02-03", is_required=True),
        Column("from_at", "time", "from then on", "04:00", default="00:00"),
        Column("until_at", "time", "until then, later on the same day; empty: to the end of the day", "06:30"),
        Column(
            "capacity",
            "held",
            "what it holds in that time; 0: it is down",
            "0",
            unit="capacity_unit",
            is_required=True,
        ),
        Column("reason", "text", "why", "repair", default=""),
    ),
    key=("resource_id", "on_date", "from_at"),
    targets=(
        Target(
            "master.resource_calendar",
            ("resource_id", "on_date", "from_at"),
            ("until_at", "capacity", "reason"),
            replaces_by=("resource_id", "on_date"),
        ),
    ),
    rules=(
        Rule(
            "until_at",
            "s.until_at IS NULL OR s.from_at < s.until_at",
            "not later than from_at",
            "Write a time of the same day, or leave it empty; what lasts past midnight is a row for each day.",
        ),
        Rule(
            "from_at",
            "NOT EXISTS (SELECT FROM staged AS o WHERE o.tenant_id = s.tenant_id AND o.resource_id = s.resource_id"
            " AND o.on_date = s.on_date AND o.from_at < s.from_at AND (o.until_at IS NULL OR o.until_at > s.from_at))",
            "begins before an earlier row of the same day has ended",
            "Let the times of a day follow each other.",
        ),
    ),
    notes=(
        "The file holds the whole day of every resource and date that it names. A day on which all is as usual again is "
        "given by a row with the usual capacity.",
    ),
)

SUPPLIERS = Kind(
    "suppliers",
    "suppliers",
    "Who delivers, and when.",
    (
        Column("supplier_id", "id", "id of the supplier", "mill", is_required=True),
        Column("name", "text", "its name", "Old Mill", is_required=True),
        Column("delivery_weekdays", "weekdays", "days on which it delivers", "1 4", default="0 1 2 3 4 5 6"),
        Column("order_cutoff_at", "time", "orders of a day are taken until then", "12:00", default="12:00"),
        Column("min_order_value", "money", "least value of an order", "80", unit="tenant's currency", default="0"),
        Column("delivery_fee", "money", "what each delivery costs", "9.50", unit="tenant's currency", default="0"),
    ),
    key=("supplier_id",),
    targets=(
        Target(
            "master.supplier",
            ("supplier_id",),
            ("name", "delivery_weekdays", "order_cutoff_at", "min_order_value", "delivery_fee"),
        ),
    ),
)

SUPPLIER_ITEMS = Kind(
    "supplier-items",
    "suppliers",
    "What a supplier delivers, in which packs and at which price; one row per price break.",
    (
        SUPPLIER,
        ITEM,
        Column("priority", "positive_count", "1 is asked first", "1", default="1"),
        Column("lead_days", "count", "days from order to delivery", "2", unit="days", is_required=True),
        Column(
            "lead_sd_days",
            "deviation_days",
            "by how many days a delivery misses its day, as a standard deviation",
            "0.5",
            unit="days",
            default="0",
        ),
        Column("on_time_rate", "rate", "share of deliveries that come on their day", "0.97", default="1"),
        Column(
            "pack_quantity",
            "positive_quantity",
            "content of a pack",
            "25",
            unit="unit",
            is_required=True,
            measured_in=("item_id", "unit"),
        ),
        Column("unit", "text", "unit of pack_quantity; empty: the item's base unit", "kg"),
        Column("min_packs", "positive_count", "least number of packs of an order", "1", unit="packs", default="1"),
        Column("multiple_packs", "positive_count", "packs come in multiples of it", "1", unit="packs", default="1"),
        Column(
            "from_packs", "positive_count", "the price holds from this many packs on", "1", unit="packs", default="1"
        ),
        Column("price_per_pack", "money", "price of a pack; empty: unknown", "18.50", unit="tenant's currency"),
        ACTIVE,
        VALID_FROM,
    ),
    key=("supplier_id", "item_id", "from_packs"),
    targets=(
        Target(
            "master.supplier_item",
            ("supplier_id", "item_id"),
            (
                "priority",
                "lead_days",
                "lead_sd_days",
                "on_time_rate",
                "pack_quantity",
                "min_packs",
                "multiple_packs",
                "is_active",
            ),
        ),
    ),
    agreeing_by=("supplier_id", "item_id"),
    agreeing=(
        "priority",
        "lead_days",
        "lead_sd_days",
        "on_time_rate",
        "pack_quantity",
        "unit",
        "min_packs",
        "multiple_packs",
        "is_active",
        "valid_from",
    ),
    versions="supplier_price",
    notes=(
        "The file holds all price breaks of every supplier and item it names; a changed set is a new version of all of them.",
    ),
)

STOCK = Kind(
    "stock",
    "stock",
    "A stock count: the lots found at the opening of a day.",
    (
        LOCATION,
        ITEM,
        Column("lot_id", "text", "name of the lot", "L-2025-031", is_required=True),
        Column("as_of", "date", "counted at the opening of this day", "2025-01-31", is_required=True),
        Column(
            "quantity",
            "quantity",
            "how much; 0: counted, and none was there",
            "75",
            unit="unit",
            is_required=True,
            measured_in=("item_id", "unit"),
        ),
        Column("unit", "text", "unit of quantity; empty: the item's base unit", "kg"),
        Column("expires_on", "date", "last day of use; empty: it keeps", "2025-06-30"),
        Column(
            "unit_cost",
            "money",
            "what a base unit cost; empty: unknown",
            "0.85",
            unit="tenant's currency per base unit",
        ),
        Column("received_on", "date", "day of delivery", "2025-01-28"),
    ),
    key=("location_id", "item_id", "as_of", "lot_id"),
    targets=(
        Target(
            "facts.stock_lot",
            ("location_id", "item_id", "as_of", "lot_id"),
            ("quantity", "received_on", "expires_on", "unit_cost"),
            replaces_by=("location_id", "item_id", "as_of"),
        ),
    ),
    rules=(
        _not_in_the_future("as_of", "s.as_of <= b.today + 1"),
        Rule(
            "received_on",
            "s.received_on IS NULL OR s.received_on <= s.as_of",
            "later than the count",
            "Check received_on and as_of.",
        ),
    ),
    notes=(
        "The file holds all lots of every location, item and day it names; it replaces an earlier count of that day.",
    ),
)

MOVEMENTS = Kind(
    "movements",
    "stock",
    "What came into stock or left it, beyond what plans know.",
    (
        Column("movement_id", "text", "id of the movement", "W-1041", is_required=True),
        LOCATION,
        ITEM,
        Column("occurred_on", "date", "the day", "2025-01-31", is_required=True),
        Column(
            "quantity_change",
            "quantity_change",
            "positive into stock, negative out of it",
            "-1.5",
            unit="unit",
            is_required=True,
            measured_in=("item_id", "unit"),
        ),
        Column("unit", "text", "unit of quantity_change; empty: the item's base unit", "kg"),
        Column(
            "kind",
            "text",
            "why",
            "waste",
            is_required=True,
            words=("receipt", "waste", "transfer", "adjustment"),
        ),
    ),
    key=("movement_id",),
    targets=(
        Target(
            "facts.stock_movement",
            ("movement_id",),
            ("location_id", "item_id", "occurred_on", "quantity_change", "kind"),
        ),
    ),
    rules=(_not_in_the_future("occurred_on", "s.occurred_on <= b.today + 1"),),
)

ORDERS = Kind(
    "orders",
    "orders",
    "Purchase orders on their way.",
    (
        Column("order_line_id", "text", "id of the order line", "PO-77-1", is_required=True),
        SUPPLIER,
        ITEM,
        LOCATION,
        Column(
            "quantity",
            "positive_quantity",
            "how much",
            "100",
            unit="unit",
            is_required=True,
            measured_in=("item_id", "unit"),
        ),
        Column("unit", "text", "unit of quantity; empty: the item's base unit", "kg"),
        Column("amount", "money", "value of the line; empty: unknown", "74.00", unit="tenant's currency"),
        Column("ordered_on", "date", "day of the order", "2025-01-29", is_required=True),
        Column("delivery_on", "date", "day of delivery", "2025-01-31", is_required=True),
        Column(
            "expires_on",
            "date",
            "last day of use; empty: by the item's shelf life, counted with the day of delivery",
            "2025-06-30",
        ),
        Column("status", "text", "whether it still comes", "open", words=("open", "cancelled"), default="open"),
    ),
    key=("order_line_id",),
    targets=(
        Target(
            "facts.purchase_order_line",
            ("order_line_id",),
            (
                "supplier_id",
                "item_id",
                "location_id",
                "quantity",
                "amount",
                "ordered_on",
                "delivery_on",
                "expires_on",
                "status",
            ),
        ),
    ),
    rules=(
        Rule("delivery_on", "s.ordered_on <= s.delivery_on", "before ordered_on", "Check ordered_on and delivery_on."),
    ),
)

CUSTOMER_ORDERS = Kind(
    "customer-orders",
    "orders",
    "What customers have ordered for a day.",
    (
        Column("order_id", "text", "id of the order", "C-2001", is_required=True),
        LOCATION,
        PRODUCT,
        Column("due_on", "date", "day on which it is fetched", "2025-02-01", is_required=True),
        Column("quantity_units", "positive_quantity", "how many", "30", unit="units", is_required=True),
        Column("ordered_on", "date", "day of the order", "2025-01-29", is_required=True),
    ),
    key=("order_id", "product_id"),
    targets=(
        Target(
            "facts.customer_order",
            ("order_id", "product_id"),
            ("location_id", "due_on", "quantity_units", "ordered_on"),
        ),
    ),
    rules=(Rule("due_on", "s.ordered_on <= s.due_on", "before ordered_on", "Check ordered_on and due_on."),),
)

STANDING_ORDERS = Kind(
    "standing-orders",
    "orders",
    "What customers take every week.",
    (
        Column("order_id", "text", "id of the order", "S-12", is_required=True),
        LOCATION,
        PRODUCT,
        Column("weekday", "weekday", "day of the week", "4", is_required=True),
        Column("quantity_units", "positive_quantity", "how many", "40", unit="units", is_required=True),
        Column("valid_from", "date", "first day", "2025-01-01", is_required=True),
        Column("valid_to", "date", "last day; empty: until further notice", "2025-12-31"),
    ),
    key=("order_id", "product_id", "weekday"),
    targets=(
        Target(
            "facts.standing_order",
            ("order_id", "product_id", "weekday"),
            ("location_id", "quantity_units", "valid_from", "valid_to"),
        ),
    ),
    rules=(
        Rule(
            "valid_to",
            "s.valid_to IS NULL OR s.valid_from <= s.valid_to",
            "before valid_from",
            "Check valid_from and valid_to.",
        ),
    ),
)

KINDS = {
    kind.name: kind
    for kind in (
        LOCATIONS,
        OPENING_HOURS,
        PRODUCTS,
        ASSORTMENT,
        ITEMS,
        UNIT_CONVERSIONS,
        RECIPES,
        RESOURCES,
        PROCESS_STEPS,
        RESOURCE_CALENDAR,
        SUPPLIERS,
        SUPPLIER_ITEMS,
        EVENTS,
        HOURLY_PROFILE,
        SALES,
        STOCK,
        MOVEMENTS,
        ORDERS,
        CUSTOMER_ORDERS,
        STANDING_ORDERS,
    )
}
"""Every kind by name, each after the kinds that it refers to."""


def documented(kind: Kind) -> str:
    """The kind's columns as the Markdown table of docs/data-contracts.md."""
    lines = ["| Column | Holds | Unit | Required | When empty | Meaning | Example |", "|---|---|---|---|---|---|---|"]
    for column in kind.columns:
        required = "yes" if column.is_required else "no"
        empty = "refused" if column.is_required else (f"`{column.default}`" if column.default else "—")
        lines.append(
            f"| `{column.name}` | {column.described_as} | {column.unit or '—'} | {required} | {empty} "
            f"| {column.meaning} | `{column.example}` |"
        )
    return "\n".join(lines)
