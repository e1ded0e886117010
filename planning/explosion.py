"""From planned products to the ingredients they take, through every level of the recipes.

Products and their doughs are made on the day they sell, so every ingredient is needed on that day. Stock, suppliers
and orders are in planning/procurement.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from planning.frames import ROUNDING, Panel, exceptions_of, set_aside_of
from planning.keys import distinct, positions
from planning.mrp import low_level_codes

LINK = "procurement_plans"
NODE = ["tenant_id", "item_id"]
BOUGHT_KINDS = ("ingredient", "packaging")


@dataclass(frozen=True)
class Explosion:
    """What the planned products take.

    requirements: keys tenant_id, location_id, item_id (bought items), ascending; gross_quantity (n, days), base units.
    uses: requirement_row, planned_row (rows of requirements and of planned) and quantity_per, the base units of the
    item in one unit of the product through all levels. gross = Σ quantity_per × planned units.
    planned: the rows of the plan that were exploded, ascending, without the tenants set aside.
    """

    requirements: Panel
    uses: pd.DataFrame
    planned: Panel
    exceptions: pd.DataFrame
    set_aside: pd.DataFrame


@dataclass(frozen=True)
class _Graph:
    """Recipes as integers: node k is (tenant_id, item_id) of row k of nodes; edges parent -> child."""

    nodes: pd.DataFrame
    parent: np.ndarray
    child: np.ndarray
    quantity_per: np.ndarray
    low_level_code: np.ndarray

    @property
    def is_made(self) -> np.ndarray:
        return np.bincount(self.parent, minlength=len(self.nodes)) > 0


def explode(planned: Panel, recipes: pd.DataFrame, items: pd.DataFrame) -> Explosion:
    """Gross requirements of every bought item, per tenant, receiving location and day.

    planned: tenant_id, location_id (where it is made), product_id; horizon_units (n, days). recipes: a row per line of
    the version in force. A line takes quantity / (output_quantity · yield_frac · (1 − scrap_frac)) per unit of output
    (scrap and yield as in an MRP explosion). Tenants whose recipes go round in a circle are set aside. A planned product
    or a dough without a recipe is an exception, and what it would take is not in the requirements.
    """
    graph = _graph_of(planned, recipes)
    set_aside = _cycles(graph)
    kept = ~planned.keys["tenant_id"].isin(set_aside["tenant_id"]).to_numpy()
    order = planned.keys[kept].sort_values(["tenant_id", "location_id", "product_id"]).index.to_numpy(dtype=np.int64)
    planned = planned.select(order)
    node_of_product = _nodes_of(planned.keys.rename(columns={"product_id": "item_id"}), graph)

    leaves = _leaf_usage(graph, node_of_product)
    is_bought = _is_bought(graph, items)[leaves["node"]]
    uses, keys = _requirement_rows(leaves[is_bought], planned.keys, graph.nodes)
    per_unit = csr_array(
        (uses["quantity_per"], (uses["requirement_row"], uses["planned_row"])), shape=(len(keys), len(planned))
    )
    gross = np.round(per_unit @ planned["horizon_units"], ROUNDING)
    return Explosion(
        Panel(keys, {"gross_quantity": gross}, planned.first_day),
        uses,
        planned,
        exceptions_of(
            _products_without_recipe(planned, graph.is_made[node_of_product])
            + _parts_without_recipe(leaves[~is_bought], planned, graph)
        ),
        set_aside,
    )


def _graph_of(planned: Panel, recipes: pd.DataFrame) -> _Graph:
    """Number the nodes in key order, so that neither row order nor another tenant changes a sum."""
    lines = recipes.sort_values(["tenant_id", "output_item_id", "item_id"], ignore_index=True)
    outputs = lines[["tenant_id", "output_item_id"]].rename(columns={"output_item_id": "item_id"})
    products = planned.keys[["tenant_id", "product_id"]].rename(columns={"product_id": "item_id"})
    nodes = distinct((outputs, lines, products), NODE)
    parent, child = positions(outputs, nodes, NODE), positions(lines, nodes, NODE)
    made = lines["output_quantity"].astype(float) * lines["yield_frac"].astype(float)
    per = lines["quantity"].astype(float) / (made * (1.0 - lines["scrap_frac"].astype(float)))
    return _Graph(nodes, parent, child, per.to_numpy(), low_level_codes(len(nodes), parent, child))


def _nodes_of(frame: pd.DataFrame, graph: _Graph) -> np.ndarray:
    return positions(frame, graph.nodes, NODE)


def _cycles(graph: _Graph) -> pd.DataFrame:
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


def _leaf_usage(graph: _Graph, node_of_product: np.ndarray) -> pd.DataFrame:
    """The items without a recipe that each planned row takes: planned_row, node, quantity_per. One step per BOM level."""
    size = len(graph.nodes)
    one_level = csr_array((graph.quantity_per, (graph.parent, graph.child)), shape=(size, size))
    products, product_of_row = np.unique(node_of_product, return_inverse=True)
    front = csr_array((np.ones(len(products)), (np.arange(len(products)), products)), shape=(len(products), size))
    total = csr_array((len(products), size))
    for _ in range(int(graph.low_level_code.max(initial=0))):
        front = front @ one_level
        total = total + front
    total.sort_indices()
    found = coo_array(total)
    product, node = found.coords
    is_leaf = ~graph.is_made[node]
    leaves = pd.DataFrame({"product": product, "node": node, "quantity_per": found.data})[is_leaf]
    rows = pd.DataFrame({"planned_row": np.arange(len(node_of_product)), "product": product_of_row})
    return rows.merge(leaves, on="product")[["planned_row", "node", "quantity_per"]]


def _is_bought(graph: _Graph, items: pd.DataFrame) -> np.ndarray:
    """Which nodes are bought: ingredients and packaging that no recipe makes, (nodes,)."""
    bought = items.loc[items["kind"].isin(BOUGHT_KINDS), NODE]
    return (positions(graph.nodes, bought, NODE) >= 0) & ~graph.is_made


def _requirement_rows(
    uses: pd.DataFrame, planned_keys: pd.DataFrame, nodes: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The uses with their requirement_row, and the keys of the requirement rows."""
    at = uses["planned_row"].to_numpy()
    wanted = pd.DataFrame(
        {
            "tenant_id": planned_keys["tenant_id"].to_numpy()[at],
            "location_id": planned_keys["location_id"].to_numpy()[at],
            "item_id": nodes["item_id"].to_numpy()[uses["node"]],
        }
    )
    keys = distinct((wanted,), list(wanted.columns))
    rows = positions(wanted, keys, list(wanted.columns))
    uses = uses.assign(requirement_row=rows)[["requirement_row", "planned_row", "quantity_per"]]
    return uses.sort_values(["requirement_row", "planned_row"], ignore_index=True), keys


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


def _parts_without_recipe(leaves: pd.DataFrame, planned: Panel, graph: _Graph) -> list[tuple[object, ...]]:
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
