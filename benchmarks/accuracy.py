"""How good the forecasts are: every candidate of Daybreak and public libraries on the same rows, with their CPU time.

Run by `python -m benchmarks.accuracy [--data FOLDER] [--no-sample] [--folds N] [--ablation] [--json]`. A fold is 84 days of
origins with horizons 1 to 7, models refit every 28 days; the first ends with the data, each further one 84 days earlier, so
that a setting can be judged on several. Data sets are the synthetic sample and, with `--data`, the French bakery, whose
sales are real (`daily_sales.csv`: unique_id, ds, y in euro, unit_price). Both go through the importer into a database and
are read back as training reads them.

The libraries live in an environment of their own, made by `make rivals`, and are started from it (`rivals.py`, which also
says what they are given); without it the benchmark says so and goes on. AutoETS and MSTL are fitted per series and origin
and forecast from every 7th origin only (`--origins`); on the rows of these origins all candidates are shown once more. A
rival that makes no forecast of a row, because the series is too short for it, takes seasonal naive's, which is counted.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.french_bakery_files import LOCATION, read_sales
from benchmarks.rivals import SETTINGS
from benchmarks.store import empty_server
from daybreak.cli.backtest import Inputs, read_inputs
from daybreak.sample import load_sample
from planning.backtest import BacktestRows, rolling_backtest
from planning.calendar import SERIES
from planning.features import GROUPS, MAX_HORIZON_DAYS
from planning.frames import Panel
from planning.keys import positions
from planning.scoring import LEVEL_NAMES, score, select
from resources.imports.importer import Options, import_batch
from resources.imports.source import Source
from resources.store.database import Store
from resources.store.master import Location, Tenant, add_location, add_tenant
from resources.store.migrate import upgrade

NOW = datetime(2026, 3, 2, 4, 30, tzinfo=UTC)
FRENCH, SAMPLE = "french-bakery", "sample"
ORIGINS, HORIZON_DAYS, REFIT_DAYS = 84, 7, 28
AT_EVERY_ORIGIN, AT_SOME_ORIGINS = ("mlforecast",), ("auto_ets", "mstl")
RIVALS_PYTHON = Path(".venv-rivals/bin/python")
NO_RIVALS = "AutoETS, MSTL and mlforecast are left out: {} does not exist. Remedy: make rivals."
POINTS_MISSED = 3.0
"""A level further outside the shares of demand below and at most its quantile is marked in the table."""


def main() -> None:
    """Measure, and print tables or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder of the French bakery's daily_sales.csv")
    parser.add_argument("--no-sample", action="store_true", help="leave the synthetic sample out")
    parser.add_argument("--folds", type=int, default=1, help="84-day windows, each 84 days before the last")
    parser.add_argument("--origins", type=int, default=7, help="AutoETS and MSTL forecast from every so many origins")
    parser.add_argument(
        "--ablation", action="store_true", help="WAPE without each feature group, on two folds at least"
    )
    parser.add_argument("--rivals-python", type=Path, default=RIVALS_PYTHON, help="interpreter with the libraries")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    source = options.data and options.data / "daily_sales.csv"
    if source and not source.is_file():
        parser.error(f"{source} does not exist. Remedy: give the folder of daily_sales.csv with --data.")
    rivals = options.rivals_python if options.rivals_python.exists() else None
    datasets = read_datasets(source, not options.no_sample, ORIGINS * max(options.folds, 2))
    if not datasets:
        parser.error("nothing to measure. Remedy: give --data, or leave --no-sample out.")
    result: dict[str, Any] = {
        "origins": ORIGINS,
        "horizon_days": HORIZON_DAYS,
        "refit_days": REFIT_DAYS,
        "rivals": SETTINGS if rivals else None,
        "note": None if rivals else NO_RIVALS.format(options.rivals_python),
        "datasets": {},
    }
    for name, tenants in datasets.items():
        folds = [measure(tenants, fold, rivals, options.origins) for fold in range(options.folds)]
        result["datasets"][name] = {"tenants": len(tenants), "folds": folds}
        if options.ablation:
            ablated = [ablation(tenants, fold) for fold in range(max(options.folds, 2))]
            result["datasets"][name]["ablation"] = ablated
    print(json.dumps(result, allow_nan=False) if options.json else "\n".join(as_text(result)))


# ---------------------------------------------------------------- data


def read_datasets(source: Path | None, has_sample: bool, days: int) -> dict[str, list[Inputs]]:
    """The data sets' tenants, imported into a temporary database and read back with `days` to be forecast."""
    with empty_server(None) as dsn:
        upgrade(dsn)
        with Store(dsn) as store:
            datasets = {}
            if source:
                say("importing the French bakery")
                datasets[FRENCH] = [import_french_bakery(store, source, days)]
            if has_sample:
                say("importing the sample")
                datasets[SAMPLE] = [read_inputs(store, tenant_id, days) for tenant_id in load_sample(store, NOW)]
            return datasets


def import_french_bakery(store: Store, source: Path, days: int) -> Inputs:
    """The bakery as a tenant with sales and nothing else; its closed days are left for the product to find."""
    sales, _ = read_sales(source)
    rows = sales.assign(location_id=LOCATION, quantity_units=sales["units"])
    columns = ["location_id", "product_id", "business_date", "quantity_units", "unit_price"]
    content = rows[columns].to_csv(index=False).encode()
    with store.transaction() as connection:
        add_tenant(connection, Tenant(FRENCH, FRENCH, "Europe/Paris", "FR", NOW))
        add_location(connection, Location(FRENCH, LOCATION, FRENCH))
    created = Options(create=frozenset({"product"}))
    (report,) = import_batch(store, "sales", [Source.of_bytes(FRENCH, source.name, content)], now=NOW, options=created)
    if report.status != "imported":
        raise SystemExit(f"{source} is refused: {report.problems[0]}")
    return read_inputs(store, FRENCH, days)


def through(inputs: Inputs, days_before_end: int) -> Inputs:
    """The inputs as they were so many days earlier."""
    kept = inputs.history.days - days_before_end
    history = Panel(
        inputs.history.keys,
        {name: matrix[:, :kept] for name, matrix in inputs.history.values.items()},
        inputs.history.first_day,
    )
    return replace(inputs, history=history, calendar=inputs.calendar.window(history.first_day, kept + MAX_HORIZON_DAYS))


# ---------------------------------------------------------------- measuring


@dataclass(frozen=True)
class Forecasts:
    """A fold's rows of all tenants, rivals among the candidates; NaN in a rival where it was not asked.

    is_common: (rows,) bool, those of origins from which every rival was asked; origins are counted by tenant.
    cpu_s: candidate -> seconds; `daybreak` is all of ours together. fallbacks: rival -> rows in which seasonal naive stands
    in. failures: rival -> what its library raised.
    """

    rows: BacktestRows
    is_common: np.ndarray
    cpu_s: dict[str, float]
    fallbacks: dict[str, int]
    failures: dict[str, list[str]]


def measure(tenants: Sequence[Inputs], fold: int, rivals: Path | None, every: int) -> dict[str, Any]:
    """Scores of one fold, on the rows of all origins and on those of the origins that every rival forecast from."""
    made = forecasts(tenants, fold, rivals, every)
    rows = made.rows
    found: dict[str, Any] = {
        "fold": fold,
        "all_origins": score(without(rows, AT_SOME_ORIGINS)),
        "cpu_s": made.cpu_s,
        "rows_by_naive": made.fallbacks,
        "failures": {name: [len(texts), *texts[:3]] for name, texts in made.failures.items() if texts},
    }
    if rivals:
        found["common_origins"] = {"every": every, **score(select(rows, made.is_common))}
    return found


def forecasts(tenants: Sequence[Inputs], fold: int, rivals: Path | None, every: int) -> Forecasts:
    """Every candidate's forecasts of a fold."""
    names = (*AT_EVERY_ORIGIN, *AT_SOME_ORIGINS) if rivals else ()
    parts: list[BacktestRows] = []
    cpu_s: dict[str, float] = dict.fromkeys(("daybreak", *names), 0.0)
    fallbacks = dict.fromkeys(names, 0)
    failed: dict[str, list[str]] = {name: [] for name in names}
    for inputs in tenants:
        cut = through(inputs, fold * ORIGINS)
        label = f"fold {fold}, {cut.history.keys['tenant_id'].iloc[0]}"
        say(f"{label}: Daybreak's candidates")
        began = time.process_time()
        rows = rolling_backtest(
            cut.history, cut.calendar, days=ORIGINS, horizon_days=HORIZON_DAYS, refit_days=REFIT_DAYS
        )
        cpu_s["daybreak"] += time.process_time() - began
        means = dict(rows.mean_units)
        for name in names:
            say(f"{label}: {name}")
            step = every if name in AT_SOME_ORIGINS else 1
            units, seconds, failures = rival_forecasts(rivals, name, cut, rows, step)
            is_asked = is_common(rows, step)
            is_missing = is_asked & np.isnan(units)
            means[name] = np.where(is_missing, rows.mean_units["seasonal_naive"], units)
            cpu_s[name] += seconds
            fallbacks[name] += int(is_missing.sum())
            failed[name] += failures
        parts.append(replace(rows, mean_units=means))
    asked = np.concatenate([is_common(part, every) for part in parts])
    return Forecasts(stacked(parts), asked, cpu_s, fallbacks, failed)


def is_common(rows: BacktestRows, every: int) -> np.ndarray:
    """The rows of every so many origins, counted from the first: (rows,) bool."""
    return (rows.origin - rows.origin.min()).astype(np.int64) % every == 0


def without(rows: BacktestRows, candidates: Iterable[str]) -> BacktestRows:
    """The rows less some candidates."""
    return replace(rows, mean_units={name: units for name, units in rows.mean_units.items() if name not in candidates})


def rival_forecasts(
    python: Path | None, name: str, inputs: Inputs, rows: BacktestRows, every: int
) -> tuple[np.ndarray, float, list[str]]:
    """A rival's forecast of each row, NaN where it made none or was not asked; its CPU seconds; what its library raised."""
    history, calendar = inputs.history, inputs.calendar
    first = np.datetime64(history.first_day, "D")
    column = (rows.origin - first).astype(np.int64)
    origins = np.unique(column[is_common(rows, every)])
    width = history.days + HORIZON_DAYS
    flags = {
        "is_open": calendar.is_open,
        "is_promotion": calendar.is_promotion,
        "is_holiday": calendar.is_holiday[calendar.place],
        "is_school_holiday": calendar.is_school_holiday[calendar.place],
    }
    with tempfile.TemporaryDirectory(prefix="daybreak-rivals-") as folder:
        given, made = Path(folder) / "given.npz", Path(folder) / "made.npz"
        np.savez(
            given,
            first_day=np.array(history.first_day.isoformat()),
            demand_units=history["demand_units"],
            origins=origins,
            **{f"calendar_{flag}": matrix[:, :width] for flag, matrix in flags.items() if matrix.any()},
        )
        # One thread each, so that CPU seconds compare and the machine stays usable.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        program = Path(__file__).with_name("rivals.py")
        ended = subprocess.run(
            [str(python), str(program), str(given), str(made), name],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if ended.returncode:
            raise SystemExit(f"{name} failed: {ended.stderr[-2000:]}")
        with np.load(made) as found:
            mean, cpu_s, failures = found["mean_units"], float(found["cpu_s"]), found["failures"].tolist()
    series = positions(rows.keys, history.keys, SERIES)[rows.series]
    at = np.minimum(np.searchsorted(origins, column), len(origins) - 1)
    units = mean[at, series, rows.horizon_days - 1]
    return np.where(origins[at] == column, units, np.nan), cpu_s, failures


def stacked(parts: Sequence[BacktestRows]) -> BacktestRows:
    """The rows of several tenants as one."""
    offsets = np.cumsum([0, *(len(part.keys) for part in parts[:-1])])
    plain = (
        "origin",
        "target",
        "horizon_days",
        "actual_units",
        "is_censored",
        "volume_class",
        "day_kind",
        "scale_units",
    )
    return BacktestRows(
        keys=pd.concat([part.keys for part in parts], ignore_index=True),
        series=np.concatenate([part.series + offset for part, offset in zip(parts, offsets, strict=True)]),
        mean_units={n: np.concatenate([part.mean_units[n] for part in parts]) for n in parts[0].mean_units},
        quantile_units={n: np.concatenate([part.quantile_units[n] for part in parts]) for n in parts[0].quantile_units},
        champions=pd.concat([part.champions for part in parts], ignore_index=True),
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in plain},
    )


def ablation(tenants: Sequence[Inputs], fold: int) -> dict[str, Any]:
    """WAPE of boosting with all features and without each group, in %, on one fold."""
    wape = {}
    for left_out in (None, *GROUPS):
        say(f"fold {fold}: boosting without {left_out or 'nothing'}")
        parts = []
        for inputs in tenants:
            cut = through(inputs, fold * ORIGINS)
            leave = () if left_out is None else (left_out,)
            parts.append(
                rolling_backtest(
                    cut.history, cut.calendar,
                    days=ORIGINS, horizon_days=HORIZON_DAYS, refit_days=REFIT_DAYS, without=leave,
                )
            )  # fmt: skip
        wape[left_out or "nothing"] = score(stacked(parts))["models"]["boosting"]["wape_pct"]
    return {"fold": fold, "wape_pct_without": wape}


# ---------------------------------------------------------------- on paper


def as_text(result: Mapping[str, Any]) -> Iterator[str]:
    """The tables."""
    if result["note"]:
        yield result["note"]
    for name, found in result["datasets"].items():
        for fold in found["folds"]:
            scored = fold["all_origins"]
            yield ""
            yield (
                f"{name}, fold {fold['fold']}: {scored['rows']:,} rows, {scored['from']} to {scored['to']}, every origin "
                f"({found['tenants']} tenants, {scored['rows_censored']} rows sold out and left out)"
            )
            yield from _models(scored, fold["cpu_s"])
            if "common_origins" in fold:
                common = fold["common_origins"]
                yield ""
                yield f"{name}, fold {fold['fold']}: {common['rows']:,} rows, one origin in {common['every']}, every rival"
                yield from _models(common, fold["cpu_s"])
            if any(fold["rows_by_naive"].values()):
                yield f"rows in which seasonal naive stands in: {fold['rows_by_naive']}"
            for rival, texts in fold["failures"].items():
                yield f"{rival}: {texts[0]} fits failed, such as {texts[1]}"
            yield from _calibration(scored["models"]["champion"])
        yield from _ablation(found.get("ablation", []))
    if result["rivals"]:
        yield ""
        yield from (f"{name}: {settings}" for name, settings in result["rivals"].items())


def _models(scored: Mapping[str, Any], cpu_s: Mapping[str, float]) -> Iterator[str]:
    models = scored["models"]
    yield (
        f"  {'candidate':<22}{'WAPE %':>8}{'/ naive':>9}{'/ mean 8w':>11}{'MAPE %':>8}{'bias %':>8}{'MASE':>7}{'MAE':>8}"
        f"{'pinball':>9}{'0.9 order':>11}{'CPU s':>8}"
    )
    naive, mean = (models[name]["wape_pct"] for name in ("seasonal_naive", "weekday_mean_8w"))
    for name, model in models.items():
        reduction = (model["newsvendor"] or {}).get("reduction_pct")
        cells = (
            (model["wape_pct"], "8.2f"),
            (_ratio(model["wape_pct"], naive), "9.3f"),
            (_ratio(model["wape_pct"], mean), "11.3f"),
            (model["mape_pct"], "8.1f"),
            (model["bias_pct"], "+8.1f"),
            (model["mase"], "7.3f"),
            (model["mae_units"], "8.3f"),
            (model["pinball_mean_units"], "9.3f"),
            (None if reduction is None else -reduction, "+10.0f"),
            (cpu_s.get("daybreak" if name == "champion" else name), "9.1f"),
        )
        yield f"  {name:<22}" + "".join(_cell(value, form) for value, form in cells)
    yield (
        "  0.9 order: change in % of the 9 : 1 newsvendor loss by ordering the 0.9 quantile, not the mean. CPU s: champion's is "
        "of all our candidates, training and all origins."
    )


def _calibration(model: Mapping[str, Any]) -> Iterator[str]:
    """Per level the shares of days with demand below and at most the champion's quantile, overall and by volume class."""
    groups = {"overall": model, **{f"class {key}": part for key, part in model["by_volume_class"].items()}}
    yield ""
    yield f"  {'champion covers':<16}" + "".join(f"{float(level):>14.0%}" for level in LEVEL_NAMES)
    for name, part in groups.items():
        cells = []
        for level in LEVEL_NAMES:
            if part["coverage_pct"][level] is None:
                cells.append(f"{'-':>14}")
                continue
            mark = "!" if part["coverage_gap_pct"][level] > POINTS_MISSED else ""
            cells.append(f"{part['coverage_below_pct'][level]:.1f} / {part['coverage_pct'][level]:.1f}{mark}".rjust(14))
        yield f"  {name:<16}" + "".join(cells)
    yield (
        f"  in %, below / at most the quantile; ! where the level lies more than {POINTS_MISSED:g} points outside. "
        "Class 0 is the quarter of series that sells least."
    )


def _ablation(folds: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not folds:
        return
    yield ""
    yield f"  {'boosting without':<22}" + "".join(f"{'fold ' + str(fold['fold']):>18}" for fold in folds)
    for group in folds[0]["wape_pct_without"]:
        cells = []
        for fold in folds:
            wape, whole = fold["wape_pct_without"][group], fold["wape_pct_without"]["nothing"]
            cells.append(f"{wape:.2f} ({100 * (wape / whole - 1):+.1f} %)".rjust(18))
        yield f"  {group:<22}" + "".join(cells)


def _ratio(value: float | None, of: float | None) -> float | None:
    return value / of if value is not None and of else None


def _cell(value: float | None, form: str) -> str:
    width = int(form.lstrip("+").split(".")[0])
    return "-".rjust(width) if value is None else format(value, form)


def say(text: str) -> None:
    """Tell a person who waits what is being done."""
    print(f"{datetime.now(UTC):%H:%M:%S} {text} …", file=sys.stderr)


if __name__ == "__main__":
    main()
