"""Public holidays of the tenants' countries, as calendar events beside the imported ones.

What belongs here: the `holidays` library, its names and its gaps. What does not: what a holiday does to a day, which is
`planning.calendar`; a public holiday only marks days and closes no door, since many bakeries open on them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

import holidays
import numpy as np
import pandas as pd

from resources.store.database import Connection
from resources.store.inputs import read_events

LANGUAGE = "en_US"
"""Language of the names, whatever the machine's: a holiday is found a year before by its name. Where the library has no
such names, those of the country's own language."""

ESTIMATED = " (estimated)"
"""What the library writes behind a name whose date depends on the moon; the date of one year may be known and that of
the next be estimated."""


@dataclass(frozen=True)
class CalendarEvents:
    """events: tenant_id, location_id, product_id (missing: all), business_date, kind, name; imported ones and public holidays.

    unknown: tenant_id, problem and remedy of tenants whose country or subdivision the library does not know.
    """

    events: pd.DataFrame
    unknown: pd.DataFrame


@lru_cache(maxsize=4096)
def public_holidays(country: str, subdivision: str | None, year: int) -> tuple[tuple[date, str], ...]:
    """Date and name of each public holiday of a year, by date; two that fall on one day are two.

    Raises NotImplementedError for a country or subdivision that the library does not know.
    """
    languages = holidays.country_holidays(country).supported_languages
    found = holidays.country_holidays(
        country, subdiv=subdivision, years=year, language=LANGUAGE if LANGUAGE in languages else None
    )
    return tuple(
        sorted(
            {(day, name.removesuffix(ESTIMATED)) for day in found if day.year == year for name in found.get_list(day)}
        )
    )


SATURDAY_AND_SUNDAY = frozenset((5, 6))


@lru_cache(maxsize=512)
def weekend_of(country: str) -> frozenset[int]:
    """The weekdays (0 is Monday) of a country's weekend as it is now; Saturday and Sunday where the library knows none."""
    try:
        return frozenset(holidays.country_holidays(country).weekend)
    except NotImplementedError:
        return SATURDAY_AND_SUNDAY


def calendar_events(connection: Connection, tenants: pd.DataFrame, first_day: date, last_day: date) -> CalendarEvents:
    """The imported events and the public holidays of first_day through last_day.

    tenants: tenant_id, country, subdivision (missing: the whole country), as `read_tenants` gives them. A holiday that
    was imported too is there twice, which changes nothing.
    """
    imported = read_events(connection, list(tenants["tenant_id"]), first_day, last_day)
    subdivisions = [None if pd.isna(subdivision) else str(subdivision) for subdivision in tenants["subdivision"]]
    regions = pd.Series(list(zip(tenants["country"], subdivisions, strict=True)), dtype=object)
    parts, unknown = [imported], []
    for country, subdivision in sorted(set(regions), key=str):
        tenant_ids = tenants["tenant_id"].to_numpy()[(regions == (country, subdivision)).to_numpy()]
        try:
            days = _between(country, subdivision, first_day, last_day)
        except NotImplementedError as error:
            unknown += [(tenant_id, str(error), REMEDY.format(tenant_id=tenant_id)) for tenant_id in tenant_ids]
            continue
        parts.append(_events(tenant_ids, days, imported))
    filled = [part for part in parts if len(part)]
    return CalendarEvents(
        pd.concat(filled, ignore_index=True) if filled else imported,
        pd.DataFrame(unknown, columns=["tenant_id", "problem", "remedy"]),
    )


REMEDY = "Correct it: daybreak tenant set {tenant_id} --country XX --subdivision YY, or import the holidays with kind events."


def _between(country: str, subdivision: str | None, first_day: date, last_day: date) -> list[tuple[date, str]]:
    years: Iterable[int] = range(first_day.year, last_day.year + 1)
    return [
        (day, name)
        for year in years
        for day, name in public_holidays(country, subdivision, year)
        if first_day <= day <= last_day
    ]


def _events(tenant_ids: np.ndarray, days: list[tuple[date, str]], like: pd.DataFrame) -> pd.DataFrame:
    """Every day for every tenant, everywhere and for everything, in the types of another frame of events."""
    dates, names = [day for day, _ in days], [name for _, name in days]
    frame = pd.DataFrame(
        {
            "tenant_id": np.repeat(tenant_ids, len(days)),
            "location_id": None,
            "product_id": None,
            "business_date": np.tile(np.array(dates, dtype=object), len(tenant_ids)),
            "kind": "holiday",
            "name": np.tile(np.array(names, dtype=object), len(tenant_ids)),
        }
    )
    return frame.astype(like.dtypes.to_dict())
