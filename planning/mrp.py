"""The material requirements (MRP) record and its lot rules, for many rows at once.

Time is in periods; a period of this record may be a day or a week. Supply that comes only on a supplier's delivery days
and spoils is planned in planning/procurement.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from planning.frames import ROUNDING


@dataclass(frozen=True)
class LotRule:
    """How much to order for a net requirement. Each value is one number for all rows or an array of one per row.

    periods: order for this many periods together (periodic order quantity); 1 orders for the period alone.
    minimum: no order is smaller. multiple: every order is a multiple of it; 0 for any quantity. maximum: no order is
    larger, so what it leaves open is a net requirement of the next period; a multiple is then rounded down to it.
    Lot-for-lot is LotRule(); a fixed order quantity q is LotRule(minimum=q, multiple=q).
    """

    periods: int | np.ndarray = 1
    minimum: float | np.ndarray = 0.0
    multiple: float | np.ndarray = 0.0
    maximum: float | np.ndarray = np.inf

    def __post_init__(self) -> None:
        """Raise ValueError for a rule that orders for no period, or by negative quantities."""
        if (np.asarray(self.periods) < 1).any():
            raise ValueError("a lot covers one period or more")
        if any((np.asarray(value) < 0).any() for value in (self.minimum, self.multiple, self.maximum)):
            raise ValueError("minimum, multiple and maximum of a lot cannot be negative")

    def quantity(self, net: np.ndarray, period: int, gross: np.ndarray, scheduled: np.ndarray) -> np.ndarray:
        """The order (n,) that covers the net requirement (n,) of a period; 0 where that is 0.

        Periodic: NR_t + Σ (GR_u − SR_u)^+ over the following periods. Minimum and multiple: m·ceil(max(NR, MOQ)/m).
        """
        following = np.arange(gross.shape[1])
        together = (following > period) & (following < period + np.reshape(self.periods, (-1, 1)))
        wanted = net + np.where(together, np.clip(gross - scheduled, 0.0, None), 0.0).sum(axis=1)
        lot = up_to_multiple(np.maximum(wanted, self.minimum), self.multiple)
        lot = np.where(lot > self.maximum, down_to_multiple(np.asarray(self.maximum), self.multiple), lot)
        return np.where(net > 0, lot, 0.0)


@dataclass(frozen=True)
class MrpRecord:
    """An MRP record of n rows over T periods, every matrix (n, T).

    past_due_receipts are the planned receipts whose release would lie before period 0: to expedite, never dropped.
    """

    net_requirements: np.ndarray
    planned_receipts: np.ndarray
    projected_on_hand: np.ndarray
    planned_releases: np.ndarray
    past_due_receipts: np.ndarray


@dataclass(frozen=True)
class BillOfMaterials:
    """Which node needs how much of which: edges parent -> child with the quantity per unit of the parent.

    low_level_code: (n,) the longest path from a node without parents.
    """

    low_level_code: np.ndarray
    parent: np.ndarray
    child: np.ndarray
    quantity_per: np.ndarray


@dataclass(frozen=True)
class ItemPolicy:
    """Planning values of n nodes, each (n,) or one number for all."""

    on_hand: float | np.ndarray = 0.0
    safety_stock: float | np.ndarray = 0.0
    lead_periods: int | np.ndarray = 0
    rule: LotRule = field(default_factory=LotRule)


def up_to_multiple(quantity: ArrayLike, multiple: ArrayLike) -> np.ndarray:
    """The quantity rounded up to a multiple, unchanged where the multiple is 0.

    Rounds to 1e-6 of a multiple first, so that 2.0000000001 of them are 2.
    """
    quantity = np.asarray(quantity, dtype=float)
    step = np.where(np.asarray(multiple) > 0, multiple, 1.0)
    return np.where(np.asarray(multiple) > 0, step * np.ceil(np.round(quantity / step, ROUNDING)), quantity)


def down_to_multiple(quantity: ArrayLike, multiple: ArrayLike) -> np.ndarray:
    """The quantity rounded down to a multiple, unchanged where the multiple is 0; 1.9999999999 of them are 2."""
    quantity = np.asarray(quantity, dtype=float)
    step = np.where(np.asarray(multiple) > 0, multiple, 1.0)
    return np.where(np.asarray(multiple) > 0, step * np.floor(np.round(quantity / step, ROUNDING)), quantity)


def order_packs(
    net: ArrayLike, pack_quantity: ArrayLike, min_packs: ArrayLike = 1, multiple_packs: ArrayLike = 1
) -> np.ndarray:
    """Whole packs that hold the net quantity: up to a pack, then the minimum, then the multiple; 0 where net is 0."""
    net = np.asarray(net, dtype=float)
    packs = np.maximum(up_to_multiple(net / np.asarray(pack_quantity, dtype=float), 1.0), min_packs)
    return np.where(net > 0, up_to_multiple(packs, multiple_packs), 0.0).astype(np.int64)


def low_level_codes(nodes: int, parent: ArrayLike, child: ArrayLike) -> np.ndarray:
    """The longest path to each node from a node without parents, (nodes,); -1 on a cycle and beneath one."""
    parent, child = np.asarray(parent, dtype=np.int64), np.asarray(child, dtype=np.int64)
    codes = np.full(nodes, -1)
    unplaced_parents = np.bincount(child, minlength=nodes)
    level, ready = 0, unplaced_parents == 0
    while ready.any():
        codes[ready] = level
        unplaced_parents = unplaced_parents - np.bincount(child[ready[parent]], minlength=nodes)
        level, ready = level + 1, (unplaced_parents == 0) & (codes < 0)
    return codes


def mrp_record(gross: ArrayLike, scheduled: ArrayLike = 0.0, policy: ItemPolicy | None = None) -> MrpRecord:
    """The record of gross requirements (n, T), or (T,) for one row, and scheduled receipts of that shape.

    avail_t = POH_{t−1} + SR_t − GR_t; below the safety stock the net requirement is the gap, the lot rule turns it into
    a planned receipt, and that is released the lead time before. As in Krajewski, Ritzman & Malhotra, Operations
    Management, chapter on MRP. Raises ValueError for quantities that are not numbers, shapes that differ, and a negative
    lead time.
    """
    policy = policy or ItemPolicy()
    gross = np.atleast_2d(np.asarray(gross, dtype=float))
    scheduled = np.broadcast_to(np.asarray(scheduled, dtype=float), gross.shape)
    if not (np.isfinite(gross).all() and np.isfinite(scheduled).all()):
        raise ValueError("gross requirements and scheduled receipts must be numbers")
    if (np.asarray(policy.lead_periods) < 0).any():
        raise ValueError("a lead time cannot be negative")
    rows, periods = gross.shape
    net, receipts, on_hand = np.zeros((3, rows, periods))
    held = np.broadcast_to(np.asarray(policy.on_hand, dtype=float), rows)
    for period in range(periods):
        available = held + scheduled[:, period] - gross[:, period]
        net[:, period] = np.clip(np.round(policy.safety_stock - available, ROUNDING), 0.0, None)
        receipts[:, period] = policy.rule.quantity(net[:, period], period, gross, scheduled)
        held = on_hand[:, period] = available + receipts[:, period]
    release = np.arange(periods) - np.broadcast_to(np.reshape(policy.lead_periods, (-1, 1)), (rows, 1))
    in_time = release >= 0
    releases = np.zeros((rows, periods))
    np.add.at(releases, (np.nonzero(in_time)[0], release[in_time]), receipts[in_time])
    return MrpRecord(net, receipts, on_hand, releases, np.where(in_time, 0.0, receipts))


def explode_releases(bill: BillOfMaterials, gross: np.ndarray, scheduled: np.ndarray, policy: ItemPolicy) -> MrpRecord:
    """The records of all nodes (n, T), level by level: a parent's planned releases are its children's gross requirements.

    gross: independent requirements (n, T). In low-level-code order a node's record is made when all that need it are
    known. A release that is past due is needed at once: its children require it in period 0. Raises ValueError when a
    node is on a cycle.
    """
    if (bill.low_level_code < 0).any():
        raise ValueError("a bill of materials with a cycle cannot be exploded")
    nodes, periods = gross.shape
    needed = gross.astype(float)
    made = {name: np.zeros((nodes, periods)) for name in MrpRecord.__dataclass_fields__}
    for level in range(int(bill.low_level_code.max(initial=-1)) + 1):
        rows = np.flatnonzero(bill.low_level_code == level)
        record = mrp_record(needed[rows], scheduled[rows], _of_rows(policy, rows, nodes))
        for name, matrix in made.items():
            matrix[rows] = getattr(record, name)
        to_make = made["planned_releases"].copy()
        to_make[:, :1] += made["past_due_receipts"].sum(axis=1, keepdims=True)
        edges = np.flatnonzero(bill.low_level_code[bill.parent] == level)
        np.add.at(needed, bill.child[edges], to_make[bill.parent[edges]] * bill.quantity_per[edges, None])
    return MrpRecord(**made)


def _of_rows(policy: ItemPolicy, rows: np.ndarray, nodes: int) -> ItemPolicy:
    """The policy of some rows of n."""

    def part(value: float | np.ndarray) -> np.ndarray:
        return np.broadcast_to(value, nodes)[rows]

    rule = LotRule(*(part(getattr(policy.rule, name)) for name in LotRule.__dataclass_fields__))
    return ItemPolicy(part(policy.on_hand), part(policy.safety_stock), part(policy.lead_periods), rule)
