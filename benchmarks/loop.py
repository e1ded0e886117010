"""What the loop of checks, triggers and retraining is worth: a real bakery's days, one after the other, through the platform.

Run by `python -m benchmarks.loop --data FOLDER [--from DAY] [--to DAY] [--json]`. The folder holds `daily_sales.csv` (see
french_bakery.py). Every day the sales of the day before are imported, and the real schedules and sensors are asked at their
local times with the clock set to them; the runs that they request are run in process, on an embedded Postgres. What came of
it is read from the store.

The forecasts of each day's morning are then compared, on the same rows, with those of a model trained at the start and never
again, and of a model trained anew every day, both by planning.backtest, with and without the rules of promotion.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import dagster as dg
import numpy as np
import pandas as pd
import psycopg

from benchmarks.french_bakery_files import read_sales
from benchmarks.store import empty_server
from daybreak.cli.backtest import read_inputs
from daybreak.definitions import build_defs
from daybreak.fleet import Fleet
from planning.backtest import CHAMPION, BacktestRows, rolling_backtest
from planning.champion import CHALLENGER
from resources.clock import Clock
from resources.dagster_resources import ClockResource, StoreResource
from resources.imports.importer import Options, import_batch
from resources.imports.source import Source
from resources.store.database import Store, frame, sqlalchemy_dsn
from resources.store.master import Location, Tenant, add_location, add_tenant
from resources.store.migrate import upgrade

TENANT, LOCATION, ZONE = "french-bakery", "main", "Europe/Paris"
FIRST, LAST = date(2021, 6, 1), date(2022, 9, 30)
IMPORTED_AT, PLANNED_AT, VALIDATED_AT, EVALUATED_AT = clock(5), clock(5, 30), clock(8), clock(22)
SENSED_AFTER = timedelta(minutes=5)
NEVER_AGAIN_DAYS = 10_000
DAGSTER_DATABASE = "dagster"


class ReplayClock(ClockResource):
    """The clock of the replay: one moment for everything in this process, set before each tick."""

    moment: ClassVar[datetime] = datetime(2021, 1, 1, tzinfo=UTC)

    @property
    def now(self) -> Clock:
        """The clock as a function."""
        return lambda: ReplayClock.moment


def main() -> None:
    """Replay, compare, and print a table or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of daily_sales.csv")
    parser.add_argument("--from", dest="first", type=date.fromisoformat, default=FIRST)
    parser.add_argument("--to", dest="last", type=date.fromisoformat, default=LAST)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    source = options.data / "daily_sales.csv"
    if not source.is_file():
        parser.error(f"{source} does not exist. Remedy: give the folder of daily_sales.csv with --data.")
    sales, _ = read_sales(source)
    with empty_server(None) as dsn, TemporaryDirectory() as folder, dagster_on(dsn, Path(folder)) as instance:
        upgrade(dsn)
        with Store(dsn) as store:
            began = time.perf_counter()
            Replay(store, instance, sales, options.first).through(options.last)
            seconds = time.perf_counter() - began
            result = {
                "first": options.first.isoformat(),
                "last": options.last.isoformat(),
                "wall_s": round(seconds, 1),
                "triggers": triggers(store),
                "decisions": decisions(store),
                "improvements": improvements(store),
                "checks": checks(store),
                "days": days(store),
                "wape_pct": compared(store, options.first, options.last),
            }
    print(json.dumps(result, allow_nan=False) if options.json else "\n".join(as_text(result)))


@contextmanager
def dagster_on(dsn: str, folder: Path) -> Iterator[dg.DagsterInstance]:
    """A Dagster instance with the event settings of a real one, on a database of its own beside the store's."""
    os.environ |= {"DAGSTER_EVENT_BATCH_SIZE": "1000", "DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS": "true"}
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {DAGSTER_DATABASE}")
    address = urlsplit(dsn)._replace(path=f"/{DAGSTER_DATABASE}").geturl()
    (folder / "dagster.yaml").write_text(
        f"storage:\n  postgres:\n    postgres_url: {sqlalchemy_dsn(address, 'psycopg2')}\ntelemetry:\n  enabled: false\n",
        encoding="utf-8",
    )
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        yield instance


# ---------------------------------------------------------------- the replay


class Replay:
    """The days of a bakery that sold before `first` already."""

    def __init__(self, store: Store, instance: dg.DagsterInstance, sales: pd.DataFrame, first: date) -> None:
        self.store, self.instance = store, instance
        self.sales = sales.assign(location_id=LOCATION, quantity_units=sales["units"])
        self.day = first
        self.cursors: dict[str, str | None] = {}
        definitions = build_defs(
            Fleet((ZONE,), first - timedelta(days=31)),
            {"store": StoreResource(dsn=store.dsn), "clock": ReplayClock()},
        )
        self.repository = definitions.get_repository_def()
        self.definitions = definitions
        self._at(first, IMPORTED_AT)
        with store.transaction() as connection:
            add_tenant(connection, Tenant(TENANT, TENANT, ZONE, "FR", ReplayClock.moment))
            add_location(connection, Location(TENANT, LOCATION, TENANT))
        self._import(self.sales[self.sales["business_date"] < first - timedelta(days=1)])
        self._sense("imports_sensor")

    def through(self, last: date) -> None:
        """Every day until `last`, and what is left to validate on the morning after."""
        while self.day <= last:
            self._morning()
            if self.day.weekday() == 6:
                self._at(self.day, EVALUATED_AT)
                self._tick("weekly_evaluation")
                self._sense("retraining_sensor")
            if self.day.day == 1:
                say(f"{self.day}")
            self.day += timedelta(days=1)
        self._morning()

    def _morning(self) -> None:
        self._at(self.day, IMPORTED_AT)
        self._import(self.sales[self.sales["business_date"] == self.day - timedelta(days=1)])
        self._at(self.day, PLANNED_AT)
        self._tick("production_planning")
        self._at(self.day, VALIDATED_AT)
        self._tick("forecast_validation")
        ReplayClock.moment += SENSED_AFTER
        self._sense("late_sales_sensor")
        self._sense("retraining_sensor")  # queues and launches
        self._sense("retraining_sensor")  # closes what the run left open

    def _at(self, day: date, at: clock) -> None:
        ReplayClock.moment = datetime.combine(day, at, ZoneInfo(ZONE)).astimezone(UTC)

    def _import(self, rows: pd.DataFrame) -> None:
        if rows.empty:
            return
        columns = ["location_id", "product_id", "business_date", "quantity_units", "unit_price"]
        content = rows[columns].to_csv(index=False).encode()
        (report,) = import_batch(
            self.store,
            "sales",
            [Source.of_bytes(TENANT, f"sales-{rows['business_date'].max()}.csv", content)],
            now=ReplayClock.moment,
            options=Options(create=frozenset({"product"})),
        )
        if report.status != "imported":
            raise SystemExit(f"The sales of {self.day} are refused: {report.problems[0]}")

    def _tick(self, workflow: str) -> None:
        """Ask a schedule of the zone, and run what it requests."""
        name = f"{workflow}__{ZONE.lower().replace('/', '_')}_schedule"
        with dg.build_schedule_context(
            instance=self.instance,
            scheduled_execution_time=ReplayClock.moment,
            repository_def=self.repository,
            resources=self.repository.get_top_level_resources(),
        ) as context:
            schedule = self.repository.get_schedule_def(name)
            ticked = schedule.evaluate_tick(context)
        self._run(schedule.job_name, ticked.run_requests or [], {"dagster/schedule_name": name})

    def _sense(self, name: str) -> None:
        """Ask a sensor, do what it asks of Dagster, and run what it requests."""
        with dg.build_sensor_context(
            instance=self.instance,
            instance_ref=self.instance.get_ref(),
            cursor=self.cursors.get(name),
            repository_def=self.repository,
            resources=self.repository.get_top_level_resources(),
        ) as context:
            sensor = self.repository.get_sensor_def(name)
            ticked = sensor.evaluate_tick(context)
        self.cursors[name] = ticked.cursor
        for request in ticked.dynamic_partitions_requests or []:
            self.instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
        if ticked.run_requests:
            self._run(str(sensor.job_name), ticked.run_requests, {"dagster/sensor_name": name})

    def _run(self, job_name: str, requests: Sequence[dg.RunRequest], tags: Mapping[str, str]) -> None:
        for request in requests:
            job = self.definitions.resolve_job_def(request.job_name or job_name)
            # A tenant whose plan has an exception is no failure of the replay; one that is set aside is in the store.
            job.execute_in_process(
                run_config=request.run_config,
                instance=self.instance,
                partition_key=request.partition_key,
                tags={**request.tags, **tags, "dagster/run_key": str(request.run_key)},
                raise_on_error=False,
            )


# ---------------------------------------------------------------- what came of it


def triggers(store: Store) -> dict[str, int]:
    """How often each trigger asked for a training."""
    return _counts(store, "SELECT trigger, count(*) FROM ops.retraining_request GROUP BY trigger ORDER BY trigger")


def decisions(store: Store) -> dict[str, int]:
    """What came of the trainings."""
    return _counts(store, "SELECT action, count(*) FROM quality.model_decision GROUP BY action ORDER BY action")


def improvements(store: Store) -> dict[str, int]:
    """What became of promoted models on live days."""
    return _counts(store, "SELECT verdict, count(*) FROM quality.model_improvement GROUP BY verdict ORDER BY verdict")


def checks(store: Store) -> dict[str, int]:
    """Days on which each check was in each state."""
    return _counts(
        store, "SELECT check_name || ' ' || status, count(*) FROM quality.check_result GROUP BY 1 ORDER BY 1"
    )


def days(store: Store) -> dict[str, int]:
    """Mornings planned, days validated, and tenant days set aside and not mended."""
    return _counts(
        store,
        """
        SELECT 'planned', count(DISTINCT plan_date) FROM plans.plan WHERE kind = 'forecast' AND status = 'active'
        UNION ALL SELECT 'validated', count(*) FROM quality.validation
        UNION ALL SELECT 'open failures', count(*) FROM ops.failure WHERE resolved_at IS NULL
        """,
    )


def _counts(store: Store, query: str) -> dict[str, int]:
    with store.transaction() as connection:
        return {str(name): int(count) for name, count in connection.execute(query)}


def compared(store: Store, first: date, last: date) -> dict[str, float]:
    """WAPE in % of the day's own forecast, on the rows that the loop and the backtests share."""
    with store.transaction() as connection:
        live = frame(
            connection,
            """
            SELECT f.product_id, f.plan_date AS target, f.mean_units[1]::float8 AS mean_units
              FROM plans.forecast AS f JOIN plans.plan AS p USING (tenant_id, plan_date, plan_id)
             WHERE p.kind = 'forecast' AND p.status = 'active' AND f.plan_date BETWEEN %(first)s AND %(last)s
            """,
            {"first": first, "last": last},
        )
    count = (last - first).days + 1
    inputs = read_inputs(store, TENANT, count)
    rows = {}
    for name, refit_days in (("once", NEVER_AGAIN_DAYS), ("daily", 1)):
        say(f"backtest with models trained {name}")
        rows[name] = rolling_backtest(
            inputs.history, inputs.calendar, days=count, horizon_days=1, refit_days=refit_days
        )
    joined = _rows(rows["once"], {"frozen model": CHALLENGER, "frozen model or rules": CHAMPION})
    joined = joined.merge(
        _rows(rows["daily"], {"new model every day": CHALLENGER, "new model every day if better": CHAMPION}).drop(
            columns="actual_units"
        ),
        on=["product_id", "target"],
    ).merge(live.rename(columns={"mean_units": "the loop"}), on=["product_id", "target"])
    actual = joined.pop("actual_units").to_numpy()
    names = [name for name in joined if name not in ("product_id", "target")]
    return {
        "rows": float(len(joined)),
        **{str(name): float(100 * np.abs(joined[name] - actual).sum() / actual.sum()) for name in names},
    }


def _rows(rows: BacktestRows, candidates: Mapping[str, str]) -> pd.DataFrame:
    used = ~rows.is_censored
    return pd.DataFrame(
        {
            "product_id": rows.keys["product_id"].to_numpy()[rows.series[used]],
            "target": pd.Series(rows.target[used].astype("datetime64[D]").astype(object), dtype=object),
            "actual_units": rows.actual_units[used],
            **{name: rows.mean_units[candidate][used] for name, candidate in candidates.items()},
        }
    )


def as_text(result: Mapping[str, Any]) -> Iterator[str]:
    """The result as lines."""
    yield f"{result['first']} to {result['last']}, {result['wall_s']} s"
    for title in ("days", "triggers", "decisions", "improvements", "checks", "wape_pct"):
        yield title
        for name, value in result[title].items():
            yield f"  {name:<52}{value:>12,.2f}" if isinstance(value, float) else f"  {name:<52}{value:>12}"


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
