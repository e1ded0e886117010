"""What each product will sell: simple rules that compete per tenant, and the spread that their errors show.

What belongs here: the candidate rules, their rolling backtest, the choice among them and the fallbacks. What does not:
deciding which days of the past count (`planning.demand`) and the arithmetic of spreads (`planning.quantiles`).

Every rule repeats by the week, so the code never asks which weekday a column is: histories are aligned to end on the
last history day, and the seven columns before an origin are the slots of the seven days after it.
"""

from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd

from planning import quantiles
from planning.demand import SERIES, invalid_quantities, is_history, run_days
from planning.frames import (
    FORECAST_DAYS,
    PLAN_DAYS,
    QUANTILE_LEVELS,
    Panel,
    PlanningError,
    exceptions_of,
    set_aside_of,
)

LINK = "forecasts"
CANDIDATES = ("seasonal_naive", "weekday_mean_8w", "weekday_mean_x_level")
OWN_MEAN = "own_mean"
OWNER_ESTIMATE = "owner_estimate"

RULE_VERSION = 1
"""Raised whenever a rule, the choice among rules or the spread changes: stored forecasts tell how they were made."""

PROFILE_DAYS = 56
"""Days that a weekday mean looks back: eight of each weekday."""

LEVEL_HALF_LIFE_DAYS = 3.0
"""Weight of a day in the recent level, halved every so many days. A short memory is for demand that moves: on a seasonal
shop 3 days beat 7 in summer (WAPE 0.335, 0.382) and lost in spring (0.398, 0.384), where the plain weekday mean won."""

MIN_OPEN_DAYS = 7
"""Open days that a series needs before a weekday rule is used for it."""

BACKTEST_DAYS = 28
BACKTEST_HORIZON_DAYS = 8
"""A target lies up to 8 days after the last history day: 7 forecast days and one for bakeries that bake at night."""

MIN_BACKTEST_DAYS = 14
"""Days on which a tenant's rules must have been tried before the best of them is trusted over seasonal naive."""

UNMEASURED_WIDENING = 1.1
WIDENING_LIMITS = (1.0, 1.5)
"""An extended day is one week further off than its forecast day, and its spread is as much wider as errors one week
further off were in the backtest, within these limits; 1.1 where that could not be measured."""


@dataclass(frozen=True)
class Forecasts:
    """Forecasts for PLAN_DAYS days from the plan date.

    panel: keys tenant_id, location_id, product_id, method, method_reason, model_version, last_history_on (date, None
    without history); `mean_units` (n, 14), `quantile_units` (n, 14, 9), `is_open` (n, 14). Closed days are 0. Series
    that nothing is known of are not in it; each has an exception.
    backtest: tenant_id, method, rows, wape_pct, bias_pct (NaN where undefined), is_champion.
    """

    panel: Panel
    backtest: pd.DataFrame
    exceptions: pd.DataFrame
    set_aside: pd.DataFrame


def forecast_demand(
    history: Panel, is_open: np.ndarray, products: pd.DataFrame, tenants: pd.DataFrame, plan_date: date
) -> Forecasts:
    """Forecast demand per series for the 14 days from plan_date, from history before each tenant's run date.

    history: keys tenant_id, location_id, product_id; `demand_units` (n, days), NaN where a day does not count.
    is_open: (n, 14), whether the series is on sale on plan_date + 0 … 13. products: tenant_id, product_id,
    daily_estimate_units (NaN unknown). tenants: tenant_id, run_date.

    Each tenant uses the candidate with the lowest WAPE over the last 28 days, seasonal naive where it ties. A series
    with fewer than 7 open days uses its own mean, one without any the owner's estimate. Raises PlanningError when a
    tenant is unknown, a run date lies after the plan date, or is_open does not fit.
    """
    if is_open.shape != (len(history), PLAN_DAYS):
        raise PlanningError(f"is_open has shape {is_open.shape}, expected ({len(history)}, {PLAN_DAYS}).")
    set_aside = _set_aside(history, products, tenants)
    kept = np.nonzero(~history.keys["tenant_id"].isin(set_aside["tenant_id"]).to_numpy())[0]
    # Sums depend on the order of their terms: one order for every batch keeps a tenant's forecast the same to the bit.
    order = kept[np.lexsort([history.keys[name].to_numpy(dtype=object)[kept] for name in reversed(SERIES)])]
    series = _Series.of(history.select(order), products, tenants, plan_date)
    backtest = _Backtest.of(series)
    panel, is_known = _forecast(series, backtest, is_open[order], plan_date)
    return Forecasts(
        panel=panel.select(np.argsort(order[is_known], kind="stable")),
        backtest=backtest.frame(series.tenant_ids),
        exceptions=_no_history(history.keys.iloc[np.sort(order[~is_known])], history.days),
        set_aside=set_aside,
    )


@dataclass(frozen=True)
class _Series:
    """Histories in one order, aligned so that the last column is each tenant's last history day.

    demand, last_seen: (n, days), days a multiple of 7; last_seen holds the value of the last open same weekday.
    """

    keys: pd.DataFrame
    tenant: np.ndarray
    tenant_ids: np.ndarray
    lead_days: np.ndarray
    demand: np.ndarray
    last_seen: np.ndarray
    open_days: np.ndarray
    estimate_units: np.ndarray

    @classmethod
    def of(cls, history: Panel, products: pd.DataFrame, tenants: pd.DataFrame, plan_date: date) -> "_Series":
        run_day = run_days(history.keys, tenants)
        lead_days = np.datetime64(plan_date, "D").astype(np.int64) - run_day
        if (lead_days < 0).any():
            late = history.keys["tenant_id"][lead_days < 0].iloc[0]
            raise PlanningError(
                f"Tenant {late} runs after the plan date {plan_date}; a plan is made on or before its day."
            )
        demand = _aligned(history, run_day)
        tenant, tenant_ids = pd.factorize(history.keys["tenant_id"].astype(object))
        return cls(
            keys=history.keys[SERIES],
            tenant=tenant,
            tenant_ids=np.asarray(tenant_ids, dtype=object),
            lead_days=lead_days,
            demand=demand,
            last_seen=last_same_weekday(demand),
            open_days=np.cumsum(~np.isnan(demand), axis=1, dtype=np.int32),
            estimate_units=_estimates(history.keys, products),
        )

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def days(self) -> int:
        return self.demand.shape[1]


@dataclass(frozen=True)
class _Backtest:
    """How the candidates did on the last 28 days, each row a series, an origin and a target on an open day.

    rows, actual_units, open_days (distinct target days): (tenants,). wape, bias: (candidates, tenants), shares, NaN
    where undefined. champion: (tenants,), position in CANDIDATES. residuals: scaled errors of the champions, and
    residual_series: the row of the series that each belongs to. widening: (tenants,).
    """

    rows: np.ndarray
    wape: np.ndarray
    bias: np.ndarray
    open_days: np.ndarray
    champion: np.ndarray
    residuals: np.ndarray
    residual_series: np.ndarray
    widening: np.ndarray

    @classmethod
    def of(cls, series: _Series) -> "_Backtest":
        per_tenant = _PerTenant(series.tenant, len(series.tenant_ids))
        origins = range(series.days - BACKTEST_DAYS, series.days)
        slots = {end: _filled_slots(series, end) for end in origins}
        rows, actual = np.zeros(len(series)), np.zeros(len(series))
        error, bias = np.zeros((len(CANDIDATES), len(series))), np.zeros((len(CANDIDATES), len(series)))
        is_tried = np.zeros((len(series), BACKTEST_DAYS), dtype=bool)
        for end in origins:
            units, counts = _targets(series, end, 0, BACKTEST_HORIZON_DAYS)
            rows += counts.sum(axis=1)
            actual += np.where(counts, units, 0.0).sum(axis=1)
            first = end - origins.start
            is_tried[:, first : first + counts.shape[1]] |= counts
            for candidate, forecast in enumerate(slots[end]):
                deviation = np.where(counts, _by_horizon(forecast, units) - units, 0.0)
                error[candidate] += np.abs(deviation).sum(axis=1)
                bias[candidate] += deviation.sum(axis=1)
        sold = per_tenant.sum(actual)
        sold = np.where(sold > 0, sold, np.nan)
        wape = np.stack([per_tenant.sum(row) for row in error]) / sold
        open_days = per_tenant.any(is_tried).sum(axis=1)
        # argmin takes the first of equals, and seasonal naive comes first.
        best = np.argmin(np.nan_to_num(wape, nan=np.inf), axis=0)
        champion = np.where(open_days >= MIN_BACKTEST_DAYS, best, 0)
        chosen = {end: slots[end][champion[series.tenant], np.arange(len(series))] for end in origins}
        residuals, residual_series = _residuals(series, chosen)
        return cls(
            rows=per_tenant.sum(rows).astype(np.int64),
            wape=wape,
            bias=np.stack([per_tenant.sum(row) for row in bias]) / sold,
            open_days=open_days,
            champion=champion,
            residuals=residuals,
            residual_series=residual_series,
            widening=_widening(series, chosen, per_tenant),
        )

    @property
    def is_conclusive(self) -> np.ndarray:
        """Whether a tenant's rules were tried on enough days, (tenants,)."""
        return self.open_days >= MIN_BACKTEST_DAYS

    def frame(self, tenant_ids: np.ndarray) -> pd.DataFrame:
        """One row per tenant and candidate."""
        n = len(CANDIDATES)
        return pd.DataFrame(
            {
                "tenant_id": np.repeat(tenant_ids, n),
                "method": np.tile(np.array(CANDIDATES, dtype=object), len(tenant_ids)),
                "rows": np.repeat(self.rows, n),
                "wape_pct": 100 * self.wape.T.ravel(),
                "bias_pct": 100 * self.bias.T.ravel(),
                "is_champion": (np.arange(n) == self.champion[:, None]).ravel(),
            }
        )


@dataclass(frozen=True)
class _PerTenant:
    """Sums and unions of series by tenant. Rows of a tenant lie together and add up in their own order."""

    tenant: np.ndarray
    n_tenants: int

    def sum(self, values: np.ndarray) -> np.ndarray:
        return np.bincount(self.tenant, weights=values, minlength=self.n_tenants)

    def any(self, flags: np.ndarray) -> np.ndarray:
        if not self.n_tenants:
            return np.zeros((0, flags.shape[1]), dtype=bool)
        return np.logical_or.reduceat(flags, np.searchsorted(self.tenant, np.arange(self.n_tenants)), axis=0)


def candidate_slots(demand: np.ndarray, last_seen: np.ndarray, end: int) -> np.ndarray:
    """What each candidate says after column end - 1: (candidates, n, 7), slot h - 1 for the day h (or h + 7) days on.

    demand, last_seen: (n, days), end at least 56. NaN where a candidate has no open day to go by. The recent level is
    demand over what the weekday profile would have said of the same days, both weighted by a half-life of 3 days.
    """
    recent = demand[:, end - PROFILE_DAYS : end]
    is_known = ~np.isnan(recent)
    units = np.where(is_known, recent, 0.0)
    by_week = (len(demand), PROFILE_DAYS // 7, 7)
    counts = is_known.reshape(by_week).sum(axis=1)
    profile = units.reshape(by_week).sum(axis=1) / np.maximum(counts, 1)
    weights = 0.5 ** (np.arange(PROFILE_DAYS)[::-1] / LEVEL_HALF_LIFE_DAYS)
    usual = (np.where(is_known, np.tile(profile, PROFILE_DAYS // 7), 0.0) * weights).sum(axis=1)
    level = np.where(usual > 0, (units * weights).sum(axis=1) / np.where(usual > 0, usual, 1.0), 1.0)
    profile = np.where(counts > 0, profile, np.nan)
    return np.stack([last_seen[:, end - 7 : end], profile, profile * level[:, None]])


def last_same_weekday(demand: np.ndarray) -> np.ndarray:
    """Each missing day replaced by the last known same weekday before it, which is the seasonal naive of that day.

    demand: (n, days), NaN where missing. Returns (n, days), NaN where there is no such day before.
    """
    filled = demand.copy()
    for week in range(7, demand.shape[1], 7):
        days = filled[:, week : week + 7]
        days[...] = np.where(np.isnan(days), filled[:, week - 7 : week][:, : days.shape[1]], days)
    return filled


def own_mean(demand: np.ndarray, last_seen: np.ndarray, end: int) -> np.ndarray:
    """Mean of the open days among the 56 before column end, else of the last known week; NaN without history: (n,)."""
    recent = _mean(demand[:, end - PROFILE_DAYS : end])
    return np.where(np.isnan(recent), _mean(last_seen[:, end - 7 : end]), recent)


def over_plan_days(slots: np.ndarray, lead_days: np.ndarray) -> np.ndarray:
    """Weekly slots (n, 7) after the last history day, laid over the 14 days from the plan date: (n, 14)."""
    return np.take_along_axis(slots, (lead_days[:, None] + np.arange(PLAN_DAYS)) % 7, axis=1)


def _mean(units: np.ndarray) -> np.ndarray:
    is_known = ~np.isnan(units)
    counts = is_known.sum(axis=1)
    return np.where(counts > 0, np.where(is_known, units, 0.0).sum(axis=1) / np.maximum(counts, 1), np.nan)


def _filled_slots(series: _Series, end: int) -> np.ndarray:
    """Candidates at an origin, with the series' own mean where one has nothing to go by."""
    slots = candidate_slots(series.demand, series.last_seen, end)
    return np.where(np.isnan(slots), own_mean(series.demand, series.last_seen, end)[:, None], slots)


def _targets(series: _Series, end: int, after: int, until: int) -> tuple[np.ndarray, np.ndarray]:
    """Demand of the days more than `after` and up to `until` days after an origin, and which of them are compared."""
    units = series.demand[:, end + after : end + until]
    return units, ~np.isnan(units) & (series.open_days[:, end - 1] >= MIN_OPEN_DAYS)[:, None]


def _by_horizon(slots: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Weekly slots repeated over as many days as `units` has."""
    return slots[:, np.arange(units.shape[1]) % 7]


def _residuals(series: _Series, chosen: dict[int, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Scaled residuals of the chosen forecasts and the series of each."""
    values, rows = [np.empty(0)], [np.empty(0, dtype=np.int64)]
    for end, slots in chosen.items():
        units, counts = _targets(series, end, 0, BACKTEST_HORIZON_DAYS)
        forecast = _by_horizon(slots, units)
        values.append(((units - forecast) / quantiles.scale_units(forecast))[counts])
        rows.append(np.nonzero(counts)[0])
    return np.concatenate(values), np.concatenate(rows)


def _widening(series: _Series, chosen: dict[int, np.ndarray], per_tenant: _PerTenant) -> np.ndarray:
    """How much larger errors are a week further off, per tenant: the same forecasts against days 1 to 7 and 8 to 14."""
    near, far, pairs = np.zeros(len(series)), np.zeros(len(series)), np.zeros(len(series))
    for end, slots in chosen.items():
        later, later_counts = _targets(series, end, 7, 14)
        width = later.shape[1]
        units, counts = _targets(series, end, 0, width)
        both = counts & later_counts
        near += np.where(both, np.abs(units - slots[:, :width]), 0.0).sum(axis=1)
        far += np.where(both, np.abs(later - slots[:, :width]), 0.0).sum(axis=1)
        pairs += both.sum(axis=1)
    near_sum, far_sum = per_tenant.sum(near), per_tenant.sum(far)
    is_measured = (per_tenant.sum(pairs) >= quantiles.MIN_RESIDUALS) & (near_sum > 0)
    ratio = np.where(is_measured, far_sum / np.where(is_measured, near_sum, 1.0), UNMEASURED_WIDENING)
    return np.clip(ratio, *WIDENING_LIMITS)


def _forecast(series: _Series, backtest: _Backtest, is_open: np.ndarray, plan_date: date) -> tuple[Panel, np.ndarray]:
    """The forecasts of the series that something is known of, and which those are."""
    end = series.days
    open_days = series.open_days[:, -1]
    by_rule = open_days >= MIN_OPEN_DAYS
    by_mean = (open_days > 0) & ~by_rule
    is_known = (open_days > 0) | ~np.isnan(series.estimate_units)
    champion = backtest.champion[series.tenant]
    mean = own_mean(series.demand, series.last_seen, end)

    rule = candidate_slots(series.demand, series.last_seen, end)[champion, np.arange(len(series))]
    flat = np.where(by_mean, mean, series.estimate_units)[:, None]
    slots = np.where(by_rule[:, None], np.where(np.isnan(rule), mean[:, None], rule), flat)
    mean_units = np.where(is_open, over_plan_days(slots, series.lead_days), 0.0)[is_known]
    quantile_units, spread, counts = _spread(
        series, backtest, volume_units=mean, by_rule=by_rule, mean_units=mean_units, is_known=is_known
    )

    method = np.where(by_rule, champion, np.where(by_mean, len(CANDIDATES), len(CANDIDATES) + 1))
    is_patched = by_rule & (np.isnan(over_plan_days(rule, series.lead_days)) & is_open).any(axis=1)
    names = np.array([*CANDIDATES, OWN_MEAN, OWNER_ESTIMATE], dtype=object)
    run_date = np.datetime64(plan_date, "D") - series.lead_days
    last_history_on = pd.Series(run_date - 1).dt.date.where(open_days > 0, None)
    reasons = _reasons(backtest, series.tenant, method=method, is_patched=is_patched, spread=spread, counts=counts)
    keys = series.keys[is_known].assign(
        method=pd.array(names[method[is_known]], dtype="str"),
        method_reason=pd.array(reasons[is_known], dtype="str"),
        model_version=pd.array((names + f"@{RULE_VERSION}")[method[is_known]], dtype="str"),
        last_history_on=last_history_on.to_numpy(dtype=object)[is_known],
    )
    values = {
        "mean_units": mean_units,
        # The smallest scale gives even a mean of 0 a spread, which a closed day must not have.
        "quantile_units": np.where(is_open[is_known][:, :, None], quantile_units, 0.0),
        "is_open": is_open[is_known],
    }
    return Panel(keys.reset_index(drop=True), values, plan_date), is_known


def _spread(
    series: _Series,
    backtest: _Backtest,
    *,
    volume_units: np.ndarray,
    by_rule: np.ndarray,
    mean_units: np.ndarray,
    is_known: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Quantiles of the known series, and of every series where they come from (0 class, 1 tenant, 2 assumed) and of how
    many residuals."""
    n_tenants = len(series.tenant_ids)
    group = series.tenant * quantiles.VOLUME_CLASSES + quantiles.volume_classes(series.tenant, volume_units)
    by_class, class_counts = quantiles.grouped_quantiles(
        backtest.residuals, group[backtest.residual_series], n_tenants * quantiles.VOLUME_CLASSES
    )
    by_tenant, tenant_counts = quantiles.grouped_quantiles(
        backtest.residuals, series.tenant[backtest.residual_series], n_tenants
    )
    is_tried = by_rule & backtest.is_conclusive[series.tenant]
    has_class = is_tried & (class_counts[group] >= quantiles.MIN_RESIDUALS)
    has_tenant = is_tried & (tenant_counts[series.tenant] >= quantiles.MIN_RESIDUALS)
    spread = np.where(has_class, 0, np.where(has_tenant, 1, 2))
    counts = np.where(has_class, class_counts[group], np.where(has_tenant, tenant_counts[series.tenant], 0))

    residuals = np.where(has_class[:, None], by_class[group], by_tenant[series.tenant])[is_known]
    is_assumed = spread[is_known] == 2
    units = np.empty((*mean_units.shape, len(QUANTILE_LEVELS)))
    units[~is_assumed] = quantiles.residual_spread(mean_units[~is_assumed], residuals[~is_assumed])
    units[is_assumed] = quantiles.assumed_spread(mean_units[is_assumed])
    widening = backtest.widening[series.tenant[is_known]][:, None, None]
    mean = mean_units[:, :, None]
    units[:, FORECAST_DAYS:] = mean[:, FORECAST_DAYS:] + widening * (units - mean)[:, FORECAST_DAYS:]
    return quantiles.orderly(units, mean_units), spread, counts


def _reasons(
    backtest: _Backtest,
    tenant: np.ndarray,
    *,
    method: np.ndarray,
    is_patched: np.ndarray,
    spread: np.ndarray,
    counts: np.ndarray,
) -> np.ndarray:
    """Why each series has its method and its spread, written once per distinct combination."""
    combinations, row = np.unique(
        np.stack([tenant, method, is_patched, spread, counts], axis=1), axis=0, return_inverse=True
    )
    texts = [
        _method_reason(backtest, of_tenant, of_method)
        + ("; own mean on weekdays without history" if patched else "")
        + _spread_reason(of_spread, count)
        for of_tenant, of_method, patched, of_spread, count in combinations.tolist()
    ]
    return np.array(texts, dtype=object)[row]


def _method_reason(backtest: _Backtest, tenant: int, method: int) -> str:
    if method == len(CANDIDATES):
        return f"fewer than {MIN_OPEN_DAYS} open days of history: their mean"
    if method > len(CANDIDATES):
        return "no history: the owner's estimate per day"
    if not backtest.is_conclusive[tenant]:
        return (
            f"{CANDIDATES[method]} until the rules can be compared on {MIN_BACKTEST_DAYS} days, "
            f"now {backtest.open_days[tenant]}"
        )
    wapes = 100 * backtest.wape[:, tenant]
    if np.isnan(wapes).any():
        return f"{CANDIDATES[method]}, since nothing was sold in the last {BACKTEST_DAYS} days"
    others = ", ".join(
        f"{name} {wape:.1f} %" for name, wape in zip(CANDIDATES, wapes, strict=True) if name != CANDIDATES[method]
    )
    return f"WAPE {wapes[method]:.1f} % over the last {BACKTEST_DAYS} days ({others})"


def _spread_reason(spread: int, count: int) -> str:
    if spread == 2:
        return f"; spread assumed: counting noise and {quantiles.ASSUMED_CV:.0%} error of the mean"
    return f"; spread from {count} residuals of " + ("its volume class" if spread == 0 else "all products")


def _aligned(history: Panel, run_day: np.ndarray) -> np.ndarray:
    """Demand with each tenant's last history day in the last column: (n, days), NaN where the panel has no such day."""
    units = history["demand_units"]
    days = max(BACKTEST_DAYS + PROFILE_DAYS, -(-history.days // 7) * 7)
    shifts = run_day - days - np.datetime64(history.first_day, "D").astype(np.int64)
    aligned = np.full((len(history), days), np.nan)
    # A batch has as many shifts as lead days in use.
    for shift in np.unique(shifts):
        first, last = max(0, -shift), min(days, history.days - shift)
        if first < last:
            rows = shifts == shift
            aligned[rows, first:last] = units[rows, first + shift : last + shift]
    return aligned


def _estimates(keys: pd.DataFrame, products: pd.DataFrame) -> np.ndarray:
    """The owner's estimate per open day of each series, NaN where there is none."""
    by = ["tenant_id", "product_id"]
    merged = keys[by].merge(products[[*by, "daily_estimate_units"]], on=by, how="left", validate="many_to_one")
    return merged["daily_estimate_units"].to_numpy(dtype=np.float64)


def _set_aside(history: Panel, products: pd.DataFrame, tenants: pd.DataFrame) -> pd.DataFrame:
    """Tenants whose demand or estimates are no quantities."""
    demand = np.where(is_history(history, tenants), history["demand_units"], np.nan)
    by_demand = invalid_quantities(history, demand, LINK, "demand", "Rebuild demand_history from the sales.")
    estimates = products["daily_estimate_units"].to_numpy(dtype=np.float64)
    wrong = products[((estimates < 0) | np.isinf(estimates)) & products["tenant_id"].isin(history.keys["tenant_id"])]
    by_estimate = set_aside_of(
        (
            product.tenant_id,
            LINK,
            f"daily estimate of product {product.product_id}: {product.daily_estimate_units:g} units, "
            "but a quantity is finite and not negative",
            "Correct daily_estimate_units of the product.",
        )
        for product in wrong.sort_values(["tenant_id", "product_id"]).drop_duplicates("tenant_id").itertuples()
    )
    both = [frame for frame in (by_demand, by_estimate) if len(frame)]
    return (
        pd.concat(both, ignore_index=True).drop_duplicates("tenant_id", ignore_index=True) if both else set_aside_of()
    )


def _no_history(keys: pd.DataFrame, days: int) -> pd.DataFrame:
    """A product that nothing is known of has no forecast; a forecast of zero would claim that nobody wants it."""
    return exceptions_of(
        (
            key.tenant_id,
            LINK,
            key.location_id,
            "product",
            key.product_id,
            "no_history",
            f"product {key.product_id} has no sales at location {key.location_id} in the last {days} days and no daily "
            "estimate: not forecast",
            "Import its sales, enter daily_estimate_units for the product, or take it off the location's assortment.",
        )
        for key in keys.itertuples()
    )
