"""`daybreak retrain`: ask for models to be trained by the running instance, and show who waits for it and what came of it."""

import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import click

from daybreak.cli.common import (
    SOME_FAILED,
    InputRefused,
    InstanceUnusable,
    has_daemon,
    json_option,
    opened_store,
    print_json,
    user_name,
)
from daybreak.cli.plan import chosen_tenants, tenant_choice

POLL_S = 2.0
SHOWN_DAYS = 30
OPEN = ("queued", "launched")


@click.command()
@tenant_choice
@click.option("--reason", default="Asked for by hand.", help="Why, for the record.")
@click.option(
    "--wait", "is_waiting", is_flag=True, help="Wait until the models are trained. Needs `daybreak up` running."
)
@click.option(
    "--list", "is_list", is_flag=True, help="Show the queue and what came of it in 30 days, and ask for nothing."
)
@click.option("--by", "actor", help="Who asks. Default: this machine's user.")
@json_option
def retrain(
    tenants: tuple[str, ...],
    all_tenants: bool,
    reason: str,
    is_waiting: bool,
    is_list: bool,
    actor: str | None,
    as_json: bool,
) -> None:
    """Queue tenants' models for retraining, few runs at a time; a challenger serves only where it is better.

    The instance trains what is queued, now or when it is started next. To train at once, and without it: daybreak models train.
    """
    if is_list and is_waiting:
        raise click.UsageError("Give --list or --wait, not both.")
    if not reason.strip():
        raise InputRefused("The reason is empty. Remedy: say why in --reason; it stands in the queue.")
    with opened_store() as store:
        if is_list:
            tenant_ids = list(chosen_tenants(store, tenants, all_tenants or not tenants, any_status=bool(tenants)))
            requests = _requests(store, tenant_ids)
            _print_list(requests, as_json)
            return
        tenant_ids = list(chosen_tenants(store, tenants, all_tenants))
        has_instance, paused = has_daemon(), _paused(store)
        if is_waiting and not has_instance:
            raise InstanceUnusable(
                "No instance is running that would train. Remedy: start it with `daybreak up`, or train without it: "
                f"daybreak models train {' '.join(f'--tenant {tenant_id}' for tenant_id in tenant_ids[:3])}."
            )
        queued = _queue(store, tenant_ids, actor or user_name(), reason.strip())
        asked = {row["tenant_id"]: row for row in _requests(store, tenant_ids) if row["status"] in OPEN}
        if not as_json:
            for tenant_id in tenant_ids:
                click.echo(_told(tenant_id, tenant_id in queued, asked.get(tenant_id), has_instance, paused))
        ended = _wait(store, [row["request_id"] for row in asked.values()]) if is_waiting else []
    if as_json:
        print_json({"requests": ended if is_waiting else list(asked.values()), "queued": sorted(queued)})
    else:
        for row in ended:
            click.echo(_line(row))
    if any(row["status"] != "completed" for row in ended):
        sys.exit(SOME_FAILED)


def _paused(store: Any) -> Any:
    from resources.store.pauses import read_paused  # noqa: PLC0415 (keeps --help fast)

    with store.transaction() as connection:
        return read_paused(connection)


def _queue(store: Any, tenant_ids: Sequence[str], actor: str, reason: str) -> set[str]:
    """Queue the tenants; returns those that were not in the queue."""
    from resources.clock import system_clock  # noqa: PLC0415 (keeps --help fast)
    from resources.store.retraining import queue_training  # noqa: PLC0415

    with store.transaction() as connection:
        return {
            tenant_id
            for tenant_id in tenant_ids
            if queue_training(connection, tenant_id, "manual", (), actor, reason, system_clock())
        }


def _requests(store: Any, tenant_ids: Sequence[str]) -> list[dict[str, Any]]:
    from resources.clock import system_clock  # noqa: PLC0415 (keeps --help fast)
    from resources.store.retraining import read_requests  # noqa: PLC0415

    with store.transaction() as connection:
        found = read_requests(connection, tenant_ids, system_clock() - timedelta(days=SHOWN_DAYS))
    rows: list[dict[str, Any]] = found.astype(object).where(found.notna(), None).to_dict("records")
    return rows


def _wait(store: Any, request_ids: Sequence[int]) -> list[dict[str, Any]]:
    """The requests once all of them are closed. Raises InstanceUnusable when the instance ends before."""
    from daybreak.runs import patiently  # noqa: PLC0415 (keeps --help fast)
    from resources.store.retraining import read_closed  # noqa: PLC0415

    def closed() -> Any:
        with store.transaction() as connection:
            return read_closed(connection, request_ids)

    while len(found := patiently(closed)) < len(request_ids):
        if not has_daemon():
            raise InstanceUnusable(
                "The instance ended before this was done. Remedy: start it with `daybreak up`; it goes on with what is queued."
            )
        time.sleep(POLL_S)
    return list(found.astype(object).where(found.notna(), None).to_dict("records"))


def _told(tenant_id: str, is_new: bool, request: dict[str, Any] | None, has_instance: bool, paused: Any) -> str:
    if request is None:
        return f"{tenant_id}: was queued and is done by now. daybreak models show --tenant {tenant_id}"
    if request["status"] == "launched":
        return f"{tenant_id}: is being trained already ({request['trigger']}: {request['reason']})"
    said = "queued" if is_new else f"is queued already ({request['trigger']}: {request['reason']})"
    when = "within a minute, when its turn comes" if has_instance else "once the instance runs: daybreak up"
    if paused.holds(tenant_id):
        when = "once scheduling, which is paused, goes on: daybreak resume"
    return f"{tenant_id}: {said}; trained {when}. It serves only if it is better than what serves now."


def _print_list(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json({"requests": rows})
        return
    if not rows:
        click.echo(f"Nothing is queued, and nothing was in the last {SHOWN_DAYS} days.")
    for row in rows:
        click.echo(_line(row))


def _line(row: dict[str, Any]) -> str:
    status = f"{row['status']} ({row['outcome']})" if row["outcome"] else row["status"]
    attempt = f", attempt {row['attempt']}" if row["attempt"] > 1 else ""
    products = f" Products: {', '.join(row['product_ids'])}." if row["product_ids"] else ""
    return (
        f"{row['tenant_id']}: {status}{attempt}, {row['trigger']} since {row['requested_at']:%Y-%m-%d %H:%M} "
        f"by {row['requested_by']}. {row['reason']}{products}"
    )
