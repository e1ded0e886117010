"""Which forecaster serves a tenant: when a model is due for training, and whether a challenger takes over.

What belongs here: the rules of promotion, retirement and retraining, over figures that others measured, and what a serving
model is. What does not: measuring (`planning.training`), the model (`planning.boosting`), keeping it (`resources.store.models`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Literal

import pandas as pd

if TYPE_CHECKING:  # rules and figures need no engine
    from planning.boosting import Model
from planning.rules import BOOSTING, SEASONAL_NAIVE

CHALLENGER = BOOSTING
"""The candidate name of the model that was just trained."""

SERVING = "serving"
"""The candidate name of the model that serves now."""

NAIVE = SEASONAL_NAIVE

LEAST_GAIN_PCT = 2.0
"""By how much of the other's WAPE a candidate must be better to take its place. Less than that is within the noise of four
weeks, and changing the forecaster every few days makes its errors harder to explain."""

MAX_BIAS_PCT = 10.0
"""A model that is further off on average is not promoted, unless what would serve instead is further off still: when a
season turns everything is, and turning a model away for it would leave the bakery with the worse forecast."""

LEAST_DAYS_BETWEEN_ATTEMPTS = 7
MAX_MODEL_AGE_DAYS = 30
MAX_ERROR_PCT = 30.0
MAX_ERROR_RISE_POINTS = 5.0
"""Trailing WAPE above the first, or risen by more than the second in 30 days, is a reason to train."""

LEAST_UNSEEN_DAYS = 7
"""Days that the serving model has not been trained on, below which it is not compared: a week has every weekday."""

TOLERANCE_PCT = 1e-9
"""So that a gain of exactly the least one counts, whatever the last bit of its figures says."""

Action = Literal["promote", "keep", "retire"]
Trigger = Literal["manual", "first", "age", "error", "drift"]


@dataclass(frozen=True)
class ServingModel:
    """The champion of a tenant, ready to forecast.

    label: name and version as forecast rows carry it, such as `boosting@v3`. spread: the residual quantile table, as
    `planning.training` made it. backtest_wape_pct, in %: what it reached before it was promoted, NaN where undefined, and
    backtest_reason why it serves. trained_to: the last day that it has seen.
    """

    tenant_id: str
    version: int
    label: str
    model: "Model"
    spread: Mapping[str, object]
    backtest_wape_pct: float
    backtest_reason: str
    trained_to: date


@dataclass(frozen=True)
class Decision:
    """What becomes of a challenger, and why, in words with the figures.

    promote: the challenger serves. keep: what serves now goes on serving. retire: the serving model makes room for the rules.
    """

    action: Action
    reason: str


def decide(backtest: pd.DataFrame, unseen_days: int | None = None) -> Decision:
    """Whether the challenger takes over from what serves now.

    backtest: one row per candidate, all measured on the same rows: candidate (`boosting`, the challenger; `serving`, where
    a model serves; the others are rules), rows, wape_pct, bias_pct, NaN where undefined. What serves now is the serving
    model, else the best rule.

    The challenger is promoted when its WAPE is lower by at least LEAST_GAIN_PCT of the other's, its bias is at most
    MAX_BIAS_PCT either way or no larger than the other's, and it loses neither to seasonal naive at all nor to the best
    rule by LEAST_GAIN_PCT. Ties keep what serves. A serving model that loses to the best rule by LEAST_GAIN_PCT, and is
    not replaced, is retired. What is undefined never promotes.

    unseen_days: days of the backtest that the serving model was not trained on, where a model serves; with fewer than
    LEAST_UNSEEN_DAYS it stays. Raises ValueError when the challenger or seasonal naive is missing or rows differ.
    """
    figures = _figures(backtest)
    challenger, naive, serving = figures[CHALLENGER], figures[NAIVE], figures.get(SERVING)
    rules = {
        name: figure for name, figure in figures.items() if name not in (CHALLENGER, SERVING) and _is_known(figure)
    }
    best_rule = min(rules, key=lambda name: (rules[name].wape_pct, name), default=None)
    if serving is not None and unseen_days is not None and unseen_days < LEAST_UNSEEN_DAYS:
        return Decision(
            "keep",
            f"Triggered, not decidable: the serving model was trained {unseen_days} days before, and only days that it has "
            f"not seen count, at least {LEAST_UNSEEN_DAYS} of them. What serves stays.",
        )
    if best_rule is None or (serving is None and not _is_known(challenger)):
        return Decision("keep", f"Not decidable on {challenger.rows} rows: {_told(figures)}. What serves stays.")
    current = serving or rules[best_rule]
    current_name = "the serving model" if serving else best_rule
    against = f"WAPE {_pct(challenger.wape_pct)} against {_pct(current.wape_pct)} of {current_name}"
    on_rows = f"on {challenger.rows} rows ({_told(figures)})"
    objection = _objection(challenger, current, current_name, naive, rules[best_rule], best_rule)
    if objection is None:
        gain = _gain_pct(challenger.wape_pct, current.wape_pct)
        return Decision(
            "promote", f"Promoted: {against}, {_pct(gain)} better, bias {challenger.bias_pct:+.1f} %, {on_rows}."
        )
    if serving is not None and _gain_pct(rules[best_rule].wape_pct, serving.wape_pct) >= LEAST_GAIN_PCT - TOLERANCE_PCT:
        lost = f"WAPE {_pct(serving.wape_pct)} against {_pct(rules[best_rule].wape_pct)} of {best_rule}"
        return Decision(
            "retire", f"The serving model is retired: {lost}. Nor is the challenger better: {objection}, {on_rows}."
        )
    return Decision("keep", f"Triggered, not improvable: {objection}, {on_rows}.")


def trigger_due(
    on: date,
    attempted_on: date | None,
    trained_on: date | None,
    error_pct: float | None = None,
    error_rise_points: float | None = None,
) -> Trigger | None:
    """Why a tenant's model should be trained on a day; None when there is no reason, or the last attempt is too recent.

    attempted_on: the day of the last attempt, whatever came of it. trained_on: when the serving model was trained; None
    when none serves, which is a reason of its own. error_pct: trailing WAPE of the live forecasts, in %.
    error_rise_points: by how many points it has risen in 30 days. Both None where undefined. Training by hand asks nobody.
    """
    if attempted_on is not None and (on - attempted_on).days < LEAST_DAYS_BETWEEN_ATTEMPTS:
        return None
    if error_pct is not None and error_pct > MAX_ERROR_PCT:
        return "error"
    if error_rise_points is not None and error_rise_points > MAX_ERROR_RISE_POINTS:
        return "drift"
    if trained_on is None:
        # Rules that cannot be bettered are tried again as often as a model ages.
        is_waiting = attempted_on is not None and (on - attempted_on).days <= MAX_MODEL_AGE_DAYS
        return None if is_waiting else "first"
    return "age" if (on - trained_on).days > MAX_MODEL_AGE_DAYS else None


@dataclass(frozen=True)
class _Figure:
    rows: int
    wape_pct: float
    bias_pct: float


def _figures(backtest: pd.DataFrame) -> dict[str, _Figure]:
    figures = {
        str(row.candidate): _Figure(int(row.rows), float(row.wape_pct), float(row.bias_pct))
        for row in backtest.itertuples()
    }
    missing = [name for name in (CHALLENGER, NAIVE) if name not in figures]
    if missing:
        raise ValueError(f"The backtest lacks {', '.join(missing)}; it has {', '.join(figures) or 'no candidate'}.")
    if len({figure.rows for figure in figures.values()}) > 1:
        raise ValueError(f"The candidates were measured on different rows: {_told(figures)}.")
    return figures


def _objection(
    challenger: _Figure, current: _Figure, current_name: str, naive: _Figure, rule: _Figure, rule_name: str
) -> str | None:
    """Why the challenger is not promoted; None when nothing is against it."""
    if not _is_known(challenger) or not _is_known(current) or not _is_known(naive):
        return "a figure that it must be compared by is undefined"
    against = f"WAPE {_pct(challenger.wape_pct)} against {_pct(current.wape_pct)} of {current_name}"
    if _gain_pct(challenger.wape_pct, current.wape_pct) < LEAST_GAIN_PCT - TOLERANCE_PCT:
        return f"{against} is not {LEAST_GAIN_PCT:g} % better"
    if challenger.wape_pct > naive.wape_pct:
        return f"WAPE {_pct(challenger.wape_pct)} loses to {_pct(naive.wape_pct)} of {NAIVE}"
    if _gain_pct(rule.wape_pct, challenger.wape_pct) >= LEAST_GAIN_PCT - TOLERANCE_PCT:
        return f"WAPE {_pct(challenger.wape_pct)} loses to {_pct(rule.wape_pct)} of {rule_name}"
    if abs(challenger.bias_pct) > max(MAX_BIAS_PCT, abs(current.bias_pct)) + TOLERANCE_PCT:
        return (
            f"a bias of {challenger.bias_pct:+.1f} % is more than {MAX_BIAS_PCT:g} % and more than the "
            f"{current.bias_pct:+.1f} % of {current_name}"
        )
    return None


def _is_known(figure: _Figure) -> bool:
    return math.isfinite(figure.wape_pct) and math.isfinite(figure.bias_pct)


def _gain_pct(wape_pct: float, other_wape_pct: float) -> float:
    """By how much of the other's WAPE this one is lower, in %; negative when it is higher, NaN where undefined."""
    if other_wape_pct == 0:
        return 0.0 if wape_pct == 0 else -math.inf
    return 100 * (1 - wape_pct / other_wape_pct)


def _told(figures: Mapping[str, _Figure]) -> str:
    return ", ".join(f"{name} {_pct(figure.wape_pct)}" for name, figure in figures.items())


def _pct(value: float) -> str:
    return f"{value:.1f} %" if math.isfinite(value) else "undefined"
