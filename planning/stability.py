"""How much a plan made again changes what the one before had announced: the nervousness of plans.

What belongs here: the measures, and their application to the revisions of a date. What does not: whether a change was
worth it, which is judged in money when the day is over (`planning.outcomes`).
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from planning.frames import frame_of

ALPHA = 0.5
"""Weight that is left to each later period of a plan: a change of tomorrow hurts twice as much as one of the day after."""

TOLERANCE = 1e-6
"""Quantities that differ by no more are the same."""

STABILITY_COLUMNS = (
    "tenant_id",
    "plan_id",
    "previous_plan_id",
    "previous_quantity",
    "changed_quantity",
    "instability",
    "weighted_change",
    "lines_changed",
)
"""Columns of quality.plan_stability except the date and the kind of plan."""


def changed_quantity(previous: ArrayLike, current: ArrayLike) -> np.ndarray:
    """The sum of the absolute changes over the last axis, the periods that both plans hold; leading shapes broadcast."""
    return np.abs(_change(previous, current)).sum(axis=-1)


def instability(previous: ArrayLike, current: ArrayLike) -> np.ndarray:
    """The share of the previous plan that was changed: sum |Q_t - Q'_t| / sum Q'_t over the periods of both.

    0 for a plan that did not change, above 1 where more was changed than there had been. NaN where nothing had been planned.
    """
    before = np.asarray(previous, dtype=float).sum(axis=-1)
    change = changed_quantity(previous, current)
    before, change = np.broadcast_arrays(before, change)
    return np.divide(change, before, out=np.full(change.shape, np.nan), where=before > 0)


def instability_per_order(plans: Sequence[ArrayLike], first_periods: Sequence[int], orders: float) -> float:
    """Changes of a rolling plan per order: sum over plans k and periods t of |Q_t^k - Q_t^(k-1)|, divided by the orders.

    As Sridharan, Berry & Udayabhanu (1988, Decision Sciences 19). plans: quantities of successive plans, each from its
    entry of `first_periods` on; only the periods that a plan and the one before it both hold are compared. `orders` is
    the number of orders over all plans. Raises ValueError for lists that do not belong together or no order.
    """
    if len(plans) != len(first_periods):
        raise ValueError(f"{len(plans)} plans need as many first periods, got {len(first_periods)}")
    if orders <= 0:
        raise ValueError("the number of orders must be above 0")
    total = 0.0
    rows = [np.asarray(plan, dtype=float) for plan in plans]
    for (before, begins), (after, starts) in zip(
        zip(rows[:-1], first_periods[:-1], strict=True), zip(rows[1:], first_periods[1:], strict=True), strict=True
    ):
        first, last = max(begins, starts), min(begins + len(before), starts + len(after))
        if first < last:
            total += float(
                changed_quantity(before[first - begins : last - begins], after[first - starts : last - starts])
            )
    return total / orders


def weighted_change(previous: ArrayLike, current: ArrayLike, alpha: float = ALPHA) -> np.ndarray:
    """Changes weighted by how near they are: sum of (1 - alpha) alpha^t |Q_t - Q'_t|, t from 0 over the last axis.

    As Kadipasaoglu & Sridharan (1995, Journal of Operations Management 13). Raises ValueError for alpha outside 0..1.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie in 0..1, got {alpha}")
    change = np.abs(_change(previous, current))
    return (change * (1 - alpha) * alpha ** np.arange(change.shape[-1])).sum(axis=-1)


def compare_revisions(
    revisions: pd.DataFrame, previous: pd.DataFrame, current: pd.DataFrame, alpha: float = ALPHA
) -> pd.DataFrame:
    """How much each revision changed the plan before it: STABILITY_COLUMNS, one row per row of `revisions`, in its order.

    revisions: tenant_id, plan_id, previous_plan_id. previous, current: plan_id (of the revision itself), line (what tells
    the lines of a plan apart) and quantities, a list per row whose t-th element is of the t-th day from the plan date. A
    line that only one of them has was, or is, nothing. instability is NaN where nothing had been planned.
    """
    if revisions.empty:
        return frame_of(STABILITY_COLUMNS)
    of_plan = {plan_id: n for n, plan_id in enumerate(revisions["plan_id"])}
    before_of = {plan_id: n for n, plan_id in enumerate(revisions["previous_plan_id"])}
    rows = pd.concat(
        [
            pd.DataFrame({"n": part["plan_id"].map(place).to_numpy(), "line": part["line"].to_numpy(), "side": side})
            for side, (part, place) in enumerate(((previous, before_of), (current, of_plan)))
        ],
        ignore_index=True,
    )
    quantities = [*previous["quantities"], *current["quantities"]]
    days = max((len(row) for row in quantities), default=1)
    matrix = np.array([[*row, *[0.0] * (days - len(row))] for row in quantities], dtype=float).reshape(-1, days)
    line = rows.groupby(["n", "line"], sort=True).ngroup().to_numpy()
    sides = np.zeros((2, line.max() + 1 if len(line) else 0, days))
    np.add.at(sides, (rows["side"].to_numpy(), line), matrix)
    plan_of_line = np.zeros(sides.shape[1], dtype=np.int64)
    plan_of_line[line] = rows["n"].to_numpy(dtype=np.int64)

    def per_plan(of_lines: np.ndarray) -> np.ndarray:
        return np.bincount(plan_of_line, weights=of_lines, minlength=len(revisions))

    before = per_plan(sides[0].sum(axis=-1))
    change = changed_quantity(sides[0], sides[1])
    changed = per_plan(change)
    return revisions[["tenant_id", "plan_id", "previous_plan_id"]].assign(
        previous_quantity=before,
        changed_quantity=changed,
        instability=np.divide(changed, before, out=np.full(len(before), np.nan), where=before > 0),
        weighted_change=per_plan(weighted_change(sides[0], sides[1], alpha)),
        lines_changed=per_plan(change > TOLERANCE).astype(np.int64),
    )[list(STABILITY_COLUMNS)]


def _change(previous: ArrayLike, current: ArrayLike) -> np.ndarray:
    """Current less previous; both must hold the same periods."""
    before, after = np.asarray(previous, dtype=float), np.asarray(current, dtype=float)
    if before.ndim == 0 or after.ndim == 0 or before.shape[-1] != after.shape[-1]:
        raise ValueError(f"previous {before.shape} and current {after.shape} must end in the same periods")
    return after - before
