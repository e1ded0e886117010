"""Sends the messages that wait, and notes as sent only what a target has taken.

A message is held by a transaction while it is sent: killed in between, it is sent again, with the same id. Which target is
what, and what a message says, is decided elsewhere.
"""

import hashlib
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from resources import vocabulary
from resources.alerts.targets import DeliveryFailed, Letter, Send
from resources.clock import Clock
from resources.store.alerts import claim_message, mark_failed, mark_sent
from resources.store.database import Store

FIRST_PAUSE = timedelta(seconds=15)
LONGEST_PAUSE = timedelta(minutes=5)
"""Short, so that soon after a receiver is back it has everything."""

GIVE_UP_AFTER = timedelta(hours=24)
BUDGET_S = 20.0
"""What one call may take before it begins another message; the rest is sent by the next one."""

logger = logging.getLogger("daybreak.alerts")


@dataclass
class Delivered:
    """How many messages were taken, were not, and were given up."""

    sent: int = 0
    failed: int = 0
    given_up: int = 0


def deliver(store: Store, targets: Mapping[str, Send], now: Clock, budget_s: float = BUDGET_S) -> Delivered:
    """Send what is due, oldest first. After a failure a target is left alone until the next call, so that others have theirs."""
    delivered = Delivered()
    usable = dict(targets)
    deadline = time.monotonic() + budget_s
    while usable and time.monotonic() < deadline:
        with store.transaction() as connection:
            claimed = claim_message(connection, list(usable), now())
            if claimed is None:
                break
            message_id, target, payload, created_at, attempts = claimed
            try:
                usable[target](Letter(message_id, payload, created_at, now()))
            except DeliveryFailed as error:
                is_over = now() - created_at >= GIVE_UP_AFTER
                mark_failed(
                    connection, message_id, str(error), now() + pause(message_id, attempts), now() if is_over else None
                )
                del usable[target]
                delivered.failed += 1
                delivered.given_up += is_over
                logger.log(
                    logging.ERROR if is_over else logging.WARNING,
                    "%s %s to %s: %s",
                    vocabulary.ALERT_NOT_DELIVERED if is_over else vocabulary.EVENT_NOT_PUBLISHED,
                    message_id,
                    target,
                    error,
                )
            else:
                mark_sent(connection, message_id, now())
                delivered.sent += 1
    return delivered


def pause(message_id: UUID, attempts: int) -> timedelta:
    """The wait after this attempt, with so many before it: doubling, and up to 20 % more or less, so that not all come at once."""
    doubled = min(FIRST_PAUSE * 2 ** min(attempts, 10), LONGEST_PAUSE)
    spread = hashlib.sha256(f"{message_id}|{attempts}".encode()).digest()[0] / 255
    return doubled * (0.8 + 0.4 * spread)
