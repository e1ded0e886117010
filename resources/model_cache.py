"""Serving models ready to forecast: loaded ones in this process, artefacts in a local folder, the registry behind both.

Neither the folder nor what is loaded is ever needed: without them every artefact is read from the store. An artefact is
named by its sha256, which is verified whenever one is loaded, so that a damaged file or row is noticed and never used.
"""

import hashlib
import logging
import os
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from planning.boosting import LIGHTGBM, Model, ModelError, lightgbm_fault, load_model
from planning.champion import ServingModel
from planning.features import FEATURE_SCHEMA
from planning.frames import exceptions_of
from planning.quantiles import Spread
from resources.store.database import Connection
from resources.store.models import label_of, read_artefacts, read_champions, record_unusable, resolve_unusable

LINK = "forecasts"
UNUSABLE = "model_unusable"
"""The code of an exception row that says that a champion cannot serve, so that the rules do."""

INSTALL_REMEDY = "Install the system library of LightGBM, as `daybreak doctor` says, and restart, or do without it. "
"""What comes first where the library is missing, so that no model of LightGBM can serve."""

MAX_LOADED = 1000
"""Models that stay loaded: two chunks of tenants."""

MAX_FOLDER_BYTES = 2_000_000_000
"""Size of the folder, from which the artefacts that were not used for longest are deleted. Ten thousand take 0.7 GB."""

STALE_TEMPORARY_S = 3600
"""Age from which a file that was never finished is left over from a process that died."""

logger = logging.getLogger("daybreak.models")


class ModelCache:
    """Models of this process by the sha256 of their artefact, and artefacts in a folder, if there is one.

    One process may use a folder beside others. `load` makes a model of an artefact and raises ModelError when it cannot.
    """

    def __init__(
        self,
        folder: Path | None = None,
        max_loaded: int = MAX_LOADED,
        max_folder_bytes: int = MAX_FOLDER_BYTES,
        load: Callable[[bytes], Model] = load_model,
    ) -> None:
        self.folder = folder
        self._max_loaded = max_loaded
        self._max_folder_bytes = max_folder_bytes
        self._load = load
        self._loaded: OrderedDict[str, Model] = OrderedDict()

    def loaded(self, sha256: str) -> Model | None:
        """The model, when this process has it."""
        model = self._loaded.get(sha256)
        if model is not None:
            self._loaded.move_to_end(sha256)
        return model

    def load(self, sha256: str, artefact: bytes) -> Model:
        """Make a model of a verified artefact and keep it. Raises ModelError."""
        model = self._load(artefact)
        self._loaded[sha256] = model
        while len(self._loaded) > self._max_loaded:
            self._loaded.popitem(last=False)
        return model

    def read(self, sha256: str) -> bytes | None:
        """The artefact from the folder; None when it is not there. A damaged file is removed."""
        if self.folder is None:
            return None
        path = self.folder / sha256
        try:
            content = path.read_bytes()
            if is_artefact(content, sha256):
                os.utime(path)
                return content
            path.unlink(missing_ok=True)
        except FileNotFoundError:
            return None
        except OSError as error:
            logger.warning("The model cache cannot read %s (%s); the store is read instead.", path, error.strerror)
            return None
        logger.warning("The model cache held a damaged file, %s; it is removed and the store is read instead.", path)
        return None

    def write(self, artefacts: Mapping[str, bytes]) -> None:
        """Keep verified artefacts as files. A folder that cannot be written is only a warning: the store has them all."""
        if self.folder is None or not artefacts:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for sha256, content in artefacts.items():
                self._write_file(self.folder, sha256, content)
            self._prune(self.folder)
        except OSError as error:
            logger.warning("The model cache cannot write in %s (%s).", self.folder, error.strerror)

    @staticmethod
    def _write_file(folder: Path, sha256: str, content: bytes) -> None:
        handle, temporary = tempfile.mkstemp(suffix=".tmp", dir=folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(temporary).replace(folder / sha256)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def _prune(self, folder: Path) -> None:
        files = []
        for entry in os.scandir(folder):
            try:
                state = entry.stat()
            except FileNotFoundError:  # another process pruned it
                continue
            if entry.name.endswith(".tmp"):
                if time.time() - state.st_mtime > STALE_TEMPORARY_S:
                    Path(entry.path).unlink(missing_ok=True)
            else:
                files.append((state.st_mtime, state.st_size, entry.path))
        size = sum(size for _, size, _ in files)
        for _, of_file, path in sorted(files):
            if size <= self._max_folder_bytes:
                return
            Path(path).unlink(missing_ok=True)
            size -= of_file


@cache
def shared_cache(folder: Path | None) -> ModelCache:
    """The cache of this process over a folder, so that runs in one process share what is loaded."""
    return ModelCache(folder)


def is_artefact(content: bytes, sha256: str) -> bool:
    """Whether the content is what the registry names."""
    return hashlib.sha256(content).hexdigest() == sha256


@dataclass(frozen=True)
class Serving:
    """The champions of a batch.

    models: tenant_id -> its champion, for tenants that have a usable one. versions: tenant_id -> the version that serves by
    the registry, also where it is not usable. problems: exception rows of code
    `model_unusable`, one per tenant whose champion cannot serve; the rules serve those, as they do tenants without one.
    """

    models: Mapping[str, ServingModel]
    versions: Mapping[str, int]
    problems: pd.DataFrame


def load_serving(connection: Connection, cache: ModelCache, tenant_ids: Sequence[str]) -> Serving:
    """The champions of tenants, from this process, else the folder, else the store in one query for all of them.

    A champion whose artefact is missing or damaged, that was trained on other features, or that cannot be loaded on this
    machine, is a problem row and never an error. `record_serving` keeps these for the operator.
    """
    champions = read_champions(connection, tenant_ids)
    problems: list[tuple[str, ...]] = []
    usable = []
    for champion in champions.itertuples():
        if champion.feature_schema != FEATURE_SCHEMA:
            problems.append(
                _problem(champion, "was trained on other features than this version of the program computes")
            )
        elif not _is_readable(champion.spread):
            problems.append(_problem(champion, "has a residual table of another kind than this version reads"))
        else:
            usable.append(champion)
    loaded, contents, faults = _fetch(connection, cache, usable)
    models = {}
    for champion in usable:
        if champion.tenant_id in faults:
            problems.append(_problem(champion, faults[champion.tenant_id]))
            continue
        try:
            sha256 = champion.artefact_sha256
            served = loaded[sha256] if sha256 in loaded else cache.load(sha256, contents[sha256])
        except ModelError as error:
            is_library = champion.algorithm == LIGHTGBM and lightgbm_fault() is not None
            problems.append(_problem(champion, "cannot be loaded", str(error), INSTALL_REMEDY if is_library else ""))
            continue
        models[champion.tenant_id] = ServingModel(
            tenant_id=champion.tenant_id,
            version=int(champion.version),
            label=label_of(champion.version),
            model=served,
            spread=champion.spread,
            backtest_wape_pct=float(champion.wape_pct),
            backtest_reason=champion.decision,
            trained_to=champion.trained_to,
        )
    for problem in problems:
        logger.warning("%s: %s %s", problem[0], problem[6], problem[7])
    versions = {champion.tenant_id: int(champion.version) for champion in champions.itertuples()}
    return Serving(models, versions, exceptions_of(problems))


def _is_readable(spread: Mapping[str, object]) -> bool:
    """Whether this version of the program reads the residual table, which an earlier or a later one may have written."""
    try:
        return Spread.from_json(spread) is not None
    except (AssertionError, KeyError, TypeError, ValueError):
        return False


def _fetch(
    connection: Connection, cache: ModelCache, champions: Sequence[Any]
) -> tuple[dict[str, Model], dict[str, bytes], dict[str, str]]:
    """Models that are loaded and artefacts of the others, by sha256, and what is wrong with the rest, by tenant."""
    loaded: dict[str, Model] = {}
    contents: dict[str, bytes] = {}
    for sha256 in {champion.artefact_sha256 for champion in champions}:
        if (model := cache.loaded(sha256)) is not None:
            loaded[sha256] = model
        elif (content := cache.read(sha256)) is not None:
            contents[sha256] = content
    missing = [
        champion
        for champion in champions
        if champion.artefact_sha256 not in contents and champion.artefact_sha256 not in loaded
    ]
    stored = read_artefacts(connection, [(champion.tenant_id, champion.version) for champion in missing])
    fetched, faults = {}, {}
    for champion in missing:
        artefact = stored.get((champion.tenant_id, champion.version))
        if artefact is None:
            faults[champion.tenant_id] = "has no artefact in the store"
        elif not is_artefact(artefact, champion.artefact_sha256):
            faults[champion.tenant_id] = "has an artefact that is not the one that was stored: its sha256 differs"
        else:
            fetched[champion.artefact_sha256] = artefact
    cache.write(fetched)
    return loaded, contents | fetched, faults


def record_serving(connection: Connection, serving: Serving, plan_date: date, run_id: str, now: datetime) -> list[str]:
    """Keep champions that cannot serve as open failures, once per artefact, and close those of champions that can.

    Returns the tenants whose failure is new.
    """
    resolve_unusable(connection, list(serving.models), now)
    if serving.problems.empty:
        return []
    return record_unusable(connection, serving.problems, plan_date, run_id, now)


def _problem(champion: Any, fault: str, details: str = "", first_remedy: str = "") -> tuple[str, ...]:
    label = label_of(champion.version)
    reason = details.rstrip(".")
    return (
        champion.tenant_id,
        LINK,
        "",
        "model",
        label,
        UNUSABLE,
        f"{label} (artefact {champion.artefact_sha256[:12]}) {fault}{f': {reason}' if reason else ''}; "
        "the rules serve instead.",
        f"{first_remedy}Train again: daybreak models train --tenant {champion.tenant_id}; "
        f"or return to a kept version: daybreak models rollback --tenant {champion.tenant_id} --reason TEXT.",
    )
