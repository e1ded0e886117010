"""What is claimed of forecasts, models and plans, and whether it holds: one result per tenant and claim.

What belongs here: the thresholds, the trailing errors that they are applied to, and the words in which a result is told.
What does not: reading the figures and keeping the results (`resources.store.checks`), telling anybody (`planning_assets.checks`),
and what follows from a failure. A claim about which too little is known is undefined; it is neither kept nor broken.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final, Literal

import numpy as np
import pandas as pd

from planning.champion import MAX_ERROR_PCT, MAX_ERROR_RISE_POINTS, MAX_MODEL_AGE_DAYS

TRAILING_ERROR: Final = "trailing_error_is_below_threshold"
ERROR_RISE: Final = "error_has_not_risen"
CALIBRATION: Final = "quantiles_are_calibrated"
COVERAGE: Final = "actuals_cover_forecasts"
MODEL_AGE: Final = "model_is_younger_than_30_days"
FORECASTS_COMPLETE: Final = "forecasts_are_complete_and_not_negative"
PLAN_INVARIANTS: Final = "plans_meet_their_invariants"
TODAYS_PLAN: Final = "every_active_tenant_has_todays_plan"
STAYS_FAILED: Final = "no_partition_stays_failed"

CHECKED_ASSETS: Final = {
    TRAILING_ERROR: "validation_metrics",
    ERROR_RISE: "validation_metrics",
    CALIBRATION: "validation_metrics",
    COVERAGE: "validation_metrics",
    MODEL_AGE: "forecast_models",
    FORECASTS_COMPLETE: "forecasts",
    PLAN_INVARIANTS: "production_plans",
    TODAYS_PLAN: "production_plans",
    STAYS_FAILED: "production_plans",
}
"""Claim -> the asset that it is about."""

TRAILING_DAYS = 28
"""Open days over which errors are weighed: four of every weekday."""

LEAST_OPEN_DAYS = 7
"""Fewer open days than a week say more about their weekdays than about the forecasts."""

RISE_DAYS = 30
READ_DAYS = TRAILING_DAYS + RISE_DAYS + 1
"""Open days through a day, in which both the trailing days and those of RISE_DAYS before lie."""

WARN_ERROR_PCT = 20.0
CALIBRATED_LEVELS = (0.1, 0.5, 0.9)
CALIBRATION_POINTS = 5.0
LEAST_CALIBRATION_ROWS = 200
LEAST_COVERAGE_PCT = 90.0

MOST_PRODUCTS = 20
"""Products that a result names."""

TOLERANCE = 1e-9
"""So that a figure of exactly the threshold keeps the claim, whatever its last bit says."""

Measure = Literal["wape", "mape"]
Status = Literal["passed", "warned", "failed", "undefined"]

MEASURES: tuple[Measure, ...] = ("wape", "mape")
MEASURE_NAMES: Final = {"wape": "WAPE", "mape": "MAPE"}


@dataclass(frozen=True)
class CheckResult:
    """What a claim about a tenant came to. value, threshold: in the unit of the claim, None where undefined."""

    tenant_id: str
    check_name: str
    status: Status
    value: float | None
    threshold: float | None
    message: str
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def asset(self) -> str:
        """The asset that the claim is about."""
        return CHECKED_ASSETS[self.check_name]


@dataclass(frozen=True)
class Trailing:
    """A tenant's error over the open days that end on a day, in %; None with fewer than LEAST_OPEN_DAYS, or nothing sold.

    days: how many there are, at most TRAILING_DAYS. first_on, last_on: the first and last of them, None without any.
    """

    error_pct: float | None
    days: int
    first_on: date | None = None
    last_on: date | None = None


def trailing_error(days: pd.DataFrame, on: date, measure: Measure = "wape") -> Trailing:
    """The error of one tenant's last TRAILING_DAYS open days through `on`.

    days: one row per validated day: business_date, rows_used, rows_zero, actual_units, mae_units, mape_pct. A day is open
    when something was sold. By WAPE it is the absolute error of all days in % of the units sold; by MAPE the mean of the
    absolute errors in % over all rows with sales.
    """
    is_open = (days["rows_used"] > 0) & (days["actual_units"] > 0) & (days["business_date"] <= on)
    chosen = days[is_open].sort_values("business_date").tail(TRAILING_DAYS)
    if chosen.empty:
        return Trailing(None, 0)
    first_on, last_on = chosen["business_date"].iloc[0], chosen["business_date"].iloc[-1]
    if len(chosen) < LEAST_OPEN_DAYS:
        return Trailing(None, len(chosen), first_on, last_on)
    if measure == "wape":
        error = 100 * (chosen["mae_units"] * chosen["rows_used"]).sum() / chosen["actual_units"].sum()
    else:
        relative_rows = chosen["rows_used"] - chosen["rows_zero"]
        error = (chosen["mape_pct"] * relative_rows).sum() / relative_rows.sum()
    return Trailing(float(error), len(chosen), first_on, last_on)


def error_level(error_pct: float | None) -> Status:
    """Whether a trailing error is fine, to be watched, or too high."""
    if error_pct is None:
        return "undefined"
    if error_pct > MAX_ERROR_PCT + TOLERANCE:
        return "failed"
    return "warned" if error_pct > WARN_ERROR_PCT + TOLERANCE else "passed"


def check_trailing_error(
    tenant_id: str,
    on: date,
    trailing: Trailing,
    day_error_pct: float | None,
    products: pd.DataFrame,
    measure: Measure = "wape",
) -> CheckResult:
    """The error of the trailing open days is below its threshold.

    day_error_pct: of the day alone, which is shown beside it. products: those of the same days: location_id ('' where all
    are meant), product_id, error_pct (by the measure), wape_pct, units (sold), money (lost by their plans, NaN where
    unknown); the details name those above the threshold, the most money first.
    """
    name = MEASURE_NAMES[measure]
    status = error_level(trailing.error_pct)
    details: dict[str, Any] = {
        "measure": measure,
        "day_error_pct": _rounded(day_error_pct),
        "open_days": trailing.days,
        "products": [],
    }
    if trailing.error_pct is None:
        return CheckResult(tenant_id, TRAILING_ERROR, status, None, MAX_ERROR_PCT, _too_few(trailing), details)
    threshold = WARN_ERROR_PCT if status == "warned" else MAX_ERROR_PCT
    if status != "passed":
        details["products"] = products_above(products, threshold)
    of_day = "undefined" if day_error_pct is None else f"{day_error_pct:.1f} %"
    message = (
        f"{name} {trailing.error_pct:.1f} % over {trailing.days} open days since {trailing.first_on}, "
        f"{'above' if status != 'passed' else 'not above'} {threshold:g} %; {of_day} on {on} itself."
    )
    return CheckResult(tenant_id, TRAILING_ERROR, status, trailing.error_pct, threshold, message, details)


def products_above(products: pd.DataFrame, threshold_pct: float) -> list[dict[str, Any]]:
    """The products whose error is above a threshold, those that lost the most money first, then by units missed."""
    above = products[products["error_pct"] > threshold_pct]
    missed = above["wape_pct"] * above["units"]
    ranked = above.assign(missed=missed).sort_values(
        ["money", "missed", "product_id", "location_id"], ascending=[False, False, True, True], na_position="last"
    )
    return [
        {
            "location_id": row.location_id,
            "product_id": row.product_id,
            "wape_pct": _rounded(row.wape_pct),
            "units": _rounded(row.units),
            "money": _rounded(row.money),
        }
        for row in ranked.head(MOST_PRODUCTS).itertuples()
    ]


def check_error_rise(tenant_id: str, trailing: Trailing, earlier: Trailing, measure: Measure = "wape") -> CheckResult:
    """The trailing error has not risen by more than MAX_ERROR_RISE_POINTS in RISE_DAYS.

    earlier: the trailing error as it was RISE_DAYS before.
    """
    details: dict[str, Any] = {"measure": measure, "open_days": trailing.days, "open_days_before": earlier.days}
    if trailing.error_pct is None or earlier.error_pct is None:
        which = trailing if trailing.error_pct is None else earlier
        message = f"{_too_few(which)}{'' if which is trailing else f' That is how it was {RISE_DAYS} days before.'}"
        return CheckResult(tenant_id, ERROR_RISE, "undefined", None, MAX_ERROR_RISE_POINTS, message, details)
    rise = trailing.error_pct - earlier.error_pct
    details["error_pct"], details["error_before_pct"] = _rounded(trailing.error_pct), _rounded(earlier.error_pct)
    message = (
        f"{MEASURE_NAMES[measure]} {trailing.error_pct:.1f} % against {earlier.error_pct:.1f} % {RISE_DAYS} days before: "
        f"{rise:+.1f} points."
    )
    status: Status = "failed" if rise > MAX_ERROR_RISE_POINTS + TOLERANCE else "passed"
    return CheckResult(tenant_id, ERROR_RISE, status, rise, MAX_ERROR_RISE_POINTS, message, details)


def check_calibration(tenant_id: str, days: pd.DataFrame, on: date) -> CheckResult:
    """Each of CALIBRATED_LEVELS lies within CALIBRATION_POINTS of the shares of demand below and at most its quantile.

    days: business_date, rows_used, quantile_coverage and quantile_below (level as text -> share of the rows). Units are
    counted, and what sells little often sells exactly its quantile: a calibrated level lies between the two shares, and
    need equal neither. The value is the largest distance from there, in points. Days validated before the share below
    was kept do not count.
    """
    counted = [isinstance(below, Mapping) and len(below) > 0 for below in days["quantile_below"]]
    is_open = np.array(counted, dtype=bool) & ((days["rows_used"] > 0) & (days["business_date"] <= on)).to_numpy()
    chosen = days[is_open].sort_values("business_date").tail(TRAILING_DAYS)
    rows = int(chosen["rows_used"].sum())
    details: dict[str, Any] = {"rows": rows, "open_days": len(chosen), "levels": {}}
    if rows < LEAST_CALIBRATION_ROWS:
        message = (
            f"{rows} forecasts with actuals over {len(chosen)} open days; from {LEAST_CALIBRATION_ROWS} on shares mean "
            "something."
        )
        return CheckResult(tenant_id, CALIBRATION, "undefined", None, CALIBRATION_POINTS, message, details)
    weight = chosen["rows_used"].to_numpy(dtype=float)
    gaps: dict[str, float] = {}
    for level in CALIBRATED_LEVELS:
        name = f"{level:g}"
        below, at_most = (
            float(100 * (np.array([shares[name] for shares in chosen[column]], dtype=float) * weight).sum() / rows)
            for column in ("quantile_below", "quantile_coverage")
        )
        gaps[name] = max(below - 100 * level, 100 * level - at_most, 0.0)
        details["levels"][name] = {"below_pct": _rounded(below), "at_most_pct": _rounded(at_most)}
    worst = max(gaps, key=lambda name: gaps[name])
    shares = details["levels"][worst]
    message = (
        f"Of {rows} actuals {shares['below_pct']:.1f} % were below the {worst} quantile and {shares['at_most_pct']:.1f} % at "
        f"most it; that is {gaps[worst]:.1f} points off, the most of the levels {', '.join(gaps)}."
    )
    status: Status = "failed" if gaps[worst] > CALIBRATION_POINTS + TOLERANCE else "passed"
    return CheckResult(tenant_id, CALIBRATION, status, gaps[worst], CALIBRATION_POINTS, message, details)


def check_coverage(tenant_id: str, on: date, days: pd.DataFrame) -> CheckResult:
    """At least LEAST_COVERAGE_PCT of the day's forecasts have an actual.

    days: business_date, rows_used, rows_without_actual, coverage_pct; without a row of the day it is undefined.
    """
    rows = days[days["business_date"] == on]
    if rows.empty or pd.isna(rows["coverage_pct"].iloc[0]):
        message = f"Nothing was forecast to be open on {on} and nothing was sold."
        return CheckResult(tenant_id, COVERAGE, "undefined", None, LEAST_COVERAGE_PCT, message)
    (day,) = rows.itertuples()
    total = int(day.rows_used + day.rows_without_actual)
    message = f"{int(day.rows_used)} of {total} forecasts of {on} have an actual, {day.coverage_pct:.1f} %."
    details = {"rows_used": int(day.rows_used), "rows_without_actual": int(day.rows_without_actual)}
    status: Status = "failed" if day.coverage_pct < LEAST_COVERAGE_PCT - TOLERANCE else "passed"
    return CheckResult(tenant_id, COVERAGE, status, float(day.coverage_pct), LEAST_COVERAGE_PCT, message, details)


def check_model_age(tenant_id: str, on: date, version: int | None, trained_on: date | None) -> CheckResult:
    """The model that serves was trained at most MAX_MODEL_AGE_DAYS before; undefined where rules serve."""
    threshold = float(MAX_MODEL_AGE_DAYS)
    if version is None or trained_on is None:
        return CheckResult(tenant_id, MODEL_AGE, "undefined", None, threshold, "Rules serve; they do not age.")
    # A day of the past is checked by the model of today, which may be younger than it.
    age = max((on - trained_on).days, 0)
    status: Status = "failed" if age > MAX_MODEL_AGE_DAYS else "passed"
    message = f"v{version} serves; it was trained on {trained_on}, {age} days before {on}."
    details = {"version": int(version), "trained_on": trained_on.isoformat()}
    return CheckResult(tenant_id, MODEL_AGE, status, float(age), threshold, message, details)


def check_faults(check_name: str, tenant_id: str, lines: int, faults: Mapping[str, int], example: str) -> CheckResult:
    """No line of a tenant's plans has a fault.

    lines: how many were looked at; with none it is undefined. faults: what is wrong -> how many lines. example: one of
    them, in words; empty without a fault. The value is their number.
    """
    if not lines:
        return CheckResult(tenant_id, check_name, "undefined", None, 0.0, "There is no active plan of this date.")
    found = {name: int(count) for name, count in faults.items() if count}
    count = float(sum(found.values()))
    if not found:
        return CheckResult(tenant_id, check_name, "passed", 0.0, 0.0, f"{lines} lines are in order.", {"lines": lines})
    told = ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in sorted(found.items()))
    message = f"{lines} lines: {told}, such as {example}."
    return CheckResult(tenant_id, check_name, "failed", count, 0.0, message, {"lines": lines, "faults": found})


def check_todays_plan(tenant_id: str, plan_date: date, has_plan: bool, deadline: str) -> CheckResult:
    """An active tenant has its plan by its deadline. deadline: local time and zone in words."""
    message = f"{plan_date} {'has a plan' if has_plan else 'has no plan'}; it was due by {deadline}."
    status: Status = "passed" if has_plan else "failed"
    return CheckResult(tenant_id, TODAYS_PLAN, status, float(has_plan), 1.0, message)


def check_stays_failed(tenant_id: str, failures: Sequence[Mapping[str, Any]]) -> CheckResult:
    """Nothing of a tenant waits for a person. failures: workflow, plan_date, link, reason, remedy of those that do."""
    if not failures:
        return CheckResult(tenant_id, STAYS_FAILED, "passed", 0.0, 0.0, "Nothing waits for a person.")
    first = failures[0]
    message = (
        f"{len(failures)} failures wait for a person, such as {first['link']} of {first['plan_date']}: {first['reason']} "
        f"{first['remedy']}"
    )
    details = {
        "failures": [
            {"workflow": each["workflow"], "plan_date": str(each["plan_date"]), "link": each["link"]}
            for each in failures[:MOST_PRODUCTS]
        ]
    }
    return CheckResult(tenant_id, STAYS_FAILED, "failed", float(len(failures)), 0.0, message, details)


def _too_few(trailing: Trailing) -> str:
    return f"{trailing.days} open days were validated; from {LEAST_OPEN_DAYS} on their error means something."


def _rounded(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), 2)
