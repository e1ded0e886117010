"""What a person sees of a materialization: small tables and pictures as Dagster metadata. No planning."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence

import dagster as dg
import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

SPARKLINE_SIZE = (240, 44)

LONGEST_INLINE_MARKDOWN = 999
"""Dagster shows longer markdown behind a link instead of in the page."""

LONGEST_TABLE_ROWS = 12


def number(value: float) -> dg.MetadataValue:
    """A number as people read it, with two decimals; Dagster plots it over the partitions."""
    return dg.MetadataValue.float(round(float(value), 2))


def sums(frame: pd.DataFrame, columns: Mapping[str, str]) -> dict[str, dg.MetadataValue]:
    """Metadata name -> sum of a column's known values; a column of which nothing is known is left out, not zero."""
    known = {name: pd.to_numeric(frame[column]).sum(min_count=min(1, len(frame))) for name, column in columns.items()}
    return {name: number(value) for name, value in known.items() if not pd.isna(value)}


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> dg.MetadataValue:
    """A table as markdown, cut to the rows that a page shows well, with the count of those left out."""
    kept = list(rows)
    shown = kept[:LONGEST_TABLE_ROWS]
    lines = [_row(columns), _row(["---"] * len(columns)), *(_row([_text(value) for value in row]) for row in shown)]
    if len(kept) > len(shown):
        lines.append(f"\n… and {len(kept) - len(shown)} more rows in the store.")
    return dg.MetadataValue.md("\n".join(lines))


def sparkline(values: np.ndarray, low: np.ndarray, high: np.ndarray, name: str) -> dg.MetadataValue:
    """A line with its band as a picture small enough to show inline.

    values, low, high: (days,) in the same unit. The picture has four colours and a few hundred bytes.
    """
    width, height = SPARKLINE_SIZE
    top = float(max(np.max(high), np.max(values), 1e-9))
    x = np.linspace(2, width - 3, len(values))

    def points(series: np.ndarray) -> list[tuple[float, float]]:
        return [(float(a), float(height - 3 - b / top * (height - 6))) for a, b in zip(x, series, strict=True)]

    picture = _picture()
    draw = ImageDraw.Draw(picture)
    draw.polygon(points(high) + points(low)[::-1], fill=1)
    draw.line(points(values), fill=2, width=2)
    return _inline(picture, draw, name)


def bars(values: np.ndarray, line: np.ndarray, name: str) -> dg.MetadataValue:
    """A bar a day and a line over them, as a picture small enough to show inline.

    values, line: (days,) in the same unit, at most 120 of them; NaN leaves the day's place empty. Steps and bars compress to
    half of what slopes take, whatever the values.
    """
    width, height = SPARKLINE_SIZE
    step = width // len(values)
    top = float(max(np.nanmax(np.concatenate([values, line]), initial=0.0), 1e-9))
    picture = _picture()
    draw = ImageDraw.Draw(picture)

    def level(value: float) -> int:
        return height - 2 - round(float(value) / top * (height - 4))

    for n, (value, of_line) in enumerate(zip(values, line, strict=True)):
        if np.isfinite(value):
            draw.rectangle([n * step, level(value), (n + 1) * step - 1, height - 2], fill=1)
        if np.isfinite(of_line):
            draw.line([(n * step, level(of_line)), ((n + 1) * step - 1, level(of_line))], fill=2, width=2)
    return _inline(picture, draw, name)


def _picture() -> Image.Image:
    picture = Image.new("P", SPARKLINE_SIZE, 0)
    picture.putpalette([255, 255, 255, 253, 224, 178, 194, 65, 12, 120, 113, 108])
    return picture


def _inline(picture: Image.Image, draw: ImageDraw.ImageDraw, name: str) -> dg.MetadataValue:
    """The picture with its base line, as markdown that Dagster shows in the page."""
    width, height = SPARKLINE_SIZE
    draw.line([(0, height - 1), (width, height - 1)], fill=3)
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True, bits=2)
    text = f"![{name}](data:image/png;base64,{base64.b64encode(file.getvalue()).decode()})"
    if len(text) > LONGEST_INLINE_MARKDOWN:
        raise ValueError(f"The picture {name!r} takes {len(text)} characters, too many to show inline.")
    return dg.MetadataValue.md(text)


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _text(value: object) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:,.1f}"
    # A bar in a name would end the cell.
    return str(value).replace("|", "/")
