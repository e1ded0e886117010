"""The synthetic bakeries: the same from the same seed, shaped like bakeries, and named for what they are."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from daybreak.sample import CATALOGUE, DOUGHS, SampleTenant, _bought_per_unit, generate
from resources.imports.contracts import KINDS
from resources.imports.source import Source, read
from resources.imports.values import BadValue
from resources.store.master import checked

UNTIL = date(2025, 3, 10)
NOW = datetime(2025, 3, 10, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def chain() -> SampleTenant:
    return generate(until=UNTIL).tenants[0]


@pytest.fixture(scope="module")
def sales(chain: SampleTenant) -> pd.DataFrame:
    return chain.sales()


def test_the_same_seed_makes_the_same_frames_and_another_seed_others() -> None:
    def frames(seed: int) -> dict[str, pd.DataFrame]:
        return generate(seed, 2, 60, until=UNTIL).tenants[1].frames()

    first, second, other = frames(1), frames(1), frames(2)
    for kind, frame in first.items():
        pd.testing.assert_frame_equal(frame, second[kind])
    assert not first["sales"].equals(other["sales"])


def test_generating_a_day_later_adds_a_day_and_changes_none(chain: SampleTenant, sales: pd.DataFrame) -> None:
    later = SampleTenant(chain.place, chain.seed, chain.days + 1, UNTIL + timedelta(days=1)).sales()
    yesterday = UNTIL.isoformat()
    assert (later["business_date"] == yesterday).any()
    pd.testing.assert_frame_equal(later[later["business_date"] < yesterday].reset_index(drop=True), sales)


def test_sales_end_on_the_day_before_in_each_time_zone() -> None:
    fleet = generate(until=datetime(2025, 3, 10, 11, 30, tzinfo=UTC), days=10)
    madrid, auckland = fleet.tenants[0], fleet.tenants[5]
    assert madrid.sales()["business_date"].max() == "2025-03-09"
    assert auckland.sales()["business_date"].max() == "2025-03-10"


def test_every_cell_of_every_file_meets_its_contract() -> None:
    for tenant in generate(tenants=7, days=40, until=UNTIL).tenants:
        for name, frame in tenant.frames().items():
            kind = KINDS[name]
            columns = [column.name for column in kind.columns]
            required = [column.name for column in kind.columns if column.is_required]
            source = Source.of_bytes("t", name, frame.to_csv(index=False).encode())
            header, chunks = read(source, columns, required)
            for chunk in chunks:
                assert not chunk.ragged
                for row in chunk.rows:
                    for column, text in zip(header, row, strict=True):
                        if not text:
                            assert not kind.column(column).is_required
                            continue
                        try:
                            kind.column(column).reader(text)
                        except BadValue as error:
                            pytest.fail(f"{name}.{column} {text!r}: {error.problem}")
            assert not frame.duplicated([name for name in kind.key if name in frame]).any()


def test_names_and_ids_say_that_they_are_synthetic() -> None:
    for sample in generate(tenants=12, until=UNTIL).tenants:
        tenant = checked(sample.tenant(NOW))
        assert tenant.is_synthetic
        assert tenant.tenant_id.startswith("sample-")
        assert "(synthetic)" in tenant.name
        assert sample.frames()["products"]["name"].str.contains("(synthetic)", regex=False).all()


def test_any_number_of_bakeries_has_ids_of_its_own() -> None:
    ids = [tenant.tenant_id for tenant in generate(tenants=1_000, until=UNTIL).tenants]
    assert len(set(ids)) == 1_000
    assert ids[:3] == [tenant.tenant_id for tenant in generate(tenants=3, until=UNTIL).tenants]


def test_demand_has_a_weekday_and_a_yearly_shape(sales: pd.DataFrame) -> None:
    days = pd.to_datetime(sales["business_date"])
    by_weekday = sales["quantity_units"].groupby(days.dt.day_of_week).sum()
    assert by_weekday[5] > 1.2 * by_weekday[1]
    rolls = sales["product_id"] == "cinnamon-roll"
    by_month = sales["quantity_units"][rolls].groupby(days[rolls].dt.month).mean()
    assert by_month[[12, 1, 2]].mean() > 1.1 * by_month[[6, 7]].mean()


def test_sell_outs_are_marked_by_a_time_within_opening_hours_and_are_not_rare(sales: pd.DataFrame) -> None:
    sold_out = sales["sold_out_at"][sales["sold_out_at"] != ""]
    assert 0.02 < len(sold_out) / len(sales) < 0.25
    assert sold_out.between("07:00", "19:30").all()


def test_the_hourly_profile_and_the_time_of_a_sell_out_tell_how_many_wanted_one(
    chain: SampleTenant, sales: pd.DataFrame
) -> None:
    profile = chain.frames()["hourly-profile"]
    sums = profile.groupby(["location_id", "product_id", "weekday"])["share"].sum()
    assert np.allclose(sums, 1, atol=1e-4)
    rows = sales[(sales["sold_out_at"] != "") & (sales["location_id"] == chain.locations[0])]
    rows = rows[rows["product_id"].isin(profile["product_id"])]
    hour = rows["sold_out_at"].str[:2].astype(int) + rows["sold_out_at"].str[3:].astype(int) / 60
    one_day = profile[profile["weekday"] == 0].drop_duplicates("hour")
    share = np.interp(hour, [*one_day["hour"], 20], [0, *np.cumsum(one_day["share"])])
    lost = (rows["quantity_units"] / share - rows["quantity_units"]).mean()
    # What is baked lies about one standard deviation above the mean: few are missed, and never many times what was sold.
    assert 0.01 < lost / rows["quantity_units"].mean() < 0.3


def test_closed_days_have_no_sales(chain: SampleTenant, sales: pd.DataFrame) -> None:
    events = chain.frames()["events"]
    closed = events[(events["kind"] == "closure") & (events["location_id"] == "")]
    assert len(closed) > 0
    assert not sales["business_date"].isin(closed["business_date"].astype(str)).any()
    london = generate(until=UNTIL, days=60).tenants[2]
    weekdays = pd.to_datetime(london.sales()["business_date"]).dt.day_of_week
    assert london.place.closed_weekday not in set(weekdays)


def test_there_are_new_and_intermittent_products(sales: pd.DataFrame) -> None:
    days = sales.groupby("product_id")["business_date"].agg(["min", "nunique"])
    assert days.loc["seeded-roll", "min"] >= "2025-02-01"
    assert days.loc["celebration-cake", "nunique"] < 0.8 * days.loc["croissant", "nunique"]


def test_recipes_share_doughs_over_several_levels(chain: SampleTenant) -> None:
    recipes = chain.frames()["recipes"]
    outputs = set(recipes["output_item_id"])
    users = recipes.groupby("item_id")["output_item_id"].nunique()
    assert users["white-dough"] >= 3
    assert "levain" in outputs
    assert users["levain"] >= 2
    assert (recipes["yield_frac"] < 1).any()
    assert (recipes["scrap_frac"] > 0).any()


def test_what_a_unit_takes_is_followed_through_its_doughs() -> None:
    (loaf,) = (product for product in CATALOGUE if product.product_id == "sourdough-loaf")
    levain = 0.9 / (10 * 0.97) * 2.0
    expected_rye = levain / 5 * 1.0
    assert np.isclose(_bought_per_unit(loaf)["flour-rye"], expected_rye)


def test_stock_is_counted_on_the_last_day_with_a_lot_that_expires_on_it(chain: SampleTenant) -> None:
    stock = chain.frames()["stock"]
    assert stock["as_of"].max() == UNTIL
    assert (stock["expires_on"] == UNTIL).any()
    assert (stock["quantity"] > 0).all()


def test_everything_made_has_steps_that_the_place_that_makes_it_can_do() -> None:
    for tenant in generate(until=UNTIL).tenants:
        frames = tenant.frames()
        steps, resources = frames["process-steps"], frames["resources"]
        recipes, assortment = frames["recipes"], frames["assortment"]
        assert set(steps["item_id"]) == set(recipes["output_item_id"])
        assert set(steps.loc[steps["item_id"].isin(list(DOUGHS)), "resource_kind"]) == {"mixer"}
        line = recipes[recipes["item_id"].isin(list(DOUGHS))].set_index("output_item_id")["item_id"]
        for place, of_place in assortment.groupby("made_at_location_id"):
            made = set(of_place["product_id"])
            while not set(line[line.index.isin(made)]) <= made:
                made |= set(line[line.index.isin(made)])
            needed = set(steps.loc[steps["item_id"].isin(made), "resource_kind"])
            assert needed <= set(resources.loc[resources["location_id"] == place, "kind"]), (tenant.tenant_id, place)


def test_a_batch_fits_into_each_oven_and_prover() -> None:
    for tenant in generate(until=UNTIL).tenants:
        frames = tenant.frames()
        holds = frames["resources"].groupby("kind")["capacity"].min()
        steps = frames["process-steps"]
        of_kind = steps[steps["resource_kind"].isin(["oven", "prover"])]
        assert (of_kind["capacity_use"] <= of_kind["resource_kind"].map(holds)).all()


def test_one_bakery_is_short_of_its_oven_on_saturdays_only() -> None:
    """Tray-minutes that mean demand takes in whole batches, by those that the oven has until the shop opens."""
    madrid = generate(until=UNTIL).tenants[1]
    frames = madrid.frames()
    bake = frames["process-steps"].set_index("item_id").query("resource_kind == 'oven'")
    size = frames["products"].set_index("product_id")["batch_size_units"]
    sales = frames["sales"]
    sales = sales[sales["business_date"] >= (UNTIL - timedelta(days=28)).isoformat()]
    weekday = pd.to_datetime(sales["business_date"]).dt.day_of_week.rename("weekday")
    units = sales.groupby([weekday, "product_id"])["quantity_units"].sum().unstack(fill_value=0) / 4
    batches = np.ceil(units / size[units.columns])
    needed = (batches * (bake["minutes"] * bake["capacity_use"])[units.columns]).sum(axis=1)
    (oven,) = frames["resources"].query("kind == 'oven'").to_dict("records")
    shared = frames["resource-calendar"].set_index("on_date")["capacity"]
    assert {day.weekday() for day in shared.index} == {5}
    assert {UNTIL + timedelta(days=5), UNTIL + timedelta(days=12)} <= set(shared.index)
    trays = pd.Series(oven["capacity"], range(7)).where(np.arange(7) != 5, shared.max())
    load = needed / (trays * 60 * (7 - int(oven["available_from"][:2])))
    assert load[5] > 1.1
    assert load.drop(5).max() < 0.9


def test_the_bakeries_differ_in_what_planning_has_to_deal_with() -> None:
    fleet = generate(until=UNTIL).tenants
    assert [tenant.tenant_id for tenant in fleet if not tenant.tenant(NOW).auto_approve] == ["sample-kolkata"]
    serviced = {tenant.tenant_id for tenant in fleet if "resource-calendar" in tenant.frames()}
    assert serviced == {"sample-madrid", "sample-new-york"}
    for tenant in fleet:
        frames = tenant.frames()
        offers = frames["supplier-items"].groupby("item_id")["supplier_id"].nunique()
        assert set(offers[offers == 2].index) == {"flour-wheat", "butter"}
        assert set(frames["supplier-items"]["supplier_id"]) <= set(frames["suppliers"]["supplier_id"])
        rules = frames["items"].set_index("item_id")["lot_rule"]
        assert rules[rules != "delivery_calendar"].to_dict() == {"sugar": "fixed", "chocolate": "wagner_whitin"}


def test_bakeries_that_bake_at_night_plan_the_day_before() -> None:
    for tenant in generate(until=UNTIL).tenants:
        frames = tenant.frames()
        opens_at = frames["opening-hours"]["opens_at"].min()
        assert (frames["resources"].query("kind == 'oven'")["available_from"] != opens_at).all()
        assert tenant.tenant(NOW).plan_lead_days == 1, tenant.tenant_id
        first_day = UNTIL + timedelta(days=1)
        if tenant.place.is_serviced:
            assert first_day.weekday() != tenant.place.closed_weekday
            assert set(frames["resource-calendar"]["on_date"]) == {first_day}, "the first day that is planned"


def test_what_is_left_of_products_that_keep_can_still_be_sold(chain: SampleTenant) -> None:
    stock = chain.frames()["stock"]
    products = stock[stock["item_id"].isin([product.product_id for product in CATALOGUE])]
    assert len(products) > 0
    assert (products["expires_on"] >= UNTIL).all()
    made_at = chain.frames()["assortment"].groupby("product_id")["made_at_location_id"].agg(set)
    for row in products.itertuples():
        assert row.location_id in made_at[row.item_id]
