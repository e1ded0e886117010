"""`daybreak backtest`, run as a person runs it, over imported sales in a real database."""

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from daybreak.cli import main

FIRST, LAST = date(2025, 1, 6), date(2025, 6, 29)
DAYS = (LAST - FIRST).days + 1
SERIES = {("main", "bread"): 60, ("main", "cake"): 15, ("kiosk", "bread"): 25}
TENANT = ("--tenant", "krume")
CANDIDATES = {"champion", "boosting", "seasonal_naive", "weekday_mean_8w", "weekday_mean_x_level"}


def sales() -> pd.DataFrame:
    """Every series sells on every day; cake sold out on two days of the last month."""
    rng = np.random.default_rng(11)
    weekday = np.array([0.8, 0.9, 0.9, 1.0, 1.2, 1.5, 0.7])
    days = [FIRST + timedelta(days=n) for n in range(DAYS)]
    rows = []
    for (location_id, product_id), level in SERIES.items():
        units = 1 + rng.poisson(level * weekday[[day.weekday() for day in days]])
        rows += [(location_id, product_id, day, sold, "") for day, sold in zip(days, units, strict=True)]
    frame = pd.DataFrame(rows, columns=["location_id", "product_id", "business_date", "quantity_units", "sold_out_at"])
    is_sold_out = (frame["product_id"] == "cake") & frame["business_date"].isin([date(2025, 6, 12), date(2025, 6, 20)])
    frame.loc[is_sold_out, "sold_out_at"] = "15:30"
    return frame


@pytest.fixture
def run(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command line against a database with a bakery of three series."""
    monkeypatch.setenv("DATABASE_URL", dsn)
    monkeypatch.setenv("DAYBREAK_HOME", str(tmp_path / "home"))

    def invoke(*arguments: str, expect: int = 0) -> Result:
        result = CliRunner().invoke(main, list(arguments))
        assert result.exit_code == expect, (result.output, result.exception)
        return result

    invoke("tenant", "add", "krume", "--timezone", "Europe/Berlin", "--country", "DE", "--subdivision", "BE")
    file = tmp_path / "sales.csv"
    sales().to_csv(file, index=False)
    invoke("import", "sales", str(file), *TENANT, "--create-products", "--create-locations")
    return invoke


def test_every_candidate_is_scored_on_the_same_past_days(run: Any) -> None:
    found = json.loads(run("backtest", *TENANT, "--days", "28", "--json").stdout)
    assert (found["tenant"], found["series"], found["horizon_days"], found["to"]) == ("krume", 3, 7, "2025-06-29")
    assert set(found["models"]) == CANDIDATES
    counts = {(model["rows"], model["rows_used"], model["rows_zero"]) for model in found["models"].values()}
    assert counts == {(found["rows"], found["rows"] - found["rows_censored"], 0)}
    # Each sold-out day is a target of up to seven origins.
    assert found["rows_censored"] == 14
    for model in found["models"].values():
        assert set(model["by_horizon"]) == {str(horizon) for horizon in range(1, 8)}
        assert sum(part["rows"] for part in model["by_horizon"].values()) == found["rows"]
        assert sum(part["rows"] for part in model["by_volume_class"].values()) == found["rows"]
        assert sum(part["rows"] for part in model["by_day_kind"].values()) == found["rows"]
        assert list(model["coverage_pct"]) == ["0.01", "0.05", "0.1", "0.25", "0.5", "0.75", "0.9", "0.95", "0.99"]
        assert 0 < model["wape_pct"] < 60
    # Pentecost and Ascension lie in these weeks.
    assert set(found["models"]["champion"]["by_day_kind"]) == {"normal", "holiday"}
    served = [row["candidate"] for row in found["champions"]]
    assert served
    assert set(served) <= CANDIDATES - {"champion"}


def test_seasonal_naive_is_scored_as_the_file_of_sales_says(run: Any) -> None:
    found = json.loads(
        run("backtest", *TENANT, "--product", "bread", "--days", "28", "--horizon", "1", "--json").stdout
    )
    bread = sales()
    wide = bread[bread["product_id"] == "bread"].pivot_table(
        index="business_date", columns="location_id", values="quantity_units"
    )
    days = slice(date.fromisoformat(found["from"]), date.fromisoformat(found["to"]))
    actual, before = wide.loc[days], wide.shift(7).loc[days]
    expected = 100 * (actual - before).abs().to_numpy().sum() / actual.to_numpy().sum()
    assert found["rows"] == actual.size == 56
    assert found["models"]["seasonal_naive"]["wape_pct"] == pytest.approx(expected, abs=1e-3)


def test_a_location_or_product_is_scored_out_of_the_same_forecasts(run: Any) -> None:
    def of(*choice: str) -> dict[str, Any]:
        return json.loads(run("backtest", *TENANT, "--days", "14", *choice, "--json").stdout)

    whole = of()
    parts = [of("--location", location, "--product", product) for location, product in SERIES]
    assert [part["series"] for part in parts] == [1, 1, 1]
    assert sum(part["rows"] for part in parts) == whole["rows"]
    for candidate in CANDIDATES:
        models = [part["models"][candidate] for part in parts]
        error = sum(model["wape_pct"] * model["actual_units"] for model in models)
        pooled = whole["models"][candidate]
        assert error / pooled["actual_units"] == pytest.approx(pooled["wape_pct"], abs=1e-2)


def test_a_person_gets_a_table_and_a_picture(run: Any, tmp_path: Path) -> None:
    picture = tmp_path / "band.png"
    output = run("backtest", *TENANT, "--days", "28", "--plot", str(picture)).output
    assert set(output.split()) >= CANDIDATES
    assert "what serves" in output
    assert "The largest of 3 series" in output
    assert picture.read_bytes().startswith(b"\x89PNG")
    drawing = tmp_path / "band.svg"
    output = run("backtest", *TENANT, "--location", "kiosk", "--days", "14", "--plot", str(drawing)).output
    assert "<svg" in drawing.read_text()
    assert f"{drawing}: The series" in output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--tenant", "krumme"), "did you mean krume"),
        ((*TENANT, "--location", "mian"), "did you mean main"),
        ((*TENANT, "--product", "gateau"), "name one of bread, cake"),
        ((*TENANT, "--location", "kiosk", "--product", "cake"), "name one of bread"),
        ((*TENANT, "--days", "170"), "--days 161"),
        ((*TENANT, "--days", "14", "--plot", "band.pdf"), ".png"),
        ((*TENANT, "--days", "14", "--plot", "no-such-folder/band.png"), "does not exist"),
    ],
)
def test_what_cannot_be_scored_is_refused_with_the_remedy(run: Any, arguments: tuple[str, ...], words: str) -> None:
    output = run("backtest", *arguments, expect=3).output
    assert words in output
    assert "Remedy" in output


def test_a_folder_is_no_picture(run: Any, tmp_path: Path) -> None:
    folder = tmp_path / "band.png"
    folder.mkdir()
    assert "is a folder" in run("backtest", *TENANT, "--days", "14", "--plot", str(folder), expect=3).output


def test_a_tenant_without_sales_is_told_to_import_some(run: Any) -> None:
    run("tenant", "add", "empty", "--timezone", "Europe/Berlin", "--country", "DE")
    assert "import sales FILE --create-products --tenant empty" in run("backtest", "--tenant", "empty", expect=3).output
