"""`daybreak import` and `daybreak quarantine`: files in, and the rows that they set aside."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from daybreak.cli.common import INPUT_REFUSED, InputRefused, json_option, opened_store, print_json
from resources.clock import system_clock
from resources.imports.contracts import KINDS

if TYPE_CHECKING:
    from resources.imports.importer import ImportReport, OnProgress, Problem

SHOWN_PROBLEMS = 20


@click.command(name="import")
@click.argument("kind", type=click.Choice(list(KINDS)), metavar="KIND")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--tenant", "tenant_id", required=True, help="Whose file it is.")
@click.option("--create-products", is_flag=True, help="Make products that the file names and the tenant lacks.")
@click.option("--create-locations", is_flag=True, help="Make locations that the file names and the tenant lacks.")
@click.option("--keep-good", is_flag=True, help="Import the good rows of a file with bad ones, which go to quarantine.")
@click.option("--again", is_flag=True, help="Import a file that was imported before once more, over later ones.")
@json_option
def import_(
    kind: str,
    file: Path,
    tenant_id: str,
    create_products: bool,
    create_locations: bool,
    keep_good: bool,
    again: bool,
    as_json: bool,
) -> None:
    """Import a CSV file of one KIND for a tenant.

    Kinds: locations, opening-hours, products, assortment, items, unit-conversions, recipes, resources, process-steps,
    resource-calendar, suppliers, supplier-items, events, hourly-profile, sales, stock, movements, orders,
    customer-orders, standing-orders.
    docs/data-contracts.md describes them. All rows of a file are imported, or none (exit code 3); see --keep-good.
    """
    from resources.imports.importer import Options, UnknownTenant, import_file  # noqa: PLC0415 (keeps --help fast)

    created = {"product": create_products, "location": create_locations}
    options = Options(keep_good, frozenset(thing for thing, is_made in created.items() if is_made), again)
    try:
        with opened_store() as store, _progress(is_shown=not as_json and sys.stderr.isatty()) as on_progress:
            report = import_file(
                store, tenant_id, kind, file, now=system_clock(), options=options, on_progress=on_progress
            )
    except UnknownTenant as error:
        raise InputRefused(str(error)) from error
    if as_json:
        print_json(asdict(report))
    else:
        _tell(report)
    if report.status == "refused":
        raise SystemExit(INPUT_REFUSED)


@click.group()
def quarantine() -> None:
    """Rows that imports set aside."""


@quarantine.command(name="list")
@click.option("--tenant", "tenant_id", required=True, help="Whose rows.")
@json_option
def list_(tenant_id: str, as_json: bool) -> None:
    """List the rows that imports with --keep-good set aside, and what mends each."""
    from resources.imports.importer import Problem  # noqa: PLC0415 (keeps --help fast)
    from resources.store.master import MasterDataError, get_tenant  # noqa: PLC0415

    try:
        with opened_store() as store, store.transaction() as connection:
            get_tenant(connection, tenant_id)
            rows = connection.execute(
                """
                SELECT i.kind, i.file_name, i.imported_at, q.row_number, q.column_name, q.value, q.problem, q.remedy, q.raw
                FROM ops.quarantine AS q JOIN ops.import AS i USING (import_id)
                WHERE q.tenant_id = %s ORDER BY i.seq, q.row_number, q.column_name
                """,
                (tenant_id,),
            ).fetchall()
    except MasterDataError as error:
        raise InputRefused(str(error)) from error
    names = ("kind", "file_name", "imported_at", "row", "column", "value", "problem", "remedy", "raw")
    if as_json:
        print_json([dict(zip(names, row, strict=True)) for row in rows])
        return
    if not rows:
        click.echo(f"No rows of {tenant_id} are in quarantine.")
    for kind, file_name, _, *problem, _ in rows:
        click.echo(f"{kind} {file_name}: {_line(Problem(*problem))}")


@contextmanager
def _progress(*, is_shown: bool) -> Iterator["OnProgress | None"]:
    if not is_shown:
        yield None
        return
    from rich.console import Console  # noqa: PLC0415 (only where a bar is shown)
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (
        TextColumn("{task.description:<9}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading", total=None)

        def on_progress(step: str, done: int, size: int) -> None:
            progress.update(task, description=step, completed=done, total=size or None)

        yield on_progress


def _tell(report: "ImportReport") -> None:
    what = f"{report.file_name} ({report.kind}, {report.tenant_id})"
    if report.status == "already_imported":
        click.echo(f"{what} was imported on {report.imported_at:%Y-%m-%d %H:%M} UTC: nothing to do.")
        return
    if report.status == "imported":
        click.echo(f"Imported {what}: {report.rows_written} rows written, {report.rows_unchanged} unchanged.")
        for thing, ids in report.created.items():
            listed = ", ".join(ids[:10]) + (" …" if len(ids) > 10 else "")
            click.echo(f"Created {len(ids)} {thing}{'s' if len(ids) != 1 else ''}: {listed}")
    if not report.problem_count:
        return
    counted = f"{report.problem_count} problem{'s' if report.problem_count != 1 else ''}"
    if report.status == "refused":
        click.echo(f"Nothing of {what} was imported: {counted}.", err=True)
    else:
        click.echo(f"{report.rows_quarantined} rows went to quarantine: {counted}.", err=True)
    for problem in report.problems[:SHOWN_PROBLEMS]:
        click.echo(f"  {_line(problem)}", err=True)
    if report.problem_count > SHOWN_PROBLEMS:
        click.echo(f"  … and {report.problem_count - SHOWN_PROBLEMS} more; --json lists them.", err=True)
    if report.status == "refused" and report.rows_read:
        click.echo("Remedy: mend these rows, or import the good ones with --keep-good.", err=True)


def _line(problem: "Problem") -> str:
    place = [f"row {problem.row}"] if problem.row is not None else ["file"]
    place += [problem.column] if problem.column else []
    value = f" {problem.value!r}" if problem.value else ""
    return f"{', '.join(place)}{value}: {problem.problem}. {problem.remedy}"
