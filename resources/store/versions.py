"""Data versions: what a plan was made from, and whether that has changed since.

Every import bumps the version of its input in its own transaction; a plan stores the versions it read.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime

from resources.store.database import Connection

INPUTS = ("sales", "stock", "recipes", "suppliers", "orders", "calendar", "products", "settings", "models")
"""The inputs of a plan, each of them an external asset of the lineage but `settings` and `models`."""

PLAN_FORMAT = 3
"""Raised when the code makes different plans from the same inputs, so that plans made before are not up to date."""


def bump_input_version(connection: Connection, tenant_id: str, input_name: str, now: datetime) -> int:
    """Count one change of a tenant's input, in the caller's transaction; returns the new version."""
    row = connection.execute(
        """
        INSERT INTO ops.input_version (tenant_id, input, version, updated_at) VALUES (%s, %s, 1, %s)
        ON CONFLICT (tenant_id, input) DO UPDATE SET version = ops.input_version.version + 1, updated_at = excluded.updated_at
        RETURNING version
        """,
        (tenant_id, input_name, now),
    ).fetchone()
    assert row is not None  # noqa: S101 (RETURNING of an upsert always has a row)
    return int(row[0])


def input_versions(connection: Connection, tenant_ids: Sequence[str]) -> dict[str, dict[str, int]]:
    """Per tenant the version of each input; an input never imported is 0."""
    versions = {tenant_id: dict.fromkeys(INPUTS, 0) for tenant_id in tenant_ids}
    rows = connection.execute(
        "SELECT tenant_id, input, version FROM ops.input_version WHERE tenant_id = ANY(%s)", (list(tenant_ids),)
    )
    for tenant_id, input_name, version in rows:
        versions[tenant_id][input_name] = version
    return versions


def inputs_hash(versions: Mapping[str, int], plan_date: date, run_date: date) -> str:
    """The identity of what was imported or set for a plan: equal hashes mean that none of it has changed since.

    What plans made themselves is not in it: a plan of a day before or an order made from one changes stock and open
    orders, so that planning again may differ although the hash is equal.
    """
    text = json.dumps([PLAN_FORMAT, plan_date.isoformat(), run_date.isoformat(), sorted(versions.items())])
    return hashlib.sha256(text.encode()).hexdigest()
