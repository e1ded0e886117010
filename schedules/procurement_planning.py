"""Procurement planning, 06:00 local by default: the same chain for tenants that are not up to date by then."""

from planning_assets.jobs import DAILY_PLAN_JOB
from resources.store.due import read_plan_state
from resources.vocabulary import PROCUREMENT_PLANNING as NAME
from schedules.workflow import Workflow, plan_date_of, plan_is_due

PROCUREMENT_PLANNING = Workflow(
    name=NAME,
    job_name=DAILY_PLAN_JOB.name,
    op="daily_plan",
    due_column="procurement_planning_at",
    date_of=plan_date_of,
    read_state=read_plan_state,
    is_due=plan_is_due,
    description="Plans again the tenants whose inputs changed since production planning, and those it did not reach.",
)
