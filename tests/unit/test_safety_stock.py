"""Safety stock, reorder points and the service they buy, against published examples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planning.safety_stock import (
    cycle_service_level,
    expected_shortage,
    fill_rate,
    lead_time_deviation,
    order_up_to_level,
    reorder_point,
    safety_stock,
    service_z,
    window_deviation,
    z_for_fill_rate,
)

TABLE_Z = 1.65  # what textbooks print for 95 %


def test_taylor_carpet_store():
    """I-75 Carpet Discount Store: 30 yards a day, sigma 5, lead time 10 days, 95 %."""
    sigma = lead_time_deviation(5, 10)
    assert safety_stock(sigma, TABLE_Z) == pytest.approx(26.088791, abs=5e-7)
    assert reorder_point(30, 10, safety_stock(sigma, TABLE_Z)) == pytest.approx(326.1, abs=0.05)
    assert reorder_point(30, 10, safety_stock(sigma, service_z(0.95))) == pytest.approx(326.007419, abs=5e-7)


def test_heizer_render_with_variable_demand_and_lead_time():
    sigma = lead_time_deviation(16, 5, mean_demand=150, lead_time_deviation=1)
    assert sigma == pytest.approx(154.2077, abs=5e-5)
    assert reorder_point(150, 5, safety_stock(sigma, TABLE_Z)) == pytest.approx(1004.4426, abs=5e-5)


def test_chopra_meindl_fill_rate():
    """B&M: weekly 2500 and sigma 500, two weeks, reorder point 6000, lots of 10000."""
    sigma = lead_time_deviation(500, 2)
    z = (6000 - 2 * 2500) / sigma
    assert sigma == pytest.approx(707.11, abs=0.005)
    assert cycle_service_level(6000, 5000, sigma) == pytest.approx(0.9214, abs=5e-5)
    assert expected_shortage(sigma, z) == pytest.approx(25.127, abs=5e-4)
    assert fill_rate(10_000, sigma, z) == pytest.approx(0.99749, abs=5e-6)


def test_render_hardware_warehouse_with_constant_demand():
    sigma = lead_time_deviation(0, 3, mean_demand=5, lead_time_deviation=2)
    assert sigma == pytest.approx(10)
    assert safety_stock(sigma, TABLE_Z) == pytest.approx(16.5)
    assert reorder_point(5, 3, safety_stock(sigma, TABLE_Z)) == pytest.approx(31.5)


def test_periodic_review_protects_from_an_order_to_the_delivery_of_the_next():
    level = order_up_to_level(20, 4, review_period=7, lead_time=2, z=2.0, lead_time_deviation=0.5)
    assert level == pytest.approx(9 * 20 + 2 * np.sqrt(9 * 16 + 400 * 0.25))


def test_a_window_counts_only_its_own_days():
    deviations = np.array([[3.0, 4.0, 12.0], [3.0, 4.0, 12.0]])
    in_window = np.array([[True, True, False], [False, False, False]])
    assert window_deviation(deviations, in_window).tolist() == [5, 0]
    late = window_deviation(deviations, in_window, mean_demand=np.array([6.0, 2.0]), lead_time_deviation=2.0)
    assert late.tolist() == [13, 4]


def test_certain_demand_is_served_or_not():
    assert cycle_service_level([4.0, 5.0, 6.0], 5.0, 0.0).tolist() == [0, 1, 1]


@pytest.mark.parametrize("level", [0.0, 1.0, -0.1, 1.1])
def test_impossible_services_are_refused(level):
    with pytest.raises(ValueError, match="between 0 and 1"):
        service_z(level)
    with pytest.raises(ValueError, match="between 0 and 1"):
        z_for_fill_rate(level, 100, 10)


def test_no_lot_has_no_fill_rate():
    with pytest.raises(ValueError, match="above 0"):
        z_for_fill_rate(0.9, [10.0, 0.0], 5.0)


def test_certain_demand_needs_no_safety_stock_for_its_fill_rate():
    assert z_for_fill_rate([0.9, 0.9], 10.0, [0.0, 5.0])[0] == -np.inf


@given(st.floats(0.01, 0.99999), st.floats(0.1, 1e5), st.floats(0.01, 1e5))
def test_solving_for_z_gives_the_fill_rate_back(rate, quantity, sigma):
    z = z_for_fill_rate(rate, quantity, sigma)
    assert fill_rate(quantity, sigma, z) == pytest.approx(rate, abs=1e-7)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=14), st.floats(0, 50), st.floats(0, 5))
def test_a_window_of_alike_days_is_the_textbook_deviation(sigmas, mean, lead_sd):
    alike = np.full(len(sigmas), sigmas[0])
    of_window = window_deviation(alike, mean_demand=mean, lead_time_deviation=lead_sd)
    textbook = lead_time_deviation(sigmas[0], len(sigmas), mean_demand=mean, lead_time_deviation=lead_sd)
    assert of_window == pytest.approx(textbook)


@pytest.mark.parametrize("wrong", [-1.0, np.nan])
def test_negative_and_missing_values_are_refused(wrong):
    for call in (
        lambda: lead_time_deviation(wrong, 5),
        lambda: lead_time_deviation(5, wrong),
        lambda: window_deviation([1.0, wrong]),
        lambda: safety_stock(wrong, 1.65),
        lambda: cycle_service_level(5, 4, wrong),
        lambda: z_for_fill_rate(0.9, 100, wrong),
        lambda: order_up_to_level(5, 1, review_period=wrong, lead_time=1, z=1),
    ):
        with pytest.raises(ValueError, match="cannot be negative"):
            call()
    with pytest.raises(ValueError, match="above 0"):
        fill_rate(0, 5, 1)


def test_what_never_deviates_is_never_short():
    z = z_for_fill_rate(0.98, 100, 0)
    assert fill_rate(100, 0, z) == 1
