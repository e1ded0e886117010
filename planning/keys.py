"""Finding the rows of one frame in another by their key, and dates as day numbers. No arithmetic of a plan."""

from collections.abc import Iterable, Sequence
from datetime import date

import numpy as np
import pandas as pd

NEVER = 1_000_000
"""The day number of a date that is not set: later than any horizon."""


def positions(rows: pd.DataFrame, of: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """For each of `rows`, the position in `of` of the row with the same key, -1 where there is none.

    Raises ValueError when `of` holds a key twice.
    """
    if of.empty or rows.empty:
        return np.full(len(rows), -1, dtype=np.int64)
    index = pd.MultiIndex.from_frame(of[list(columns)])
    if not index.is_unique:
        raise ValueError(f"{', '.join(columns)} must be unique; {index[index.duplicated()][0]} occurs twice")
    return np.asarray(index.get_indexer(pd.MultiIndex.from_frame(rows[list(columns)])), dtype=np.int64)


def distinct(frames: Iterable[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    """The keys that occur in any of the frames, once each and ascending."""
    parts = [frame[list(columns)] for frame in frames if len(frame)]
    if not parts:
        return pd.DataFrame({column: pd.Series(dtype=str) for column in columns})
    return pd.concat(parts, ignore_index=True).drop_duplicates().sort_values(list(columns), ignore_index=True)


def day_numbers(days: Iterable[object], first_day: date) -> np.ndarray:
    """Days from first_day to each date, NEVER where the date is not set."""
    instants = pd.to_datetime(pd.Series(days, dtype=object)).to_numpy(dtype="datetime64[D]")
    numbers = (instants - np.datetime64(first_day, "D")).astype(np.int64)
    return np.where(np.isnat(instants), NEVER, numbers)


def dates_of(day_numbers: np.ndarray, first_day: date) -> list[date | None]:
    """The dates of day numbers; None for NEVER."""
    days = (np.datetime64(first_day, "D") + np.minimum(day_numbers, NEVER)).astype(object)
    return [None if number >= NEVER else day for number, day in zip(day_numbers, days, strict=True)]


def looked_up(of: pd.Series, at: np.ndarray, default: float = np.nan) -> np.ndarray:
    """Numbers of a column at positions; `default` at -1 and where the column is empty."""
    if not len(of):
        return np.full(len(at), default)
    numbers = of.astype(float).to_numpy()[at]
    return np.where((at < 0) | np.isnan(numbers), default, numbers)
