"""The production link: from rows of forecasts, orders and stock to lines that say what to make and why."""

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planning.frames import EXCEPTION_COLUMNS, PLAN_DAYS, QUANTILE_LEVELS, SET_ASIDE_COLUMNS, Panel, frame_of
from planning.production import DOUGH_COLUMNS, LINE_COLUMNS, ProductionPlans, plan_production
from planning.workshop import Workshop
from tests.unit.examples import few_examples

MONDAY = date(2024, 3, 4)
BREAD_LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
BREAD_UNITS = (62, 70, 84, 100, 116, 130, 138)
# The worked example's curve ends in straight tails, so its 0.01 and 0.99 quantiles lie on them.
BREAD = np.interp(QUANTILE_LEVELS, (0, *BREAD_LEVELS, 1), (54, *BREAD_UNITS, 146))

PRODUCT = {
    "batch_size_units": 24.0,
    "batch_min": 0,
    "batch_multiple": 1,
    "batch_max_per_day": np.nan,
    "batch_fixed_cost": 0.0,
    "made_on_weekdays": [0, 1, 2, 3, 4, 5, 6],
    "shelf_life_days": 1.0,
    "unit_price": 1.7,
    "variable_cost": 0.5,
    "salvage_value": 0.0,
    "goodwill_cost": 0.0,
}


class World:
    """The frames of a batch, grown by the lines of a test."""

    def __init__(self) -> None:
        self.forecasts: dict[tuple[str, str, str], tuple[np.ndarray, np.ndarray]] = {}
        self.assortment: list[tuple] = []
        self.products: dict[tuple[str, str], dict] = {}
        self.orders: list[tuple] = []
        self.lots: list[tuple] = []
        self.ratios: dict[str, object] = {}
        self.recipes: list[tuple] | None = None
        self.resources: list[tuple] = []
        self.steps: list[tuple] = []
        self.opening: list[tuple] = []
        self.overrides: list[tuple] = []
        self.made_at: tuple[date, time] | None = None

    def sells(
        self, quantiles: object = BREAD, tenant: str = "t", location: str = "shop", product: str = "bread",
        made_at: str | None = "shop", closed: tuple[int, ...] = (), **facts: object,
    ) -> "World":  # fmt: skip
        """A product sold with the same quantiles every day, and its master data."""
        is_open = ~np.isin(np.arange(PLAN_DAYS), closed)
        units = np.where(is_open[:, None], np.asarray(quantiles, dtype=float), 0)
        self.forecasts[tenant, location, product] = (units, is_open)
        if made_at is not None:
            self.assortment.append((tenant, location, product, made_at))
        self.products[tenant, product] = {**PRODUCT, **facts}
        self.ratios.setdefault(tenant, 0.7)
        return self

    def order(self, units: float, day: int = 0, location: str = "shop", product: str = "bread") -> "World":
        """A customer order of tenant t."""
        self.orders.append(("t", location, product, MONDAY + timedelta(days=day), units))
        return self

    def lot(self, units: float, expires_on: date | None, product: str = "bread", location: str = "shop") -> "World":
        """Finished goods of tenant t."""
        self.lots.append(("t", location, product, f"l{len(self.lots)}", units, MONDAY, expires_on, 0.5))
        return self

    def baked(
        self, *products: str, oven: float = 1.0, minutes: float = 30, since: time = time(4), location: str = "shop"
    ) -> "World":
        """A recipe and a baking step for products of tenant t, and the oven that holds so many batches at a time."""
        self.recipes = [("t", product, 1, 1.0, 1.0, "flour", 0.5, 0.0) for product in products]
        self.resources = [("t", "oven1", location, "oven", oven, since)]
        self.steps = [("t", product, 1, "oven", None, minutes, 1.0, 0.0) for product in products]
        return self

    def opens(self, at: time, location: str = "shop") -> "World":
        """A location of tenant t opens at a time of every day."""
        self.opening += [("t", location, weekday, at) for weekday in range(7)]
        return self

    def override(self, batches: int, product: str = "bread", location: str = "shop") -> "World":
        """A person's own number of batches for the plan date."""
        self.overrides.append(("t", location, product, batches, "anna", "market day"))
        return self

    def workshop(self) -> Workshop:
        """What the ovens can do."""
        empty = Workshop.empty()
        return Workshop(
            frame_of(empty.resources.columns, self.resources),
            empty.calendar,
            frame_of(empty.steps.columns, self.steps),
            frame_of(empty.opening.columns, self.opening),
        )

    def plan(self, seed: int | None = None) -> ProductionPlans:
        """The plan, with every frame's rows shuffled by a seed."""
        rng = np.random.default_rng(seed)

        def shuffled(frame: pd.DataFrame) -> pd.DataFrame:
            order = np.arange(len(frame)) if seed is None else rng.permutation(len(frame))
            return frame.iloc[order].reset_index(drop=True)

        keys = frame_of(["tenant_id", "location_id", "product_id"], self.forecasts)
        units = np.array([each[0] for each in self.forecasts.values()]).reshape(-1, PLAN_DAYS, len(QUANTILE_LEVELS))
        is_open = np.array([each[1] for each in self.forecasts.values()], dtype=bool).reshape(-1, PLAN_DAYS)
        panel = Panel(keys, {"mean_units": units.mean(axis=2), "quantile_units": units, "is_open": is_open}, MONDAY)
        products = [{"tenant_id": t, "product_id": p, **facts} for (t, p), facts in self.products.items()]
        product_columns = ["tenant_id", "product_id", *PRODUCT]
        if any("ready_by" in facts for facts in self.products.values()):
            product_columns.append("ready_by")
        recipe = ("tenant_id", "output_item_id", "version", "output_quantity", "yield_frac", "item_id", "quantity")
        tenants = [(tenant_id, ratio, "Europe/Madrid") for tenant_id, ratio in self.ratios.items()]
        tenants_known = frame_of(["tenant_id", "default_critical_ratio", "timezone"], tenants)
        if self.made_at is not None:
            run_on, at = self.made_at
            tenants_known = tenants_known.assign(run_date=run_on, as_of_time=at)
        series = ["tenant_id", "location_id", "product_id"]
        lot = ["tenant_id", "location_id", "item_id", "lot_id", "quantity", "received_on", "expires_on", "unit_cost"]
        return plan_production(
            panel if seed is None else panel.select(rng.permutation(len(keys))),
            assortment=shuffled(frame_of([*series, "made_at_location_id"], self.assortment)),
            products=shuffled(pd.DataFrame(products, columns=product_columns)),
            orders=shuffled(frame_of([*series, "due_on", "quantity_units"], self.orders)),
            opening_lots=shuffled(frame_of(lot, self.lots)),
            tenants=shuffled(tenants_known),
            plan_date=MONDAY,
            recipes=None if self.recipes is None else shuffled(frame_of([*recipe, "scrap_frac"], self.recipes)),
            workshop=self.workshop() if self.resources or self.opening else None,
            overrides=frame_of([*series, "batches", "actor", "reason"], self.overrides) if self.overrides else None,
        )

    def line(self) -> pd.Series:
        """The only line of the plan."""
        lines = self.plan().lines
        assert len(lines) == 1
        return lines.iloc[0]

    def codes(self) -> list[str]:
        """The codes of the exceptions."""
        return self.plan().exceptions["code"].tolist()


class TestTheWorkedExample:
    def test_five_batches_of_bread_with_what_they_are_worth(self) -> None:
        line = World().sells().line()
        assert line["mean_demand_units"] == pytest.approx(100)
        assert line["critical_ratio"] == pytest.approx(0.705882, abs=5e-7)
        assert not line["is_default_critical_ratio"]
        assert line["optimal_units"] == pytest.approx(113.176471, abs=5e-7)
        assert (line["batches"], line["quantity_units"], line["limited_by"]) == (5, 120, "batch")
        assert line["expected_waste_units"] == pytest.approx(22.335714, abs=5e-7)
        assert line["expected_lost_units"] == pytest.approx(2.335714, abs=5e-7)
        assert line["expected_sales_units"] == pytest.approx(97.664286, abs=5e-7)
        assert line["expected_profit"] == pytest.approx(106.0293, abs=5e-5)
        assert line["sold_out_probability"] == pytest.approx(0.25 - 0.15 * 4 / 14)
        assert line["horizon_units"] == [120.0] * PLAN_DAYS

    def test_batch_values_fall_and_add_up_to_the_profit(self) -> None:
        line = World().sells().line()
        values = line["batch_marginal_values"]
        assert len(values) == 5
        assert values == sorted(values, reverse=True)
        assert min(values) > 0
        assert sum(values) == pytest.approx(line["expected_profit"], abs=1e-5)

    def test_a_fixed_cost_per_batch_is_in_the_profit_and_the_values(self) -> None:
        line = World().sells(batch_fixed_cost=3.5).line()
        assert line["batches"] == 4
        assert line["expected_profit"] == pytest.approx(102.6625 - 14)
        assert sum(line["batch_marginal_values"]) == pytest.approx(line["expected_profit"], abs=1e-5)

    def test_single_units_come_next_to_the_optimum(self) -> None:
        line = World().sells(batch_size_units=1).line()
        assert line["quantity_units"] == 113

    def test_the_optimum_on_the_grid_is_not_limited(self) -> None:
        line = World().sells(np.full(9, 48)).line()
        assert (line["quantity_units"], line["limited_by"]) == (48, "none")

    def test_lines_have_the_columns_of_the_table(self) -> None:
        plans = World().sells().plan()
        assert tuple(plans.lines.columns) == LINE_COLUMNS
        assert tuple(plans.exceptions.columns) == EXCEPTION_COLUMNS
        assert tuple(plans.set_aside.columns) == SET_ASIDE_COLUMNS
        assert plans.planned.keys.columns.tolist() == ["tenant_id", "location_id", "product_id"]


class TestLimits:
    @pytest.mark.parametrize(
        ("facts", "batches", "limited_by"),
        [
            ({"batch_max_per_day": 3}, 3, "batch_max"),
            ({"batch_max_per_day": 5}, 5, "batch"),
            ({"batch_min": 6}, 6, "batch_min"),
            ({"batch_min": 30}, 0, "batch_min"),
            ({"batch_multiple": 2}, 4, "batch"),
            ({"made_on_weekdays": [1, 3]}, 0, "not_made_today"),
            ({"made_on_weekdays": []}, 0, "not_made_today"),
            ({"closed": (0,)}, 0, "closed"),
            ({"quantiles": np.zeros(9)}, 0, "no_demand"),
            ({"batch_size_units": 1000}, 0, "batch"),
        ],
    )
    def test_what_bounds_a_line_is_said(self, facts: dict, batches: int, limited_by: str) -> None:
        line = World().sells(**facts).line()
        assert (line["batches"], line["limited_by"]) == (batches, limited_by)

    def test_days_after_follow_their_own_weekday_and_opening(self) -> None:
        line = World().sells(made_on_weekdays=[0, 2, 3], closed=(2,)).line()
        assert line["horizon_units"] == [120, 0, 0, 120, 0, 0, 0, 120, 0, 120, 120, 0, 0, 0]

    def test_rules_that_leave_no_batch_keep_the_maximum_and_are_reported(self) -> None:
        world = World().sells(batch_min=6, batch_max_per_day=4)
        assert world.line()["batches"] == 4
        assert world.codes() == ["batch_limits_contradict"]
        world = World().sells(batch_multiple=6, batch_max_per_day=4)
        assert world.line()["batches"] == 0
        assert world.codes() == ["batch_limits_contradict"]


def by_day(line: pd.Series) -> list[int]:
    """Batches of each day of a product made in batches of 24."""
    return [round(units / 24) for units in line["horizon_units"]]


class TestOpeningStock:
    def test_expired_lots_other_places_and_other_items_do_not_count(self) -> None:
        world = World().sells(shelf_life_days=3).lot(30, MONDAY - timedelta(days=1))
        world.lot(30, MONDAY, location="elsewhere").lot(30, MONDAY, product="cake")
        assert world.line()["opening_usable_units"] == 0

    def test_yesterdays_bread_of_the_day_is_not_offered_again(self) -> None:
        assert World().sells(shelf_life_days=1).lot(30, MONDAY).line()["quantity_units"] == 120

    def test_what_keeps_beyond_the_horizon_counts(self) -> None:
        line = World().sells(shelf_life_days=np.nan).lot(500, None).line()
        assert (line["opening_usable_units"], line["batches"], line["limited_by"]) == (500, 0, "none")
        assert line["expected_waste_units"] == 0
        assert line["expected_carried_units"] == pytest.approx(400)

    def test_stock_behind_closed_doors_is_neither_sold_nor_wasted(self) -> None:
        line = World().sells(shelf_life_days=9, closed=(0,)).lot(50, None).line()
        assert line["opening_usable_units"] == 50
        assert (line["expected_waste_units"], line["expected_profit"], line["sold_out_probability"]) == (0, 0, 0)
        assert line["expected_carried_units"] == 50

    def test_what_is_too_old_after_a_closed_day_is_wasted_all_the_same(self) -> None:
        line = World().sells(shelf_life_days=9, closed=(0,)).lot(50, MONDAY).line()
        assert (line["expected_waste_units"], line["expected_carried_units"]) == (50, 0)
        assert line["expected_profit"] == pytest.approx(-25)


class TestWhatKeeps:
    """Products that are sold for more than a day: stock by age, from day to day."""

    def test_a_second_day_of_life_makes_more_as_less_of_it_is_wasted(self) -> None:
        line = World().sells(shelf_life_days=2).line()
        # Nearly all that a day can ask for, as what is left sells tomorrow.
        assert line["batches"] == 6
        assert line["expected_waste_units"] < 2
        assert line["expected_lost_units"] < 0.1
        assert line["expected_carried_units"] == pytest.approx(144 - 100, abs=0.1)
        # And less the day after, when that is there.
        assert line["horizon_units"][1] < 144
        assert np.mean(line["horizon_units"][1:]) == pytest.approx(100, abs=5)

    def test_stock_at_hand_is_sold_first_and_lasts_as_long_as_it_can(self) -> None:
        tomorrow, far = MONDAY + timedelta(days=1), MONDAY + timedelta(days=2)
        fresh = by_day(World().sells(shelf_life_days=3).line())
        for_today = World().sells(shelf_life_days=3).lot(48, MONDAY).line()
        for_longer = World().sells(shelf_life_days=3).lot(200, tomorrow).lot(96, far).line()
        assert for_today["opening_usable_units"] == 48
        assert by_day(for_today)[0] == fresh[0] - 2
        assert for_longer["opening_usable_units"] == 296
        assert for_longer["batches"] == 0
        assert by_day(for_longer)[1] == 0
        # What cannot sell in its two days outdates: about 200 units for 200 asked for.
        assert 5 < for_longer["expected_waste_units"] < 30

    def test_a_day_on_which_it_is_not_made_is_baked_for_before(self) -> None:
        daily = World().sells(shelf_life_days=3).line()
        every_other_day = World().sells(shelf_life_days=3, made_on_weekdays=[0, 2, 4, 6]).line()
        assert every_other_day["horizon_units"][1] == 0
        assert every_other_day["batches"] >= daily["batches"] + 3
        assert every_other_day["expected_carried_units"] > 90

    def test_a_closed_day_ages_what_is_there(self) -> None:
        closed = World().sells(shelf_life_days=2, closed=(1,)).line()
        one_day = World().sells(shelf_life_days=1).line()
        # Nothing made today can be sold after a closed tomorrow: as if it were of the day.
        assert closed["batches"] == one_day["batches"] == 5
        # Over paths of the curve instead of the curve itself.
        assert closed["expected_waste_units"] == pytest.approx(one_day["expected_waste_units"], abs=0.01)
        assert closed["optimal_units"] == pytest.approx(one_day["optimal_units"], abs=0.3)
        np.testing.assert_allclose(closed["batch_marginal_values"], one_day["batch_marginal_values"], atol=0.01)

    def test_what_is_there_and_made_is_sold_carried_over_or_outdates_tonight(self) -> None:
        line = World().sells(shelf_life_days=3).lot(30, MONDAY).lot(40, MONDAY + timedelta(days=1)).line()
        supply = line["quantity_units"] + line["opening_usable_units"]
        tonight = supply - line["expected_sales_units"] - line["expected_carried_units"]
        assert tonight == pytest.approx(0, abs=0.01)  # 30 of 100 asked for
        assert line["expected_sales_units"] + line["expected_lost_units"] == pytest.approx(100)

    def test_profit_counts_what_is_carried_over_at_its_cost(self) -> None:
        line = World().sells(shelf_life_days=3, batch_fixed_cost=1.5).line()
        profit = 1.2 * line["expected_sales_units"] - 0.5 * line["expected_waste_units"] - 1.5 * line["batches"]
        assert line["expected_profit"] == pytest.approx(profit)

    def test_batch_values_fall_and_the_last_is_worth_it(self) -> None:
        values = World().sells(shelf_life_days=3).line()["batch_marginal_values"]
        assert values == sorted(values, reverse=True)
        assert values[-1] > 0

    def test_an_order_for_a_day_without_making_is_made_before(self) -> None:
        world = World().sells(np.zeros(9), shelf_life_days=3, made_on_weekdays=[0, 2, 4]).order(30, day=1)
        assert by_day(world.line())[:3] == [2, 0, 0]
        assert world.codes() == []
        too_late = World().sells(np.zeros(9), shelf_life_days=3, made_on_weekdays=[2, 4]).order(30, day=1)
        assert too_late.codes() == ["order_on_day_not_made"]

    def test_a_product_that_nobody_asks_for_is_not_limited_by_its_batch(self) -> None:
        line = World().sells(np.zeros(9), shelf_life_days=3).line()
        assert (line["batches"], line["limited_by"]) == (0, "no_demand")

    @given(st.integers(0, 10_000), st.integers(2, 5))
    @settings(max_examples=20, deadline=None)
    def test_more_opening_stock_never_makes_more_today(self, seed: int, life: int) -> None:
        rng = np.random.default_rng(seed)
        quantiles = np.sort(rng.gamma(2, 20, 9)).round(2)
        size, expires_on = float(rng.choice([1, 12, 40])), MONDAY + timedelta(days=int(rng.integers(0, life)))
        world = World()
        for number, units in enumerate((0, 10, 40, 90, 400)):
            world.sells(quantiles, product=f"p{number}", shelf_life_days=life, batch_size_units=size)
            world.lot(units, expires_on, product=f"p{number}")
        made = world.plan().lines["batches"].tolist()
        assert made == sorted(made, reverse=True)


class TestOrders:
    def test_orders_are_certain_and_come_on_top(self) -> None:
        line = World().sells().order(40).order(8).line()
        assert line["orders_units"] == 48
        assert line["mean_demand_units"] == pytest.approx(148)
        assert line["optimal_units"] == pytest.approx(161.176471, abs=5e-7)
        assert line["quantity_units"] == 168
        assert line["expected_waste_units"] == pytest.approx(22.335714, abs=5e-7)

    def test_an_order_counts_on_its_day_and_not_beyond_the_horizon(self) -> None:
        line = World().sells().order(48, day=2).order(48, day=-1).order(48, day=14).line()
        assert line["horizon_units"] == [120, 120, 168] + [120.0] * 11

    def test_an_accepted_order_is_made_even_if_its_batch_does_not_pay(self) -> None:
        line = World().sells(np.zeros(9), variable_cost=1.6).order(25).line()
        assert (line["batches"], line["limited_by"]) == (2, "batch")
        assert line["batch_marginal_values"][1] < 0

    def test_what_is_ordered_but_never_forecast_is_made(self) -> None:
        world = World().sells().order(10, product="cake")
        world.assortment.append(("t", "shop", "cake", "shop"))
        world.products["t", "cake"] = {**PRODUCT, "batch_size_units": 1}
        lines = world.plan().lines.set_index("product_id")
        assert lines.loc["cake", "quantity_units"] == 10
        assert lines.loc["cake", "mean_demand_units"] == 10
        assert lines.loc["bread", "quantity_units"] == 120

    def test_an_order_only_product_is_closed_when_its_location_is(self) -> None:
        world = World().sells(closed=(0,)).order(10, product="cake")
        world.assortment.append(("t", "shop", "cake", "shop"))
        world.products["t", "cake"] = dict(PRODUCT)
        assert world.plan().lines["limited_by"].tolist() == ["closed", "closed"]
        assert world.codes() == ["order_on_closed_day"]

    def test_orders_that_cannot_be_made_are_reported(self) -> None:
        assert World().sells().order(5).codes() == []
        assert World().sells(closed=(3,)).order(5, day=3).codes() == ["order_on_closed_day"]
        assert World().sells(made_on_weekdays=[0]).order(5, day=3).codes() == ["order_on_day_not_made"]
        assert World().sells(batch_max_per_day=1).order(25).codes() == ["orders_above_batch_max"]
        assert World().sells(batch_max_per_day=1).order(24).codes() == []
        keeps = World().sells(made_on_weekdays=[1], shelf_life_days=4).order(5).lot(5, None)
        assert keeps.codes() == []

    def test_the_report_names_the_first_day_and_the_units(self) -> None:
        world = World().sells(closed=(3, 5)).order(5, day=5).order(7, day=3)
        (message,) = world.plan().exceptions["message"]
        assert message.startswith("bread: 7 units are ordered for 2024-03-07")
        (message,) = World().sells(closed=(3,)).order(5.40816, day=3).plan().exceptions["message"]
        assert message.startswith("bread: 5.41 units are ordered")


class TestCentralKitchen:
    def test_outlets_are_pooled_where_their_bread_is_made(self) -> None:
        world = World()
        for outlet in ("north", "south", "east", "west"):
            world.sells(location=outlet, made_at="kitchen", batch_size_units=1)
        line = world.line()
        assert line["location_id"] == "kitchen"
        assert line["mean_demand_units"] == pytest.approx(400)
        # The deviation of one outlet, twice for four independent ones, and not four times.
        assert line["optimal_units"] == pytest.approx(400 + 2 * 13.176471, abs=5e-6)

    def test_a_closed_outlet_does_not_close_the_kitchen(self) -> None:
        world = (
            World().sells(location="north", made_at="kitchen", closed=(0,)).sells(location="south", made_at="kitchen")
        )
        line = world.line()
        assert line["mean_demand_units"] == pytest.approx(100)
        assert (line["quantity_units"], line["limited_by"]) == (120, "batch")
        assert line["optimal_units"] == pytest.approx(113.176471, abs=5e-7)

    def test_orders_of_all_outlets_are_made(self) -> None:
        world = World().sells(location="north", made_at="kitchen").sells(location="south", made_at="kitchen")
        line = world.order(10, location="north").order(5, location="south").line()
        assert line["orders_units"] == 15


class TestCapacity:
    def two_products(self, oven: float = 1.0, since: time = time(4)) -> World:
        """Bread and rolls that earn half of it, wanted in 5 batches each of 30 minutes, ready by eight."""
        world = World().sells().sells(product="roll", unit_price=1.1)
        return world.baked("bread", "roll", oven=oven, since=since)

    def test_what_has_room_is_made_as_if_nothing_limited_it(self) -> None:
        world = self.two_products(oven=2)
        lines = world.plan().lines
        assert lines["batches"].tolist() == lines["unlimited_batches"].tolist()
        assert lines["limited_by"].tolist() == ["batch", "batch"]
        assert lines["limiting_resource_id"].isna().all()
        assert world.codes() == []

    def test_what_earns_most_is_made_where_an_oven_does_not_hold_all(self) -> None:
        # Eight batches of 30 minutes from four to eight o'clock.
        free = World().sells().sells(product="roll", unit_price=1.1).plan().lines.set_index("product_id")
        world = self.two_products()
        lines = world.plan().lines.set_index("product_id")
        assert lines["unlimited_batches"].tolist() == free["batches"].tolist()
        assert lines["batches"].sum() == 8
        assert (lines["batches"] == lines["recommended_batches"]).all()
        values = sorted((value for each in free["batch_marginal_values"] for value in each), reverse=True)
        made = sorted((value for each in lines["batch_marginal_values"] for value in each), reverse=True)
        assert made == values[:8]
        short = lines["batches"] < lines["unlimited_batches"]
        assert lines.loc[short, "limited_by"].eq("capacity").all()
        assert lines.loc[short, "limiting_resource_id"].eq("oven1").all()
        (exception,) = world.plan().exceptions.itertuples()
        assert (exception.code, exception.subject_kind, exception.subject_id) == ("capacity_short", "resource", "oven1")
        assert f"{sum(values[8:]):.2f} of expected profit" in exception.message
        # The days after have the same room.
        assert np.array(world.plan().lines["horizon_units"].tolist()).sum(axis=0).tolist() == [8 * 24.0] * PLAN_DAYS

    def test_what_keeps_is_weighed_with_its_own_gains(self) -> None:
        world = World().sells(shelf_life_days=3).sells(product="roll", unit_price=1.1).baked("bread", "roll")
        free = World().sells(shelf_life_days=3).sells(product="roll", unit_price=1.1).plan().lines
        values = sorted((value for each in free["batch_marginal_values"] for value in each), reverse=True)
        made = sorted((value for each in world.plan().lines["batch_marginal_values"] for value in each), reverse=True)
        np.testing.assert_allclose(made, values[:8], atol=1e-6)

    def test_a_product_without_cost_is_weighed_in_money_too(self) -> None:
        world = World().sells().sells(product="roll", unit_price=17.0, variable_cost=np.nan).baked("bread", "roll")
        lines = world.plan().lines.set_index("product_id")
        # Shares of Cu + Co would be worth less than any bread; at its price it goes first.
        assert lines.loc["roll", "batches"] == lines.loc["roll", "unlimited_batches"]
        (short,) = world.plan().exceptions.query("code == 'capacity_short'").itertuples()
        assert "estimated" not in short.message

    def test_orders_go_first_and_those_without_room_are_reported(self) -> None:
        world = self.two_products().order(24 * 5, product="roll")
        lines = world.plan().lines.set_index("product_id")
        assert lines.loc["roll", "batches"] >= 5
        crowded = self.two_products(since=time(7)).order(24 * 5, product="roll")
        assert "orders_above_capacity" in crowded.codes()
        assert "orders_above_batch_max" not in crowded.codes()

    def test_batches_have_times_and_doughs_have_runs(self) -> None:
        world = self.two_products()
        assert world.recipes is not None
        world.recipes += [
            ("t", "dough", 1, 1.0, 1.0, "flour", 0.6, 0.0),
            ("t", "bread", 1, 1.0, 1.0, "dough", 0.9, 0.0),
        ]
        plans = world.plan()
        assert tuple(plans.doughs.columns) == DOUGH_COLUMNS
        assert plans.doughs["item_id"].tolist() == ["dough"]
        bread = plans.lines.set_index("product_id").loc["bread"]
        assert plans.doughs["quantity"].tolist() == [pytest.approx(0.9 * bread["quantity_units"])]
        starts = sorted(start for each in plans.lines["batch_starts_at"] for start in each)
        # Eight o'clock in Madrid is seven in UTC in March.
        assert starts[0] == datetime(2024, 3, 4, 3, 0, tzinfo=UTC)
        assert starts[-1] == datetime(2024, 3, 4, 6, 30, tzinfo=UTC)
        assert max(bread["batch_ready_at"]) <= bread["ready_by"] == datetime(2024, 3, 4, 7, 0, tzinfo=UTC)
        assert len(bread["batch_resource_ids"]) == bread["batches"]
        assert not plans.lines["is_late"].any()

    def test_what_was_to_start_before_the_plan_was_made_is_said_once_per_place(self) -> None:
        """Batches start at 04:00, 04:30, …, 07:30, and their dough an hour before the first at the latest."""
        world = self.two_products()
        world.made_at = MONDAY, time(5, 10)
        (exception,) = world.plan().exceptions.query("code == 'starts_before_plan'").itertuples()
        assert (exception.subject_kind, exception.subject_id) == ("location", "shop")
        assert exception.message == (
            "The first batch starts Mon 04:00, but the plan was made Mon 05:10: 3 of 8 batches start before it"
        )
        assert "--plan-lead-days 1" in exception.remedy

        assert world.recipes is not None
        world.recipes += [("t", "dough", 1, 1.0, 1.0, "flour", 0.6, 0.0)]
        world.recipes += [("t", product, 1, 1.0, 1.0, "dough", 0.9, 0.0) for product in ("bread", "roll")]
        world.resources.append(("t", "mixer1", "shop", "mixer", 1000.0, time(0)))
        world.steps.append(("t", "dough", 1, "mixer", None, 30.0, 1.0, 60.0))
        (exception,) = world.plan().exceptions.query("code == 'starts_before_plan'").itertuples()
        assert exception.message == (
            "The first mixer run starts Mon 02:30, but the plan was made Mon 05:10: "
            "3 of 8 batches and 1 mixer run start before it"
        )

    @pytest.mark.parametrize(
        ("run_on", "at"),
        [
            (MONDAY - timedelta(days=1), time(5, 10)),
            (MONDAY, time(3, 59)),
            (MONDAY, time(4)),
            (MONDAY, time(0)),  # made on another day: nothing is known of its time
        ],
    )
    def test_a_plan_that_is_made_in_time_is_not_told_that_it_is_late(self, run_on: date, at: time) -> None:
        world = self.two_products(since=time(4) if at > time.min else time(23))
        world.made_at = run_on, at
        assert "starts_before_plan" not in world.codes()

    def test_a_plan_made_the_day_before_and_still_too_late_is_to_be_made_earlier(self) -> None:
        world = World().sells(BREAD * 4).baked("bread", since=time(22))
        world.made_at = MONDAY - timedelta(days=1), time(23, 30)
        (exception,) = world.plan().exceptions.query("code == 'starts_before_plan'").itertuples()
        assert "starts Sun 2" in exception.message
        assert "Plan earlier on the day before" in exception.remedy

    def test_without_workshop_there_are_neither_doughs_nor_times(self) -> None:
        plans = World().sells().plan()
        assert len(plans.doughs) == 0
        assert tuple(plans.doughs.columns) == DOUGH_COLUMNS
        for name in ("batch_resource_ids", "batch_starts_at", "batch_bakes_at", "batch_ready_at"):
            assert plans.lines[name].tolist() == [[]]
        assert plans.lines["unlimited_batches"].tolist() == [5]

    def test_a_batch_that_only_sums_of_time_have_room_for_is_not_made_when_it_would_be_ready_after_the_day(
        self,
    ) -> None:
        """The oven holds 1.9 batches, so one at a time, of 60 minutes: the sum from midnight to 23:00 has room for 43."""
        world = World().sells(BREAD * 40, ready_by=time(23), batch_size_units=24.0)
        plan = world.baked("bread", oven=1.9, minutes=60, since=time(0)).plan()
        (line,) = plan.lines.itertuples()
        midnight = datetime(2024, 3, 4, 23, tzinfo=UTC)  # in Madrid
        assert line.unlimited_batches > 43
        assert 23 <= line.batches <= 24
        assert max(line.batch_ready_at) <= midnight
        assert (line.limited_by, line.limiting_resource_id) == ("capacity", "oven1")
        assert line.quantity_units == line.horizon_units[0] == plan.planned["horizon_units"][0, 0] == 24 * line.batches
        assert line.expected_sales_units == pytest.approx(line.quantity_units, rel=1e-3)
        assert "capacity_short" in plan.exceptions["code"].tolist()

    def test_what_is_held_for_one_tenant_leaves_the_others_alone(self) -> None:
        world = World().sells(BREAD * 40, ready_by=time(23)).sells(tenant="u")
        world.baked("bread", oven=1.9, minutes=60, since=time(0))
        other = World().sells(tenant="u").plan()
        both = world.plan()
        (held, alone) = (rows_of(both, tenant)[0] for tenant in ("t", "u"))
        assert held["limited_by"].tolist() == ["capacity"]
        assert alone["batches"].tolist() == other.lines["batches"].tolist()


class TestReadyBy:
    def test_is_the_products_time_else_the_first_opening_of_those_it_serves_else_eight(self) -> None:
        world = World().sells(location="north", made_at="kitchen").sells(location="south", made_at="kitchen")
        assert world.line()["ready_by"] == datetime(2024, 3, 4, 7, 0, tzinfo=UTC)
        world.opens(time(7, 30), "north").opens(time(6, 15), "south").opens(time(4), "elsewhere")
        assert world.line()["ready_by"] == datetime(2024, 3, 4, 5, 15, tzinfo=UTC)
        world.products["t", "bread"]["ready_by"] = time(12, 30)
        assert world.line()["ready_by"] == datetime(2024, 3, 4, 11, 30, tzinfo=UTC)


class TestOverrides:
    def test_a_persons_number_is_made_and_the_recommendation_is_kept(self) -> None:
        line = World().sells().override(3).line()
        assert (line["batches"], line["recommended_batches"], line["unlimited_batches"]) == (3, 5, 5)
        assert (line["quantity_units"], line["limited_by"]) == (72, "override")
        assert (line["override_by"], line["override_reason"]) == ("anna", "market day")
        assert line["horizon_units"] == [72.0] + [120.0] * 13
        assert len(line["batch_marginal_values"]) == 3
        assert line["expected_lost_units"] > World().sells().line()["expected_lost_units"]

    def test_none_is_a_number_too(self) -> None:
        line = World().sells().override(0).line()
        assert (line["batches"], line["limited_by"], line["expected_sales_units"]) == (0, "override", 0)

    def test_lines_without_one_say_so(self) -> None:
        lines = World().sells().sells(product="roll").override(3).plan().lines.set_index("product_id")
        assert lines.loc["roll", "override_by"] is None
        assert lines.loc["roll", "batches"] == 5

    @pytest.mark.parametrize(
        ("facts", "code"),
        [
            ({"closed": (0,)}, "override_on_closed_day"),
            ({"made_on_weekdays": [3]}, "override_on_day_not_made"),
            ({"batch_max_per_day": 6}, "override_above_batch_max"),
        ],
    )
    def test_one_beyond_the_rules_is_kept_and_reported(self, facts: dict, code: str) -> None:
        world = World().sells(**facts).override(7)
        assert world.codes() == [code]
        line = world.line()
        assert (line["batches"], line["quantity_units"], line["horizon_units"][0]) == (7, 168, 168)
        assert World().sells(**facts).override(0).codes() == []

    def test_bread_baked_behind_closed_doors_is_wasted(self) -> None:
        line = World().sells(closed=(0,)).override(2).line()
        assert (line["limited_by"], line["expected_waste_units"]) == ("closed", 48)
        assert line["expected_profit"] == pytest.approx(-24)

    def test_one_above_what_the_oven_holds_is_kept_and_reported(self) -> None:
        world = World().sells().baked("bread")
        assert world.override(8).codes() == []
        above = World().sells().baked("bread").override(9)
        assert "override_above_capacity" in above.codes()
        assert (above.line()["batches"], above.line()["recommended_batches"]) == (9, 5)

    def test_fewer_than_are_ordered_leaves_orders_unmet_and_says_so(self) -> None:
        assert World().sells().order(60).override(2).codes() == ["orders_above_override"]

    def test_one_for_what_is_not_planned_is_reported(self) -> None:
        assert World().sells().override(2, product="cake").codes() == ["override_not_planned"]

    def test_what_a_person_adds_of_a_keeping_product_is_there_the_day_after(self) -> None:
        plain, more = (
            world.line() for world in (World().sells(shelf_life_days=4), World().sells(shelf_life_days=4).override(9))
        )
        assert more["horizon_units"][1] <= plain["horizon_units"][1] - 48


class TestDeviation:
    def test_tentative_days_say_how_far_demand_may_still_move_them(self) -> None:
        plans = World().sells(closed=(3,), made_on_weekdays=[0, 1, 3, 4]).plan()
        deviation = plans.planned["deviation_units"][0]
        sigma = (130 - 70) / (2 * 1.2815515655)
        assert deviation.tolist() == plans.lines["deviation_units"][0]
        np.testing.assert_allclose(
            deviation, [0, sigma, 0, 0, sigma, 0, 0, sigma, sigma, 0, sigma, sigma, 0, 0], atol=1e-6
        )


class TestWhatIsNotKnown:
    def test_without_cost_the_default_ratio_decides_and_profit_is_unknown(self) -> None:
        world = World().sells(variable_cost=np.nan, batch_fixed_cost=2.0)
        world.ratios["t"] = 0.9
        line = world.line()
        assert (line["critical_ratio"], line["is_default_critical_ratio"]) == (pytest.approx(0.9), True)
        assert line["optimal_units"] == pytest.approx(130)
        assert np.isnan(line["expected_profit"])
        assert line["batches"] == 5
        # In shares of Cu + Co: the first batch sells all of its units, and saves 0.9 on each.
        assert line["batch_marginal_values"][0] == pytest.approx(24 * 0.9, abs=1e-5)
        (exception,) = world.plan().exceptions.itertuples()
        assert (exception.code, exception.subject_kind, exception.subject_id) == ("missing_cost", "product", "bread")
        assert exception.link == "production_plans"
        assert exception.remedy

    @pytest.mark.parametrize(
        ("facts", "codes"),
        [
            ({"unit_price": np.nan}, ["missing_price"]),
            ({"unit_price": np.nan, "variable_cost": np.nan}, ["missing_cost", "missing_price"]),
            ({"unit_price": 0.5, "variable_cost": 0.5}, ["no_margin"]),
            ({"salvage_value": 0.5}, ["salvage_above_cost"]),
            ({"unit_price": 0.5, "goodwill_cost": 0.1}, []),
        ],
    )
    def test_prices_that_give_no_ratio_are_reported(self, facts: dict, codes: list[str]) -> None:
        world = World().sells(**facts)
        assert world.codes() == codes
        assert world.line()["is_default_critical_ratio"] == bool(codes)
        assert (world.line()["quantity_units"] == 120) == bool(codes)

    def test_a_known_loss_is_shown_as_a_loss(self) -> None:
        assert World().sells(unit_price=0.4).line()["expected_profit"] < 0

    def test_a_product_made_nowhere_is_reported_and_not_planned(self) -> None:
        world = World().sells(made_at=None)
        assert world.codes() == ["missing_made_at"]
        assert world.plan().lines.empty

    def test_an_unknown_product_is_reported_and_not_planned(self) -> None:
        world = World().sells().sells(product="cake")
        del world.products["t", "cake"]
        assert world.codes() == ["missing_product"]
        assert world.line()["product_id"] == "bread"

    def test_crossed_quantiles_are_sorted_and_reported(self) -> None:
        crossed = BREAD[[0, 1, 3, 2, 4, 5, 6, 7, 8]]
        world = World().sells(crossed)
        assert world.codes() == ["crossed_quantiles"]
        assert world.line()["optimal_units"] == pytest.approx(113.176471, abs=5e-7)


class TestTenants:
    @pytest.mark.parametrize(
        ("spoil", "reason"),
        [
            (lambda w: w.sells(np.full(9, np.nan), tenant="bad"), "not a finite"),
            (lambda w: w.sells(np.full(9, -1), tenant="bad"), "non-negative"),
            (lambda w: w.sells(np.full(9, np.inf), tenant="bad"), "not a finite"),
            (lambda w: w.sells(tenant="bad", batch_size_units=0), "batch size"),
            (lambda w: w.sells(tenant="bad", batch_size_units=np.nan), "batch size"),
            (lambda w: w.sells(tenant="bad").ratios.update(bad=1.0), "critical ratio"),
            (lambda w: w.sells(tenant="bad").ratios.pop("bad"), "critical ratio"),
        ],
    )
    def test_a_tenant_with_unusable_numbers_is_set_aside_and_the_others_are_planned(
        self, spoil: Callable[[World], object], reason: str
    ) -> None:
        alone = World().sells().plan()
        world = World().sells()
        spoil(world)
        plans = world.plan()
        (row,) = plans.set_aside.itertuples()
        assert (row.tenant_id, row.link) == ("bad", "production_plans")
        assert reason in row.reason
        assert row.remedy
        pd.testing.assert_frame_equal(plans.lines, alone.lines)
        assert "bad" not in set(plans.planned.keys["tenant_id"]) | set(plans.exceptions["tenant_id"])

    def test_an_unknown_tenant_of_an_order_is_set_aside(self) -> None:
        world = World().sells()
        world.orders.append(("stranger", "shop", "bread", MONDAY, 5.0))
        assert world.plan().set_aside["tenant_id"].tolist() == ["stranger"]

    def test_no_tenants_give_empty_plans(self) -> None:
        plans = World().plan()
        assert (len(plans.lines), len(plans.planned), len(plans.exceptions), len(plans.set_aside)) == (0, 0, 0, 0)
        assert tuple(plans.lines.columns) == LINE_COLUMNS
        assert plans.planned["horizon_units"].shape == plans.planned["deviation_units"].shape == (0, PLAN_DAYS)

    def test_numbers_as_a_database_gives_them_plan_alike(self) -> None:
        plain = World().sells(shelf_life_days=np.nan).order(7).lot(5, None).plan()
        decimals = {name: Decimal(str(value)) for name, value in PRODUCT.items() if isinstance(value, float | int)}
        world = World().sells(**{**decimals, "batch_max_per_day": None, "shelf_life_days": None})
        world.ratios["t"] = Decimal("0.700")
        world.order(Decimal(7)).lot(Decimal(5), None)  # type: ignore[arg-type]
        pd.testing.assert_frame_equal(world.plan().lines, plain.lines, check_exact=True)

    def test_forecasts_of_another_day_are_refused(self) -> None:
        panel = Panel(frame_of(["tenant_id", "location_id", "product_id"]), {}, MONDAY)
        with pytest.raises(ValueError, match="14 days"):
            plan_production(
                panel, assortment=frame_of([]), products=frame_of([]), orders=frame_of([]), opening_lots=frame_of([]),
                tenants=frame_of([]), plan_date=MONDAY,
            )  # fmt: skip


def random_world(seed: int) -> World:
    """Three tenants with outlets, kitchens, orders, stock, odd batches and missing costs."""
    rng = np.random.default_rng(seed)
    world = World()
    for tenant in ("t", "u", "v"):
        for product in ("bread", "roll", "cake"):
            facts = {
                "batch_size_units": float(rng.choice([1, 2.5, 0.1, 24, 60])),
                "batch_min": int(rng.integers(0, 4)),
                "batch_multiple": int(rng.integers(1, 4)),
                "batch_max_per_day": float(rng.choice([np.nan, 6, 12])),
                "batch_fixed_cost": float(rng.choice([0, 0.5])),
                "made_on_weekdays": sorted(rng.choice(7, 5, replace=False).tolist()),
                "shelf_life_days": float(rng.choice([1, 1, 2, 3, 20, np.nan])),
                "unit_price": float(rng.choice([np.nan, 0.4, 2, 3])),
                "salvage_value": float(rng.choice([0, 0.3, -0.2])),
            }
            for location in ("shop", "outlet"):
                quantiles = np.sort(rng.gamma(1, rng.choice([0.5, 40]), 9)).round(int(rng.integers(0, 3)))
                made_at = str(rng.choice(["shop", location]))
                closed = tuple(rng.choice(PLAN_DAYS, 3).tolist())
                world.sells(quantiles, tenant, location, product, made_at, closed, **facts)
                due_on = MONDAY + timedelta(days=int(rng.integers(0, 14)))
                world.orders.append((tenant, location, product, due_on, float(rng.integers(1, 60))))
                world.lots.append((tenant, location, product, "l", float(rng.integers(1, 60)), MONDAY, None, 0.5))
    return world


def rows_of(plans: ProductionPlans, tenant: str) -> list[pd.DataFrame]:
    frames = (plans.lines, plans.exceptions, plans.set_aside)
    return [frame[frame["tenant_id"] == tenant].reset_index(drop=True) for frame in frames]


class TestInvariants:
    @given(st.integers(0, 10_000))
    @few_examples
    def test_lines_are_on_the_batch_grid_and_balance(self, seed: int) -> None:
        world = random_world(seed)
        plans = world.plan()
        horizon = np.array(plans.lines["horizon_units"].tolist())
        np.testing.assert_array_equal(horizon, plans.planned["horizon_units"])
        np.testing.assert_array_equal(horizon[:, 0], plans.lines["quantity_units"])
        for line, units in zip(plans.lines.itertuples(), horizon, strict=True):
            facts = world.products[line.tenant_id, line.product_id]
            most = np.nan_to_num(facts["batch_max_per_day"], nan=np.inf)
            fewest = min(np.ceil(facts["batch_min"] / facts["batch_multiple"]) * facts["batch_multiple"], most)
            counts = units / facts["batch_size_units"]
            np.testing.assert_allclose(counts, counts.round(), atol=1e-6)
            assert not (counts.round() % facts["batch_multiple"]).any()
            assert ((counts < 1e-6) | ((counts > fewest - 1e-6) & (counts < most + 1e-6))).all()
            assert line.quantity_units == round(line.batches * line.batch_size_units, 6)
            assert len(line.batch_marginal_values) == line.batches
            assert line.batch_marginal_values == sorted(line.batch_marginal_values, reverse=True)
            assert 0 <= line.sold_out_probability <= 1
            assert min(line.expected_waste_units, line.expected_lost_units, line.expected_carried_units) >= 0
            assert line.batches == line.recommended_batches == line.unlimited_batches
            if line.limited_by != "closed" and facts["shelf_life_days"] == 1:
                surplus = line.quantity_units + line.opening_usable_units - line.mean_demand_units
                assert line.expected_waste_units - line.expected_lost_units == pytest.approx(surplus, abs=1e-6)
            assert line.expected_sales_units + line.expected_lost_units == pytest.approx(
                line.mean_demand_units, abs=1e-6
            )
            supply = line.quantity_units + line.opening_usable_units
            assert line.expected_sales_units + line.expected_carried_units <= supply + 1e-6

    @given(st.integers(0, 10_000))
    @settings(max_examples=8, deadline=None)
    def test_closed_days_and_days_without_making_plan_nothing(self, seed: int) -> None:
        world = random_world(seed)
        plans = world.plan()
        for line in plans.lines.itertuples():
            weekdays = world.products[line.tenant_id, line.product_id]["made_on_weekdays"]
            served = [
                world.forecasts[tenant, location, product][1]
                for tenant, location, product, made_at in world.assortment
                if (tenant, product, made_at) == (line.tenant_id, line.product_id, line.location_id)
            ]
            is_made = np.any(served, axis=0) & np.isin(np.arange(PLAN_DAYS) % 7, weekdays)
            assert not np.array(line.horizon_units)[~is_made].any()
            assert not np.array(line.deviation_units)[~is_made].any()
            assert (line.limited_by in ("closed", "not_made_today")) == (not is_made[0])

    @given(st.integers(0, 10_000))
    @settings(max_examples=4, deadline=None)
    def test_same_inputs_give_the_same_plan_to_the_byte(self, seed: int) -> None:
        one, other = random_world(seed).plan(), random_world(seed).plan()
        assert one.lines.to_json(date_format="iso", double_precision=15) == other.lines.to_json(
            date_format="iso", double_precision=15
        )
        assert one.planned["horizon_units"].tobytes() == other.planned["horizon_units"].tobytes()
        assert one.exceptions.to_json() == other.exceptions.to_json()

    @given(st.integers(0, 10_000))
    @settings(max_examples=10, deadline=None)
    def test_the_order_of_rows_does_not_matter(self, seed: int) -> None:
        world = random_world(seed)
        one, other = world.plan(), world.plan(seed=seed)
        pd.testing.assert_frame_equal(one.lines, other.lines, check_exact=True)
        pd.testing.assert_frame_equal(one.exceptions, other.exceptions)
        np.testing.assert_array_equal(one.planned["horizon_units"], other.planned["horizon_units"])

    @given(st.integers(0, 10_000))
    @settings(max_examples=10, deadline=None)
    def test_a_tenant_is_planned_alike_alone_and_among_others(self, seed: int) -> None:
        world = random_world(seed)
        alone = World()
        alone.forecasts = {key: value for key, value in world.forecasts.items() if key[0] == "u"}
        alone.products = {key: value for key, value in world.products.items() if key[0] == "u"}
        for name in ("assortment", "orders", "lots"):
            setattr(alone, name, [row for row in getattr(world, name) if row[0] == "u"])
        alone.ratios = {"u": 0.7}
        for ours, theirs in zip(rows_of(alone.plan(), "u"), rows_of(world.plan(), "u"), strict=True):
            pd.testing.assert_frame_equal(ours, theirs, check_exact=True)

    def test_inputs_are_left_as_they_were(self) -> None:
        world = random_world(1)
        before = {key: (units.copy(), is_open.copy()) for key, (units, is_open) in world.forecasts.items()}
        world.plan()
        for key, (units, is_open) in world.forecasts.items():
            np.testing.assert_array_equal(units, before[key][0])
            np.testing.assert_array_equal(is_open, before[key][1])
