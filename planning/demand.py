"""From sales to demand: which days count, and what was demanded on them.

What belongs here: first sales, doors inferred closed, missing sales and the run date's cut. A day that does not count is
NaN, never zero, because a closed shop says nothing about what people want. What does not: what kind of day a date is
(`planning.calendar`), what would have sold on a sold-out day (`planning.censoring`), and estimating a future day, which is
`planning.forecasting`.
"""

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pandas as pd

from planning.calendar import Calendar, build_calendar, places_of
from planning.censoring import NOT_SOLD_OUT, estimate_demand
from planning.frames import ROUNDING, Panel, PlanningError, exceptions_of, set_aside_of

LINK = "demand_history"
MAX_CHANCE_OF_SILENCE = 0.05
"""A day without any sale is taken for a closed door when an open one would be as quiet on fewer than 1 in 20 days. A few
products that each sell now and then may well all sell nothing, and those zeros are demand."""

STALE_OPEN_DAYS = 3
"""Open days in a row without any sale before the run date, from which sales are reported as missing."""

CONTRADICTION_DAYS = 28
"""Sales on closed days are reported when they are this recent; older ones say that the calendar was another one."""


@dataclass(frozen=True)
class DemandHistory:
    """Demand as far as it is known.

    panel: keys as given; `demand_units` (n, days), NaN where the day does not count, and `sales_units` (n, days), what
    was sold of it; `is_open`, `is_inferred_closed`, `is_unknown` (scheduled, but after the location's last sale),
    `is_sold_out` and `is_estimated` (n, days) bool. A day inferred closed or unknown is not open. On a sold-out day demand
    is an estimate of what would have sold; where too little is known for one it is what was sold, a lower bound, and the
    day is not marked as estimated.
    calendar: of the same series, from the panel's first day on and as far as it was asked for.
    """

    panel: Panel
    calendar: Calendar
    exceptions: pd.DataFrame
    set_aside: pd.DataFrame


def build_demand_history(
    sales: Panel,
    tenants: pd.DataFrame,
    opening: pd.DataFrame,
    events: pd.DataFrame,
    profiles: pd.DataFrame,
    calendar_until: date | None = None,
) -> DemandHistory:
    """Demand per series and day, from the first sale to the day before each tenant's run date.

    sales: keys tenant_id, location_id, product_id; `sales_units` (n, days), NaN where nothing was recorded, and
    `sold_out_minute` (n, days), the minute of the day at which the last one went, NOT_SOLD_OUT elsewhere. tenants:
    tenant_id, run_date. opening, events: as `build_calendar` takes them; calendar_until: the calendar's last day, at
    least the panel's. profiles: as `estimate_demand` takes them.

    An open day without a record is a day that sold nothing. The days after a location's last sale are unknown: their
    sales may not have been imported yet. A day before it on which the location sold nothing is inferred to be closed
    where that is unlikely of an open one: the product over what is on sale of one less the share of days it sells on, as
    far as products sell independently, is below 5 %.

    A tenant with a negative or infinite quantity before its run date is set aside. Raises PlanningError when a series
    belongs to a tenant that `tenants` does not hold.
    """
    recorded = np.where(is_history(sales, tenants), sales["sales_units"], np.nan)
    set_aside = invalid_quantities(
        sales, recorded, LINK, "sales", "Import that day's sales again with the right figure."
    )
    kept = ~sales.keys["tenant_id"].isin(set_aside["tenant_id"]).to_numpy()
    sales, recorded = sales.select(kept), recorded[kept]
    days = sales.days if calendar_until is None else max(sales.days, sales.column(calendar_until) + 1)
    calendar = build_calendar(sales.keys, sales.first_day, days, opening, events)
    panel, exceptions = _demand_panel(sales, recorded, tenants, calendar, profiles)
    return DemandHistory(panel, calendar, exceptions, set_aside)


def is_history(panel: Panel, tenants: pd.DataFrame) -> np.ndarray:
    """Whether a day lies before the run date of the row's tenant, shape (n, days)."""
    cut = run_days(panel.keys, tenants) - np.datetime64(panel.first_day, "D").astype(np.int64)
    return np.arange(panel.days) < cut[:, None]


def run_days(keys: pd.DataFrame, tenants: pd.DataFrame) -> np.ndarray:
    """The run date of each row's tenant, in days since 1970-01-01: (n,). Raises PlanningError for an unknown tenant."""
    run_dates = pd.Series(
        tenants["run_date"].to_numpy().astype("datetime64[D]").astype(np.int64), index=tenants["tenant_id"].to_numpy()
    )
    rows = run_dates.index.get_indexer(keys["tenant_id"])
    unknown = sorted(set(keys["tenant_id"][rows < 0]))
    if unknown:
        raise PlanningError(
            f"Tenants without a row in the tenants frame: {', '.join(unknown)}. Load their settings too."
        )
    return run_dates.to_numpy()[rows]


def invalid_quantities(panel: Panel, quantity: np.ndarray, link: str, noun: str, remedy: str) -> pd.DataFrame:
    """Set-aside rows for tenants with a negative or infinite quantity, each naming its first one."""
    rows, columns = np.nonzero((quantity < 0) | np.isinf(quantity))
    first = pd.DataFrame({"row": rows, "column": columns, "tenant_id": panel.keys["tenant_id"].to_numpy()[rows]})
    first = first.sort_values(["tenant_id", "column", "row"]).drop_duplicates("tenant_id")
    keys = panel.keys.iloc[first["row"].to_numpy(dtype=np.intp)]
    return set_aside_of(
        (
            key.tenant_id,
            link,
            f"{noun} of product {key.product_id} at location {key.location_id} on "
            f"{panel.first_day + timedelta(days=int(column))}: {quantity[row, column]:g} units, "
            "but a quantity is finite and not negative",
            remedy,
        )
        for key, row, column in zip(keys.itertuples(), first["row"], first["column"], strict=True)
    )


def _demand_panel(
    sales: Panel, recorded: np.ndarray, tenants: pd.DataFrame, calendar: Calendar, profiles: pd.DataFrame
) -> tuple[Panel, pd.DataFrame]:
    history = is_history(sales, tenants)
    is_sold_out = (sales["sold_out_minute"] != NOT_SOLD_OUT) & history
    sold = np.nan_to_num(recorded)
    # A product marked sold out was on sale, whatever its count says.
    is_selling = (sold > 0) | is_sold_out
    is_introduced = np.logical_or.accumulate(sold > 0, axis=1)
    is_scheduled = calendar.is_open[:, : sales.days]
    places, of_place = places_of(sales.keys)

    sellers = _per_place(is_selling.astype(np.int32), of_place, len(places))
    last_sale = np.where(sellers > 0, np.arange(sales.days), -1).max(axis=1, initial=-1)
    is_after = (np.arange(sales.days) > last_sale[:, None]) & (last_sale >= 0)[:, None]
    chance = _chance_of_silence(is_selling, sellers, is_introduced & is_scheduled & history, of_place)
    is_quiet = (sellers == 0) & (chance < MAX_CHANCE_OF_SILENCE)
    is_unknown = is_after[of_place] & is_scheduled & history
    is_inferred_closed = is_quiet[of_place] & is_scheduled & history & ~is_unknown
    is_open = is_scheduled & ~is_inferred_closed & ~is_unknown
    sales_units = np.where(is_open & is_introduced & history, sold, np.nan)
    demand_units, is_estimated = estimate_demand(
        sales.keys,
        (sales.first_day.weekday() + np.arange(sales.days)) % 7,
        sales_units,
        sales["sold_out_minute"],
        profiles,
    )
    panel = Panel(
        sales.keys,
        {
            "demand_units": demand_units,
            "sales_units": sales_units,
            "is_open": is_open,
            "is_inferred_closed": is_inferred_closed,
            "is_unknown": is_unknown,
            "is_sold_out": is_sold_out,
            "is_estimated": is_estimated,
        },
        sales.first_day,
    )
    long_ago = is_history(
        sales, tenants.assign(run_date=[on - timedelta(CONTRADICTION_DAYS) for on in tenants["run_date"]])
    )
    contradicted = _per_place((is_selling & ~is_scheduled & ~long_ago).astype(np.int32), of_place, len(places)) > 0
    silent_days = (_per_place(is_unknown.astype(np.int32), of_place, len(places)) > 0).sum(axis=1)
    exceptions = [
        *_closed_day_sales(places, contradicted, sales.first_day),
        *_stale_sales(places, last_sale, silent_days, sales.first_day),
    ]
    return panel, exceptions_of(exceptions)


def _chance_of_silence(
    is_selling: np.ndarray, sellers: np.ndarray, is_on_sale: np.ndarray, of_place: np.ndarray
) -> np.ndarray:
    """How likely each location sells nothing on an open day: (places, days).

    A series' chance to sell is its share of the days on which another series of the location sold, when the door was
    certainly open; counting its own sales too would make every only product a certain seller. One more day without a
    sale is counted, so that a few days are no certainty.
    """
    is_certain = is_on_sale & (sellers[of_place] - is_selling > 0)
    sells = (is_certain & is_selling).sum(axis=1) / (is_certain.sum(axis=1) + 1)
    logs = np.where(is_on_sale, np.log1p(-sells)[:, None], 0.0)
    # Rounded, since a sum in another order of rows must not fall on the other side of the limit.
    return np.round(np.exp(_per_place(logs, of_place, len(sellers))), ROUNDING)


def _closed_day_sales(places: pd.DataFrame, contradicted: np.ndarray, first_day: date) -> list[tuple]:
    """A calendar that contradicts the till is more often wrong than the till."""
    return [
        (
            place.tenant_id,
            LINK,
            place.location_id,
            "location",
            place.location_id,
            "sales_on_closed_day",
            f"{int(contradicted[row].sum())} of the last {CONTRADICTION_DAYS} days have sales although the calendar "
            f"says closed, the last of them {first_day + timedelta(days=int(np.nonzero(contradicted[row])[0][-1]))}; "
            "they are left out of the history",
            "Correct the opening hours or the closure, or the date of the sales.",
        )
        for row, place in enumerate(places.itertuples())
        if contradicted[row].any()
    ]


def _stale_sales(places: pd.DataFrame, last_sale: np.ndarray, silent_days: np.ndarray, first_day: date) -> list[tuple]:
    """Silence up to the run date is a late import more often than a closed door."""
    return [
        (
            place.tenant_id,
            LINK,
            place.location_id,
            "location",
            place.location_id,
            "sales_missing",
            f"no sales since {first_day + timedelta(days=int(last_sale[row]))}: {int(silent_days[row])} open days before "
            "the run date are unknown and left out of the history",
            "Import the missing sales, or enter a closure for these days.",
        )
        for row, place in enumerate(places.itertuples())
        if silent_days[row] >= STALE_OPEN_DAYS
    ]


def _per_place(counts: np.ndarray, of_place: np.ndarray, n_places: int) -> np.ndarray:
    """Sum (n, days) over the series of each location: (places, days)."""
    order = np.argsort(of_place, kind="stable")
    starts = np.searchsorted(of_place[order], np.arange(n_places))
    if not n_places:
        return np.zeros((0, counts.shape[1]), dtype=counts.dtype)
    return np.add.reduceat(counts[order], starts, axis=0)
