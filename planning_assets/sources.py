"""Where the lineage starts: what bakeries import. An import of a tenant is a materialization of its partition."""

import dagster as dg

from planning_assets.partitions import TENANTS
from planning_assets.specs import TENANT, Column, table_metadata

LOCATION: Column = ("location_id", "text", "location")
ITEM: Column = ("item_id", "text", "ingredient, packaging, dough or product")
PRODUCT: Column = ("product_id", "text", "product")

SOURCES: dict[str, tuple[str, str, tuple[Column, ...]]] = {
    "sales": (
        "facts.sales",
        "Units sold per location, product and day, as imported; the truth that demand is learned from.",
        (
            LOCATION,
            PRODUCT,
            ("business_date", "date", "day of the sale, in the tenant's time zone"),
            ("source_id", "text", "till or file it came from; several of a day add up"),
            ("quantity_units", "numeric", "units sold"),
            ("unit_price", "numeric", "tenant's currency per unit"),
            ("sold_out_at", "time", "local time at which the last one went"),
        ),
    ),
    "stock": (
        "facts.stock_lot",
        "Lots found by stock counts at the opening of a day, and movements since.",
        (
            LOCATION,
            ITEM,
            ("as_of", "date", "day at whose opening it was counted"),
            ("lot_id", "text", "lot"),
            ("quantity", "numeric", "base units (kg, L, unit)"),
            ("expires_on", "date", "usable through this day; null: it keeps"),
            ("unit_cost", "numeric", "tenant's currency per base unit"),
        ),
    ),
    "recipes": (
        "master.recipe_line",
        "What each product and dough is made of, in versions, with yield and scrap.",
        (
            ("output_item_id", "text", "product or dough that is made"),
            ("version", "integer", "version of the recipe; the highest one in force counts"),
            ITEM,
            ("quantity", "numeric", "base units for the recipe's output quantity"),
            ("scrap_frac", "numeric", "share lost in use, 0 to 1"),
        ),
    ),
    "suppliers": (
        "master.supplier_item",
        "Who delivers which item: packs, prices, lead days and how well they are kept, delivery weekdays.",
        (
            ("supplier_id", "text", "supplier"),
            ITEM,
            ("priority", "smallint", "1 is asked first"),
            ("lead_days", "smallint", "days from order to delivery"),
            ("lead_sd_days", "numeric", "one sigma of the days by which a delivery misses its day"),
            ("on_time_rate", "numeric", "share of deliveries that come on their day, 0 to 1"),
            ("pack_quantity", "numeric", "base units in a pack"),
            ("min_packs", "integer", "packs, at least"),
            ("multiple_packs", "integer", "packs, in multiples of"),
        ),
    ),
    "orders": (
        "facts.purchase_order_line",
        "Customer and standing orders, and purchase orders on their way.",
        (
            ("order_line_id", "text", "line of a purchase order"),
            LOCATION,
            ITEM,
            ("quantity", "numeric", "base units"),
            ("ordered_on", "date", "day of the order"),
            ("delivery_on", "date", "day of delivery"),
        ),
    ),
    "calendar": (
        "master.calendar_event",
        "Opening hours, holidays, school holidays, promotions and closures.",
        (
            ("location_id", "text", "location; null: all"),
            ("product_id", "text", "product; null: all"),
            ("business_date", "date", "day, in the tenant's time zone"),
            ("kind", "text", "holiday, school_holiday, promotion or closure"),
            ("name", "text", "its name"),
        ),
    ),
    "products": (
        "master.product",
        "What is sold where, with prices, costs, batch sizes and shelf life; ovens and mixers, and the steps of what is made.",
        (
            PRODUCT,
            ("ready_by", "time", "local time at which a day's first units are needed; null: at opening"),
            ("batch_size_units", "numeric", "units in a batch"),
            ("batch_min", "smallint", "batches, at least, when any is made"),
            ("batch_multiple", "smallint", "batches, in multiples of"),
            ("batch_max_per_day", "smallint", "batches a day, at most"),
            ("batch_fixed_cost", "numeric", "tenant's currency per batch"),
            ("made_on_weekdays", "smallint[]", "0 is Monday"),
            ("daily_estimate_units", "numeric", "owner's estimate, used until there is history"),
        ),
    ),
}
"""Input -> its main table, what it is, and the table's columns beside the tenant."""


def source_assets() -> list[dg.AssetSpec]:
    """One external asset per input; the sensor `imports_sensor` records their materializations."""
    return [
        dg.AssetSpec(
            name,
            description=description,
            group_name="sources",
            owners=["team:daybreak"],
            kinds={"csv", "postgres"},
            partitions_def=TENANTS,
            metadata=table_metadata(table, [TENANT, *columns]),
        )
        for name, (table, description, columns) in SOURCES.items()
    ]
