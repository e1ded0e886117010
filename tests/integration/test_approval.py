"""Procurement plans through their states: approved, rejected, sent, made again, and overridden, each with its audit."""

import logging
import threading
from collections.abc import Callable
from datetime import date, datetime, timedelta
from functools import partial

import pytest

from resources.store.approval import Decision, approve, mark_sent, read_open_regenerations, reject
from resources.store.database import Store
from resources.store.decisions import Conflict, DecisionError, NotAllowed, NotFound, read_decisions, read_revisions
from resources.store.overrides import (
    ProductionLine,
    PurchaseLine,
    add_override,
    list_overrides,
    read_overrides,
    withdraw_override,
)
from resources.store.plans import lock_tenants, write_procurement, write_production
from resources.store.versions import bump_input_version, input_versions, inputs_hash
from tests.integration.store_bakery import (
    DAY,
    NO_EXCEPTIONS,
    NOW,
    add_bakery,
    context,
    production_lines,
    purchase_lines,
    requirements,
)

LATER = NOW + timedelta(minutes=20)


def plan(store: Store, tenant_id: str = "a", auto_approve: bool = False, now: datetime = NOW) -> None:
    """Production and procurement of the day, as a run writes them."""
    with store.transaction() as connection:
        lock_tenants(connection, [tenant_id])
        made = context(connection, [tenant_id], now=now)
        write_production(connection, made, production_lines([tenant_id]), NO_EXCEPTIONS)
        write_procurement(
            connection, made, requirements([tenant_id]), purchase_lines([tenant_id]), NO_EXCEPTIONS,
            {tenant_id: auto_approve},
        )  # fmt: skip


@pytest.fixture
def planned(store: Store) -> Store:
    """A tenant whose plan of the day waits for approval: 25 kg of flour to order today, 50 kg in three days."""
    add_bakery(store, "a")
    plan(store)
    return store


def open_orders(store: Store) -> list[list[object]]:
    """Item, quantity, day of the order and of the delivery of everything ordered."""
    return store.frame(
        "SELECT item_id, quantity::float8, ordered_on, delivery_on FROM facts.purchase_order_line ORDER BY delivery_on"
    ).values.tolist()


def state(store: Store) -> list[list[object]]:
    """Revision, state, version and decider of each revision of the procurement plan."""
    with store.transaction() as connection:
        revisions = read_revisions(connection, "a", DAY)
    shown = revisions.loc[revisions["kind"] == "procurement", ["revision", "state", "approval_version", "decided_by"]]
    return shown.astype(object).where(shown.notna(), None).values.tolist()


def audit(store: Store) -> list[list[object]]:
    """What was decided, first to last."""
    with store.transaction() as connection:
        decisions = read_decisions(connection, "a", DAY)
    return decisions[["action", "actor", "from_state", "to_state"]].values.tolist()


def events(store: Store, type_: str) -> list[dict[str, object]]:
    """The payloads of an event."""
    return store.frame("SELECT payload FROM ops.outbox WHERE type = %(t)s ORDER BY id", {"t": type_})[
        "payload"
    ].tolist()


def test_approval_orders_what_is_due_once_and_keeps_who_when_and_why(planned: Store) -> None:
    decision = approve(planned, "a", DAY, actor=" ana ", now=LATER, notes="looks fine", expected_version=1)
    assert open_orders(planned) == [["flour", 25.0, DAY, DAY + timedelta(days=1)]]
    assert (decision.action, decision.actor, decision.warnings, decision.regeneration) == ("approve", "ana", (), None)
    (decided,) = decision.plans
    assert (decided.from_state, decided.to_state, decided.approval_version) == ("pending", "approved", 2)
    assert (decided.ordered_lines, decided.ordered_amount) == (1, 20.0)
    assert state(planned) == [[1, "approved", 2, "ana"]]
    lines = planned.frame("SELECT status, line_id::text FROM plans.purchase_line ORDER BY order_by")
    assert lines["status"].tolist() == ["ordered", "pending"]
    ordered = planned.frame("SELECT order_line_id, expires_on FROM facts.purchase_order_line")
    assert ordered["order_line_id"].tolist() == lines["line_id"].tolist()[:1]
    assert ordered["expires_on"].tolist() == [DAY + timedelta(days=90)], "90 days, counted with the day of delivery"
    with planned.transaction() as connection:
        row = read_decisions(connection, "a", DAY).iloc[0]
    assert (row["action"], row["notes"], row["warnings"], row["decided_at"]) == ("approve", "looks fine", [], LATER)
    assert row["data"] == {"ordered_lines": 1, "ordered_amount": 20.0}
    (event,) = events(planned, "procurement.plan.approved")
    assert (event["actor"], event["ordered_lines"], event["revision"]) == ("ana", 1, 1)

    with pytest.raises(NotAllowed, match=r"is approved by ana at 2026-03-02 04:50 UTC and cannot be approved"):
        approve(planned, "a", DAY, actor="ben", now=LATER)
    assert len(open_orders(planned)) == 1


def test_an_approved_plan_is_sent_and_then_nothing_more_happens_to_it(planned: Store) -> None:
    approve(planned, "a", DAY, actor="ana", now=LATER)
    mark_sent(planned, "a", DAY, actor="ana", now=LATER, notes="by mail")
    assert state(planned) == [[1, "sent", 3, "ana"]]
    assert audit(planned) == [["approve", "ana", "pending", "approved"], ["send", "ana", "approved", "sent"]]
    for decide in (approve, mark_sent):
        with pytest.raises(NotAllowed, match="is sent"):
            decide(planned, "a", DAY, actor="ben", now=LATER)
    with pytest.raises(NotAllowed, match="cancel its orders"):
        reject(planned, "a", DAY, actor="ben", now=LATER, reason_code="price")


@pytest.mark.parametrize(
    ("decide", "error", "says"),
    [
        (lambda s: mark_sent(s, "a", DAY, actor="ana", now=NOW), NotAllowed, "approve it first"),
        (lambda s: approve(s, "a", DAY, actor="  ", now=NOW), NotAllowed, "--by NAME"),
        (lambda s: approve(s, "nobody", DAY, actor="ana", now=NOW), NotFound, "no tenant nobody"),
        (lambda s: approve(s, "a", DAY + timedelta(days=1), actor="ana", now=NOW), NotFound, "daybreak plan run"),
        (lambda s: approve(s, "a", DAY, "kiosk", actor="ana", now=NOW), NotFound, "give one of main"),
        (
            lambda s: reject(s, "a", DAY, actor="ana", now=NOW, reason_code="dislike"),
            NotAllowed,
            "stale_data, wrong_qty",
        ),
    ],
)
def test_what_cannot_be_decided_is_refused_with_the_remedy_and_changes_nothing(
    planned: Store, decide: Callable[[Store], Decision], error: type[DecisionError], says: str
) -> None:
    with pytest.raises(error, match=says):
        decide(planned)
    assert state(planned) == [[1, "pending", 1, None]]
    assert audit(planned) == []


def test_a_plan_older_than_24_hours_is_approved_with_a_warning_that_is_logged_and_kept(
    planned: Store, caplog: pytest.LogCaptureFixture
) -> None:
    exactly = approve(planned, "a", DAY, actor="ana", now=NOW + timedelta(hours=24))
    assert not [warning for warning in exactly.warnings if "24 hours" in warning]
    plan(planned, now=NOW)
    with caplog.at_level(logging.WARNING):
        late = approve(planned, "a", DAY, actor="ana", now=NOW + timedelta(hours=24, seconds=1))
    assert late.warnings[0].startswith("Approving plan older than 24 hours: revision 2 at main was made at")
    assert "Approving plan older than 24 hours" in caplog.text
    kept = planned.frame("SELECT warnings FROM ops.plan_decision ORDER BY decision_id")["warnings"].tolist()
    assert kept[-1] == list(late.warnings)
    assert events(planned, "procurement.plan.approved")[-1]["warnings"] == list(late.warnings)


def test_a_line_that_should_have_been_ordered_before_is_ordered_and_to_be_expedited(planned: Store) -> None:
    tuesday = NOW + timedelta(days=1)
    decision = approve(planned, "a", DAY, actor="ana", now=tuesday)
    assert open_orders(planned) == [["flour", 25.0, DAY + timedelta(days=1), DAY + timedelta(days=1)]]
    assert "flour from mill for 2026-03-03 should have been ordered by 2026-03-02" in decision.warnings[-1]
    assert "Expedite" in decision.warnings[-1]


def test_a_line_whose_delivery_day_has_passed_is_not_ordered_and_named(planned: Store) -> None:
    wednesday = NOW + timedelta(days=2)
    decision = approve(planned, "a", DAY, actor="ana", now=wednesday)
    assert open_orders(planned) == []
    assert "flour from mill for 2026-03-03 is not ordered" in decision.warnings[-1]
    assert decision.plans[0].ordered_lines == 0


def test_the_tenants_own_date_and_clock_decide_what_is_due(planned: Store) -> None:
    with planned.transaction() as connection:
        connection.execute("UPDATE master.tenant SET timezone = 'Pacific/Auckland'")
    # Noon of 2 March in UTC is one in the night of the 3rd there, so that today's order is a day late.
    decision = approve(planned, "a", DAY, actor="ana", now=NOW.replace(hour=12))
    assert open_orders(planned) == [["flour", 25.0, DAY + timedelta(days=1), DAY + timedelta(days=1)]]
    assert "should have been ordered by 2026-03-02" in decision.warnings[-1]


def test_an_order_after_the_suppliers_cut_off_is_warned_about(planned: Store) -> None:
    assert approve(planned, "a", DAY, actor="ana", now=NOW.replace(hour=10)).warnings == ()
    plan(planned, now=LATER)
    decision = approve(planned, "a", DAY, actor="ana", now=NOW.replace(hour=11, minute=1))  # 12:01 in Madrid
    assert "cut-off at 12:00" in decision.warnings[-1]


def test_inputs_that_came_after_the_plan_are_warned_about(planned: Store) -> None:
    with planned.transaction() as connection:
        bump_input_version(connection, "a", "stock", LATER)
    decision = approve(planned, "a", DAY, actor="ana", now=LATER)
    assert len(decision.warnings) == 1
    assert "stock changed since revision 1" in decision.warnings[0]
    assert len(open_orders(planned)) == 1, "it is approved all the same"


def test_who_has_seen_another_version_is_told_who_decided(planned: Store) -> None:
    approve(planned, "a", DAY, actor="ana", now=LATER, expected_version=1)
    with pytest.raises(Conflict, match=r"revision 1 was approved by ana at .* \(version 2, not 1\)"):
        reject(planned, "a", DAY, actor="ben", now=LATER, reason_code="price", expected_version=1)
    assert state(planned) == [[1, "approved", 2, "ana"]]


def test_a_first_revision_is_not_said_to_supersede_another(planned: Store) -> None:
    with pytest.raises(Conflict, match=r"revision 1 was made at \S+ \S+ UTC \(version 1, not 7\)"):
        approve(planned, "a", DAY, actor="ana", now=LATER, expected_version=7)


def test_a_version_of_a_superseded_revision_never_fits_the_next_one(planned: Store) -> None:
    plan(planned, now=LATER)
    assert state(planned) == [[1, "superseded", 1, None], [2, "pending", 2, None]]
    with pytest.raises(Conflict, match=r"revision 2 was made at .* supersedes"):
        approve(planned, "a", DAY, actor="ana", now=LATER, expected_version=1)
    approve(planned, "a", DAY, actor="ana", now=LATER, expected_version=2)


def in_threads(*actions: Callable[[], object]) -> list[object]:
    """The result, or the refusal, of actions begun at the same time."""
    start = threading.Barrier(len(actions))
    results: list[object] = [None] * len(actions)

    def run(n: int) -> None:
        start.wait()
        try:
            results[n] = actions[n]()
        except DecisionError as error:
            results[n] = error

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(actions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_of_two_approvers_at_once_one_wins_and_the_other_is_told(planned: Store) -> None:
    for revision in range(1, 6):
        version = state(planned)[-1][2]
        results = in_threads(
            *(
                partial(approve, planned, "a", DAY, actor=who, now=LATER, expected_version=version)
                for who in ("ana", "ben")
            )
        )
        winners = [result for result in results if isinstance(result, Decision)]
        losers = [result for result in results if isinstance(result, Conflict)]
        assert (len(winners), len(losers)) == (1, 1)
        assert f"approved by {winners[0].actor}" in str(losers[0])
        assert len(open_orders(planned)) == revision, "a line is ordered once"
        plan(planned, now=LATER)


def test_who_waits_for_a_planning_run_does_not_approve_what_he_has_not_seen(planned: Store) -> None:
    result: list[object] = []
    with planned.transaction() as connection:
        lock_tenants(connection, ["a"])
        approver = threading.Thread(
            target=lambda: result.extend(in_threads(lambda: approve(planned, "a", DAY, actor="ana", now=LATER)))
        )
        approver.start()
        wait_for_lock(planned)
        made = context(connection, ["a"], now=LATER)
        write_procurement(
            connection, made, requirements(["a"]), purchase_lines(["a"]), NO_EXCEPTIONS, {"a": False}
        )  # fmt: skip
    approver.join()
    assert isinstance(result[0], Conflict)
    assert "revision 2" in str(result[0])
    assert open_orders(planned) == []
    assert state(planned) == [[1, "superseded", 1, None], [2, "pending", 2, None]]


def wait_for_lock(store: Store) -> None:
    """Until somebody waits for a row that another holds."""
    for _ in range(500):
        with store.transaction() as connection:
            row = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'").fetchone()
        if row and row[0]:
            return
        threading.Event().wait(0.01)
    raise AssertionError("Nobody waits.")


def test_a_planning_run_waits_for_an_approval_and_keeps_its_orders(planned: Store) -> None:
    with planned.transaction() as connection:
        approve(connection, "a", DAY, actor="ana", now=LATER)
        run = threading.Thread(target=plan, args=(planned,), kwargs={"now": LATER})
        run.start()
        wait_for_lock(planned)
    run.join()
    assert state(planned) == [[1, "superseded", 2, "ana"], [2, "pending", 3, None]]
    assert len(open_orders(planned)) == 1


def test_a_decision_is_gone_with_its_transaction(planned: Store) -> None:
    with pytest.raises(RuntimeError), planned.transaction() as connection:  # noqa: PT012
        approve(connection, "a", DAY, actor="ana", now=LATER)
        raise RuntimeError
    assert (state(planned), audit(planned), open_orders(planned)) == ([[1, "pending", 1, None]], [], [])
    assert events(planned, "procurement.plan.approved") == []


def test_auto_approval_is_a_decision_like_any_other(store: Store) -> None:
    add_bakery(store, "a")
    plan(store, auto_approve=True)
    assert audit(store) == [["approve", "auto-approve", "pending", "approved"]]
    assert state(store) == [[1, "approved", 1, "auto-approve"]]
    assert open_orders(store) == [["flour", 25.0, DAY, DAY + timedelta(days=1)]]
    with pytest.raises(NotAllowed, match="approved by auto-approve"):
        reject(store, "a", DAY, actor="ana", now=LATER, reason_code="price")


@pytest.mark.parametrize(
    ("reason_code", "notes", "is_regenerated"),
    [
        ("stale_data", "", True),
        ("other", "The stock is STALE, we counted at noon", True),
        ("wrong_qty", "outdated prices", True),
        ("wrong_qty", "too much flour", False),
        ("budget", "", False),
    ],
)
def test_only_a_rejection_for_stale_data_is_made_again_by_itself(
    planned: Store, caplog: pytest.LogCaptureFixture, reason_code: str, notes: str, is_regenerated: bool
) -> None:
    with caplog.at_level(logging.INFO):
        decision = reject(planned, "a", DAY, actor="ana", now=LATER, reason_code=reason_code, notes=notes)
    assert "plan rejection" in caplog.text
    assert ("Auto-regenerating plan" in caplog.text) == is_regenerated
    assert (decision.regeneration is not None) == is_regenerated
    with planned.transaction() as connection:
        asked = read_open_regenerations(connection)
    assert len(asked) == is_regenerated
    assert state(planned) == [[1, "rejected", 2, "ana"]]
    (event,) = events(planned, "procurement.plan.rejected")
    assert (event["reason_code"], event["notes"]) == (reason_code, notes)
    assert ("regeneration" in event) == is_regenerated
    assert open_orders(planned) == []


def test_a_date_is_made_again_three_times_and_then_waits_for_a_person(planned: Store) -> None:
    for attempt in (1, 2, 3):
        decision = reject(planned, "a", DAY, actor="ana", now=LATER, reason_code="stale_data")
        assert decision.regeneration is not None
        assert (decision.regeneration.attempt, decision.regeneration.is_requested) == (attempt, True)
        plan(planned, now=LATER)
        with planned.transaction() as connection:
            assert read_open_regenerations(connection).empty, "the new revision settles the request"
            revisions = read_revisions(connection, "a", DAY)
        newest = revisions[revisions["kind"] == "procurement"].iloc[-1]
        rejected = revisions[revisions["kind"] == "procurement"].iloc[-2]
        assert (newest["state"], newest["regenerated_from"]) == ("pending", rejected["plan_id"])
    fourth = reject(planned, "a", DAY, actor="ana", now=LATER, reason_code="stale_data")
    assert fourth.regeneration is not None
    assert not fourth.regeneration.is_requested
    assert "waits for a person" in fourth.regeneration.message
    assert state(planned)[-1] == [4, "rejected", 8, "ana"]
    with planned.transaction() as connection:
        assert read_open_regenerations(connection).empty
    assert audit(planned)[:2] == [
        ["reject", "ana", "pending", "rejected"], ["regenerate", "ana", "rejected", "rejected"],
    ]  # fmt: skip

    plan(planned, now=LATER)  # by a person
    assert approve(planned, "a", DAY, actor="ana", now=LATER).plans[0].to_state == "approved"
    revisions = planned.frame("SELECT regenerated_from FROM plans.plan WHERE kind = 'procurement' ORDER BY revision")
    assert revisions["regenerated_from"].notna().tolist() == [False, True, True, True, False]


def test_another_date_has_attempts_of_its_own(planned: Store) -> None:
    reject(planned, "a", DAY, actor="ana", now=LATER, reason_code="stale_data")
    with planned.transaction() as connection:
        made = context(connection, ["a"], DAY + timedelta(days=1), now=LATER)
        write_procurement(
            connection, made, requirements(["a"], made.plan_date), purchase_lines(["a"], made.plan_date), NO_EXCEPTIONS,
            {"a": False},
        )  # fmt: skip
        assert len(read_open_regenerations(connection)) == 1, "the plan of another date does not settle the request"
    decision = reject(planned, "a", DAY + timedelta(days=1), actor="ana", now=LATER, reason_code="stale_data")
    assert decision.regeneration is not None
    assert decision.regeneration.attempt == 1


# ---------------------------------------------------------------- overrides


def current_hash(store: Store, day: date = DAY) -> dict[str, str]:
    """The inputs hash of a plan made now."""
    with store.transaction() as connection:
        return {"a": inputs_hash(input_versions(connection, ["a"])["a"], day, day)}


def in_force(store: Store) -> tuple[list[list[object]], list[list[object]], list[str]]:
    """Production and purchase overrides that a plan made now would take, and the codes of the exceptions."""
    with store.transaction() as connection:
        found = read_overrides(connection, ["a"], DAY, current_hash(store))
    return found.production.values.tolist(), found.purchase.values.tolist(), found.lapsed["code"].tolist()


def test_an_override_holds_for_plans_of_the_same_inputs_and_lapses_with_an_exception(planned: Store) -> None:
    given = add_override(
        planned, "a", DAY, ProductionLine("bread"), 30, actor="ana", reason="school trip", now=LATER
    )  # fmt: skip
    later_on = DAY + timedelta(days=4)
    add_override(
        planned, "a", DAY, PurchaseLine("flour", "mill", later_on), 0, actor="ben", reason="no room", now=LATER
    )  # fmt: skip
    expected = (
        [["a", "main", "bread", 30, "ana", "school trip"]],
        [["a", "main", "flour", "mill", later_on, 0, "ben", "no room"]],
        [],
    )
    assert in_force(planned) == expected
    plan(planned, now=LATER)
    assert in_force(planned) == expected, "planned again from the same inputs"

    with planned.transaction() as connection:
        bump_input_version(connection, "a", "sales", LATER)
    hashes = current_hash(planned)
    with planned.transaction() as connection:
        found = read_overrides(connection, ["a"], DAY, hashes)
        listed = list_overrides(connection, "a", DAY)
    assert (len(found.production), len(found.purchase)) == (0, 0)
    assert found.lapsed[["link", "subject_kind", "subject_id", "code"]].values.tolist() == [
        ["production_plans", "product", "bread", "override_lapsed"],
        ["procurement_plans", "item", "flour", "override_lapsed"],
    ]
    assert found.lapsed["remedy"][0].endswith(
        "daybreak plan override production --tenant a --date 2026-03-02 --location main --product bread --batches 30 "
        '--reason "school trip".'
    )
    assert listed[["override_id", "state"]].values.tolist()[0] == [given.override_id, "lapsed"]


def test_a_second_override_of_a_line_takes_the_place_of_the_first_and_both_are_kept(planned: Store) -> None:
    for amount in (30, 35):
        given = add_override(planned, "a", DAY, ProductionLine("bread"), amount, actor="ana", reason="fair", now=LATER)
    assert given.replaced == 30
    assert in_force(planned)[0] == [["a", "main", "bread", 35, "ana", "fair"]]
    withdraw_override(planned, "a", given.override_id, actor="ben", now=LATER)
    assert in_force(planned) == ([], [], [])
    with planned.transaction() as connection:
        listed = list_overrides(connection, "a", DAY)
        decided = read_decisions(connection, "a", DAY)
    assert listed[["amount", "state", "withdrawn_by"]].values.tolist() == [
        [30, "withdrawn", "ana"], [35, "withdrawn", "ben"],
    ]  # fmt: skip
    assert decided[["action", "actor", "notes"]].values.tolist() == [
        ["override", "ana", "fair"], ["override", "ana", "fair"], ["withdraw_override", "ben", "fair"],
    ]  # fmt: skip
    assert decided["data"][1]["replaced"] == 30
    with pytest.raises(NotAllowed, match="withdrawn by ben"):
        withdraw_override(planned, "a", given.override_id, actor="ben", now=LATER)
    with pytest.raises(NotFound, match="no override 99"):
        withdraw_override(planned, "a", 99, actor="ben", now=LATER)


def test_an_override_on_changed_inputs_is_taken_and_says_so(planned: Store) -> None:
    with planned.transaction() as connection:
        bump_input_version(connection, "a", "sales", LATER)
    given = add_override(planned, "a", DAY, ProductionLine("bread"), 30, actor="ana", reason="fair", now=LATER)
    assert "inputs have changed" in given.warnings[0]
    assert in_force(planned)[0] == [["a", "main", "bread", 30, "ana", "fair"]], "it holds for the plan made next"


FLOUR = PurchaseLine("flour", "mill", DAY + timedelta(days=4))


@pytest.mark.parametrize(
    ("line", "amount", "error", "says"),
    [
        (ProductionLine("bread"), -1, NotAllowed, "-1 batches cannot be"),
        (ProductionLine("bread"), 1.5, NotAllowed, "whole number"),
        (ProductionLine("bread"), 10**9, NotAllowed, "from 0 to 100000"),
        (ProductionLine("bun"), 1, NotFound, "makes bun"),
        (ProductionLine("bread", "kiosk"), 1, NotFound, "is made at main, not at kiosk"),
        (PurchaseLine("flour", "dairy", DAY), 1, NotFound, "choose mill"),
        (PurchaseLine("salt", "mill", DAY), 1, NotFound, "supplier-items"),
        (PurchaseLine("flour", "mill", DAY + timedelta(days=14)), 1, NotAllowed, "from 2026-03-02 to 2026-03-15"),
        (PurchaseLine("flour", "mill", DAY, "kiosk"), 1, NotFound, "receives goods at main"),
        (FLOUR, -2, NotAllowed, "-2 packs cannot be"),
    ],
)
def test_an_override_that_no_plan_could_take_is_refused(
    planned: Store, line: ProductionLine | PurchaseLine, amount: int, error: type[DecisionError], says: str
) -> None:
    with pytest.raises(error, match=says):
        add_override(planned, "a", DAY, line, amount, actor="ana", reason="x", now=LATER)
    assert in_force(planned) == ([], [], [])


def test_what_is_ordered_or_past_or_without_a_reason_is_not_overridden(planned: Store) -> None:
    approve(planned, "a", DAY, actor="ana", now=LATER)
    ordered = PurchaseLine("flour", "mill", DAY + timedelta(days=1))
    with pytest.raises(NotAllowed, match="1 packs of flour from mill for 2026-03-03 are ordered already"):
        add_override(planned, "a", DAY, ordered, 2, actor="ana", reason="x", now=LATER)
    with pytest.raises(NotAllowed, match="No reason"):
        add_override(planned, "a", DAY, FLOUR, 2, actor="ana", reason=" ", now=LATER)
    with pytest.raises(NotAllowed, match="has passed"):
        add_override(planned, "a", DAY, FLOUR, 2, actor="ana", reason="x", now=NOW + timedelta(days=1))
    with pytest.raises(NotFound, match="no production plan"):
        add_override(
            planned, "a", DAY + timedelta(days=1), ProductionLine("bread"), 2, actor="ana", reason="x", now=LATER
        )  # fmt: skip


def test_overrides_of_one_tenant_are_nobody_elses(planned: Store) -> None:
    add_bakery(planned, "b")
    plan(planned, "b")
    given = add_override(planned, "a", DAY, ProductionLine("bread"), 30, actor="ana", reason="fair", now=LATER)
    with pytest.raises(NotFound):
        withdraw_override(planned, "b", given.override_id, actor="ben", now=LATER)
    with planned.transaction() as connection:
        found = read_overrides(connection, ["b"], DAY, current_hash(planned) | {"b": "x"})
    assert (len(found.production), len(found.lapsed)) == (0, 0)
