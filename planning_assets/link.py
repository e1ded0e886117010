"""What a link of the daily batch is, and the batch that passes from link to link."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import dagster as dg
import pandas as pd

from planning.frames import PLAN_DAYS
from resources.model_cache import ModelCache
from resources.store.database import Connection
from resources.store.plans import WriteContext

HISTORY_DAYS = 420
"""Days of sales that a morning reads: a year, and eight weeks before it for the same season's weekday means."""

Metadata = Mapping[str, dg.MetadataValue]


@dataclass
class Batch:
    """All tenants that are planned together for one date, and what the links have made so far.

    tenants: one row per tenant, with run_date (date), the master data columns of read_tenants.
    model_cache: where artefacts of forecast models are looked for before the store.
    results: link name -> what it returned, or what was read from the store.
    """

    connection: Connection
    plan_date: date
    tenants: pd.DataFrame
    write_context: WriteContext
    model_cache: ModelCache
    results: dict[str, Any] = field(default_factory=dict)

    @property
    def tenant_ids(self) -> list[str]:
        """The tenants still in the batch."""
        return list(self.tenants["tenant_id"])

    @property
    def run_dates(self) -> dict[str, date]:
        """The day on which each tenant's plan is made."""
        return dict(zip(self.tenants["tenant_id"], self.tenants["run_date"], strict=True))

    @property
    def history_window(self) -> tuple[date, date]:
        """First and last day of sales that any tenant of the batch may use."""
        last = max(self.tenants["run_date"]) - timedelta(days=1)
        return last - timedelta(days=HISTORY_DAYS - 1), last

    @property
    def horizon_end(self) -> date:
        """The last target date."""
        return self.plan_date + timedelta(days=PLAN_DAYS - 1)

    @property
    def now(self) -> datetime:
        """The instant at which the run made this batch."""
        return self.write_context.now


@dataclass(frozen=True)
class Link:
    """One asset of the daily batch.

    compute: reads what it needs of the batch and returns the planning function's result.
    write: stores the result as new revisions, in the batch's transaction.
    load: reads the active revisions back, for a run that does not select this link but one below it.
    describe: the metadata of each tenant's materialization.
    kind: the kind of plan that it writes; none for the demand history, which is made anew whenever it is needed.
    """

    spec: dg.AssetSpec
    kind: str | None
    compute: Callable[[Batch], Any]
    write: Callable[[Batch, Any], None]
    load: Callable[[Batch], Any]
    describe: Callable[[Batch, Any], Mapping[str, Metadata]]

    @property
    def name(self) -> str:
        """The asset's name."""
        return self.spec.key.to_user_string()


def remaining(batch: Batch, set_aside: pd.DataFrame) -> list[str]:
    """The tenants whose plans a link writes: those of the batch that it has not set aside."""
    at_fault = set(set_aside["tenant_id"])
    return [tenant_id for tenant_id in batch.tenant_ids if tenant_id not in at_fault]
