"""`daybreak models`: train forecast models through Dagster, show them with their figures, and return to an earlier one."""

import sys
import time
from typing import Any

import click

from daybreak.cli.common import SOME_FAILED, InputRefused, json_option, opened_store, print_json
from daybreak.cli.plan import chosen_tenants, progress_bar, tenant_choice

JOB = "model_training_job"
STEP = "model_training"

SAID_FIRST = {"skipped": "not trained. ", "failed": "failed. "}
"""What people read before the reason, where the reason does not say what happened."""

LATEST_DECISIONS = 10


@click.group()
def models() -> None:
    """Train, list, show and roll back the forecast models of tenants."""


@models.command()
@tenant_choice
@json_option
def train(tenants: tuple[str, ...], all_tenants: bool, as_json: bool) -> None:
    """Train a challenger for each tenant through Dagster; it serves only where it is better than what serves now.

    With `daybreak up` running, its daemon runs it; else it runs here, recorded all the same.
    """
    with opened_store() as store:
        tenant_ids = list(chosen_tenants(store, tenants, all_tenants))
        began = time.monotonic()
        ended, outcomes = train_tenants(store, tenant_ids, as_json)
    failed = [outcome for outcome in outcomes if outcome["action"] == "failed"]
    if as_json:
        seconds = round(time.monotonic() - began, 1)
        run = {"run_id": ended.run_id, "status": ended.status, "url": ended.url, "seconds": seconds}
        print_json({**run, "tenants": outcomes})
    else:
        for outcome in outcomes:
            version = f"v{outcome['version']}. " if outcome["version"] else ""
            said_first = SAID_FIRST.get(outcome["action"], version)
            click.echo(f"{outcome['tenant_id']}: {said_first}{outcome['reason']}", err=outcome in failed)
        click.echo(
            f"{len(outcomes) - len(failed)} tenants done, {len(failed)} failed "
            f"({time.monotonic() - began:.1f} s, run {ended.url or ended.run_id})"
        )
    if ended.status != "SUCCESS":
        sys.exit(SOME_FAILED)


def train_tenants(store: Any, tenant_ids: list[str], as_json: bool) -> tuple[Any, list[dict[str, Any]]]:
    """Run the training of these tenants; returns how the run ended and what became of each."""
    from daybreak import fleet, runs  # noqa: PLC0415 (keeps --help fast)
    from daybreak.dagster_client import DagsterRefused  # noqa: PLC0415
    from resources.vocabulary import MODEL_TRAINING  # noqa: PLC0415

    fleet.publish(store)
    request = runs.TenantRequest(JOB, STEP, tenant_ids, MODEL_TRAINING, "command line")
    try:
        with progress_bar(MODEL_TRAINING, len(tenant_ids), as_json) as progress:
            ended = runs.execute(store, request, progress)
    except DagsterRefused as error:
        raise InputRefused(str(error)) from error
    return ended, _outcomes(store, ended.run_id, tenant_ids)


@models.command(name="list")
@click.option("--tenant", "tenants", multiple=True, help="A tenant; may be given more than once. Default: all active.")
@json_option
def list_(tenants: tuple[str, ...], as_json: bool) -> None:
    """List the versions of each tenant, the newest first, with the serving one marked."""
    from resources.store.models import label_of, read_models  # noqa: PLC0415 (keeps --help fast)

    with opened_store() as store:
        tenant_ids = list(chosen_tenants(store, tenants, not tenants, any_status=bool(tenants)))
        with store.transaction() as connection:
            found = read_models(connection, tenant_ids)
    rows = [
        {
            "tenant_id": row.tenant_id,
            "version": int(row.version),
            "label": label_of(row.version),
            "status": row.status,
            "algorithm": row.algorithm,
            "wape_pct": _known(row.wape_pct),
            "trained_from": row.trained_from,
            "trained_to": row.trained_to,
            "has_artefact": bool(row.has_artefact),
            "trigger": row.trigger,
            "decision": row.decision,
            "created_at": row.created_at,
        }
        for row in found.itertuples()
    ]
    if as_json:
        print_json({"models": rows})
        return
    for tenant_id in tenant_ids:
        of_tenant = [row for row in rows if row["tenant_id"] == tenant_id]
        if not of_tenant:
            click.echo(f"{tenant_id}: no model, the rules serve. Train one: daybreak models train --tenant {tenant_id}")
        elif all(row["status"] != "champion" for row in of_tenant):
            click.echo(f"{tenant_id}: the rules serve")
        for row in of_tenant:
            kept = "" if row["has_artefact"] else ", artefact not kept"
            click.echo(
                f"{tenant_id}: {row['label']:<14} {row['status']:<10} WAPE {_pct(row['wape_pct']):>8}  "
                f"trained to {row['trained_to']} ({row['algorithm']}, {row['trigger']}{kept})"
            )


@models.command()
@click.option("--tenant", required=True, help="The tenant.")
@click.option("--version", type=click.IntRange(1), help="The version. Default: the serving one, else the newest.")
@json_option
def show(tenant: str, version: int | None, as_json: bool) -> None:
    """Show a version: why it serves or not, every candidate on the same rows, its parameters and residual table."""
    from resources.store.models import read_backtest, read_decisions, read_models  # noqa: PLC0415 (keeps --help fast)

    with opened_store() as store:
        chosen_tenants(store, (tenant,), False, any_status=True)
        with store.transaction() as connection:
            found = read_models(connection, [tenant])
            decisions = read_decisions(connection, [tenant], limit=LATEST_DECISIONS)
            row = _version_of(tenant, found, version, decisions)
            backtest = read_backtest(connection, tenant, int(row["version"]))
    shown = _plain(row) | {
        "backtest": [_plain(measured) for measured in backtest.to_dict("records")],
        "decisions": [_plain(decision) for decision in decisions.to_dict("records")],
    }
    if as_json:
        print_json(shown)
    else:
        _print_model(shown)


@models.command()
@click.option("--tenant", required=True, help="The tenant.")
@click.option(
    "--version", type=click.IntRange(1), help="A kept version. Default: what served when the serving one was trained."
)
@click.option("--rules", "is_to_rules", is_flag=True, help="Have the rules serve, whatever versions are kept.")
@click.option("--reason", required=True, help="Why, for the record.")
@json_option
def rollback(tenant: str, version: int | None, is_to_rules: bool, reason: str, as_json: bool) -> None:
    """Have an earlier version serve again; where the rules served before, they do. Plans are then out of date."""
    from resources.clock import system_clock  # noqa: PLC0415 (keeps --help fast)
    from resources.store import models as registry  # noqa: PLC0415

    if version is not None and is_to_rules:
        raise click.UsageError("Give --version N or --rules, not both.")
    if not reason.strip():
        raise InputRefused("The reason is empty. Remedy: say why in --reason; it stands in the model's history.")
    with opened_store() as store:
        chosen_tenants(store, (tenant,), False, any_status=True)
        try:
            with store.transaction() as connection:
                serves, served = registry.rollback(
                    connection,
                    tenant,
                    reason=reason.strip(),
                    now=system_clock(),
                    version=version,
                    is_to_rules=is_to_rules,
                )
        except registry.RegistryError as error:
            raise InputRefused(str(error)) from error
    if as_json:
        print_json({"tenant_id": tenant, "version": serves, "previous_version": served})
        return
    names = ["the rules" if number is None else registry.label_of(number) for number in (serves, served)]
    click.echo(f"{tenant}: {names[0]} serve{'' if serves is None else 's'} now, in place of {names[1]}.")
    click.echo(f"Plans made before are out of date: daybreak plan run --tenant {tenant}")


def _outcomes(store: Any, run_id: str, tenant_ids: list[str]) -> list[dict[str, Any]]:
    """What came of each tenant, by its execution; one that the run never reached has failed."""
    from resources.store.executions import RUN_ENDED  # noqa: PLC0415 (keeps --help fast)

    with store.transaction() as connection:
        rows = connection.execute(
            "SELECT tenant_id, status, error, result FROM ops.execution WHERE run_id = %s", (run_id,)
        ).fetchall()
    by_tenant = {tenant_id: (status, error, result) for tenant_id, status, error, result in rows}
    outcomes = []
    for tenant_id in tenant_ids:
        status, error, result = by_tenant.get(tenant_id, ("failed", None, {}))
        if status == "completed":
            outcomes.append(
                {"tenant_id": tenant_id, **{name: result[name] for name in ("action", "version", "reason")}}
            )
        else:
            outcomes.append({"tenant_id": tenant_id, "action": "failed", "version": None, "reason": error or RUN_ENDED})
    return outcomes


def _version_of(tenant: str, found: Any, version: int | None, decisions: Any) -> dict[str, Any]:
    """The row of the version asked for. Raises InputRefused with the remedy when there is none."""
    train = f"daybreak models train --tenant {tenant}"
    if found.empty:
        # An attempt that made no version says itself what to do, if anything.
        what = f"The last attempt: {decisions['reason'].iloc[0]}" if len(decisions) else f"Remedy: {train}."
        raise InputRefused(f"{tenant} has no model, the rules serve. {what}")
    if version is None:
        serving = found[found["status"] == "champion"]
        return dict((serving if len(serving) else found).iloc[0])
    chosen = found[found["version"] == version]
    if chosen.empty:
        numbers = ", ".join(str(number) for number in found["version"])
        raise InputRefused(f"{tenant} has no version {version}. Remedy: choose one of {numbers}.")
    return dict(chosen.iloc[0])


def _print_model(shown: dict[str, Any]) -> None:
    from rich.console import Console  # noqa: PLC0415 (keeps --help fast)
    from rich.table import Table  # noqa: PLC0415

    from daybreak.sheets import PRINT_WIDTH  # noqa: PLC0415
    from resources.store.models import label_of  # noqa: PLC0415

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PRINT_WIDTH)
    console.print(
        f"[bold]{shown['tenant_id']}: {label_of(shown['version'])}[/bold], {shown['status']}, {shown['algorithm']}"
    )
    console.print(shown["decision"], markup=False)
    console.print(
        f"Trained on {shown['row_count']} rows of {shown['series_count']} series, {shown['trained_from']} to "
        f"{shown['trained_to']}, in {shown['cpu_s']:.1f} CPU seconds ({shown['trigger']})."
    )
    console.print(f"Artefact {shown['artefact_sha256'][:12]}, {'kept' if shown['has_artefact'] else 'not kept'}.")
    table = Table(
        "candidate", title=f"Backtest, {shown['backtest_from']} to {shown['backtest_to']}", title_justify="left"
    )
    for name in ("rows", "WAPE %", "bias %", "MAE units", "MASE", "pinball units"):
        table.add_column(name, justify="right")
    for measured in shown["backtest"]:
        figures = [measured[name] for name in ("wape_pct", "bias_pct", "mae_units", "mase", "pinball_units")]
        table.add_row(measured["candidate"], str(measured["row_count"]), *(_decimals(figure) for figure in figures))
    console.print(table)
    _print_spread(console, shown["spread"])
    by_share = sorted(shown["importances"].items(), key=lambda item: -item[1])
    _print_mapping(console, "Importances, share of the gain", dict(by_share))
    _print_mapping(console, "Parameters", shown["parameters"])
    _print_mapping(console, "Libraries", shown["library_versions"])
    console.print("Decisions, the newest first:")
    for decision in shown["decisions"]:
        said_first = SAID_FIRST.get(decision["action"], "")
        console.print(f"  {decision['decided_at']:%Y-%m-%d %H:%M} {said_first}{decision['reason']}", markup=False)


def _print_spread(console: Any, spread: dict[str, Any]) -> None:
    """The residual quantiles of all series and of each volume class; a class with too few residuals uses those of all."""
    from rich.table import Table  # noqa: PLC0415 (keeps --help fast)

    table = Table("volume class", title="Residual table: residual / forecast^power", title_justify="left")
    for name in ("rows", *(f"{level:.0%}" for level in spread["levels"])):
        table.add_column(name, justify="right")
    classes = [("all", spread["pooled_count"], spread["pooled"])]
    numbered = enumerate(zip(spread["class_counts"], spread["by_class"], strict=True))
    classes += [(str(n), count, values) for n, (count, values) in numbered]
    for name, count, values in classes:
        table.add_row(name, str(count), *(_decimals(value) for value in values or [None] * len(spread["levels"])))
    console.print(table)


def _print_mapping(console: Any, title: str, values: dict[str, Any]) -> None:
    if values:
        told = ", ".join(
            f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
        )
        console.print(f"{title}: {told}", markup=False)


def _plain(row: dict[Any, Any]) -> dict[str, Any]:
    """A row of a frame as JSON holds it: what is missing is null."""
    return {str(name): None if isinstance(value, float) and value != value else value for name, value in row.items()}  # noqa: PLR0124


def _known(value: float) -> float | None:
    return None if value != value else float(value)  # noqa: PLR0124 (only NaN differs from itself)


def _pct(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f} %"


def _decimals(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
