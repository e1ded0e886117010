"""The registry of forecast models: versions, backtests and artefacts, and which version serves. Deciding is `planning.champion`.

Every change runs in the caller's transaction, holds the tenant first, and writes the change, its decision row, the event and
the new version of the input `models` together or not at all.

What is kept: every version's row, backtest and decisions for good; artefacts of the champion and of the versions that served
last before it, KEPT_ARTEFACTS in all. A challenger that was not promoted keeps its row, not its artefact.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import pandas as pd

from planning.champion import CHALLENGER
from resources import vocabulary
from resources.store.database import Connection, copy_rows, frame
from resources.store.executions import add_events
from resources.store.plans import lock_tenants
from resources.store.versions import bump_input_version

if TYPE_CHECKING:  # a list of versions needs no engine, whose import takes a second
    from planning.training import Challenger

INPUT = "models"
"""The input of plans that a change of the serving model moves on."""

KEPT_ARTEFACTS = 3

BACKTEST_COLUMNS = ("candidate", "wape_pct", "bias_pct", "mae_units", "mase", "pinball_units")

UNUSABLE_LINK = "forecast_models"
UNUSABLE_WORKFLOW = vocabulary.DAILY_OPERATIONS
"""Under which a champion that cannot serve stands in ops.failure. A training that failed has another workflow."""


class RegistryError(Exception):
    """The registry cannot be changed as asked. The message says why and what mends it."""


class ServingChanged(RegistryError):
    """Another model took over between the comparison and the promotion, so the comparison is void."""


@dataclass(frozen=True)
class Cause:
    """Why the registry changes, and when. reason: in words, with the figures. run_id: the run that did it, None: by command."""

    trigger: str
    reason: str
    run_id: str | None
    now: datetime


def label_of(version: int) -> str:
    """What a forecast row calls the version, such as `boosting@v3`, whatever its algorithm."""
    return f"{CHALLENGER}@v{version}"


def register(
    connection: Connection,
    challenger: "Challenger",
    cause: Cause,
    *,
    parent_version: int | None,
    is_compared: bool = True,
) -> int:
    """Store a trained model as the tenant's next version, with its backtest and artefact; returns the version.

    cause: its reason is kept as the version's decision. parent_version: the version that serves; None when rules do.
    is_compared: whether that one was compared with it; one that cannot be loaded is no version to return to. The new version
    has the status of a challenger: `promote` makes it serve, `reject` lets it rest. Raises ServingChanged when another
    version serves by now.
    """
    tenant_id = challenger.tenant_id
    lock_tenants(connection, [tenant_id])
    serving = serving_version(connection, tenant_id)
    if serving != parent_version:
        raise ServingChanged(
            f"{_name(serving)} of {tenant_id} took over while the challenger was compared with {_name(parent_version)}. "
            f"Remedy: train again: daybreak models train --tenant {tenant_id}."
        )
    versions = _versions(connection, tenant_id)
    version = int(versions.index.max()) + 1 if len(versions) else 1
    connection.execute(
        """
        INSERT INTO quality.forecast_model (tenant_id, version, status, algorithm, parameters, feature_schema,
            library_versions, trained_from, trained_to, series_count, row_count, data_hash, backtest_from, backtest_to,
            spread, importances, trigger, decision, artefact_sha256, parent_version, run_id, cpu_s, created_at)
        VALUES (%(tenant_id)s, %(version)s, 'challenger', %(algorithm)s, %(parameters)s, %(feature_schema)s,
            %(library_versions)s, %(trained_from)s, %(trained_to)s, %(series_count)s, %(row_count)s, %(data_hash)s,
            %(backtest_from)s, %(backtest_to)s, %(spread)s, %(importances)s, %(trigger)s, %(decision)s, %(artefact_sha256)s,
            %(parent_version)s, %(run_id)s, %(cpu_s)s, %(now)s)
        """,
        {
            "tenant_id": tenant_id,
            "version": version,
            "algorithm": challenger.algorithm,
            "parameters": json.dumps(dict(challenger.parameters), allow_nan=False),
            "feature_schema": challenger.feature_schema,
            "library_versions": json.dumps(dict(challenger.library_versions)),
            "trained_from": challenger.trained_from,
            "trained_to": challenger.trained_to,
            "series_count": challenger.series,
            "row_count": challenger.rows,
            "data_hash": challenger.data_hash,
            "backtest_from": challenger.backtest_from,
            "backtest_to": challenger.backtest_to,
            "spread": json.dumps(dict(challenger.spread), allow_nan=False),
            "importances": json.dumps(dict(challenger.importances), allow_nan=False),
            "trigger": cause.trigger,
            "decision": cause.reason,
            "artefact_sha256": hashlib.sha256(challenger.artefact).hexdigest(),
            "parent_version": parent_version if is_compared else None,
            "run_id": cause.run_id,
            "cpu_s": challenger.cpu_s,
            "now": cause.now,
        },
    )
    figures = challenger.backtest[list(BACKTEST_COLUMNS[1:])].astype(float)
    copy_rows(
        connection,
        "quality.model_backtest",
        ("tenant_id", "version", "candidate", "row_count", *BACKTEST_COLUMNS[1:]),
        (
            (tenant_id, version, candidate, int(rows), *(value if math.isfinite(value) else None for value in values))
            for candidate, rows, values in zip(
                challenger.backtest["candidate"], challenger.backtest["rows"], figures.to_numpy().tolist(), strict=True
            )
        ),
    )
    connection.execute(
        "INSERT INTO quality.model_artefact (tenant_id, version, content) VALUES (%s, %s, %s)",
        (tenant_id, version, challenger.artefact),
    )
    return version


def promote(
    connection: Connection, tenant_id: str, version: int, cause: Cause, *, action: str = "promoted"
) -> int | None:
    """Have a version serve in place of the one that does; returns that one, None when the rules served.

    Raises RegistryError with the remedy when the version does not exist, serves already, or has no artefact any more or
    a damaged one.
    """
    lock_tenants(connection, [tenant_id])
    previous = serving_version(connection, tenant_id)
    versions = _versions(connection, tenant_id)
    if version not in versions.index:
        raise RegistryError(f"{tenant_id} has no version {version}. {_kept_remedy(tenant_id, versions, previous)}")
    if version == previous:
        raise RegistryError(f"Version {version} of {tenant_id} serves already. Remedy: name another version, if any.")
    if not versions.at[version, "has_artefact"]:
        raise RegistryError(
            f"The artefact of version {version} of {tenant_id} is gone: only {KEPT_ARTEFACTS} are kept. "
            + _kept_remedy(tenant_id, versions, previous)
        )
    if not _is_whole(connection, tenant_id, version):
        raise RegistryError(
            f"The artefact of version {version} of {tenant_id} is damaged: its sha256 differs. "
            + _kept_remedy(tenant_id, versions.drop(index=version), previous)
        )
    _archive_champion(connection, tenant_id, cause.now)
    connection.execute(
        """
        UPDATE quality.forecast_model SET status = 'champion', promoted_at = %s, archived_at = NULL
        WHERE tenant_id = %s AND version = %s
        """,
        (cause.now, tenant_id, version),
    )
    _record_change(connection, tenant_id, action, version, version, previous, cause)
    return previous


def reject(connection: Connection, tenant_id: str, version: int, cause: Cause) -> None:
    """Keep what serves: the challenger's row stays for the record, its artefact goes."""
    lock_tenants(connection, [tenant_id])
    serving = serving_version(connection, tenant_id)
    _add_decision(connection, tenant_id, "not_improvable", version, serving, serving, cause)
    _prune_artefacts(connection, tenant_id)


def retire(
    connection: Connection, tenant_id: str, cause: Cause, *, version: int | None = None, action: str = "retired"
) -> int:
    """Have the rules serve in place of the champion; returns its version.

    version: the challenger that was trained when this was decided, if there is one. Raises RegistryError when no model
    serves.
    """
    lock_tenants(connection, [tenant_id])
    previous = serving_version(connection, tenant_id)
    if previous is None:
        raise RegistryError(
            f"No model serves {tenant_id}: the rules do. Remedy: daybreak models train --tenant {tenant_id}."
        )
    _archive_champion(connection, tenant_id, cause.now)
    _record_change(connection, tenant_id, action, version, None, previous, cause)
    return previous


def rollback(
    connection: Connection,
    tenant_id: str,
    *,
    reason: str,
    now: datetime,
    version: int | None = None,
    is_to_rules: bool = False,
    is_by_hand: bool = True,
) -> tuple[int | None, int | None]:
    """Return to a kept version, by default to what served when the champion was trained; returns (serves now, served before).

    With is_to_rules, the rules serve, whatever is kept. is_by_hand: a person decided it; else the live error did.

    A champion that followed the rules gives way to the rules again: then the first is None. Raises RegistryError with the
    remedy when the version does not exist, serves already, or has no artefact any more or a damaged one, and without a
    version when no model serves.
    """
    lock_tenants(connection, [tenant_id])
    serving = serving_version(connection, tenant_id)
    versions = _versions(connection, tenant_id)
    if version is None and serving is None:
        raise RegistryError(
            f"No model serves {tenant_id}, so there is nothing to roll back. {_kept_remedy(tenant_id, versions, None)}"
        )
    parent = None if serving is None or is_to_rules else versions.at[serving, "parent_version"]
    target = version if version is not None else parent
    cause = (
        Cause("manual", f"Rolled back by hand: {reason}", None, now)
        if is_by_hand
        else Cause("error", f"Rolled back by the system: {reason}", None, now)
    )
    if target is None:
        return None, retire(connection, tenant_id, cause, action="rolled_back")
    return target, promote(connection, tenant_id, target, cause, action="rolled_back")


def skip(connection: Connection, tenant_id: str, cause: Cause) -> None:
    """Record an attempt that could not make a model, such as for want of history. What serves stays."""
    lock_tenants(connection, [tenant_id])
    serving = serving_version(connection, tenant_id)
    _add_decision(connection, tenant_id, "skipped", None, serving, serving, cause)


def serving_version(connection: Connection, tenant_id: str) -> int | None:
    """The version that serves a tenant; None when the rules do."""
    row = connection.execute(
        "SELECT version FROM quality.forecast_model WHERE tenant_id = %s AND status = 'champion'", (tenant_id,)
    ).fetchone()
    return None if row is None else int(row[0])


def read_champions(connection: Connection, tenant_ids: Sequence[str]) -> pd.DataFrame:
    """The serving versions, without artefacts: one row per tenant that has one.

    Columns: tenant_id, version, algorithm, feature_schema, spread (a mapping), artefact_sha256, trained_to, created_at,
    decision, wape_pct (of its backtest; NaN where undefined).
    """
    champions = frame(
        connection,
        """
        SELECT model.tenant_id, model.version, algorithm, feature_schema, spread, artefact_sha256, trained_to, created_at,
               decision, measured.wape_pct
        FROM quality.forecast_model AS model
        LEFT JOIN quality.model_backtest AS measured
               ON (measured.tenant_id, measured.version, measured.candidate) = (model.tenant_id, model.version, 'boosting')
        WHERE model.tenant_id = ANY(%(tenant_ids)s::text[]) AND status = 'champion'
        ORDER BY model.tenant_id
        """,
        {"tenant_ids": list(tenant_ids)},
    )
    return champions.astype({"wape_pct": float})


def read_artefacts(connection: Connection, keys: Sequence[tuple[str, int]]) -> dict[tuple[str, int], bytes]:
    """The artefacts of versions, in one query; one that is gone is left out."""
    if not keys:
        return {}
    # Binary: the text of a bytea is twice its size.
    with connection.cursor(binary=True) as cursor:
        cursor.execute(
            """
            SELECT tenant_id::text, version, content FROM quality.model_artefact
            JOIN unnest(%s::text[], %s::int[]) AS wanted (tenant_id, version) USING (tenant_id, version)
            """,
            ([tenant_id for tenant_id, _ in keys], [version for _, version in keys]),
        )
        return {(tenant_id, version): bytes(content) for tenant_id, version, content in cursor}


def read_attempts(connection: Connection, tenant_ids: Sequence[str]) -> dict[str, datetime]:
    """When training was last attempted for each tenant, whatever came of it; a tenant without an attempt is left out."""
    rows = connection.execute(
        """
        SELECT tenant_id, max(decided_at) FROM quality.model_decision
        WHERE tenant_id = ANY(%s::text[]) AND action <> 'rolled_back' GROUP BY 1
        """,
        (list(tenant_ids),),
    )
    return dict(rows.fetchall())


def read_models(connection: Connection, tenant_ids: Sequence[str]) -> pd.DataFrame:
    """All versions of tenants, the newest first: the columns of quality.forecast_model, wape_pct, has_artefact."""
    models = frame(
        connection,
        """
        SELECT model.*, measured.wape_pct, EXISTS (
                   SELECT FROM quality.model_artefact AS kept
                   WHERE (kept.tenant_id, kept.version) = (model.tenant_id, model.version)
               ) AS has_artefact
        FROM quality.forecast_model AS model
        LEFT JOIN quality.model_backtest AS measured
               ON (measured.tenant_id, measured.version, measured.candidate) = (model.tenant_id, model.version, 'boosting')
        WHERE model.tenant_id = ANY(%(tenant_ids)s::text[])
        ORDER BY model.tenant_id, model.version DESC
        """,
        {"tenant_ids": list(tenant_ids)},
    )
    return models.astype({"wape_pct": float, "parent_version": object})


def read_backtest(connection: Connection, tenant_id: str, version: int) -> pd.DataFrame:
    """How every candidate did when a version was compared: row_count and BACKTEST_COLUMNS, the best first."""
    measured = frame(
        connection,
        """
        SELECT candidate, row_count, wape_pct, bias_pct, mae_units, mase, pinball_units FROM quality.model_backtest
        WHERE tenant_id = %(tenant_id)s AND version = %(version)s ORDER BY wape_pct NULLS LAST, candidate
        """,
        {"tenant_id": tenant_id, "version": version},
    )
    return measured.astype(dict.fromkeys(BACKTEST_COLUMNS[1:], float))


def read_decisions(
    connection: Connection, tenant_ids: Sequence[str], run_id: str | None = None, limit: int = 1000
) -> pd.DataFrame:
    """The latest decisions about tenants, those of one run when it is given: the table's columns, the newest first."""
    return frame(
        connection,
        """
        SELECT tenant_id, action, version, serving_version, previous_version, trigger, reason, run_id, decided_at
        FROM quality.model_decision
        WHERE tenant_id = ANY(%(tenant_ids)s::text[]) AND (%(run_id)s::text IS NULL OR run_id = %(run_id)s)
        ORDER BY decided_at DESC, decision_id DESC LIMIT %(limit)s
        """,
        {"tenant_ids": list(tenant_ids), "run_id": run_id, "limit": limit},
    ).astype({"version": object, "serving_version": object, "previous_version": object})


def record_unusable(
    connection: Connection, problems: pd.DataFrame, plan_date: date, run_id: str, now: datetime
) -> list[str]:
    """Keep champions that cannot serve as open failures, one per tenant and reason; returns the tenants that are new.

    problems: tenant_id, message, remedy, as `resources.model_cache.load_serving` makes them; the message names the
    artefact, so that the same one is recorded once and not every morning.
    """
    rows = connection.execute(
        """
        INSERT INTO ops.failure (tenant_id, workflow, plan_date, link, reason, remedy, run_id, failed_at, state)
        SELECT problem.tenant_id, %(workflow)s, %(plan_date)s, %(link)s, problem.reason, problem.remedy, %(run_id)s, %(now)s,
               'review'
        FROM unnest(%(tenant_ids)s::text[], %(reasons)s::text[], %(remedies)s::text[])
             AS problem (tenant_id, reason, remedy)
        WHERE NOT EXISTS (SELECT FROM ops.failure AS known
                          WHERE known.tenant_id = problem.tenant_id AND known.workflow = %(workflow)s
                            AND known.link = %(link)s AND known.reason = problem.reason AND known.resolved_at IS NULL)
        RETURNING tenant_id
        """,
        {
            "workflow": UNUSABLE_WORKFLOW,
            "link": UNUSABLE_LINK,
            "plan_date": plan_date,
            "tenant_ids": problems["tenant_id"].tolist(),
            "reasons": problems["message"].tolist(),
            "remedies": problems["remedy"].tolist(),
            "run_id": run_id,
            "now": now,
        },
    )
    return [tenant_id for (tenant_id,) in rows]


def resolve_unusable(connection: Connection, tenant_ids: Sequence[str], now: datetime) -> int:
    """Close the open failures of champions that can serve again, or no longer serve; returns how many."""
    return connection.execute(
        """
        UPDATE ops.failure SET resolved_at = %(now)s, state = 'resolved'
        WHERE tenant_id = ANY(%(tenant_ids)s::text[]) AND workflow = %(workflow)s AND link = %(link)s
          AND resolved_at IS NULL
        """,
        {"tenant_ids": list(tenant_ids), "workflow": UNUSABLE_WORKFLOW, "link": UNUSABLE_LINK, "now": now},
    ).rowcount


def resolve_training_failures(connection: Connection, tenant_id: str, now: datetime) -> int:
    """Close the open failures of earlier trainings of a tenant, of whatever day; returns how many."""
    return connection.execute(
        """
        UPDATE ops.failure SET resolved_at = %s, state = 'resolved'
        WHERE tenant_id = %s AND link = %s AND workflow <> %s AND resolved_at IS NULL
        """,
        (now, tenant_id, UNUSABLE_LINK, UNUSABLE_WORKFLOW),
    ).rowcount


def read_last_sales(connection: Connection, tenant_ids: Sequence[str]) -> dict[str, date]:
    """The last day with sales of each tenant that has any, by the panels that `refresh_demand_panels` keeps."""
    rows = connection.execute(
        """
        SELECT tenant_id, max(first_on + cardinality(sales_units) - 1) FROM facts.demand_panel
        WHERE tenant_id = ANY(%s::text[]) GROUP BY 1
        """,
        (list(tenant_ids),),
    )
    return dict(rows.fetchall())


def _archive_champion(connection: Connection, tenant_id: str, now: datetime) -> None:
    connection.execute(
        """
        UPDATE quality.forecast_model SET status = 'archived', archived_at = %s
        WHERE tenant_id = %s AND status = 'champion'
        """,
        (now, tenant_id),
    )


def _record_change(
    connection: Connection,
    tenant_id: str,
    action: str,
    version: int | None,
    serving: int | None,
    previous: int | None,
    cause: Cause,
) -> None:
    """What belongs to every change of what serves: the decision, the event, the data version, the artefacts kept."""
    _add_decision(connection, tenant_id, action, version, serving, previous, cause)
    resolve_unusable(connection, [tenant_id], cause.now)
    payload: Mapping[str, Any] = {
        "action": action,
        "version": serving,
        "previous_version": previous,
        "trigger": cause.trigger,
        "reason": cause.reason,
        "models_version": bump_input_version(connection, tenant_id, INPUT, cause.now),
        "run_id": cause.run_id,
        "timestamp": cause.now.isoformat(),
    }
    add_events(connection, [(vocabulary.EVENT_MODEL_PROMOTED, _name(serving), tenant_id, payload)], cause.now)
    _prune_artefacts(connection, tenant_id)


def _add_decision(
    connection: Connection,
    tenant_id: str,
    action: str,
    version: int | None,
    serving: int | None,
    previous: int | None,
    cause: Cause,
) -> None:
    connection.execute(
        """
        INSERT INTO quality.model_decision (tenant_id, action, version, serving_version, previous_version, trigger, reason,
                                            run_id, decided_at)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
        """,
        (tenant_id, action, version, serving, previous, cause.trigger, cause.reason, cause.run_id, cause.now),
    )


def _prune_artefacts(connection: Connection, tenant_id: str) -> None:
    """Delete the artefacts of all but the champion and those that served last before it, KEPT_ARTEFACTS in all."""
    connection.execute(
        """
        DELETE FROM quality.model_artefact AS artefact
        WHERE tenant_id = %(tenant_id)s AND version NOT IN (
            SELECT version FROM quality.forecast_model
            WHERE tenant_id = %(tenant_id)s AND promoted_at IS NOT NULL
            ORDER BY status = 'champion' DESC, promoted_at DESC, version DESC LIMIT %(kept)s
        )
        """,
        {"tenant_id": tenant_id, "kept": KEPT_ARTEFACTS},
    )


def _versions(connection: Connection, tenant_id: str) -> pd.DataFrame:
    """The tenant's versions by number: status, parent_version (None: the rules), has_artefact."""
    versions = read_models(connection, [tenant_id]).set_index("version")[["status", "parent_version", "has_artefact"]]
    parents = [None if pd.isna(parent) else int(parent) for parent in versions["parent_version"]]
    return versions.assign(parent_version=pd.Series(parents, index=versions.index, dtype=object))


def _is_whole(connection: Connection, tenant_id: str, version: int) -> bool:
    """Whether the stored artefact of a version is the one that was registered."""
    row = connection.execute(
        """
        SELECT encode(sha256(content), 'hex') = artefact_sha256
        FROM quality.forecast_model JOIN quality.model_artefact USING (tenant_id, version)
        WHERE (tenant_id, version) = (%s, %s)
        """,
        (tenant_id, version),
    ).fetchone()
    return row is not None and bool(row[0])


def _kept_remedy(tenant_id: str, versions: pd.DataFrame, serving: int | None) -> str:
    kept = [str(version) for version in versions.index[versions["has_artefact"].astype(bool)] if version != serving]
    if not kept:
        return f"Remedy: there is no other version to return to; train one: daybreak models train --tenant {tenant_id}."
    return f"Remedy: name one that is kept ({', '.join(kept)}), or train: daybreak models train --tenant {tenant_id}."


def _name(version: int | None) -> str:
    return "rules" if version is None else f"v{version}"
