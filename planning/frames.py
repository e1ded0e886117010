"""The shapes that planning functions exchange, and nothing that computes a plan.

Key frames are pandas frames whose first column is `tenant_id`; quantities over days are matrices beside them.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pandas as pd

FORECAST_DAYS = 7
"""Days that a forecast covers by model."""

PLAN_DAYS = 14
"""Days that every horizon holds; those after FORECAST_DAYS are extended and flagged."""

QUANTILE_LEVELS = (0.01, 0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95, 0.99)
"""Stored quantile levels, ascending."""

ROUNDING = 6
"""Decimals to which a quantity is rounded before any ceil, so that 2.0000000001 packs are 2."""

EXCEPTION_COLUMNS = ("tenant_id", "link", "location_id", "subject_kind", "subject_id", "code", "message", "remedy")
SET_ASIDE_COLUMNS = ("tenant_id", "link", "reason", "remedy")


class PlanningError(Exception):
    """Input that no plan can be made from. The message names it and the remedy."""


@dataclass(frozen=True)
class Panel:
    """Rows of a key frame, with a matrix per quantity.

    keys: n rows with a RangeIndex; the first column is `tenant_id`.
    values: each of shape (n, days) or (n, days, levels), in the unit its name carries.
    first_day: the date of column 0.
    """

    keys: pd.DataFrame
    values: Mapping[str, np.ndarray]
    first_day: date

    def __post_init__(self) -> None:
        """Raise ValueError when a matrix does not fit the keys or another matrix."""
        for name, matrix in self.values.items():
            if matrix.ndim < 2 or matrix.shape[0] != len(self.keys) or matrix.shape[1] != self.days:
                raise ValueError(f"{name} has shape {matrix.shape}, expected ({len(self.keys)}, {self.days}, …)")

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.values[name]

    @property
    def days(self) -> int:
        """Columns of the matrices; 0 for a panel without any."""
        return next((matrix.shape[1] for matrix in self.values.values()), 0)

    def column(self, day: date) -> int:
        """The column of a date. May lie outside the panel."""
        return (day - self.first_day).days

    @property
    def dates(self) -> list[date]:
        """The date of each column."""
        return [self.first_day + timedelta(days=n) for n in range(self.days)]

    def select(self, rows: np.ndarray) -> "Panel":
        """The rows of a boolean mask or of positions, in that order."""
        keys = self.keys[rows] if rows.dtype == bool else self.keys.iloc[rows]
        return Panel(
            keys.reset_index(drop=True), {name: matrix[rows] for name, matrix in self.values.items()}, self.first_day
        )


def figure(quantity: float | None) -> str:
    """A quantity as messages and sheets for people have it: no more digits than anybody weighs or counts by.

    Three significant digits and at least one decimal, zeros at the end dropped; whole numbers from 1,000 on.
    """
    if quantity is None:
        return "–"
    quantity = round(quantity, ROUNDING) + 0.0  # a rounding error below zero is no -0
    size = abs(quantity)
    if size >= 1000:
        return f"{quantity:,.0f}"
    decimals = min(2 - math.floor(math.log10(size)), ROUNDING) if size else 0
    text = f"{quantity:.{max(decimals, 1)}f}"
    return text.rstrip("0").rstrip(".")


def frame_of(columns: Iterable[str], rows: Iterable[Iterable[object]] = ()) -> pd.DataFrame:
    """A frame with these columns, also when there are no rows."""
    return pd.DataFrame([list(row) for row in rows], columns=list(columns))


def exceptions_of(rows: Iterable[Iterable[object]] = ()) -> pd.DataFrame:
    """Exception rows: what a plan could not know or do, with the remedy."""
    return frame_of(EXCEPTION_COLUMNS, rows)


def set_aside_of(rows: Iterable[Iterable[object]] = ()) -> pd.DataFrame:
    """Tenants that a link cannot plan: link, reason and remedy."""
    return frame_of(SET_ASIDE_COLUMNS, rows)
