"""Alerts without a store: which conditions hold, what becomes of them, and who is told what and when."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources import vocabulary
from resources.alerts.records import Alert, Condition, Evaluation, Message, Silence
from resources.alerts.router import MESSAGE_ALERTS, Advanced, advance, tell
from resources.alerts.rules import CHECK_ALERTS, Observed, due_production, evaluate
from resources.alerts.targets import DeliveryFailed, mail_server, signature

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
DAY = date(2026, 3, 1)
ERROR = "trailing_error_is_below_threshold"
MADRID = {"a": "Europe/Madrid", "b": "Europe/Madrid"}


def checks(*rows: tuple[str, str, date, str], days: int = 1) -> pd.DataFrame:
    """Latest check results: tenant, check, day, status; failed ones on so many days in a row."""
    return pd.DataFrame(
        [
            (t, CHECK_ALERTS[c].asset, c, on, status, f"{c} {status}", days if status == "failed" else 0)
            for t, c, on, status in rows
        ],
        columns=["tenant_id", "asset", "check_name", "business_date", "status", "message", "failed_days"],
    )  # fmt: skip


def failure(workflow: str, link: str, tenant_id: str = "a", dates: int = 1, on: date = DAY) -> tuple[Any, ...]:
    """A row of failures that wait for a person."""
    return (tenant_id, workflow, link, dates, on, "It broke.", "Remedy: mend it.")


def failures(*rows: tuple[Any, ...]) -> pd.DataFrame:
    """Failures that wait for a person."""
    columns = ["tenant_id", "workflow", "link", "dates", "last_date", "reason", "remedy"]
    return pd.DataFrame(list(rows), columns=columns)


def duties(*rows: tuple[str, str, bool]) -> pd.DataFrame:
    """Tenants that owe a plan: tenant, zone, whether it is there."""
    return pd.DataFrame(
        [(t, zone, DAY, has) for t, zone, has in rows], columns=["tenant_id", "timezone", "plan_date", "has_plan"]
    )


def seen(*conditions: Condition, settled: Sequence[str] = (), **passes: date) -> Evaluation:
    """An evaluation; a pass is given as the tenant's name."""
    return Evaluation(
        list(conditions), frozenset(settled), {bad(tenant).fingerprint: on for tenant, on in passes.items()}
    )


def bad(tenant_id: str = "a", on: date = DAY, days: int = 1) -> Condition:
    """A tenant whose trailing error is too high."""
    return Condition(
        vocabulary.FORECAST_ACCURACY_LOW, "medium", f"{tenant_id} is bad", "Retrain.", tenant_id,
        "validation_metrics", ERROR, on, days,
    )  # fmt: skip


def high(tenant_id: str = "a") -> Condition:
    """A tenant whose planning failed."""
    return Condition(vocabulary.DAILY_PRODUCTION_PLANNING_FAILED, "high", "failed", "Mend it.", tenant_id)


DOWN = Condition(vocabulary.SCHEDULER_UNHEALTHY, "critical", "dead", "Restart.")


class Story:
    """Alerts over time: each look goes on from the one before, as the router does."""

    def __init__(self, zones: dict[str, str] | None = None) -> None:
        self.alerts: list[Alert] = []
        self.archive: list[Alert] = []
        self.silences: list[Silence] = []
        self.zones = MADRID if zones is None else zones
        self.down_at: datetime | None = None

    def look(self, now: datetime, evaluation: Evaluation) -> list[Message]:
        """One tick; returns what is told."""
        found: Advanced = advance(self.alerts, evaluation, now)
        if any(a.name == vocabulary.SCHEDULER_UNHEALTHY for a in (*found.alerts, *found.resolved)):
            self.down_at = now
        messages, told = tell(found.alerts, found.resolved, self.silences, self.zones, self.down_at, now)
        after = {alert.alert_id: alert for alert in (*found.alerts, *told)}
        self.alerts = list(after.values())
        self.archive += found.resolved
        return messages


# ---------------------------------------------------------------- conditions


def conditions(**observed: Any) -> dict[str, Condition]:
    """Conditions by name."""
    return {one.name: one for one in evaluate(Observed(now=NOON, **observed)).conditions}


@pytest.mark.parametrize("check", sorted(CHECK_ALERTS))
def test_every_failed_check_becomes_its_alert_and_no_other_status_does(check: str) -> None:
    (one,) = conditions(checks=checks(("a", check, DAY, "failed"))).values()
    assert (one.name, one.tenant_id, one.check_name, one.about_date) == (CHECK_ALERTS[check].name, "a", check, DAY)
    assert one.severity == vocabulary.ALERT_SEVERITY[one.name]
    for status in ("passed", "warned", "undefined"):
        assert conditions(checks=checks(("a", check, DAY, status))) == {}


@pytest.mark.parametrize(
    ("workflow", "link", "name"),
    [
        ("production_planning", "forecasts", "DailyProductionPlanningFailed"),
        ("daily_operations", "procurement_plans", "DailyProductionPlanningFailed"),
        ("daily_operations", "forecast_models", "ForecastModelUnusable"),
        ("model_training", "forecast_models", "ModelTrainingFailed"),
        ("forecast_validation", "validation_metrics", "ForecastValidationFailed"),
    ],
)
def test_a_failure_that_waits_for_a_person_is_named_by_what_failed(workflow: str, link: str, name: str) -> None:
    assert list(conditions(failures=failures(failure(workflow, link)))) == [name]


def test_failures_of_many_dates_and_links_of_a_tenant_are_one_condition() -> None:
    found = conditions(
        failures=failures(
            failure("production_planning", "forecasts", dates=29, on=DAY),
            failure("procurement_planning", "procurement_plans", on=DAY - timedelta(days=3)),
        )
    )
    (one,) = found.values()
    assert (one.occurrences, one.about_date) == (30, DAY)
    assert "It broke." in one.summary
    assert "mend it" in one.remedy


def test_a_zone_without_any_plan_is_critical_and_one_with_a_plan_is_not() -> None:
    found = conditions(
        duties=duties(
            ("a", "Europe/Madrid", False),
            ("b", "Europe/Madrid", False),
            ("c", "Asia/Tokyo", True),
            ("d", "Asia/Tokyo", False),
        )
    )
    (one,) = found.values()
    assert (one.name, one.severity, one.check_name) == ("NoProductionSchedulesGenerated", "critical", "Europe/Madrid")


@pytest.mark.parametrize(
    ("missing", "total", "fires"), [(1, 20, False), (2, 20, True), (5, 100, False), (6, 100, True), (9, 19, False)]
)
def test_the_success_rate_is_judged_from_twenty_tenants_on(missing: int, total: int, fires: bool) -> None:
    found = conditions(duties=duties(*[(f"t{n}", "Europe/Madrid", n >= missing) for n in range(total)]))
    assert ("TenantSuccessRateLow" in found) is fires


def took(kind: str, p95_seconds: float) -> pd.DataFrame:
    """How long generations of a kind took."""
    return pd.DataFrame({"kind": [kind], "tenants": [9], "p95_seconds": [p95_seconds]})


@pytest.mark.parametrize(
    ("observed", "name", "fires"),
    [
        ({"durations": took("production", 121.0)}, "ProductionGenerationSlow", True),
        ({"durations": took("production", 120.0)}, "ProductionGenerationSlow", False),
        ({"durations": took("procurement", 500.0)}, "ProcurementGenerationSlow", True),
        ({"lookups": (49, 51)}, "ForecastCacheHitRateLow", True),
        ({"lookups": (50, 50)}, "ForecastCacheHitRateLow", False),
        ({"lookups": (0, 99)}, "ForecastCacheHitRateLow", False),
        ({"rejections": (3, 1)}, "PlanRejectionsIncreasing", True),
        ({"rejections": (2, 0)}, "PlanRejectionsIncreasing", False),
        ({"rejections": (4, 2)}, "PlanRejectionsIncreasing", False),
        ({"heartbeats": {"SENSOR": NOON, "SCHEDULER": NOON - timedelta(minutes=6)}}, "SchedulerUnhealthy", True),
        ({"heartbeats": {"SENSOR": NOON, "SCHEDULER": NOON - timedelta(minutes=5)}}, "SchedulerUnhealthy", False),
    ],
)  # fmt: skip
def test_rates_and_times_fire_beyond_their_thresholds(observed: dict[str, Any], name: str, fires: bool) -> None:
    evaluation = evaluate(Observed(now=NOON, **observed))
    assert ([one.name for one in evaluation.conditions] == [name]) is fires
    assert name in evaluation.settled, "not found means over"


def test_what_was_not_looked_at_neither_fires_nor_ends() -> None:
    assert evaluate(Observed(now=NOON)) == Evaluation()


def test_a_missing_plan_that_a_failure_or_the_zone_explains_opens_no_second_alert() -> None:
    missing = "every_active_tenant_has_todays_plan"
    found = evaluate(
        Observed(
            now=NOON,
            checks=checks(*[(t, missing, DAY, "failed") for t in ("failed", "zone", "alone")]),
            failures=failures(failure("production_planning", "forecasts", "failed")),
            duties=duties(
                ("zone", "Asia/Tokyo", False), ("alone", "Europe/Madrid", False), ("fine", "Europe/Madrid", True)
            ),
        )
    )
    story = Story()
    story.look(NOON, found)
    assert [a.tenant_id for a in story.alerts if a.name == "ProductionPlanMissing"] == ["alone"]


@pytest.mark.parametrize(
    ("now", "due_day"),
    [
        # 05:30 in Madrid is 04:30 UTC in winter; the deadline is an hour later.
        (datetime(2026, 3, 2, 5, 29, tzinfo=UTC), date(2026, 3, 1)),
        (datetime(2026, 3, 2, 5, 30, tzinfo=UTC), date(2026, 3, 2)),
        # The clock moves forward on 2026-03-29: 05:30 is 03:30 UTC.
        (datetime(2026, 3, 29, 4, 29, tzinfo=UTC), date(2026, 3, 28)),
        (datetime(2026, 3, 29, 4, 30, tzinfo=UTC), date(2026, 3, 29)),
    ],
)
def test_a_plan_is_owed_an_hour_after_its_local_time(now: datetime, due_day: date) -> None:
    tenants = pd.DataFrame(
        [("a", "Europe/Madrid", 0, time(5, 30), datetime(2026, 1, 1, tzinfo=UTC)),
         ("night", "Europe/Madrid", 1, time(5, 30), datetime(2026, 1, 1, tzinfo=UTC)),
         ("new", "Europe/Madrid", 0, time(5, 30), now)],
        columns=["tenant_id", "timezone", "plan_lead_days", "production_planning_at", "created_at"],
    )  # fmt: skip
    due = due_production(tenants, now).set_index("tenant_id")
    assert due["plan_date"].to_dict() == {"a": due_day, "night": due_day + timedelta(days=1)}


# ---------------------------------------------------------------- states


def test_thirty_bad_days_are_one_incident_that_the_pass_of_the_latest_day_ends() -> None:
    story = Story()
    told = [
        message
        for n in range(30)
        for message in story.look(NOON + timedelta(minutes=n), seen(bad(on=DAY + timedelta(days=n))))
    ]
    assert [message.kind for message in told] == ["firing"]
    (alert,) = story.alerts
    assert (alert.occurrences, alert.about_date) == (30, DAY + timedelta(days=29))
    later = NOON + timedelta(hours=1)
    assert story.look(later, seen(a=DAY + timedelta(days=28))) == [], "a pass about an older day ends nothing"
    (ended,) = story.look(later, seen(a=DAY + timedelta(days=29)))
    assert ended.kind == "resolved"
    assert story.alerts == []
    assert (story.archive[0].state, story.archive[0].resolved_at) == ("resolved", later)


def test_a_backfill_between_two_looks_counts_its_days_and_is_one_incident() -> None:
    story = Story()
    story.look(NOON, seen(bad(days=30)))
    story.look(NOON + timedelta(minutes=1), seen(bad(days=30)))
    assert [alert.occurrences for alert in story.alerts] == [30]


def test_nothing_known_of_a_check_leaves_its_alert_open() -> None:
    story = Story()
    story.look(NOON, seen(bad()))
    story.look(NOON + timedelta(days=1), seen())
    assert [alert.state for alert in story.alerts] == ["firing"]


def test_a_rate_fires_when_it_has_lasted_and_leaves_no_trace_when_it_has_not() -> None:
    rate = replace(DOWN, name="TenantSuccessRateLow", severity="high", delay_minutes=10)
    story = Story()
    assert story.look(NOON, seen(rate)) == []
    assert story.look(NOON + timedelta(minutes=9), seen(rate)) == []
    assert [m.kind for m in story.look(NOON + timedelta(minutes=10), seen(rate))] == ["firing"]
    dip = Story()
    dip.look(NOON, seen(rate))
    assert dip.look(NOON + timedelta(minutes=5), seen(settled=["TenantSuccessRateLow"])) == []
    assert (dip.alerts, dip.archive) == ([], [])


def test_an_alert_of_a_tenant_that_is_not_planned_any_more_ends() -> None:
    story = Story()
    story.look(NOON, seen(bad("a"), bad("b")))
    story.look(NOON, replace(seen(bad("a"), bad("b")), active=frozenset({"b"})))
    assert [alert.tenant_id for alert in story.alerts] == ["b"]


def test_the_same_fault_later_is_another_incident() -> None:
    story = Story()
    name = vocabulary.DAILY_PRODUCTION_PLANNING_FAILED
    for n, evaluation in enumerate([seen(high()), seen(settled=[name]), seen(high())]):
        story.look(NOON + timedelta(minutes=n), evaluation)
    assert story.alerts[0].alert_id != story.archive[0].alert_id
    assert story.alerts[0].fingerprint == story.archive[0].fingerprint


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]), st.integers(0, 5), st.sampled_from(["failed", "passed", "undefined"]), st.integers(1, 400)
    ),
    max_size=40,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_whatever_comes_there_is_one_open_alert_a_fingerprint_and_each_is_told_and_ended_once(
    steps: list[tuple[str, int, str, int]],
) -> None:
    story = Story(zones={})
    now, told = NOON, []
    last_failed: dict[str, date] = {}
    for tenant_id, n, status, minutes in steps:
        now += timedelta(minutes=minutes)
        on = DAY + timedelta(days=n)
        story_had = {alert.tenant_id for alert in story.alerts}
        if status == "failed":
            told += story.look(now, seen(bad(tenant_id, on)))
            last_failed[tenant_id] = max(on, last_failed.get(tenant_id, on)) if tenant_id in story_had else on
        else:
            told += story.look(now, seen(**({tenant_id: on} if status == "passed" else {})))
        fingerprints = [alert.fingerprint for alert in story.alerts]
        assert len(fingerprints) == len(set(fingerprints))
        is_open = tenant_id in {alert.tenant_id for alert in story.alerts}
        if status == "failed":
            assert is_open
        elif tenant_id in story_had:
            assert is_open == (status == "undefined" or on < last_failed[tenant_id])
    fired = [str(i) for m in told if m.kind == "firing" for i in m.alert_ids]
    ended = [str(i) for m in told if m.kind == "resolved" for i in m.alert_ids]
    assert len(fired) == len(set(fired)) == len(story.alerts) + len(story.archive)
    assert sorted(ended) == sorted(str(alert.alert_id) for alert in story.archive)


# ---------------------------------------------------------------- who is told


def test_alerts_of_one_name_are_one_message_of_at_most_fifty() -> None:
    story = Story(zones={})
    messages = story.look(NOON, seen(*[high(f"t{n:03}") for n in range(120)], bad("a")))
    assert [(m.group_key, len(m.alert_ids)) for m in messages] == [
        ("DailyProductionPlanningFailed|high", 50), ("DailyProductionPlanningFailed|high", 50),
        ("DailyProductionPlanningFailed|high", 20), ("ForecastAccuracyLow|medium", 1),
    ]  # fmt: skip
    assert len(messages[0].payload["data"]["alerts"]) == MESSAGE_ALERTS
    assert story.look(NOON + timedelta(minutes=1), seen(*[high(f"t{n:03}") for n in range(120)], bad("a"))) == []


def test_while_the_scheduler_is_down_tenants_alerts_wait_and_are_told_afterwards() -> None:
    story = Story()
    assert [m.group_key for m in story.look(NOON, seen(DOWN, high()))] == ["SchedulerUnhealthy|critical"]
    back = NOON + timedelta(minutes=20)
    assert [m.kind for m in story.look(back, seen(high(), settled=["SchedulerUnhealthy"]))] == ["resolved"]
    assert story.look(back + timedelta(minutes=14), seen(high())) == []
    (told,) = story.look(back + timedelta(minutes=15), seen(high()))
    assert (told.kind, told.group_key) == ("firing", "DailyProductionPlanningFailed|high")


def test_a_silenced_alert_is_told_when_the_silence_is_over_and_only_if_it_still_fires() -> None:
    story = Story()
    story.silences = [Silence(None, "a"), Silence("ForecastAccuracyLow", None)]
    assert story.look(NOON, seen(high("a"), high("b"), bad("b")))[0].payload["data"]["alerts"][0]["tenant_id"] == "b"
    gone = seen(high("b"), bad("b"), settled=[vocabulary.DAILY_PRODUCTION_PLANNING_FAILED])
    assert story.look(NOON + timedelta(minutes=1), gone) == [], "nobody knew of it, so nobody is told of its end"
    story.silences = []
    assert [m.group_key for m in story.look(NOON + timedelta(minutes=2), gone)] == ["ForecastAccuracyLow|medium"]


def kinds(story: Story, condition: Condition, minutes: Sequence[int]) -> list[tuple[int, str]]:
    """When what is told of a condition that lasts."""
    return [(m, one.kind) for m in minutes for one in story.look(NOON + timedelta(minutes=m), seen(condition))]


def test_unacknowledged_alerts_are_escalated_twice_and_then_told_again_every_four_hours() -> None:
    told = kinds(Story(), replace(DOWN), range(0, 10 * 60 + 1, 5))
    assert told == [(0, "firing"), (30, "escalation"), (60, "escalation"), (300, "reminder"), (540, "reminder")]


def test_medium_ones_are_told_again_daily_and_acknowledged_ones_not_at_all() -> None:
    condition = replace(DOWN, name="RunFailed", severity="medium")
    assert kinds(Story(), condition, range(0, 49 * 60, 30)) == [(0, "firing"), (1440, "reminder"), (2880, "reminder")]
    story = Story()
    story.look(NOON, seen(DOWN))
    story.alerts = [replace(alert, state="acknowledged") for alert in story.alerts]
    assert kinds(story, DOWN, range(5, 3000, 5)) == []
    assert [m.kind for m in story.look(NOON, seen(settled=["SchedulerUnhealthy"]))] == ["resolved"]


NIGHT = datetime(2026, 3, 28, 21, 30, tzinfo=UTC)
"""22:30 in Madrid, before the night in which the clock moves forward."""


def test_at_night_a_bakery_is_told_at_five_of_its_own_time_and_escalation_counts_from_then() -> None:
    story = Story()
    (message,) = story.look(NIGHT, seen(high()))
    five = datetime(2026, 3, 29, 3, 0, tzinfo=UTC)
    assert message.send_after == five
    told = [
        ((now - five).total_seconds() / 60, one.kind)
        for now in (NIGHT + timedelta(minutes=n) for n in range(1, 500))
        for one in story.look(now, seen(high()))
    ]
    assert told == [(30, "escalation"), (60, "escalation")]


@pytest.mark.parametrize(
    ("condition", "hour", "waits"),
    [
        (high(), 20, False), (high(), 21, True), (high(), 3, True), (high(), 4, False),
        (replace(high(), severity="critical"), 23, False), (replace(high(), tenant_id=None), 23, False),
    ],
)  # fmt: skip
def test_the_night_holds_back_what_is_a_bakerys_and_not_critical(condition: Condition, hour: int, waits: bool) -> None:
    now = datetime(2026, 3, 2, hour, 0, tzinfo=UTC)  # an hour later in Madrid
    (message,) = Story().look(now, seen(condition))
    assert (message.send_after > now) is waits


# ---------------------------------------------------------------- words


def test_every_alert_has_a_runbook_entry_and_every_entry_an_alert() -> None:
    text = Path(__file__).parents[2].joinpath("docs", "runbook.md").read_text(encoding="utf-8")
    section = text.partition("\n## Alerts\n")[2].partition("\n## ")[0]
    entries = re.findall(r"^### (\w+)\n\n(\w+)\.", section, flags=re.MULTILINE)
    assert {name: severity.lower() for name, severity in entries} == dict(vocabulary.ALERT_SEVERITY)
    assert len(entries) == len(vocabulary.ALERT_SEVERITY)


def test_every_anchor_leads_to_its_entry() -> None:
    for name, severity in vocabulary.ALERT_SEVERITY.items():
        assert Condition(name, severity, "", "").runbook == name.lower(), "as Markdown makes it of the heading"


def test_the_signature_is_the_one_of_the_standards_own_example() -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body = b'{"test": 2432232314}'
    assert signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body) == (
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )
    for wrong in ("", "whsec_", "not base64!", "whsec_c2hvcnQ="):
        with pytest.raises(DeliveryFailed, match="Remedy"):
            signature(wrong, "id", "1", b"")


def test_the_address_of_a_mail_server_is_read_or_refused_without_its_password() -> None:
    server = mail_server(
        "smtps://ana%40x:se%3Acret@mail.example.org?from=d@x.org&to=a@x.org,b@x.org&escalate_to=c@x.org"
    )
    assert (server.host, server.port, server.is_tls, server.user, server.password) == (
        "mail.example.org", 465, True, "ana@x", "se:cret",
    )  # fmt: skip
    assert (server.sender, server.to, server.escalate_to) == ("d@x.org", ["a@x.org", "b@x.org"], ["c@x.org"])
    for wrong in ("smtp://u:se%3Acret@h?from=a@x.org", "http://u:se%3Acret@h?from=a@x.org&to=b@x.org",
                  "smtp://u:se%3Acret@h:port?from=a@x.org&to=b@x.org",
                  "smtp://u:secret@h?from=a@x.org&to=nobody\nBcc:x@y"):  # fmt: skip
        with pytest.raises(DeliveryFailed, match="Remedy") as refused:
            mail_server(wrong)
        assert "cret@" not in str(refused.value)
