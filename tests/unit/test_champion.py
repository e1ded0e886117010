"""The rules by which a model takes over, stays or goes, on figures made by hand."""

from datetime import date, timedelta

import pandas as pd
import pytest

from planning.champion import decide, trigger_due

NAN = float("nan")
TODAY = date(2026, 3, 2)


def backtest(rows: int = 840, **wape_pct: float | tuple[float, float]) -> pd.DataFrame:
    """Candidates with their WAPE, or WAPE and bias, in %. Seasonal naive and the weekday mean are there unless given."""
    figures = {"seasonal_naive": 36.0, "weekday_mean_8w": 32.0} | wape_pct
    pairs = {name: value if isinstance(value, tuple) else (value, 1.0) for name, value in figures.items()}
    return pd.DataFrame(
        [(name, rows, wape, bias) for name, (wape, bias) in pairs.items()],
        columns=["candidate", "rows", "wape_pct", "bias_pct"],
    )


@pytest.mark.parametrize(
    ("wape_pct", "action"),
    [
        ({"boosting": 28.0, "serving": 29.0}, "promote"),
        ({"boosting": 29.4, "serving": 30.0}, "promote"),  # 2 % exactly
        ({"boosting": 29.5, "serving": 30.0}, "keep"),
        ({"boosting": 30.0, "serving": 30.0}, "keep"),  # a tie keeps the champion
        ({"boosting": 31.0, "serving": 30.0}, "keep"),
        ({"boosting": 31.36}, "promote"),  # no model serves: the best rule does
        ({"boosting": 31.5}, "keep"),
        ({"boosting": (28.0, 10.0), "serving": 30.0}, "promote"),
        ({"boosting": (28.0, 10.1), "serving": 30.0}, "keep"),
        ({"boosting": (28.0, -10.1), "serving": 30.0}, "keep"),
        # When a season turns everything is biased: a large bias does not stand against a larger one of what would serve.
        ({"boosting": (28.0, -12.0), "serving": (30.0, -17.0)}, "promote"),
        ({"boosting": (28.0, -12.0), "serving": (30.0, 12.0)}, "promote"),
        ({"boosting": (28.0, -12.1), "serving": (30.0, 12.0)}, "keep"),
        ({"boosting": (28.0, -12.0), "weekday_mean_8w": (32.0, -17.0)}, "promote"),
    ],
)
def test_a_challenger_takes_over_by_two_percent_without_bias(wape_pct: dict[str, float], action: str) -> None:
    assert decide(backtest(**wape_pct)).action == action


def test_a_challenger_that_loses_to_seasonal_naive_never_serves() -> None:
    lost = backtest(boosting=36.5, serving=45.0, seasonal_naive=36.0, weekday_mean_8w=NAN)
    assert decide(lost).action == "retire", "the model that serves is worse than seasonal naive too"
    even = backtest(boosting=36.0, serving=45.0, seasonal_naive=36.0, weekday_mean_8w=37.0)
    assert decide(even).action == "promote"


def test_a_challenger_that_loses_clearly_to_a_rule_does_not_take_a_bad_champions_place() -> None:
    """It would be retired by the same rows the next time."""
    decision = decide(backtest(boosting=33.0, serving=40.0))
    assert decision.action == "retire"
    assert "weekday_mean_8w" in decision.reason


@pytest.mark.parametrize(("serving", "action"), [(32.6, "keep"), (32.65, "keep"), (32.66, "retire"), (40.0, "retire")])
def test_a_champion_that_loses_to_the_best_rule_by_two_percent_is_retired(serving: float, action: str) -> None:
    assert decide(backtest(boosting=34.0, serving=serving)).action == action


def test_where_no_model_serves_and_a_rule_is_better_nothing_changes_and_the_record_says_so() -> None:
    decision = decide(backtest(boosting=33.0))
    assert decision.action == "keep"
    assert decision.reason.startswith("Triggered, not improvable")
    for figure in ("33.0 %", "32.0 %", "weekday_mean_8w", "840 rows"):
        assert figure in decision.reason


def test_a_promotion_names_its_figures() -> None:
    reason = decide(backtest(boosting=27.0, serving=30.0)).reason
    for figure in ("27.0 %", "30.0 %", "10.0 % better", "+1.0 %", "seasonal_naive 36.0 %", "840 rows"):
        assert figure in reason


@pytest.mark.parametrize(
    "wape_pct",
    [
        {"boosting": NAN, "serving": 30.0},
        {"boosting": (28.0, NAN), "serving": 30.0},
        {"boosting": 28.0, "serving": NAN},
        {"boosting": NAN},
        {"boosting": 28.0, "seasonal_naive": NAN},
        {"boosting": NAN, "serving": NAN, "seasonal_naive": NAN, "weekday_mean_8w": NAN},
    ],
)
def test_what_is_undefined_never_promotes(wape_pct: dict[str, float]) -> None:
    decision = decide(backtest(**wape_pct))
    assert decision.action == "keep"
    assert "undefined" in decision.reason


def test_nothing_sold_at_all_is_not_a_reason_to_change() -> None:
    nothing = backtest(rows=0, boosting=NAN, serving=NAN, seasonal_naive=NAN, weekday_mean_8w=NAN)
    assert decide(nothing).action == "keep"


def test_a_perfect_rule_is_not_improvable() -> None:
    assert decide(backtest(boosting=0.0, seasonal_naive=0.0, weekday_mean_8w=0.0)).action == "keep"
    assert decide(backtest(boosting=0.1, serving=1.0, seasonal_naive=0.0)).action == "retire"


def test_candidates_on_different_rows_are_not_compared() -> None:
    mixed = pd.concat([backtest(boosting=20.0), backtest(rows=7, other=1.0).tail(1)])
    with pytest.raises(ValueError, match="different rows"):
        decide(mixed)
    with pytest.raises(ValueError, match="lacks boosting"):
        decide(backtest())


def test_a_champion_that_has_seen_the_days_is_not_compared_on_them() -> None:
    better = backtest(boosting=20.0, serving=40.0)
    assert decide(better, unseen_days=6).action == "keep"
    assert "6 days" in decide(better, unseen_days=6).reason
    assert decide(better, unseen_days=7).action == "promote"


def days_ago(days: int | None) -> date | None:
    return None if days is None else TODAY - timedelta(days=days)


@pytest.mark.parametrize(
    ("attempted", "trained", "error_pct", "rise", "trigger"),
    [
        (None, None, None, None, "first"),
        (6, 40, 90.0, 50.0, None),  # too soon, whatever the error
        (7, 7, 30.1, None, "error"),
        (7, 7, 30.0, None, None),
        (7, 7, None, 5.1, "drift"),
        (7, 7, 29.0, 5.0, None),
        (30, 30, 10.0, 0.0, None),
        (31, 31, 10.0, 0.0, "age"),
        (8, None, None, None, None),  # the rules could not be bettered a week ago
        (31, None, None, None, "first"),
        (8, None, 40.0, None, "error"),
    ],
)
def test_training_is_due_by_age_error_or_drift_and_at_most_once_a_week(
    attempted: int | None, trained: int | None, error_pct: float | None, rise: float | None, trigger: str | None
) -> None:
    assert trigger_due(TODAY, days_ago(attempted), days_ago(trained), error_pct, rise) == trigger
