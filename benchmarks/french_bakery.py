"""Past mornings of a real bakery, replayed by the real product: forecasts, purchases and stock over a month.

Run by `python -m benchmarks.french_bakery --data FOLDER [--home DIR] [--from DAY] [--to DAY] [--json] [--plot FILE]`. The
folder holds `daily_sales.csv` (unique_id, ds, y in euro, unit_price). The sales are real; recipes, costs, ovens, suppliers
and stock are plausible, not this bakery's (see french_bakery_files.py), so forecasts can be judged against reality, the
rest only for plausibility. Every step is a command of `daybreak`, the plans and their validation are Dagster backfills,
and what is reported is read from the store.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.french_bakery_files import INGREDIENTS, SUPPLIERS, Prepared, prepare
from resources.store.database import Store

TENANT = "french-bakery"
DAYBREAK = Path(sys.executable).with_name("daybreak")
START_S, STOP_S = 180, 30
BACKFILLS = ("plan backfill", "validation backfill")
"""Steps whose status is reported, also when it is not success."""
PLAUSIBLE_COVER_DAYS = 21
INVENTED = "Sales are real. Recipes, costs, ovens, suppliers and stock are plausible, not this bakery's."


class CommandFailed(SystemExit):
    """A command of the product ended with an error; the message is what it printed."""


def main() -> None:
    """Prepare, replay, and print tables or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder of daily_sales.csv")
    parser.add_argument("--home", type=Path, help="a home without this bakery; kept (default: a temporary one)")
    parser.add_argument("--from", dest="first", type=date.fromisoformat, default=date(2022, 9, 1))
    parser.add_argument("--to", dest="last", type=date.fromisoformat, default=date(2022, 9, 28))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plot", type=Path, help="a PNG of stock, orders and purchases of the largest ingredients")
    options = parser.parse_args()
    source = options.data / "daily_sales.csv"
    if not source.is_file():
        parser.error(f"{source} does not exist. Remedy: give the folder of daily_sales.csv with --data.")
    with tempfile.TemporaryDirectory(prefix="daybreak-french-") as folder:
        Path(folder).chmod(0o755)  # as root the server runs as another user, who must reach it
        prepared = prepare(source, Path(folder), options.first, options.last)
        result, days = replay(prepared, options.home or Path(folder) / "home", options.first, options.last)
    if options.plot:
        draw(days, options.plot)
    print(json.dumps(_plain(result), allow_nan=False) if options.json else as_text(result))


# ---------------------------------------------------------------- driving the product


def replay(prepared: Prepared, home: Path, first: date, last: date) -> tuple[dict[str, Any], pd.DataFrame]:
    """Import, plan and validate the days; returns the figures, and stock by item and day."""
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    environment["DAYBREAK_HOME"] = str(home.absolute())
    seconds: dict[str, float] = {}

    def command(*arguments: str, step: str) -> str:
        began = time.perf_counter()
        ended = subprocess.run([DAYBREAK, *arguments], env=environment, capture_output=True, text=True, check=False)
        seconds[step] = seconds.get(step, 0.0) + time.perf_counter() - began
        if ended.returncode and step not in BACKFILLS:
            raise CommandFailed(f"daybreak {' '.join(arguments)}: {ended.stdout}{ended.stderr}")
        return ended.stdout

    with running(environment, seconds):
        month_before = (first - timedelta(days=28)).replace(day=1)
        command("settings", "set", "partitions-start", month_before.isoformat(), step="set up")
        command("tenant", "add", TENANT, "--timezone", "Europe/Paris", "--country", "FR", step="set up")
        before, after = split_sales(prepared.files["sales"], first)
        for kind, path in {**prepared.files, "sales": before}.items():
            command("import", kind, str(path), "--tenant", TENANT, step=f"import {kind}")
        # Trained on what was known on the evening before the first morning; then the rest becomes known.
        trained = json.loads(command("models", "train", "--tenant", TENANT, "--json", step="train"))
        command("import", "sales", str(after), "--tenant", TENANT, step="import sales")
        planned, validated = [], []
        # A week at a time: what was sold moves the spread of the next week's forecasts, as it does every day in production.
        for week in range(0, (last - first).days + 1, 7):
            until = min(last, first + timedelta(days=week + 6))
            window = ("--from", (first + timedelta(days=week)).isoformat(), "--to", until.isoformat())
            asked = ("plan", "backfill", "--tenant", TENANT, *window, "--json")
            planned.append(json.loads(command(*asked, step="plan backfill"))["status"])
            validated.append(json.loads(command(*asked, "--validate", step="validation backfill"))["status"])
        address = json.loads(command("env", "--json", step="read"))["DATABASE_URL"]
        with Store(address) as store:
            days = stock_by_day(store, first, last)
            result = {
                "note": INVENTED,
                "first": first,
                "last": last,
                "products": len(prepared.groups),
                "sales_rows": len(prepared.sales),
                "closures": [day for day in prepared.closures if first <= day <= last],
                "seconds": {step: round(value, 1) for step, value in seconds.items()},
                "model": trained["tenants"][0],
                "backfills": {"plan": ", ".join(sorted(set(planned))), "validation": ", ".join(sorted(set(validated)))},
                "counts": counts(store, first, last),
                "accuracy": accuracy(store),
                "headline_recomputed": recomputed(store, prepared, first, last),
                "methods": methods(store, first, last),
                "quantile_coverage": quantile_coverage(store),
                "exceptions": exceptions(store, first, last),
                "money": money(store, prepared, first, last),
                "outcomes": outcomes(store, first, last),
                "stock": stock_table(days, purchases(store, first, last)),
            }
    return result, days


def split_sales(path: Path, first: date) -> tuple[Path, Path]:
    """The file of sales in two: the days before `first`, and the others."""
    header, *rows = path.read_text(encoding="utf-8").splitlines(keepends=True)
    column = header.rstrip("\n").split(",").index("business_date")
    parts = (path.with_name("sales_before.csv"), path.with_name("sales_after.csv"))
    for part, is_after in zip(parts, (False, True), strict=True):
        chosen = [row for row in rows if (row.rstrip("\n").split(",")[column] >= first.isoformat()) == is_after]
        part.write_text("".join([header, *chosen]), encoding="utf-8")
    return parts


@contextmanager
def running(environment: Mapping[str, str], seconds: dict[str, float]) -> Iterator[None]:
    """`daybreak up` in the background on a free port, answering; stopped at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = time.perf_counter()
    home = Path(environment["DAYBREAK_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    with (home / "up.log").open("wb") as log:
        process = subprocess.Popen([DAYBREAK, "up", "--port", str(port)], env=environment, stdout=log, stderr=log)
    try:
        while not _answers(f"http://127.0.0.1:{port}/server_info"):
            if process.poll() is not None or time.perf_counter() - began > START_S:
                raise CommandFailed(f"daybreak up does not answer: {(home / 'up.log').read_text()[-2000:]}")
            time.sleep(0.5)
        seconds["up"] = time.perf_counter() - began
        yield
    finally:
        process.terminate()
        process.wait(STOP_S)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310 (our own address)
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


# ---------------------------------------------------------------- what the store says


def counts(store: Store, first: date, last: date) -> dict[str, int]:
    """Rows of plans, validation and orders of the replayed days; the daemon plans the present beside them."""
    row = store.frame(
        """
        WITH planned AS (
            SELECT * FROM plans.plan WHERE tenant_id = %(t)s AND plan_date BETWEEN %(first)s AND %(last)s
        )
        SELECT (SELECT count(*) FROM planned) AS plans,
               (SELECT max(revision) FROM planned) AS highest_revision,
               (SELECT count(DISTINCT plan_date) FROM planned) AS mornings,
               (SELECT count(DISTINCT run_id) FROM planned) AS dagster_runs,
               (SELECT count(*) FROM planned JOIN plans.forecast USING (tenant_id, plan_date, plan_id)) AS forecast_series,
               (SELECT coalesce(sum(cardinality(mean_units)), 0)
                  FROM planned JOIN plans.forecast USING (tenant_id, plan_date, plan_id)) AS forecast_days,
               (SELECT count(*) FROM planned JOIN plans.production_line USING (tenant_id, plan_date, plan_id))
                   AS production_lines,
               (SELECT count(*) FROM planned JOIN plans.production_line USING (tenant_id, plan_date, plan_id)
                 WHERE limited_by = 'capacity') AS production_lines_short_of_capacity,
               (SELECT count(*) FROM planned JOIN plans.production_line USING (tenant_id, plan_date, plan_id)
                 WHERE is_late) AS production_lines_late,
               (SELECT coalesce(sum(batches), 0) FROM planned JOIN plans.production_line
                 USING (tenant_id, plan_date, plan_id)) AS batches,
               (SELECT coalesce(sum(runs), 0) FROM planned JOIN plans.dough_line USING (tenant_id, plan_date, plan_id))
                   AS mixer_runs,
               (SELECT count(*) FROM planned JOIN plans.requirement USING (tenant_id, plan_date, plan_id))
                   AS requirement_rows,
               (SELECT count(*) FROM planned JOIN plans.purchase_line USING (tenant_id, plan_date, plan_id))
                   AS purchase_lines,
               (SELECT count(*) FROM planned JOIN plans.purchase_line USING (tenant_id, plan_date, plan_id) WHERE is_late)
                   AS late_purchase_lines,
               (SELECT count(*) FROM facts.purchase_order_line
                 WHERE tenant_id = %(t)s AND plan_date BETWEEN %(first)s AND %(last)s) AS order_lines_placed,
               (SELECT count(*) FROM quality.validation
                 WHERE tenant_id = %(t)s AND business_date BETWEEN %(first)s AND %(last)s) AS validated_days,
               (SELECT count(*) FROM quality.validation_metric
                 WHERE tenant_id = %(t)s AND business_date BETWEEN %(first)s AND %(last)s) AS validation_rows,
               (SELECT count(*) FROM planned JOIN plans.exception USING (tenant_id, plan_date, plan_id)) AS exceptions
        """,
        {"t": TENANT, "first": first, "last": last},
    ).to_dict("records")[0]
    return {str(name): int(value) for name, value in row.items()}


def accuracy(store: Store) -> list[dict[str, Any]]:
    """By days ahead, pooled over days: absolute error in % of units sold, beside seasonal naive; bias; pinball loss."""
    frame = store.frame(
        """
        SELECT days_ahead, count(*) AS days, sum(rows_used)::int AS rows, sum(actual_units) AS actual_units,
               sum(wape_pct * actual_units) / sum(actual_units) AS wape_pct,
               sum(naive_wape_pct * actual_units) / sum(actual_units) AS naive_wape_pct,
               100 * (sum(forecast_units) / sum(actual_units) - 1) AS bias_pct,
               sum(pinball_units * rows_used) / sum(rows_used) AS pinball_units,
               sum(mase * rows_used) / sum(rows_used) AS mase
        FROM quality.validation_metric
        WHERE tenant_id = %(t)s AND scope = 'overall' AND rows_used > 0
        GROUP BY days_ahead ORDER BY days_ahead
        """,
        {"t": TENANT},
    )
    return [{str(name): value for name, value in row.items()} for row in frame.round(4).to_dict("records")]


def recomputed(store: Store, prepared: Prepared, first: date, last: date) -> dict[str, float]:
    """The headline once more, from the stored forecasts and the file of sales: no code shared with the validation link.

    Naive is the latest value of the same weekday on a day on which the shop was open.
    """
    forecast = store.frame(
        """
        SELECT product_id, target_date, mean_units::float8, is_open FROM plans.forecast_day
        WHERE tenant_id = %(t)s AND days_ahead = 0 AND plan_date BETWEEN %(first)s AND %(last)s
        """,
        {"t": TENANT, "first": first, "last": last},
    )
    wide = prepared.sales.pivot_table(index="business_date", columns="product_id", values="units", aggfunc="sum")
    every_day = [first + timedelta(days=n) for n in range(-70, (last - first).days + 1)]
    actual = wide.reindex(every_day).fillna(0.0)
    actual.loc[actual.index.isin(prepared.closures)] = np.nan
    naive = actual.groupby([day.weekday() for day in actual.index]).ffill().groupby(
        [day.weekday() for day in actual.index]
    ).shift()  # fmt: skip
    mean = forecast.pivot_table(index="target_date", columns="product_id", values="mean_units")
    days = [day for day in mean.index if day not in prepared.closures]
    expected = mean.loc[days]
    is_forecast = expected.notna()
    sold, before = (values.loc[days, mean.columns].where(is_forecast) for values in (actual, naive))
    total = float(np.nansum(sold.to_numpy()))
    return {
        "rows": int(is_forecast.to_numpy().sum()),
        "wape_pct": round(100 * float((expected - sold).abs().sum().sum()) / total, 3),
        "naive_wape_pct": round(100 * float((before - sold).abs().sum().sum()) / total, 3),
        "daily_total_wape_pct": round(100 * float((expected.sum(axis=1) - sold.sum(axis=1)).abs().sum()) / total, 3),
    }


def methods(store: Store, first: date, last: date) -> dict[str, int]:
    """How many series-mornings each forecasting method made."""
    frame = store.frame(
        """
        SELECT method, count(*) AS series FROM plans.forecast
        WHERE tenant_id = %(t)s AND plan_date BETWEEN %(first)s AND %(last)s GROUP BY 1 ORDER BY 2 DESC
        """,
        {"t": TENANT, "first": first, "last": last},
    )
    return {str(row.method): int(row.series) for row in frame.itertuples()}


def quantile_coverage(store: Store) -> dict[str, float]:
    """Share of open product-days on which demand was at most the quantile, in %, zero days ahead."""
    frame = store.frame(
        """
        SELECT level.key AS level, sum(level.value::float8 * rows_used) / sum(rows_used) * 100 AS pct
        FROM quality.validation_metric, jsonb_each_text(quantile_coverage) AS level
        WHERE tenant_id = %(t)s AND scope = 'overall' AND days_ahead = 0 AND rows_used > 0
        GROUP BY level.key ORDER BY level.key::float8
        """,
        {"t": TENANT},
    )
    return {row.level: round(row.pct, 1) for row in frame.itertuples()}


def exceptions(store: Store, first: date, last: date) -> list[dict[str, Any]]:
    """Exceptions by code, with one message."""
    frame = store.frame(
        """
        SELECT link, code, count(*) AS rows, count(DISTINCT subject_id) AS subjects, min(message) AS one_of_them
        FROM plans.exception WHERE tenant_id = %(t)s AND plan_date BETWEEN %(first)s AND %(last)s
        GROUP BY 1, 2 ORDER BY 3 DESC
        """,
        {"t": TENANT, "first": first, "last": last},
    )
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def money(store: Store, prepared: Prepared, first: date, last: date) -> dict[str, float]:
    """What was planned to be made, what of it met the units that were sold, and the purchases in euro."""
    lines = store.frame(
        """
        SELECT line.product_id, line.plan_date, line.quantity_units::float8, line.unit_price::float8,
               line.variable_cost::float8
        FROM plans.production_line AS line JOIN plans.plan USING (tenant_id, plan_date, plan_id)
        WHERE line.tenant_id = %(t)s AND plan.status = 'active' AND line.plan_date BETWEEN %(first)s AND %(last)s
        """,
        {"t": TENANT, "first": first, "last": last},
    )
    sold = prepared.sales.groupby(["product_id", "business_date"])["units"].sum()
    demand = sold.reindex(pd.MultiIndex.from_frame(lines[["product_id", "plan_date"]])).fillna(0).to_numpy()
    made = lines["quantity_units"].to_numpy()
    met = np.minimum(made, demand)
    bought = store.frame(
        """
        SELECT sum(amount)::float8 AS amount FROM facts.purchase_order_line
        WHERE tenant_id = %(t)s AND plan_date BETWEEN %(first)s AND %(last)s
        """,
        {"t": TENANT, "first": first, "last": last},
    )
    return {
        "units_made": float(made.sum()),
        "units_sold_in_reality": float(demand.sum()),
        "units_of_sales_met": float(met.sum()),
        "sales_met_pct": round(100 * float(met.sum() / demand.sum()), 2),
        "left_over_pct_of_made": round(100 * float((made - met).sum() / made.sum()), 2),
        "sales_value_met_eur": round(float((met * lines["unit_price"]).sum()), 0),
        "cost_of_made_eur": round(float((made * lines["variable_cost"]).sum()), 0),
        "purchases_eur": round(float(bought["amount"].fillna(0).iloc[0]), 0),
    }


def outcomes(store: Store, first: date, last: date) -> dict[str, float]:
    """What the days turned out to cost against the best in hindsight, in euro, and where the difference came from."""
    row = store.frame(
        """
        SELECT count(*) AS product_days, count(*) FILTER (WHERE is_censored) AS sold_out,
               sum(cost) AS cost_eur, sum(hindsight_cost) AS hindsight_cost_eur, sum(regret) AS regret_eur,
               sum(regret_forecast) AS regret_forecast_eur, sum(regret_rounding) AS regret_rounding_eur,
               sum(regret_capacity) AS regret_capacity_eur, sum(regret_override) AS regret_override_eur
        FROM quality.plan_outcome
        WHERE tenant_id = %(t)s AND business_date BETWEEN %(first)s AND %(last)s AND NOT is_default_critical_ratio
        """,
        {"t": TENANT, "first": first, "last": last},
    ).to_dict("records")[0]
    return {str(name): round(float(value), 2) for name, value in row.items() if value is not None}


def stock_by_day(store: Store, first: date, last: date) -> pd.DataFrame:
    """Per item and morning, as the active plans have it: opening, received, consumed, short, expired, closing, ordered
    and open orders at the end of the day (base units)."""
    days = store.frame(
        """
        SELECT line.item_id, line.plan_date AS day, line.opening_quantity::float8 AS opening,
               line.receipts_quantity[1]::float8 AS received, line.consumption_quantity[1]::float8 AS consumed,
               line.shortage_quantity[1]::float8 AS short, line.expired_quantity[1]::float8 AS expired,
               line.closing_quantity[1]::float8 AS closing
        FROM plans.projection AS line JOIN plans.plan USING (tenant_id, plan_date, plan_id)
        WHERE line.tenant_id = %(t)s AND plan.status = 'active' AND line.plan_date BETWEEN %(first)s AND %(last)s
        ORDER BY 1, 2
        """,
        {"t": TENANT, "first": first, "last": last},
    )
    orders = store.frame(
        """
        SELECT item_id, ordered_on, delivery_on, quantity::float8 FROM facts.purchase_order_line
        WHERE tenant_id = %(t)s AND status = 'open'
        """,
        {"t": TENANT},
    )
    ordered = orders.groupby(["item_id", "ordered_on"])["quantity"].sum()
    key = pd.MultiIndex.from_frame(days[["item_id", "day"]])
    days["ordered"] = ordered.reindex(key).fillna(0.0).to_numpy()
    pairs = days[["item_id", "day"]].reset_index().merge(orders, on="item_id")
    is_open = (pairs["ordered_on"] <= pairs["day"]) & (pairs["delivery_on"] > pairs["day"])
    days["open_orders"] = pairs[is_open].groupby("index")["quantity"].sum().reindex(days.index).fillna(0.0)
    return days


def purchases(store: Store, first: date, last: date) -> pd.DataFrame:
    """Per item: order lines, and what is still to come after the last day."""
    return store.frame(
        """
        SELECT item_id, count(*) AS orders, sum(quantity)::float8 AS ordered, sum(amount)::float8 AS amount,
               coalesce(sum(quantity) FILTER (WHERE delivery_on > %(last)s), 0)::float8 AS open_at_end
        FROM facts.purchase_order_line
        WHERE tenant_id = %(t)s AND plan_date BETWEEN %(first)s AND %(last)s GROUP BY 1 ORDER BY 1
        """,
        {"t": TENANT, "first": first, "last": last},
    ).set_index("item_id")


def stock_table(days: pd.DataFrame, bought: pd.DataFrame) -> list[dict[str, Any]]:
    """One row per ingredient over the replayed days, in base units; `flags` names what a buyer would ask about."""
    rows = []
    for item_id, item in INGREDIENTS.items():
        of_item = days[days["item_id"] == item_id]
        if of_item.empty:
            continue
        order = (
            bought.loc[item_id]
            if item_id in bought.index
            else pd.Series(0.0, ["orders", "ordered", "amount", "open_at_end"])
        )
        consumed, mornings = of_item["consumed"].sum(), len(of_item)
        daily = consumed / mornings
        moved = of_item["opening"] + of_item["received"] - of_item["consumed"] - of_item["expired"] - of_item["closing"]
        carried = of_item["closing"].to_numpy()[:-1] - of_item["opening"].to_numpy()[1:]
        row = {
            "item_id": item_id,
            "unit": item.base_unit,
            "opening": of_item["opening"].iloc[0],
            "ordered": order["ordered"],
            "received": of_item["received"].sum(),
            "consumed": consumed,
            "expired": of_item["expired"].sum(),
            "short": of_item["short"].sum(),
            "closing": of_item["closing"].iloc[-1],
            "open_at_end": order["open_at_end"],
            "cover_days": of_item["closing"].iloc[-1] / daily if daily else float("nan"),
            "peak_cover_days": of_item["closing"].max() / daily if daily else float("nan"),
            "orders": int(order["orders"]),
            "ordered_to_consumed": order["ordered"] / consumed if consumed else float("nan"),
            "amount_eur": order["amount"],
            "unbalanced": max(abs(moved).max(), abs(carried).max() if len(carried) else 0.0),
        }
        least = item.pack_quantity * max(item.min_packs, item.multiple_packs)
        days_of_delivery = len(SUPPLIERS[item.supplier_id].delivery_weekdays.split()) * (mornings // 7 + 1)
        row["flags"] = [
            flag
            for flag, is_raised in {
                "bought beyond 21 days": order["ordered"] > consumed + PLAUSIBLE_COVER_DAYS * daily + least,
                "ordered oftener than delivered": order["orders"] > days_of_delivery,
                "short": row["short"] > 1e-6,
                "a tenth expired": row["expired"] > 0.1 * max(consumed, 1e-9),
                "does not balance": row["unbalanced"] > 1e-3,
            }.items()
            if is_raised
        ]
        rows.append(row)
    return rows


def _plain(value: Any) -> Any:
    """The value as JSON has it: an unknown number is null, a date is text."""
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return str(value) if isinstance(value, date) else value


# ---------------------------------------------------------------- on paper


def as_text(result: Mapping[str, Any]) -> str:
    """The figures as text."""
    lines = [
        f"French bakery, mornings {result['first']} to {result['last']} ({result['products']} products, "
        f"{result['sales_rows']:,} sales rows; closed: {', '.join(map(str, result['closures'])) or 'never'})",
        result["note"],
    ]
    for title in (
        "seconds",
        "model",
        "backfills",
        "counts",
        "headline_recomputed",
        "methods",
        "quantile_coverage",
        "money",
        "outcomes",
    ):
        lines += ["", title.replace("_", " ")]
        lines += [f"  {name:28} {value!s:>14}" for name, value in result[title].items()]
    for title in ("accuracy", "exceptions", "stock"):
        lines += ["", title, pd.DataFrame(result[title]).round(2).to_string(index=False, max_colwidth=90)]
    return "\n".join(lines)


def draw(days: pd.DataFrame, path: Path, items: int = 6) -> None:
    """Small multiples of the ingredients that cost most: closing stock (area), open orders (line), orders placed (bars)."""
    try:
        from PIL import Image, ImageDraw  # noqa: PLC0415 (only a picture needs it)
    except ImportError:
        raise SystemExit("--plot needs Pillow. Remedy: pip install pillow, or leave --plot out.") from None
    cost = days["consumed"] * days["item_id"].map({item_id: item.unit_cost for item_id, item in INGREDIENTS.items()})
    largest = cost.groupby(days["item_id"]).sum().nlargest(items).index
    width, height, margin, columns = 620, 230, 46, 2
    image = Image.new("RGB", (columns * width, -(-items // columns) * height + 30), "white")
    pen = ImageDraw.Draw(image)
    pen.text(
        (margin, 8),
        "End of day: stock (grey), open orders (blue line); ordered that morning (orange). " + INVENTED,
        fill="black",
    )
    for n, item_id in enumerate(largest):
        of_item = days[days["item_id"] == item_id]
        left, top = n % columns * width + margin, 30 + n // columns * height + 22
        right, bottom = left + width - margin - 14, top + height - 60
        highest = max(of_item[["closing", "open_orders", "ordered"]].to_numpy().max(), 1e-9)
        step = (right - left) / len(of_item)
        pen.text((left, top - 16), f"{item_id} ({INGREDIENTS[item_id].base_unit}), up to {highest:,.0f}", fill="black")

        def at(value: float, bottom: int = bottom, top: int = top, highest: float = highest) -> float:
            return bottom - (bottom - top) * value / highest

        line = []
        for k, row in enumerate(of_item.itertuples()):
            x = left + k * step
            pen.rectangle((x, at(row.closing), x + step - 1, bottom), fill="#c8c8c8")
            pen.rectangle((x + step / 3, at(row.ordered), x + 2 * step / 3, bottom), fill="#e08020")
            line.append((x + step / 2, at(row.open_orders)))
            if k % 7 == 0:
                pen.text((x, bottom + 4), f"{row.day:%d %b}", fill="black")
        pen.line(line, fill="#2050c0", width=2)
        pen.line((left, bottom, right, bottom), fill="black")
    image.save(path)


if __name__ == "__main__":
    main()
