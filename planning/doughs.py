"""Doughs: how much of each to mix for all the products that take it, and in which runs of the mixer.

What belongs here: the arithmetic of formulas in baker's percentages, the doughs inside planned products through every
level of the recipes, and how a quantity is cut into runs. What does not: what is bought for them (procurement), and
when they are mixed (scheduling).

A dough is an item that a recipe makes and that another recipe takes: doughs, pre-doughs, fillings, and products that go
into other products. Its base unit is what mixers hold (kg).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.sparse import coo_array, csr_array

from planning.explosion import RecipeGraph, circles, recipe_graph
from planning.frames import ROUNDING, Panel
from planning.keys import code_positions, key_codes
from planning.mrp import low_level_codes
from planning.workshop import MIXER, PLACE, Routing, Workshop, routing_of

DOUGH = [*PLACE, "item_id"]

DOUGH_COLUMNS = (
    "tenant_id",
    "plan_date",
    "location_id",
    "item_id",
    "quantity",
    "opening_usable_quantity",
    "runs",
    "run_quantities",
    "run_resource_ids",
    "run_starts_at",
    "run_ends_at",
    "product_ids",
    "product_quantities",
    "horizon_quantity",
)
"""Columns of plans.dough_line except the plan's id. The lists of times are empty until the night is scheduled."""


@dataclass(frozen=True)
class DoughUse:
    """What rows of products take of doughs, through every level of the recipes.

    uses: row (of the products), dough (of doughs), quantity_per: base units of the dough in one unit of the product.
    doughs: tenant_id, item_id, ascending. Products of tenants whose recipes go round in a circle take nothing here.
    graph: the recipes of all items, without those of these tenants; node_of_dough: the doughs among its nodes.
    """

    uses: pd.DataFrame
    doughs: pd.DataFrame
    graph: RecipeGraph
    node_of_dough: np.ndarray


def bakers_formula(dough_kg: ArrayLike, percentages: Mapping[str, float]) -> dict[str, np.ndarray]:
    """The mass of each ingredient of a dough by baker's percentages, in kg: dough_kg · percentage / Σ percentages.

    Percentages are of the flour, which is 100 itself (several flours together), so flour = dough / (Σ % / 100). Raises
    ValueError where a percentage or the dough is negative, or all percentages are 0.
    """
    total = sum(percentages.values())
    if not (0 < total < np.inf and all(percentage >= 0 for percentage in percentages.values())):
        raise ValueError("baker's percentages must not be negative, and some must be above 0")
    mass = _not_negative(dough_kg, "dough_kg")
    return {name: mass * (percentage / total) for name, percentage in percentages.items()}


def dough_mass(pieces: ArrayLike, scaling_weight: ArrayLike, mix_loss: ArrayLike = 0.0) -> np.ndarray:
    """The dough to mix for pieces of a scaling weight: Σ pieces · weight / (1 − mix_loss), the sum over the last axis.

    mix_loss is the share of the dough that does not become pieces (stays in the bowl, is cut off). Raises ValueError where it
    is not in [0, 1).
    """
    loss = np.asarray(mix_loss, dtype=float)
    if not ((loss >= 0) & (loss < 1)).all():
        raise ValueError("mix_loss is a share of the dough: at least 0 and below 1")
    masses = _not_negative(pieces, "pieces") * _not_negative(scaling_weight, "scaling_weight") / (1 - loss)
    return masses if masses.ndim == 0 else masses.sum(axis=-1)


def mixer_runs(dough_kg: ArrayLike, mixer_max_kg: ArrayLike) -> np.ndarray:
    """The fewest runs that a mixer needs for a quantity: ceil(dough / mixer), 0 where there is none to mix.

    The quotient is rounded to 1e-6 first. A mixer of infinite size takes everything in one run. Raises ValueError for a
    negative quantity and for a mixer that holds nothing.
    """
    dough, most = _not_negative(dough_kg, "dough_kg"), _not_negative(mixer_max_kg, "mixer_max_kg")
    if (most == 0).any():
        raise ValueError("mixer_max_kg must be above 0")
    runs = np.maximum(np.ceil(np.round(dough / most, ROUNDING)), 1.0)
    return np.where(np.round(dough, ROUNDING) > 0, runs, 0.0).astype(np.int64)


def equal_runs(quantity: float, runs: int) -> list[float]:
    """A quantity in runs as equal as can be at 6 decimals; they add up to it."""
    bounds = [round(quantity * run / runs, ROUNDING) for run in range(1, runs + 1)]
    return [round(bound - before, ROUNDING) for before, bound in pairwise([0.0, *bounds])]


def dough_use(products: pd.DataFrame, recipes: pd.DataFrame) -> DoughUse:
    """What one unit of each product takes of every dough. products: tenant_id, product_id, (n,)."""
    graph = _recipes_of(products, recipes)
    size = len(graph.nodes)
    is_dough = _is_dough(graph)
    one_level = csr_array((graph.quantity_per, (graph.parent, graph.child)), shape=(size, size))
    node = _nodes_of_products(graph, products)
    distinct_nodes, at = np.unique(node, return_inverse=True)
    front = csr_array(
        (np.ones(len(distinct_nodes)), (np.arange(len(distinct_nodes)), distinct_nodes)),
        shape=(len(distinct_nodes), size),
    )
    total = csr_array((len(distinct_nodes), size))
    for _ in range(int(graph.low_level_code.max(initial=0))):
        front = front @ one_level
        total = total + front
    total.sort_indices()
    found = coo_array(total)
    product, child = found.coords
    held = is_dough[child]
    number = np.cumsum(is_dough) - 1
    table = pd.DataFrame({"product": product[held], "dough": number[child[held]], "quantity_per": found.data[held]})
    rows = pd.DataFrame({"row": np.arange(len(node)), "product": at})
    uses = rows.merge(table, on="product")[["row", "dough", "quantity_per"]]
    return DoughUse(
        uses.sort_values(["row", "dough"], ignore_index=True),
        graph.nodes[is_dough].reset_index(drop=True),
        graph,
        np.flatnonzero(is_dough),
    )


@dataclass(frozen=True)
class DoughParts:
    """Which doughs go into which: parent -> child (positions in the doughs asked for), quantity_per, base units of the child
    in one of the parent; level (n,), 0 for a dough that no other of them takes."""

    parent: np.ndarray
    child: np.ndarray
    quantity_per: np.ndarray
    level: np.ndarray


def dough_parts(doughs: pd.DataFrame, graph: RecipeGraph) -> DoughParts:
    """The recipes between doughs. doughs: tenant_id, item_id, once each (n,), all of them nodes of the graph."""
    asked, of_node = key_codes(["tenant_id", "item_id"], doughs, graph.nodes)
    at = code_positions(of_node, asked)
    is_between = (at[graph.parent] >= 0) & (at[graph.child] >= 0)
    parent, child = at[graph.parent[is_between]], at[graph.child[is_between]]
    return DoughParts(parent, child, graph.quantity_per[is_between], low_level_codes(len(doughs), parent, child))


def plan_doughs(
    planned: Panel,
    recipes: pd.DataFrame,
    workshop: Workshop,
    opening_lots: pd.DataFrame,
    plan_date: date,
    *,
    run_limits: pd.DataFrame | None = None,
    use: DoughUse | None = None,
) -> pd.DataFrame:
    """What to mix at each place for everything planned there: DOUGH_COLUMNS, ascending by tenant, place and item.

    planned: keys tenant_id, location_id (where it is made), product_id; horizon_units (n, 14). recipes: as `explode`
    takes them, with its yield and scrap. opening_lots: tenant_id, location_id, item_id, quantity, expires_on (none:
    keeps); what can still be used on the plan date is taken first, level by level, so that dough at hand saves its
    pre-dough too. Of an item that is also planned as a product, stock is the product's. run_limits: tenant_id,
    location_id, item_id, run_quantity, the most that a run of the plan date holds (Limits.run_limits); without them, what
    the mixers usually hold. A dough without a mixing step is one run. use: what these rows take by these recipes, where
    that has been worked out before (dough_use).

    product_quantities are what each product takes of the dough on the plan date, before stock; their sum less the stock
    used is `quantity`. Doughs that nothing of the 14 days takes have no row, nor have tenants with a recipe circle.
    """
    use = dough_use(planned.keys, recipes) if use is None else use
    if use.uses.empty:
        return pd.DataFrame(columns=list(DOUGH_COLUMNS))
    row, dough, per = (use.uses[name].to_numpy() for name in ("row", "dough", "quantity_per"))
    _, first, place_of_row = np.unique(key_codes(PLACE, planned.keys)[0], return_index=True, return_inverse=True)
    key, line = np.unique(place_of_row[row] * len(use.doughs) + dough, return_inverse=True)
    place, of_dough = np.divmod(key, len(use.doughs))
    lines = planned.keys[PLACE].iloc[first[place]].reset_index(drop=True)
    lines["item_id"] = use.doughs["item_id"].to_numpy()[of_dough]
    usable = _usable(lines, planned.keys, opening_lots, plan_date)

    to_lines = csr_array((per, (line, row)), shape=(len(key), len(planned)))
    horizon = np.round(to_lines @ planned["horizon_units"], ROUNDING)
    taken, gross = _net_of_stock(use.graph, planned, place_of_row, place, use.node_of_dough[of_dough], usable)
    quantity = np.round(np.maximum(gross - usable, 0.0), ROUNDING)
    horizon[:, 0] = quantity

    limits = usual_run_limits(lines, workshop) if run_limits is None else _limits_at(lines, run_limits)
    runs = mixer_runs(quantity, limits)
    products = planned.keys["product_id"].to_numpy(dtype=object)
    names, amounts = _by_line(taken, products, len(key))
    frame = lines.assign(
        plan_date=plan_date,
        quantity=quantity,
        opening_usable_quantity=usable,
        runs=runs,
        run_quantities=_objects(equal_runs(*cut) for cut in zip(quantity.tolist(), runs.tolist(), strict=True)),
        run_resource_ids=_objects([] for _ in key),
        run_starts_at=_objects([] for _ in key),
        run_ends_at=_objects([] for _ in key),
        product_ids=_objects(names),
        product_quantities=_objects(amounts),
        horizon_quantity=_objects(horizon.tolist()),
    )
    is_used = horizon.any(axis=1) | (gross > 0)
    return frame.loc[is_used, list(DOUGH_COLUMNS)].sort_values(DOUGH, ignore_index=True)


def usual_run_limits(doughs: pd.DataFrame, workshop: Workshop) -> np.ndarray:
    """The most of each dough (n,) that a run holds, by what the mixers hold on a usual day; infinity without a mixer.

    doughs: tenant_id, location_id, item_id, once each. Where several mixers can do it, runs are of the size with which the
    mixers that hold it get through most: with 60 and 40 kg, 40 kg in both; with 60 and 10 kg, 60 kg in the large one.
    """
    routing = routing_of(doughs, workshop)
    limits = np.full(len(doughs), np.inf)
    steps = routing.steps[(routing.steps["kind"] == MIXER).to_numpy()]
    if steps.empty:
        return limits
    of_pool = _best_run_of_pools(routing)
    capacity = np.append(routing.resources["capacity"].to_numpy(), np.inf)
    resource, pool = steps["resource"].to_numpy(), steps["pool"].to_numpy()
    np.minimum.at(limits, steps["row"].to_numpy(), np.where(resource >= 0, capacity[resource], of_pool[pool]))
    return limits


def _best_run_of_pools(routing: Routing) -> np.ndarray:
    """Per pool of mixers the run size c with the highest c · (mixers that hold c), and infinity at -1, (pools + 1,)."""
    mixers = pd.DataFrame({"pool": routing.pool, "capacity": routing.resources["capacity"].to_numpy()})
    mixers = mixers.sort_values(["pool", "capacity"], ascending=[True, False], ignore_index=True)
    throughput = mixers["capacity"] * (mixers.groupby("pool").cumcount() + 1)
    # Of equals the larger run, which comes first: fewer runs to attend to.
    best = throughput.groupby(mixers["pool"]).idxmax()
    limits = np.full(int(routing.pool.max(initial=-1)) + 2, np.inf)
    limits[best.index.to_numpy()] = mixers["capacity"].to_numpy()[best.to_numpy()]
    return limits


# ---------------------------------------------------------------- recipes


def _recipes_of(keys: pd.DataFrame, recipes: pd.DataFrame) -> RecipeGraph:
    """The graph of all recipes, without those of tenants with a circle."""
    graph = recipe_graph(keys, recipes)
    in_circle = circles(graph)["tenant_id"]
    return graph if in_circle.empty else recipe_graph(keys, recipes[~recipes["tenant_id"].isin(in_circle)])


def _nodes_of_products(graph: RecipeGraph, products: pd.DataFrame) -> np.ndarray:
    keys = products[["tenant_id", "product_id"]].rename(columns={"product_id": "item_id"})
    return code_positions(*key_codes(["tenant_id", "item_id"], keys, graph.nodes))


def _is_dough(graph: RecipeGraph) -> np.ndarray:
    is_taken = np.bincount(graph.child, minlength=len(graph.nodes)) > 0
    return graph.is_made & is_taken


# ---------------------------------------------------------------- stock


def _usable(lines: pd.DataFrame, products: pd.DataFrame, opening_lots: pd.DataFrame, plan_date: date) -> np.ndarray:
    """Dough at hand that can be used on the plan date (n,). A lot is usable through its expiry date."""
    expires_on = pd.to_datetime(opening_lots["expires_on"])
    lots = opening_lots[(expires_on.isna() | (expires_on >= pd.Timestamp(plan_date))).to_numpy()]
    at = code_positions(*key_codes(DOUGH, lots, lines))
    usable = np.bincount(at[at >= 0], weights=lots["quantity"].to_numpy(dtype=float)[at >= 0], minlength=len(lines))
    sold = products.rename(columns={"product_id": "item_id"})
    is_product = code_positions(*key_codes(DOUGH, lines, sold)) >= 0
    return np.where(is_product, 0.0, np.round(np.maximum(usable, 0.0), ROUNDING))


def _net_of_stock(
    graph: RecipeGraph,
    planned: Panel,
    place_of_row: np.ndarray,
    place_of_line: np.ndarray,
    node_of_line: np.ndarray,
    usable: np.ndarray,
) -> tuple[pd.DataFrame, np.ndarray]:
    """What each planned row takes of each line on the plan date (line, row, quantity), and the sum of each line (n,).

    In low-level-code order: when the need of a dough is known, what stock covers of it needs no pre-dough.
    """
    size, count = len(graph.nodes), len(planned)
    one_level = csr_array((graph.quantity_per, (graph.parent, graph.child)), shape=(size, size))
    node = _nodes_of_products(graph, planned.keys)
    needed = csr_array((planned["horizon_units"][:, 0], (np.arange(count), node)), shape=(count, size)) @ one_level
    keys = place_of_line * size + node_of_line
    order = np.argsort(keys)
    is_dough = _is_dough(graph)

    gross = np.zeros(len(keys))
    parts = []
    for level in range(1, int(graph.low_level_code.max(initial=0)) + 1):
        found = coo_array(needed)
        row, column = found.coords
        here = is_dough[column] & (graph.low_level_code[column] == level) & (found.data > 0)
        row, column, data = row[here], column[here], found.data[here]
        line = order[np.searchsorted(keys[order], place_of_row[row] * size + column)]
        of_level = np.bincount(line, weights=data, minlength=len(keys))
        gross += of_level
        parts.append(pd.DataFrame({"line": line, "row": row, "quantity": data}))
        to_mix = np.divide(np.maximum(of_level - usable, 0.0), of_level, out=np.zeros(len(keys)), where=of_level > 0)
        needed = needed + csr_array((data * to_mix[line], (row, column)), shape=(count, size)) @ one_level
    taken = pd.concat(parts, ignore_index=True).sort_values(["line", "row"], ignore_index=True)
    return taken, np.round(gross, ROUNDING)


def _by_line(taken: pd.DataFrame, products: np.ndarray, lines: int) -> tuple[list[list[str]], list[list[float]]]:
    """Per line the products that take it and how much, as lists."""
    ends = np.searchsorted(taken["line"].to_numpy(), np.arange(lines), side="right").tolist()
    names = products[taken["row"].to_numpy()].tolist()
    amounts = np.round(taken["quantity"].to_numpy(), ROUNDING).tolist()
    starts = [0, *ends[:-1]]
    return (
        [names[start:end] for start, end in zip(starts, ends, strict=True)],
        [amounts[start:end] for start, end in zip(starts, ends, strict=True)],
    )


def _limits_at(lines: pd.DataFrame, run_limits: pd.DataFrame) -> np.ndarray:
    at = code_positions(*key_codes(DOUGH, lines, run_limits))
    return np.append(run_limits["run_quantity"].to_numpy(dtype=float), np.inf)[at]


def _not_negative(values: ArrayLike, name: str) -> np.ndarray:
    numbers = np.asarray(values, dtype=float)
    if not (numbers >= 0).all():
        raise ValueError(f"{name} must be numbers of at least 0")
    return numbers


def _objects(values: Iterable[object]) -> pd.Series:
    return pd.Series(list(values), dtype=object)
