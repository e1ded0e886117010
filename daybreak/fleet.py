"""The fleet's outline in a local file, so that definitions load without a database: zones in use and the date window.

The store is the truth; the file is its copy, written whenever tenants or settings change.
"""

import json
import os
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from daybreak.instance import home, reload_definitions
from resources.clock import Clock, is_time_zone, system_clock
from resources.store.database import Store

FILE_NAME = "fleet.json"

PARTITIONS_START = "partitions_start"
"""The setting that moves the first date of the window, so that the past can be planned and backfilled."""

GRID_KEYS = 90_000
"""Partition keys that the web UI shows quickly; the default window holds about as many."""

LONGEST_WINDOW_DAYS = 365
SHORTEST_WINDOW_DAYS = 10


@dataclass(frozen=True)
class Fleet:
    """What definitions need to know of the fleet: time zones in use and the first date of the partition window."""

    zones: tuple[str, ...]
    partitions_start: date


def default_start(tenants: int, today: date) -> date:
    """The first date of the window when none is set: the larger the fleet, the shorter the window."""
    days = min(LONGEST_WINDOW_DAYS, max(SHORTEST_WINDOW_DAYS, GRID_KEYS // max(tenants, 1)))
    return today - timedelta(days=days)


def read(home: Path, clock: Clock = system_clock) -> Fleet:
    """The outline as last published; before the first time, no zones and the widest window.

    Raises ValueError with the remedy when the file is damaged.
    """
    path = home / FILE_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Fleet(tuple(content["zones"]), date.fromisoformat(content["partitions_start"]))
    except FileNotFoundError:
        return Fleet((), default_start(0, clock().astimezone(UTC).date()))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged. Remedy: delete it and run `daybreak settings publish`.") from error


def outline(store: Store, now: datetime) -> Fleet:
    """The outline as the store has it. Zones that this machine does not know are left to the runs, which name them."""
    tenants = store.frame("SELECT timezone FROM master.tenant WHERE status = 'active'")
    with store.transaction() as connection:
        row = connection.execute("SELECT value FROM ops.setting WHERE name = %s", (PARTITIONS_START,)).fetchone()
    start = date.fromisoformat(row[0]) if row else default_start(len(tenants), now.astimezone(UTC).date())
    return Fleet(tuple(sorted(zone for zone in tenants["timezone"].unique() if is_time_zone(zone))), start)


def publish(store: Store, clock: Clock = system_clock, is_reloading: bool = True) -> bool:
    """Write the outline; when it changed, a running instance reloads its definitions. Returns whether it changed.

    Raises InstanceError when a running instance does not reload.
    """
    fleet = outline(store, clock())
    path = home() / FILE_NAME
    if path.exists() and read(home(), clock) == fleet:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    content = {"zones": list(fleet.zones), "partitions_start": fleet.partitions_start.isoformat()}
    temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)
    if is_reloading:
        reload_definitions()
    return True
