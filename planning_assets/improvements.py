"""Promoted models on live days: whether each is better than what it replaced, and a return from those that are worse than naive."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pandas as pd

from planning.retraining import IMPROVEMENT_DAYS, WATCHED_DAYS, LiveError, Verdict, live_error, verdict_of
from resources.clock import is_time_zone
from resources.store import models
from resources.store.database import Connection, Store
from resources.store.plans import lock_tenants
from resources.store.retraining import keep_verdict, read_live_days, read_promotions, write_improvement

LOOK_BACK_DAYS = 42
"""Days in which IMPROVEMENT_DAYS open ones are looked for, before the promotion and before today."""


@dataclass(frozen=True)
class Judged:
    """What was found of a promotion: a verdict, and in words what was done about it, if anything was."""

    tenant_id: str
    version: int
    verdict: Verdict
    done: str = ""


def follow_promotions(store: Store, now: datetime, limit: int = 50) -> list[Judged]:
    """Judge serving versions by the live days that came since each was looked at last, and roll back what must be.

    Each tenant is written in a transaction of its own. A day counts as live from the first plan made after the promotion.
    """
    with store.transaction() as connection:
        found = read_promotions(connection, limit)
        # A tenant in no zone has no days; every morning says so and how to mend it.
        promotions = found[found["timezone"].map(is_time_zone).astype(bool)]
        first = {
            row.tenant_id: (now if _has_verdict(row.verdict) else row.promoted_at).date() - timedelta(LOOK_BACK_DAYS)
            for row in promotions.itertuples()
        }
        days = read_live_days(connection, list(first), min(first.values())) if first else pd.DataFrame()
    judged = []
    for row in promotions.itertuples():
        of_tenant = days[days["tenant_id"] == row.tenant_id]
        with store.transaction() as connection:
            lock_tenants(connection, [row.tenant_id])
            # A training that ended meanwhile has made another version serve: what was read is about the one before.
            if models.serving_version(connection, row.tenant_id) == row.version:
                judged.append(_judge(connection, row, of_tenant, now))
    return judged


def _judge(connection: Connection, promotion: pd.Series, days: pd.DataFrame, now: datetime) -> Judged:
    tenant_id, version, promoted_at = promotion.tenant_id, int(promotion.version), promotion.promoted_at
    before, since = _split(days, promoted_at.astimezone(ZoneInfo(promotion.timezone)).date(), promotion.plan_lead_days)
    first, latest = live_error(since.head(IMPROVEMENT_DAYS)), live_error(since.tail(IMPROVEMENT_DAYS))
    replaced = live_error(before.tail(IMPROVEMENT_DAYS))
    verdict = verdict_of(first, latest, replaced, now - promoted_at > timedelta(days=WATCHED_DAYS))
    if verdict != "rolled_back" and _has_verdict(promotion.verdict):
        keep_verdict(connection, tenant_id, version, promoted_at, now)
        return Judged(tenant_id, version, promotion.verdict)
    shown = latest if verdict == "rolled_back" else first
    write_improvement(connection, _row(tenant_id, version, promoted_at, shown, replaced, verdict), now)
    done = _roll_back(connection, tenant_id, version, latest, now) if verdict == "rolled_back" else ""
    return Judged(tenant_id, version, verdict, done)


def _split(days: pd.DataFrame, promoted_on: date, lead_days: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The days before a promotion, and those that were forecast after it; in between are days planned before it."""
    on = days["business_date"]
    return days[on < promoted_on], days[on > promoted_on + timedelta(days=int(lead_days))]


def _roll_back(connection: Connection, tenant_id: str, version: int, latest: LiveError, now: datetime) -> str:
    reason = (
        f"WAPE {latest.wape_pct:.1f} % of {models.label_of(version)} on the last {latest.days} live open days against "
        f"{latest.naive_wape_pct:.1f} % of seasonal naive."
    )
    for is_to_rules in (False, True):
        try:
            with connection.transaction():
                serves, _ = models.rollback(
                    connection, tenant_id, reason=reason, now=now, is_to_rules=is_to_rules, is_by_hand=False
                )
        except models.RegistryError:
            # What served before is not kept, or is damaged: the rules can always serve.
            if is_to_rules:
                raise
        else:
            return f"{'the rules' if serves is None else models.label_of(serves)} serve now. {reason}"
    raise AssertionError("the second way returns or raises")


def _row(
    tenant_id: str, version: int, promoted_at: datetime, shown: LiveError, before: LiveError, verdict: Verdict
) -> dict[str, object]:
    return {
        "tenant_id": tenant_id,
        "version": version,
        "promoted_at": promoted_at,
        "days": shown.days,
        "wape_pct": shown.wape_pct,
        "naive_wape_pct": shown.naive_wape_pct,
        "wape_before_pct": before.wape_pct,
        "naive_wape_before_pct": before.naive_wape_pct,
        "verdict": verdict,
    }


def _has_verdict(verdict: str | None) -> bool:
    return verdict is not None and verdict != "waiting"


def told(judged: list[Judged]) -> Iterator[str]:
    """What was done, one line for each promotion about which something was."""
    for one in judged:
        if one.done:
            yield f"{one.tenant_id}: {one.done}"
