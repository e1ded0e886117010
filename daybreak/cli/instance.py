"""The commands of the local instance: up, down, doctor, env, migrate. What they do is in daybreak.instance and beside it."""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager

import click

from daybreak.cli.common import SOME_FAILED, InstanceUnusable, json_option, print_json


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=3000, show_default=True, help="Port of the web UI.")
@click.option("--no-daemon", is_flag=True, help="Without the daemon: no schedules, sensors or queued runs.")
@click.option("--host-name", "host_names", multiple=True, help="A further name that browsers reach the web UI by.")
def up(port: int, no_daemon: bool, host_names: tuple[str, ...]) -> None:
    """Start the local instance: database, daemon and web UI. Ctrl-C or SIGTERM stops all of it.

    The database is DATABASE_URL, else an embedded server in DAYBREAK_HOME. What dies is started again.
    """
    from daybreak import supervisor  # noqa: PLC0415 (keeps --help fast)

    with _clear_errors():
        sys.exit(supervisor.up(port, not no_daemon, host_names))


@click.command()
@click.option("--quiet", is_flag=True, help="Say nothing when no instance runs.")
@click.option("--delete-data", is_flag=True, help="Then delete the home and its database for good.")
def down(quiet: bool, delete_data: bool) -> None:
    """Stop the local instance and wait until nothing of it is left."""
    from daybreak import instance  # noqa: PLC0415 (keeps --help fast)

    with _clear_errors():
        if instance.stop():
            click.echo("Daybreak is stopped.")
        elif not quiet:
            click.echo(f"No instance runs on {instance.home()}.")
        if delete_data:
            database = (instance.home() / "postgres").resolve()
            shutil.rmtree(database, ignore_errors=not database.exists())
            shutil.rmtree(instance.home(), ignore_errors=not instance.home().exists())


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Check the instance and say how to mend what is wrong. Exit code 1 when something is."""
    from daybreak.doctor import examine  # noqa: PLC0415 (keeps --help fast)

    findings = examine()
    if as_json:
        print_json([vars(finding) for finding in findings])
    else:
        for finding in findings:
            mark = "warn" if finding.is_warning else "ok  " if finding.is_ok else "FAIL"
            click.echo(f"{mark}  {finding.check}: {finding.found}")
            if finding.remedy:
                click.echo(f"      Remedy: {finding.remedy}")
    sys.exit(0 if all(finding.is_ok for finding in findings) else SOME_FAILED)


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@json_option
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def env(as_json: bool, command: tuple[str, ...]) -> None:
    """Print the environment that dagster and dg commands need, for `eval "$(daybreak env)"`, or run COMMAND in it.

    It holds the database's password. The embedded database is there while an instance runs, or while COMMAND does.
    """
    from daybreak import instance  # noqa: PLC0415 (keeps --help fast)

    if command:
        with _clear_errors(), instance.database() as dsn:
            sys.exit(_run(command, os.environ | instance.dagster_environment(dsn)))
    with _clear_errors():
        variables = instance.dagster_environment(instance.lasting_database())
    if as_json:
        print_json(variables)
    else:
        for name, value in variables.items():
            click.echo(f"export {name}={shlex.quote(value)}")


def _run(command: tuple[str, ...], environment: dict[str, str]) -> int:
    # Programs of the same virtual environment are found without activating it.
    environment["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), environment.get("PATH", os.defpath)])
    environment["VIRTUAL_ENV"] = sys.prefix
    program = shutil.which(command[0], path=environment["PATH"])
    if program is None:
        raise InstanceUnusable(f"There is no program {command[0]!r}. Remedy: check its name, or give its full path.")
    return subprocess.run([program, *command[1:]], env=environment, check=False).returncode


@click.command()
@json_option
def migrate(as_json: bool) -> None:
    """Bring the database schema up to date."""
    from daybreak.instance import database  # noqa: PLC0415 (keeps --help fast)
    from resources.store.migrate import head, upgrade  # noqa: PLC0415 (keeps --help fast)

    with _clear_errors(), database() as dsn:
        changed = upgrade(dsn)
    if as_json:
        print_json({"revision": head(), "is_changed": changed})
    else:
        click.echo(f"The schema is {'now ' if changed else ''}at {head()}.")


@contextmanager
def _clear_errors() -> Iterator[None]:
    from daybreak.instance import InstanceError  # noqa: PLC0415 (keeps --help fast)

    try:
        yield
    except InstanceError as error:
        raise InstanceUnusable(str(error)) from error
