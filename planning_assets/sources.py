"""Where the lineage starts: what bakeries import. An import of a tenant is a materialization of its partition."""

import dagster as dg

from planning_assets.partitions import TENANTS

SOURCE_DESCRIPTIONS = {
    "sales": "Units sold per location, product and day, as imported; the truth that demand is learned from.",
    "stock": "Lots found by stock counts, and movements since.",
    "recipes": "What each product and dough is made of, in versions, with yield and scrap.",
    "suppliers": "Who delivers which item: packs, prices, lead days, delivery weekdays.",
    "orders": "Customer and standing orders, and purchase orders on their way.",
    "calendar": "Opening hours, holidays, school holidays, promotions and closures.",
    "products": "What is sold where, with prices, costs, batch sizes and shelf life.",
}


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
        )
        for name, description in SOURCE_DESCRIPTIONS.items()
    ]
