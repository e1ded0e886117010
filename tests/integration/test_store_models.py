"""The registry and the model cache on a real Postgres: one champion, all or nothing, and no artefact used unverified."""

import hashlib
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import psycopg
import pytest

from planning.boosting import Model, dump_model, fit_model, load_model
from planning.champion import decide
from planning.features import FEATURE_SCHEMA, FEATURES
from planning.quantiles import Spread
from planning.training import Challenger
from resources.model_cache import ModelCache, load_serving, record_serving
from resources.store import models
from resources.store.database import Store
from resources.store.models import Cause, RegistryError, ServingChanged
from resources.store.versions import input_versions
from tests.integration.store_bakery import DAY, NOW, add_bakery

REMEDY = "daybreak models"


def artefact(seed: int = 1) -> bytes:
    """A small real model, another one per seed."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(200, len(FEATURES)))
    return dump_model(fit_model(values, 1 + np.abs(values[:, 0]), np.ones(200), seed))


ARTEFACT = artefact()
SPREAD = Spread.of(np.linspace(-2.0, 2.0, 400), np.arange(400) % 4, 1.1).as_json()


def challenger(tenant_id: str = "a", content: bytes = ARTEFACT, **wape_pct: float) -> Challenger:
    """A challenger with these figures; it beats seasonal naive unless told otherwise."""
    figures = {"boosting": 28.0, "seasonal_naive": 36.0} | wape_pct
    return Challenger(
        tenant_id=tenant_id,
        algorithm="lightgbm",
        parameters={"num_leaves": 15},
        feature_schema=FEATURE_SCHEMA,
        library_versions={"lightgbm": "4.7.0"},
        trained_from=date(2024, 3, 1),
        trained_to=date(2026, 3, 1),
        series=3,
        rows=2000,
        data_hash="0" * 64,
        backtest=pd.DataFrame(
            [(name, 588, wape, 1.0, 2.0, 0.9, np.nan) for name, wape in figures.items()],
            columns=["candidate", "rows", "wape_pct", "bias_pct", "mae_units", "mase", "pinball_units"],
        ),
        backtest_from=date(2026, 2, 2),
        backtest_to=date(2026, 3, 1),
        spread=SPREAD,
        residuals=pd.DataFrame({"target_on": [], "volume_class": [], "residual": []}),
        artefact=content,
        importances={"lags": 0.6, "calendar": 0.4},
        cpu_s=1.5,
    )


def cause(minutes: int = 0, reason: str = "because") -> Cause:
    return Cause("manual", reason, "run-1", NOW + timedelta(minutes=minutes))


def serve(store: Store, made: Challenger, minutes: int = 0) -> int:
    """Register and promote; returns the version."""
    with store.transaction() as connection:
        parent = models.serving_version(connection, made.tenant_id)
        version = models.register(connection, made, cause(minutes), parent_version=parent)
        models.promote(connection, made.tenant_id, version, cause(minutes, decide(made.backtest).reason))
    return version


def statuses(store: Store, tenant_id: str = "a") -> dict[int, str]:
    found = store.frame("SELECT version, status FROM quality.forecast_model WHERE tenant_id = %(t)s", {"t": tenant_id})
    return dict(zip(found["version"], found["status"], strict=True))


def kept(store: Store, tenant_id: str = "a") -> set[int]:
    return set(
        store.frame("SELECT version FROM quality.model_artefact WHERE tenant_id = %(t)s", {"t": tenant_id})["version"]
    )


def models_version(store: Store, tenant_id: str = "a") -> int:
    with store.transaction() as connection:
        return input_versions(connection, [tenant_id])[tenant_id]["models"]


def events(store: Store) -> pd.DataFrame:
    return store.frame("SELECT subject, tenant_id, payload FROM ops.outbox WHERE type = 'model.promoted' ORDER BY id")


def corrupt(store: Store, tenant_id: str = "a", version: int = 1) -> None:
    with store.transaction() as connection:
        connection.execute(
            "UPDATE quality.model_artefact SET content = set_byte(content, 40, (get_byte(content, 40) + 1) %% 256)"
            " WHERE tenant_id = %s AND version = %s",
            (tenant_id, version),
        )


def problems(store: Store, cache: ModelCache, tenant_ids: Sequence[str] = ("a",)) -> pd.DataFrame:
    with store.transaction() as connection:
        return load_serving(connection, cache, tenant_ids).problems


# ---------------------------------------------------------------- the registry


def test_a_promotion_changes_the_champion_the_data_version_and_the_outbox_together(store: Store) -> None:
    add_bakery(store, "a")
    assert serve(store, challenger()) == 1
    assert serve(store, challenger(serving=30.0), minutes=1) == 2
    assert statuses(store) == {1: "archived", 2: "champion"}
    assert models_version(store) == 2
    told = events(store)
    assert list(told["subject"]) == ["v1", "v2"]
    assert told["payload"].iloc[1]["previous_version"] == 1
    with store.transaction() as connection:
        (champion,) = models.read_champions(connection, ["a"]).itertuples()
        backtest = models.read_backtest(connection, "a", 2)
        attempts = models.read_attempts(connection, ["a", "b"])
    assert (champion.version, champion.wape_pct, champion.spread) == (2, 28.0, SPREAD)
    assert champion.artefact_sha256 == hashlib.sha256(ARTEFACT).hexdigest()
    assert list(backtest["candidate"]) == ["boosting", "serving", "seasonal_naive"]
    assert backtest["pinball_units"].isna().all(), "what is undefined is null"
    assert attempts == {"a": NOW + timedelta(minutes=1)}


def test_a_kill_in_the_middle_of_a_promotion_leaves_nothing_of_it(store: Store) -> None:
    add_bakery(store, "a")
    serve(store, challenger())

    with psycopg.connect(store.dsn) as connection:
        version = models.register(connection, challenger(content=artefact(2)), cause(1), parent_version=1)
        models.promote(connection, "a", version, cause(1))
        with store.transaction() as other:
            other.execute("SELECT pg_terminate_backend(%s)", (connection.info.backend_pid,))
        with pytest.raises(psycopg.OperationalError):
            connection.commit()
    assert statuses(store) == {1: "champion"}
    assert (models_version(store), len(events(store)), kept(store)) == (1, 1, {1})
    assert len(store.frame("SELECT FROM quality.model_decision")) == 1


def test_of_two_challengers_that_met_the_same_champion_one_takes_over_and_the_other_is_told(store: Store) -> None:
    add_bakery(store, "a")
    serve(store, challenger())
    barrier, outcomes = threading.Barrier(2), []

    def compete(seed: int) -> None:
        barrier.wait()
        try:
            with store.transaction() as connection:
                version = models.register(connection, challenger(content=artefact(seed)), cause(seed), parent_version=1)
                models.promote(connection, "a", version, cause(seed))
        except ServingChanged as error:
            outcomes.append(str(error))
        else:
            outcomes.append("promoted")

    threads = [threading.Thread(target=compete, args=(seed,)) for seed in (2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcome == "promoted" for outcome in outcomes) == [False, True]
    assert any("took over" in outcome and "daybreak models train --tenant a" in outcome for outcome in outcomes)
    assert statuses(store) == {1: "archived", 2: "champion"}


def test_the_database_itself_admits_one_champion_a_tenant(store: Store) -> None:
    add_bakery(store, "a")
    serve(store, challenger())
    with store.transaction() as connection:
        models.register(connection, challenger(), cause(1), parent_version=1)
    with pytest.raises(psycopg.errors.UniqueViolation), store.transaction() as connection:
        connection.execute(
            "UPDATE quality.forecast_model SET status = 'champion', promoted_at = now() WHERE version = 2"
        )


def test_a_rejected_challenger_is_kept_for_the_record_without_its_artefact(store: Store) -> None:
    add_bakery(store, "a")
    serve(store, challenger())
    with store.transaction() as connection:
        version = models.register(connection, challenger(serving=28.1), cause(1), parent_version=1)
        models.reject(connection, "a", version, cause(1))
        decisions = models.read_decisions(connection, ["a"])
    assert statuses(store) == {1: "champion", 2: "challenger"}
    assert (kept(store), models_version(store), len(events(store))) == ({1}, 1, 1)
    assert list(decisions["action"]) == ["not_improvable", "promoted"]
    assert decisions["serving_version"].tolist() == [1, 1]


def test_three_artefacts_are_kept_and_all_rows(store: Store) -> None:
    add_bakery(store, "a")
    for minutes in range(5):
        serve(store, challenger(content=artefact(minutes)), minutes)
    assert kept(store) == {3, 4, 5}
    assert set(statuses(store)) == {1, 2, 3, 4, 5}
    with store.transaction() as connection:
        found = models.read_models(connection, ["a"])
    assert dict(zip(found["version"], found["has_artefact"], strict=True)) == {
        5: True, 4: True, 3: True, 2: False, 1: False,
    }  # fmt: skip


def test_a_rollback_returns_to_what_served_before_and_then_to_the_rules(store: Store) -> None:
    add_bakery(store, "a")
    serve(store, challenger())
    serve(store, challenger(), minutes=1)
    with store.transaction() as connection:
        assert models.rollback(connection, "a", reason="too many baguettes", now=NOW + timedelta(minutes=2)) == (1, 2)
    assert statuses(store) == {1: "champion", 2: "archived"}
    assert models_version(store) == 3
    assert events(store)["payload"].iloc[-1]["reason"] == "Rolled back by hand: too many baguettes"
    with store.transaction() as connection:
        assert models.rollback(connection, "a", reason="still", now=NOW + timedelta(minutes=3)) == (None, 1)
        assert models.serving_version(connection, "a") is None
    assert events(store)["subject"].iloc[-1] == "rules"
    with store.transaction() as connection:
        assert models.rollback(connection, "a", reason="yes", version=2, now=NOW + timedelta(minutes=4)) == (2, None)
    assert statuses(store) == {1: "archived", 2: "champion"}


@pytest.mark.parametrize(
    ("version", "says"),
    [(1, "only 3 are kept"), (9, "no version 9"), (4, "serves already"), (5, "is gone")],
)
def test_a_rollback_to_what_cannot_serve_is_refused_with_the_remedy(store: Store, version: int, says: str) -> None:
    add_bakery(store, "a")
    for minutes in range(4):
        serve(store, challenger(), minutes)
    with store.transaction() as connection:
        rejected = models.register(connection, challenger(), cause(5), parent_version=4)
        models.reject(connection, "a", rejected, cause(5))
    with pytest.raises(RegistryError, match=says) as refused, store.transaction() as connection:
        models.rollback(connection, "a", reason="why not", version=version, now=NOW)
    assert "Remedy" in str(refused.value)
    assert statuses(store)[4] == "champion"


def test_the_rules_can_always_be_returned_to(store: Store) -> None:
    add_bakery(store, "a")
    for minutes in range(4):
        serve(store, challenger(), minutes)
    with store.transaction() as connection:
        connection.execute("DELETE FROM quality.model_artefact WHERE version < 4")
    with pytest.raises(RegistryError, match="Remedy"), store.transaction() as connection:
        models.rollback(connection, "a", reason="x", now=NOW)
    with store.transaction() as connection:
        assert models.rollback(connection, "a", reason="x", now=NOW, is_to_rules=True) == (None, 4)
        assert models.serving_version(connection, "a") is None


def test_a_champion_that_could_not_be_compared_is_no_version_to_return_to(store: Store) -> None:
    add_bakery(store, "a")
    serve(store, challenger())
    with store.transaction() as connection:
        version = models.register(connection, challenger(), cause(1), parent_version=1, is_compared=False)
        models.promote(connection, "a", version, cause(1))
        assert models.rollback(connection, "a", reason="x", now=NOW + timedelta(minutes=2)) == (None, 2)


def test_a_rollback_to_a_damaged_artefact_is_refused_and_names_the_others_that_are_kept(store: Store) -> None:
    add_bakery(store, "a")
    for minutes in range(3):
        serve(store, challenger(), minutes)
    with store.transaction() as connection:
        connection.execute("UPDATE quality.model_artefact SET content = 'no model' WHERE version = 2")
    with pytest.raises(RegistryError, match=r"2 of a is damaged.* kept \(1\)"), store.transaction() as connection:
        models.rollback(connection, "a", reason="x", now=NOW)
    assert statuses(store) == {1: "archived", 2: "archived", 3: "champion"}


def test_without_a_champion_a_rollback_names_the_versions_that_are_kept(store: Store) -> None:
    add_bakery(store, "a")
    with pytest.raises(RegistryError, match="daybreak models train --tenant a"), store.transaction() as connection:
        models.rollback(connection, "a", reason="x", now=NOW)
    serve(store, challenger())
    with store.transaction() as connection:
        assert models.retire(connection, "a", cause(1)) == 1
    with pytest.raises(RegistryError, match=r"kept \(1\)"), store.transaction() as connection:
        models.rollback(connection, "a", reason="x", now=NOW)
    with pytest.raises(RegistryError, match="No model serves"), store.transaction() as connection:
        models.retire(connection, "a", cause(2))


def test_an_attempt_without_a_model_counts_and_a_rollback_does_not(store: Store) -> None:
    add_bakery(store, "a")
    serve(store, challenger())
    with store.transaction() as connection:
        models.skip(connection, "a", cause(5, "only 12 open days"))
        models.rollback(connection, "a", reason="x", now=NOW + timedelta(minutes=9))
        assert models.read_attempts(connection, ["a"]) == {"a": NOW + timedelta(minutes=5)}
        decisions = models.read_decisions(connection, ["a"], run_id="run-1")
    assert list(decisions["action"]) == ["skipped", "promoted"]
    assert decisions["reason"].iloc[0] == "only 12 open days"


def test_tenants_do_not_see_each_others_models(store: Store) -> None:
    for tenant_id in ("a", "b"):
        add_bakery(store, tenant_id)
    serve(store, challenger("a", artefact(1)))
    serve(store, challenger("a", artefact(2)), minutes=1)
    serve(store, challenger("b", artefact(3)))
    with store.transaction() as connection:
        assert models.rollback(connection, "a", reason="x", now=NOW) == (1, 2)
        assert models.serving_version(connection, "b") == 1
        assert list(models.read_models(connection, ["b"])["version"]) == [1]
        assert set(models.read_artefacts(connection, [("b", 1), ("b", 2)])) == {("b", 1)}
    assert (models_version(store, "a"), models_version(store, "b")) == (3, 1)
    with store.transaction() as connection:
        serving = load_serving(connection, ModelCache(), ["b"])
    assert set(serving.models) == {"b"}


# ---------------------------------------------------------------- serving


class Counted:
    """A loader that counts."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, content: bytes) -> Model:
        self.count += 1
        return load_model(content)


def test_a_champion_is_loaded_once_and_forecasts(store: Store, tmp_path: Path) -> None:
    add_bakery(store, "a")
    serve(store, challenger())
    load = Counted()
    cache = ModelCache(tmp_path, load=load)
    for _ in range(3):
        with store.transaction() as connection:
            serving = load_serving(connection, cache, ["a", "nobody"])
    assert load.count == 1
    assert serving.problems.empty
    model = serving.models["a"]
    assert (model.version, model.label, model.backtest_wape_pct) == (1, "boosting@v1", 28.0)
    assert model.backtest_reason.startswith("because")
    assert model.trained_to == date(2026, 3, 1)
    assert np.isfinite(model.model.predict(np.zeros((2, len(FEATURES))))).all()


def test_a_file_of_the_cache_serves_when_the_row_is_gone_and_the_other_way_round(store: Store, tmp_path: Path) -> None:
    add_bakery(store, "a")
    serve(store, challenger())
    assert problems(store, ModelCache(tmp_path)).empty
    (file,) = tmp_path.iterdir()
    assert file.name == hashlib.sha256(ARTEFACT).hexdigest()
    corrupt(store)
    assert problems(store, ModelCache(tmp_path)).empty, "the file is intact"
    file.unlink()
    assert len(problems(store, ModelCache(tmp_path))) == 1


def test_a_damaged_file_is_removed_and_read_again_from_the_store(store: Store, tmp_path: Path) -> None:
    add_bakery(store, "a")
    serve(store, challenger())
    file = tmp_path / hashlib.sha256(ARTEFACT).hexdigest()
    file.write_bytes(ARTEFACT[:-1] + b"!")
    assert problems(store, ModelCache(tmp_path)).empty
    assert file.read_bytes() == ARTEFACT


def test_a_damaged_or_missing_artefact_is_a_problem_with_a_remedy_and_the_others_serve(store: Store) -> None:
    for tenant_id in ("a", "b", "c"):
        add_bakery(store, tenant_id)
        serve(store, challenger(tenant_id, artefact(ord(tenant_id))))
    corrupt(store, "a")
    with store.transaction() as connection:
        connection.execute("DELETE FROM quality.model_artefact WHERE tenant_id = 'b'")
        serving = load_serving(connection, ModelCache(), ["a", "b", "c"])
    assert set(serving.models) == {"c"}
    found = serving.problems.set_index("tenant_id")
    assert set(found["code"]) == {"model_unusable"}
    assert set(found["link"]) == {"forecasts"}
    assert "sha256 differs" in found.at["a", "message"]
    assert "no artefact" in found.at["b", "message"]
    assert all(REMEDY in remedy for remedy in found["remedy"])


def test_a_model_of_other_features_does_not_serve(store: Store) -> None:
    add_bakery(store, "a")
    serve(store, replace(challenger(), feature_schema="f" * 64))
    (problem,) = problems(store, ModelCache()).itertuples()
    assert "other features" in problem.message
    assert "daybreak models train --tenant a" in problem.remedy


@pytest.mark.parametrize("spread", [{**SPREAD, "scale_power": 0.123}, {**SPREAD, "levels": "none"}, {}, {"levels": 1}])
def test_a_model_with_a_residual_table_of_another_kind_does_not_serve(
    store: Store, spread: Mapping[str, object]
) -> None:
    add_bakery(store, "a")
    serve(store, replace(challenger(), spread=spread))
    (problem,) = problems(store, ModelCache()).itertuples()
    assert "residual table" in problem.message


def test_a_model_whose_library_is_missing_does_not_serve_and_its_remedy_is_told(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_bakery(store, "a")
    serve(store, challenger())
    broken = tmp_path / "lightgbm"
    broken.mkdir()
    (broken / "__init__.py").write_text('raise OSError("libgomp.so.1: cannot open shared object file")')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "lightgbm")
    (problem,) = problems(store, ModelCache()).itertuples()
    assert "libgomp.so.1" in problem.message
    assert problem.remedy.startswith("Install the system library of LightGBM, as `daybreak doctor` says")
    assert "daybreak models train --tenant a" in problem.remedy


def test_an_unusable_model_is_one_open_failure_until_it_serves_again_or_gives_way(store: Store) -> None:
    add_bakery(store, "a")
    serve(store, challenger())

    def morning(day: date, now: datetime) -> list[str]:
        with store.transaction() as connection:
            return record_serving(connection, load_serving(connection, ModelCache(), ["a"]), day, "run-2", now)

    def failures() -> Mapping[str, int]:
        found = store.frame(
            "SELECT count(*) AS n, count(*) FILTER (WHERE resolved_at IS NULL) AS open FROM ops.failure"
        )
        return dict(found.iloc[0])

    corrupt(store)
    assert morning(DAY, NOW) == ["a"]
    assert morning(DAY + timedelta(days=1), NOW + timedelta(days=1)) == []
    assert failures() == {"n": 1, "open": 1}
    with store.transaction() as connection:
        connection.execute("UPDATE quality.model_artefact SET content = %s", (ARTEFACT,))
    assert morning(DAY + timedelta(days=2), NOW + timedelta(days=2)) == []
    assert failures() == {"n": 1, "open": 0}
    corrupt(store)
    assert morning(DAY + timedelta(days=3), NOW + timedelta(days=3)) == ["a"]
    with store.transaction() as connection:
        models.rollback(connection, "a", reason="damaged", now=NOW + timedelta(days=4))
    assert failures() == {"n": 2, "open": 0}


def test_a_folder_that_cannot_be_written_costs_no_model(store: Store, tmp_path: Path) -> None:
    add_bakery(store, "a")
    serve(store, challenger())
    (tmp_path / "file").touch()
    assert problems(store, ModelCache(tmp_path / "file" / "models")).empty


def test_the_folder_is_bounded_and_forgets_what_was_not_used_for_longest(tmp_path: Path) -> None:
    contents = [bytes([n]) * 1000 for n in range(4)]
    names = [hashlib.sha256(content).hexdigest() for content in contents]
    cache = ModelCache(tmp_path, max_folder_bytes=2500)
    for n in range(3):
        cache.write({names[n]: contents[n]})
        os.utime(tmp_path / names[n], (n + 1, n + 1)) if (tmp_path / names[n]).exists() else None
    (tmp_path / "left.tmp").touch()
    os.utime(tmp_path / "left.tmp", (1, 1))
    assert cache.read(names[1]) == contents[1], "reading it makes it young again"
    cache.write({names[3]: contents[3]})
    assert {path.name for path in tmp_path.iterdir()} == {names[1], names[3]}


def test_more_champions_than_stay_loaded_serve_all_the_same(store: Store) -> None:
    for tenant_id in ("a", "b", "c"):
        add_bakery(store, tenant_id)
        serve(store, challenger(tenant_id, artefact(ord(tenant_id))))
    cache = ModelCache(max_loaded=1)
    for _ in range(2):
        with store.transaction() as connection:
            assert set(load_serving(connection, cache, ["a", "b", "c"]).models) == {"a", "b", "c"}
