"""The jobs that schedules and people launch. Each runs in one process: many tenants a run, not many processes a tenant.

Checks are left out as steps of their own: a batch evaluates them itself, see planning_assets/checks.py.
"""

import dagster as dg

from planning_assets.daily_plan import LINKS
from planning_assets.forecast_models import NAME as FORECAST_MODELS
from planning_assets.validation_metrics import NAME as VALIDATION_METRICS

DAILY_PLAN_JOB = dg.define_asset_job(
    "daily_plan_job",
    selection=dg.AssetSelection.assets(*(link.name for link in LINKS)).without_checks(),
    description="Plan a date for any set of tenants: demand history, forecasts, production, procurement and projection.",
    executor_def=dg.in_process_executor,
)

FORECAST_VALIDATION_JOB = dg.define_asset_job(
    "forecast_validation_job",
    selection=dg.AssetSelection.assets(VALIDATION_METRICS).without_checks(),
    description="Score the stored forecasts of a finished day against what was sold.",
    executor_def=dg.in_process_executor,
)

MODEL_TRAINING_JOB = dg.define_asset_job(
    "model_training_job",
    selection=dg.AssetSelection.assets(FORECAST_MODELS).without_checks(),
    description="Train forecast models for any set of tenants; each is promoted only where it is better than what serves.",
    executor_def=dg.in_process_executor,
)
