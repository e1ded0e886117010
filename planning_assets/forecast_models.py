"""Forecast models: a challenger is trained for each tenant, compared with what serves, and promoted only if it is better.

The engine is `planning.training`, the rules are `planning.champion`, the registry is `resources.store.models`.
"""

import logging
import platform
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from textwrap import shorten
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import numpy as np
import pandas as pd
import psycopg

from planning import training
from planning.calendar import Calendar
from planning.champion import CHALLENGER, LEAST_DAYS_BETWEEN_ATTEMPTS, Decision, ServingModel, decide
from planning.frames import PLAN_DAYS, QUANTILE_LEVELS, Panel, PlanningError, set_aside_of
from planning.quantiles import Spread
from planning.training import Challenger
from planning_assets.chunk import BUG_REMEDY, REASON_LENGTH, usable_tenants
from planning_assets.closing import TRAINING, end_run
from planning_assets.dagster_events import mark_failed, report_materializations
from planning_assets.demand_history import read_demand
from planning_assets.link import Metadata
from planning_assets.partitions import TENANTS
from planning_assets.scope import TenantConfig, TenantScope, register_tenants, tenant_scope_of
from planning_assets.specs import TENANT, table_spec
from planning_assets.summaries import number, table
from resources import vocabulary
from resources.clock import Clock
from resources.dagster_resources import ClockResource, ModelCacheResource, StoreResource
from resources.model_cache import ModelCache, load_serving
from resources.store import models
from resources.store.database import Connection, Store
from resources.store.executions import StepLog, finish_executions, held_by_run, start_executions, write_step_logs
from resources.store.failures import record_failures
from resources.store.inputs import read_tenants, refresh_demand_panels
from resources.store.residuals import refresh_spreads, write_residuals
from resources.store.retraining import settle_request

NAME = "forecast_models"

TRAINING_DAYS = 1100
"""Days of history that a model is trained on: three years, so that every day has a year before it twice."""

SALES_REMEDY = "Import what it sells: daybreak import sales FILE --create-products --tenant"

SPEC = table_spec(
    NAME,
    table="quality.forecast_model",
    group="demand",
    deps=["sales", "calendar", "products"],
    description=(
        "The forecast models of each tenant, in versions. A newly trained one must beat what serves by 2 % of its error "
        "on the last 28 days, without a bias above 10 % (or above that of what it replaces) and without losing to "
        "seasonal naive, before it serves."
    ),
    columns=[
        TENANT,
        ("version", "integer", "number of the model, from 1"),
        ("status", "text", "champion: it serves; archived: it has served; challenger: it never has"),
        ("algorithm", "text", "what kind of model it is"),
        ("trained_from", "date", "first day of history that it has seen"),
        ("trained_to", "date", "last day of history that it has seen"),
        ("series_count", "integer", "products at locations that it has seen"),
        ("row_count", "integer", "rows that it was trained on"),
        ("decision", "text", "what became of it and why, with the figures"),
        ("artefact_sha256", "character", "sha256 of the stored artefact"),
        ("parent_version", "integer", "version that served when it was trained; null: the rules"),
        ("cpu_s", "double precision", "processor time of training and backtest, in seconds"),
    ],
)

logger = logging.getLogger("daybreak.models")


@dataclass(frozen=True)
class Material:
    """What a tenant's model is trained from, and what it is compared with.

    serving: the model that serves, None where the rules do or where it cannot be loaded. serving_version: the version that
    serves by the registry.
    """

    tenant_id: str
    history: Panel
    calendar: Calendar
    serving: ServingModel | None
    serving_version: int | None


@dataclass(frozen=True)
class Settled:
    """What came of a tenant's training: promoted, not_improvable, retired or skipped, and why."""

    action: str
    reason: str
    version: int | None = None
    challenger: Challenger | None = None


@dataclass(frozen=True)
class Failed:
    """Why a tenant could not be trained, and what mends it."""

    reason: str
    remedy: str


def build_forecast_models() -> dg.AssetsDefinition:
    """The asset, partitioned by tenant alone: a model is of no date."""

    @dg.multi_asset(
        name="model_training",
        specs=[SPEC.replace_attributes(partitions_def=TENANTS)],
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def model_training(
        context: dg.AssetExecutionContext,
        config: TenantConfig,
        store: StoreResource,
        model_cache: ModelCacheResource,
        clock: ClockResource,
    ) -> Iterator[dg.MaterializeResult]:
        # Each tenant is reported with an event of its own; an output would be one event for all of them.
        yield from ()
        scope = tenant_scope_of(context, config)
        with store.open() as opened, held_by_run(opened, context.run.run_id):
            run = TrainingRun(context, config, scope, opened, model_cache.cache, clock.now)
            failed = [failure for chunk in scope.chunks(config.chunk_tenants) for failure in run.train(chunk)]
            set_aside = set_aside_of(failed).assign(plan_date=run.on)
            done = len(scope.tenant_ids) - len(failed)
            end_run(context, opened, clock.now, run.workflow, TRAINING, done, set_aside)

    return model_training


class TrainingRun:
    """One run over its tenants: their history is read in chunks, each is trained and written for itself."""

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        config: TenantConfig,
        scope: TenantScope,
        store: Store,
        cache: ModelCache,
        now: Clock,
    ) -> None:
        self.context = context
        self.config = config
        self.scope = scope
        self.store = store
        self.cache = cache
        self.now = now
        self.run_id = context.run.run_id
        self.workflow = config.workflow or vocabulary.MODEL_TRAINING
        self.on = now().astimezone(UTC).date()
        self._executions: dict[str, uuid.UUID] = {}
        self._finished = 0

    def train(self, tenant_ids: Sequence[str]) -> list[tuple[str, str, str, str]]:
        """Train these tenants, each with an outcome of its own; returns those that failed: tenant, link, reason, remedy.

        A tenant whose history is too short is not a failure: it is recorded as skipped. A fault of the database is raised.
        """
        with self.store.transaction() as connection:
            known = read_tenants(connection, tenant_ids)
            tenants, unusable = usable_tenants(known, tenant_ids, self.on, self.now())
            self._executions = start_executions(
                connection,
                self.workflow,
                self.scope.type,
                self.scope.triggered_by,
                list(known["tenant_id"]),
                self.on,
                1,
                self.run_id,
                platform.node(),
                self.now(),
            )
            attempts = models.read_attempts(connection, list(tenants["tenant_id"]))
        register_tenants(self.context.instance, list(known["tenant_id"]))
        failed = [
            self._fail(row.tenant_id, Failed(row.reason, row.remedy), is_known=row.tenant_id in self._executions)
            for row in unusable.itertuples()
        ]
        soon = {tenant_id: self._too_soon(tenant_id, attempts.get(tenant_id)) for tenant_id in tenants["tenant_id"]}
        for tenant_id, reason in soon.items():
            if reason is not None:
                self._skip(tenant_id, reason, is_attempt=False)
        due = tenants[[soon[tenant_id] is None for tenant_id in tenants["tenant_id"]]].reset_index(drop=True)
        for tenant_id, found in self._materials(due):
            outcome = self._train_one(found) if isinstance(found, Material) else found
            if isinstance(outcome, Failed):
                failed.append(self._fail(tenant_id, outcome))
            elif outcome.action == "skipped":
                self._skip(tenant_id, outcome.reason)
            else:
                self._report(tenant_id, outcome)
        if failed:
            mark_failed(self.context, [(SPEC.key, tenant_id) for tenant_id, *_ in failed])
        return failed

    def _too_soon(self, tenant_id: str, attempted_at: datetime | None) -> str | None:
        if self._trigger(tenant_id) == "manual" or self.config.force or attempted_at is None:
            return None
        attempted_on = attempted_at.astimezone(UTC).date()
        if (self.on - attempted_on).days >= LEAST_DAYS_BETWEEN_ATTEMPTS:
            return None
        return f"The last attempt was on {attempted_on}, less than {LEAST_DAYS_BETWEEN_ATTEMPTS} days ago."

    def _materials(self, tenants: pd.DataFrame) -> Iterator[tuple[str, Material | Settled | Failed]]:
        """What each tenant is trained from. When reading them together fails, each half is read for itself."""
        if tenants.empty:
            return
        try:
            with self.store.transaction() as connection:
                found = read_materials(connection, self.cache, tenants, self.now())
        except (psycopg.OperationalError, psycopg.InterfaceError):
            raise
        except Exception as error:
            if len(tenants) == 1:
                tenant_id = tenants["tenant_id"].iloc[0]
                logger.warning("%s: %s", vocabulary.TENANT_PROCESSING_FAILED, tenant_id, exc_info=True)
                yield tenant_id, _failure_of(error)
                return
            middle = len(tenants) // 2
            for half in (tenants.iloc[:middle], tenants.iloc[middle:]):
                yield from self._materials(half.reset_index(drop=True))
            return
        yield from found.items()

    def _train_one(self, material: Material) -> Settled | Failed:
        tenant_id = material.tenant_id
        try:
            try:
                challenger = training.train_challenger(material.history, material.calendar, material.serving)
            except PlanningError as error:
                return Settled("skipped", str(error))
            return self._settle(material, challenger)
        except (psycopg.OperationalError, psycopg.InterfaceError):
            raise
        except models.RegistryError as error:
            return _failure_of(error)
        except Exception as error:
            logger.warning("%s: %s", vocabulary.TENANT_PROCESSING_FAILED, tenant_id, exc_info=True)
            return _failure_of(error)

    def _settle(self, material: Material, challenger: Challenger) -> Settled:
        """Register the challenger and have it serve, or not, by the rules: one transaction with all that belongs to it."""
        tenant_id = material.tenant_id
        decision = _decision_of(material, challenger)
        cause = self._cause(tenant_id, decision.reason)
        with self.store.transaction() as connection:
            version = models.register(
                connection,
                challenger,
                cause,
                parent_version=material.serving_version,
                is_compared=material.serving is not None,
            )
            if decision.action == "promote":
                models.promote(connection, tenant_id, version, cause)
                held_out = challenger.residuals.rename(columns={"target_on": "business_date"})
                write_residuals(connection, held_out.assign(tenant_id=tenant_id), is_live=False)
                refresh_spreads(connection, [tenant_id], challenger.trained_to)
            elif decision.action == "retire":
                models.retire(connection, tenant_id, cause, version=version)
            else:
                models.reject(connection, tenant_id, version, cause)
            settled = Settled(ACTIONS[decision.action], decision.reason, version, challenger)
            models.resolve_training_failures(connection, tenant_id, self.now())
            settle_request(connection, tenant_id, settled.action, self.now(), batch_id=self.config.batch_id)
            self._close(connection, tenant_id, settled)
        return settled

    def _trigger(self, tenant_id: str) -> str:
        return self.config.triggers.get(tenant_id, self.config.trigger)

    def _cause(self, tenant_id: str, reason: str) -> models.Cause:
        return models.Cause(self._trigger(tenant_id), reason, self.run_id, self.now())

    def _skip(self, tenant_id: str, reason: str, is_attempt: bool = True) -> None:
        settled = Settled("skipped", reason)
        with self.store.transaction() as connection:
            if is_attempt:
                models.skip(connection, tenant_id, self._cause(tenant_id, reason))
                models.resolve_training_failures(connection, tenant_id, self.now())
            settle_request(
                connection, tenant_id, "skipped", self.now(), batch_id=self.config.batch_id, is_attempt=is_attempt
            )
            self._close(connection, tenant_id, settled)
        self._log(tenant_id, f"skipped: {reason}")

    def _fail(self, tenant_id: str, failed: Failed, is_known: bool = True) -> tuple[str, str, str, str]:
        row = (tenant_id, NAME, failed.reason, failed.remedy)
        if is_known:
            with self.store.transaction() as connection:
                models.resolve_training_failures(connection, tenant_id, self.now())
                record_failures(connection, self.workflow, self.on, set_aside_of([row]), self.run_id, self.now())
                self._close(connection, tenant_id, failed)
        self._log(tenant_id, f"failed: {failed.reason} {failed.remedy}")
        return row

    def _close(self, connection: Connection, tenant_id: str, outcome: Settled | Failed) -> None:
        """End the tenant's execution, with one step log."""
        execution_id = self._executions[tenant_id]
        is_failed = isinstance(outcome, Failed)
        error: str | None = None
        result: dict[str, object] = {}
        data: Mapping[str, object]
        if isinstance(outcome, Failed):
            error = f"{outcome.reason} {outcome.remedy}"
            message, data = vocabulary.TENANT_PROCESSING_FAILED, {"reason": outcome.reason, "remedy": outcome.remedy}
        else:
            is_skipped = outcome.action == "skipped"
            message = vocabulary.MODEL_TRAINING_SKIPPED if is_skipped else vocabulary.MODEL_TRAINED
            result = {"action": outcome.action, "version": outcome.version, "reason": outcome.reason}
            data = result | _figures(outcome.challenger)
        finished = {
            "execution_id": execution_id,
            "tenant_id": tenant_id,
            "status": "failed" if is_failed else "completed",
            "steps_completed": 0 if is_failed else 1,
            "steps_failed": 1 if is_failed else 0,
            "error": error,
            "result": result,
        }
        finish_executions(connection, pd.DataFrame([finished]), self.now())
        write_step_logs(
            connection, [StepLog(execution_id, 0, NAME, "error" if is_failed else "info", message, data, self.now())]
        )

    def _report(self, tenant_id: str, settled: Settled) -> None:
        metadata = describe(settled)
        report_materializations(self.context, [dg.AssetMaterialization(NAME, partition=tenant_id, metadata=metadata)])
        cpu_s = settled.challenger.cpu_s if settled.challenger else 0.0
        self._log(tenant_id, f"v{settled.version}, {settled.reason} {cpu_s:.1f} CPU seconds.")

    def _log(self, tenant_id: str, text: str) -> None:
        self._finished += 1
        self.context.log.info(f"{self._finished} of {len(self.scope.tenant_ids)}: {tenant_id}: {text}")


ACTIONS: Mapping[str, str] = {"promote": "promoted", "keep": "not_improvable", "retire": "retired"}
"""What the registry calls what was decided."""


def read_materials(
    connection: Connection, cache: ModelCache, tenants: pd.DataFrame, now: datetime
) -> dict[str, Material | Settled | Failed]:
    """The history and the serving model of tenants, read together: TRAINING_DAYS up to yesterday, or to the last sale.

    tenants: tenant_id, timezone. A tenant without sales is settled as skipped; one with an invalid quantity has failed.
    """
    tenant_ids = list(tenants["tenant_id"])
    refresh_demand_panels(connection, tenant_ids)
    last_sales = models.read_last_sales(connection, tenant_ids)
    found: dict[str, Material | Settled | Failed] = {
        tenant_id: Settled("skipped", f"No sales are known. {SALES_REMEDY} {tenant_id}.")
        for tenant_id in tenant_ids
        if tenant_id not in last_sales
    }
    selling = tenants[~tenants["tenant_id"].isin(list(found))].reset_index(drop=True)
    if selling.empty:
        return found
    run_dates = [
        min(now.astimezone(ZoneInfo(row.timezone)).date(), last_sales[row.tenant_id] + timedelta(days=1))
        for row in selling.itertuples()
    ]
    selling = selling.assign(run_date=pd.Series(run_dates, dtype=object))
    tenant_ids = list(selling["tenant_id"])
    first, last = min(run_dates) - timedelta(days=TRAINING_DAYS), max(run_dates) - timedelta(days=1)
    # Features of the last origins look at days that are still to come.
    history = read_demand(connection, selling, first, last, last + timedelta(days=PLAN_DAYS + 1))
    found |= {row.tenant_id: Failed(row.reason, row.remedy) for row in history.set_aside.itertuples()}
    serving = load_serving(connection, cache, tenant_ids)
    for tenant_id, run_date in zip(tenant_ids, run_dates, strict=True):
        if tenant_id in found:
            continue
        rows = (history.panel.keys["tenant_id"] == tenant_id).to_numpy()
        of_tenant = history.panel.select(rows)
        days = _known_days(of_tenant, run_date)
        if not len(days):
            found[tenant_id] = Settled("skipped", f"No sales are known. {SALES_REMEDY} {tenant_id}.")
            continue
        start, length = days[0], (run_date - days[0]).days
        found[tenant_id] = Material(
            tenant_id,
            _window(of_tenant, start, length),
            history.calendar.select(rows).window(start, length + PLAN_DAYS + 1),
            serving.models.get(tenant_id),
            serving.versions.get(tenant_id),
        )
    return found


def describe(settled: Settled) -> Metadata:
    """What a person sees of a training: the decision, every candidate on the same rows, the window, the cost, the spread."""
    challenger = settled.challenger
    if challenger is None:
        return {"decision": dg.MetadataValue.text(settled.reason)}
    metadata: dict[str, dg.MetadataValue] = {
        "decision": dg.MetadataValue.text(settled.reason),
        "outcome": dg.MetadataValue.text(settled.action),
        "version": dg.MetadataValue.int(settled.version or 0),
        "dagster/row_count": dg.MetadataValue.int(challenger.rows),
        "series": dg.MetadataValue.int(challenger.series),
        "training_window": dg.MetadataValue.text(f"{challenger.trained_from} to {challenger.trained_to}"),
        "backtest_window": dg.MetadataValue.text(f"{challenger.backtest_from} to {challenger.backtest_to}"),
        "cpu_s": number(challenger.cpu_s),
        "artefact_kib": number(len(challenger.artefact) / 1024),
        "candidates": table(
            ["candidate", "rows", "WAPE %", "bias %", "MASE", "MAE units", "pinball units"],
            [
                (
                    row.candidate,
                    row.rows,
                    float(row.wape_pct),
                    float(row.bias_pct),
                    _two_decimals(row.mase),
                    _two_decimals(row.mae_units),
                    _two_decimals(row.pinball_units),
                )
                for row in challenger.backtest.sort_values("wape_pct", kind="stable").itertuples()
            ],
        ),
    }
    spread = Spread.from_json(challenger.spread)
    if spread is not None:
        classes = [("all", spread.pooled_count, spread.pooled)]
        classes += [(str(n), int(spread.class_counts[n]), row) for n, row in enumerate(spread.by_class)]
        metadata["residuals"] = table(
            ["volume class", "rows", *(f"{level:.0%}" for level in QUANTILE_LEVELS)],
            [(name, count, *(_two_decimals(value) for value in row)) for name, count, row in classes],
        )
    if challenger.importances:
        shares = sorted(challenger.importances.items(), key=lambda item: -item[1])
        metadata["importances"] = table(["features", "share of the gain %"], [(n, 100 * share) for n, share in shares])
    return metadata | {name: number(value) for name, value in _figures(challenger).items() if name.endswith("_pct")}


def _decision_of(material: Material, challenger: Challenger) -> Decision:
    serving = material.serving
    unseen_days = None if serving is None else (challenger.trained_to - serving.trained_to).days
    decision = decide(challenger.backtest, unseen_days)
    if material.serving is None and material.serving_version is not None:
        note = f" v{material.serving_version} was not compared: it cannot be loaded."
        return Decision(decision.action, decision.reason + note)
    return decision


def _figures(challenger: Challenger | None) -> dict[str, Any]:
    """The challenger's own figures, those that are defined."""
    if challenger is None:
        return {}
    (row,) = challenger.backtest[challenger.backtest["candidate"] == CHALLENGER].itertuples()
    figures = {"wape_pct": float(row.wape_pct), "bias_pct": float(row.bias_pct), "cpu_s": float(challenger.cpu_s)}
    return {name: round(value, 3) for name, value in figures.items() if np.isfinite(value)}


def _known_days(panel: Panel, run_date: date) -> list[date]:
    """The days of a tenant's window on which any of its demand is known."""
    known = (~np.isnan(panel["demand_units"])).any(axis=0)
    days = [panel.first_day + timedelta(days=int(column)) for column in np.nonzero(known)[0]]
    return [day for day in days if run_date - timedelta(days=TRAINING_DAYS) <= day < run_date]


def _window(panel: Panel, first_day: date, days: int) -> Panel:
    start = panel.column(first_day)
    return Panel(
        panel.keys, {name: matrix[:, start : start + days] for name, matrix in panel.values.items()}, first_day
    )


def _two_decimals(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else "–"


def _failure_of(error: Exception) -> Failed:
    """Reason and remedy of an exception, in one line each. The run's log has all of it."""
    reason, _, remedy = str(error).partition(" Remedy: ")
    if remedy:
        return Failed(reason, remedy)
    return Failed(shorten(f"{type(error).__name__}: {error}", REASON_LENGTH, placeholder=" …"), BUG_REMEDY)
