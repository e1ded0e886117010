"""Why a purchase or a batch was planned, in words for people.

The words are made of the facts of story_facts alone, so that what a person reads is what a program gets as JSON.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from daybreak.story_facts import Facts, batch_facts, purchase_facts
from planning.frames import figure
from planning.pegging import BY_FORECAST, BY_NOBODY, FOR_PRODUCTS, FOR_ROUNDING, FOR_SAFETY_STOCK
from resources.store.pegs import BatchBasis, PurchaseBasis

PRINT_WIDTH = 128
"""Columns where the output is no terminal."""

LIMITS = {
    "none": "Nothing limited it.",
    "batch": "Whole batches limited it: the best quantity lies between two of them.",
    "batch_min": "The fewest batches that it is made in limited it.",
    "batch_max": "The most batches that a day allows limited it.",
    "closed": "Everything that it is made for is closed that day.",
    "not_made_today": "It is not made on that weekday.",
    "no_demand": "No demand is expected.",
}
LONGEST = 14
"""Rows of a table that people are shown, those of the largest share; the facts have all."""

PURPOSES = {
    FOR_SAFETY_STOCK: "restore the safety stock",
    FOR_ROUNDING: "round up to packs, minimums and lot size",
    "unexplained": "are for a requirement that the planned products do not account for",
}


@dataclass(frozen=True)
class Grid:
    """A table for people."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Story:
    """facts: for programs, plain values. parts: for people, sentences and tables in the order of reading."""

    title: str
    facts: Facts
    parts: Sequence[str | Grid] = field(default_factory=tuple)


def print_story(story: Story) -> None:
    """Print a story for people."""
    console = Console()
    console = console if console.is_terminal else Console(width=PRINT_WIDTH)
    console.print(f"\n[bold]{escape(story.title)}[/]", highlight=False)
    for part in story.parts:
        if isinstance(part, str):
            console.print(escape(part), highlight=False)
            continue
        table = Table(title=part.title, title_justify="left")
        for n, heading in enumerate(part.headings):
            numbers = all(_is_number(row[n]) for row in part.rows)
            table.add_column(heading, justify="right" if numbers else "left")
        for row in part.rows:
            table.add_row(*map(escape, row))
        console.print(table)


# ---------------------------------------------------------------- a purchase


def purchase_story(found: PurchaseBasis) -> Story:
    """What a purchase line is, why this supplier, when, how much for what, and down to the forecasts."""
    facts = purchase_facts(found)
    line, plan = facts["purchase"], facts["plan"]
    title = (
        f"Purchase {line['line_id']} of {facts['tenant']['name']} ({facts['tenant']['tenant_id']}): "
        f"{_amount(line['quantity'], line['base_unit'])} of {line['item_name']}"
    )
    parts: list[str | Grid] = [
        *_plan_words(plan),
        *_purchase_words(facts),
        *_supplier_words(facts),
        *_parts_words(facts),
        *_purchase_tables(facts),
        *_decided_grid(facts),
        *_versions_words(facts),
        *_people_words(facts),
    ]
    return Story(title, facts, parts)


def _purchase_words(facts: Facts) -> Iterable[str]:
    line, currency = facts["purchase"], facts["tenant"]["currency"]
    packs = _count(line["packs"], "pack")
    price = (
        "at an unknown price"
        if line["price_per_pack"] is None
        else f"at {line['price_per_pack']:,.2f} {currency} a pack: {line['amount']:,.2f} {currency}"
    )
    unit = line["base_unit"]
    yield (
        f"What: {packs} of {_amount(line['pack_quantity'], unit)} of {line['item_name']} for {line['location_name']}, {price}."
    )
    late = " It comes after it is needed: expedite it." if line["is_late"] else ""
    order = line["order"]
    state = (
        f"ordered on {_day(order['ordered_on'])}" + (", cancelled since" if order["status"] == "cancelled" else "")
        if order
        else "not ordered yet"
    )
    yield (
        f"When: order by {_day(line['order_by'])} ({state}), delivered on {_day(line['delivery_on'])}, first needed on "
        f"{_day(line['needed_on'])}.{late}"
    )


def _supplier_words(facts: Facts) -> Iterable[str]:
    line, supplier, currency = facts["purchase"], facts["supplier"], facts["tenant"]["currency"]
    yield f"From: {supplier['supplier_name']} ({supplier['supplier_id']}): {line['reason']}."
    for other in supplier["alternatives"]:
        price = other.get("price_per_base_unit")
        known = f"{price:,.4g} {currency} per {line['base_unit']}" if price is not None else "price unknown"
        first = other.get("first_delivery_on")
        delivery = f"first delivery {first}" if first else "no delivery within the horizon"
        yield f"  not from {other['supplier_id']}: {other.get('reason', '')} ({known}, {delivery})."
    if not supplier["alternatives"]:
        yield "  nobody else offers it."


def _parts_words(facts: Facts) -> Iterable[str]:
    line, stock = facts["purchase"], facts["safety_stock"]
    unit = line["base_unit"]
    said = []
    for part in facts["parts"]:
        amount = f"{_amount(part['quantity'], unit)} ({part['share']:.1%})"
        if part["purpose"] == FOR_PRODUCTS:
            said.append(f"{amount} are for {_count(len(facts['products']), 'product')}")
        else:
            said.append(f"{amount} {PURPOSES[part['purpose']]}")
    yield f"How much: of {_amount(line['quantity'], unit)}, {'; '.join(said)}. Lot rule: {line['lot_rule']}."
    if stock["quantity"]:
        yield f"Safety stock: {_amount(stock['quantity'], unit)}{': ' + stock['reason'] if stock['reason'] else ''}."
    if not facts["days"]:
        yield "Which days it covers was not kept when this plan was made; a plan made again says it."


def _purchase_tables(facts: Facts) -> Iterable[str | Grid]:
    unit = facts["purchase"]["base_unit"]
    if facts["days"]:
        yield Grid(
            f"Days that it covers, in {unit}",
            ("Day", "Needed in all", "Covered by this", "of it for products"),
            [
                (
                    _day(day["date"]),
                    figure(day["gross_quantity"]),
                    figure(day["covered_quantity"]),
                    figure(day["for_products_quantity"]),
                )
                for day in facts["days"]
            ],
        )
    if facts["products"]:
        yield Grid(
            f"Products that it is for, in {unit}",
            ("Product", "Quantity", "Share"),
            [(row["product_name"], figure(row["quantity"]), f"{row['share']:.1%}") for row in facts["products"]],
        )
    if facts["uses"]:
        yield Grid(
            "Batches that it goes into",
            ("Day", "Planned", "By way of", "Batches", unit, "Share"),
            [
                (
                    _day(use["date"]),
                    f"{figure(use['planned_units'])} {use['product_id']}",
                    " > ".join(use["path"][1:]),
                    "tentative" if use["is_tentative"] else _span(use["batch_ids"]),
                    figure(use["quantity"]),
                    f"{use['share']:.1%}",
                )
                for use in _largest(facts["uses"])
            ],
        )
        yield from _left_out(facts["uses"])
    if facts["demand"]:
        yield Grid(
            "Demand behind it",
            ("Day", "Product", "Sold at", "Expected", "10 % to 90 %", "By", "Model", "Share"),
            [_demand_row(row) for row in _largest(facts["demand"])],
        )
        yield from _left_out(facts["demand"])
        yield from _method_words(_largest(facts["demand"]))


def _demand_row(row: Facts) -> tuple[str, ...]:
    if row["source"] == BY_NOBODY:
        return (_day(row["date"]), row["product_id"], "nobody", "0", "", "", "", f"{row['share']:.1%}")
    if row["source"] != BY_FORECAST:
        return (_day(row["date"]), row["product_id"], row["location_id"], "", "", "orders", "", f"{row['share']:.1%}")
    return (
        _day(row["date"]),
        row["product_id"],
        row["location_id"],
        figure(row["mean_units"]),
        f"{figure(row['low_units'])} to {figure(row['high_units'])}",
        row["method"] + (", extended" if row["is_extended"] else ""),
        row["model_version"],
        f"{row['share']:.1%}",
    )


def _method_words(demand: Iterable[Facts]) -> Iterable[str]:
    """Why forecasts were made as they were: each reason once, with the products and places that it is true of."""
    said: dict[str, dict[str, list[str]]] = {}
    for row in demand:
        if row["source"] == BY_FORECAST:
            why = f"by {row['method']} ({row['model_version']}): {row['method_reason']}"
            places = said.setdefault(why, {}).setdefault(row["product_id"], [])
            if row["location_id"] not in places:
                places.append(row["location_id"])
    for why, series in said.items():
        named = "; ".join(f"{product_id} at {', '.join(places)}" for product_id, places in series.items())
        yield f"  {named} {why}."


def _largest(rows: Sequence[Facts]) -> list[Facts]:
    """The rows with the largest shares, in their own order."""
    order = sorted(range(len(rows)), key=lambda n: (-rows[n]["share"], n))
    return [rows[n] for n in sorted(order[:LONGEST])]


def _left_out(rows: Sequence[Facts]) -> Iterable[str]:
    if len(rows) > LONGEST:
        yield f"  … and {len(rows) - LONGEST} more with smaller shares: --json has all of them."


def _decided_grid(facts: Facts) -> Iterable[Grid]:
    """Why so many of the products and days with the largest shares: the quantile that decided, and what came of it."""
    shown = {(use["product_id"], use["date"]) for use in _largest(facts["uses"])}
    rows = [row for row in facts["decisions_on_products"] if (row["product_id"], row["date"]) in shown]
    if rows:
        yield Grid(
            f"Why so many are made (money in {facts['tenant']['currency']})",
            (
                "Day",
                "Product",
                "Expected",
                "Unit missed",
                "Left over",
                "Critical ratio",
                "Quantile",
                "Planned",
                "Batches",
            ),
            [
                (
                    _day(row["date"]),
                    row["product_id"],
                    figure(row["mean_demand_units"]),
                    *(("", "", f"{row['critical_ratio']:.3f} default") if _has_no_money(row) else _money_row(row)),
                    figure(row["deciding_quantile_units"]),
                    figure(row["planned_units"]),
                    f"{row['batches']} ({row['limited_by']})" if row["batches"] is not None else "tentative",
                )
                for row in rows
            ],
        )


def _has_no_money(row: Facts) -> bool:
    return bool(row["is_default_critical_ratio"]) or row["underage_cost"] is None


def _money_row(row: Facts) -> tuple[str, str, str]:
    return f"{row['underage_cost']:,.2f}", f"{row['overage_cost']:,.2f}", f"{row['critical_ratio']:.3f}"


# ---------------------------------------------------------------- a batch


def batch_story(found: BatchBasis, number: int) -> Story:
    """What the nth batch of a production line is expected to bring, why it is made, when, and from what. From 1."""
    facts = batch_facts(found, number)
    batch = facts["batch"]
    title = (
        f"Batch {number} of {batch['batches']}: {figure(batch['batch_size_units'])} {batch['product_name']} at "
        f"{batch['location_name']} for {_day(facts['plan']['plan_date'])}, {facts['tenant']['name']} "
        f"({facts['tenant']['tenant_id']})"
    )
    parts: list[str | Grid] = [
        *_plan_words(facts["plan"]),
        *_gain_words(facts),
        *_line_words(facts),
        *_time_words(facts),
        *_batch_tables(facts),
        *_versions_words(facts),
        *_people_words(facts),
    ]
    return Story(title, facts, parts)


def _gain_words(facts: Facts) -> Iterable[str]:
    batch, line = facts["batch"], facts["line"]
    gain = batch["expected_gain"]
    if gain is None:
        yield "Its price tag: not kept for this batch."
    elif batch["is_default_critical_ratio"]:
        yield (
            f"Its price tag: {gain:+,.2f} times what a unit missed and one left over cost together, since price or cost "
            "gives no money."
        )
    else:
        yield f"Its price tag: {gain:+,.2f} {batch['expected_gain_unit']} expected, compared with not making it."
    if batch["expected_sold_units"] is not None:
        yield (
            f"Of its {figure(batch['batch_size_units'])} units {figure(batch['expected_sold_units'])} are expected to sell, "
            f"after {figure(batch['supply_before_units'])} units of stock and batches before it: all of them with "
            f"{batch['sells_out_probability']:.0%}, none with {batch['not_needed_probability']:.0%}."
        )
    gains = ", ".join(f"{value:+,.2f}" for value in line["batch_gains"])
    if gains:
        yield f"Gains of the line's batches in order: {gains}."


def _line_words(facts: Facts) -> Iterable[str]:
    batch, line, currency = facts["batch"], facts["line"], facts["tenant"]["currency"]
    carried = line["expected_carried_units"]
    kept = f", {figure(carried)} of it sellable the day after" if carried else ""
    profit = "unknown" if line["expected_profit"] is None else f"{line['expected_profit']:,.2f} {currency}"
    yield (
        f"The whole line: {figure(line['quantity_units'])} units in {_count(batch['batches'], 'batch')}; sold out with "
        f"{line['sold_out_probability']:.0%}; {figure(line['expected_sales_units'])} sold, "
        f"{figure(line['expected_waste_units'])} left over{kept}, {figure(line['expected_lost_units'])} missed; "
        f"profit {profit}."
    )
    yield (
        f"Demand: {figure(line['mean_demand_units'])} expected, of which {figure(line['orders_units'])} ordered; opening stock "
        f"{figure(line['opening_usable_units'])}; best to have {figure(line['optimal_units'])}, the "
        f"{line['critical_ratio']:.3f} quantile."
    )
    if line["underage_cost"] is None or batch["is_default_critical_ratio"]:
        yield f"Critical ratio {line['critical_ratio']:.3f}: the tenant's default, as price or cost gives none."
    else:
        yield (
            f"Critical ratio {line['critical_ratio']:.3f} = {line['underage_cost']:,.2f} / ({line['underage_cost']:,.2f} + "
            f"{line['overage_cost']:,.2f}): a unit missed costs price {line['unit_price']:,.2f} - cost "
            f"{line['variable_cost']:,.2f} + goodwill {line['goodwill_cost']:,.2f}, one left over costs cost "
            f"{line['variable_cost']:,.2f} - salvage {line['salvage_value']:,.2f} {currency}."
        )
    yield _limit_words(batch)


def _limit_words(batch: Facts) -> str:
    if batch["limited_by"] == "override":
        said = f"{batch['override_by']} set it: {batch['override_reason']}."
        if batch["recommended_batches"] is not None:
            said += f" Recommended were {_count(batch['recommended_batches'], 'batch')}."
        return said
    if batch["limited_by"] == "capacity":
        what = batch["limiting_resource_name"] or batch["limiting_resource_id"] or "The workshop"
        said = f"{what} limited it: other products gain more from it."
        if batch["unlimited_batches"] is not None:
            said += f" Without that {_count(batch['unlimited_batches'], 'batch')} would be worth making."
        return said
    return LIMITS[batch["limited_by"]]


def _time_words(facts: Facts) -> Iterable[str]:
    times, zone, batch = facts["times"], facts["tenant"]["timezone"], facts["batch"]
    if times["ready_at"] is None:
        yield "When: not scheduled, as its product has no process steps."
    else:
        late = " It is late." if batch["ready_by"] and times["ready_at"] > batch["ready_by"] else ""
        due = f", needed by {_time(batch['ready_by'], zone)}" if batch["ready_by"] else ""
        oven = f" in {times['resource_id']}" if times["resource_id"] else ""
        bakes = f", baked{oven} from {_time(times['bakes_at'], zone)}" if times["bakes_at"] else ""
        yield (
            f"When: started {_time(times['starts_at'], zone)}{bakes}, ready {_time(times['ready_at'], zone)}{due}.{late}"
        )
    for dough in facts["doughs"]:
        stock = dough["opening_usable_quantity"]
        at_hand = f", {_amount(stock, dough['base_unit'])} being at hand" if stock else ""
        yield (
            f"Dough: {_amount(dough['quantity'], dough['base_unit'])} of {dough['item_name']}, of "
            f"{_amount(dough['mixed_quantity'], dough['base_unit'])} mixed in {_count(len(dough['runs']), 'run')}{at_hand}."
        )
        for run in dough["runs"]:
            when = f" from {_time(run['starts_at'], zone)} to {_time(run['ends_at'], zone)}" if run["starts_at"] else ""
            where = f" in {run['resource_id']}" if run["resource_id"] else ""
            feeds = ": it feeds this batch" if run["number"] == dough["fed_by_run"] else ""
            yield f"  run {run['number']}: {_amount(run['quantity'], dough['base_unit'])}{where}{when}{feeds}."


def _batch_tables(facts: Facts) -> Iterable[str | Grid]:
    if facts["demand"]:
        rows = [
            (
                row["location_id"],
                figure(row["mean_units"]) if row.get("is_open") else "closed" if row["is_open"] is False else "",
                f"{figure(row['low_units'])} to {figure(row['high_units'])}" if row.get("is_open") else "",
                figure(row["orders_units"]),
                row.get("method", "no forecast"),
                row.get("model_version", ""),
            )
            for row in facts["demand"]
        ]
        yield Grid("Made for", ("Sold at", "Expected", "10 % to 90 %", "Ordered", "By", "Model"), rows)
        yield from _method_words(facts["demand"])
    if not facts["ingredients"]:
        problem = facts["recipe_problem"]
        yield f"Ingredients: {problem or 'no recipe was known when the plan was made'}."
        return
    yield Grid(
        "What it takes",
        ("Item", "Quantity", "From", "Bought for that day by"),
        [
            (
                "  " * (row["level"] - 1) + row["item_name"],
                _amount(row["quantity"], row["base_unit"]),
                "made here" if row["is_made"] else "; ".join(_lot_words(lot, row["base_unit"]) for lot in row["lots"]),
                "; ".join(
                    f"{str(purchase['line_id'])[:8]} from {purchase['supplier_id']}" for purchase in row["purchases"]
                ),
            )
            for row in facts["ingredients"]
        ],
    )


def _lot_words(lot: Facts, unit: str) -> str:
    if lot["lot_id"] is None:
        return f"{_amount(lot['quantity'], unit)} missing"
    expires = f", good until {lot['expires_on']}" if lot["expires_on"] else ""
    return f"{_amount(lot['quantity'], unit)} of lot {lot['lot_id']}{expires}"


# ---------------------------------------------------------------- what both have


def _plan_words(plan: Facts) -> Iterable[str]:
    state = f"{plan['status']}, {plan['approval']}" if plan["approval"] else plan["status"]
    note = " It was made after the shop had opened." if plan["is_replayed"] else ""
    yield f"Plan: {plan['kind']} of {plan['plan_date']} for {plan['location_id']}, revision {plan['revision']} ({state}).{note}"
    if plan["status"] == "superseded":
        yield "A newer revision has taken its place; this is what the old one said."


def _versions_words(facts: Facts) -> Iterable[str]:
    made, plan, zone = facts["made_from"], facts["plan"], facts["tenant"]["timezone"]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(made["input_versions"].items()) if version)
    yield (
        f"Made {_time(plan['created_at'], zone)} by run {made['run_id']} from the data versions {versions or 'unknown'} "
        f"(inputs {made['inputs_hash'][:12]})."
    )
    for row in made["plans"]:
        yield f"  on the {row['kind']} plan of {row['location_id']}, revision {row['revision']} ({str(row['plan_id'])[:8]})."


def _people_words(facts: Facts) -> Iterable[str]:
    zone = facts["tenant"]["timezone"]
    for row in facts["overrides"]:
        what = (
            f"{row['amount']} packs from {row['supplier_id']} for {row['delivery_on']}"
            if row["supplier_id"]
            else (_count(row["amount"], "batch"))
        )
        withdrawn = (
            f"; withdrawn {_time(row['withdrawn_at'], zone)} by {row['withdrawn_by']}" if row["withdrawn_at"] else ""
        )
        yield f"Override: {row['actor']} set {what} on {_time(row['made_at'], zone)}: {row['reason']}{withdrawn}."
    for row in facts["decisions"]:
        reason = f" ({row['reason_code']})" if row["reason_code"] else ""
        notes = f": {row['notes']}" if row["notes"] else ""
        yield (
            f"Decision: {row['action']} by {row['actor']} on {_time(row['decided_at'], zone)}, from {row['from_state']} to "
            f"{row['to_state']}{reason}{notes}."
        )
        for warning in row["warnings"]:
            yield f"  with the warning: {warning}"


def as_line_range(beginning: str) -> tuple[UUID, UUID]:
    """The first and last id that begin so, hyphens aside. Raises ValueError for what is no beginning of an id."""
    digits = beginning.strip().lower().replace("-", "")
    if not (4 <= len(digits) <= 32) or not set(digits) <= set("0123456789abcdef"):
        raise ValueError(beginning)
    return UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))


# ---------------------------------------------------------------- figures


def _amount(quantity: float, unit: str) -> str:
    return f"{figure(quantity)} {unit}"


def _count(number: int, noun: str) -> str:
    plural = f"{noun}es" if noun.endswith("ch") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


def _day(day: date) -> str:
    return f"{day:%a %d %b}"


def _time(instant: datetime, zone: str) -> str:
    return f"{instant.astimezone(ZoneInfo(zone)):%a %d %b %H:%M}"


def _span(batch_ids: Sequence[str]) -> str:
    """The batches of a line, as short as their ids allow."""
    if not batch_ids:
        return ""
    return batch_ids[0] if len(batch_ids) == 1 else f"{batch_ids[0]} to {len(batch_ids)}"


def _is_number(text: str) -> bool:
    return text == "" or (text[0] in "–-+0123456789" and not text[-1].isalpha())
