"""Alerts in the store, real messages to a real webhook and mail server, and the commands, as a person gives them."""

import json
import logging
import multiprocessing
import os
import signal
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result

from daybreak.cli import main
from resources.alerts.delivery import GIVE_UP_AFTER, LONGEST_PAUSE, deliver
from resources.alerts.observing import check_and_route, observe, observe_scheduler
from resources.alerts.targets import Letter, targets_of
from resources.forecast_cache import ForecastCache
from resources.store.alerts import add_silence, read, read_messages
from resources.store.database import Store
from tests.integration.alert_receivers import SECRET, Hook, Mailbox, mail_server, webhook
from tests.integration.store_bakery import add_bakery

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
DAY = date(2026, 3, 1)
MINUTE = timedelta(minutes=1)
ERROR = "trailing_error_is_below_threshold"


@pytest.fixture
def hook() -> Iterator[Hook]:
    """A webhook."""
    with webhook() as opened:
        yield opened


@pytest.fixture
def box() -> Iterator[Mailbox]:
    """A mail server."""
    with mail_server() as opened:
        yield opened


def environment(hook: Hook | None = None, box: Mailbox | None = None) -> dict[str, str]:
    """The settings of targets."""
    found = {}
    if hook is not None:
        found |= {"DAYBREAK_ALERT_WEBHOOK": hook.url, "DAYBREAK_ALERT_WEBHOOK_SECRET": SECRET}
    if box is not None:
        address = f"smtp://daybreak:pass@127.0.0.1:{box.port}?from=daybreak@x.org&to=ana@x.org,ben@x.org&escalate_to=boss@x.org"
        found["DAYBREAK_ALERT_SMTP"] = address
    return found


def result(store: Store, tenant_id: str, on: date, status: str, check: str = ERROR) -> None:
    """A result of a check."""
    with store.transaction() as connection:
        connection.execute(
            """
            INSERT INTO quality.check_result (tenant_id, asset, check_name, business_date, status, message, evaluated_at)
            VALUES (%s, 'validation_metrics', %s, %s, %s, 'error 41 %%', now())
            ON CONFLICT (tenant_id, asset, check_name, business_date) DO UPDATE SET status = excluded.status
            """,
            (tenant_id, check, on, status),
        )


def failure(store: Store, tenant_id: str, on: date = DAY, state: str = "review", run_id: str = "r") -> None:
    """A failure of planning."""
    with store.transaction() as connection:
        connection.execute(
            """
            INSERT INTO ops.failure (tenant_id, workflow, plan_date, link, reason, remedy, run_id, failed_at, state)
            VALUES (%s, 'production_planning', %s, 'forecasts', 'No sales.', 'Remedy: import them.', %s, now(), %s)
            """,
            (tenant_id, on, run_id, state),
        )


def look(store: Store, now: datetime, settings: dict[str, str], delivering: bool = True) -> tuple[int, int]:
    """One tick: messages sent and not taken. In maintenance, so that no plan is owed by the test's tenants."""
    targets = targets_of(settings)
    check_and_route(store, observe(store, now, ForecastCache(), is_scheduling=False), targets)
    if not delivering:
        return 0, 0
    delivered = deliver(store, targets, lambda: now)
    return delivered.sent, delivered.failed


def test_one_bad_month_is_one_incident_from_the_store_to_the_webhook(store: Store, hook: Hook) -> None:
    add_bakery(store, "a")
    for n in range(30):
        result(store, "a", DAY + timedelta(days=n), "failed")
        look(store, NOON + n * MINUTE, environment(hook))
    result(store, "a", DAY - timedelta(days=1), "passed")
    look(store, NOON + 31 * MINUTE, environment(hook))
    with store.transaction() as connection:
        (alert,) = read(connection, include_resolved=True)
    assert (alert.state, alert.occurrences, alert.about_date) == ("firing", 30, DAY + timedelta(days=29))
    result(store, "a", DAY + timedelta(days=30), "passed")
    look(store, NOON + 32 * MINUTE, environment(hook))
    assert hook.told() == [("firing", "ForecastAccuracyLow", 1), ("resolved", "ForecastAccuracyLow", 1)]
    assert hook.is_signed == [True, True]
    assert hook.came[0][1]["data"]["alerts"][0]["summary"] == "a: error 41 %"
    with store.transaction() as connection:
        (alert,) = read(connection, include_resolved=True)
        types = connection.execute("SELECT type, subject, tenant_id FROM ops.outbox ORDER BY id").fetchall()
    assert alert.state == "resolved"
    assert types == [(kind, alert.fingerprint, "a") for kind in ("alert.fired", "alert.resolved")]


def test_a_month_scored_between_two_looks_is_one_incident_with_its_days(store: Store) -> None:
    add_bakery(store, "a")
    result(store, "a", DAY - timedelta(days=5), "failed")
    result(store, "a", DAY - timedelta(days=4), "passed")
    for n in range(30):
        result(store, "a", DAY + timedelta(days=n), "failed")
    look(store, NOON, {})
    with store.transaction() as connection:
        (alert,) = read(connection, include_resolved=True)
    assert alert.occurrences == 30, "failed days since the last that passed"


def test_tenants_are_grouped_and_both_targets_and_the_log_have_the_message(
    store: Store, hook: Hook, box: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "daybreak.alerts")
    for tenant_id in ("a", "b"):
        add_bakery(store, tenant_id)
        failure(store, tenant_id)
    assert look(store, NOON, environment(hook, box)) == (3, 0)
    assert hook.told() == [("firing", "DailyProductionPlanningFailed", 2)]
    ((to, mail),) = box.mails
    assert (to, mail["Subject"]) == (
        ["ana@x.org", "ben@x.org"], "[high] Alert firing: DailyProductionPlanningFailed (2 tenants)",
    )  # fmt: skip
    assert "No sales." in mail.get_content()
    assert box.logins == ["\0daybreak\0pass"]
    assert sum("Alert firing: DailyProductionPlanningFailed (high)" in line for line in caplog.messages) == 2
    assert look(store, NOON + MINUTE, environment(hook, box)) == (0, 0), "nothing is sent twice"
    assert look(store, NOON + 30 * MINUTE, environment(hook, box)) == (3, 0)
    assert box.mails[1][0] == ["ana@x.org", "ben@x.org", "boss@x.org"], "an escalation reaches one more"
    with store.transaction() as connection:
        connection.execute("UPDATE ops.failure SET resolved_at = now(), state = 'resolved'")
    assert look(store, NOON + 31 * MINUTE, environment(hook, box)) == (3, 0)
    assert [kind for kind, _, _ in hook.told()] == ["firing", "escalation", "resolved"]
    ids = {message_id for message_id, _ in hook.came}
    assert len(ids) == 3
    assert not any(mail["Message-ID"].strip("<>").partition("@")[0] in ids for _, mail in box.mails), "an id per target"


def test_a_failure_that_is_still_tried_again_alerts_nobody(store: Store) -> None:
    add_bakery(store, "a")
    failure(store, "a", state="open")
    look(store, NOON, {})
    with store.transaction() as connection:
        assert read(connection, include_resolved=True) == []


def test_while_the_receiver_is_down_nothing_is_lost_and_order_and_ids_are_kept(store: Store, hook: Hook) -> None:
    add_bakery(store, "a")
    failure(store, "a")
    hook.answer = 503
    for n in range(10):
        sent, failed = look(store, NOON + n * MINUTE, environment(hook))
        assert (sent, failed) != (2, 0)
        if n == 5:
            with store.transaction() as connection:
                connection.execute("UPDATE ops.failure SET resolved_at = now(), state = 'resolved'")
    assert hook.told() == []
    assert 3 <= hook.tries <= 9, "it is tried again with growing waits"
    with store.transaction() as connection:
        (alert,) = read(connection, include_resolved=True)
        waiting = read_messages(connection, alert.alert_id)
    assert alert.state == "resolved"
    of_hook = waiting[waiting["target"] == "webhook"]
    assert of_hook["last_error"].tolist()[0] == "The webhook answered 503."
    assert of_hook["attempts"].tolist() == [hook.tries, 0], "the end waits for the beginning"
    hook.answer = 200
    for n in range(10, 18):
        look(store, NOON + n * MINUTE, environment(hook))
    assert [kind for kind, _, _ in hook.told()] == ["firing", "resolved"]
    assert [message_id for message_id, _ in hook.came] == [str(i) for i in of_hook["message_id"]]
    with store.transaction() as connection:
        assert read_messages(connection, alert.alert_id)["sent_at"].notna().all()


def test_one_target_that_is_down_does_not_keep_the_others_waiting(store: Store, hook: Hook, box: Mailbox) -> None:
    add_bakery(store, "a")
    failure(store, "a")
    box.is_down = True
    assert look(store, NOON, environment(hook, box)) == (2, 1)
    box.is_down = False
    box.replies["END"] = b"451 later"
    assert look(store, NOON + 10 * MINUTE, environment(hook, box)) == (0, 1), "taken means 250, not that it was sent"
    del box.replies["END"]
    assert look(store, NOON + 20 * MINUTE, environment(hook, box)) == (1, 0)
    first, second = (mail["Message-ID"] for _, mail in box.mails)
    assert first == second, "a repeated message carries its id"


def test_a_recipient_that_is_refused_does_not_make_the_others_get_it_twice(store: Store, box: Mailbox) -> None:
    add_bakery(store, "a")
    failure(store, "a")
    box.refused.add("ben@x.org")
    assert look(store, NOON, environment(box=box)) == (2, 0)
    assert [to for to, _ in box.mails] == [["ana@x.org"]]
    assert look(store, NOON + 10 * MINUTE, environment(box=box)) == (0, 0)


def test_after_a_day_a_message_is_given_up_and_said_so(
    store: Store, hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    add_bakery(store, "a")
    result(store, "a", DAY, "failed")
    hook.answer = 500
    look(store, NOON, environment(hook))
    now = NOON + GIVE_UP_AFTER - MINUTE
    deliver(store, targets_of(environment(hook)), lambda: now)
    assert "given up" not in caplog.text
    for n in (0, 1):
        deliver(store, targets_of(environment(hook)), lambda n=n: now + MINUTE + 2 * LONGEST_PAUSE * (n + 1))  # type: ignore[misc]
    assert hook.tries == 3, "nothing is tried after that"
    assert caplog.text.count("Alert message given up") == 1


def test_a_setting_that_cannot_be_read_fails_its_messages_with_the_remedy_and_no_secret(store: Store) -> None:
    add_bakery(store, "a")
    failure(store, "a")
    broken = {"DAYBREAK_ALERT_SMTP": "smtp://user:hunter2@mail.x.org", "DAYBREAK_ALERT_WEBHOOK": "ftp://x"}
    assert look(store, NOON, broken) == (1, 2)
    found = store.frame("SELECT target, last_error FROM ops.alert_message WHERE target <> 'log'")
    assert found["last_error"].str.contains("Remedy").all()
    assert not found["last_error"].str.contains("hunter2").any()


def _send_and_die(dsn: str, url: str, now: datetime) -> None:
    """What a daemon does that is killed after the receiver has the message and before it notes so."""
    targets = targets_of({"DAYBREAK_ALERT_WEBHOOK": url, "DAYBREAK_ALERT_WEBHOOK_SECRET": SECRET})
    send = targets["webhook"]

    def and_die(letter: Letter) -> None:
        send(letter)
        os.kill(os.getpid(), signal.SIGKILL)

    with Store(dsn) as store:
        deliver(store, {"webhook": and_die}, lambda: now)


def test_a_kill_between_sending_and_noting_it_sends_again_with_the_same_id_and_nothing_else_twice(
    store: Store, dsn: str, hook: Hook
) -> None:
    add_bakery(store, "a")
    failure(store, "a")
    look(store, NOON, environment(hook), delivering=False)
    process = multiprocessing.get_context("spawn").Process(target=_send_and_die, args=(dsn, hook.url, NOON))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert len(hook.came) == 1
    for n in range(1, 4):
        look(store, NOON + n * MINUTE, environment(hook))
    assert len(hook.came) == 2
    assert hook.came[0] == hook.came[1]


def test_two_processes_that_look_at_once_tell_of_an_alert_once(store: Store, dsn: str, hook: Hook) -> None:
    add_bakery(store, "a")
    failure(store, "a")
    targets = targets_of(environment(hook))
    observed = observe(store, NOON, ForecastCache(), is_scheduling=False)
    with Store(dsn) as other:
        check_and_route(store, observed, targets)
        check_and_route(other, observed, targets)
        with store.transaction() as connection:
            # The message is held by this transaction, as while it is being sent.
            connection.execute("SELECT FROM ops.alert_message FOR UPDATE")
            assert deliver(other, targets, lambda: NOON).sent == 0
        assert deliver(other, targets, lambda: NOON).sent == 2
    assert hook.told() == [("firing", "DailyProductionPlanningFailed", 1)]


def test_at_night_only_the_log_is_told_of_a_bakery_and_at_five_the_others(store: Store, hook: Hook) -> None:
    add_bakery(store, "a")
    failure(store, "a")
    night = datetime(2026, 3, 2, 23, 0, tzinfo=UTC)
    assert look(store, night, environment(hook)) == (1, 0)
    assert look(store, night + timedelta(hours=4, minutes=59), environment(hook)) == (0, 0)
    assert look(store, night + timedelta(hours=5), environment(hook)) == (1, 0)
    assert hook.told() == [("firing", "DailyProductionPlanningFailed", 1)]


# ---------------------------------------------------------------- the daemon


def heartbeat(store: Store, at: datetime) -> None:
    """Signs of life of the daemons, in the table that Dagster makes."""
    with store.transaction() as connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS public.daemon_heartbeats (daemon_type varchar PRIMARY KEY, timestamp timestamp)"
        )
        for daemon in ("SCHEDULER", "SENSOR", "QUEUED_RUN_COORDINATOR"):
            connection.execute(
                "INSERT INTO public.daemon_heartbeats VALUES (%s, %s) ON CONFLICT (daemon_type) "
                "DO UPDATE SET timestamp = excluded.timestamp",
                (daemon, at.replace(tzinfo=None)),
            )


def test_a_dead_daemon_is_told_by_who_only_watches_it_and_ends_with_its_next_sign_of_life(
    store: Store, hook: Hook
) -> None:
    targets = targets_of(environment(hook))
    check_and_route(store, observe_scheduler(store, NOON), targets)
    heartbeat(store, NOON)
    for minutes in (0, 4, 6, 7):
        check_and_route(store, observe_scheduler(store, NOON + minutes * MINUTE), targets)
    heartbeat(store, NOON + 8 * MINUTE)
    check_and_route(store, observe_scheduler(store, NOON + 8 * MINUTE), targets)
    deliver(store, targets, lambda: NOON + 8 * MINUTE)
    assert hook.told() == [("firing", "SchedulerUnhealthy", 1), ("resolved", "SchedulerUnhealthy", 1)]


# ---------------------------------------------------------------- missed deadlines


def test_a_zone_without_a_plan_fires_but_not_for_who_is_paused_or_does_not_work_that_day(store: Store) -> None:
    for tenant_id in ("paused", "sunday", "owes"):
        add_bakery(store, tenant_id)
    with store.transaction() as connection:
        connection.execute("UPDATE master.tenant SET created_at = '2026-01-01'")
        connection.execute(
            "INSERT INTO ops.pause (tenant_id, reason, actor, paused_at) VALUES ('paused', 'oven', 'ana', now())"
        )
        connection.execute(
            "INSERT INTO master.workflow_policy (tenant_id, workflow, on_weekends) VALUES ('sunday', 'production_planning', 'skip')"
        )
    sunday = datetime(2026, 3, 8, 12, 0, tzinfo=UTC)

    def owing(now: datetime) -> set[str]:
        observed = observe(store, now, ForecastCache())
        assert observed.duties is not None
        return set(observed.duties["tenant_id"])

    assert owing(sunday) == {"owes"}
    assert owing(NOON) == {"owes", "sunday"}
    check_and_route(store, observe(store, sunday, ForecastCache()), ["log"])
    with store.transaction() as connection:
        (alert,) = read(connection, include_resolved=False)
    assert (alert.name, alert.severity, alert.check_name) == (
        "NoProductionSchedulesGenerated",
        "critical",
        "Europe/Madrid",
    )
    assert observe(store, sunday, ForecastCache(), is_scheduling=False).duties is None, (
        "in maintenance nobody owes a plan"
    )


# ---------------------------------------------------------------- commands


@pytest.fixture
def run(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command line against the test's database."""
    monkeypatch.setenv("DATABASE_URL", dsn)
    monkeypatch.setenv("DAYBREAK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SCHEDULER_DISABLED", "true")
    for name in environment(Hook(), Mailbox()):
        monkeypatch.delenv(name, raising=False)

    def invoke(*arguments: str, expect: int = 0) -> Result:
        found = CliRunner().invoke(main, ["alerts", *arguments])
        assert found.exit_code == expect, (found.output, found.exception)
        return found

    return invoke


def test_check_list_show_acknowledge(
    run: Any, store: Store, hook: Hook, box: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_bakery(store, "a")
    assert "No alert is open." in run("list").output
    assert json.loads(run("check", "--json").output)["alerts"] == []
    failure(store, "a")
    for name, value in environment(hook, box).items():
        monkeypatch.setenv(name, value)
    checked = json.loads(run("check", "--json", expect=1).output)
    assert (checked["fired"], checked["messages_failed"]) == (1, 0)
    (listed,) = json.loads(run("list", "--json").output)["alerts"]
    assert (listed["name"], listed["tenant_id"], listed["state"]) == ("DailyProductionPlanningFailed", "a", "firing")
    short = listed["alert_id"][:8]
    assert short in run("list", "--tenant", "a").output
    assert "No alert" in run("list", "--tenant", "b").output
    assert "taken at" in run("show", short).output or "waits until" in run("show", short).output
    assert {m["target"] for m in json.loads(run("show", short, "--json").output)["messages"]} == {
        "log",
        "webhook",
        "email",
    }
    assert "acknowledged by ana" in run("ack", short, "--by", "ana").output
    assert "acknowledged by ana already" in run("ack", short, expect=3).output
    assert "Remedy" in run("show", "zzz", expect=3).output
    run("check")
    assert json.loads(run("list", "--json").output)["alerts"][0]["acknowledged_by"] == "ana", "a look keeps who it was"


def test_silences_are_kept_listed_and_ended(run: Any, store: Store) -> None:
    add_bakery(store, "a")
    number = json.loads(
        run("silence", "--tenant", "a", "--for", "2h", "--reason", "oven", "--by", "ana", "--json").output
    )
    assert "Silence 1: every alert of a until" in run("list").output
    failure(store, "a")
    run("check", expect=1)
    assert store.frame("SELECT FROM ops.alert_message").empty
    run("unsilence", str(number["silence_id"]))
    assert "Silence" not in run("list").output
    assert "Remedy" in run("unsilence", "1", expect=3).output
    run("check", expect=1)
    assert len(store.frame("SELECT target FROM ops.alert_message")) == 1
    for wrong in (("--name", "Nothing"), ("--tenant", "nobody")):
        assert "Remedy" in run("silence", *wrong, "--for", "2h", "--reason", "x", expect=3).output
    assert "30m" in run("silence", "--for", "soon", "--reason", "x", expect=3).output


def test_the_test_message_reaches_every_target_and_says_what_fails(
    run: Any, hook: Hook, box: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(hook, box).items():
        monkeypatch.setenv(name, value)
    assert run("test").output.count("taken") == 3
    assert (hook.told(), len(box.mails)) == ([("firing", "Test", 1)], 1)
    hook.answer = 401
    assert "The webhook answered 401." in run("test", expect=1).output


def test_a_silence_needs_a_reason_in_the_store_too(store: Store) -> None:
    with pytest.raises(psycopg.errors.CheckViolation), store.transaction() as connection:
        add_silence(connection, None, None, "", "ana", NOON, NOON + MINUTE)
