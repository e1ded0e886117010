"""Talks to the running instance's web server, in Dagster's GraphQL. Imports no Dagster."""

from collections.abc import Mapping, Sequence
from typing import Any

import httpx

LOCATION = "daybreak"
REPOSITORY = "__repository__"

LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } }
    ... on PipelineNotFoundError { message }
    ... on UnauthorizedError { message }
  }
}
"""

BACKFILL = """
mutation Backfill($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
    ... on PartitionKeysNotFoundError { message }
    ... on PartitionSetNotFoundError { message }
    ... on UnauthorizedError { message }
  }
}
"""

BACKFILL_STATUS = """
query Status($id: String!) {
  partitionBackfillOrError(backfillId: $id) {
    __typename
    ... on PartitionBackfill { status error { message } }
    ... on BackfillNotFoundError { message }
    ... on PythonError { message }
  }
}
"""

RUN_COUNT = """
query Count { runsOrError(limit: 1) { __typename ... on Runs { count } ... on PythonError { message } } }
"""

RUN_STATUS = """
query Status($id: ID!) {
  runOrError(runId: $id) { __typename ... on Run { status } ... on PythonError { message } }
}
"""

ADD_PARTITION = """
mutation Add($repository: RepositorySelector!, $key: String!) {
  addDynamicPartition(repositorySelector: $repository, partitionsDefName: "daybreak_tenants", partitionKey: $key) {
    __typename
    ... on PythonError { message }
    ... on UnauthorizedError { message }
  }
}
"""

RELOAD = """
mutation Reload($location: String!) {
  reloadRepositoryLocation(repositoryLocationName: $location) {
    __typename
    ... on PythonError { message }
    ... on ReloadNotSupported { message }
    ... on RepositoryLocationNotFound { message }
    ... on UnauthorizedError { message }
  }
}
"""


class DagsterRefused(Exception):
    """Dagster did not do what was asked. The message is Dagster's, with the remedy where one is known."""


class DagsterSilent(DagsterRefused):
    """The web server could not be reached, or could not reach its database: asking again may help."""


def wake(url: str) -> None:
    """Have Dagster use its connection to the runs: one that a restarted database left dead fails here. Raises DagsterSilent."""
    _expect(_ask(url, RUN_COUNT, {})["runsOrError"], "Runs")


def launch_run(url: str, job: str, config: Mapping[str, Any], tags: Mapping[str, str]) -> str:
    """Queue a run of a job; returns its id. Raises DagsterRefused."""
    params = {
        "selector": {"repositoryLocationName": LOCATION, "repositoryName": REPOSITORY, "pipelineName": job},
        "runConfigData": config,
        "mode": "default",
        "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
    }
    answer = _ask(url, LAUNCH, {"params": params})["launchRun"]
    return str(_expect(answer, "LaunchRunSuccess")["run"]["runId"])


def add_partition(url: str, tenant_id: str) -> None:
    """Make a tenant known to the grid; one that is known already is left alone. Raises DagsterRefused."""
    repository = {"repositoryLocationName": LOCATION, "repositoryName": REPOSITORY}
    answer = _ask(url, ADD_PARTITION, {"repository": repository, "key": tenant_id})["addDynamicPartition"]
    if answer["__typename"] != "DuplicateDynamicPartitionError":
        _expect(answer, "AddDynamicPartitionSuccess")


def launch_backfill(url: str, assets: Sequence[str], partitions: Sequence[str], title: str) -> str:
    """Begin a backfill of assets over partition keys; returns its id. Raises DagsterRefused."""
    params = {
        "assetSelection": [{"path": [name]} for name in assets],
        "partitionNames": list(partitions),
        "fromFailure": False,
        "title": title,
    }
    answer = _ask(url, BACKFILL, {"params": params})["launchPartitionBackfill"]
    return str(_expect(answer, "LaunchBackfillSuccess")["backfillId"])


def backfill_status(url: str, backfill_id: str) -> str:
    """REQUESTED, COMPLETED_SUCCESS, COMPLETED_FAILED, FAILED, CANCELED or CANCELING. Raises DagsterRefused."""
    answer = _ask(url, BACKFILL_STATUS, {"id": backfill_id})["partitionBackfillOrError"]
    return str(_expect(answer, "PartitionBackfill")["status"])


def run_status(url: str, run_id: str) -> str:
    """QUEUED, STARTING, STARTED, SUCCESS, FAILURE, CANCELING or CANCELED. Raises DagsterRefused."""
    return str(_expect(_ask(url, RUN_STATUS, {"id": run_id})["runOrError"], "Run")["status"])


def reload_definitions(url: str) -> None:
    """Have the instance load its definitions again: a new time zone's schedules then tick without a restart."""
    answer = _ask(url, RELOAD, {"location": LOCATION}, timeout_s=60)["reloadRepositoryLocation"]
    _expect(answer, "WorkspaceLocationEntry")


def _ask(url: str, query: str, variables: Mapping[str, Any], timeout_s: float = 30) -> dict[str, Any]:
    try:
        response = httpx.post(f"{url}/graphql", json={"query": query, "variables": variables}, timeout=timeout_s)
    except httpx.HTTPError as error:
        raise DagsterSilent(f"The web server at {url} did not answer ({error}). Remedy: daybreak doctor.") from error
    if response.is_server_error:
        # Dagster's answer to a question that its database left unanswered, too.
        raise DagsterSilent(
            f"The web server at {url} could not answer (HTTP {response.status_code}). Remedy: daybreak doctor."
        )
    if response.is_error:
        raise DagsterRefused(f"The web server at {url} refused the question (HTTP {response.status_code}).")
    content = response.json()
    if content.get("errors"):
        raise DagsterRefused("; ".join(error["message"] for error in content["errors"]))
    data: dict[str, Any] = content["data"]
    return data


def _expect(answer: dict[str, Any], typename: str) -> dict[str, Any]:
    if answer["__typename"] != typename:
        details = answer.get("message") or "; ".join(error["message"] for error in answer.get("errors", []))
        kind = DagsterSilent if answer["__typename"] == "PythonError" else DagsterRefused
        raise kind(f"{answer['__typename']}: {details}")
    return answer
