"""Demand history, the first link: what was demanded on open days, from one compact panel per series."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date

import dagster as dg
import numpy as np
import pandas as pd

from planning.calendar import event_window, places_of
from planning.demand import DemandHistory, build_demand_history
from planning.frames import exceptions_of, set_aside_of
from planning_assets.link import Batch, Link, Metadata
from planning_assets.specs import TENANT, table_spec
from planning_assets.summaries import number, table
from resources.holidays import calendar_events
from resources.store.database import Connection
from resources.store.inputs import (
    read_hourly_profiles,
    read_opening_hours,
    read_sales_panel,
    refresh_demand_panels,
)

IMPORT_SOMETHING = "Import what it sells: daybreak import sales FILE --create-products"


def compute(batch: Batch) -> DemandHistory:
    """Units demanded per location, product and day before each tenant's run date; closed days are missing, not zero.

    The calendar of the result reaches to the last target date, so that forecasts need not read events again.
    """
    first, last = batch.history_window
    return read_demand(batch.connection, batch.tenants, first, last, batch.horizon_end)


def read_demand(
    connection: Connection, tenants: pd.DataFrame, first_day: date, last_day: date, calendar_until: date
) -> DemandHistory:
    """The demand of tenants from first_day through last_day, with a calendar through calendar_until.

    tenants: as `read_tenants` gives them, with run_date. The stored panels are first brought up to date with the sales
    rows, so that one row per series is read. A tenant that sells nothing anywhere is set aside.
    """
    tenant_ids = list(tenants["tenant_id"])
    refresh_demand_panels(connection, tenant_ids)
    known = calendar_events(connection, tenants, *event_window(first_day, max(last_day, calendar_until)))
    result = build_demand_history(
        read_sales_panel(connection, tenant_ids, first_day, last_day),
        tenants,
        read_opening_hours(connection, tenant_ids),
        known.events,
        read_hourly_profiles(connection, tenant_ids),
        calendar_until,
    )
    return replace(
        result,
        exceptions=_joined(result.exceptions, _without_holidays(result, known.unknown)),
        set_aside=_joined(result.set_aside, _without_products(result, tenant_ids)),
    )


def _without_holidays(result: DemandHistory, unknown: pd.DataFrame) -> pd.DataFrame:
    """An exception at each location of a tenant whose public holidays are unknown: its days are planned as ordinary ones."""
    found = places_of(result.panel.keys)[0].merge(unknown, on="tenant_id")
    return exceptions_of(
        (
            row.tenant_id,
            "demand_history",
            row.location_id,
            "location",
            row.location_id,
            "holidays_unknown",
            f"public holidays are not known: {row.problem}; only imported ones are marked",
            row.remedy,
        )
        for row in found.itertuples()
    )


def _without_products(result: DemandHistory, tenant_ids: Sequence[str]) -> pd.DataFrame:
    known = {*result.panel.keys["tenant_id"], *result.set_aside["tenant_id"]}
    return set_aside_of(
        (
            tenant_id,
            "demand_history",
            "No product is sold at any location.",
            f"{IMPORT_SOMETHING} --tenant {tenant_id}.",
        )
        for tenant_id in tenant_ids
        if tenant_id not in known
    )


def _joined(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    parts = [part for part in (first, second) if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else first


def write(_batch: Batch, _result: DemandHistory) -> None:
    """Nothing more: the panel is stored by `compute`, the rest follows from it and the calendar."""


def describe(batch: Batch, result: DemandHistory) -> Mapping[str, Metadata]:
    """Series, days, how many were closed, inferred closed or sold out, and what the sell-outs cost, as estimated."""
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
            "estimated_rows": dg.MetadataValue.int(int(panel["is_estimated"][rows].sum())),
            "estimated_lost_units": number(np.nansum(demand - panel["sales_units"][rows])),
            "holidays": dg.MetadataValue.int(_holidays(result, rows)),
            "promotion_rows": dg.MetadataValue.int(int(result.calendar.is_promotion[rows, : panel.days].sum())),
            "last_weeks": table(["week from", "units"], weeks),
        }
    return described


def _holidays(result: DemandHistory, rows: np.ndarray) -> int:
    """Days of the panel that are a holiday at one of the rows' locations."""
    places = np.unique(result.calendar.place[rows])
    return int(result.calendar.is_holiday[places, : result.panel.days].any(axis=0).sum())


LINK = Link(
    spec=table_spec(
        "demand_history",
        table="facts.demand_panel",
        group="demand",
        deps=["sales", "calendar", "products"],
        description=(
            "Units demanded per location, product and day, up to the day before the plan is made. Closed days are "
            "missing, never zero. On days on which a product sold out, demand is estimated from the time of the sell-out and "
            "the hourly profile, else from the days before, and marked."
        ),
        columns=[
            TENANT,
            ("location_id", "text", "point of sale"),
            ("product_id", "text", "product"),
            ("first_on", "date", "date of the first element"),
            ("sales_units", "real[]", "units sold per day, null where none recorded"),
            ("sold_out_on", "date[]", "days on which the product ran out"),
            (
                "sold_out_minute",
                "smallint[]",
                "local time at which the last one went, in minutes, beside each such day",
            ),
            ("sales_version", "bigint", "version of the sales it was built from"),
        ],
    ),
    kind=None,
    compute=compute,
    write=write,
    load=compute,
    describe=describe,
)
