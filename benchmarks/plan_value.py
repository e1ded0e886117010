"""What Daybreak's quantities are worth on a real bakery: the realised cost of mismatch, beside three simple policies.

Run by `python -m benchmarks.plan_value --data FOLDER [--folds N] [--json]`. The folder holds the French bakery's
`daily_sales.csv` (unique_id, ds, y in euro, unit_price). A fold is 84 mornings, each deciding its own day from the sales
until the day before; the first ends with the data, each further one 84 days earlier. Forecasts and quantiles are those of
benchmarks.accuracy: every candidate and the champion as production would have trained and promoted them.

With Q made and D asked for a product's day costs Cu (D - Q)+ + Co (Q - D)+, summed over products and days. Nothing is
carried over. Policies: `daybreak` makes the batches of planning.newsvendor.best_batches on the champion's quantiles; the
others make the whole number of batches nearest to their quantity, a half rounded up: `point_forecast` the champion's mean,
`last_week` what was sold on the last open same weekday, `weekday_mean` the mean of that weekday over eight weeks.

Costs and batch sizes are plausible, not this bakery's. At a critical ratio r a unit costs (1 - r) of its price and is worth
nothing when left over, so Cu = r and Co = 1 - r in shares of the price; tables are in units (a price of 1 for everything)
and in euro (each product's last price). `own` is the ratio that the cost share of a product's group leaves, and the batch
sizes are the groups' (french_bakery_files). This bakery did not record sell-outs, so sales are taken for demand; rows
known to be sold out would be left out, as in benchmarks.accuracy.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.accuracy import FRENCH, ORIGINS, REFIT_DAYS, read_datasets, say, through
from benchmarks.french_bakery_files import GROUPS, group_of, read_sales
from planning.backtest import CHAMPION, BacktestRows, rolling_backtest
from planning.distributions import QuantileDemand
from planning.frames import QUANTILE_LEVELS
from planning.newsvendor import BatchRules, UnitCosts, best_batches
from planning.outcomes import mismatch_cost
from planning.quantiles import VOLUME_CLASSES
from planning.rules import SEASONAL_NAIVE, WEEKDAY_MEAN

DAYBREAK, OWN = "daybreak", "own"
SIMPLE: Mapping[str, str] = {"point_forecast": CHAMPION, "last_week": SEASONAL_NAIVE, "weekday_mean": WEEKDAY_MEAN}
"""The simple policies, and the candidate whose mean each of them makes."""

RATIOS = (0.5, 0.7, 0.9)

REQUIRED_PCT = {
    (0.5, "last_week"): 18.0,
    (0.7, "last_week"): 18.0,
    (0.9, "last_week"): 42.0,
    (0.9, "point_forecast"): 35.0,
}
"""By how much Daybreak's cost must be below a policy's at batch size 1, on the first fold; below the others it must be at
all (0 %)."""


@dataclass(frozen=True)
class Money:
    """What each series sells and costs, all (series,): price in euro, cost as a share of it, units of a batch."""

    price: np.ndarray
    cost_share: np.ndarray
    batch_size_units: np.ndarray


def main() -> None:
    """Measure, and print tables or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the French bakery's daily_sales.csv")
    parser.add_argument("--folds", type=int, default=1, help="84-day windows, each 84 days before the last")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    source = options.data / "daily_sales.csv"
    if not source.is_file():
        parser.error(f"{source} does not exist. Remedy: give the folder of daily_sales.csv with --data.")
    (inputs,) = read_datasets(source, False, ORIGINS * options.folds)[FRENCH]
    money = money_of(source, inputs.history.keys)
    folds = []
    for fold in range(options.folds):
        say(f"fold {fold}: replaying {ORIGINS} mornings")
        cut = through(inputs, fold * ORIGINS)
        rows = rolling_backtest(cut.history, cut.calendar, days=ORIGINS, horizon_days=1, refit_days=REFIT_DAYS)
        folds.append({"fold": fold, **measure(rows, money)})
    result = {"mornings": ORIGINS, "folds": folds, "targets": targets(folds[0])}
    print(json.dumps(result, allow_nan=False) if options.json else "\n".join(as_text(result)))


def money_of(source: Path, keys: pd.DataFrame) -> Money:
    """Last price, and cost share and batch size of the group, of each series."""
    sales, _ = read_sales(source)
    last = sales.sort_values("business_date").drop_duplicates("product_id", keep="last").set_index("product_id")
    product = keys["product_id"]
    groups = [GROUPS[group_of(name)] for name in last["unique_id"].reindex(product)]
    return Money(
        last["unit_price"].reindex(product).to_numpy(dtype=float),
        np.array([group.cost_share for group in groups]),
        np.array([group.batch_size_units for group in groups], dtype=float),
    )


# ---------------------------------------------------------------- measuring


def measure(rows: BacktestRows, money: Money) -> dict[str, Any]:
    """The tables of one fold. Costs are sums over the rows that were not sold out.

    batch_1 and batches: ratio -> {units, eur} -> policy -> cost, with `best_simple` and, per simple policy, by how many
    percent Daybreak's is below (`below_pct`). rounding: what batches add to the cost of batch size 1 in euro, per policy,
    and Daybreak's by volume class. covered_pct: the shares of rows with demand below and at most Daybreak's quantity at
    batch size 1, between which the ratio should lie.
    """
    used = ~rows.is_censored
    series, actual = rows.series[used], rows.actual_units[used]
    price, own = money.price[series], 1 - money.cost_share[series]
    volume_class = rows.volume_class[used]
    ratios = {**{f"{ratio:g}": np.full(len(actual), ratio) for ratio in RATIOS}, OWN: own}
    sizes = {"batch_1": np.ones(len(actual)), "batches": money.batch_size_units[series]}
    found: dict[str, Any] = {
        "from": str(rows.target.min()),
        "to": str(rows.target.max()),
        "rows": len(actual),
        "rows_censored": int((~used).sum()),
        "rows_without_sales": int((actual == 0).sum()),
        "units": float(actual.sum()),
        "products": len(np.unique(series)),
        "covered_pct": {},
        "rounding": {},
    }
    paid: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    for name, size in sizes.items():
        found[name] = {}
        for label, ratio in ratios.items():
            made = quantities(rows, used, ratio, size)
            cost = {policy: mismatch_cost(units, actual, ratio, 1 - ratio) for policy, units in made.items()}
            paid[name, label] = {policy: price * units for policy, units in cost.items()}
            found[name][label] = {"units": table(cost), "eur": table(paid[name, label])}
            if name == "batch_1":
                supply = made[DAYBREAK]
                found["covered_pct"][label] = {
                    "ratio": float(100 * ratio.mean()),
                    "below": float(100 * (actual < supply).mean()),
                    "at_most": float(100 * (actual <= supply).mean()),
                }
    for label in ratios:
        added = {policy: paid["batches", label][policy] - cost for policy, cost in paid["batch_1", label].items()}
        whole = paid["batch_1", label][DAYBREAK]
        found["rounding"][label] = {
            "eur": {policy: float(eur.sum()) for policy, eur in added.items()},
            "by_volume_class": [
                {
                    "batch_1_eur": float(whole[volume_class == number].sum()),
                    "added_eur": float(added[DAYBREAK][volume_class == number].sum()),
                }
                for number in range(VOLUME_CLASSES)
            ],
        }
    return found


def quantities(rows: BacktestRows, used: np.ndarray, ratio: np.ndarray, size: np.ndarray) -> dict[str, np.ndarray]:
    """Units that each policy makes of the rows used; ratio and size (batch size in units) are per row."""
    demand = QuantileDemand.from_quantiles(QUANTILE_LEVELS, rows.quantile_units[CHAMPION][used])
    rules = BatchRules(size, np.zeros(1), np.ones(1), np.full(1, np.inf), np.zeros(1))
    made = {DAYBREAK: best_batches(demand, UnitCosts(ratio, 1 - ratio), rules).batches * size}
    return made | {
        policy: np.floor(rows.mean_units[candidate][used] / size + 0.5) * size for policy, candidate in SIMPLE.items()
    }


def table(cost: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Sums by policy, the best simple one, and by how many percent Daybreak's is below each."""
    sums = {policy: float(of_rows.sum()) for policy, of_rows in cost.items()}
    best = min(SIMPLE, key=lambda policy: sums[policy])
    below = {policy: _below_pct(sums[DAYBREAK], sums[policy]) for policy in SIMPLE}
    return {"cost": sums, "best_simple": best, "below_pct": below}


def targets(fold: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is required of batch size 1, in units and in euro, and what was found."""
    rows = []
    for ratio in RATIOS:
        for policy in SIMPLE:
            required = REQUIRED_PCT.get((ratio, policy), 0.0)
            below = {unit: fold["batch_1"][f"{ratio:g}"][unit]["below_pct"][policy] for unit in ("units", "eur")}
            is_met = all(pct is not None and pct >= required for pct in below.values())
            rows.append({"ratio": ratio, "policy": policy, "required_pct": required, **below, "is_met": is_met})
    return rows


def _below_pct(ours: float, theirs: float) -> float | None:
    return 100 * (1 - ours / theirs) if theirs > 0 else None


# ---------------------------------------------------------------- on paper


def as_text(result: Mapping[str, Any]) -> Iterator[str]:
    """The tables."""
    for fold in result["folds"]:
        yield ""
        yield (
            f"French bakery, fold {fold['fold']}: {result['mornings']} mornings, {fold['from']} to {fold['to']}, "
            f"{fold['products']} products, {fold['rows']:,} product-days ({fold['rows_without_sales']:,} without a sale, "
            f"{fold['rows_censored']} sold out and left out), {fold['units']:,.0f} units sold"
        )
        for name, title in (("batch_1", "batch size 1"), ("batches", "batches of the product's group")):
            for unit, meaning in (("units", "units of Cu + Co"), ("eur", "euro")):
                yield ""
                yield from _costs(f"{title}, {meaning}", {r: cut[unit] for r, cut in fold[name].items()})
        yield ""
        yield from _rounding(fold["rounding"])
        yield ""
        yield "  demand below / at most what Daybreak made at batch size 1, in % of product-days: " + ", ".join(
            f"{label} ({part['ratio']:.0f}) {part['below']:.1f} / {part['at_most']:.1f}"
            for label, part in fold["covered_pct"].items()
        )
    yield ""
    yield "required of batch size 1 on fold 0, in % below:"
    for row in result["targets"]:
        yield (
            f"  ratio {row['ratio']:g} {row['policy']:<16} at least {row['required_pct']:4.0f}; found {row['units']:6.1f} "
            f"(units) {row['eur']:6.1f} (euro): {'met' if row['is_met'] else 'MISSED'}"
        )


def _costs(title: str, tables: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    columns = (DAYBREAK, *SIMPLE)
    yield f"  {title:<44}" + "".join(f"{name:>16}" for name in columns) + f"{'best simple':>16}"
    for label, of_ratio in tables.items():
        cost, below = of_ratio["cost"], of_ratio["below_pct"]
        cells = [f"{cost[DAYBREAK]:,.0f}".rjust(16)]
        cells += [f"{cost[policy]:,.0f} ({_signed(below[policy])})".rjust(16) for policy in SIMPLE]
        cells += [f"({_signed(below[of_ratio['best_simple']])})".rjust(16)]
        yield f"    critical ratio {label:<27}" + "".join(cells)


def _rounding(rounding: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield f"  {'what batches add to batch size 1, euro':<44}" + "".join(f"{name:>16}" for name in (DAYBREAK, *SIMPLE))
    for label, of_ratio in rounding.items():
        cells = "".join(f"{of_ratio['eur'][policy]:>+16,.0f}" for policy in (DAYBREAK, *SIMPLE))
        yield f"    critical ratio {label:<27}{cells}"
    header = "".join(f"{'class ' + str(number):>18}" for number in range(VOLUME_CLASSES))
    yield f"  {'of it Daybreak by volume class (0: slowest)':<44}{header}"
    for label, of_ratio in rounding.items():
        parts = []
        for part in of_ratio["by_volume_class"]:
            before, added = part["batch_1_eur"], part["added_eur"]
            of_cost = f" ({100 * added / before:+.0f} %)" if before > 0 else ""
            parts.append(f"{added:+,.0f}{of_cost}".rjust(18))
        yield f"    critical ratio {label:<27}{''.join(parts)}"


def _signed(below_pct: float | None) -> str:
    return "-" if below_pct is None else f"{-below_pct:+.0f} %"


if __name__ == "__main__":
    main()
