"""Quantities in words: short, and never another number than the one that is meant."""

import pytest

from planning.frames import figure


@pytest.mark.parametrize(
    ("quantity", "said"),
    [
        (5.40816, "5.41"),
        (12.0, "12"),
        (112.5, "112.5"),
        (123.456, "123.5"),
        (0.0123456, "0.0123"),
        (0.000001, "0.000001"),
        (9.9999, "10"),
        (999.97, "1000"),
        (12345.6, "12,346"),
        (1234567.0, "1,234,567"),
        (0.0, "0"),
        (-1e-9, "0"),
        (-2.345, "-2.35"),
        (None, "–"),
    ],
)
def test_a_quantity_has_the_digits_that_anybody_counts_by(quantity: float | None, said: str) -> None:
    assert figure(quantity) == said
