"""The model: gradient boosting over features, how it is fitted, asked, written down and read again.

What belongs here: LightGBM, and scikit-learn's gradient boosting where LightGBM's system library is missing. What does not:
which rows it is fitted to (`planning.training`) and what the features are (`planning.features`).

A written model is data, not a program: LightGBM's text format, or skops with a list of the types it may hold.
"""

import gzip
import json
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import sklearn
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from planning.features import FEATURE_SCHEMA, FEATURES

LIGHTGBM = "lightgbm"
HIST_GRADIENT_BOOSTING = "hist_gradient_boosting"

FORMAT = 1

# Demand is counted: its variance grows a little faster than its mean, which a Tweedie power between Poisson (1) and gamma
# (2) says. Settings were chosen on several folds of one real bakery and on synthetic ones: docs/adr/0008.
PARAMETERS: Mapping[str, object] = {
    "objective": "tweedie",
    "tweedie_variance_power": 1.2,
    "n_estimators": 150,
    "num_leaves": 15,
    "learning_rate": 0.06,
    "min_child_samples": 40,
    "subsample": 0.8,
    "subsample_freq": 1,
    "colsample_bytree": 0.45,
    "reg_lambda": 1.0,
}

FALLBACK_PARAMETERS: Mapping[str, object] = {
    "loss": "poisson",
    "max_iter": 150,
    "max_leaf_nodes": 15,
    "learning_rate": 0.06,
    "min_samples_leaf": 40,
    "l2_regularization": 1.0,
    "max_features": 0.45,
    "early_stopping": False,
}

TRUSTED_TYPES = ("sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",)
"""What a written fallback model may hold beside what skops trusts by itself."""


class ModelError(Exception):
    """A model cannot be read or asked. The message says why."""


class Model(Protocol):
    """A fitted model."""

    @property
    def algorithm(self) -> str:
        """Its name, as the registry keeps it."""
        ...

    @property
    def importances(self) -> dict[str, float]:
        """Share of each feature in what the model gained by splitting, summing to 1; empty where unknown."""
        ...

    def predict(self, values: np.ndarray) -> np.ndarray:
        """Expected share of the level, (rows,), for features (rows, features)."""
        ...


@dataclass(frozen=True)
class LightGbmModel:
    """A LightGBM booster."""

    booster: Any
    algorithm: str = LIGHTGBM

    def predict(self, values: np.ndarray) -> np.ndarray:
        """Expected share of the level, (rows,), never negative."""
        return np.maximum(self.booster.predict(values, num_threads=1), 0.0)

    @cached_property
    def importances(self) -> dict[str, float]:
        """Share of each feature in the gain."""
        gain = self.booster.feature_importance("gain")
        return dict(zip(FEATURES, (gain / max(gain.sum(), 1e-12)).tolist(), strict=True))


@dataclass(frozen=True)
class HistGradientBoostingModel:
    """scikit-learn's gradient boosting: a little less accurate, and needs no library of the system."""

    regressor: HistGradientBoostingRegressor
    algorithm: str = HIST_GRADIENT_BOOSTING

    def predict(self, values: np.ndarray) -> np.ndarray:
        """Expected share of the level, (rows,), never negative."""
        with threadpool_limits(limits=1):
            return np.maximum(self.regressor.predict(values), 0.0)

    @property
    def importances(self) -> dict[str, float]:
        """Not offered by the algorithm."""
        return {}


def lightgbm_fault() -> str | None:
    """Why LightGBM cannot be used on this machine; None when it can."""
    try:
        _lightgbm()
    except ModelError as error:
        return str(error)
    return None


def fit_model(values: np.ndarray, shares: np.ndarray, weights: np.ndarray, seed: int) -> Model:
    """Fit a model of the expected share of the level.

    values: (rows, features); shares: (rows,), demand over level; weights: (rows,). The same rows and seed give the same
    model. LightGBM where it can be used, else scikit-learn's gradient boosting.
    """
    if lightgbm_fault() is None:
        regressor = _lightgbm().LGBMRegressor(
            **PARAMETERS, n_jobs=1, random_state=seed, deterministic=True, force_row_wise=True, verbose=-1
        )
        regressor.fit(values, shares, sample_weight=weights)
        return LightGbmModel(regressor.booster_)
    fallback = HistGradientBoostingRegressor(**FALLBACK_PARAMETERS, random_state=seed)
    with threadpool_limits(
        limits=1
    ):  # as LightGBM: tenants share the machine, and threads that wait for each other are slow
        fallback.fit(values, shares, sample_weight=weights)
    return HistGradientBoostingModel(fallback)


def parameters_of(model: Model) -> dict[str, object]:
    """The settings that a model of its algorithm is fitted with."""
    return dict(PARAMETERS if model.algorithm == LIGHTGBM else FALLBACK_PARAMETERS)


def library_versions(model: Model) -> dict[str, str]:
    """The libraries that a model was made with."""
    versions = {"numpy": np.__version__, "scikit-learn": sklearn.__version__}
    if model.algorithm == LIGHTGBM:
        versions["lightgbm"] = str(_lightgbm().__version__)
    return versions


def dump_model(model: Model) -> bytes:
    """The model as compressed data: a line of JSON that says what it is, then the model."""
    if isinstance(model, LightGbmModel):
        content = model.booster.model_to_string().encode()
    elif isinstance(model, HistGradientBoostingModel):
        import skops.io  # noqa: PLC0415 (only where LightGBM is missing)

        content = skops.io.dumps(model.regressor)
    else:
        raise ModelError(f"A model of the type {type(model).__name__} cannot be written.")
    header = {"format": FORMAT, "algorithm": model.algorithm, "feature_schema": FEATURE_SCHEMA}
    # A fixed time, so that equal models have equal artefacts.
    return gzip.compress(json.dumps(header).encode() + b"\n" + content, compresslevel=6, mtime=0)


def load_model(artefact: bytes) -> Model:
    """Read a model that `dump_model` wrote. Raises ModelError when it is damaged, of another format or of other features."""
    try:
        head, _, content = gzip.decompress(artefact).partition(b"\n")
        header = json.loads(head)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ModelError(f"The model cannot be read: {error}.") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ModelError("The model is of a format that this version does not know.")
    if header.get("feature_schema") != FEATURE_SCHEMA:
        raise ModelError("The model was trained on other features than this version computes. Train it again.")
    if header["algorithm"] == LIGHTGBM:
        lightgbm = _lightgbm()
        try:
            return LightGbmModel(lightgbm.Booster(model_str=content.decode()))
        except (lightgbm.basic.LightGBMError, ValueError) as error:
            raise ModelError(f"The model cannot be read: {error}.") from error
    if header["algorithm"] == HIST_GRADIENT_BOOSTING:
        import skops.io  # noqa: PLC0415 (only where LightGBM is missing)

        try:
            return HistGradientBoostingModel(skops.io.loads(content, trusted=list(TRUSTED_TYPES)))
        except Exception as error:
            raise ModelError(f"The model cannot be read: {error}.") from error
    raise ModelError(f"The model's algorithm {header['algorithm']!r} is unknown.")


def _lightgbm() -> ModuleType:
    """LightGBM. Raises ModelError where its system library is missing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its import touches names that pandas deprecates
            import lightgbm  # noqa: PLC0415 (may fail, see below)
    except OSError as error:
        raise ModelError(f"LightGBM cannot be loaded: {error}.") from error
    module: ModuleType = lightgbm
    return module
