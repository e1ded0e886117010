"""What becomes of conditions: the states of alerts, and who is told what and when. Everything but `route` is pure.

pending -> firing -> acknowledged -> resolved. One alert per fingerprint is open; a resolved one stays as it is, and the same
fault begins another. Telling is a state too: an alert that fires and was told nobody is told when nothing holds it back.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta
from types import MappingProxyType
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

from resources import vocabulary
from resources.alerts.records import TOLD_STATES, Alert, Condition, Evaluation, Message, Silence
from resources.store import alerts as store_of_alerts
from resources.store.database import Store
from resources.store.executions import add_events

SEEN_AGAIN = timedelta(minutes=5)
"""Nothing is written for an alert that is only seen once more; after so long its last sight is."""

MESSAGE_ALERTS = 50

QUIET_FROM, QUIET_UNTIL = time(22), time(5)
"""Local night of a bakery, in which its people are told only what is critical."""

SCHEDULER_GRACE = timedelta(minutes=15)
"""The first tick after the scheduler is back plans what is missing; until then tenants' alerts say nothing new."""

REMIND_AFTER = MappingProxyType(
    {
        "critical": timedelta(hours=4),
        "high": timedelta(hours=4),
        "medium": timedelta(hours=24),
        "low": timedelta(hours=24),
    }
)
ESCALATED = frozenset({"critical", "high"})

EVENT_OF_KIND = MappingProxyType(
    {
        "firing": vocabulary.EVENT_ALERT_FIRED,
        "reminder": vocabulary.EVENT_ALERT_REMINDED,
        "escalation": vocabulary.EVENT_ALERT_ESCALATED,
        "resolved": vocabulary.EVENT_ALERT_RESOLVED,
    }
)


@dataclass(frozen=True)
class Advanced:
    """What became of the alerts. alerts: open ones; dropped: pending ones that never fired and are gone."""

    alerts: list[Alert]
    fired: list[Alert]
    resolved: list[Alert]
    dropped: list[Alert]


@dataclass(frozen=True)
class Routed:
    """How many alerts fired, ended and are open, and how many messages were written."""

    fired: int
    resolved: int
    is_open: int
    messages: int


def advance(
    open_alerts: Iterable[Alert], evaluation: Evaluation, now: datetime, new_id: Callable[[], UUID] = uuid4
) -> Advanced:
    """The states of alerts after one look at everything."""
    known = {alert.fingerprint: alert for alert in open_alerts}
    held = {condition.fingerprint: condition for condition in evaluation.conditions}
    after, fired, resolved, dropped = [], [], [], []
    for fingerprint, alert in known.items():
        if fingerprint in held and not _is_of_others(alert, evaluation):
            seen = _seen(alert, held[fingerprint], now)
            after.append(seen)
            if seen.state == "firing" and alert.state == "pending":
                fired.append(seen)
        elif not _is_over(alert, evaluation):
            after.append(alert)
        elif alert.state == "pending":
            dropped.append(alert)
        else:
            resolved.append(replace(alert, state="resolved", resolved_at=now))
    for fingerprint, condition in held.items():
        if fingerprint not in known and not condition.is_explained:
            begun = _begun(condition, now, new_id())
            if not _is_of_others(begun, evaluation):
                after.append(begun)
                if begun.state == "firing":
                    fired.append(begun)
    return Advanced(after, fired, resolved, dropped)


def _begun(condition: Condition, now: datetime, alert_id: UUID) -> Alert:
    is_firing = condition.delay_minutes == 0
    return Alert(
        alert_id=alert_id,
        fingerprint=condition.fingerprint,
        name=condition.name,
        tenant_id=condition.tenant_id,
        asset=condition.asset,
        check_name=condition.check_name,
        severity=condition.severity,
        state="firing" if is_firing else "pending",
        summary=condition.summary,
        remedy=condition.remedy,
        runbook=condition.runbook,
        about_date=condition.about_date,
        occurrences=condition.occurrences,
        started_at=now,
        fired_at=now if is_firing else None,
        last_seen_at=now,
    )


def _seen(alert: Alert, condition: Condition, now: datetime) -> Alert:
    seen = alert
    is_later = None not in {alert.about_date, condition.about_date} and condition.about_date > alert.about_date  # type: ignore[operator]
    is_earlier = None not in {alert.about_date, condition.about_date} and condition.about_date < alert.about_date  # type: ignore[operator]
    if not is_earlier:
        seen = replace(
            alert,
            severity=condition.severity,
            summary=condition.summary,
            remedy=condition.remedy,
            about_date=condition.about_date,
            occurrences=max(alert.occurrences + is_later, condition.occurrences),
        )
    if alert.state == "pending" and now - alert.started_at >= timedelta(minutes=condition.delay_minutes):
        seen = replace(seen, state="firing", fired_at=now)
    if seen != alert or now - alert.last_seen_at >= SEEN_AGAIN:
        seen = replace(seen, last_seen_at=now)
    return seen


def _is_over(alert: Alert, evaluation: Evaluation) -> bool:
    if _is_of_others(alert, evaluation) or alert.name in evaluation.settled:
        return True
    passed_on = evaluation.passes.get(alert.fingerprint)
    return passed_on is not None and (alert.about_date is None or passed_on >= alert.about_date)


def _is_of_others(alert: Alert, evaluation: Evaluation) -> bool:
    """Whether it is about a tenant that nothing is planned for."""
    return evaluation.active is not None and alert.tenant_id is not None and alert.tenant_id not in evaluation.active


def tell(
    alerts: Sequence[Alert],
    resolved: Sequence[Alert],
    silences: Sequence[Silence],
    zones: Mapping[str, str],
    scheduler_down_at: datetime | None,
    now: datetime,
) -> tuple[list[Message], list[Alert]]:
    """The messages that are due, and the alerts that they are about as they are after it.

    zones: tenant id -> time zone. scheduler_down_at: when SchedulerUnhealthy last held; tenants' alerts, which it explains,
    wait until it has been over for SCHEDULER_GRACE.
    """
    is_down = scheduler_down_at is not None and now - scheduler_down_at < SCHEDULER_GRACE
    groups: dict[tuple[str, str, str, datetime], list[Alert]] = defaultdict(list)
    changed = []
    for alert in alerts:
        is_held_back = (is_down and alert.tenant_id is not None) or any(silence.holds(alert) for silence in silences)
        if alert.state not in TOLD_STATES or is_held_back:
            continue
        told = _due(alert, _release(alert, zones, now), now)
        if told is not None:
            kind, send_after, after = told
            groups[kind, alert.name, alert.severity, send_after].append(after)
            changed.append(after)
    for alert in resolved:
        if alert.reminded_at is not None and not any(silence.holds(alert) for silence in silences):
            groups["resolved", alert.name, alert.severity, _release(alert, zones, now)].append(alert)
    return [message for key, group in groups.items() for message in _messages(*key, group, now)], changed


def _due(alert: Alert, release: datetime, now: datetime) -> tuple[str, datetime, Alert] | None:
    """What is told of an alert now: kind, when it may be sent, and the alert after it."""
    if alert.reminded_at is None:
        # An alert that somebody acknowledged before it was told is known.
        return ("firing", release, replace(alert, reminded_at=release)) if alert.state == "firing" else None
    if alert.state != "firing" or release > now:
        return None
    since = now - alert.reminded_at
    if alert.severity in ESCALATED and alert.escalation < len(vocabulary.ESCALATION_MINUTES):
        steps = (0, *vocabulary.ESCALATION_MINUTES)
        if since >= timedelta(minutes=steps[alert.escalation + 1] - steps[alert.escalation]):
            return "escalation", now, replace(alert, reminded_at=now, escalation=alert.escalation + 1)
        return None
    return ("reminder", now, replace(alert, reminded_at=now)) if since >= REMIND_AFTER[alert.severity] else None


def _release(alert: Alert, zones: Mapping[str, str], now: datetime) -> datetime:
    """When people may be told: now, or at the end of the bakery's night."""
    if alert.tenant_id is None or alert.severity == "critical" or alert.tenant_id not in zones:
        return now
    local = now.astimezone(ZoneInfo(zones[alert.tenant_id]))
    if QUIET_UNTIL <= local.time() < QUIET_FROM:
        return now
    day = local.date() + timedelta(days=1 if local.time() >= QUIET_FROM else 0)
    return datetime.combine(day, QUIET_UNTIL, local.tzinfo).astimezone(now.tzinfo)


def _messages(
    kind: str, name: str, severity: str, send_after: datetime, alerts: Sequence[Alert], now: datetime
) -> Iterable[Message]:
    ordered = sorted(alerts, key=lambda alert: (alert.tenant_id or "", alert.fingerprint))
    for first in range(0, len(ordered), MESSAGE_ALERTS):
        part = ordered[first : first + MESSAGE_ALERTS]
        yield Message(
            kind=kind,
            group_key=f"{name}|{severity}",
            alert_ids=[alert.alert_id for alert in part],
            payload=payload_of(kind, name, severity, part, now),
            send_after=send_after,
        )


def payload_of(kind: str, name: str, severity: str, alerts: Sequence[Alert], now: datetime) -> dict[str, Any]:
    """The body of a message: type, timestamp and data, as Standard Webhooks advises."""
    of_what = alerts[0].summary if len(alerts) == 1 else f"{len(alerts)} alerts, the first: {alerts[0].summary}"
    return {
        "type": EVENT_OF_KIND[kind],
        "timestamp": now.isoformat(),
        "data": {
            "kind": kind,
            "name": name,
            "severity": severity,
            "summary": of_what,
            "escalation": max(alert.escalation for alert in alerts),
            "runbook": f"docs/runbook.md#{alerts[0].runbook}",
            "alerts": [alert.as_json() for alert in alerts],
        },
    }


def route(store: Store, evaluation: Evaluation, targets: Sequence[str], now: datetime) -> Routed:
    """Bring the alerts to what was found, and write events and messages for `targets`, in one transaction.

    Sensor, supervisor and people may call it at once: one at a time comes through.
    """
    with store.transaction() as connection:
        store_of_alerts.lock(connection)
        before = store_of_alerts.read_open(connection)
        advanced = advance(before, evaluation, now)
        unhealthy = [
            alert for alert in (*advanced.alerts, *advanced.resolved) if alert.name == vocabulary.SCHEDULER_UNHEALTHY
        ]
        if any(alert.state != "pending" for alert in unhealthy):
            scheduler_down_at: datetime | None = now
        else:
            scheduler_down_at = store_of_alerts.read_last_resolved(connection, vocabulary.SCHEDULER_UNHEALTHY)
        messages, told = tell(
            advanced.alerts,
            advanced.resolved,
            store_of_alerts.read_silences_in_force(connection, now),
            store_of_alerts.read_zones(
                connection, {alert.tenant_id for alert in (*advanced.alerts, *advanced.resolved)}
            ),
            scheduler_down_at,
            now,
        )
        after = {alert.alert_id: alert for alert in (*advanced.alerts, *advanced.resolved, *told)}
        unchanged = {alert.alert_id: alert for alert in before}
        store_of_alerts.write(connection, [a for key, a in after.items() if unchanged.get(key) != a])
        store_of_alerts.drop(connection, [alert.alert_id for alert in advanced.dropped])
        add_events(
            connection,
            (
                (type_, alert.fingerprint, alert.tenant_id, alert.as_json())
                for type_, alerts in (
                    (vocabulary.EVENT_ALERT_FIRED, advanced.fired),
                    (vocabulary.EVENT_ALERT_RESOLVED, advanced.resolved),
                )
                for alert in alerts
            ),
            now,
        )
        written = store_of_alerts.write_messages(connection, messages, targets, now)
    return Routed(len(advanced.fired), len(advanced.resolved), len(advanced.alerts), written)
