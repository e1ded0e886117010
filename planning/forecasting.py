"""What each product will sell: a tenant's model where one serves, else the best of the simple rules, and how sure that is.

What belongs here: who serves a series, the rules' rolling backtest and the choice among them, the fallbacks for products
with little history. What does not: deciding which days of the past count (`planning.demand`), what a rule says
(`planning.rules`), the model (`planning.boosting`), the arithmetic of spreads (`planning.quantiles`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd

from planning import quantiles
from planning.calendar import SERIES, Calendar
from planning.champion import ServingModel
from planning.demand import invalid_quantities, is_history, run_days
from planning.features import TRAINED_HORIZON_DAYS, WINDOW_DAYS, Past, build_features
from planning.frames import (
    PLAN_DAYS,
    Panel,
    PlanningError,
    exceptions_of,
    set_aside_of,
)
from planning.origins import MIN_OPEN_DAYS
from planning.quantiles import SeriesSpread, Spread
from planning.rules import (
    BOOSTING,
    CANDIDATES,
    PROFILE_DAYS,
    SEASONAL_NAIVE,
    candidate_slots,
    filled_slots,
    last_same_weekday,
    own_mean,
)

LINK = "forecasts"
OWN_MEAN = "own_mean"
OWNER_ESTIMATE = "owner_estimate"
ANALOGUE = "analogue"

RULE_VERSION = 2
"""Raised whenever a rule, the choice among rules or the spread changes: stored forecasts tell how they were made."""

BACKTEST_DAYS = 28
MIN_BACKTEST_DAYS = 14
"""Days on which a tenant's rules must have been tried before the best of them is trusted over seasonal naive."""


@dataclass(frozen=True)
class Forecasts:
    """Forecasts for PLAN_DAYS days from the plan date.

    panel: keys tenant_id, location_id, product_id, method, method_reason, model_version, last_history_on (date, None
    without history), volume_class (0, the slowest quarter of its tenant's series, to 3); `mean_units` (n, 14),
    `quantile_units` (n, 14, 9), `is_open` (n, 14). Closed days are 0. The mean is that of the curve through the quantiles;
    `raw_mean_units` (n, 14) is what the rule or model said before its recent mean error was taken off. Series that nothing
    is known of are not in it; each has an exception.
    backtest: of the rules, for tenants without a model: tenant_id, method, rows, wape_pct, bias_pct (NaN where
    undefined), is_champion.
    """

    panel: Panel
    backtest: pd.DataFrame
    exceptions: pd.DataFrame
    set_aside: pd.DataFrame


def forecast_demand(
    history: Panel,
    calendar: Calendar,
    products: pd.DataFrame,
    tenants: pd.DataFrame,
    plan_date: date,
    models: Mapping[str, ServingModel] | None = None,
) -> Forecasts:
    """Forecast demand per series for the 14 days from plan_date, from history before each tenant's run date.

    history: keys tenant_id, location_id, product_id; `demand_units` (n, days), NaN where a day does not count.
    calendar: of the same series, from the history's first day through plan_date + 13 at least. products: tenant_id,
    product_id, daily_estimate_units (NaN unknown). tenants: tenant_id, run_date. models: tenant_id -> what serves it.

    A tenant without a model uses the rule with the lowest WAPE over the last 28 days, seasonal naive where it ties. Where a
    model serves, a series without an open day in the last eight weeks, of which it sees nothing, uses seasonal naive. A
    series with fewer than 7 open days uses its own mean, one without any the owner's estimate, else what the product
    sells at the tenant's other locations. Raises PlanningError when a tenant is unknown, a run date lies after the plan
    date, or the calendar does not fit.
    """
    models = models or {}
    if (
        len(calendar.place) != len(history)
        or calendar.first_day != history.first_day
        or calendar.days < history.column(plan_date) + PLAN_DAYS
    ):
        raise PlanningError(
            f"The calendar of {len(calendar.place)} series and {calendar.days} days from {calendar.first_day} does not fit the "
            f"history of {len(history)} from {history.first_day} and {PLAN_DAYS} days from {plan_date}."
        )
    set_aside = _set_aside(history, products, tenants)
    kept = np.nonzero(~history.keys["tenant_id"].isin(set_aside["tenant_id"]).to_numpy())[0]
    # Sums depend on the order of their terms: one order for every batch keeps a tenant's forecast the same to the bit.
    order = kept[np.lexsort([history.keys[name].to_numpy(dtype=object)[kept] for name in reversed(SERIES)])]
    ordered, calendar = history.select(order), calendar.select(order)
    series = Series.of(ordered, products, tenants, plan_date)
    mean = own_mean(series.demand, series.last_seen, series.days)
    made = _Made.empty(quantiles.volume_classes(series.tenant, mean))
    has_model = np.isin(series.tenant_ids, list(models))[series.tenant]
    # A model sees nothing of a series whose window of features holds no open day.
    is_seen = ~np.isnan(series.demand[:, -WINDOW_DAYS:]).all(axis=1)
    by_rule = np.nonzero(~has_model)[0]
    rule_series = series.select(by_rule)
    backtest = RuleBacktest.of(rule_series)
    _by_rules(made, by_rule, rule_series, backtest)
    is_enough = has_model & (series.open_days[:, -1] >= MIN_OPEN_DAYS)
    is_open = calendar.window(plan_date, PLAN_DAYS).is_open
    _by_models(made, np.nonzero(is_enough & is_seen)[0], series, ordered, calendar, is_open, models)
    _by_naive(made, np.nonzero(is_enough & ~is_seen)[0], series)
    is_known = _with_little_history(made, series)
    panel = _panel(made, series, is_open, is_known, plan_date)
    return Forecasts(
        panel=panel.select(np.argsort(order[is_known], kind="stable")),
        backtest=backtest.frame(rule_series.tenant_ids),
        exceptions=_no_history(history.keys.iloc[np.sort(order[~is_known])], history.days),
        set_aside=set_aside,
    )


@dataclass(frozen=True)
class Series:
    """Histories in one order, aligned so that the last column is each tenant's last history day.

    demand, last_seen: (n, days), days a multiple of 7; last_seen holds the value of the last open same weekday.
    lead_days: from the run date to the plan date; behind_days: from the history panel's last day back to the tenant's.
    """

    keys: pd.DataFrame
    tenant: np.ndarray
    tenant_ids: np.ndarray
    lead_days: np.ndarray
    behind_days: np.ndarray
    demand: np.ndarray
    last_seen: np.ndarray
    open_days: np.ndarray
    estimate_units: np.ndarray

    @classmethod
    def of(cls, history: Panel, products: pd.DataFrame, tenants: pd.DataFrame, plan_date: date) -> "Series":
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
            behind_days=history.days - (run_day - np.datetime64(history.first_day, "D").astype(np.int64)),
            demand=demand,
            last_seen=last_same_weekday(demand),
            open_days=np.cumsum(~np.isnan(demand), axis=1, dtype=np.int32),
            estimate_units=_estimates(history.keys, products),
        )

    def select(self, rows: np.ndarray) -> "Series":
        """The series at these positions, ascending."""
        kept, tenant = np.unique(self.tenant[rows], return_inverse=True)
        return Series(
            keys=self.keys.iloc[rows].reset_index(drop=True),
            tenant=tenant,
            tenant_ids=self.tenant_ids[kept],
            lead_days=self.lead_days[rows],
            behind_days=self.behind_days[rows],
            demand=self.demand[rows],
            last_seen=self.last_seen[rows],
            open_days=self.open_days[rows],
            estimate_units=self.estimate_units[rows],
        )

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def days(self) -> int:
        return self.demand.shape[1]


@dataclass(frozen=True)
class RuleBacktest:
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
    def of(cls, series: Series) -> "RuleBacktest":
        per_tenant = _PerTenant(series.tenant, len(series.tenant_ids))
        origins = range(series.days - BACKTEST_DAYS, series.days)
        slots = {end: filled_slots(series.demand, series.last_seen, end) for end in origins}
        rows, actual = np.zeros(len(series)), np.zeros(len(series))
        error, bias = np.zeros((len(CANDIDATES), len(series))), np.zeros((len(CANDIDATES), len(series)))
        is_tried = np.zeros((len(series), BACKTEST_DAYS), dtype=bool)
        for end in origins:
            units, counts = _targets(series, end, 0, TRAINED_HORIZON_DAYS)
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


def over_plan_days(slots: np.ndarray, lead_days: np.ndarray) -> np.ndarray:
    """Weekly slots (n, 7) after the last history day, laid over the 14 days from the plan date: (n, 14)."""
    return np.take_along_axis(slots, (lead_days[:, None] + np.arange(PLAN_DAYS)) % 7, axis=1)


@dataclass(frozen=True)
class _Made:
    """What has been decided of each series, before closed days and the curve: one row per series, filled in place.

    volume_class: (n,). mean_units: (n, 14), as the rule or model said; spread: of the series; method, reason, version:
    text, (n,).
    """

    volume_class: np.ndarray
    mean_units: np.ndarray
    spread: SeriesSpread
    method: np.ndarray
    reason: np.ndarray
    version: np.ndarray

    @classmethod
    def empty(cls, volume_class: np.ndarray) -> "_Made":
        n = len(volume_class)
        text = [np.full(n, "", dtype=object) for _ in range(3)]
        return cls(volume_class, np.full((n, PLAN_DAYS), np.nan), SeriesSpread.assumed(n), *text)


def _by_rules(made: _Made, rows: np.ndarray, series: "Series", backtest: "RuleBacktest") -> None:
    """Fill the series of tenants that no model serves."""
    if not len(rows):
        return
    champion = backtest.champion[series.tenant]
    slots = candidate_slots(series.demand, series.last_seen, series.days)[champion, np.arange(len(series))]
    mean = own_mean(series.demand, series.last_seen, series.days)
    units = over_plan_days(slots, series.lead_days)
    is_patched = np.isnan(units).any(axis=1)
    made.mean_units[rows] = np.where(np.isnan(units), mean[:, None], units)

    volume_class = made.volume_class[rows]
    n_tenants = len(series.tenant_ids)
    # Residuals come by origin; a tenant's lie together once they are in the order of its series.
    by_series = np.argsort(backtest.residual_series, kind="stable")
    residuals, of_series = backtest.residuals[by_series], backtest.residual_series[by_series]
    starts = np.searchsorted(of_series, np.searchsorted(series.tenant, np.arange(n_tenants + 1)))
    for tenant in np.flatnonzero(backtest.is_conclusive):
        own = slice(starts[tenant], starts[tenant + 1])
        of_tenant = series.tenant == tenant
        spread = Spread.of(residuals[own], volume_class[of_series[own]], float(backtest.widening[tenant]))
        made.spread.put(rows[of_tenant], spread.of_classes(volume_class[of_tenant]))
    names = np.array(CANDIDATES, dtype=object)
    made.method[rows] = names[champion]
    made.version[rows] = (names + f"@{RULE_VERSION}")[champion]
    reasons = np.array([_rule_reason(backtest, tenant) for tenant in range(n_tenants)], dtype=object)
    patched = np.where(is_patched, "; own mean on weekdays without history", "").astype(object)
    made.reason[rows] = reasons[series.tenant] + patched


def _by_models(
    made: _Made,
    rows: np.ndarray,
    series: "Series",
    history: Panel,
    calendar: Calendar,
    is_open: np.ndarray,
    models: Mapping[str, ServingModel],
) -> None:
    """Fill the series of tenants that a model serves: features of all of them at once, then a prediction per tenant.

    is_open: (n, 14) of all series. Prediction takes most of a morning's time, so nothing is predicted of closed days.
    """
    if not len(rows):
        return
    origin = history.days - series.behind_days[rows] - 1
    past = Past.of(history["demand_units"], calendar, int(origin.min()))
    horizon = series.lead_days[rows, None] + 1 + np.arange(PLAN_DAYS)
    features = build_features(past, rows, origin, horizon)
    values = features.values.reshape(len(rows), PLAN_DAYS, -1)
    starts = np.flatnonzero(np.diff(series.tenant[rows], prepend=-1))
    for first, last in zip(starts, [*starts[1:], len(rows)], strict=True):
        serving = models[series.tenant_ids[series.tenant[rows[first]]]]
        own = rows[first:last]
        is_asked = is_open[own]
        shares = np.zeros(is_asked.shape)
        if is_asked.any():
            shares[is_asked] = serving.model.predict(values[first:last][is_asked])
        made.mean_units[own] = shares * features.level_units[first:last, None]
        spread = Spread.from_json(serving.spread)
        if spread is not None:
            made.spread.put(own, spread.of_classes(made.volume_class[own]))
        made.method[own] = BOOSTING
        made.version[own] = serving.label
        made.reason[own] = serving.backtest_reason


def _by_naive(made: _Made, rows: np.ndarray, series: "Series") -> None:
    """Fill the series that the tenant's model sees nothing of: the last week that was open, however long ago."""
    slots = filled_slots(series.demand[rows], series.last_seen[rows], series.days)[CANDIDATES.index(SEASONAL_NAIVE)]
    made.mean_units[rows] = over_plan_days(slots, series.lead_days[rows])
    made.method[rows] = SEASONAL_NAIVE
    made.version[rows] = f"{SEASONAL_NAIVE}@{RULE_VERSION}"
    made.reason[rows] = f"no open day in the last {WINDOW_DAYS} days for the model to go by: the last week known"


def _with_little_history(made: _Made, series: "Series") -> np.ndarray:
    """Fill the series with fewer than MIN_OPEN_DAYS open days; returns which series anything is known of."""
    open_days = series.open_days[:, -1]
    mean = own_mean(series.demand, series.last_seen, series.days)
    analogue = _analogues(series, mean)
    is_new = open_days < MIN_OPEN_DAYS
    has_days = is_new & (open_days > 0)
    has_estimate = is_new & ~has_days & ~np.isnan(series.estimate_units)
    has_analogue = is_new & ~has_days & ~has_estimate & ~np.isnan(analogue)
    made.spread.put(is_new, SeriesSpread.assumed(int(is_new.sum())))
    for rows, units, method, reason in (
        (has_days, mean, OWN_MEAN, f"fewer than {MIN_OPEN_DAYS} open days of history: their mean"),
        (has_estimate, series.estimate_units, OWNER_ESTIMATE, "no history: the owner's estimate per day"),
        (has_analogue, analogue, ANALOGUE, "no history: what it sells at the other locations, by their size"),
    ):
        made.mean_units[rows] = units[rows, None]
        made.method[rows] = method
        made.version[rows] = f"{method}@{RULE_VERSION}"
        made.reason[rows] = reason
    return ~is_new | has_days | has_estimate | has_analogue


def _analogues(series: "Series", mean_units: np.ndarray) -> np.ndarray:
    """What each product sells a day at the tenant's other locations, scaled by the size of this one: (n,), NaN if nowhere.

    A location without any history is taken to be as large as the others are on average.
    """
    frame = series.keys.assign(units=mean_units)
    is_sold = frame["units"].notna()
    sizes = frame[is_sold].groupby(["tenant_id", "location_id"])["units"].sum().rename("size").reset_index()
    sold = frame[is_sold].merge(sizes, on=["tenant_id", "location_id"])
    of_product = sold.groupby(["tenant_id", "product_id"])[["units", "size"]].mean().reset_index()
    joined = (
        frame[SERIES]
        .merge(of_product, on=["tenant_id", "product_id"], how="left")
        .merge(sizes.rename(columns={"size": "own_size"}), on=["tenant_id", "location_id"], how="left")
    )
    scale = np.where((joined["own_size"] > 0) & (joined["size"] > 0), joined["own_size"] / joined["size"], 1.0)
    return joined["units"].to_numpy(dtype=float) * scale


def _panel(made: _Made, series: "Series", is_open: np.ndarray, is_known: np.ndarray, plan_date: date) -> Panel:
    """Means and quantiles of the series that something is known of; a closed day has neither."""
    raw, spread, is_open = made.mean_units[is_known], made.spread.select(is_known), is_open[is_known]
    mean_units, quantile_units = quantiles.forecast_curve(raw, spread)
    run_date = np.datetime64(plan_date, "D") - series.lead_days
    last_history_on = pd.Series(run_date - 1).dt.date.where(series.open_days[:, -1] > 0, None)
    told = [_spread_reason(source, count) for source, count in zip(spread.source, spread.counts, strict=True)]
    keys = series.keys[is_known].assign(
        method=pd.array(made.method[is_known], dtype="str"),
        method_reason=pd.array(made.reason[is_known] + np.array(told, dtype=object), dtype="str"),
        model_version=pd.array(made.version[is_known], dtype="str"),
        last_history_on=last_history_on.to_numpy(dtype=object)[is_known],
        volume_class=made.volume_class[is_known],
    )
    values = {
        "mean_units": np.where(is_open, mean_units, 0.0),
        "raw_mean_units": np.where(is_open, raw, 0.0),
        "quantile_units": np.where(is_open[:, :, None], quantile_units, 0.0),
        "is_open": is_open,
    }
    return Panel(keys.reset_index(drop=True), values, plan_date)


def _rule_reason(backtest: "RuleBacktest", tenant: int) -> str:
    method = int(backtest.champion[tenant])
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


def _spread_reason(source: int, count: int) -> str:
    if source == quantiles.ASSUMED:
        return f"; spread assumed: counting noise and {quantiles.ASSUMED_CV:.0%} error of the mean"
    return f"; spread from {count} residuals of " + (
        "its volume class" if source == quantiles.OF_CLASS else "all products"
    )


def _targets(series: Series, end: int, after: int, until: int) -> tuple[np.ndarray, np.ndarray]:
    """Demand of the days more than `after` and up to `until` days after an origin, and which of them are compared."""
    units = series.demand[:, end + after : end + until]
    return units, ~np.isnan(units) & (series.open_days[:, end - 1] >= MIN_OPEN_DAYS)[:, None]


def _by_horizon(slots: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Weekly slots repeated over as many days as `units` has."""
    return slots[:, np.arange(units.shape[1]) % 7]


def _residuals(series: Series, chosen: dict[int, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Scaled residuals of the chosen forecasts and the series of each."""
    values, rows = [np.empty(0)], [np.empty(0, dtype=np.int64)]
    for end, slots in chosen.items():
        units, counts = _targets(series, end, 0, TRAINED_HORIZON_DAYS)
        forecast = _by_horizon(slots, units)
        values.append(((units - forecast) / quantiles.scale_units(forecast))[counts])
        rows.append(np.nonzero(counts)[0])
    return np.concatenate(values), np.concatenate(rows)


def _widening(series: Series, chosen: dict[int, np.ndarray], per_tenant: _PerTenant) -> np.ndarray:
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
    ratio = np.where(is_measured, far_sum / np.where(is_measured, near_sum, 1.0), quantiles.UNMEASURED_WIDENING)
    return np.clip(ratio, *quantiles.WIDENING_LIMITS)


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
