"""Forecast validation, 08:00 local by default: yesterday's forecasts against yesterday's sales."""

from planning_assets.jobs import FORECAST_VALIDATION_JOB
from resources.store.due import read_validation_state
from resources.vocabulary import FORECAST_VALIDATION as NAME
from schedules.workflow import Workflow, validation_is_due, yesterday_of

FORECAST_VALIDATION = Workflow(
    name=NAME,
    job_name=FORECAST_VALIDATION_JOB.name,
    op="forecast_validation",
    due_column="forecast_validation_at",
    date_of=yesterday_of,
    read_state=read_validation_state,
    is_due=validation_is_due,
    description="Scores the forecasts of yesterday for every tenant in the zone that is due.",
)
