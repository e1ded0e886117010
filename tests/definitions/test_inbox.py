"""The watched folder through real ticks: files end in done/ or refused/, none is lost, none imported twice."""

from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from resources.imports import inbox as inbox_module
from resources.imports.inbox import INBOX_SETTING, InboxError, kind_of, take_in
from resources.store.database import Store
from tests.definitions.conftest import NOW, definitions_of
from tests.integration.store_bakery import add_bakery

HEADER = "location_id,product_id,business_date,quantity_units\n"
GOOD = HEADER + "main,bread,2026-03-01,40\n"


@pytest.fixture
def inbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store) -> Path:
    """An inbox with a folder for tenant `a`."""
    add_bakery(store, "a")
    folder = tmp_path / "inbox"
    (folder / "a").mkdir(parents=True)
    monkeypatch.setenv(INBOX_SETTING, str(folder))
    return folder


def tick(instance: dg.DagsterInstance, store: Store, cursor: str | None, now: datetime) -> tuple[str | None, str]:
    """Evaluate the sensor; returns the new cursor and what it says."""
    repository = definitions_of(store.dsn, now).get_repository_def()
    with dg.build_sensor_context(
        instance=instance,
        instance_ref=instance.get_ref(),
        cursor=cursor,
        repository_def=repository,
        resources=repository.get_top_level_resources(),
    ) as context:
        result = repository.get_sensor_def("inbox_sensor").evaluate_tick(context)
    return result.cursor, result.skip_message or ""


def look_twice(store: Store, folder: Path) -> dict[str, str]:
    """Two looks, six seconds apart; returns what became of each file."""
    _, seen = take_in(store, folder, {}, NOW)
    taken, _ = take_in(store, folder, seen, NOW + timedelta(seconds=6))
    return {f"{file.tenant_id}/{file.name}": file.outcome for file in taken}


def sold(store: Store) -> list[float]:
    return [
        float(units) for units in store.frame("SELECT quantity_units FROM facts.sales ORDER BY 1")["quantity_units"]
    ]


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def test_a_file_is_imported_when_it_is_at_rest_and_moved(
    instance: dg.DagsterInstance, store: Store, inbox: Path
) -> None:
    path = inbox / "a" / "sales-march.csv"
    path.write_text(HEADER)
    cursor, said = tick(instance, store, None, NOW)
    assert said == "Imported 0 files, refused 0, left 0; 1 wait."
    path.write_text(GOOD)  # it was still being written
    cursor, _ = tick(instance, store, cursor, NOW + timedelta(seconds=30))
    assert sold(store) == []
    cursor, said = tick(instance, store, cursor, NOW + timedelta(seconds=60))
    assert said == "Imported 1 files, refused 0, left 0; 0 wait."
    assert sold(store) == [40.0]
    assert files_of(inbox) == {"a/done/2026-03-02-sales-march.csv"}

    # The same name on the same day: what is in done/ is not replaced.
    path.write_text(GOOD.replace("40", "41"))
    cursor, _ = tick(instance, store, cursor, NOW + timedelta(seconds=90))
    tick(instance, store, cursor, NOW + timedelta(seconds=120))
    assert sold(store) == [41.0]
    assert files_of(inbox) == {"a/done/2026-03-02-sales-march.csv", "a/done/2026-03-02-2-sales-march.csv"}


def test_a_kill_between_the_import_and_the_move_imports_nothing_twice(
    store: Store, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (inbox / "a" / "sales.csv").write_text(GOOD)
    with monkeypatch.context() as patched:

        def killed(*_: object) -> Path:
            raise KeyboardInterrupt

        patched.setattr(inbox_module, "_folder", killed)
        with pytest.raises(KeyboardInterrupt):
            look_twice(store, inbox)
    assert sold(store) == [40.0]
    assert files_of(inbox) == {"a/sales.csv"}
    assert look_twice(store, inbox) == {"a/sales.csv": "done"}
    assert store.frame("SELECT version FROM facts.actuals_day")["version"].tolist() == [1]
    assert len(store.frame("SELECT * FROM ops.import")) == 1


def test_bad_files_are_refused_with_row_column_value_and_remedy_and_the_good_ones_are_imported(
    store: Store, inbox: Path
) -> None:
    (inbox / "a" / "sales-bad.csv").write_text(HEADER + "main,bread,2026-03-01,many\nmain,cake,2026-03-01,3\n")
    (inbox / "a" / "sales-good.csv").write_text(GOOD)
    (inbox / "a" / "turnover.csv").write_text(GOOD)
    (inbox / "a" / "sales-next.csv.part").write_text("an upload under way")
    (inbox / "nobody").mkdir()
    (inbox / "nobody" / "sales.csv").write_text(GOOD)
    assert look_twice(store, inbox) == {
        "a/sales-bad.csv": "refused",
        "a/sales-good.csv": "done",
        "a/turnover.csv": "refused",
        "nobody/sales.csv": "refused",
    }
    assert sold(store) == [40.0]
    problems = (inbox / "a" / "refused" / "2026-03-02-sales-bad.csv.problems.txt").read_text()
    assert "row 2, quantity_units 'many'" in problems
    assert "--keep-good" in problems
    assert (inbox / "a" / "refused" / "2026-03-02-sales-bad.csv").read_text().count("\n") == 3, "nothing is lost"
    assert "tells no kind" in (inbox / "a" / "refused" / "2026-03-02-turnover.csv.problems.txt").read_text()
    assert "no tenant" in (inbox / "nobody" / "refused" / "2026-03-02-sales.csv.problems.txt").read_text()
    assert (inbox / "a" / "sales-next.csv.part").exists()


def test_links_and_names_with_separators_are_refused(store: Store, inbox: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text(GOOD)
    (inbox / "a" / "sales-link.csv").symlink_to(secret)
    (inbox / "a" / "sales-..\\up.csv").write_text(GOOD)
    (inbox / "linked").symlink_to(inbox / "a")
    assert look_twice(store, inbox) == {"a/sales-link.csv": "refused", "a/sales-..\\up.csv": "refused"}
    assert sold(store) == []
    assert secret.read_text() == GOOD

    outside = tmp_path / "outside"
    outside.mkdir()
    (inbox / "a" / "done").symlink_to(outside)
    (inbox / "a" / "sales.csv").write_text(GOOD)
    assert look_twice(store, inbox) == {"a/sales.csv": "left"}
    assert list(outside.iterdir()) == []


def test_an_inbox_that_is_missing_is_named(instance: dg.DagsterInstance, store: Store, inbox: Path) -> None:
    with pytest.raises(InboxError, match="DAYBREAK_INBOX"):
        take_in(store, inbox / "none", {}, NOW)
    assert tick(instance, store, "no cursor", NOW)[1] == "Imported 0 files, refused 0, left 0; 0 wait."


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sales.csv", "sales"),
        ("SALES-2026.CSV", "sales"),
        ("supplier-items-a.csv", "supplier-items"),
        ("customer-orders.csv", "customer-orders"),
        ("salesmen.csv", None),
        (".csv", None),
    ],
)
def test_the_kind_is_told_by_the_name(name: str, kind: str | None) -> None:
    assert kind_of(name) == kind
