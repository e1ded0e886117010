"""What people changed by hand, which two links read: their numbers for lines, in force for plans from the same inputs."""

import pandas as pd

from planning_assets.link import Batch
from resources.store.overrides import Overrides, read_overrides
from resources.store.versions import inputs_hash


def overrides(batch: Batch) -> Overrides:
    """The overrides of the batch's tenants for its plan date, read once per batch, with those that have lapsed.

    An override holds for plans made from the inputs that it was given on: what a person knew then may be in newer ones.
    """
    if "overrides" not in batch.results:
        versions, run_dates = batch.write_context.versions, batch.run_dates
        hashes = {t: inputs_hash(versions[t], batch.plan_date, run_dates[t]) for t in batch.tenant_ids}
        batch.results["overrides"] = read_overrides(batch.connection, batch.tenant_ids, batch.plan_date, hashes)
    found: Overrides = batch.results["overrides"]
    return Overrides(*(_of(batch, frame) for frame in (found.production, found.purchase, found.lapsed)))


def with_lapsed(batch: Batch, link: str, exceptions: pd.DataFrame) -> pd.DataFrame:
    """A link's exceptions and those of the overrides of its lines that hold no more."""
    lapsed = overrides(batch).lapsed
    parts = [part for part in (exceptions, lapsed[lapsed["link"] == link]) if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else exceptions


def _of(batch: Batch, frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["tenant_id"].isin(batch.tenant_ids)].reset_index(drop=True)
