"""The model as data: fitted the same by the same seed, written and read to the bit, refused when damaged or foreign."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from planning.boosting import (
    LIGHTGBM,
    ModelError,
    dump_model,
    fit_model,
    library_versions,
    lightgbm_fault,
    load_model,
)
from planning.features import FEATURE_SCHEMA, FEATURES

needs_lightgbm = pytest.mark.skipif(lightgbm_fault() is not None, reason=str(lightgbm_fault()))
ROOT = Path(__file__).parents[2]


def rows(seed: int = 1, n: int = 2000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, len(FEATURES))).astype(np.float32)
    shares = rng.gamma(4, np.exp(0.4 * values[:, 0]) / 4)
    return values, shares, rng.gamma(2, 5, size=n)


@needs_lightgbm
class TestLightGbm:
    def test_the_same_rows_and_seed_give_the_same_artefact(self):
        assert dump_model(fit_model(*rows(), seed=3)) == dump_model(fit_model(*rows(), seed=3))

    def test_a_model_that_was_written_and_read_predicts_the_same_to_the_bit(self):
        model = fit_model(*rows(), seed=3)
        values = rows(seed=9)[0]
        read = load_model(dump_model(model))
        assert read.algorithm == LIGHTGBM
        np.testing.assert_array_equal(read.predict(values), model.predict(values))

    def test_it_learns_the_mean_of_what_it_is_shown(self):
        values, shares, weights = rows(n=8000)
        predicted = fit_model(values, shares, weights, seed=3).predict(values)
        assert np.average(predicted, weights=weights) == pytest.approx(np.average(shares, weights=weights), rel=0.03)
        assert np.corrcoef(predicted, np.exp(0.4 * values[:, 0]))[0, 1] > 0.9

    def test_importances_are_shares_of_the_gain(self):
        importances = fit_model(*rows(), seed=3).importances
        assert sum(importances.values()) == pytest.approx(1)
        assert max(importances, key=importances.__getitem__) == FEATURES[0]

    def test_the_artefact_is_text_and_no_pickle(self):
        content = gzip.decompress(dump_model(fit_model(*rows(), seed=3)))
        head, _, body = content.partition(b"\n")
        assert json.loads(head)["algorithm"] == LIGHTGBM
        assert body.decode().startswith("tree\n")

    def test_the_libraries_are_named(self):
        assert {"lightgbm", "numpy", "scikit-learn"} == set(library_versions(fit_model(*rows(), seed=3)))


@needs_lightgbm
class TestRefusals:
    artefact = property(lambda _self: dump_model(fit_model(*rows(n=500), seed=1)))

    def test_a_damaged_artefact(self):
        artefact = self.artefact
        for damaged in (b"", b"not gzip", artefact[:-20], artefact[:1000] + b"\0" * 50 + artefact[1050:]):
            with pytest.raises(ModelError, match="cannot be read"):
                load_model(damaged)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"feature_schema": "0" * 64}, "other features"),
            ({"format": 99}, "format"),
            ({"algorithm": "oracle"}, "unknown"),
        ],
    )
    def test_an_artefact_of_another_kind(self, change, words):
        head, _, body = gzip.decompress(self.artefact).partition(b"\n")
        foreign = gzip.compress(json.dumps(json.loads(head) | change).encode() + b"\n" + body)
        with pytest.raises(ModelError, match=words):
            load_model(foreign)

    def test_a_text_that_is_no_model(self):
        head, _, _ = gzip.decompress(self.artefact).partition(b"\n")
        with pytest.raises(ModelError, match="cannot be read"):
            load_model(gzip.compress(head + b"\nnot a tree"))


WITHOUT_LIBGOMP = """
import sys
import numpy as np
from planning.boosting import ModelError, dump_model, fit_model, library_versions, lightgbm_fault, load_model
from planning.features import FEATURES

assert "libgomp.so.1" in lightgbm_fault(), lightgbm_fault()
rng = np.random.default_rng(1)
values = rng.normal(size=(2000, len(FEATURES))).astype(np.float32)
shares = rng.gamma(4, np.exp(0.4 * values[:, 0]) / 4)
model = fit_model(values, shares, np.ones(2000), seed=1)
assert model.algorithm == "hist_gradient_boosting", model.algorithm
assert "lightgbm" not in library_versions(model)
artefact = dump_model(model)
again = fit_model(values, shares, np.ones(2000), seed=1)
np.testing.assert_array_equal(again.predict(values), model.predict(values))
np.testing.assert_array_equal(load_model(artefact).predict(values), model.predict(values))
try:
    load_model(open(sys.argv[1], "rb").read())
except ModelError as error:
    assert "libgomp.so.1" in str(error), error
else:
    raise SystemExit("a LightGBM model was read without LightGBM")
print("fell back")
"""


def test_without_the_system_library_scikit_learn_takes_over_and_says_so(tmp_path: Path):
    """In a process of its own, in which importing LightGBM fails as it does on a machine without libgomp."""
    package = tmp_path / "lightgbm"
    package.mkdir()
    fault = "libgomp.so.1: cannot open shared object file: No such file or directory"
    (package / "__init__.py").write_text(f"raise OSError({fault!r})\n", encoding="utf-8")
    artefact = tmp_path / "lightgbm.gz"
    header = {"format": 1, "algorithm": LIGHTGBM, "feature_schema": FEATURE_SCHEMA}
    artefact.write_bytes(gzip.compress(json.dumps(header).encode() + b"\ntree"))
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_LIBGOMP, str(artefact)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == "fell back"
