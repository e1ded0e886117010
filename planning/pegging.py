"""Pegging: what each purchase is for, and what each batch is made of.

A purchase line covers net requirements of days; a day's requirement of an item comes from the products planned for that
day, through the recipes; a product is made for the demand that its outlets were forecast to have, and for orders. Nothing
of this is stored row by row: it is derived here from the plan's own lines, the recipe versions that were in force and the
forecasts. What a plan should be is decided elsewhere (procurement, production).

Shares are multiples of 2^-40, so that those of a line add up to exactly one, in any order, and so do subtotals.
"""

from collections.abc import Sequence
from datetime import date

import numpy as np
import pandas as pd

from planning.distributions import QuantileDemand, pool_independent
from planning.explosion import explode
from planning.frames import Panel, PlanningError, frame_of
from planning.keys import day_numbers, looked_up, positions
from planning.lots import NOTHING, STOCK_KEY, last_usable_days, lot_table, take_first

NODE = ["tenant_id", "item_id"]
MADE = ["tenant_id", "location_id", "product_id"]
SHARE_STEPS = 2**40
"""Shares are whole numbers of steps of one over this."""

DUST = 1e-12
"""Base units below which a part of a day is left out."""

FOR_PRODUCTS, FOR_SAFETY_STOCK, FOR_ROUNDING, UNEXPLAINED = "product", "safety_stock", "rounding", "unexplained"
BY_FORECAST, BY_ORDERS, BY_NOBODY = "forecast", "orders", "none"

PATH_COLUMNS = ("tenant_id", "product_id", "item_id", "path", "level", "quantity_per")
PEG_COLUMNS = (
    "line",
    "purpose",
    "day",
    "product_id",
    "path",
    "sold_at_location_id",
    "demand_source",
    "forecast_row",
    "quantity",
    "share",
)


# ---------------------------------------------------------------- shares


def apportion(weights: np.ndarray, group: np.ndarray) -> np.ndarray:
    """The share (n,) of each weight in the sum of its group: each group's shares add up to exactly one.

    By largest remainder on steps of 2^-40: every share is rounded down, and the steps that are then missing go to the
    largest remainders, the first row first where these are equal. A group whose weights are all 0 has shares of 0. Raises
    ValueError for a weight below zero.
    """
    weights, group = np.asarray(weights, dtype=float), np.asarray(group)
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError("weights must be finite and not negative")
    _, at = np.unique(group, return_inverse=True)
    total = np.bincount(at, weights=weights)[at] if len(at) else weights
    exact = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0) * SHARE_STEPS
    steps = np.floor(exact)
    missing = (np.bincount(at, weights=total > 0) > 0) * SHARE_STEPS - np.bincount(at, weights=steps)
    order = np.lexsort((np.arange(len(at)), -(exact - steps) * (weights > 0), at))
    rank = np.arange(len(at)) - np.searchsorted(at[order], at[order])
    steps[order] += rank < missing[at[order]]
    return steps / SHARE_STEPS


# ---------------------------------------------------------------- recipes


def recipe_paths(recipes: pd.DataFrame, products: pd.DataFrame) -> pd.DataFrame:
    """Every way from a product down to an item: tenant_id, product_id, item_id, path, level, quantity_per, is_made.

    recipes: a row per line of the version in force, as `planning.explosion.explode` takes it. products: tenant_id,
    product_id. path: the ids from the product to the item, both included; level 1 is the product's own recipe.
    quantity_per: base units of the item in one unit of the product by this way, with yields and scrap. is_made: the item
    has a recipe itself. Raises PlanningError for recipes that go round in a circle.
    """
    made = recipes["output_quantity"].astype(float) * recipes["yield_frac"].astype(float)
    per = recipes["quantity"].astype(float) / (made * (1.0 - recipes["scrap_frac"].astype(float)))
    edges = recipes[["tenant_id", "output_item_id", "item_id"]].assign(per=per)
    edges = edges.sort_values(["tenant_id", "output_item_id", "item_id"], ignore_index=True)
    outputs = edges[["tenant_id", "output_item_id"]].drop_duplicates().rename(columns={"output_item_id": "item_id"})
    front = products[["tenant_id", "product_id"]].drop_duplicates().sort_values(["tenant_id", "product_id"])
    front = front.assign(
        output_item_id=front["product_id"], path=[(product_id,) for product_id in front["product_id"]], quantity_per=1.0
    )
    levels = []
    for level in range(1, len(outputs) + 2):
        front = front.merge(edges, on=["tenant_id", "output_item_id"])
        if front.empty:
            break
        if level > len(outputs):
            tenant_id, item_id = front.loc[0, "tenant_id"], front.loc[0, "item_id"]
            raise PlanningError(f"The recipes of {tenant_id} go round in a circle at {item_id}")
        front = front.assign(
            path=[(*path, item_id) for path, item_id in zip(front["path"], front["item_id"], strict=True)],
            quantity_per=front["quantity_per"] * front["per"],
            level=level,
        )
        levels.append(front[list(PATH_COLUMNS)])
        front = front.assign(output_item_id=front["item_id"])[
            ["tenant_id", "product_id", "output_item_id", "path", "quantity_per"]
        ]
    paths = pd.concat(levels, ignore_index=True) if levels else frame_of(PATH_COLUMNS)
    return paths.assign(is_made=positions(paths, outputs, NODE) >= 0)


# ---------------------------------------------------------------- purchases


def peg_purchases(
    lines: pd.DataFrame,
    requirements: Panel,
    planned: Panel,
    recipes: pd.DataFrame,
    items: pd.DataFrame,
    *,
    opening_lots: pd.DataFrame | None = None,
    forecasts: Panel | None = None,
    assortment: pd.DataFrame | None = None,
    orders: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """What each purchase line is for, down to the forecasts: rows with PEG_COLUMNS, sorted by line.

    lines: STOCK_KEY, quantity, covers_quantity (a list per day: the net requirement that the line covers); all lines of a
    stock, so that a day that two of them cover is split rightly. requirements: gross_quantity. planned: horizon_units. The
    panels begin on the same day. recipes, items, opening_lots: as `planning.explosion.explode` takes them; dough on hand
    takes its part off the products that use it. forecasts: tenant_id, location_id (where it sells), product_id; mean_units.
    assortment: where what is sold is made. orders: tenant_id, location_id, product_id, due_on, quantity_units.

    `line` is the position in lines, `day` the column of the panels (-1 for what belongs to no day), `path` the recipe way.
    purpose: product; safety_stock, what restores it beyond the day's own use; rounding, what packs, minimums and lot sizes
    add; unexplained, a requirement that the planned products and recipes do not account for. A line that is smaller than
    what it was to cover, as a person made it so, serves the first days. A product and day of several outlets is split as
    their expected demand is: forecast_row is the row of forecasts, -1 for orders (demand_source) and without any demand.

    Shares of a line add up to exactly one, and quantities, but for the last digit, to its quantity.
    """
    covers = np.array(lines["covers_quantity"].tolist(), dtype=float).reshape(len(lines), -1)
    quantity = lines["quantity"].astype(float).to_numpy()
    filled = take_first(covers, quantity)
    gross = requirements["gross_quantity"][positions(lines, requirements.keys, STOCK_KEY)]
    if len(lines) and covers.shape[1] != gross.shape[1]:
        raise ValueError(f"lines cover {covers.shape[1]} days, requirements have {gross.shape[1]}")
    net = _of_stock(lines, covers)
    used = filled * np.divide(np.minimum(net, gross), net, out=np.zeros_like(net), where=net > 0)
    by_product = _by_product(lines, used, planned, recipes, items, opening_lots)
    explained = np.zeros_like(used)
    np.add.at(explained, (by_product["line"].to_numpy(), by_product["day"].to_numpy()), by_product["quantity"])
    by_demand = _by_demand(by_product, planned.first_day, forecasts, assortment, orders)
    rest = [
        _rest(UNEXPLAINED, (used - explained).sum(axis=1)),
        _rest(FOR_SAFETY_STOCK, (filled - used).sum(axis=1)),
        _rest(FOR_ROUNDING, quantity - filled.sum(axis=1)),
    ]
    pegs = pd.concat([part for part in (by_demand, *rest) if len(part)] or [by_demand], ignore_index=True)
    pegs = pegs.assign(share=apportion(pegs["quantity"].to_numpy(dtype=float), pegs["line"].to_numpy()))
    return pegs.sort_values("line", kind="stable", ignore_index=True)[list(PEG_COLUMNS)]


def _of_stock(lines: pd.DataFrame, covers: np.ndarray) -> np.ndarray:
    """What all lines of each line's stock cover, (m, days)."""
    stock = lines.groupby(STOCK_KEY, sort=False).ngroup().to_numpy()
    total = np.zeros((stock.max(initial=-1) + 1, covers.shape[1]))
    np.add.at(total, stock, covers)
    return total[stock]


def _by_product(
    lines: pd.DataFrame,
    used: np.ndarray,
    planned: Panel,
    recipes: pd.DataFrame,
    items: pd.DataFrame,
    opening_lots: pd.DataFrame | None,
) -> pd.DataFrame:
    """Each line's days split by product and recipe way as the gross requirement is: line, day, product_id, path, …"""
    exploded = explode(planned, recipes, items, opening_lots)
    uses, made = exploded.uses, exploded.planned
    shares = np.ones((1, made.days)) if exploded.needed_shares is None else exploded.needed_shares
    wanted = pd.DataFrame(
        {
            "line": np.arange(len(lines)),
            "requirement_row": positions(lines, exploded.requirements.keys, STOCK_KEY),
            "item_id": lines["item_id"].to_numpy(dtype=object),
        }
    )
    found = wanted.merge(uses.assign(use=np.arange(len(uses))), on="requirement_row")
    at = found["planned_row"].to_numpy(dtype=np.int64)
    left = shares[found["use"].to_numpy(dtype=np.int64) if len(shares) > 1 else np.zeros(len(found), dtype=np.int64)]
    weight = made["horizon_units"][at] * found["quantity_per"].to_numpy(dtype=float)[:, None] * left
    line = found["line"].to_numpy(dtype=np.int64)
    total = np.zeros_like(used)
    np.add.at(total, line, weight)
    quantity = np.divide(weight * used[line], total[line], out=np.zeros_like(weight), where=total[line] > 0)
    row, day = np.nonzero(quantity > DUST)
    days = made.keys[MADE].iloc[at[row]].reset_index(drop=True)
    days = days.assign(line=line[row], item_id=found["item_id"].to_numpy()[row], day=day, quantity=quantity[row, day])
    return _by_way(days, recipe_paths(recipes, days))


def _by_way(days: pd.DataFrame, paths: pd.DataFrame) -> pd.DataFrame:
    """What a product takes on a day, split by the recipe ways that lead to the item."""
    of_product = paths.groupby(["tenant_id", "product_id", "item_id"])["quantity_per"].transform("sum")
    ways = paths.assign(part=paths["quantity_per"] / of_product)
    found = days.merge(
        ways[["tenant_id", "product_id", "item_id", "path", "level", "part"]], on=["tenant_id", "product_id", "item_id"]
    )
    found = found.assign(quantity=found["quantity"] * found["part"].astype(float))
    return found.sort_values(["line", "day", "product_id", "level", "path"], ignore_index=True)


def _by_demand(
    by_product: pd.DataFrame,
    first_day: date,
    forecasts: Panel | None,
    assortment: pd.DataFrame | None,
    orders: pd.DataFrame | None,
) -> pd.DataFrame:
    """Products and days split by the outlets that they are made for."""
    by_product = by_product.reset_index(drop=True)
    by_product = by_product.assign(row=np.arange(len(by_product)), purpose=FOR_PRODUCTS)
    sources = demand_sources(forecasts, assortment, orders, first_day)
    found = by_product.merge(sources, on=[*MADE, "day"], how="left")
    units = found["units"].fillna(0.0).to_numpy(dtype=float)
    total = np.bincount(found["row"], weights=units, minlength=len(by_product))[found["row"]]
    # What nobody is expected to ask for (a minimum batch, say) is for nobody, and is one row.
    is_wanted = total > 0
    kept = np.where(is_wanted, units > 0, ~found.duplicated("row").to_numpy())
    part = np.divide(units, total, out=np.ones_like(units), where=is_wanted)
    found = found.assign(
        quantity=found["quantity"] * part,
        sold_at_location_id=np.where(is_wanted, found["sold_at_location_id"].astype(object), ""),
        demand_source=np.where(is_wanted, found["demand_source"].astype(object), BY_NOBODY),
        forecast_row=np.where(is_wanted, found["forecast_row"].fillna(-1), -1).astype(np.int64),
    )
    return found[kept][[name for name in PEG_COLUMNS if name != "share"]]


def demand_sources(
    forecasts: Panel | None, assortment: pd.DataFrame | None, orders: pd.DataFrame | None, first_day: date
) -> pd.DataFrame:
    """The demand behind what is made, per day: tenant_id, location_id (where it is made), product_id, day (number from
    first_day), sold_at_location_id, demand_source, forecast_row (-1: orders), units expected."""
    columns = [*MADE, "day", "sold_at_location_id", "demand_source", "forecast_row", "units"]
    if assortment is None:
        return frame_of(columns).astype({"day": np.int64})
    parts = []
    if forecasts is not None:
        row, day = np.nonzero(forecasts["mean_units"] > 0)
        expected = forecasts.keys[MADE].iloc[row].reset_index(drop=True)
        units = forecasts["mean_units"][row, day]
        parts.append(expected.assign(day=day, units=units, forecast_row=row, demand_source=BY_FORECAST))
    if orders is not None and len(orders):
        days = day_numbers(orders["due_on"], first_day)
        placed = orders[MADE].assign(day=days, units=orders["quantity_units"].astype(float), forecast_row=-1)
        parts.append(placed.assign(demand_source=BY_ORDERS))
    if not parts:
        return frame_of(columns).astype({"day": np.int64})
    found = pd.concat(parts, ignore_index=True).merge(assortment[[*MADE, "made_at_location_id"]], on=MADE)
    found = found.rename(columns={"location_id": "sold_at_location_id", "made_at_location_id": "location_id"})
    return found.sort_values([*MADE, "day", "sold_at_location_id", "demand_source"], ignore_index=True)[columns]


def _rest(purpose: str, quantity: np.ndarray) -> pd.DataFrame:
    """Rows for the part of each line that belongs to no product."""
    line = np.flatnonzero(quantity > NOTHING)
    return pd.DataFrame(
        {
            "line": line,
            "purpose": purpose,
            "day": -1,
            "product_id": "",
            "path": pd.Series([()] * len(line), dtype=object),
            "sold_at_location_id": "",
            "demand_source": BY_NOBODY,
            "forecast_row": -1,
            "quantity": quantity[line],
        }
    )


# ---------------------------------------------------------------- batches


def batch_needs(recipes: pd.DataFrame, tenant_id: str, product_id: str, units: float) -> pd.DataFrame:
    """What `units` of a product take, level by level: level, path, item_id, quantity (base units), is_made."""
    product = pd.DataFrame({"tenant_id": [tenant_id], "product_id": [product_id]})
    paths = recipe_paths(recipes[recipes["tenant_id"] == tenant_id], product)
    needs = paths.assign(quantity=paths["quantity_per"].astype(float) * units)
    return needs.sort_values("path", ignore_index=True)[["level", "path", "item_id", "quantity", "is_made"]]


def lots_drawn(
    needs: pd.DataFrame, total: pd.DataFrame, lots: pd.DataFrame, items: pd.DataFrame, on_date: date
) -> pd.DataFrame:
    """Which lots give what is needed on a day, first-expired-first-out: STOCK_KEY, lot_id, quantity, expires_on.

    needs: STOCK_KEY, quantity, what is asked about; total: the same of everything that takes the item that day. Who comes
    first on a day is not known, so everybody draws the same mixture of the day's lots. lots: LOT_COLUMNS, on hand on the
    day or received on it. What they do not hold is a row with an empty lot_id.
    """
    keys = total[STOCK_KEY].reset_index(drop=True)
    group = positions(lots, keys, STOCK_KEY)
    removal = looked_up(items["removal_days"], positions(lots, items, NODE), 0.0)
    unknown = np.full(len(lots), np.nan)
    through = last_usable_days(lots["expires_on"], np.zeros(len(lots), dtype=np.int64), unknown, removal, on_date)
    table = lot_table(np.where(through >= 0, group, -1), len(keys), lots, np.full(len(lots), -1), through)
    demand = total["quantity"].astype(float).to_numpy()
    taken = take_first(table.quantity, demand)
    at = positions(needs, keys, STOCK_KEY)
    part = looked_up(needs["quantity"], np.arange(len(needs)), 0.0) / np.where(demand[at] > 0, demand[at], 1.0)
    drawn = taken[at] * part[:, None]
    row, column = np.nonzero(drawn > NOTHING)
    which = table.lot[at[row], column]
    found = needs[STOCK_KEY].iloc[row].reset_index(drop=True)
    found = found.assign(
        lot_id=lots["lot_id"].to_numpy(dtype=object)[which],
        quantity=drawn[row, column],
        expires_on=lots["expires_on"].to_numpy(dtype=object)[which],
    )
    missing = (demand - taken.sum(axis=1))[at] * part
    short = np.flatnonzero(missing > NOTHING)
    short_rows = needs[STOCK_KEY].iloc[short].assign(lot_id="", quantity=missing[short], expires_on=None)
    parts: Sequence[pd.DataFrame] = [part for part in (found, short_rows) if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else found


def demand_behind(
    made: tuple[str, str, str],
    forecasts: Panel,
    levels: Sequence[float],
    assortment: pd.DataFrame,
    orders: pd.DataFrame,
) -> QuantileDemand:
    """The demand (days,) that a place makes a product for: its outlets' forecasts pooled, and the orders.

    made: tenant_id, location_id (where it is made), product_id. forecasts: is_open (n, days), quantile_units (n, days,
    levels). Pooled as production pools it: outlets are independent.
    """
    tenant_id, location_id, product_id = made
    series = assortment[
        (assortment["tenant_id"] == tenant_id)
        & (assortment["product_id"] == product_id)
        & (assortment["made_at_location_id"] == location_id)
    ]
    rows = positions(series, forecasts.keys, MADE)
    quantiles = np.where(
        forecasts["is_open"][rows[rows >= 0]][..., None], forecasts["quantile_units"][rows[rows >= 0]], 0.0
    )
    if not len(quantiles):
        quantiles = np.zeros((1, forecasts.days, len(levels)))
    walk_in = pool_independent(QuantileDemand.from_quantiles(levels, quantiles), np.array([0]))
    ordered = np.zeros(forecasts.days)
    placed = orders[positions(orders, series, MADE) >= 0]
    day = day_numbers(placed["due_on"], forecasts.first_day)
    within = (day >= 0) & (day < forecasts.days)
    np.add.at(ordered, day[within], placed["quantity_units"].astype(float).to_numpy()[within])
    return walk_in.select(0).shifted(ordered)
