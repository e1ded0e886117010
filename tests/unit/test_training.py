"""Training and replaying: held-out days are not seen, the same data gives the same model, and errors are told truly."""

import numpy as np
import pandas as pd
import pytest

from planning.backtest import CHAMPION, rolling_backtest
from planning.boosting import load_model
from planning.champion import ServingModel, decide
from planning.forecasting import forecast_demand
from planning.frames import Panel, PlanningError
from planning.origins import Replay
from planning.quantiles import Spread, forecast_curve, scale_units
from planning.rules import CANDIDATES
from planning.scoring import score
from planning.training import HELD_OUT_DAYS, Challenger, TrainingRows, data_hash, train_challenger
from tests.unit.demand_samples import WEEK, day, seasonal_demand, tenant

DAYS = 420


@pytest.fixture(scope="module")
def challenger() -> Challenger:
    return train_challenger(*tenant(seasonal_demand(6, DAYS)))


class TestChallenger:
    def test_it_names_what_it_was_made_of(self, challenger):
        assert (challenger.trained_from, challenger.trained_to) == (day(0), day(DAYS - 1))
        assert (challenger.backtest_from, challenger.backtest_to) == (day(DAYS - HELD_OUT_DAYS), day(DAYS - 1))
        assert challenger.series == 6
        assert challenger.rows > 6 * (DAYS - 20)
        assert load_model(challenger.artefact).algorithm == challenger.algorithm

    def test_the_same_history_gives_the_same_model_and_another_another(self, challenger):
        again = train_challenger(*tenant(seasonal_demand(6, DAYS)))
        assert again.artefact == challenger.artefact
        assert again.data_hash == challenger.data_hash
        pd.testing.assert_frame_equal(again.backtest, challenger.backtest)
        changed = seasonal_demand(6, DAYS)
        changed[2, 200] += 1
        assert data_hash(*tenant(changed)) != challenger.data_hash

    def test_all_candidates_are_compared_on_the_same_rows_by_their_plain_figures(self, challenger):
        demand = seasonal_demand(6, DAYS)
        backtest = challenger.backtest.set_index("candidate")
        assert set(backtest.index) == {"boosting", *CANDIDATES}
        origins = range(DAYS - HELD_OUT_DAYS - 1, DAYS - 1)
        pairs = [(o, h) for o in origins for h in range(1, 9) if o + h < DAYS]
        assert backtest["rows"].tolist() == [6 * len(pairs)] * 4
        # Seasonal naive by hand: the same weekday of the last week known.
        naive = np.stack([demand[:, o + h - 7 * (1 + (h - 1) // 7)] for o, h in pairs])
        actual = np.stack([demand[:, o + h] for o, h in pairs])
        assert backtest.loc["seasonal_naive", "wape_pct"] == pytest.approx(
            100 * abs(naive - actual).sum() / actual.sum()
        )
        assert backtest.loc["seasonal_naive", "mae_units"] == pytest.approx(abs(naive - actual).mean())

    def test_the_model_that_is_tried_has_not_seen_the_held_out_days(self, challenger):
        changed = seasonal_demand(6, DAYS)
        changed[:, -1] *= 5
        other = train_challenger(*tenant(changed)).residuals
        is_before = (challenger.residuals["target_on"] < day(DAYS - 1)).to_numpy()
        pd.testing.assert_frame_equal(other[is_before], challenger.residuals[is_before])
        assert (other["residual"] - challenger.residuals["residual"])[~is_before].min() > 0

    def test_sold_out_days_are_not_compared(self):
        history, calendar = tenant(seasonal_demand(4, 200))
        history["is_sold_out"][1, -HELD_OUT_DAYS:] = True
        backtest = train_challenger(history, calendar).backtest
        plain = train_challenger(*tenant(seasonal_demand(4, 200))).backtest
        assert backtest["rows"].iloc[0] == plain["rows"].iloc[0] * 3 // 4

    def test_residuals_are_what_the_spread_is_made_of(self, challenger):
        made = Spread.of(
            challenger.residuals["residual"].to_numpy(), challenger.residuals["volume_class"].to_numpy(), 1.2
        )
        kept = Spread.from_json(challenger.spread)
        assert kept is not None
        np.testing.assert_array_equal(made.by_class, kept.by_class)
        np.testing.assert_allclose(made.class_means, kept.class_means)
        assert set(challenger.residuals["target_on"]) == {day(n) for n in range(DAYS - HELD_OUT_DAYS, DAYS)}

    def test_importances_are_told_by_group(self, challenger):
        assert sum(challenger.importances.values()) == pytest.approx(1)
        assert challenger.importances["promotions"] == 0

    def test_too_little_history_is_refused_with_the_remedy(self):
        with pytest.raises(PlanningError, match=r"80 open days of sales are too few.*Remedy"):
            train_challenger(*tenant(seasonal_demand(3, 80)))

    def test_two_tenants_are_not_one(self):
        history, calendar = tenant(seasonal_demand(2, 120))
        history.keys.loc[1, "tenant_id"] = "b"
        with pytest.raises(PlanningError, match="one tenant at a time"):
            train_challenger(history, calendar)

    def test_what_serves_is_compared_only_on_days_that_it_has_not_seen(self):
        demand = seasonal_demand(4, 260)
        history, calendar = tenant(demand)
        earlier = train_challenger(*tenant(demand[:, :250]))
        found = train_challenger(history, calendar, serving_of(earlier))
        rows = found.backtest.set_index("candidate")["rows"]
        assert rows["serving"] == rows["boosting"] == 4 * sum(min(8, 259 - origin) for origin in range(249, 259))


def serving_of(challenger: Challenger) -> ServingModel:
    return ServingModel(
        tenant_id=challenger.tenant_id,
        version=3,
        label="boosting@v3",
        model=load_model(challenger.artefact),
        spread=challenger.spread,
        backtest_wape_pct=1.0,
        backtest_reason="Promoted",
        trained_to=challenger.trained_to,
    )


class TestForecastByModel:
    def forecast(self, demand, challenger, events=None, lead=0, days=DAYS):
        history, calendar = tenant(demand, events)
        products = history.keys[["tenant_id", "product_id"]].assign(daily_estimate_units=np.nan)
        tenants = pd.DataFrame({"tenant_id": ["a"], "run_date": [day(days)]})
        models = {"a": serving_of(challenger)}
        return forecast_demand(history, calendar, products, tenants, day(days + lead), models)

    def test_the_row_names_the_model_its_version_and_why(self, challenger):
        keys = self.forecast(seasonal_demand(6, DAYS), challenger).panel.keys
        assert set(keys["method"]) == {"boosting"}
        assert set(keys["model_version"]) == {"boosting@v3"}
        assert keys["method_reason"].str.startswith("Promoted; spread from").all()

    def test_it_says_what_the_replay_says_of_the_same_morning(self, challenger):
        demand = seasonal_demand(6, DAYS + 8)
        history, calendar = tenant(demand)
        replay = Replay.of(history, calendar)
        rows = replay.rows(DAYS - 1, DAYS - 1)
        mean = replay.model_means(load_model(challenger.artefact), rows)
        panel = self.forecast(demand[:, :DAYS], challenger).panel
        expected = panel["raw_mean_units"][rows.series, rows.horizon_days - 1]
        np.testing.assert_allclose(mean, expected, rtol=1e-12)

    def test_a_bakery_that_plans_the_day_before_is_forecast_one_day_further(self, challenger):
        demand = seasonal_demand(6, DAYS)
        ahead = self.forecast(demand, challenger, lead=1).panel["raw_mean_units"]
        today = self.forecast(demand, challenger).panel["raw_mean_units"]
        np.testing.assert_array_equal(ahead[:, :13], today[:, 1:])

    def test_a_new_product_has_its_own_mean_until_the_model_can_say_something(self, challenger):
        demand = seasonal_demand(6, DAYS)
        demand[2, :-5] = np.nan
        keys = self.forecast(demand, challenger).panel.keys
        assert keys["method"].tolist() == ["boosting", "boosting", "own_mean", "boosting", "boosting", "boosting"]

    def test_a_product_new_at_one_location_takes_what_it_sells_at_the_others(self, challenger):
        history, calendar = tenant(np.full((4, DAYS), 20.0))
        history.keys["location_id"] = ["big", "big", "small", "small"]
        history.keys["product_id"] = ["bread", "cake", "bread", "cake"]
        history["demand_units"][2] = 5
        history["demand_units"][3] = np.nan
        products = pd.DataFrame(
            {"tenant_id": ["a"] * 2, "product_id": ["bread", "cake"], "daily_estimate_units": np.nan}
        )
        tenants = pd.DataFrame({"tenant_id": ["a"], "run_date": [day(DAYS)]})
        panel = forecast_demand(history, calendar, products, tenants, day(DAYS)).panel
        row = panel.keys.index[(panel.keys["location_id"] == "small") & (panel.keys["product_id"] == "cake")]
        assert panel.keys.loc[row, "method"].tolist() == ["analogue"]
        # The small shop sells 5 where the big one sells 40 in all, so an eighth of its 20 cakes.
        np.testing.assert_allclose(panel["mean_units"][row], 20 * 5 / 40)


class TestCurve:
    def test_the_mean_is_the_curves_and_holds_the_recent_mean_error(self):
        rng = np.random.default_rng(3)
        mean = rng.gamma(2, 10, (40, 14))
        residual = rng.normal(0.4, 1, 5000)
        spread = Spread.of(residual, rng.integers(0, 4, 5000), 1.3).of_classes(rng.integers(0, 4, 40))
        corrected, curve = forecast_curve(mean, spread)
        expected = mean + scale_units(mean) * spread.mean_residual[:, None]
        np.testing.assert_allclose(corrected, expected)
        assert (np.diff(curve, axis=-1) >= 0).all()

    def test_json_keeps_a_spread_and_another_versions_is_told_apart(self):
        spread = Spread.of(np.random.default_rng(1).normal(size=300), np.arange(300) % 3, 1.2)
        kept = Spread.from_json(spread.as_json())
        assert kept is not None
        for name, value in vars(spread).items():
            np.testing.assert_array_equal(getattr(kept, name), value)
        assert Spread.from_json({**spread.as_json(), "levels": [0.5]}) is None
        assert Spread.from_json({k: v for k, v in spread.as_json().items() if k != "class_means"}) is None

    def test_a_class_with_few_residuals_takes_the_tenants_and_a_tenant_with_few_an_assumed_spread(self):
        residual = np.random.default_rng(1).normal(size=100)
        classes = np.r_[np.zeros(90, dtype=int), np.ones(10, dtype=int)]
        found = Spread.of(residual, classes, 1.0).of_classes(np.array([0, 1, 3]))
        assert found.source.tolist() == [0, 1, 1]
        assert found.counts.tolist() == [90, 100, 100]
        assert Spread.of(residual[:20], classes[:20], 1.0).of_classes(np.array([0])).source.tolist() == [2]


@pytest.fixture(scope="module")
def rolled():
    return rolling_backtest(*tenant(seasonal_demand(8, 330)), days=42)


class TestRollingBacktest:
    def test_every_open_day_is_forecast_from_each_of_the_mornings_before_it(self, rolled):
        assert len(rolled.series) == 8 * sum(min(7, 329 - origin) for origin in range(287, 329))
        assert set(rolled.horizon_days) == set(range(1, 8))
        assert (rolled.target - rolled.origin == rolled.horizon_days.astype("timedelta64[D]")).all()

    def test_seasonal_naive_is_the_last_week(self, rolled):
        demand = seasonal_demand(8, 330)
        column = (rolled.target - np.datetime64(day(0), "D")).astype(int)
        np.testing.assert_array_equal(rolled.actual_units, demand[rolled.series, column])
        np.testing.assert_array_equal(rolled.mean_units["seasonal_naive"], demand[rolled.series, column - 7])

    def test_every_candidate_has_a_mean_and_ascending_quantiles_for_every_row(self, rolled):
        for name, mean in rolled.mean_units.items():
            assert np.isfinite(mean).all(), name
            assert (np.diff(rolled.quantile_units[name], axis=1) >= 0).all(), name
        assert set(rolled.mean_units) == {CHAMPION, "boosting", *CANDIDATES}

    def test_quantiles_of_steady_demand_cover_what_they_promise(self):
        steady = np.random.default_rng(6).poisson(20 * np.tile(WEEK, 40), (20, 280)).astype(float)
        models = score(rolling_backtest(*tenant(steady), days=56))["models"]
        for name in ("champion", "boosting", "weekday_mean_8w"):
            assert max(models[name]["coverage_gap_pct"].values()) < 3, name

    def test_the_future_does_not_change_what_was_said_before_it(self):
        demand = seasonal_demand(5, 240)
        later = demand.copy()
        later[:, -7:] *= 4
        one, other = (rolling_backtest(*tenant(matrix), days=28) for matrix in (demand, later))
        is_before = one.target < np.datetime64(day(233), "D")
        for name, mean in one.mean_units.items():
            np.testing.assert_array_equal(mean[is_before], other.mean_units[name][is_before], err_msg=name)
            np.testing.assert_array_equal(
                one.quantile_units[name][is_before], other.quantile_units[name][is_before], err_msg=name
            )

    def test_tenants_are_replayed_each_for_themselves(self):
        demand = seasonal_demand(6, 200)
        both, calendar = tenant(demand)
        both.keys.loc[3:, "tenant_id"] = "b"
        alone, alone_calendar = both.select(np.arange(3)), calendar.select(np.arange(3))
        together = rolling_backtest(both, calendar, days=14)
        single = rolling_backtest(alone, alone_calendar, days=14)
        mine = together.series < 3
        np.testing.assert_array_equal(together.mean_units["champion"][mine], single.mean_units["champion"])

    def test_without_a_model_the_rules_compete_alone(self):
        rows = rolling_backtest(*tenant(seasonal_demand(4, 100)), days=28)
        np.testing.assert_array_equal(rows.mean_units["boosting"], rows.mean_units["champion"])
        assert set(rows.champions["candidate"]) <= set(CANDIDATES)

    @pytest.mark.parametrize(("options", "words"), [({"horizon_days": 9}, "1 to 8"), ({"days": 195}, "do not hold")])
    def test_what_cannot_be_replayed_is_refused(self, options, words):
        with pytest.raises(PlanningError, match=words):
            rolling_backtest(*tenant(seasonal_demand(2, 200)), **options)

    def test_a_group_that_is_left_out_changes_the_model_alone(self):
        history = tenant(seasonal_demand(4, 240))
        whole, without = (rolling_backtest(*history, days=14, without=groups) for groups in ((), ("lags", "weekdays")))
        assert not np.array_equal(whole.mean_units["boosting"], without.mean_units["boosting"])
        np.testing.assert_array_equal(whole.mean_units["weekday_mean_8w"], without.mean_units["weekday_mean_8w"])


def test_promotions_are_learnt_and_known_beforehand():
    demand = seasonal_demand(6, DAYS)
    rng = np.random.default_rng(4)
    promoted = sorted(rng.choice(DAYS, 80, replace=False).tolist())
    demand[:, promoted] *= 2.5
    events = [(None, None, day(n), "promotion", "Offer") for n in [*promoted, DAYS + 2]]
    history, calendar = tenant(demand, events)
    found = train_challenger(history, calendar)
    assert decide(found.backtest).action == "promote"
    assert found.importances["promotions"] > 0.1
    forecast = TestForecastByModel().forecast(demand, found, events).panel["mean_units"].sum(axis=0)
    assert forecast[2] > 1.8 * forecast[9]


def test_a_location_that_is_closed_for_a_month_keeps_its_forecast():
    demand = seasonal_demand(5, DAYS)
    closed = demand.copy()
    closed[:, -31:] = np.nan
    history, calendar = tenant(closed)
    found = train_challenger(Panel(history.keys, history.values, history.first_day), calendar)
    forecast = TestForecastByModel().forecast(closed, found).panel
    assert set(forecast.keys["method"]) == {"boosting"}
    usual = demand[:, -31:].mean(axis=1)
    np.testing.assert_allclose(forecast["mean_units"][:, :7].mean(axis=1), usual, rtol=0.5)


def test_after_a_long_closure_the_replay_says_what_the_morning_says_and_training_is_not_led_astray():
    demand = seasonal_demand(4, 330)
    demand[:, 200:290] = np.nan
    history, calendar = tenant(demand)
    found = train_challenger(history, calendar)
    replay = Replay.of(history, calendar)
    training = TrainingRows.of(replay, seed=1)
    assert training.shares.max() < 200, "demand over the level of a window without a day would be in the thousands"
    rows = replay.rows(262, 289)
    assert len(rows)
    mean = replay.model_means(load_model(found.artefact), rows)
    np.testing.assert_array_equal(mean, replay.rule_means(rows)["seasonal_naive"])
    before = demand[:, :280].copy()
    panel = TestForecastByModel().forecast(before, found, days=280).panel
    assert set(panel.keys["method"]) == {"seasonal_naive"}
