"""The rules that compete, the choice among them, their spread, and a real bakery replayed."""

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planning import quantiles
from planning.calendar import SERIES, Calendar, build_calendar
from planning.censoring import NOT_SOLD_OUT
from planning.demand import build_demand_history
from planning.forecasting import Forecasts, forecast_demand
from planning.frames import PLAN_DAYS, QUANTILE_LEVELS, Panel, PlanningError
from planning.rules import CANDIDATES, candidate_slots, last_same_weekday, own_mean
from tests.unit.examples import few_examples

NAN = float("nan")
PLAN_DATE = date(2024, 6, 3)  # a Monday
FRENCH_BAKERY = Path(__file__).parents[3] / "shared" / "data" / "french_bakery" / "daily_sales.csv"


def keys_of(*series: tuple[str, str, str]) -> pd.DataFrame:
    return pd.DataFrame(series, columns=SERIES)


def history_of(keys: pd.DataFrame, demand: np.ndarray, last_day: date = PLAN_DATE - timedelta(1)) -> Panel:
    demand = np.asarray(demand, dtype=float)
    return Panel(keys, {"demand_units": demand}, last_day - timedelta(demand.shape[1] - 1))


def calendar_of(history: Panel, days: int) -> Calendar:
    """Open every day, without any event."""
    opening = pd.DataFrame(columns=["tenant_id", "location_id", "weekday"])
    events = pd.DataFrame(columns=[*SERIES, "business_date", "kind", "name"])
    return build_calendar(history.keys, history.first_day, days, opening, events)


def forecast(history: Panel, *, estimates=None, lead=None, is_open=None, plan_date=PLAN_DATE) -> Forecasts:
    products = history.keys[["tenant_id", "product_id"]].drop_duplicates()
    estimated = [(estimates or {}).get(product, NAN) for product in products["product_id"]]
    tenant_ids = list(history.keys["tenant_id"].unique())
    leads = [(lead or {}).get(tenant_id, 0) for tenant_id in tenant_ids]
    first = history.column(plan_date)
    calendar = calendar_of(history, max(first + PLAN_DAYS, history.days))
    if is_open is not None:
        calendar.is_open[:, first : first + PLAN_DAYS] = is_open
    return forecast_demand(
        history,
        calendar,
        products.assign(daily_estimate_units=estimated),
        pd.DataFrame({"tenant_id": tenant_ids, "run_date": [plan_date - timedelta(days) for days in leads]}),
        plan_date,
    )


def noisy_demand(seed: int, series: int, days: int = 140) -> np.ndarray:
    rng = np.random.default_rng(seed)
    week = np.array([0.7, 0.8, 0.9, 1.0, 1.3, 1.6, 1.2])
    level = rng.gamma(2, 6, size=(series, 1))
    demand = rng.poisson(level * week[np.arange(days) % 7]).astype(float)
    demand[rng.random((series, days)) < 0.05] = NAN
    return demand


BREAD = keys_of(("a", "shop", "bread"))
WEEK = np.array([10.0, 20, 30, 40, 50, 60, 70])


class TestCandidates:
    """Slots follow the weekday: the panel ends on a Sunday, so slot 0 is Monday."""

    def slots(self, demand: np.ndarray) -> dict[str, np.ndarray]:
        history = np.atleast_2d(demand)
        last_seen = history.copy()
        for day in range(7, history.shape[1]):
            last_seen[:, day] = np.where(np.isnan(history[:, day]), last_seen[:, day - 7], history[:, day])
        return {
            name: slots[0]
            for name, slots in zip(CANDIDATES, candidate_slots(history, last_seen, history.shape[1]), strict=True)
        }

    def test_a_steady_week_is_repeated_by_every_candidate(self):
        for name, slots in self.slots(np.tile(WEEK, 8)).items():
            np.testing.assert_allclose(slots, WEEK, err_msg=name)

    def test_seasonal_naive_is_the_last_open_same_weekday(self):
        demand = np.tile(WEEK, 8)
        demand[-7:] = 99
        demand[-7] = NAN
        assert self.slots(demand)["seasonal_naive"].tolist() == [10, *[99] * 6]

    def test_the_weekday_mean_leaves_closed_days_out(self):
        demand = np.tile(WEEK, 8)
        demand[0:7] = 2 * WEEK
        demand[7:28:7] = NAN
        mondays = (20 + 4 * 10) / 5
        np.testing.assert_allclose(self.slots(demand)["weekday_mean_8w"], [mondays, *(WEEK[1:] * 9 / 8)])

    def test_a_weekday_that_was_never_open_is_unknown(self):
        demand = np.tile(WEEK, 8)
        demand[6::7] = NAN
        for name, slots in self.slots(demand).items():
            assert np.isnan(slots).tolist() == [False] * 6 + [True], name

    def test_the_level_follows_a_recent_rise_that_the_mean_misses(self):
        demand = np.tile(WEEK, 8)
        demand[-14:] *= 2
        slots = self.slots(demand)
        np.testing.assert_allclose(slots["weekday_mean_8w"], WEEK * 10 / 8)
        assert (slots["weekday_mean_x_level"] > 1.9 * WEEK).all()
        assert (slots["weekday_mean_x_level"] < 2 * WEEK).all()

    def test_a_product_that_stopped_selling_has_a_forecast_of_nothing(self):
        for name, slots in self.slots(np.zeros(56)).items():
            assert not slots.any(), name

    def test_own_mean_is_of_the_last_eight_weeks_else_of_the_last_known_week(self):
        demand = np.array([[*[100.0] * 7, *WEEK.tolist() * 8], [*WEEK, *[NAN] * 56], [NAN] * 63])
        last_seen = np.array([demand[0], np.tile(WEEK, 9), demand[2]])
        np.testing.assert_array_equal(own_mean(demand, last_seen, 63), [40, 40, NAN])


class TestForecast:
    def test_days_run_from_the_plan_date_and_extended_days_repeat_the_last_forecast_week(self):
        panel = forecast(history_of(BREAD, np.tile(WEEK, 12)[None])).panel
        assert panel.first_day == PLAN_DATE
        np.testing.assert_allclose(panel["mean_units"][0], np.tile(WEEK, 2))
        assert panel.keys["last_history_on"].tolist() == [PLAN_DATE - timedelta(1)]

    def test_a_bakery_that_plans_a_day_ahead_forecasts_the_same_dates_from_one_day_less(self):
        history = history_of(BREAD, np.tile(WEEK, 12)[None])
        history["demand_units"][0, -1] = 10_000  # the day that has not happened yet when this bakery plans
        panel = forecast(history, lead={"a": 1}).panel
        np.testing.assert_allclose(panel["mean_units"][0], np.tile(WEEK, 2))
        assert panel.keys["last_history_on"].tolist() == [PLAN_DATE - timedelta(2)]

    def test_a_history_that_ends_early_keeps_its_weekdays(self):
        panel = forecast(history_of(BREAD, np.tile(WEEK, 12)[None, :-3], PLAN_DATE - timedelta(4))).panel
        np.testing.assert_allclose(panel["mean_units"][0], np.tile(WEEK, 2))

    def test_closed_days_sell_nothing_at_any_level(self):
        is_open = np.ones((1, 14), dtype=bool)
        is_open[0, [0, 6, 9]] = False
        panel = forecast(history_of(BREAD, noisy_demand(1, 1)), is_open=is_open).panel
        assert not panel["mean_units"][~is_open].any()
        assert not panel["quantile_units"][~is_open].any()
        assert (panel["mean_units"][is_open] > 0).all()

    def test_a_weekday_without_history_takes_the_own_mean_and_says_so(self):
        demand = np.tile(WEEK, 12)
        demand[6::7] = NAN
        panel = forecast(history_of(BREAD, demand[None])).panel
        np.testing.assert_allclose(panel["mean_units"][0, 6], 35)
        assert "own mean on weekdays without history" in panel.keys["method_reason"].iloc[0]

    def test_a_young_series_uses_the_mean_of_its_days(self):
        demand = np.full((1, 100), NAN)
        demand[0, -4:] = [1, 2, 3, 6]
        panel = forecast(history_of(BREAD, demand), estimates={"bread": 50}).panel
        assert panel.keys[["method", "model_version"]].iloc[0].tolist() == ["own_mean", "own_mean@2"]
        assert "fewer than 7 open days" in panel.keys["method_reason"].iloc[0]
        np.testing.assert_allclose(panel["mean_units"], 3)

    def test_without_history_the_owners_estimate_is_used_and_named(self):
        panel = forecast(history_of(BREAD, np.full((1, 100), NAN)), estimates={"bread": 12}).panel
        assert panel.keys["method"].tolist() == ["owner_estimate"]
        assert panel.keys["last_history_on"].tolist() == [None]
        assert "assumed" in panel.keys["method_reason"].iloc[0]
        np.testing.assert_allclose(panel["mean_units"], 12)

    def test_a_product_that_nothing_is_known_of_is_an_exception_and_never_zero(self):
        keys = keys_of(("a", "shop", "bread"), ("a", "shop", "mystery"), ("b", "shop", "mystery"))
        demand = np.full((3, 100), NAN)
        demand[0] = 5
        result = forecast(history_of(keys, demand))
        assert result.panel.keys["product_id"].tolist() == ["bread"]
        assert result.exceptions[["tenant_id", "subject_id", "code"]].to_numpy().tolist() == [
            ["a", "mystery", "no_history"],
            ["b", "mystery", "no_history"],
        ]
        assert result.exceptions["remedy"].str.len().gt(0).all()

    def test_an_empty_batch_has_an_empty_forecast(self):
        result = forecast(history_of(BREAD.iloc[:0], np.zeros((0, 100))))
        assert len(result.panel) == len(result.backtest) == len(result.exceptions) == len(result.set_aside) == 0
        assert result.panel["quantile_units"].shape == (0, 14, 9)


class TestChampion:
    def champion(self, demand: np.ndarray) -> tuple[str, pd.DataFrame]:
        keys = keys_of(*(("a", "shop", f"p{row:02d}") for row in range(len(demand))))
        result = forecast(history_of(keys, demand))
        return result.panel.keys["method"].iloc[0], result.backtest

    def test_steady_noisy_demand_is_best_met_by_the_mean(self):
        rng = np.random.default_rng(5)
        assert self.champion(rng.poisson(np.tile(WEEK, 16), size=(6, 112)))[0] == "weekday_mean_8w"

    def test_a_changing_level_is_best_met_by_the_level(self):
        rng = np.random.default_rng(5)
        season = np.exp(np.linspace(0, 1, 112)) * np.tile(WEEK / 5, 16)
        assert self.champion(rng.poisson(season, size=(6, 112)))[0] == "weekday_mean_x_level"

    def test_seasonal_naive_wins_a_tie(self):
        champion, backtest = self.champion(np.tile(WEEK, 16)[None])
        assert champion == "seasonal_naive"
        assert backtest["wape_pct"].tolist() == [0, 0, 0]

    def test_the_backtest_scores_all_candidates_on_the_same_rows_by_wape(self):
        demand = np.full((1, 84), 10.0)
        demand[0, -1] = 20
        _, backtest = self.champion(demand)
        # Horizons 1 to 8 of 28 origins, without the 28 pairs that end after the last day; 8 of them meet the 20.
        assert backtest["method"].tolist() == list(CANDIDATES)
        assert backtest["rows"].tolist() == [196] * 3
        assert backtest["wape_pct"].iloc[0] == pytest.approx(100 * 80 / (188 * 10 + 8 * 20))
        assert backtest["bias_pct"].iloc[0] == pytest.approx(-100 * 80 / (188 * 10 + 8 * 20))

    def test_too_little_history_keeps_naive_and_says_so(self):
        demand = np.full((1, 100), NAN)
        demand[0, -18:] = noisy_demand(2, 1, 18)[0] + 1
        champion, backtest = self.champion(np.nan_to_num(demand, nan=NAN))
        assert champion == "seasonal_naive"
        assert backtest["is_champion"].tolist() == [True, False, False]
        reason = forecast(history_of(BREAD, demand)).panel.keys["method_reason"].iloc[0]
        assert "until the rules can be compared on 14 days" in reason
        assert "spread assumed" in reason

    def test_each_tenant_has_its_own_champion(self):
        rng = np.random.default_rng(5)
        steady = rng.poisson(np.tile(WEEK, 16), size=(6, 112))
        rising = rng.poisson(np.exp(np.linspace(0, 1, 112)) * np.tile(WEEK / 5, 16), size=(6, 112))
        keys = keys_of(*((tenant, "shop", f"p{row}") for tenant in ("a", "b") for row in range(6)))
        result = forecast(history_of(keys, np.concatenate([steady, rising])))
        best = result.backtest[result.backtest["is_champion"]].set_index("tenant_id")["method"]
        assert best.to_dict() == {"a": "weekday_mean_8w", "b": "weekday_mean_x_level"}
        assert result.panel.keys.groupby("tenant_id")["method"].unique().map(list).to_dict() == {
            "a": ["weekday_mean_8w"],
            "b": ["weekday_mean_x_level"],
        }


class TestSpread:
    def test_grouped_quantiles_agree_with_numpy(self):
        rng = np.random.default_rng(1)
        values, groups = rng.normal(size=500), rng.integers(0, 3, size=500)
        found, counts = quantiles.grouped_quantiles(values, groups, 4)
        for group in range(3):
            expected = np.quantile(values[groups == group], QUANTILE_LEVELS, method="weibull")
            np.testing.assert_allclose(found[group], expected)
        assert np.isnan(found[3]).all()
        assert counts.tolist() == [*np.bincount(groups), 0]

    def test_volume_classes_are_the_quarters_of_each_tenant(self):
        tenant = np.array([0] * 8 + [1] * 2)
        volume = np.array([8.0, 7, 6, 5, 4, 3, 2, NAN, 1, 100])
        assert quantiles.volume_classes(tenant, volume).tolist() == [3, 3, 2, 2, 1, 1, 0, 0, 0, 2]

    def test_the_assumed_spread_has_its_mean_and_variance(self):
        rng = np.random.default_rng(2)
        for mean in (0.5, 8.0, 120.0):
            variance = mean + (0.3 * mean) ** 2
            drawn = rng.gamma(mean**2 / variance, variance / mean, size=400_000)
            found = quantiles.assumed_spread(np.array([[mean]]))[0, 0]
            np.testing.assert_allclose(found, np.quantile(drawn, QUANTILE_LEVELS), rtol=0.05, atol=0.02)
        assert not quantiles.assumed_spread(np.zeros((1, 1))).any()

    def test_quantiles_cover_poisson_demand_as_promised(self):
        rng = np.random.default_rng(4)
        keys = keys_of(*((tenant, "shop", f"p{row:02d}") for tenant in "abcd" for row in range(40)))
        demand = rng.poisson(40, size=(160, 119)).astype(float)
        panel = forecast(history_of(keys, demand[:, :112])).panel
        assert "residuals of its volume class" in panel.keys["method_reason"].iloc[0]
        within = (demand[:, 112:, None] <= panel["quantile_units"][:, :7]).mean(axis=(0, 1))
        np.testing.assert_allclose(within, QUANTILE_LEVELS, atol=0.05)

    def test_extended_days_are_at_least_as_uncertain_as_the_same_weekday_before(self):
        keys = keys_of(*(("a", "shop", f"p{row:02d}") for row in range(5)))
        units = forecast(history_of(keys, 30 + noisy_demand(3, 5))).panel["quantile_units"]
        width = units[..., -1] - units[..., 0]
        assert (width[:, 7:] >= width[:, :7] - 1e-9).all()


class TestRefusals:
    @pytest.mark.parametrize("value", [-1.0, float("inf")])
    def test_a_tenant_with_impossible_demand_is_set_aside(self, value):
        keys = keys_of(("a", "shop", "bread"), ("b", "shop", "bread"))
        demand = noisy_demand(1, 2)
        demand[0, 100] = value
        result = forecast(history_of(keys, demand))
        assert result.set_aside["tenant_id"].tolist() == ["a"]
        assert result.panel.keys["tenant_id"].tolist() == ["b"]
        assert set(result.backtest["tenant_id"]) == {"b"}

    def test_a_tenant_with_an_impossible_estimate_is_set_aside(self):
        result = forecast(history_of(BREAD, noisy_demand(1, 1)), estimates={"bread": -2})
        assert "daily estimate of product bread: -2 units" in result.set_aside["reason"].iloc[0]
        assert len(result.panel) == 0

    def test_a_run_date_after_the_plan_date_is_refused(self):
        with pytest.raises(PlanningError, match="Tenant a runs after"):
            forecast(history_of(BREAD, noisy_demand(1, 1)), lead={"a": -1})

    def test_a_calendar_of_other_series_or_days_is_refused(self):
        history = history_of(BREAD, noisy_demand(1, 1))
        products = pd.DataFrame({"tenant_id": ["a"], "product_id": ["bread"], "daily_estimate_units": [NAN]})
        tenants = pd.DataFrame({"tenant_id": ["a"], "run_date": [PLAN_DATE]})
        later = history_of(BREAD, noisy_demand(1, 1, 130))
        two = history_of(keys_of(("a", "shop", "bread"), ("a", "shop", "cake")), noisy_demand(1, 2))
        for other in (later, two):
            with pytest.raises(PlanningError, match="does not fit the history"):
                forecast_demand(history, calendar_of(other, 200), products, tenants, PLAN_DATE)


class TestLastSameWeekday:
    def test_a_missing_day_takes_the_last_known_same_weekday(self):
        demand = np.tile(WEEK, 3)[None, :].astype(float)
        demand[0, 13] = NAN
        longer = np.concatenate([demand, np.full((1, 10), NAN)], axis=1)
        np.testing.assert_array_equal(last_same_weekday(longer)[0], np.tile(WEEK, 5)[:31])
        assert np.isnan(longer[0, 13]), "what was given is not changed"

    def test_nothing_is_known_before_the_first_same_weekday(self):
        filled = last_same_weekday(np.array([[NAN, 1.0, 0.0, NAN, NAN, NAN, NAN, NAN, NAN, 5.0]]))
        np.testing.assert_array_equal(filled, [[NAN, 1, 0, NAN, NAN, NAN, NAN, NAN, 1, 5]])


def assert_same_forecast(one: Panel, other: Panel) -> None:
    pd.testing.assert_frame_equal(one.keys, other.keys)
    for name, matrix in one.values.items():
        np.testing.assert_array_equal(matrix, other[name], err_msg=name)


@st.composite
def batches(draw: st.DrawFn) -> tuple[Panel, dict[str, int]]:
    """Three tenants with histories of different lengths, gaps and volumes, one planning a day ahead."""
    series = draw(st.integers(1, 4))
    days = draw(st.integers(1, 120))
    demand = noisy_demand(draw(st.integers(0, 10_000)), 3 * series, days)
    for row, missing in enumerate(draw(st.lists(st.integers(0, 130), min_size=3 * series, max_size=3 * series))):
        demand[row, :missing] = NAN
    keys = keys_of(*((tenant, "shop", f"p{row}") for tenant in ("a", "m", "z") for row in range(series)))
    return history_of(keys, demand), {"a": 0, "m": draw(st.integers(0, 1)), "z": 1}


@pytest.mark.filterwarnings("error")
class TestInvariants:
    @few_examples
    @given(batches())
    def test_quantiles_ascend_are_not_negative_and_hold_the_mean_between_them(self, batch):
        panel = forecast(batch[0], lead=batch[1], estimates={"p0": 3}).panel
        units, mean = panel["quantile_units"], panel["mean_units"]
        assert np.isfinite(units).all()
        assert (units >= 0).all()
        assert (np.diff(units, axis=-1) >= 0).all()
        assert (units[..., 0] <= mean).all()
        assert (mean <= units[..., -1]).all()

    @few_examples
    @given(batches())
    def test_another_tenant_in_the_batch_changes_nothing_to_the_bit(self, batch):
        history, lead = batch
        together = forecast(history, lead=lead)
        for tenant_id in ("a", "m", "z"):
            mine = (history.keys["tenant_id"] == tenant_id).to_numpy()
            alone = forecast(history.select(mine), lead=lead)
            kept = (together.panel.keys["tenant_id"] == tenant_id).to_numpy()
            assert_same_forecast(alone.panel, together.panel.select(kept))
            same = together.backtest[together.backtest["tenant_id"] == tenant_id].reset_index(drop=True)
            pd.testing.assert_frame_equal(alone.backtest, same, check_exact=True)

    @few_examples
    @given(batches(), st.randoms())
    def test_row_order_does_not_matter(self, batch, random):
        history, lead = batch
        straight = forecast(history, lead=lead).panel
        order = np.array(random.sample(range(len(history)), len(history)))
        mixed = forecast(history.select(order), lead=lead).panel
        back = mixed.keys.sort_values(SERIES).index.to_numpy()
        assert_same_forecast(straight, mixed.select(back))

    @few_examples
    @given(batches(), st.floats(0, 1000))
    def test_nothing_from_the_run_date_on_is_used(self, batch, later):
        history, lead = batch
        known = forecast(history, lead=lead)
        demand = np.concatenate([history["demand_units"], np.full((len(history), 9), later)], axis=1)
        for tenant_id, days in lead.items():
            of_tenant = (history.keys["tenant_id"] == tenant_id).to_numpy()
            demand[of_tenant, history.days - days :] = later
        longer = Panel(history.keys, {"demand_units": demand}, history.first_day)
        assert_same_forecast(known.panel, forecast(longer, lead=lead).panel)


def french_sales() -> Panel:
    """Products still sold in the last 84 days, in whole units; the file holds revenue, and lines that nobody bakes."""
    sales = pd.read_csv(FRENCH_BAKERY)
    sales = sales[sales["unit_price"] > 0]
    not_baked = ("COUPE", "REDUCTION", "ARTICLE", "DIVERS", "TRAITEUR", "FORMULE", "CAFE OU", "BOISSON", "THE")
    sales = sales[~sales["unique_id"].str.startswith(not_baked)]
    sales["units"] = np.round(sales["y"] / sales["unit_price"])
    table = sales.pivot_table(index="unique_id", columns="ds", values="units", aggfunc="sum")
    table = table.reindex(columns=pd.date_range("2021-01-02", "2022-09-30").strftime("%Y-%m-%d"))
    table = table[((table > 0).sum(axis=1) >= 14) & (table.iloc[:, -84:] > 0).any(axis=1)]
    keys = pd.DataFrame({"tenant_id": "french", "location_id": "shop", "product_id": table.index.astype(str)})
    units = table.to_numpy(dtype=float)
    minute = np.full(units.shape, NOT_SOLD_OUT, dtype=np.int16)
    return Panel(keys, {"sales_units": units, "sold_out_minute": minute}, date(2021, 1, 2))


@pytest.mark.skipif(not FRENCH_BAKERY.exists(), reason="the bakery's sales are not kept with the project")
def test_on_a_real_bakery_the_champion_beats_naive_and_its_quantiles_cover():
    sales = french_sales()
    opening = pd.DataFrame(columns=["tenant_id", "location_id", "weekday"])
    events = pd.DataFrame(columns=[*SERIES, "business_date", "kind", "name"])
    profiles = pd.DataFrame(columns=[*SERIES, "weekday", "hour", "share"])
    last = sales.dates[-1]

    def history_before(run_date: date) -> tuple[Panel, pd.DataFrame]:
        tenants = pd.DataFrame({"tenant_id": ["french"], "run_date": [run_date]})
        return build_demand_history(sales, tenants, opening, events, profiles).panel, tenants

    actual = history_before(last + timedelta(1))[0]["demand_units"]
    error = naive_error = sold = within = rows = 0.0
    for plan_date in sales.dates[-28:]:
        history, _ = history_before(plan_date)
        panel = forecast(history, plan_date=plan_date).panel
        assert len(panel) == len(sales)
        first = sales.column(plan_date)
        naive = last_same_weekday(history["demand_units"])[:, first : first + 7]
        units = actual[:, first : first + 7]
        known = ~np.isnan(units) & ~np.isnan(naive)
        horizon = slice(0, units.shape[1])
        error += np.abs(panel["mean_units"][:, horizon] - units)[known].sum()
        naive_error += np.abs(naive - units)[known].sum()
        within += (units <= panel["quantile_units"][:, horizon, QUANTILE_LEVELS.index(0.9)])[known].sum()
        sold += units[known].sum()
        rows += known.sum()
    assert error / sold <= naive_error / sold
    assert abs(within / rows - 0.9) <= 0.05
