"""The watched folder (DAYBREAK_INBOX): files put into it are imported, some at each tick."""

import json
import os
from datetime import datetime
from pathlib import Path

import dagster as dg

from resources import vocabulary
from resources.dagster_resources import ClockResource, StoreResource
from resources.imports.inbox import INBOX_SETTING, InboxError, Seen, take_in
from resources.store.pauses import read_paused

NAME = "inbox_sensor"


@dg.sensor(
    name=NAME,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=f"Imports files from the folder that {INBOX_SETTING} names, and moves them to done/ or refused/.",
)
def inbox_sensor(context: dg.SensorEvaluationContext, store: StoreResource, clock: ClockResource) -> dg.SkipReason:
    """Import the files that have not changed since the last tick.

    The cursor holds what the files looked like; one that cannot be read only makes them wait for one more tick.
    """
    if os.environ.get(vocabulary.SCHEDULER_DISABLED_SETTING, "").lower() == "true":
        return dg.SkipReason(f"{vocabulary.SCHEDULER_DISABLED}: {vocabulary.SCHEDULER_DISABLED_SETTING} is true.")
    folder = os.environ.get(INBOX_SETTING, "")
    if not folder:
        return dg.SkipReason(f"{INBOX_SETTING} names no folder.")
    with store.open() as opened:
        with opened.transaction() as connection:
            paused = read_paused(connection)
        if paused.everybody is not None:
            return dg.SkipReason(f"Scheduling is paused, and files wait: {paused.everybody}")
        try:
            taken, seen = take_in(opened, Path(folder), _seen(context.cursor), clock.now())
        except InboxError as error:
            context.log.warning(str(error))
            return dg.SkipReason(str(error))
    for file in taken:
        if file.outcome == "done":
            context.log.info(f"Imported {file.tenant_id}/{file.name}: {file.rows_written} rows written")
        else:
            context.log.warning(f"{file.tenant_id}/{file.name} {file.outcome}: {file.problem}")
    context.update_cursor(json.dumps({key: [looks, since.isoformat()] for key, (looks, since) in seen.items()}))
    counts = {outcome: sum(file.outcome == outcome for file in taken) for outcome in ("done", "refused", "left")}
    return dg.SkipReason(
        f"Imported {counts['done']} files, refused {counts['refused']}, left {counts['left']}; {len(seen)} wait."
    )


def _seen(cursor: str | None) -> Seen:
    try:
        content = json.loads(cursor or "{}")
        return {key: (str(looks), datetime.fromisoformat(since)) for key, (looks, since) in content.items()}
    except (ValueError, AttributeError, TypeError):
        return {}
