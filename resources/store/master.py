"""Tenants and locations in the store: added, read, suspended. Master data that comes by file is `resources.imports`'."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, time
from typing import Any
from zoneinfo import available_timezones

import holidays
from psycopg import sql
from psycopg.rows import class_row

from resources.store.database import Connection
from resources.store.versions import bump_input_version

_IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9_-]{0,47}")


class MasterDataError(Exception):
    """Master data that cannot be taken, or is not there. The message carries the remedy."""


@dataclass(frozen=True)
class Tenant:
    """A bakery business. Columns of master.tenant."""

    tenant_id: str
    name: str
    timezone: str
    country: str
    created_at: datetime
    subdivision: str | None = None
    currency: str = "EUR"
    tier: str = "starter"
    status: str = "active"
    parent_tenant_id: str | None = None
    schedule_group: str = "default"
    plan_lead_days: int = 0
    auto_approve: bool = True
    default_critical_ratio: float = 0.7
    is_synthetic: bool = False


@dataclass(frozen=True)
class Location:
    """A point of sale or production site. Columns of master.location."""

    tenant_id: str
    location_id: str
    name: str
    kind: str = "both"
    is_active: bool = True


def checked(tenant: Tenant) -> Tenant:
    """The tenant itself. Raises MasterDataError with the nearest names when its id, zone, country or subdivision is none."""
    _check_identifier(tenant.tenant_id)
    zones = available_timezones()
    if tenant.timezone not in zones:
        raise MasterDataError(
            f"{tenant.timezone!r} is no time zone. {_nearest(tenant.timezone, zones, 'Write a name such as Europe/Berlin.')}"
        )
    countries = holidays.list_supported_countries(include_aliases=False)
    known = [code for code in countries if len(code) == 2]
    if tenant.country not in known:
        raise MasterDataError(
            f"{tenant.country!r} is no country code. {_nearest(tenant.country, known, 'Write two capital letters such as DE.')}"
        )
    subdivisions = countries[tenant.country]
    if tenant.subdivision is not None and tenant.subdivision not in subdivisions:
        listed = (
            f"Those of {tenant.country} are {', '.join(subdivisions)}."
            if subdivisions
            else "It has none: leave it out."
        )
        raise MasterDataError(
            f"{tenant.subdivision!r} is no subdivision of {tenant.country}. {_nearest(tenant.subdivision, subdivisions, listed)}"
        )
    if not 0 < tenant.default_critical_ratio < 1:
        raise MasterDataError(
            f"A critical ratio of {tenant.default_critical_ratio} is not between 0 and 1. Remedy: give 0.7 for most bakeries."
        )
    if not re.fullmatch("[A-Z]{3}", tenant.currency):
        raise MasterDataError(
            f"{tenant.currency!r} is no currency code. Remedy: write three capital letters such as EUR."
        )
    return tenant


def add_tenant(connection: Connection, tenant: Tenant) -> None:
    """Add a tenant whose values were `checked`. Raises MasterDataError when it exists or its parent is none."""
    if tenant.parent_tenant_id is not None:
        parent = get_tenant(connection, tenant.parent_tenant_id)
        if parent.tier != "enterprise":
            raise MasterDataError(
                f"Tenant {parent.tenant_id} is of tier {parent.tier}. "
                "Remedy: only a tenant of tier enterprise can be a parent."
            )
    if not add_tenants(connection, [tenant]):
        raise MasterDataError(
            f"There is a tenant {tenant.tenant_id!r} already. Remedy: choose another id, or see it with "
            f"`daybreak tenant show {tenant.tenant_id}`."
        )


def add_tenants(connection: Connection, tenants: Sequence[Tenant]) -> list[str]:
    """Add those that do not exist yet; returns their ids."""
    names = [column.name for column in fields(Tenant)]
    statement = sql.SQL(
        "INSERT INTO master.tenant ({}) VALUES ({}) ON CONFLICT (tenant_id) DO NOTHING RETURNING tenant_id"
    ).format(sql.SQL(", ").join(map(sql.Identifier, names)), sql.SQL(", ").join(map(sql.Placeholder, names)))
    added = []
    for tenant in tenants:
        row = connection.execute(statement, asdict(tenant)).fetchone()
        if row is not None:
            added.append(row[0])
    return added


def get_tenant(connection: Connection, tenant_id: str) -> Tenant:
    """The tenant. Raises MasterDataError, with the nearest ids, when there is none."""
    for tenant in _tenants(connection, [tenant_id]):
        return tenant
    known = [row[0] for row in connection.execute("SELECT tenant_id FROM master.tenant")]
    raise MasterDataError(
        f"There is no tenant {tenant_id!r}. {_nearest(tenant_id, known, '`daybreak tenant add` makes one.')}"
    )


def list_tenants(connection: Connection, status: str | None = None) -> list[Tenant]:
    """All tenants, or those of a status, by id."""
    return [tenant for tenant in _tenants(connection, None) if status in {None, tenant.status}]


def change_tenant(connection: Connection, tenant_id: str, changes: Mapping[str, Any], now: datetime) -> bool:
    """Set columns of a tenant; returns whether anything changed, which puts its plans out of date.

    Raises MasterDataError when there is no such tenant or schedule group, or a value is none that `checked` takes.
    """
    before = get_tenant(connection, tenant_id)
    after = replace(before, **changes)
    if after == before:
        return False
    checked(after)
    if after.schedule_group not in (groups := list_schedule_groups(connection)):
        raise MasterDataError(
            f"There is no schedule group {after.schedule_group!r}. "
            f"{_nearest(after.schedule_group, groups, '`daybreak settings schedule-group` makes one.')}"
        )
    columns = sql.SQL(", ").join(
        sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in changes
    )
    connection.execute(
        sql.SQL("UPDATE master.tenant SET {} WHERE tenant_id = %(tenant_id)s").format(columns),
        {**changes, "tenant_id": tenant_id},
    )
    bump_input_version(connection, tenant_id, "settings", now)
    return True


def list_schedule_groups(connection: Connection) -> dict[str, tuple[time, time, time]]:
    """The local times of production planning, procurement planning and forecast validation, by schedule group."""
    rows = connection.execute(
        """
        SELECT schedule_group, production_planning_at, procurement_planning_at, forecast_validation_at
          FROM master.schedule_group ORDER BY schedule_group
        """
    )
    return {group: (production, procurement, validation) for group, production, procurement, validation in rows}


def set_schedule_group(connection: Connection, group: str, times: tuple[time, time, time]) -> None:
    """Add or change a schedule group. Raises MasterDataError when its id is none or planning does not come in order."""
    _check_identifier(group)
    if times[0] > times[1]:
        raise MasterDataError(
            f"Production planning at {times[0]:%H:%M} would come after procurement planning at {times[1]:%H:%M}. "
            "Remedy: give a production time that is not later."
        )
    connection.execute(
        """
        INSERT INTO master.schedule_group VALUES (%s, %s, %s, %s)
        ON CONFLICT (schedule_group) DO UPDATE
        SET production_planning_at = excluded.production_planning_at,
            procurement_planning_at = excluded.procurement_planning_at,
            forecast_validation_at = excluded.forecast_validation_at
        """,
        (group, *times),
    )


def add_location(connection: Connection, location: Location) -> None:
    """Add a location. Raises MasterDataError when it exists or its id is none."""
    _check_identifier(location.location_id)
    row = connection.execute(
        """
        INSERT INTO master.location (tenant_id, location_id, name, kind, is_active)
        VALUES (%(tenant_id)s, %(location_id)s, %(name)s, %(kind)s, %(is_active)s) ON CONFLICT DO NOTHING RETURNING 1
        """,
        asdict(location),
    ).fetchone()
    if row is None:
        raise MasterDataError(
            f"Tenant {location.tenant_id} has a location {location.location_id!r} already. Remedy: choose another id."
        )


def list_locations(connection: Connection, tenant_id: str) -> list[Location]:
    """The tenant's locations by id."""
    with connection.cursor(row_factory=class_row(Location)) as cursor:
        return cursor.execute(
            """
            SELECT tenant_id, location_id, name, kind, is_active FROM master.location
            WHERE tenant_id = %s ORDER BY location_id
            """,
            (tenant_id,),
        ).fetchall()


def _tenants(connection: Connection, tenant_ids: Sequence[str] | None) -> list[Tenant]:
    columns = sql.SQL(", ").join(
        # A ratio is a float to everybody who reads it.
        sql.SQL("default_critical_ratio::float8")
        if column.name == "default_critical_ratio"
        else sql.Identifier(column.name)
        for column in fields(Tenant)
    )
    with connection.cursor(row_factory=class_row(Tenant)) as cursor:
        return cursor.execute(
            sql.SQL(
                "SELECT {} FROM master.tenant WHERE %(ids)s::text[] IS NULL OR tenant_id = ANY(%(ids)s) ORDER BY tenant_id"
            ).format(columns),
            {"ids": None if tenant_ids is None else list(tenant_ids)},
        ).fetchall()


def _check_identifier(text: str) -> None:
    if not _IDENTIFIER.fullmatch(text):
        raise MasterDataError(
            f"{text!r} is no id. Remedy: use up to 48 small letters a-z, digits, - and _, starting with a letter or digit."
        )


def _nearest(text: str, known: Iterable[str], otherwise: str) -> str:
    """The remedy: the nearest known names, whatever the case they are written in and also by their last part."""
    by_form: dict[str, str] = {}
    for name in sorted(known):
        by_form.setdefault(name.rpartition("/")[2].lower(), name)
        by_form[name.lower()] = name
    near = difflib.get_close_matches(text.lower(), by_form, 3)
    near += difflib.get_close_matches(text.rpartition("/")[2].lower(), by_form, 2)
    names = list(dict.fromkeys(by_form[form] for form in near))[:3]
    return f"Remedy: did you mean {' or '.join(names)}?" if names else f"Remedy: {otherwise}"
