"""From planned products to the ingredients they take, through every level of the recipes.

Products and their doughs are made on the day they sell, so every ingredient is needed on that day. What is on hand of a
dough or another part made in between is used first, so that its ingredients are needed for the rest only. The stock of
what is bought, suppliers and orders are in planning/procurement.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from planning.frames import ROUNDING, Panel, exceptions_of, set_aside_of
from planning.keys import distinct, looked_up, positions
from planning.lots import NOTHING, last_usable_days, take_first
from planning.mrp import low_level_codes

LINK = "procurement_plans"
NODE = ["tenant_id", "item_id"]
PLACE = ["tenant_id", "location_id"]
BOUGHT_KINDS = ("ingredient", "packaging")


@dataclass(frozen=True)
class Explosion:
    """What the planned products take.

    requirements: keys tenant_id, location_id, item_id (bought items), ascending; base units (n, days): gross_quantity,
    and deviation_quantity, one sigma of it.
    uses: requirement_row, planned_row (rows of requirements and of planned, ascending) and quantity_per, the base units
    of the item in one unit of the product through all levels, whatever is on hand in between.
    needed_shares: (uses, days), the part of a use that parts on hand leave to be bought; None where they leave all.
    gross = Σ quantity_per × planned units × needed share.
    planned: the rows of the plan that were exploded, ascending, without the tenants set aside.
    """

    requirements: Panel
    uses: pd.DataFrame
    planned: Panel
    exceptions: pd.DataFrame
    set_aside: pd.DataFrame
    needed_shares: np.ndarray | None = None


@dataclass(frozen=True)
class RecipeGraph:
    """Recipes as integers: node k is (tenant_id, item_id) of row k of nodes; edges parent -> child.

    quantity_per: base units of the child in one of the parent; low_level_code: the longest path from a product, -1 on a
    circle and beneath one.
    """

    nodes: pd.DataFrame
    parent: np.ndarray
    child: np.ndarray
    quantity_per: np.ndarray
    low_level_code: np.ndarray

    @property
    def is_made(self) -> np.ndarray:
        return np.bincount(self.parent, minlength=len(self.nodes)) > 0


def explode(
    planned: Panel, recipes: pd.DataFrame, items: pd.DataFrame, opening_lots: pd.DataFrame | None = None
) -> Explosion:
    """Gross requirements of every bought item, per tenant, receiving location and day.

    planned: tenant_id, location_id (where it is made), product_id; horizon_units (n, days), and deviation_units, one
    sigma of them, independent between products; absent for plans that do not change. recipes: a row per line of
    the version in force. A line takes quantity / (output_quantity · yield_frac · (1 − scrap_frac)) per unit of output
    (scrap and yield as in an MRP explosion). opening_lots: on hand at the opening of the first day; those of parts (what
    a recipe makes and is no product) are used first-expired-first-out from the first day on, level by level in
    low-level-code order, and only what they leave open requires ingredients. Every product that takes a part has its
    share of the stock, in proportion to what it takes that day.

    Tenants whose recipes go round in a circle are set aside. A planned product or a dough without a recipe is an
    exception, and what it would take is not in the requirements.
    """
    graph = recipe_graph(planned.keys, recipes)
    set_aside = circles(graph)
    order = _ascending(planned.keys, ~planned.keys["tenant_id"].isin(set_aside["tenant_id"]).to_numpy())
    planned = planned.select(order)
    node_of_product = _nodes_of(planned.keys.rename(columns={"product_id": "item_id"}), graph)
    place_of_row, places = _places_of(planned.keys)

    reach = _reach(graph, node_of_product)
    leaves = reach[~graph.is_made[reach["node"]]]
    is_bought = _is_bought(graph, items)[leaves["node"]]
    uses, keys = _requirement_rows(leaves[is_bought], place_of_row, places, graph)
    stock = _stock_of_parts(opening_lots, graph=graph, items=items, places=places, planned=planned)
    shares = _needed_shares(
        reach,
        uses,
        stock,
        graph=graph,
        node_of_product=node_of_product,
        place_of_row=place_of_row,
        units=planned["horizon_units"],
    )
    units = planned["horizon_units"]
    entries = (uses["requirement_row"].to_numpy(), uses["planned_row"].to_numpy())
    quantity_per = uses["quantity_per"].to_numpy()
    shape = (len(keys), len(planned))
    per_unit = csr_array((quantity_per, entries), shape=shape)
    if shares is None:
        gross = per_unit @ units
    else:
        gross = (
            np.stack(
                [
                    csr_array((quantity_per * shares[:, day], entries), shape=shape) @ units[:, day]
                    for day in range(planned.days)
                ],
                axis=1,
            )
            if planned.days
            else np.zeros((len(keys), 0))
        )
    deviation = np.zeros_like(gross)
    if "deviation_units" in planned.values:
        variance = csr_array((quantity_per**2, entries), shape=shape) @ np.square(planned["deviation_units"])
        deviation = np.sqrt(variance)
    return Explosion(
        Panel(
            keys,
            {"gross_quantity": np.round(gross, ROUNDING), "deviation_quantity": np.round(deviation, ROUNDING)},
            planned.first_day,
        ),
        uses[["requirement_row", "planned_row", "quantity_per"]],
        planned,
        exceptions_of(
            _products_without_recipe(planned, graph.is_made[node_of_product])
            + _parts_without_recipe(leaves[~is_bought], planned, graph)
        ),
        set_aside,
        shares,
    )


def recipe_graph(keys: pd.DataFrame, recipes: pd.DataFrame) -> RecipeGraph:
    """The recipes of planned products (tenant_id, product_id) as a graph.

    Nodes are numbered in key order, so that neither row order nor another tenant changes a sum.
    """
    lines = recipes.sort_values(["tenant_id", "output_item_id", "item_id"], ignore_index=True)
    outputs = lines[["tenant_id", "output_item_id"]].rename(columns={"output_item_id": "item_id"})
    products = keys[["tenant_id", "product_id"]].rename(columns={"product_id": "item_id"})
    nodes = distinct((outputs, lines, products), NODE)
    parent, child = positions(outputs, nodes, NODE), positions(lines, nodes, NODE)
    made = lines["output_quantity"].astype(float) * lines["yield_frac"].astype(float)
    per = lines["quantity"].astype(float) / (made * (1.0 - lines["scrap_frac"].astype(float)))
    return RecipeGraph(nodes, parent, child, per.to_numpy(), low_level_codes(len(nodes), parent, child))


def _nodes_of(frame: pd.DataFrame, graph: RecipeGraph) -> np.ndarray:
    return positions(frame, graph.nodes, NODE)


def circles(graph: RecipeGraph) -> pd.DataFrame:
    """Tenants with an item that contains itself, naming the items of each circle."""
    if (graph.low_level_code >= 0).all():
        return set_aside_of()
    size = len(graph.nodes)
    edges = csr_array((np.ones(len(graph.parent)), (graph.parent, graph.child)), shape=(size, size))
    _, component = connected_components(edges, directed=True, connection="strong")
    in_circle = np.bincount(component)[component] > 1
    in_circle[graph.parent[graph.parent == graph.child]] = True
    rows = []
    for tenant_id, members in graph.nodes[in_circle].groupby("tenant_id", sort=True):
        names = ", ".join(members["item_id"])
        reason = f"The recipes go round in a circle: {names}."
        remedy = "Take one of these items out of the recipe of another; then import the recipes again."
        rows.append((tenant_id, LINK, reason, remedy))
    return set_aside_of(rows)


def _reach(graph: RecipeGraph, node_of_product: np.ndarray) -> pd.DataFrame:
    """The items that each planned row takes at any level: planned_row, node, quantity_per, ascending. A step per level."""
    size = len(graph.nodes)
    one_level = csr_array((graph.quantity_per, (graph.parent, graph.child)), shape=(size, size))
    products, product_of_row = np.unique(node_of_product, return_inverse=True)
    front = csr_array((np.ones(len(products)), (np.arange(len(products)), products)), shape=(len(products), size))
    total = csr_array((len(products), size))
    for _ in range(int(graph.low_level_code.max(initial=0))):
        front = front @ one_level
        total = total + front
    total.sort_indices()
    count = np.diff(total.indptr)[product_of_row]
    row = np.repeat(np.arange(len(node_of_product)), count)
    at = np.arange(len(row)) + np.repeat(total.indptr[product_of_row] - np.cumsum(count) + count, count)
    return pd.DataFrame({"planned_row": row, "node": total.indices[at], "quantity_per": total.data[at]})


def _is_bought(graph: RecipeGraph, items: pd.DataFrame) -> np.ndarray:
    """Which nodes are bought: ingredients and packaging that no recipe makes, (nodes,)."""
    bought = items.loc[items["kind"].isin(BOUGHT_KINDS), NODE]
    return (positions(graph.nodes, bought, NODE) >= 0) & ~graph.is_made


def _ascending(keys: pd.DataFrame, kept: np.ndarray) -> np.ndarray:
    """The positions of the kept rows in the order of tenant, location and product."""
    rows = keys[kept].sort_values(["tenant_id", "location_id", "product_id"])
    return rows.index.to_numpy(dtype=np.int64)


def _places_of(keys: pd.DataFrame) -> tuple[np.ndarray, pd.DataFrame]:
    """The place of each ascending row as a number, and the places (tenant_id, location_id) ascending."""
    places = keys[PLACE].drop_duplicates()
    starts = np.zeros(len(keys), dtype=np.int64)
    starts[places.index.to_numpy()] = 1
    return np.cumsum(starts) - 1, places.reset_index(drop=True)


def _requirement_rows(
    uses: pd.DataFrame, place_of_row: np.ndarray, places: pd.DataFrame, graph: RecipeGraph
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The uses with their requirement_row, sorted by it, and the keys of the requirement rows."""
    size = len(graph.nodes)
    wanted = place_of_row[uses["planned_row"].to_numpy()] * size + uses["node"].to_numpy()
    stocks, rows = np.unique(wanted, return_inverse=True)
    place, node = np.divmod(stocks, max(size, 1))
    keys = pd.DataFrame(
        {
            "tenant_id": places["tenant_id"].take(place).array,
            "location_id": places["location_id"].take(place).array,
            "item_id": graph.nodes["item_id"].take(node).array,
        }
    )
    # Rows of a plan ascend within a use already, so a stable sort leaves them so.
    order = np.argsort(rows, kind="stable")
    return uses.take(order).assign(requirement_row=rows[order]).reset_index(drop=True), keys


# ---------------------------------------------------------------- parts on hand


@dataclass(frozen=True)
class _PartStock:
    """Usable stock of parts: group (place × nodes + node), ascending, and quantity (groups, days + 1) by last usable day."""

    group: np.ndarray
    quantity: np.ndarray


def _stock_of_parts(
    opening_lots: pd.DataFrame | None, *, graph: RecipeGraph, items: pd.DataFrame, places: pd.DataFrame, planned: Panel
) -> _PartStock:
    """What is on hand of the parts between products and what is bought, at the places that make something."""
    days, size = planned.days, len(graph.nodes)
    nothing = _PartStock(np.zeros(0, dtype=np.int64), np.zeros((0, days + 1)))
    if opening_lots is None or opening_lots.empty or not size:
        return nothing
    products = items.loc[items["kind"] == "product", NODE]
    is_part = graph.is_made & (positions(graph.nodes, products, NODE) < 0)
    parts = graph.nodes[is_part]
    at_part = positions(opening_lots, parts, NODE)
    lots, node = opening_lots[at_part >= 0], np.flatnonzero(is_part)[at_part[at_part >= 0]]
    place = positions(lots, places, PLACE)
    lots, node, place = lots[place >= 0], node[place >= 0], place[place >= 0]
    removal = looked_up(items["removal_days"], positions(lots, items, NODE), 0.0) if "removal_days" in items else 0.0
    last = last_usable_days(
        lots["expires_on"],
        np.zeros(len(lots), dtype=np.int64),
        np.full(len(lots), np.nan),
        np.broadcast_to(removal, len(lots)),
        planned.first_day,
    )
    quantity = lots["quantity"].astype(float).to_numpy()
    usable = (last >= 0) & (quantity > 0)
    if not usable.any():
        return nothing
    group, row = np.unique((place * size + node)[usable], return_inverse=True)
    held = np.zeros((len(group), days + 1))
    np.add.at(held, (row, np.minimum(last[usable], days)), quantity[usable])
    return _PartStock(group, held)


def _needed_shares(
    reach: pd.DataFrame,
    uses: pd.DataFrame,
    stock: _PartStock,
    *,
    graph: RecipeGraph,
    node_of_product: np.ndarray,
    place_of_row: np.ndarray,
    units: np.ndarray,
) -> np.ndarray | None:
    """The part of each use that parts on hand leave open on each day, (uses, days); None where none is on hand.

    Only the planned rows that take such a part are followed. Row r needs pair (r, node) of their reach; a node's needs
    are known when those of all its parents are, so a level's stock is taken before its needs are passed on.
    """
    size = len(graph.nodes)
    if not len(stock.group):
        return None
    row, node = reach["planned_row"].to_numpy(), reach["node"].to_numpy()
    at_stock = _found(place_of_row[row] * size + node, stock.group)
    is_touched = np.zeros(len(units), dtype=bool)
    is_touched[row[at_stock >= 0]] = True
    if not is_touched.any():
        return None
    kept = is_touched[row]
    own = np.flatnonzero(is_touched)
    products = own * size + node_of_product[own]
    pairs = np.unique(np.concatenate([products, row[kept] * size + node[kept]]))
    pair_row, pair_node = np.divmod(pairs, size)
    needs = np.zeros((len(pairs), units.shape[1]))
    needs[np.searchsorted(pairs, products)] = units[own]
    pair_stock = _found(place_of_row[pair_row] * size + pair_node, stock.group)
    level = graph.low_level_code[pair_node]
    by_parent = np.argsort(graph.parent, kind="stable")
    edges_of = np.bincount(graph.parent, minlength=size)
    first_edge = np.cumsum(edges_of) - edges_of
    for code in range(int(level.max(initial=0)) + 1):
        at = np.flatnonzero(level == code)
        _take_parts(needs, at[pair_stock[at] >= 0], pair_stock, stock)
        at = at[edges_of[pair_node[at]] > 0]
        count = edges_of[pair_node[at]]
        source = np.repeat(at, count)
        edge = np.arange(len(source)) + np.repeat(first_edge[pair_node[at]] - np.cumsum(count) + count, count)
        edge = by_parent[edge]
        child = np.searchsorted(pairs, pair_row[source] * size + graph.child[edge])
        passed_on = csr_array((graph.quantity_per[edge], (child, source)), shape=(len(pairs), len(pairs)))
        needs += passed_on @ needs
    shares = np.ones((len(uses), units.shape[1]))
    use_row = uses["planned_row"].to_numpy()
    at = np.flatnonzero(is_touched[use_row])
    all_of_it = uses["quantity_per"].to_numpy()[at, None] * units[use_row[at]]
    left = needs[np.searchsorted(pairs, use_row[at] * size + uses["node"].to_numpy()[at])]
    shares[at] = np.clip(np.divide(left, all_of_it, out=np.zeros_like(left), where=all_of_it > 0), 0.0, 1.0)
    return shares


def _take_parts(needs: np.ndarray, at: np.ndarray, pair_stock: np.ndarray, stock: _PartStock) -> None:
    """Meet the needs (in place) of these pairs from stock, day by day, each in proportion to what it needs."""
    groups, member = np.unique(pair_stock[at], return_inverse=True)
    held = stock.quantity[groups]
    share = np.zeros((len(groups), needs.shape[1]))
    for day in range(needs.shape[1]):
        wanted = np.bincount(member, weights=needs[at, day], minlength=len(groups))
        taken = take_first(held, wanted)
        held -= taken
        held[:, day] = 0.0
        open_part = wanted - taken.sum(axis=1)
        open_part[open_part < NOTHING] = 0.0
        share[:, day] = np.divide(open_part, wanted, out=np.zeros(len(groups)), where=wanted > 0)
    needs[at] *= share[member]


def _found(values: np.ndarray, ascending: np.ndarray) -> np.ndarray:
    """The position of each value among ascending ones, -1 where it is not there."""
    at = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return np.where(ascending[at] == values, at, -1)


# ---------------------------------------------------------------- exceptions


def _products_without_recipe(planned: Panel, is_made: np.ndarray) -> list[tuple[object, ...]]:
    is_planned = planned["horizon_units"].sum(axis=1) > 0
    rows: list[tuple[object, ...]] = []
    for tenant_id, location_id, product_id in planned.keys.loc[
        is_planned & ~is_made, ["tenant_id", "location_id", "product_id"]
    ].itertuples(index=False):
        message = f"{product_id} is planned but has no recipe, so nothing is bought for it"
        remedy = f"Import a recipe for {product_id}"
        rows.append((tenant_id, LINK, location_id, "product", product_id, "missing_recipe", message, remedy))
    return rows


def _parts_without_recipe(leaves: pd.DataFrame, planned: Panel, graph: RecipeGraph) -> list[tuple[object, ...]]:
    """Doughs and products inside a recipe that nothing says how to make or to buy, once per location."""
    at = leaves["planned_row"].to_numpy()
    leaves = leaves[planned["horizon_units"].sum(axis=1)[at] > 0]
    found = planned.keys.iloc[leaves["planned_row"]].assign(item_id=graph.nodes["item_id"].to_numpy()[leaves["node"]])
    rows: list[tuple[object, ...]] = []
    for (tenant_id, location_id, item_id), users in found.groupby(["tenant_id", "location_id", "item_id"], sort=True):
        names = ", ".join(users["product_id"])
        message = f"{item_id} has no recipe and is not bought, so its ingredients for {names} are not planned"
        remedy = f"Import a recipe for {item_id}, or make it an ingredient and give it a supplier"
        rows.append((tenant_id, LINK, location_id, "item", item_id, "missing_recipe", message, remedy))
    return rows
