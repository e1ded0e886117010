"""Demand history, the first link: what was sold on open days, one compact panel per tenant."""

from collections.abc import Mapping
from dataclasses import replace

import dagster as dg
import numpy as np
import pandas as pd

from planning.demand import DemandHistory, build_demand_history
from planning.frames import set_aside_of
from planning_assets.link import Batch, Link, Metadata
from planning_assets.specs import TENANT, table_spec
from planning_assets.summaries import number, table
from resources.store.inputs import read_events, read_opening_hours, read_sales_panel, refresh_demand_panels

IMPORT_SOMETHING = "Import what it sells: daybreak import sales FILE --create-products"


def compute(batch: Batch) -> DemandHistory:
    """Units demanded per location, product and day before each tenant's run date; closed days are missing, not zero.

    The stored panels are first brought up to date with the sales rows, so that mornings read one row per series.
    """
    first, last = batch.history_window
    refresh_demand_panels(batch.connection, batch.tenant_ids, batch.now)
    result = build_demand_history(
        read_sales_panel(batch.connection, batch.tenant_ids, first, last),
        batch.tenants,
        read_opening_hours(batch.connection, batch.tenant_ids),
        read_events(batch.connection, batch.tenant_ids, first, last),
    )
    known = {*result.panel.keys["tenant_id"], *result.set_aside["tenant_id"]}
    empty = [
        (
            tenant_id,
            "demand_history",
            "No product is sold at any location.",
            f"{IMPORT_SOMETHING} --tenant {tenant_id}.",
        )
        for tenant_id in batch.tenant_ids
        if tenant_id not in known
    ]
    parts = [part for part in (result.set_aside, set_aside_of(empty)) if len(part)]
    return replace(result, set_aside=pd.concat(parts, ignore_index=True)) if parts else result


def write(_batch: Batch, _result: DemandHistory) -> None:
    """Nothing more: the panel is stored by `compute`, the rest follows from it and the calendar."""


def describe(batch: Batch, result: DemandHistory) -> Mapping[str, Metadata]:
    """Series, days and how many of them were closed, inferred closed or sold out."""
    panel = result.panel
    described = {}
    for tenant_id, rows in panel.keys.groupby("tenant_id").indices.items():
        demand, is_open = panel["demand_units"][rows], panel["is_open"][rows]
        daily = np.nansum(demand, axis=0)
        weeks = [
            (panel.dates[-7 * n].isoformat(), float(daily[-7 * n : (-7 * n + 7) or None].sum()))
            for n in range(4, 0, -1)
        ]
        described[str(tenant_id)] = {
            "dagster/row_count": dg.MetadataValue.int(len(rows)),
            "units": number(np.nansum(demand)),
            "open_days": dg.MetadataValue.int(int(is_open.any(axis=0).sum())),
            "inferred_closed_days": dg.MetadataValue.int(int(panel["is_inferred_closed"][rows].any(axis=0).sum())),
            "unknown_days": dg.MetadataValue.int(int(panel["is_unknown"][rows].any(axis=0).sum())),
            "sold_out_rows": dg.MetadataValue.int(int(panel["is_sold_out"][rows].sum())),
            "last_weeks": table(["week from", "units"], weeks),
        }
    return described


LINK = Link(
    spec=table_spec(
        "demand_history",
        table="facts.demand_panel",
        group="demand",
        deps=["sales", "calendar", "products"],
        description=(
            "Units demanded per location, product and day, up to the day before the plan is made. Closed days are "
            "missing, never zero; days on which a product sold out are marked, since demand was higher."
        ),
        columns=[
            TENANT,
            ("location_id", "text", "point of sale"),
            ("product_id", "text", "product"),
            ("first_on", "date", "date of the first element"),
            ("sales_units", "real[]", "units sold per day, null where none recorded"),
            ("is_sold_out", "boolean[]", "whether the product ran out that day"),
            ("sales_version", "bigint", "version of the sales it was built from"),
        ],
    ),
    kind=None,
    compute=compute,
    write=write,
    load=compute,
    describe=describe,
)
