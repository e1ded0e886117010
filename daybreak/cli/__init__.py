"""The command line. Commands are imported only when called, so that `--help` answers at once."""

import importlib

import click

COMMANDS = {
    "demo": ("daybreak.cli.demo", "Plan the sample bakeries' day and print it."),
    "up": ("daybreak.cli.instance", "Start the local instance: database, daemon and web UI."),
    "down": ("daybreak.cli.instance", "Stop the local instance."),
    "doctor": ("daybreak.cli.instance", "Check the instance and say how to mend what is wrong."),
    "env": ("daybreak.cli.instance", "Print the environment that dagster and dg commands need."),
    "migrate": ("daybreak.cli.instance", "Bring the database schema up to date."),
    "tenant": ("daybreak.cli.tenants", "Add, list, show and suspend tenants."),
    "import": ("daybreak.cli.imports", "Import a CSV file of one kind for a tenant."),
    "sales-service": ("daybreak.cli.sales_service", "Pull a tenant's sales from its own service."),
    "quarantine": ("daybreak.cli.imports", "List the rows that imports set aside."),
    "history": ("daybreak.cli.history", "Show sales and demand day by day, and build them anew."),
    "sample": ("daybreak.cli.sample", "Generate synthetic bakeries with two years of sales."),
    "plan": ("daybreak.cli.plan", "Make and show the plans of a day."),
    "whatif": ("daybreak.cli.whatif", "Show what a plan would be if something were different; nothing is written."),
    "explain": ("daybreak.cli.explain", "Tell why a purchase or a batch was planned, down to the forecast."),
    "outcomes": ("daybreak.cli.outcomes", "Show what plans turned out to cost, in money."),
    "forecast": ("daybreak.cli.forecasts", "Show a tenant's current forecasts."),
    "backtest": ("daybreak.cli.backtest", "Score every forecast candidate on past mornings."),
    "validate": ("daybreak.cli.plan", "Score stored forecasts against what was sold."),
    "failures": ("daybreak.cli.failures", "List what failed, have it tried again, or dismiss it."),
    "pause": ("daybreak.cli.pause", "Stop schedules and sensors, of everybody or of a tenant."),
    "resume": ("daybreak.cli.pause", "Let them go on; what was missed is caught up once."),
    "policy": ("daybreak.cli.policy", "Skip or move workflows on public holidays and weekends."),
    "models": ("daybreak.cli.models", "Train, show and roll back forecast models."),
    "retrain": ("daybreak.cli.retrain", "Queue forecast models for retraining, and show the queue."),
    "alerts": ("daybreak.cli.alerts", "List, acknowledge and silence alerts; check everything now."),
    "cache": ("daybreak.cli.cache", "Show and clear the forecast cache on Redis."),
    "settings": ("daybreak.cli.settings", "Show and change the instance's settings."),
}
"""Each command's module, which holds a click command of that name (`import_` for a Python keyword), and its line of help."""


class LazyGroup(click.Group):
    """A group that knows its commands' names and help, and imports a command's module when it is called."""

    def list_commands(self, _context: click.Context) -> list[str]:
        """The commands in the order in which one needs them."""
        return list(COMMANDS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        """Import the command's module; None when there is no such command."""
        if name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[name][0])
        command: click.Command = getattr(module, f"{name}_" if name in {"import"} else name.replace("-", "_"))
        return command

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Daybreak plans every bakery's day before it opens.

    Exit codes: 0 done; 1 done, but some tenants failed; 2 wrong usage; 3 input refused; 4 the instance or database cannot be used.
    """
