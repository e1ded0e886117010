"""What a run is asked to do: which dates and tenants, why, and by whom. Nothing is computed here."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

import dagster as dg
from pydantic import Field

from planning_assets.partitions import TENANTS, key_of
from planning_assets.window import outside_window


class DayConfig(dg.Config):
    """Run configuration of a batch: one date and any set of tenants.

    Leave it empty to work on the partitions chosen. A run with a configuration also carries one of its partitions, see
    `anchor_of`.
    """

    date: str | None = Field(default=None, description="The plan date (or business date to validate), as 2026-03-01.")
    tenants: list[str] = Field(default=[], description="The tenants to work on.")
    workflow: str | None = Field(default=None, description="The workflow that asked; executions are filed under it.")
    skip_up_to_date: bool = Field(default=False, description="Leave out tenants whose plan has the current inputs.")
    triggered_by: str = Field(default="", description="Who asked, for the execution's record.")
    chunk_tenants: int = Field(default=500, ge=1, description="Tenants computed and written together.")


class TenantConfig(dg.Config):
    """Run configuration of work that has no date: any set of tenants, as DayConfig otherwise."""

    tenants: list[str] = Field(default=[], description="The tenants to work on.")
    trigger: Literal["manual", "first", "age", "error", "drift"] = Field(
        default="manual", description="Why models are trained. By hand, the days since the last attempt do not matter."
    )
    triggers: dict[str, str] = Field(default={}, description="The trigger of each tenant for which it is another one.")
    batch_id: str = Field(default="", description="The batch of retraining requests that is worked on, if any.")
    force: bool = Field(default=False, description="Train also when the last attempt was less than a week ago.")
    workflow: str | None = Field(default=None, description="The workflow that asked; executions are filed under it.")
    triggered_by: str = Field(default="", description="Who asked, for the execution's record.")
    chunk_tenants: int = Field(default=20, ge=1, description="Tenants whose history is read together.")


@dataclass(frozen=True)
class Day:
    """One date and the tenants to work on."""

    on: date
    tenant_ids: Sequence[str]


@dataclass(frozen=True)
class Scope:
    """Everything a run is asked to do."""

    days: Sequence[Day]
    type: str
    triggered_by: str

    def chunks(self, size: int) -> Iterator[Day]:
        """The days in ascending order, each cut into chunks of tenants."""
        for day in self.days:
            for start in range(0, len(day.tenant_ids), size):
                yield Day(day.on, day.tenant_ids[start : start + size])


@dataclass(frozen=True)
class TenantScope:
    """The tenants that a run without a date is asked to work on, why, and by whom."""

    tenant_ids: Sequence[str]
    type: str
    triggered_by: str

    def chunks(self, size: int) -> Iterator[Sequence[str]]:
        """The tenants in chunks."""
        for start in range(0, len(self.tenant_ids), size):
            yield self.tenant_ids[start : start + size]


def tenant_scope_of(context: dg.AssetExecutionContext, config: TenantConfig) -> TenantScope:
    """Read the tenants from the config of a run, else from its partition key or key range.

    Raises dagster.Failure with the remedy when they are missing or contradictory.
    """
    keys = list(context.partition_keys) if context.has_partition_key or context.has_partition_key_range else []
    tenant_ids = list(dict.fromkeys(config.tenants)) or keys
    if not tenant_ids:
        raise _refusal(
            "Neither a partition nor a configuration was given. Remedy: choose a partition, or set the tenants."
        )
    if not set(keys).issubset(tenant_ids):
        raise _refusal(
            f"The partition chosen and the configuration contradict each other: {', '.join(keys)} is not one of the "
            "tenants named. Remedy: leave one of them empty."
        )
    return TenantScope(tenant_ids, _type_of(context), config.triggered_by or _trigger_of(context))


def scope_of(context: dg.AssetExecutionContext, config: DayConfig, window_start: date, now: datetime) -> Scope:
    """Read the scope from the config of a run, else from its partition key or key range.

    Raises dagster.Failure with the remedy when it is missing, contradictory, malformed or outside the window.
    """
    has_keys = context.has_partition_key or context.has_partition_key_range
    if config.date is not None and config.tenants:
        days = [Day(_date_of(config.date), list(dict.fromkeys(config.tenants)))]
        named = {key_of(days[0].on, tenant_id) for tenant_id in days[0].tenant_ids}
        if has_keys and not named.issuperset(context.partition_keys):
            raise _refusal(
                f"The partition chosen and the configuration contradict each other: {', '.join(context.partition_keys)} is "
                f"not {config.date} of one of the tenants named. Remedy: leave one of them empty."
            )
    elif config.date is not None or config.tenants:
        raise _refusal(
            "The configuration lacks its date or its tenants. Remedy: give both, or neither and a partition."
        )
    elif has_keys:
        days = _days_of_keys(context)
    else:
        raise _refusal(
            "Neither a partition nor a configuration was given. Remedy: choose a partition, or set date and tenants."
        )
    outside = outside_window([day.on for day in days], window_start, now)
    if outside is not None:
        raise _refusal(outside)
    return Scope(days, _type_of(context), config.triggered_by or _trigger_of(context))


def anchor_of(instance: dg.DagsterInstance, on: date, tenant_ids: Sequence[str]) -> dg.MultiPartitionKey:
    """The partition that a run with a configuration carries: that of its first tenant, made known to the grid.

    Dagster looks up the data versions of partitioned inputs before a step begins, and fails when the run has no partition.
    """
    register_tenants(instance, tenant_ids[:1])
    return key_of(on, tenant_ids[0])


def tenant_anchor_of(instance: dg.DagsterInstance, tenant_ids: Sequence[str]) -> str:
    """The partition that a run without a date carries, for the reason that `anchor_of` gives."""
    register_tenants(instance, tenant_ids[:1])
    return tenant_ids[0]


def register_tenants(instance: dg.DagsterInstance, tenant_ids: Sequence[str]) -> list[str]:
    """Add the partition keys of tenants that the grid does not know yet; returns those added."""
    known = set(instance.get_dynamic_partitions(str(TENANTS.name)))
    new = [tenant_id for tenant_id in tenant_ids if tenant_id not in known]
    for start in range(0, len(new), 1000):
        instance.add_dynamic_partitions(str(TENANTS.name), new[start : start + 1000])
    return new


def _days_of_keys(context: dg.AssetExecutionContext) -> list[Day]:
    tenants_by_date: dict[date, list[str]] = {}
    for key in context.partition_keys:
        date_text, _, tenant_id = str(key).partition("|")
        tenants_by_date.setdefault(date.fromisoformat(date_text), []).append(tenant_id)
    return [Day(on, tenant_ids) for on, tenant_ids in sorted(tenants_by_date.items())]


def _date_of(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise _refusal(f"The date {text!r} is not a date. Remedy: write it as 2026-03-01.") from error


RETRY_TAG = "daybreak/retry"
"""Of a run that tries again what failed: its claim."""


def _type_of(context: dg.AssetExecutionContext) -> str:
    tags = context.run.tags
    if RETRY_TAG in tags:
        return "retry"
    if "dagster/backfill" in tags:
        return "backfill"
    if "dagster/schedule_name" in tags or "dagster/sensor_name" in tags:
        return "scheduled"
    return "manual"


def _trigger_of(context: dg.AssetExecutionContext) -> str:
    tags = context.run.tags
    for tag in ("dagster/schedule_name", "dagster/sensor_name", "dagster/backfill", "user"):
        if tag in tags:
            return str(tags[tag])
    return "dagster"


def _refusal(message: str) -> dg.Failure:
    return dg.Failure(message, allow_retries=False)
