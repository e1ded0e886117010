"""Opening stock, which three links read: the last count rolled forward to the plan date, read once per batch."""

import pandas as pd

from planning.frames import exceptions_of
from planning.lots import OpeningStock, roll_forward
from planning_assets.link import Batch
from resources.store.inputs import read_items, read_stock_history


def opening_stock(batch: Batch) -> OpeningStock:
    """The lots on hand at the opening of the plan date, with exceptions where counts are missing or too old to tell."""
    if "opening_stock" not in batch.results:
        history = read_stock_history(batch.connection, batch.tenant_ids, batch.plan_date, batch.run_dates)
        rolled = roll_forward(
            history.lots,
            history.movements,
            history.receipts,
            history.consumption,
            batch.plan_date,
            items=read_items(batch.connection, batch.tenant_ids),
        )
        uncounted = exceptions_of(
            (
                row.tenant_id,
                "procurement_plans",
                row.location_id,
                "item",
                row.item_id,
                "never_counted",
                f"{row.item_id} was never counted at {row.location_id}, so its stock is taken to begin empty.",
                f"Count it: daybreak import stock FILE --tenant {row.tenant_id}",
            )
            for row in history.never_counted.itertuples()
        )
        stale = exceptions_of(
            (
                row.tenant_id,
                "procurement_plans",
                row.location_id,
                "item",
                row.item_id,
                "stale_count",
                f"{row.item_id} was counted on {row.counted_on} and no plan covers {row.first_on} to {row.last_on}, so what "
                "was used then is unknown.",
                f"Count it again: daybreak import stock FILE --tenant {row.tenant_id}",
            )
            for row in history.uncovered.itertuples()
        )
        key = ["tenant_id", "location_id", "subject_id"]
        # Using an item that nobody counted says nothing new; its stock is bound to fall below zero.
        is_known = rolled.exceptions.set_index(key).index.isin(uncounted.set_index(key).index)
        parts = [part for part in (rolled.exceptions[~is_known], uncounted, stale) if len(part)]
        exceptions = pd.concat(parts, ignore_index=True) if parts else exceptions_of()
        batch.results["opening_stock"] = OpeningStock(rolled.lots, exceptions)
    stock: OpeningStock = batch.results["opening_stock"]
    return OpeningStock(
        stock.lots[stock.lots["tenant_id"].isin(batch.tenant_ids)],
        stock.exceptions[stock.exceptions["tenant_id"].isin(batch.tenant_ids)],
    )
