"""`daybreak backtest`: what each candidate would have forecast on past mornings, scored on the same rows."""

import difflib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from daybreak.cli.common import InputRefused, json_option, opened_store, print_json

if TYPE_CHECKING:
    import numpy as np

    from planning.backtest import BacktestRows
    from planning.calendar import Calendar
    from planning.frames import Panel
    from resources.store.database import Store

LEAST_DAYS_BEFORE = 14
"""Days of sales before those that are forecast, below which every candidate would only guess."""

SHOWN_LEVELS = ("0.1", "0.5", "0.9")
DECIMALS = 4


@click.command()
@click.option("--tenant", "tenant_id", required=True, help="The tenant whose past is replayed.")
@click.option(
    "--location", "location_id", help="Score only this location. Training sees the whole tenant all the same."
)
@click.option("--product", "product_id", help="Score only this product. Training sees the whole tenant all the same.")
@click.option(
    "--days",
    type=click.IntRange(1, 730),
    default=84,
    show_default=True,
    help="The last days, all of which are forecast.",
)
@click.option("--horizon", type=click.IntRange(1, 8), default=7, show_default=True, help="From how many mornings each.")
@click.option(
    "--plot", "plot_path", type=click.Path(path_type=Path), help="A .png or .svg of forecast band against sales."
)
@json_option
def backtest(
    tenant_id: str,
    location_id: str | None,
    product_id: str | None,
    days: int,
    horizon: int,
    plot_path: Path | None,
    as_json: bool,
) -> None:
    """Score every forecast candidate on past mornings, all on the same rows.

    Each of the last --days days is forecast from the --horizon mornings before it, by what was known then. Models are
    trained anew every 28 days and serve when they would have been promoted, as in production; `champion` is what would
    have served. Nothing is stored.
    """
    from daybreak.plots import PlotRefused, checked_path, draw_backtest  # noqa: PLC0415 (keeps --help fast)
    from planning.backtest import rolling_backtest  # noqa: PLC0415
    from planning.frames import PlanningError  # noqa: PLC0415

    try:
        if plot_path is not None:
            checked_path(plot_path)
        with opened_store() as store:
            inputs = read_inputs(store, tenant_id, days)
        for warning in inputs.warnings:
            click.echo(f"Warning: {warning}", err=True)
        check_series(inputs, tenant_id, location_id, product_id)
        check_length(inputs, tenant_id, days)
        with progress(f"Backtest of {tenant_id}") as on_progress:
            rows = rolling_backtest(
                inputs.history, inputs.calendar, days=days, horizon_days=horizon, on_progress=on_progress
            )
        selection = selected(rows, location_id, product_id)
        if not selection.any():
            raise InputRefused(
                f"Nothing of {location_id or tenant_id}{f', {product_id}' if product_id else ''} was forecast for an open "
                f"day in this time. Remedy: more --days, or import later sales."
            )
        result = report(tenant_id, rows, selection)
        caption = None if plot_path is None else draw_backtest(rows, selection, plot_path)
    except (PlotRefused, PlanningError) as error:
        raise InputRefused(str(error)) from error
    if as_json:
        print_json(result)
        return
    click.echo("\n".join(as_text(result)))
    if caption is not None:
        click.echo(f"\n{plot_path}: {caption}")


@dataclass(frozen=True)
class Inputs:
    """What a backtest reads: demand through the last day with sales, its calendar, which reaches further, and warnings."""

    history: "Panel"
    calendar: "Calendar"
    warnings: tuple[str, ...] = ()


def read_inputs(store: "Store", tenant_id: str, days: int) -> Inputs:
    """A tenant's imported history through its last day of sales: `days` to be forecast, and what training reads before them.

    Raises InputRefused with the remedy for an unknown tenant, and for one without sales or with sales that cannot be used.
    """
    from planning.features import MAX_HORIZON_DAYS  # noqa: PLC0415 (keeps --help fast)
    from planning_assets.demand_history import read_demand  # noqa: PLC0415
    from planning_assets.forecast_models import TRAINING_DAYS  # noqa: PLC0415
    from resources.store.inputs import read_tenants  # noqa: PLC0415
    from resources.store.master import MasterDataError, get_tenant  # noqa: PLC0415

    with store.transaction() as connection:
        try:
            get_tenant(connection, tenant_id)
        except MasterDataError as error:
            raise InputRefused(str(error)) from error
        known = connection.execute(
            "SELECT min(business_date), max(business_date) FROM facts.sales WHERE tenant_id = %s", (tenant_id,)
        ).fetchone()
        if known is None or known[1] is None:
            raise InputRefused(
                f"{tenant_id} has no sales. Remedy: daybreak import sales FILE --create-products --tenant {tenant_id}."
            )
        last = known[1]
        first = max(known[0], last - timedelta(days=TRAINING_DAYS + days - 1))
        tenants = read_tenants(connection, [tenant_id]).assign(run_date=last + timedelta(days=1))
        demand = read_demand(connection, tenants, first, last, last + timedelta(days=MAX_HORIZON_DAYS))
    for row in demand.set_aside.itertuples():
        raise InputRefused(f"{tenant_id}: {row.reason.rstrip('.')}. Remedy: {row.remedy}")
    unknown = demand.exceptions[demand.exceptions["code"] == "holidays_unknown"]
    warnings = tuple(f"{row.location_id}: {row.message}. Remedy: {row.remedy}" for row in unknown.itertuples())
    return Inputs(demand.panel, demand.calendar, warnings)


def check_series(inputs: Inputs, tenant_id: str, location_id: str | None, product_id: str | None) -> None:
    """Raise InputRefused, naming what is there, unless the tenant sells the product at the location."""
    keys = inputs.history.keys
    for column, noun, wanted in (("location_id", "location", location_id), ("product_id", "product", product_id)):
        known = sorted(set(keys[column]))
        if wanted is not None and wanted not in known:
            raise InputRefused(f"{tenant_id} sells nothing at or of {noun} '{wanted}'. {_nearest(wanted, known)}")
        if wanted is not None:
            keys = keys[keys[column] == wanted]


def _nearest(wanted: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(wanted, known, n=3)
    if close:
        return f"Remedy: did you mean {' or '.join(close)}?"
    more = f" and {len(known) - 8} more" if len(known) > 8 else ""
    return f"Remedy: name one of {', '.join(known[:8])}{more}."


def check_length(inputs: Inputs, tenant_id: str, days: int) -> None:
    """Raise InputRefused unless the history reaches LEAST_DAYS_BEFORE beyond the first origin."""
    import numpy as np  # noqa: PLC0415 (keeps --help fast)

    known = np.nonzero(~np.isnan(inputs.history["demand_units"]).all(axis=0))[0]
    length = int(known[-1] - known[0] + 1) if len(known) else 0
    least = days + LEAST_DAYS_BEFORE
    if length < least:
        possible = length - LEAST_DAYS_BEFORE
        remedy = f"--days {possible}, or import" if possible > 0 else "import"
        raise InputRefused(
            f"{tenant_id} has {length} days of sales; a backtest of {days} days needs {least}. "
            f"Remedy: {remedy} more: daybreak import sales FILE --tenant {tenant_id}."
        )


def selected(rows: "BacktestRows", location_id: str | None, product_id: str | None) -> "np.ndarray":
    """The rows of a location, a product or both: (rows,) bool."""
    import numpy as np  # noqa: PLC0415

    is_chosen = np.ones(len(rows.keys), dtype=bool)
    for column, wanted in (("location_id", location_id), ("product_id", product_id)):
        if wanted is not None:
            is_chosen &= (rows.keys[column] == wanted).to_numpy()
    return is_chosen[rows.series]


def report(tenant_id: str, rows: "BacktestRows", selection: "np.ndarray") -> dict[str, Any]:
    """The scores with tenant, series and champions, as JSON has them."""
    import numpy as np  # noqa: PLC0415

    from planning.scoring import score  # noqa: PLC0415

    champions = rows.champions[rows.champions["tenant_id"] == tenant_id].sort_values("origin")
    return {
        "tenant": tenant_id,
        "series": len(np.unique(rows.series[selection])),
        **_rounded(score(rows, selection)),
        "champions": [
            {"origin": str(np.datetime64(row.origin, "D")), "candidate": row.candidate, "reason": row.reason}
            for row in champions.itertuples()
        ],
    }


def _rounded(value: Any) -> Any:
    """Floats to DECIMALS: finer is noise, and makes the document twice as long."""
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    return round(value, DECIMALS) if isinstance(value, float) else value


def as_text(result: dict[str, Any]) -> Iterator[str]:
    """The report for a person, line by line."""
    censored = f"; {result['rows_censored']:,} of them sold out and left out" if result["rows_censored"] else ""
    yield (
        f"{result['tenant']}: {result['rows']:,} forecasts of {result['series']} series for {result['from']} to "
        f"{result['to']}, up to {result['horizon_days']} days ahead{censored}"
    )
    yield ""
    levels = "".join(f"{'covers ' * (n == 0) + f'{float(level):.0%}':>15}" for n, level in enumerate(SHOWN_LEVELS))
    yield f"{'candidate':<22}{'WAPE %':>8}{'bias %':>8}{'MASE':>7}{'pinball':>9}{levels}"
    for candidate, model in result["models"].items():
        covers = "".join(f"{_covers(model, level):>15}" for level in SHOWN_LEVELS)
        figures = (
            f"{_figure(model['wape_pct'], '.1f'):>8}{_figure(model['bias_pct'], '+.1f'):>8}"
            f"{_figure(model['mase'], '.3f'):>7}{_figure(model['pinball_mean_units'], '.3f'):>9}"
        )
        yield f"{candidate:<22}{figures}{covers}"
    yield ""
    yield "covers: share of days with demand below / at most the quantile; the level is met when it lies between."
    newsvendor = (result["models"].get("champion") or {}).get("newsvendor")
    if newsvendor and newsvendor["reduction_pct"] is not None:
        yield (
            f"Ordering the champion's 0.9 quantile instead of its mean changes the loss at 9 : 1 by "
            f"{-newsvendor['reduction_pct']:+.0f} %."
        )
    if result["champions"]:
        yield ""
        yield "what serves, from the evening of"
    for row in result["champions"]:
        yield f"  {row['origin']}  {row['candidate']:<22}{row['reason']}"


def _covers(model: dict[str, Any], level: str) -> str:
    if not model["coverage_pct"] or model["coverage_pct"][level] is None:
        return "-"
    return f"{model['coverage_below_pct'][level]:.1f} / {model['coverage_pct'][level]:.1f}"


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], object] | None]:
    """A progress bar on the standard error, where a terminal shows one: told how many of how many origins are done."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console  # noqa: PLC0415 (keeps --help fast)
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
