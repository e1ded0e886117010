"""Production planning, 05:30 local by default: the whole chain, so that bakers find their sheet."""

from planning_assets.jobs import DAILY_PLAN_JOB
from resources.store.due import read_plan_state
from resources.vocabulary import PRODUCTION_PLANNING as NAME
from schedules.workflow import Workflow, plan_date_of, plan_is_due

PRODUCTION_PLANNING = Workflow(
    name=NAME,
    job_name=DAILY_PLAN_JOB.name,
    op="daily_plan",
    due_column="production_planning_at",
    date_of=plan_date_of,
    read_state=read_plan_state,
    is_due=plan_is_due,
    description="Plans the day of every tenant in the zone that is due: forecasts, production, procurement, projection.",
)
