"""The workshop: the frames that say what ovens and mixers there are, when they work, and what each product passes through.

What belongs here: reading those frames, and wall-clock times as instants. What does not: whether a plan fits them
(capacity), in which runs a dough is mixed (doughs), and when in the night a batch is baked (scheduling).

Instants are seconds of UTC since 1970 in float64, NaN where unknown, so that elapsed time is a difference, also in the
nights in which the clocks change.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from planning.frames import frame_of
from planning.keys import code_positions, key_codes, matches

PLACE = ["tenant_id", "location_id"]
MIXER = "mixer"
DAY_SECONDS = 86_400


@dataclass(frozen=True)
class Workshop:
    """What the places of production of a batch's tenants can do.

    resources: tenant_id, resource_id, location_id, kind (oven, mixer, prover, labour), capacity (held at a time, in
        capacity_unit; kg for mixers), available_from (datetime.time, local).
    calendar: tenant_id, resource_id, on_date, from_at, until_at (datetime.time; None: to the end of the day), capacity:
        what the resource holds in that time instead of the usual; 0 while it is down.
    steps: tenant_id, item_id, step_no (ascending), resource_kind, resource_id (None: any of the kind at the place),
        minutes, capacity_use (of a batch; ignored for mixers), wait_minutes (before the next step). Items are products and
        doughs; an item without steps takes no capacity and gets no times.
    opening: tenant_id, location_id, weekday (0 is Monday), opens_at (datetime.time): the default of a product's ready_by.
    """

    resources: pd.DataFrame
    calendar: pd.DataFrame
    steps: pd.DataFrame
    opening: pd.DataFrame

    @classmethod
    def empty(cls) -> "Workshop":
        """A workshop of which nothing is known, so that nothing limits it."""
        return cls(
            frame_of(("tenant_id", "resource_id", "location_id", "kind", "capacity", "available_from")),
            frame_of(("tenant_id", "resource_id", "on_date", "from_at", "until_at", "capacity")),
            frame_of(
                (
                    "tenant_id",
                    "item_id",
                    "step_no",
                    "resource_kind",
                    "resource_id",
                    "minutes",
                    "capacity_use",
                    "wait_minutes",
                )
            ),
            frame_of(("tenant_id", "location_id", "weekday", "opens_at")),
        )


@dataclass(frozen=True)
class Routing:
    """The steps of items at places, with the resources there that can do them.

    steps: by item row, then step_no: row (of the items asked for), step_no, kind, resource (position in resources of the
        one that does it, -1 if any of the pool can), pool (of the kind at the place; -1: there is none), seconds,
        capacity_use, wait_seconds, is_elsewhere (it names a resource that is not at the place). Mixers take one run or
        batch at a time, so their capacity_use is 1. A batch that needs more of a resource than it holds goes through in
        equal loads, one after the other.
    resources: tenant_id, resource_id, location_id, kind, capacity, available_from; ascending by place and resource_id.
    pool: of each resource (r,), those of one kind at one place.
    """

    steps: pd.DataFrame
    resources: pd.DataFrame
    pool: np.ndarray


@dataclass(frozen=True)
class Downtime:
    """Disjoint times at which resources hold something else than usual: position in resources, start, end, capacity."""

    resource: np.ndarray
    start: np.ndarray
    end: np.ndarray
    capacity: np.ndarray


def seconds_of_day(times: pd.Series) -> np.ndarray:
    """Seconds since midnight of datetime.time values (n,), NaN where there is none."""
    codes, distinct_times = pd.factorize(times)
    seconds = [at.hour * 3600 + at.minute * 60 + at.second for at in distinct_times]
    return np.array([*seconds, np.nan], dtype=float)[codes]


def instants(zones: np.ndarray, days: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """The instants at which wall clocks show `seconds` after midnight of `days`.

    zones: IANA names (n,); days: datetime64[D] and seconds (NaN: unknown), both (n, d) or broadcastable to it. A time that
    occurs twice is the first of the two; one that the clocks skip is counted on from before the gap.
    """
    zone, names = pd.factorize(np.asarray(zones, dtype=object))
    zone, days, seconds = np.broadcast_arrays(zone[:, None], days, seconds)
    is_known = ~np.isnan(seconds)
    day = days.astype("datetime64[D]").astype(np.int64)[is_known]
    key = (zone[is_known] * 10_000_000 + day) * DAY_SECONDS + seconds[is_known].astype(np.int64)
    distinct_keys, at = np.unique(key, return_inverse=True)
    found = np.empty(len(distinct_keys))
    zone_infos = [ZoneInfo(name) for name in names]
    midnight = datetime(1970, 1, 1)  # noqa: DTZ001 (a wall clock; its zone is put on below)
    for n, (day_key, second) in enumerate(zip(*np.divmod(distinct_keys, DAY_SECONDS), strict=True)):
        zone_number, day_number = divmod(int(day_key), 10_000_000)
        local = midnight + timedelta(days=day_number, seconds=int(second))
        found[n] = local.replace(tzinfo=zone_infos[zone_number]).timestamp()
    out = np.full(zone.shape, np.nan)
    out[is_known] = found[at]
    return out


def as_datetime(instant: float) -> datetime | None:
    """An instant as an aware datetime in UTC; None where it is not known."""
    return None if np.isnan(instant) else datetime.fromtimestamp(instant, UTC)


def as_instants(moments: pd.Series) -> np.ndarray:
    """Aware datetimes (n,) as instants; NaN where there is none. Raises ValueError for one without a time zone."""
    codes, distinct_moments = pd.factorize(moments)
    if any(moment.tzinfo is None for moment in distinct_moments):
        raise ValueError("a moment without a time zone: give aware datetimes")
    return np.array([*(moment.timestamp() for moment in distinct_moments), np.nan])[codes]


def ready_by_instants(
    made: pd.DataFrame, opening: pd.DataFrame, tenants: pd.DataFrame, first_day: date, days: int
) -> np.ndarray:
    """When the first units of products are needed, as instants (n, days); NaN where that is not known.

    made: tenant_id, location_id (where it is made), ready_by (datetime.time, or None: when the place opens on that
    weekday). opening: see Workshop. tenants: tenant_id, timezone (IANA name).
    """
    ready_by = made["ready_by"] if "ready_by" in made else pd.Series(None, index=made.index, dtype=object)
    codes, own = pd.factorize(seconds_of_day(ready_by), use_na_sentinel=False)
    place = key_codes(PLACE, made)[0]
    _, first, row = np.unique(place * (len(own) + 1) + codes, return_index=True, return_inverse=True)
    wanted = made[PLACE].iloc[first]

    day = np.datetime64(first_day, "D") + np.arange(days)
    weekday = (first_day.weekday() + np.arange(days)) % 7
    opens = _opening_seconds(wanted, opening)[:, weekday]
    given = own[codes[first]][:, None]
    seconds = np.where(np.isnan(given), opens, given)
    return instants(zones_of(wanted, tenants), day[None, :], seconds)[row]


def zones_of(rows: pd.DataFrame, tenants: pd.DataFrame) -> np.ndarray:
    """The time zone of each row's tenant (n,). Raises ValueError for a tenant that is not among the tenants."""
    at = code_positions(*key_codes(["tenant_id"], rows, tenants))
    if (at < 0).any():
        missing = rows["tenant_id"].to_numpy()[at < 0][0]
        raise ValueError(f"tenant {missing} is not among the tenants, so its time zone is not known")
    return tenants["timezone"].to_numpy(dtype=object)[at]


def routing_of(items: pd.DataFrame, workshop: Workshop) -> Routing:
    """The steps of items at places. items: tenant_id, location_id, item_id, once each."""
    resources = workshop.resources
    resources = resources.iloc[np.argsort(key_codes([*PLACE, "resource_id"], resources)[0], kind="stable")]
    resources = resources.reset_index(drop=True)
    held = resources["capacity"].to_numpy(dtype=float)
    resources["capacity"] = held

    item, step_item = key_codes(["tenant_id", "item_id"], items, workshop.steps)
    order = np.lexsort((workshop.steps["step_no"].to_numpy(dtype=np.int64), step_item))
    row, at = matches(item, step_item[order])
    steps = workshop.steps.iloc[order[at]].rename(columns={"resource_kind": "kind"})
    asked = (
        items[PLACE]
        .iloc[row]
        .assign(kind=steps["kind"].to_numpy(dtype=object), resource_id=steps["resource_id"].to_numpy(dtype=object))
    )
    of_resource, of_step = key_codes([*PLACE, "kind"], resources, asked)
    pool_keys, pool = np.unique(of_resource, return_inverse=True)
    step_pool = code_positions(of_step, pool_keys)
    is_named = asked["resource_id"].notna().to_numpy()
    in_place, wanted = key_codes([*PLACE, "resource_id"], resources, asked)
    named = np.where(is_named, code_positions(wanted, in_place), -1)
    step_pool = np.where(named >= 0, np.append(pool, -1)[named], step_pool)
    # A pool of one is that resource.
    members = np.bincount(pool, minlength=len(pool_keys) + 1)
    first_member = np.append(np.unique(pool, return_index=True)[1], -1)
    resource = np.where((named < 0) & (members[step_pool] == 1), first_member[step_pool], named)

    largest = np.zeros(len(pool_keys) + 1)
    np.maximum.at(largest, pool, held)
    largest[-1] = np.inf
    holds = np.where(resource >= 0, np.append(held, np.inf)[resource], largest[step_pool])
    kind = asked["kind"].to_numpy(dtype=object)
    is_mixer = kind == MIXER
    use = np.where(is_mixer, 1.0, steps["capacity_use"].to_numpy(dtype=float))
    loads = np.where(is_mixer, 1.0, np.maximum(np.ceil(np.round(use / holds, 6)), 1.0))
    return Routing(
        pd.DataFrame(
            {
                "row": row,
                "step_no": steps["step_no"].to_numpy(dtype=np.int64),
                "kind": pd.Series(kind, dtype=object),
                "resource": resource,
                "pool": step_pool,
                "seconds": np.round(steps["minutes"].to_numpy(dtype=float) * 60 * loads),
                "capacity_use": use / loads,
                "wait_seconds": np.round(steps["wait_minutes"].to_numpy(dtype=float) * 60),
                "is_elsewhere": is_named & (named < 0),
            }
        ),
        resources,
        pool,
    )


def starts_of(resources: pd.DataFrame, latest: np.ndarray, zones: np.ndarray, first_day: date) -> np.ndarray:
    """From when each resource works for each plan date, as instants (r, days): the last available_from before `latest`.

    latest: (r, days), when the last product of its place is needed; NaN where unknown.
    """
    seconds = seconds_of_day(resources["available_from"])
    seconds = np.where(np.isnan(seconds), 0.0, seconds)[:, None]
    day = (np.datetime64(first_day, "D") + np.arange(latest.shape[1]))[None, :]
    same_day = instants(zones, day, seconds)
    day_before = instants(zones, day - 1, seconds)
    return np.where(np.isnan(latest), np.nan, np.where(same_day < latest, same_day, day_before))


def downtime_of(calendar: pd.DataFrame, resources: pd.DataFrame, tenants: pd.DataFrame) -> Downtime:
    """The calendar as disjoint times. Where entries of a resource overlap, it holds the least that any of them says."""
    at = code_positions(*key_codes(["tenant_id", "resource_id"], calendar, resources))
    entries = calendar[at >= 0]
    if entries.empty:
        return Downtime(np.zeros(0, dtype=np.int64), *(np.zeros(0) for _ in range(3)))
    zones = zones_of(entries, tenants)
    day = pd.to_datetime(entries["on_date"]).to_numpy(dtype="datetime64[D]")[:, None]
    from_seconds, until_seconds = (seconds_of_day(entries[name])[:, None] for name in ("from_at", "until_at"))
    start = instants(zones, day, np.where(np.isnan(from_seconds), 0.0, from_seconds))[:, 0]
    is_open_ended = np.isnan(until_seconds)
    end = instants(zones, np.where(is_open_ended, day + 1, day), np.where(is_open_ended, 0.0, until_seconds))[:, 0]
    rows = sorted(
        zip(at[at >= 0].tolist(), start.tolist(), end.tolist(), entries["capacity"].astype(float), strict=True)
    )
    return _disjoint(rows)


def _disjoint(rows: list[tuple[int, float, float, float]]) -> Downtime:
    """Entries (resource, start, end, capacity), ascending, cut where another of the resource begins or ends."""
    of_resource: dict[int, list[tuple[float, float, float]]] = {}
    for resource, start, end, capacity in rows:
        of_resource.setdefault(resource, []).append((start, end, capacity))
    cut: list[tuple[int, float, float, float]] = []
    for resource, entries in of_resource.items():
        edges = sorted({edge for start, end, _ in entries for edge in (start, end)})
        for begin, finish in pairwise(edges):
            held = [capacity for start, end, capacity in entries if start <= begin and finish <= end]
            if held:
                cut.append((resource, begin, finish, min(held)))
    resource_at, start_at, end_at, capacity_at = (np.array(column) for column in zip(*cut, strict=True))
    return Downtime(resource_at.astype(np.int64), start_at, end_at, capacity_at)


def _opening_seconds(places: pd.DataFrame, opening: pd.DataFrame) -> np.ndarray:
    """When each place opens on each weekday (n, 7), in seconds of the day; NaN on a day that it does not."""
    if opening.empty:
        return np.full((len(places), 7), np.nan)
    known = opening[[*PLACE]].drop_duplicates(ignore_index=True)
    # Two openings on one day: the first.
    seconds = np.full((len(known) + 1, 7), np.inf)
    row, weekday = code_positions(*key_codes(PLACE, opening, known)), opening["weekday"].to_numpy(dtype=int)
    np.fmin.at(seconds, (row, weekday), seconds_of_day(opening["opens_at"]))
    return np.where(np.isinf(seconds), np.nan, seconds)[code_positions(*key_codes(PLACE, places, known))]
