"""Dagster's web server behind our guard, on the loopback address. Run as `python -m daybreak.webserver`.

The two imports from `dagster._core` are what the dagster-webserver command itself uses; tests/integration/test_instance.py
runs them against the pinned release.
"""

import logging
import os
from pathlib import Path

import click
import uvicorn
from dagster import DagsterInstance
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster_webserver.app import create_app_from_workspace_process_context
from dagster_webserver.version import __version__

from daybreak.guard import Guard

STATEMENT_TIMEOUT_MS, POOL_RECYCLE_S, POOL_OVERFLOW = 15_000, 3_600, 20
GRACEFUL_STOP_S = 2


@click.command()
@click.option("--port", type=int, required=True)
@click.option("--workspace", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True)
@click.option("--host-name", "host_names", multiple=True, help="A further Host header to answer to.")
def main(port: int, workspace: Path, host_names: tuple[str, ...]) -> None:
    """Serve the workspace of the instance in DAGSTER_HOME on 127.0.0.1 until SIGTERM."""
    logging.basicConfig(level=logging.INFO)
    with DagsterInstance.get() as instance:
        instance.optimize_for_webserver(STATEMENT_TIMEOUT_MS, POOL_RECYCLE_S, POOL_OVERFLOW)
        with WorkspaceProcessContext(
            instance, workspace_load_target=WorkspaceFileTarget(paths=[os.fspath(workspace)]), version=__version__
        ) as context:
            app = Guard(create_app_from_workspace_process_context(context), host_names)
            # An open browser tab holds a websocket for ever; a stop must not wait for it.
            uvicorn.run(
                app, host="127.0.0.1", port=port, log_level="warning", timeout_graceful_shutdown=GRACEFUL_STOP_S
            )


if __name__ == "__main__":
    main()
