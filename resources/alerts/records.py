"""The shapes of alerting: a condition that holds now, the alert that it becomes, a silence, and a message about alerts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from uuid import UUID

TOLD_STATES = ("firing", "acknowledged")


@dataclass(frozen=True)
class Condition:
    """Something that is wrong now.

    tenant_id: whose it is; None: the instance's. check_name: the check, or what of the asset it is about, such as a time
    zone or a job. about_date: the latest day that it is about. occurrences: days, or events, that it was seen on.
    delay_minutes: how long it must last before it fires. is_explained: another alert tells it already, so it opens none.
    """

    name: str
    severity: str
    summary: str
    remedy: str
    tenant_id: str | None = None
    asset: str = ""
    check_name: str = ""
    about_date: date | None = None
    occurrences: int = 1
    delay_minutes: int = 0
    is_explained: bool = False

    @property
    def fingerprint(self) -> str:
        """What makes two sightings the same incident: never the date."""
        return fingerprint_of(self.name, self.tenant_id, self.asset, self.check_name)

    @property
    def runbook(self) -> str:
        """The anchor of its entry in docs/runbook.md, as Markdown makes it of the heading."""
        return self.name.lower()


def fingerprint_of(name: str, tenant_id: str | None, asset: str, check_name: str) -> str:
    """Name, tenant, asset and check; none of them holds the sign between them."""
    return "|".join((name, tenant_id or "", asset, check_name))


@dataclass(frozen=True)
class Evaluation:
    """What one look at everything found.

    conditions: what is wrong. settled: the names that were looked at as a whole, so that one not found is over.
    passes: fingerprint -> the latest day of a check that passed, which ends an alert about that day or an earlier one.
    active: the tenants that are planned; alerts of others end. None: not looked at.
    """

    conditions: list[Condition] = field(default_factory=list)
    settled: frozenset[str] = frozenset()
    passes: Mapping[str, date] = field(default_factory=dict)
    active: frozenset[str] | None = None


@dataclass(frozen=True)
class Alert:
    """A row of ops.alert. reminded_at: when people last could know of it; None: it was told nobody yet."""

    alert_id: UUID
    fingerprint: str
    name: str
    tenant_id: str | None
    asset: str
    check_name: str
    severity: str
    state: str
    summary: str
    remedy: str
    runbook: str
    about_date: date | None
    occurrences: int
    started_at: datetime
    fired_at: datetime | None
    last_seen_at: datetime
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    escalation: int = 0
    reminded_at: datetime | None = None
    resolved_at: datetime | None = None

    def as_json(self) -> dict[str, Any]:
        """The alert as webhooks and `--json` show it."""
        return {
            "alert_id": str(self.alert_id),
            "name": self.name,
            "severity": self.severity,
            "state": self.state,
            "tenant_id": self.tenant_id,
            "asset": self.asset,
            "check": self.check_name,
            "about_date": None if self.about_date is None else self.about_date.isoformat(),
            "occurrences": self.occurrences,
            "summary": self.summary,
            "remedy": self.remedy,
            "runbook": f"docs/runbook.md#{self.runbook}",
            "started_at": self.started_at.isoformat(),
            "fired_at": _text(self.fired_at),
            "acknowledged_at": _text(self.acknowledged_at),
            "acknowledged_by": self.acknowledged_by,
            "escalation": self.escalation,
            "resolved_at": _text(self.resolved_at),
        }


@dataclass(frozen=True)
class Silence:
    """Alerts of which nobody is told for a while. name, tenant_id: None means all."""

    name: str | None
    tenant_id: str | None

    def holds(self, alert: Alert) -> bool:
        """Whether an alert is silenced by it."""
        return self.name in {None, alert.name} and self.tenant_id in {None, alert.tenant_id}


@dataclass(frozen=True)
class Message:
    """What is told about alerts of one name and severity. kind: firing, reminder, escalation or resolved."""

    kind: str
    group_key: str
    alert_ids: list[UUID]
    payload: Mapping[str, Any]
    send_after: datetime


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()
