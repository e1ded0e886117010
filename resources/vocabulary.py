"""The words that operators know: workflow names, log phrases, event types, alerts, metrics and their numbers.

Runbooks search logs and dashboards for exactly these, so nothing else in the project spells one of them out.
Whether and when something is logged, counted or fired is decided elsewhere.
"""

from types import MappingProxyType
from typing import Final

# ---------------------------------------------------------------- workflows

DAILY_OPERATIONS: Final = "daily_operations"
PRODUCTION_PLANNING: Final = "production_planning"
PROCUREMENT_PLANNING: Final = "procurement_planning"
INVENTORY_PROJECTION: Final = "inventory_projection"
FORECAST_VALIDATION: Final = "forecast_validation"
DAILY_SUMMARY: Final = "daily_summary"
WEEKLY_EVALUATION: Final = "weekly_evaluation"
WEEKLY_DIGEST: Final = "weekly_digest"
MONTHLY_CLEAN_UP: Final = "monthly_clean_up"
MODEL_TRAINING: Final = "model_training"

WORKFLOWS: Final = (
    DAILY_OPERATIONS,
    PRODUCTION_PLANNING,
    PROCUREMENT_PLANNING,
    INVENTORY_PROJECTION,
    FORECAST_VALIDATION,
    DAILY_SUMMARY,
    WEEKLY_EVALUATION,
    WEEKLY_DIGEST,
    MONTHLY_CLEAN_UP,
    MODEL_TRAINING,
)

EXECUTION_TYPES: Final = ("scheduled", "manual", "backfill", "retry")
EXECUTION_STATUSES: Final = ("pending", "running", "completed", "failed", "cancelled")

# ---------------------------------------------------------------- tenants

TENANT_TIERS: Final = ("starter", "professional", "enterprise")
TENANT_STATUSES: Final = ("active", "suspended", "cancelled")

# ---------------------------------------------------------------- settings and their defaults

DAILY_WORKFLOW_CRON: Final = "DAILY_WORKFLOW_CRON"
WEEKLY_WORKFLOW_CRON: Final = "WEEKLY_WORKFLOW_CRON"
DEFAULT_TIMEZONE_SETTING: Final = "DEFAULT_TIMEZONE"
MAX_WORKFLOW_DURATION_SETTING: Final = "MAX_WORKFLOW_DURATION_SECONDS"
SCHEDULER_DISABLED_SETTING: Final = "SCHEDULER_DISABLED"
TRAINING_RUNS_SETTING: Final = "DAYBREAK_TRAINING_RUNS"

DEFAULT_TIMEZONE: Final = "Europe/Madrid"
DAILY_WORKFLOW_CRON_DEFAULT: Final = "0 8 * * *"
WEEKLY_WORKFLOW_CRON_DEFAULT: Final = "0 22 * * 0"
MAX_WORKFLOW_DURATION_SECONDS: Final = 3600
MAX_RETRIES: Final = 3
RETRY_DELAY_SECONDS: Final = 300
FORECAST_STEP_LIMIT_SECONDS: Final = 300
PRODUCTION_STEP_LIMIT_SECONDS: Final = 180
PROCUREMENT_STEP_LIMIT_SECONDS: Final = 180

# ---------------------------------------------------------------- log phrases

SCHEDULER_STARTED: Final = "Production scheduler service started"
JOBS_CONFIGURED: Final = "scheduled jobs configured"
SCHEDULER_DISABLED: Final = "Scheduler disabled"
SCHEDULING_PAUSED: Final = "Scheduling paused"
SCHEDULING_RESUMED: Final = "Scheduling resumed"
PRODUCTION_PLANNING_COMPLETED: Final = "Daily production planning completed"
PRODUCTION_PLANNING_FAILED: Final = "Daily production planning failed completely"
PRODUCTION_SCHEDULE_CREATED: Final = "Production schedule created successfully"
PROCUREMENT_PLAN_GENERATED: Final = "Procurement plan generated successfully"
TENANT_PROCESSING_FAILED: Final = "Error processing tenant production"
TENANT_PROCESSING_TIMED_OUT: Final = "Tenant processing timed out"
TIMEZONE_NOT_FETCHED: Final = "Could not fetch tenant timezone"
CACHE_HIT: Final = "Forecast cache HIT"
CACHE_MISS: Final = "Forecast cache MISS"
CACHE_CONNECTION_FAILED: Final = "Forecast cache Redis connection failed"
APPROVING_STALE_PLAN: Final = "Approving plan older than 24 hours"
PLAN_REJECTION: Final = "plan rejection"
PLAN_REGENERATING: Final = "Auto-regenerating plan"
EVENT_NOT_PUBLISHED: Final = "Failed to publish event"
MIGRATION_MISMATCH: Final = "Migration version mismatch"
RETRY_SCHEDULED: Final = "Retry scheduled"
RETRY_EXECUTED: Final = "Retry executed successfully"
RETRIES_EXCEEDED: Final = "Max retries exceeded - moved to manual review"
MODEL_TRAINED: Final = "Forecast model trained"
MODEL_TRAINING_SKIPPED: Final = "Forecast model not trained"
MODEL_TRAINING_COMPLETED: Final = "Model training completed"
MODEL_TRAINING_FAILED: Final = "Model training failed completely"
ALERT_FIRING: Final = "Alert firing"
ALERT_REMINDER: Final = "Alert still firing"
ALERT_ESCALATED: Final = "Alert escalated"
ALERT_RESOLVED: Final = "Alert resolved"
ALERT_NOT_DELIVERED: Final = "Alert message given up"
RETRAINING_QUEUED: Final = "Model retraining queued"
RETRAINING_LAUNCHED: Final = "Model retraining launched"
MODEL_ROLLED_BACK: Final = "Forecast model rolled back"
WEEKLY_EVALUATION_COMPLETED: Final = "Weekly evaluation completed"

# ---------------------------------------------------------------- events, as rows of the outbox

EVENT_WORKFLOW_COMPLETED: Final = "orchestrator.workflow_completed"
EVENT_WORKFLOW_FAILED: Final = "orchestrator.workflow_failed"
EVENT_PROCUREMENT_PLAN_REJECTED: Final = "procurement.plan.rejected"
EVENT_PROCUREMENT_PLAN_APPROVED: Final = "procurement.plan.approved"
EVENT_PRODUCTION_PLAN_CREATED: Final = "production.plan.created"
EVENT_FORECAST_VALIDATED: Final = "forecast.validated"
EVENT_MODEL_PROMOTED: Final = "model.promoted"
EVENT_ALERT_FIRED: Final = "alert.fired"
EVENT_ALERT_RESOLVED: Final = "alert.resolved"
EVENT_ALERT_REMINDED: Final = "alert.reminded"
EVENT_ALERT_ESCALATED: Final = "alert.escalated"

# ---------------------------------------------------------------- alerts and targets

SEVERITIES: Final = ("critical", "high", "medium", "low")

SCHEDULER_UNHEALTHY: Final = "SchedulerUnhealthy"
NO_PRODUCTION_SCHEDULES_GENERATED: Final = "NoProductionSchedulesGenerated"
DAILY_PRODUCTION_PLANNING_FAILED: Final = "DailyProductionPlanningFailed"
FORECAST_CACHE_HIT_RATE_LOW: Final = "ForecastCacheHitRateLow"
FORECAST_ACCURACY_LOW: Final = "ForecastAccuracyLow"
VALIDATION_COVERAGE_LOW: Final = "ValidationCoverageLow"
REPORT_SCHEDULER_FAILED: Final = "ReportSchedulerFailed"
TENANT_SUCCESS_RATE_LOW: Final = "TenantSuccessRateLow"
PRODUCTION_GENERATION_SLOW: Final = "ProductionGenerationSlow"
PROCUREMENT_GENERATION_SLOW: Final = "ProcurementGenerationSlow"
PLAN_REJECTIONS_INCREASING: Final = "PlanRejectionsIncreasing"
RUN_FAILED: Final = "RunFailed"
PRODUCTION_PLAN_MISSING: Final = "ProductionPlanMissing"
PLANS_INVALID: Final = "PlansInvalid"
FORECASTS_INVALID: Final = "ForecastsInvalid"
QUANTILES_NOT_CALIBRATED: Final = "QuantilesNotCalibrated"
FORECAST_MODEL_OLD: Final = "ForecastModelOld"
FORECAST_MODEL_UNUSABLE: Final = "ForecastModelUnusable"
MODEL_TRAINING_NEEDS_REVIEW: Final = "ModelTrainingFailed"
FORECAST_VALIDATION_FAILED: Final = "ForecastValidationFailed"

ALERT_SEVERITY: Final = MappingProxyType(
    {
        SCHEDULER_UNHEALTHY: "critical",
        NO_PRODUCTION_SCHEDULES_GENERATED: "critical",
        DAILY_PRODUCTION_PLANNING_FAILED: "high",
        FORECAST_CACHE_HIT_RATE_LOW: "medium",
        FORECAST_ACCURACY_LOW: "medium",
        VALIDATION_COVERAGE_LOW: "medium",
        REPORT_SCHEDULER_FAILED: "high",
        TENANT_SUCCESS_RATE_LOW: "high",
        PRODUCTION_GENERATION_SLOW: "medium",
        PROCUREMENT_GENERATION_SLOW: "medium",
        PLAN_REJECTIONS_INCREASING: "low",
        RUN_FAILED: "high",
        PRODUCTION_PLAN_MISSING: "high",
        PLANS_INVALID: "high",
        FORECASTS_INVALID: "high",
        QUANTILES_NOT_CALIBRATED: "low",
        FORECAST_MODEL_OLD: "low",
        FORECAST_MODEL_UNUSABLE: "medium",
        MODEL_TRAINING_NEEDS_REVIEW: "medium",
        FORECAST_VALIDATION_FAILED: "medium",
    }
)

GENERATION_SLOW_SECONDS: Final = 120
GENERATION_TARGET_SECONDS: Final = 60
TENANT_SUCCESS_MIN_PCT: Final = 95.0
EXECUTION_SUCCESS_TARGET_PCT: Final = 99.9
CACHE_HIT_RATE_MIN_PCT: Final = 50.0
CACHE_HIT_RATE_TARGET_PCT: Final = 70.0
VALIDATION_COVERAGE_MIN_PCT: Final = 90.0
FORECAST_ERROR_MAX_PCT: Final = 30.0
ESCALATION_MINUTES: Final = (30, 60)
HEARTBEAT_MAX_AGE_MINUTES: Final = 5

# ---------------------------------------------------------------- metrics

PRODUCTION_SCHEDULES_GENERATED: Final = "production_schedules_generated_total"
PRODUCTION_GENERATION_DURATION: Final = "production_schedule_generation_duration_seconds"
PRODUCTION_TENANTS_PROCESSED: Final = "production_tenants_processed_total"
PROCUREMENT_PLANS_GENERATED: Final = "procurement_plans_generated_total"
PROCUREMENT_GENERATION_DURATION: Final = "procurement_plan_generation_duration_seconds"
PROCUREMENT_TENANTS_PROCESSED: Final = "procurement_tenants_processed_total"
PROCUREMENT_REJECTIONS: Final = "procurement_plan_rejections_total"
CACHE_HITS: Final = "forecast_cache_hits_total"
CACHE_MISSES: Final = "forecast_cache_misses_total"
CACHE_HIT_RATE: Final = "forecast_cache_hit_rate"
WORKFLOW_EXECUTIONS: Final = "orchestrator_workflow_executions_total"
WORKFLOW_DURATION: Final = "orchestrator_workflow_duration_seconds"
WORKFLOW_SUCCESS_RATE: Final = "orchestrator_workflow_success_rate_percentage"
TENANTS_PROCESSED: Final = "orchestrator_tenants_processed_total"
LEADER_INSTANCE: Final = "orchestrator_leader_instance"
RETRIES_SCHEDULED: Final = "retries_scheduled_total"
RETRIES_EXECUTED: Final = "retries_executed_total"
RETRIES_EXHAUSTED: Final = "retries_exhausted_total"
RETRY_QUEUE_DEPTH: Final = "retry_queue_depth"
SERVICE_UP: Final = "service_up"

WORKFLOW_DURATION_BUCKETS_SECONDS: Final = (60, 300, 600, 1200, 1800, 3600)
