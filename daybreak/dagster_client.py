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

RUN_STATUS = """
query Status($id: ID!) { runOrError(runId: $id) { __typename ... on Run { status } } }
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
        response.raise_for_status()
    except httpx.HTTPError as error:
        raise DagsterRefused(f"The web server at {url} did not answer ({error}). Remedy: daybreak doctor.") from error
    content = response.json()
    if content.get("errors"):
        raise DagsterRefused("; ".join(error["message"] for error in content["errors"]))
    data: dict[str, Any] = content["data"]
    return data


def _expect(answer: dict[str, Any], typename: str) -> dict[str, Any]:
    if answer["__typename"] != typename:
        details = answer.get("message") or "; ".join(error["message"] for error in answer.get("errors", []))
        raise DagsterRefused(f"{answer['__typename']}: {details}")
    return answer
