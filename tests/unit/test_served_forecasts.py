"""Tenants that a model serves: alone or in a batch, whatever the order, from the past only, and consistent to the curve."""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planning.boosting import load_model
from planning.calendar import SERIES, Calendar, build_calendar
from planning.champion import ServingModel
from planning.forecasting import Forecasts, forecast_demand
from planning.frames import PLAN_DAYS, QUANTILE_LEVELS, Panel, PlanningError
from planning.quantiles import SMALLEST_SCALE_UNITS, Spread, curve_mean, grouped_quantiles
from planning.training import train_challenger
from tests.unit.demand_samples import seasonal_demand, tenant

NAN = float("nan")
DAYS = 420
PLAN_DATE = date(2025, 3, 3)
FIRST_DAY = PLAN_DATE - timedelta(days=DAYS)
LEADS = {"a": 0, "m": 1, "r": 0, "z": 1}
"""Days from run date to plan date. No model serves tenant r."""


def serving(tenant_id: str, seed: int, days: int) -> ServingModel:
    challenger = train_challenger(*tenant(seasonal_demand(4, days, seed)))
    return ServingModel(
        tenant_id=tenant_id,
        version=seed,
        label=f"boosting@v{seed}",
        model=load_model(challenger.artefact),
        spread=challenger.spread,
        backtest_wape_pct=20.0,
        backtest_reason="Promoted",
        trained_to=challenger.trained_to,
    )


@pytest.fixture(scope="module")
def models() -> dict[str, ServingModel]:
    one, other = serving("a", 1, 200), serving("m", 2, 150)
    return {"a": one, "m": other, "z": replace(one, tenant_id="z", label="boosting@v9")}


def calendar_of(keys: pd.DataFrame) -> Calendar:
    opening = pd.DataFrame(
        [("a", "shop0", weekday) for weekday in range(6)], columns=["tenant_id", "location_id", "weekday"]
    )
    events = [
        (tenant_id, None, None, PLAN_DATE + timedelta(days=on), kind, name)
        for tenant_id, on, kind, name in [
            ("a", 3, "holiday", "Feast"),
            ("a", -361, "holiday", "Feast"),
            ("m", 5, "promotion", "Two for one"),
            ("m", -10, "promotion", "Two for one"),
            ("z", 8, "closure", "Works"),
        ]
    ]
    columns = [*SERIES, "business_date", "kind", "name"]
    return build_calendar(keys, FIRST_DAY, DAYS + PLAN_DAYS, opening, pd.DataFrame(events, columns=columns))


def forecast(history: Panel, models: dict[str, ServingModel]) -> Forecasts:
    products = history.keys[["tenant_id", "product_id"]].drop_duplicates()
    tenant_ids = list(history.keys["tenant_id"].unique())
    run_dates = [PLAN_DATE - timedelta(days=LEADS[tenant_id]) for tenant_id in tenant_ids]
    return forecast_demand(
        history,
        calendar_of(history.keys),
        products.assign(daily_estimate_units=3.0),
        pd.DataFrame({"tenant_id": tenant_ids, "run_date": run_dates}),
        PLAN_DATE,
        {tenant_id: model for tenant_id, model in models.items() if tenant_id in tenant_ids},
    )


@st.composite
def batches(draw: st.DrawFn) -> Panel:
    """Four tenants of two locations with gaps, dormant, new and never sold products, and histories that end early."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    keys = pd.DataFrame(
        [(name, f"shop{n % 2}", f"p{n}") for name in LEADS for n in range(draw(st.integers(2, 5)))], columns=SERIES
    )
    demand = rng.poisson(rng.gamma(1, 15, (len(keys), 1)) * np.linspace(0.5, 1.5, DAYS), (len(keys), DAYS)) * 1.0
    demand[rng.random(demand.shape) < 0.1] = NAN
    for row in range(len(keys)):
        demand[row, : draw(st.sampled_from([0, 0, 200, DAYS - 70, DAYS - 7, DAYS - 3, DAYS]))] = NAN
        demand[row, DAYS - draw(st.sampled_from([0, 0, 0, 5, 40, 60])) :] = draw(st.sampled_from([NAN, 0.0]))
    return Panel(keys, {"demand_units": demand}, FIRST_DAY)


def assert_same(one: Panel, other: Panel) -> None:
    pd.testing.assert_frame_equal(one.keys, other.keys)
    for name, matrix in one.values.items():
        np.testing.assert_array_equal(matrix, other[name], err_msg=name)


@pytest.mark.filterwarnings("error")
class TestInvariants:
    @settings(max_examples=8, deadline=None)
    @given(history=batches())
    def test_another_tenant_in_the_batch_changes_nothing_to_the_bit(self, models, history):
        together = forecast(history, models).panel
        for tenant_id in LEADS:
            alone = forecast(history.select((history.keys["tenant_id"] == tenant_id).to_numpy()), models).panel
            assert_same(alone, together.select((together.keys["tenant_id"] == tenant_id).to_numpy()))

    @settings(max_examples=8, deadline=None)
    @given(history=batches(), random=st.randoms())
    def test_row_order_does_not_matter(self, models, history, random):
        order = np.array(random.sample(range(len(history)), len(history)))
        straight, mixed = (
            made.select(made.keys.sort_values(SERIES).index.to_numpy())
            for made in (forecast(history, models).panel, forecast(history.select(order), models).panel)
        )
        assert_same(straight, mixed)

    @settings(max_examples=8, deadline=None)
    @given(history=batches(), later=st.floats(0, 1000))
    def test_nothing_from_the_run_date_on_is_used(self, models, history, later):
        ahead = history.keys["tenant_id"].map(LEADS).to_numpy() > 0
        changed = history["demand_units"].copy()
        changed[ahead, -1] = later
        known = forecast(history, models).panel
        assert_same(known, forecast(Panel(history.keys, {"demand_units": changed}, FIRST_DAY), models).panel)

    @settings(max_examples=8, deadline=None)
    @given(history=batches())
    def test_quantiles_ascend_and_the_mean_is_that_of_their_curve(self, models, history):
        panel = forecast(history, models).panel
        units, mean, is_open = panel["quantile_units"], panel["mean_units"], panel["is_open"]
        assert np.isfinite(units).all()
        assert np.isfinite(panel["raw_mean_units"]).all()
        assert (units >= 0).all()
        assert (np.diff(units, axis=-1) >= 0).all()
        np.testing.assert_allclose(mean, curve_mean(units), rtol=1e-9, atol=1e-12)
        assert not is_open.all()
        assert not units[~is_open].any()
        stored = units.astype(np.float32).astype(float)
        np.testing.assert_allclose(curve_mean(stored), mean.astype(np.float32), rtol=1e-5, atol=1e-6)


def steady(closed_days: int) -> Panel:
    """Two products, the second twice as large and larger on Saturdays, at a shop that then was closed for so many days."""
    demand = np.tile(np.array([20.0, 20, 20, 20, 20, 40, 20]), DAYS // 7)
    demand = np.stack([demand / 2, demand])
    demand[:, DAYS - closed_days :] = NAN
    keys = pd.DataFrame([("m", "shop0", "roll"), ("m", "shop0", "bread")], columns=SERIES)
    return Panel(keys, {"demand_units": demand}, FIRST_DAY)


class TestWhatAModelCannotSee:
    @pytest.mark.parametrize("closed_days", [57, 63, 120])
    def test_a_shop_closed_for_longer_than_the_model_looks_back_opens_with_its_last_week(self, models, closed_days):
        panel = forecast(steady(closed_days), models).panel
        assert set(panel.keys["method"]) == {"seasonal_naive"}
        assert panel.keys["method_reason"].str.contains("no open day in the last 56 days").all()
        week = [20, 20, 20, 20, 20, 40, 20]
        np.testing.assert_allclose(panel["raw_mean_units"][1], np.tile(week, 2))

    def test_a_month_of_closed_doors_leaves_the_model_in_charge(self, models):
        panel = forecast(steady(30), models).panel
        assert set(panel.keys["method"]) == {"boosting"}
        assert (panel["mean_units"][1] > 5).all()

    def test_a_product_that_stopped_selling_is_forecast_at_next_to_nothing(self, models):
        history = steady(0)
        history["demand_units"][0, -60:] = 0
        panel = forecast(history, models).panel
        assert panel.keys["method"].tolist() == ["boosting"] * 2
        assert (panel["raw_mean_units"][0] < SMALLEST_SCALE_UNITS).all()


class TestClosedDays:
    def test_a_shop_that_stays_closed_for_the_whole_horizon_has_a_forecast_of_nothing(self, models):
        history = steady(0)
        calendar = calendar_of(history.keys)
        calendar.is_open[:, DAYS:] = False
        products = history.keys[["tenant_id", "product_id"]].assign(daily_estimate_units=NAN)
        tenants = pd.DataFrame({"tenant_id": ["m"], "run_date": [PLAN_DATE]})
        panel = forecast_demand(history, calendar, products, tenants, PLAN_DATE, models).panel
        assert set(panel.keys["method"]) == {"boosting"}
        for name in ("mean_units", "raw_mean_units", "quantile_units"):
            assert not panel[name].any()

    def test_a_calendar_that_ends_before_the_horizon_is_refused(self, models):
        history = steady(0)
        products = history.keys[["tenant_id", "product_id"]].assign(daily_estimate_units=NAN)
        tenants = pd.DataFrame({"tenant_id": ["m"], "run_date": [PLAN_DATE]})
        short = calendar_of(history.keys).window(FIRST_DAY, DAYS + PLAN_DAYS - 1)
        with pytest.raises(PlanningError, match="does not fit"):
            forecast_demand(history, short, products, tenants, PLAN_DATE, models)


class TestSpread:
    def test_a_table_of_another_version_leaves_an_assumed_spread_that_is_named(self, models):
        other = replace(models["m"], spread={**models["m"].spread, "scale_power": 0.5})
        panel = forecast(steady(0), {"m": other}).panel
        assert set(panel.keys["method"]) == {"boosting"}
        assert panel.keys["method_reason"].str.contains("spread assumed").all()
        assert (np.diff(panel["quantile_units"], axis=-1) > 0).all()

    def test_no_residual_at_all_is_a_spread_that_says_so_and_can_be_kept(self):
        nothing = Spread.of(np.empty(0), np.empty(0, dtype=np.int64), 1.1)
        assert nothing.pooled_count == 0
        kept = Spread.from_json(nothing.as_json())
        assert kept is not None
        of_series = kept.of_classes(np.array([0, 3]))
        assert of_series.source.tolist() == [2, 2]
        assert of_series.counts.tolist() == [0, 0]
        assert of_series.mean_residual.tolist() == [0, 0]

    def test_groups_without_values_have_no_quantiles(self):
        found, counts = grouped_quantiles(np.array([1.0]), np.array([1]), 3)
        assert counts.tolist() == [0, 1, 0]
        assert np.isnan(found[[0, 2]]).all()
        assert found[1].tolist() == [1.0] * len(QUANTILE_LEVELS)
