"""The procurement link: time-phased requirements of bought items and the purchase lines that cover them.

This module puts the parts together: explosion (what products take), suppliers (who delivers), item_safety (what is kept
besides), deliveries (when and how much), minimum_orders, purchase_overrides, purchase_lines and purchase_exceptions (the
words). Column t of every matrix is the t-th day from plan_date.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import pandas as pd

from planning.deliveries import DEFAULT_RULE, LOT_RULES, NOT_FIXED, Arrivals, DeliveryRecord, DeliveryTerms, Needs
from planning.explosion import BOUGHT_KINDS, Explosion, explode
from planning.frames import ROUNDING, Panel, PlanningError, exceptions_of
from planning.item_safety import SafetyStocks, safety_stocks
from planning.keys import NEVER, day_numbers, distinct, looked_up, positions
from planning.lots import STOCK_KEY, last_usable_days
from planning.minimum_orders import topped_up
from planning.purchase_exceptions import order_value_exceptions, price_exceptions, stock_exceptions, supply_exceptions
from planning.purchase_lines import LINE_COLUMNS, purchase_lines, purchases_of, with_pegs
from planning.purchase_overrides import dropped_exceptions, fixed_packs, with_overrides
from planning.suppliers import (
    ITEM_KEY,
    Market,
    PriceBreaks,
    delivery_days,
    first_days,
    ranked_offers,
    with_defaults,
    with_order_days,
)

HOLDING_RATE = 0.25
"""What holding stock for a year costs as a share of its value: capital, space, handling and risk. An assumption; 20 to 30 %
is usual in textbooks."""

KEY_COLUMNS = {
    "tenant": ("tenant_id",),
    "location": ("location_id",),
    "supplier": ("supplier_id",),
    "item": ("item_id", "product_id", "output_item_id"),
}

ITEM_DEFAULTS: dict[str, float | str] = {
    "service_level": 0.95,
    "lot_rule": LOT_RULES[DEFAULT_RULE],
    "lot_quantity": np.nan,
    "lot_periods": np.nan,
    "unit_cost": np.nan,
}


@dataclass(frozen=True)
class ProcurementPlans:
    """Requirements (days x bought items) and the purchase lines that cover them.

    requirements, base units: gross and its deviation (one sigma), scheduled receipts, net (on the day it is needed),
    planned receipts, projected on hand (end of day; negative while a need waits for its delivery), expired, and lost (a
    need that no delivery can cover, because what is delivered before it has expired by then):
    on hand = on hand of the day before + scheduled + planned receipts − gross − expired + lost.
    Its keys hold safety_stock_quantity, kept from the end of the frozen plan on, and safety_stock_reason.
    """

    requirements: Panel
    purchase_lines: pd.DataFrame
    exceptions: pd.DataFrame
    set_aside: pd.DataFrame


def plan_procurement(
    planned: Panel,
    recipes: pd.DataFrame,
    items: pd.DataFrame,
    suppliers: pd.DataFrame,
    supplier_items: pd.DataFrame,
    supplier_prices: pd.DataFrame,
    opening_lots: pd.DataFrame,
    open_orders: pd.DataFrame,
    tenants: pd.DataFrame,
    plan_date: date,
    *,
    overrides: pd.DataFrame | None = None,
) -> ProcurementPlans:
    """Buy what the planned products take over the horizon, for every tenant of the batch.

    opening_lots are on hand at the opening of plan_date; those past their last usable day do not count. Open orders due
    before plan_date are in them already, and orders due after the horizon do not help within it. Orders go out from
    run_date on, or from the day after where the supplier's order_cutoff_at lies before as_of_time, the tenant's local
    time (datetime.time) at which the plan is made. A delivery comes on a delivery weekday of the supplier, not before
    the first order day + lead_days, and covers the net requirement until the day before the next one, or as long as its
    item's lot_rule says, never longer than it keeps. Nothing is bought for days beyond the horizon but by rounding to
    packs. Orders to place on the run date that stay below the supplier's min_order_value take on the later needs that
    come soonest, if those keep.

    planned: deviation_units, one sigma of horizon_units, absent for none. items: service_level, lot_rule, lot_quantity
    and lot_periods, suppliers: delivery_fee, and supplier_items: lead_sd_days and on_time_rate have defaults when absent.
    overrides: tenant_id, location_id, item_id, supplier_id, delivery_on, packs, actor, reason; they fix the packs of a
    delivery, and later ones adapt. tenants: tenant_id, run_date, as_of_time.

    Raises PlanningError when a tenant has no row in `tenants`, or when an item's lot rule cannot be followed.
    """
    items, days = with_defaults(items, ITEM_DEFAULTS), planned.days
    keys, recipes, items, suppliers, supplier_items, supplier_prices, opening_lots, open_orders, tenants = _categorised(
        planned.keys, recipes, items, suppliers, supplier_items, supplier_prices, opening_lots, open_orders, tenants
    )
    planned = Panel(keys, planned.values, planned.first_day)
    exploded = explode(planned, recipes, items, opening_lots)
    ranked, prices = ranked_offers(suppliers, supplier_items, supplier_prices, items)
    ranked = with_order_days(ranked, tenants, plan_date)
    ranked = ranked.assign(supplier=pd.factorize(ranked["supplier_id"], sort=True)[0])
    delivers = delivery_days(ranked, plan_date, days)
    is_chosen = ranked["rank"].to_numpy() == 0
    offers = ranked[is_chosen].reset_index(drop=True)
    rows = _stocks(exploded, items, opening_lots, open_orders, exploded.set_aside["tenant_id"])
    at_offer = positions(rows, offers, ITEM_KEY)
    market = Market(ranked, first_days(delivers), offers, at_offer)
    rows = _with_rules(rows, market)

    at_requirement = rows["at_requirement"].to_numpy()
    gross = _spread(exploded.requirements["gross_quantity"], at_requirement)
    deviation = _spread(exploded.requirements["deviation_quantity"], at_requirement)
    terms = _delivery_terms(rows, market, delivers[is_chosen], prices.select(np.flatnonzero(is_chosen)))
    safety = safety_stocks(rows, market, terms, gross, deviation, plan_date)
    fixed = fixed_packs(overrides, rows, market, terms, plan_date)
    terms = replace(terms, ordered_packs=fixed.packs)
    needs = Needs(
        gross,
        safety.by_day,
        _opening_by_last_day(rows, opening_lots, plan_date, days),
        _arrivals(rows, open_orders, plan_date, days),
    )
    record, terms = topped_up(needs.plan(terms), needs, terms, rows, market)
    purchases = purchases_of(record, rows, offers, at_offer, terms)
    lines = purchase_lines(purchases, rows, offers, ranked, market.first_delivery, plan_date)
    lines = with_pegs(with_overrides(lines, purchases, fixed), purchases.record, exploded, at_requirement)
    exceptions = [
        exploded.exceptions,
        exceptions_of(
            sorted(
                [
                    *supply_exceptions(record, rows, market, terms, needs.arrivals, plan_date),
                    *stock_exceptions(purchases, rows, safety, terms, plan_date),
                    *fixed.exceptions,
                    *dropped_exceptions(record, rows, fixed, plan_date),
                ]
            )
        ),
        price_exceptions(lines),
        order_value_exceptions(purchases, rows, offers, plan_date),
    ]
    return ProcurementPlans(
        _requirements(rows, safety, needs, deviation, record, plan_date),
        lines[list(LINE_COLUMNS)].astype(dict.fromkeys((*STOCK_KEY, "supplier_id"), str)),
        pd.concat([part for part in exceptions if len(part)] or exceptions[:1], ignore_index=True),
        exploded.set_aside,
    )


def _categorised(*frames: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """The frames with their key columns as categories that sort as the names do; looking up rows then compares numbers."""
    found = {
        (at, column): pd.factorize(frame[column])
        for at, frame in enumerate(frames)
        for columns in KEY_COLUMNS.values()
        for column in columns
        if column in frame
    }
    names = {
        kind: np.unique(
            np.concatenate(
                [np.asarray(known, dtype=object) for (_, name), (_, known) in found.items() if name in columns]
            )
        )
        for kind, columns in KEY_COLUMNS.items()
    }
    categories = {column: pd.Index(names[kind]) for kind, columns in KEY_COLUMNS.items() for column in columns}
    for at, frame in enumerate(frames):
        coded = {}
        for (of, column), (codes, known) in found.items():
            if of == at:
                place = categories[column].get_indexer(np.asarray(known, dtype=object))
                place = np.append(place, -1)  # of a name that is missing
                coded[column] = pd.Categorical.from_codes(place[codes], categories[column])
        yield frame.assign(**coded)


def _requirements(
    rows: pd.DataFrame,
    safety: SafetyStocks,
    needs: Needs,
    deviation: np.ndarray,
    record: DeliveryRecord,
    plan_date: date,
) -> Panel:
    scheduled = np.zeros_like(needs.gross)
    np.add.at(scheduled, (needs.arrivals.row, needs.arrivals.day), needs.arrivals.quantity)
    return Panel(
        rows[STOCK_KEY]
        .astype(str)
        .assign(
            opening_quantity=np.round(needs.opening.sum(axis=1), ROUNDING),
            safety_stock_quantity=np.round(safety.quantity, ROUNDING),
            safety_stock_reason=pd.Series(safety.reason, dtype=object),
        ),
        {
            "gross_quantity": needs.gross,
            "deviation_quantity": deviation,
            "scheduled_receipts_quantity": _rounded(scheduled),
            "net_quantity": _rounded(record.net),
            "planned_receipts_quantity": _rounded(record.receipts),
            "projected_on_hand_quantity": _rounded(record.on_hand),
            "expired_quantity": _rounded(record.expired),
            "lost_quantity": _rounded(record.lost),
        },
        plan_date,
    )


# ---------------------------------------------------------------- what the record starts from


def _stocks(
    exploded: Explosion,
    items: pd.DataFrame,
    opening_lots: pd.DataFrame,
    open_orders: pd.DataFrame,
    set_aside: pd.Series,
) -> pd.DataFrame:
    """A row per stock of a bought item that products take, or that is on hand or on order, with the item's values.

    Safety stock is kept only where products take the item. place: tenant and location as a number; at_requirement: the
    row of the exploded requirements, -1 for none.
    """
    bought = items[items["kind"].isin(BOUGHT_KINDS)]
    stocked = []
    for frame in (opening_lots, open_orders):
        keys = frame[STOCK_KEY].drop_duplicates()
        stocked.append(keys[(positions(keys, bought, ITEM_KEY) >= 0) & ~keys["tenant_id"].isin(set_aside)])
    rows = distinct((exploded.requirements.keys, *stocked), STOCK_KEY)
    at_requirement = positions(rows, exploded.requirements.keys, STOCK_KEY)
    is_taken = at_requirement >= 0
    at = positions(rows, items, ITEM_KEY)
    place = rows[["tenant_id", "location_id"]].ne(rows[["tenant_id", "location_id"]].shift()).any(axis=1)
    names = {
        name: items[name].to_numpy(dtype=object)[at] if len(rows) else np.zeros(0, dtype=object)
        for name in ("base_unit", "lot_rule")
    }
    return rows.assign(
        place=place.cumsum().to_numpy(dtype=np.int64),
        at_requirement=at_requirement,
        is_taken=is_taken,
        safety_stock_quantity=np.where(is_taken, looked_up(items["safety_stock_quantity"], at, 0.0), 0.0),
        shelf_life_days=looked_up(items["shelf_life_days"], at),
        removal_days=looked_up(items["removal_days"], at, 0.0),
        service_level=looked_up(items["service_level"], at, 0.95),
        unit_cost=looked_up(items["unit_cost"], at),
        lot_quantity=looked_up(items["lot_quantity"], at),
        lot_periods=looked_up(items["lot_periods"], at),
        **names,
    )


def _with_rules(rows: pd.DataFrame, market: Market) -> pd.DataFrame:
    """Add rule, the position of each lot rule in LOT_RULES, what it is in words, and setup_cost and holding_cost.

    The value of a base unit is the item's unit cost, else the supplier's price; NaN if neither is known.
    """
    rule = np.asarray(pd.Index(LOT_RULES).get_indexer(rows["lot_rule"]), dtype=np.int64)
    lot, periods = rows["lot_quantity"].to_numpy(), rows["lot_periods"].to_numpy()
    wrong = (rule < 0) | ((rule == LOT_RULES.index("fixed")) & ~(lot > 0))
    wrong |= (rule == LOT_RULES.index("period")) & ~(periods > 0)
    if wrong.any():
        tenant_id, item_id, name = rows.loc[wrong, ["tenant_id", "item_id", "lot_rule"]].iloc[0]
        raise PlanningError(
            f"The lot rule {name!r} of {item_id} of {tenant_id} cannot be followed; it is one of {', '.join(LOT_RULES)}, "
            "and a fixed lot needs a lot_quantity, a period lot its lot_periods above 0"
        )
    price = looked_up(market.offers["price_per_base_unit"], market.at_offer)
    value = np.where(np.isnan(rows["unit_cost"]), price, rows["unit_cost"])
    fee = looked_up(market.offers["delivery_fee"], market.at_offer, 0.0)
    words = np.full(len(rows), "", dtype=object)
    words[rule == LOT_RULES.index("lot_for_lot")] = "; lot for lot"
    unit = rows["base_unit"].to_numpy(dtype=object)
    for at in np.flatnonzero(rule == LOT_RULES.index("fixed")).tolist():
        words[at] = f"; in fixed lots of {lot[at]:g} {unit[at]}"
    for number in np.unique(periods[rule == LOT_RULES.index("period")]).tolist():
        words[(rule == LOT_RULES.index("period")) & (periods == number)] = f"; one lot for {number:g} days"
    is_by_cost = rule == LOT_RULES.index("wagner_whitin")
    for cost in np.unique(fee[is_by_cost]).tolist():
        words[is_by_cost & (fee == cost)] = (
            f"; least cost by Wagner-Whitin at {cost:.2f} a delivery and {HOLDING_RATE:.0%} a year for holding"
        )
    words[is_by_cost & np.isnan(value)] = "; until the next delivery, since its unit cost is unknown"
    return rows.assign(rule=rule, rule_words=words, setup_cost=fee, holding_cost=value * HOLDING_RATE / 365)


def _spread(matrix: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The rows of a matrix at positions, zeros at -1."""
    if not len(matrix):
        return np.zeros((len(at), matrix.shape[1]))
    return np.where((at >= 0)[:, None], matrix[at], 0.0)


def _delivery_terms(rows: pd.DataFrame, market: Market, delivers: np.ndarray, prices: PriceBreaks) -> DeliveryTerms:
    at_offer, offers = market.at_offer, market.offers
    keeps = rows["shelf_life_days"].to_numpy() - rows["removal_days"].to_numpy()
    shape = (len(rows), delivers.shape[1])
    return DeliveryTerms(
        delivers=delivers[at_offer] & (at_offer >= 0)[:, None] if len(offers) else np.zeros(shape, dtype=bool),
        keeps_days=np.where(np.isnan(keeps), NEVER, keeps).astype(np.int64),
        pack_quantity=looked_up(offers["pack_quantity"], at_offer, 1.0),
        min_packs=looked_up(offers["min_packs"], at_offer, 1.0),
        multiple_packs=looked_up(offers["multiple_packs"], at_offer, 1.0),
        rule=rows["rule"].to_numpy(),
        lot_quantity=rows["lot_quantity"].to_numpy(),
        lot_periods=np.nan_to_num(rows["lot_periods"].to_numpy(), nan=1.0).astype(np.int64),
        setup_cost=rows["setup_cost"].to_numpy(),
        holding_cost=rows["holding_cost"].to_numpy(),
        prices=prices.select(at_offer),
        ordered_packs=np.full(shape, NOT_FIXED, dtype=np.int64),
        cover_through=np.full(shape, -1, dtype=np.int64),
    )


def _opening_by_last_day(rows: pd.DataFrame, opening_lots: pd.DataFrame, plan_date: date, days: int) -> np.ndarray:
    """Usable opening stock by last usable day: (n, days + 1); the last column holds what outlasts the horizon."""
    stock = np.zeros((len(rows), days + 1))
    at = positions(opening_lots, rows, STOCK_KEY)
    lots, at = opening_lots[at >= 0], at[at >= 0]
    unknown = np.full(len(lots), np.nan)
    last = last_usable_days(
        lots["expires_on"], np.zeros(len(lots), dtype=np.int64), unknown, rows["removal_days"].to_numpy()[at], plan_date
    )
    usable = last >= 0
    quantity = lots["quantity"].astype(float).clip(lower=0.0).to_numpy()
    np.add.at(stock, (at[usable], np.minimum(last[usable], days)), quantity[usable])
    return stock


def _arrivals(rows: pd.DataFrame, open_orders: pd.DataFrame, plan_date: date, days: int) -> Arrivals:
    """What arrives by open order within the horizon."""
    at, arrives = positions(open_orders, rows, STOCK_KEY), day_numbers(open_orders["delivery_on"], plan_date)
    due = (at >= 0) & (arrives >= 0) & (arrives < days)
    orders, at, arrives = open_orders[due], at[due], arrives[due]
    shelf, removal = rows["shelf_life_days"].to_numpy()[at], rows["removal_days"].to_numpy()[at]
    last = last_usable_days(orders["expires_on"], arrives, shelf, removal, plan_date)
    quantity = orders["quantity"].astype(float).to_numpy()
    # An order that arrives past its last usable day is no receipt; it would expire on arrival.
    return Arrivals(at, arrives, np.clip(last, arrives, days), np.where(last >= arrives, quantity, 0.0))


def _rounded(quantity: np.ndarray) -> np.ndarray:
    return np.round(quantity, ROUNDING) + 0.0  # no negative zero
