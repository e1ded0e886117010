"""Pictures for people, drawn by matplotlib into files. Nothing here computes a forecast or a score that is reported.

Quantiles are never added up: a picture shows one series, whose quantiles the forecast states.
"""

import os
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from planning.frames import QUANTILE_LEVELS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from planning.backtest import BacktestRows

SUFFIXES = (".png", ".svg")
LOW, HIGH = QUANTILE_LEVELS.index(0.10), QUANTILE_LEVELS.index(0.90)
DAY_KINDS = {"holiday": ("holiday or the day beside it", "#dcefd8"), "promotion": ("promotion", "#fde3c4")}
"""How days that are not normal are marked: label and colour."""

MOST_CHANGES = 4
"""More changes of what serves than these are left out of a picture."""

EPOCH = date(1970, 1, 1).toordinal()

BAND, MEAN, ACTUAL = "#a9cbe8", "#0b559f", "#222222"


class PlotRefused(Exception):
    """A picture cannot be written there. The message carries the remedy."""


def checked_path(path: Path) -> Path:
    """The path itself, tried before the work whose picture it shall hold. Raises PlotRefused."""
    if path.suffix.lower() not in SUFFIXES:
        raise PlotRefused(
            f"{path.name} ends in neither {' nor '.join(SUFFIXES)}. Remedy: name the file by one of these suffixes."
        )
    if path.is_dir():
        raise PlotRefused(f"{path} is a folder. Remedy: name a file in it.")
    if not path.parent.is_dir():
        raise PlotRefused(f"The folder {path.parent} does not exist. Remedy: make it, or name a file elsewhere.")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise PlotRefused(f"{path} cannot be written. Remedy: make it writable for you, or name a file elsewhere.")
    return path


def largest_series(rows: "BacktestRows", selection: np.ndarray) -> int:
    """The position among the keys of the series that sold most in the selected rows."""
    sold = np.bincount(rows.series[selection], weights=rows.actual_units[selection], minlength=len(rows.keys))
    return int(np.argmax(sold))


def draw_backtest(rows: "BacktestRows", selection: np.ndarray, path: Path, candidate: str = "champion") -> str:
    """Draw forecast band and mean of the nearest horizon against what was sold, for the largest series of the selection.

    selection: (rows,) bool with at least one row. The band reaches from the 0.1 to the 0.9 quantile. Days without a row,
    which are closed ones, stay empty. Returns the caption. Raises PlotRefused when the file cannot be written.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 (only a picture needs it)

    series = largest_series(rows, selection)
    of_series = selection & (rows.series == series)
    horizon = int(rows.horizon_days[of_series].min())
    shown = np.nonzero(of_series & (rows.horizon_days == horizon))[0]
    shown = shown[np.argsort(rows.target[shown], kind="stable")]
    figure = Figure(figsize=(13, 5.2), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    _draw_days(axes, rows, shown, candidate)
    key = rows.keys.iloc[series]
    if candidate == "champion":
        _draw_changes(axes, rows.champions[rows.champions["tenant_id"] == key["tenant_id"]])
    figure.suptitle(
        f"{key['product_id']} at {key['location_id']}, {key['tenant_id']}: forecast {_ahead(horizon)} ahead",
        x=0.01, ha="left", fontsize=14, fontweight="bold",
    )  # fmt: skip
    chosen = len(np.unique(rows.series[selection]))
    which = "The series" if chosen == 1 else f"The largest of {chosen} series"
    caption = f"{which}; {_summary(rows, shown, candidate)}"
    axes.set_title(caption, loc="left", fontsize=10, color="#555555")
    try:
        figure.savefig(path)
    except OSError as error:
        raise PlotRefused(f"{path} cannot be written ({error.strerror}). Remedy: name a file elsewhere.") from error
    return caption


def _draw_days(axes: "Axes", rows: "BacktestRows", shown: np.ndarray, candidate: str) -> None:
    day = rows.target[shown].astype("datetime64[D]").astype(np.int64)
    mean, levels = rows.mean_units[candidate][shown], rows.quantile_units[candidate][shown]
    actual, is_sold_out = rows.actual_units[shown], rows.is_censored[shown]
    for kind, (label, colour) in DAY_KINDS.items():
        for n, marked in enumerate(day[rows.day_kind[shown] == kind]):
            axes.axvspan(marked - 0.5, marked + 0.5, color=colour, lw=0, zorder=0, label=None if n else label)
    # Bars and strokes as wide as a day leave closed days empty and show an open one between two of them.
    axes.bar(
        day, levels[:, HIGH] - levels[:, LOW], bottom=levels[:, LOW],
        width=1.0, color=BAND, lw=0, label="forecast, 10 to 90 %", zorder=1,
    )  # fmt: skip
    axes.hlines(mean, day - 0.5, day + 0.5, color=MEAN, lw=2, label="forecast, mean", zorder=2)
    every_day = np.arange(day.min(), day.max() + 1)
    line = np.full(len(every_day), np.nan)
    line[day - day.min()] = actual
    axes.plot(every_day, line, color=ACTUAL, lw=0.8, alpha=0.55, zorder=3)
    axes.plot(day[~is_sold_out], actual[~is_sold_out], "o", color=ACTUAL, ms=4, label="sold", zorder=4)
    if is_sold_out.any():
        axes.plot(
            day[is_sold_out], actual[is_sold_out], "^", mfc="white", mec=ACTUAL, ms=6,
            label="sold out: demand as estimated", zorder=4,
        )  # fmt: skip
    axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
    axes.set_xlim(day.min() - 1, day.max() + 1)
    axes.set_ylabel("units a day")
    # Day 0 is 1970-01-01, a Thursday.
    mondays = every_day[every_day % 7 == 4][:: 1 + len(every_day) // 112]
    axes.set_xticks(mondays, [f"{date.fromordinal(EPOCH + int(monday)):%d %b}" for monday in mondays])
    first, last = (date.fromordinal(EPOCH + int(end)) for end in (day.min(), day.max()))
    axes.set_xlabel(f"{first:%d %B %Y} to {last:%d %B %Y}")
    axes.grid(axis="y", color="#e6e6e6", lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=6, frameon=False, fontsize=9.5)


def _draw_changes(axes: "Axes", champions: "pd.DataFrame") -> None:
    """Name what serves, and mark where that changes; many changes would only be noise."""
    from matplotlib.transforms import blended_transform_factory  # noqa: PLC0415 (only a picture needs it)

    if len(champions) > MOST_CHANGES:
        return
    along_the_top = blended_transform_factory(axes.transData, axes.transAxes)
    first, last = axes.get_xlim()
    for row in champions.itertuples():
        # The evening of the origin: the day after it is the first that this candidate forecasts.
        change = np.datetime64(row.origin, "D").astype(np.int64) + 0.5
        if first + 1 < change < last:
            axes.axvline(change, color=MEAN, lw=0.8, ls=":", zorder=1)
        if change < last:
            axes.text(
                max(change, first) + 0.3, 0.985, str(row.candidate),
                transform=along_the_top, ha="left", va="top", fontsize=9, color=MEAN,
            )  # fmt: skip


def _ahead(horizon_days: int) -> str:
    return "one day" if horizon_days == 1 else f"{horizon_days} days"


def _summary(rows: "BacktestRows", shown: np.ndarray, candidate: str) -> str:
    """What the picture's days amount to, in a line."""
    used = shown[~rows.is_censored[shown]]
    actual, levels = rows.actual_units[used], rows.quantile_units[candidate][used]
    sold = actual.sum()
    days = f"{candidate} on {len(shown)} open days"
    if not sold:
        return days
    error = rows.mean_units[candidate][used] - actual
    within = 100 * ((actual >= levels[:, LOW]) & (actual <= levels[:, HIGH])).mean()
    return (
        f"{days}: WAPE {100 * np.abs(error).sum() / sold:.1f} %, bias {100 * error.sum() / sold:+.1f} %, "
        f"{within:.0f} % of them within the band"
    )
