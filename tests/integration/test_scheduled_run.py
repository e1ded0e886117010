"""`daybreak up` does the work: its daemon ticks, queues and launches, for schedules, sensors, the command line and backfills.

One running instance serves all tests, in the order of the file. Schedules tick every quarter of an hour, for which no
test waits: the daemon is killed and finds, when it is back, the tick that it missed.
"""

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import httpx
import pytest
from dagster._core.scheduler.instigation import InstigatorState, InstigatorType, ScheduleInstigatorData

from resources.machine import free_port
from resources.store.database import Store
from tests.integration.store_bakery import add_bakery, add_sales
from tests.integration.test_instance import DAYBREAK, Up, eventually

ZONE = "Europe/Madrid"
SCHEDULE = "production_planning__europe_madrid_schedule"
QUARTER_S = 900
HISTORY_DAYS = 56


@dataclass
class Platform:
    """The running instance, its store, and Dagster's view of it."""

    up: Up
    store: Store
    instance: dg.DagsterInstance
    backfill: "subprocess.Popen[str]"

    def call(self, *arguments: str) -> Any:
        """The JSON that a command prints; it must succeed."""
        done = self.up.call(*arguments, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def ask(self, query: str, **variables: object) -> dict[str, Any]:
        """The data of a GraphQL answer."""
        answer = httpx.post(f"{self.up.url}/graphql", json={"query": query, "variables": variables}, timeout=30).json()
        assert "errors" not in answer, answer
        return dict(answer["data"])

    def schedule_states(self) -> dict[str, InstigatorState]:
        """The schedules that the daemon has begun to tick."""
        states = self.instance.all_instigator_state(instigator_type=InstigatorType.SCHEDULE)
        return {state.instigator_name: state for state in states}

    def runs(self, **tags: str) -> list[dg.DagsterRun]:
        """The runs with tags; double underscores in a name stand for a slash."""
        wanted = {name.replace("__", "/"): value for name, value in tags.items()}
        return list(self.instance.get_runs(filters=dg.RunsFilter(tags=wanted)))


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    """An instance with three bakeries: one planned from midnight on by its schedule, two only when asked."""
    folder = Path(tempfile.mkdtemp(prefix="daybreak-test-"))
    folder.chmod(0o755)  # as root the database runs as another user, who must reach it
    up = Up(folder / "home", free_port())
    try:
        up.start()
        variables = json.loads(up.call("env", "--json").stdout)
        with pytest.MonkeyPatch.context() as patch, Store(up.dsn) as store:
            patch.setenv("DAYBREAK_PG_URL", variables["DAYBREAK_PG_URL"])
            add_groups(store)
            for tenant_id, group in (("morning", "midnight"), ("asked", "late"), ("past", "late")):
                add_tenant(store, tenant_id, group)
            assert up.call("settings", "publish").stdout == "Published.\n"
            # It takes the daemon half a minute to begin with a backfill: it works on it beside the tests.
            days = backfilled_days()
            backfill = subprocess.Popen(
                [*DAYBREAK, "plan", "backfill", "--tenant", "past", "--from", str(days[0]), "--to", str(days[-1]), "--json"],
                env=up.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            with backfill, dg.DagsterInstance.from_config(variables["DAGSTER_HOME"]) as instance:
                yield Platform(up, store, instance, backfill)
                backfill.kill()
    finally:
        up.call("down", "--quiet", "--delete-data")
        shutil.rmtree(folder)


def today() -> date:
    """The date in the bakeries' zone."""
    return datetime.now(ZoneInfo(ZONE)).date()


def backfilled_days() -> list[date]:
    """Three days that are over, in order."""
    return [today() - timedelta(days=n) for n in (4, 3, 2)]


def add_groups(store: Store) -> None:
    """Schedule groups: production due at midnight, so at every tick of the day, and one that is due all but never."""
    # What was due late in the evening still is in the night, so tests that run then keep to noon.
    later = "12:00" if datetime.now(ZoneInfo(ZONE)).hour < 6 else "23:59"
    with store.transaction() as connection:
        connection.execute(
            "INSERT INTO master.schedule_group VALUES ('midnight', '00:00', %(later)s, %(later)s),"
            " ('late', %(later)s, %(later)s, %(later)s)",
            {"later": later},
        )


def add_tenant(store: Store, tenant_id: str, group: str) -> None:
    """A bakery with eight weeks of sales until yesterday."""
    add_bakery(store, tenant_id, days=())
    last = today()
    rows = [
        (location, product, last - timedelta(days=n), float(20 + n % 7))
        for n in range(1, HISTORY_DAYS + 8)
        for location, product in (("main", "bread"), ("main", "cake"), ("kiosk", "bread"))
    ]
    with store.transaction() as connection:
        connection.execute(
            "SELECT ops.ensure_partitions('facts.sales', %s::date, %s::date, '1 year')",
            (date(last.year - 1, 1, 1), date(last.year, 12, 31)),
        )
        add_sales(connection, tenant_id, rows)
        connection.execute("UPDATE master.tenant SET schedule_group = %s WHERE tenant_id = %s", (group, tenant_id))


def plans_of(store: Store, tenant_id: str) -> dict[date, set[str]]:
    """The kinds of active plans of a tenant, by date."""
    rows = store.frame(
        "SELECT plan_date, kind FROM plans.plan WHERE tenant_id = %(t)s AND status = 'active'", {"t": tenant_id}
    )
    return {on: set(group["kind"]) for on, group in rows.groupby("plan_date")}


def events_of(platform: Platform, run_id: str) -> list[Any]:
    """The Dagster events of a run."""
    records = platform.instance.get_records_for_run(run_id, limit=500).records
    return [record for record in records if record.event_log_entry.dagster_event is not None]


GRID = """
query Grid($asset: String!) { assetNodeOrError(assetKey: {path: [$asset]}) { ... on AssetNode {
    partitionStats { numMaterialized numFailed } latestMaterializationByPartition(partitions: []) { partition }
} } }
"""


KINDS = {"forecast", "production", "procurement", "projection"}

SCHEDULES = """
query Schedules { schedulesOrError(repositorySelector: {
    repositoryLocationName: "daybreak", repositoryName: "__repository__"
}) { ... on Schedules { results { name executionTimezone scheduleState { status } } } } }
"""


def test_a_tenant_in_a_new_zone_gets_schedules_that_tick_without_a_restart(platform: Platform) -> None:
    before = platform.up.groups
    platform.call("tenant", "add", "roti", "--timezone", "Asia/Kolkata", "--country", "IN")
    with platform.store.transaction() as connection:
        connection.execute("UPDATE master.tenant SET schedule_group = 'late' WHERE tenant_id = 'roti'")
    names = {f"{work}__asia_kolkata_schedule" for work in ("production_planning", "procurement_planning")}
    shown = {row["name"]: row for row in platform.ask(SCHEDULES)["schedulesOrError"]["results"]}
    for name in names:
        assert shown[name]["executionTimezone"] == "Asia/Kolkata"
        assert shown[name]["scheduleState"]["status"] == "RUNNING"
    assert eventually(lambda: names <= set(platform.schedule_states()), 120), "the daemon has not taken them up"
    assert platform.up.groups == before, "nothing was started again for it"


def test_the_command_line_plans_through_the_queue(platform: Platform) -> None:
    (day,) = platform.call("plan", "run", "--tenant", "asked")["runs"]
    assert (day["status"], day["completed"], day["failed"]) == ("SUCCESS", ["asked"], [])
    assert day["url"] == f"{platform.up.url}/runs/{day['run_id']}"
    run = platform.instance.get_run_by_id(day["run_id"])
    assert run is not None
    assert run.status is dg.DagsterRunStatus.SUCCESS
    assert run.tags["user"] == "command line"
    assert run.tags["dagster/partition"] == f"{day['date']}|asked"
    steps = {str(record.event_log_entry.dagster_event.event_type_value) for record in events_of(platform, run.run_id)}
    assert {"PIPELINE_ENQUEUED", "PIPELINE_STARTING", "PIPELINE_SUCCESS"} <= steps
    assert plans_of(platform.store, "asked") == {date.fromisoformat(day["date"]): KINDS}
    execution = platform.store.frame("SELECT * FROM ops.execution WHERE tenant_id = 'asked'").iloc[0]
    assert (execution["type"], execution["triggered_by"]) == ("manual", "command line")


def test_a_backfill_of_days_is_one_run_that_plans_them_in_order(platform: Platform) -> None:
    days = backfilled_days()
    said, problems = platform.backfill.communicate(timeout=120)
    assert platform.backfill.returncode == 0, said + problems
    done = json.loads(said)
    assert (done["status"], done["partitions"]) == ("COMPLETED_SUCCESS", 3)
    (run,) = platform.runs(dagster__backfill=done["backfill_id"])
    assert run.status is dg.DagsterRunStatus.SUCCESS
    assert plans_of(platform.store, "past") == dict.fromkeys(days, KINDS)
    executions = platform.store.frame(
        "SELECT plan_date, type FROM ops.execution WHERE tenant_id = 'past' ORDER BY started_at"
    )
    assert list(executions["plan_date"]) == days
    assert set(executions["type"]) == {"backfill"}


def test_a_scheduled_run_goes_through_daemon_queue_and_launcher(platform: Platform) -> None:
    assert eventually(lambda: SCHEDULE in platform.schedule_states(), 120)
    state = platform.schedule_states()[SCHEDULE]
    quarter = datetime.now(UTC).timestamp() // QUARTER_S * QUARTER_S
    os.kill(platform.up.groups["daemon"], signal.SIGKILL)
    # What the state of a daemon looks like that was last alive before the quarter of an hour struck.
    platform.instance.update_instigator_state(
        state.with_data(ScheduleInstigatorData("*/15 * * * *", start_timestamp=quarter - 60))
    )
    assert eventually(lambda: platform.runs(dagster__schedule_name=SCHEDULE), 120)
    (run,) = platform.runs(dagster__schedule_name=SCHEDULE)
    assert eventually(lambda: platform.instance.get_run_by_id(run.run_id).is_finished, 120)  # type: ignore[union-attr]
    ended = platform.instance.get_run_by_id(run.run_id)
    assert ended is not None
    assert ended.status is dg.DagsterRunStatus.SUCCESS
    plan_date = datetime.fromtimestamp(quarter, ZoneInfo(ZONE)).date()
    assert ended.tags["dagster/partition"] == f"{plan_date}|morning"
    assert ended.tags["daybreak/zone"] == ZONE
    assert "dagster/run_key" in ended.tags
    assert plans_of(platform.store, "morning") == {plan_date: KINDS}
    steps = {str(record.event_log_entry.dagster_event.event_type_value) for record in events_of(platform, run.run_id)}
    assert {"PIPELINE_ENQUEUED", "PIPELINE_STARTING", "PIPELINE_SUCCESS"} <= steps
    execution = platform.store.frame("SELECT * FROM ops.execution WHERE tenant_id = 'morning'").iloc[0]
    assert (execution["workflow"], execution["type"], execution["status"], execution["run_id"]) == (
        *("production_planning", "scheduled", "completed"),
        run.run_id,
    )
    assert execution["triggered_by"] == f"schedule production_planning {ZONE}"


def test_the_web_ui_shows_what_was_planned(platform: Platform) -> None:
    for asset in ("forecasts", "inventory_projections"):
        stats = platform.ask(GRID, asset=asset)["assetNodeOrError"]["partitionStats"]
        assert stats == {"numMaterialized": 5, "numFailed": 0}, asset


def test_the_daemon_reports_imports_and_adds_tenants_to_the_grid(platform: Platform, tmp_path: Path) -> None:
    assert eventually(lambda: "roti" in platform.instance.get_dynamic_partitions("daybreak_tenants"), 120)
    file = tmp_path / "late.csv"
    file.write_text(f"location_id,product_id,business_date,quantity_units\nmain,bread,{today()},12\n")
    assert platform.call("import", "sales", str(file), "--tenant", "asked")["status"] == "imported"
    sales = dg.AssetKey("sales")
    assert eventually(lambda: platform.instance.get_materialized_partitions(sales) == {"asked"}, 120)
