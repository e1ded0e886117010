"""Everything Dagster loads. `build_defs` assembles it and connects to nothing; tests pass their own fleet and resources."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from daybreak import fleet
from daybreak.instance import home
from planning_assets.checks import build_checks
from planning_assets.daily_plan import build_daily_plan
from planning_assets.forecast_models import build_forecast_models
from planning_assets.jobs import DAILY_PLAN_JOB, FORECAST_VALIDATION_JOB, MODEL_TRAINING_JOB
from planning_assets.revalidation import build_revalidation_job
from planning_assets.sources import source_assets
from planning_assets.validation_metrics import build_validation_metrics
from planning_assets.weekly_evaluation import weekly_evaluation_job
from resources.dagster_resources import CacheResource, ClockResource, ModelCacheResource, StoreResource
from schedules import zone_schedules
from sensors.alerts import build_alerts_sensor
from sensors.dead_runs import dead_runs_sensor
from sensors.failed_tenants import build_failed_tenants_sensor
from sensors.imports import imports_sensor
from sensors.inbox import inbox_sensor
from sensors.late_sales import late_sales_sensor
from sensors.plan_regeneration import build_plan_regeneration_sensor
from sensors.retraining import retraining_sensor
from sensors.sales_pull import sales_pull_sensor


def build_defs(outline: fleet.Fleet, resource_overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """The whole code location for a fleet: lineage, jobs, one schedule per workflow and zone, sensors, resources."""
    return dg.Definitions(
        assets=[
            *source_assets(),
            build_forecast_models(),
            build_daily_plan(outline.partitions_start),
            build_validation_metrics(outline.partitions_start),
        ],
        asset_checks=build_checks(outline.partitions_start),
        jobs=[
            DAILY_PLAN_JOB,
            FORECAST_VALIDATION_JOB,
            MODEL_TRAINING_JOB,
            build_revalidation_job(outline.partitions_start),
            weekly_evaluation_job,
        ],
        schedules=zone_schedules(outline.zones),
        sensors=[
            build_alerts_sensor(outline.partitions_start),
            imports_sensor,
            dead_runs_sensor,
            late_sales_sensor,
            inbox_sensor,
            sales_pull_sensor,
            build_plan_regeneration_sensor(outline.partitions_start),
            retraining_sensor,
            build_failed_tenants_sensor(outline.partitions_start),
        ],
        resources={
            "store": StoreResource(dsn=dg.EnvVar("DATABASE_URL")),
            "cache": CacheResource(),
            "model_cache": ModelCacheResource(),
            "clock": ClockResource(),
            **(resource_overrides or {}),
        },
        executor=dg.in_process_executor,
    )


def local_defs() -> dg.Definitions:
    """The code location of this instance: fleet and model cache are in its home folder."""
    return build_defs(fleet.read(home()), {"model_cache": ModelCacheResource(folder=str(home() / "models"))})


@dg.definitions
def defs() -> dg.Definitions:
    """What Dagster loads."""
    return local_defs()
