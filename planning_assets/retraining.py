"""Who is queued for training: the rule of `planning.retraining` over what the store knows of each tenant."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime

import pandas as pd

from planning.checks import ERROR_RISE, TRAILING_ERROR
from planning.retraining import Evidence, Standing, ask_of
from resources.store.database import Connection
from resources.store.pauses import Paused
from resources.store.retraining import queue_training, read_failed_checks, read_standings


def queue_due(connection: Connection, paused: Paused, now: datetime, requested_by: str) -> Iterator[str]:
    """Queue every tenant whose model is to be trained by the latest checks, its age, or for want of one; what was queued."""
    standings = read_standings(connection, now)
    standings = standings[~standings["tenant_id"].map(paused.holds).astype(bool)]
    evidence = evidence_of(read_failed_checks(connection, list(standings["tenant_id"])))
    on = now.astimezone(UTC).date()
    for row in standings.itertuples():
        ask = ask_of(on, standing_of(row), evidence.get(row.tenant_id))
        if ask is not None and queue_training(
            connection, row.tenant_id, ask.trigger, ask.product_ids, requested_by, ask.reason, now
        ):
            yield f"{row.tenant_id} ({ask.trigger}): {ask.reason}"


def standing_of(row: pd.Series) -> Standing:
    """A row of `read_standings` as the rule has it, in days of UTC, as trainings are."""
    return Standing(
        attempted_on=_day_of(row.attempted_at),
        trained_on=_day_of(row.trained_at),
        trained_to=row.trained_to,
        sales_days=0 if pd.isna(row.sales_days) else int(row.sales_days),
        last_sale_on=row.last_sale_on,
    )


def evidence_of(failed: pd.DataFrame) -> Mapping[str, Evidence]:
    """What the failed checks of tenants say, by tenant: the rows of `read_failed_checks`."""
    found: dict[str, Evidence] = {}
    for row in failed.itertuples():
        known = found.get(row.tenant_id, Evidence(row.business_date))
        known = replace(known, on=max(known.on, row.business_date))
        if row.check_name == TRAILING_ERROR:
            products = dict.fromkeys(product["product_id"] for product in row.details.get("products", []))
            known = replace(known, error_pct=row.value, error_reason=row.message, product_ids=tuple(products))
        elif row.check_name == ERROR_RISE:
            known = replace(known, rise_points=row.value, rise_reason=row.message)
        found[row.tenant_id] = known
    return found


def _day_of(instant: datetime | None) -> date | None:
    return None if instant is None or pd.isna(instant) else instant.astimezone(UTC).date()
