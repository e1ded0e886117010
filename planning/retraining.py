"""When a model is trained again without a person asking, and whether one that was promoted keeps what it promised.

What belongs here: both rules, over figures that others measured. What does not: whether a challenger takes over
(`planning.champion`), measuring, the queue of those that are to be trained (`resources.store.retraining`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np
import pandas as pd

from planning.champion import MAX_ERROR_PCT, MAX_MODEL_AGE_DAYS, Trigger, trigger_due

LEAST_SALES_DAYS = 90
"""Days with sales below which no first model is tried: `planning.training.LEAST_OPEN_DAYS`, which a test holds equal."""

IMPROVEMENT_DAYS = 14
"""Live open days by which a promotion is judged, as many as possible of them before it."""

WATCHED_DAYS = 30
"""Days after a promotion within which it is judged; with fewer open days than LEAST_JUDGED_DAYS by then, it is undefined."""

LEAST_JUDGED_DAYS = 7

MAX_EXCESS_PCT = 10.0
"""By how much of seasonal naive's WAPE the model's may be higher on IMPROVEMENT_DAYS open days before it is rolled back."""

Verdict = Literal["waiting", "improved", "not_improved", "rolled_back", "undefined"]


@dataclass(frozen=True)
class Standing:
    """Where a tenant's training stands.

    attempted_on: the last attempt, whatever came of it. trained_on: when the serving model was made; trained_to: the last day
    that it has seen; None where the rules serve. sales_days: days with sales, counted up to LEAST_SALES_DAYS.
    """

    attempted_on: date | None
    trained_on: date | None
    trained_to: date | None
    sales_days: int
    last_sale_on: date | None


@dataclass(frozen=True)
class Evidence:
    """What live forecasts up to a day say against the model.

    error_pct: trailing WAPE in %; rise_points: by how many points it has risen; None where nothing is said against it. Each
    with its reason in words. product_ids: those above the threshold, the worst first.
    """

    on: date
    error_pct: float | None = None
    error_reason: str = ""
    rise_points: float | None = None
    rise_reason: str = ""
    product_ids: Sequence[str] = ()


@dataclass(frozen=True)
class Ask:
    """That a model is to be trained, and why."""

    trigger: Trigger
    reason: str
    product_ids: Sequence[str] = ()


def ask_of(on: date, standing: Standing, evidence: Evidence | None) -> Ask | None:
    """Whether a tenant's model is to be trained on a day, by `champion.trigger_due`; None when it is not.

    Nothing is asked of a tenant that could not have a model yet, nor where it would be the same one: an old model is trained
    again once there are sales that it has not seen, and errors of days before the last attempt are no reason for another.
    """
    if standing.trained_on is None and standing.sales_days < LEAST_SALES_DAYS:
        return None
    if evidence is not None and standing.attempted_on is not None and evidence.on < standing.attempted_on:
        evidence = None
    trigger = trigger_due(
        on,
        standing.attempted_on,
        standing.trained_on,
        None if evidence is None else evidence.error_pct,
        None if evidence is None else evidence.rise_points,
    )
    if trigger == "error" and evidence is not None:
        return Ask(trigger, evidence.error_reason, tuple(evidence.product_ids))
    if trigger == "drift" and evidence is not None:
        return Ask(trigger, evidence.rise_reason, tuple(evidence.product_ids))
    if trigger == "first":
        return Ask(trigger, f"No model serves, and sales of {standing.sales_days} days or more are known.")
    if trigger == "age" and standing.trained_on is not None and _has_news(standing):
        days = (on - standing.trained_on).days
        return Ask(trigger, f"The serving model is {days} days old, more than {MAX_MODEL_AGE_DAYS}.")
    return None


def evidence_of_days(days: pd.DataFrame, products: pd.DataFrame, last: date) -> Evidence:
    """The error of the days through `last`.

    days: error_units, actual_units, one row per open day. products: product_id, error_units, actual_units, over the same days.
    """
    error_pct = wape_pct(float(days["error_units"].sum()), float(days["actual_units"].sum()))
    if not error_pct > MAX_ERROR_PCT:
        return Evidence(last)
    by_product = products.groupby("product_id", sort=True)[["error_units", "actual_units"]].sum()
    above = by_product[100 * by_product["error_units"] > MAX_ERROR_PCT * by_product["actual_units"]]
    worst = above.sort_values("error_units", ascending=False, kind="stable")
    reason = f"WAPE of {len(days)} open days through {last} is {error_pct:.1f} %, above {MAX_ERROR_PCT:g} %."
    return Evidence(last, error_pct, reason, product_ids=tuple(str(product_id) for product_id in worst.index))


@dataclass(frozen=True)
class LiveError:
    """The error of live forecasts over open days, beside seasonal naive on the same rows, in %; NaN where undefined."""

    days: int
    wape_pct: float
    naive_wape_pct: float


def live_error(days: pd.DataFrame) -> LiveError:
    """The error over open days: error_units, naive_error_units, actual_units, one row each."""
    error, naive, actual = (float(days[name].sum()) for name in ("error_units", "naive_error_units", "actual_units"))
    return LiveError(len(days), wape_pct(error, actual), wape_pct(naive, actual))


def verdict_of(since: LiveError, latest: LiveError, before: LiveError, is_over: bool) -> Verdict:
    """Whether a promoted model is better on live days than what it replaced was before.

    since: the first IMPROVEMENT_DAYS open days that it forecast, latest: the last ones, before: those before the promotion.
    is_over: WATCHED_DAYS have passed. Seasons are taken out by comparing each with seasonal naive on the same rows: the model is
    an improvement when its WAPE is a smaller part of naive's than before, or, where that is undefined, smaller than naive's.
    It is to be rolled back when the latest days are IMPROVEMENT_DAYS and over MAX_EXCESS_PCT worse than naive.
    """
    if latest.days >= IMPROVEMENT_DAYS and latest.wape_pct > latest.naive_wape_pct * (1 + MAX_EXCESS_PCT / 100):
        return "rolled_back"
    if since.days < IMPROVEMENT_DAYS and not is_over:
        return "waiting"
    part, part_before = _part_of_naive(since), _part_of_naive(before)
    if since.days < LEAST_JUDGED_DAYS or np.isnan(part):
        return "undefined"
    return "improved" if part < (1.0 if np.isnan(part_before) else part_before) else "not_improved"


def wape_pct(error_units: float, actual_units: float) -> float:
    """Absolute error in % of what was sold; NaN where nothing was."""
    return 100 * error_units / actual_units if actual_units > 0 else np.nan


def _part_of_naive(error: LiveError) -> float:
    return error.wape_pct / error.naive_wape_pct if error.naive_wape_pct > 0 else np.nan


def _has_news(standing: Standing) -> bool:
    return (
        standing.last_sale_on is not None
        and standing.trained_to is not None
        and standing.last_sale_on > standing.trained_to
    )
