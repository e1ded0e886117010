"""The guard in front of the web server: what it lets through and what it refuses, with which answer."""

import asyncio
from collections.abc import MutableMapping
from functools import partial
from typing import Any
from urllib.parse import urlencode

import pytest

from daybreak.guard import Guard

MUTATION = "mutation { launchRun { __typename } }"
QUERY = "query Version { version }"
JSON = {"content-type": "application/json"}


class Answer:
    """What came back: the status, the body, and whether the guarded application was reached."""

    def __init__(self) -> None:
        self.messages: list[MutableMapping[str, Any]] = []
        self.reached = False

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def body(self) -> str:
        return bytes(self.messages[1]["body"]).decode()


def request(
    method: str = "GET",
    path: str = "/graphql",
    query: list[tuple[str, str]] | None = None,
    headers: dict[str, str] | list[tuple[str, str]] | None = None,
    host: str | None = "127.0.0.1:3000",
    kind: str = "http",
    host_names: tuple[str, ...] = (),
) -> Answer:
    """Send one request through a guard to an application that answers 200."""
    answer = Answer()

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        answer.reached = True
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        answer.messages.append(message)

    pairs = [*(headers.items() if isinstance(headers, dict) else headers or [])]
    if host is not None:
        pairs.append(("Host", host))
    scope = {
        "type": kind,
        "method": method,
        "path": path,
        "query_string": urlencode(query or []).encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in pairs],
    }
    asyncio.run(Guard(app, host_names)(scope, receive, send))
    return answer


@pytest.mark.parametrize(
    "query",
    [
        [("query", MUTATION)],
        [("query", QUERY), ("query", MUTATION)],
        [("query", f"{QUERY} {MUTATION}")],
        [("query", "# query\n" + MUTATION)],
        [("query", "subscription { capturedLogs { cursor } }")],
    ],
)
@pytest.mark.parametrize("path", ["/graphql", "/graphql/"])
def test_a_get_may_only_query(path: str, query: list[tuple[str, str]]) -> None:
    answer = request(path=path, query=query)
    assert (answer.status, answer.reached) == (403, False)
    assert answer.body.count("\n") == 1


def test_a_get_with_a_query_passes() -> None:
    assert request(query=[("query", QUERY)]).reached
    assert request(query=[("query", "{ version }")]).reached
    assert request(path="/runs", query=[("query", "status:failed mutation")]).reached


def test_a_get_whose_query_cannot_be_read_is_refused() -> None:
    assert request(query=[("query", "mutation {")]).status == 400
    assert request(query=[("query", "{ a " * 20_000)]).status == 400


@pytest.mark.parametrize(
    "content_type",
    [
        None, "", "text/plain", "text/plain; application/json", "application/graphql", "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded", "application/jsonp",
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/graphql", "/report_asset_materialization/forecasts"])
def test_only_json_may_be_posted(path: str, content_type: str | None) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    answer = request("POST", path, headers=headers)
    assert (answer.status, answer.reached) == (415, False)


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=utf-8"])
def test_json_may_be_posted(content_type: str) -> None:
    assert request("POST", headers={"content-type": content_type}).reached


def test_two_content_types_are_refused() -> None:
    twice = [("content-type", "text/plain"), ("content-type", "application/json")]
    assert request("POST", headers=twice).status == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "http://127.0.0.1:3001"},
        {"origin": "http://127.0.0.1"},
        {"origin": "null"},
        {"origin": "http://["},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "http://127.0.0.1:3000", "sec-fetch-site": "cross-site"},
    ],
)
def test_other_sites_may_not_post_query_or_listen(headers: dict[str, str]) -> None:
    for method in ("POST", "PUT", "DELETE"):
        assert request(method, headers=JSON | headers).status == 403
    assert request(query=[("query", QUERY)], headers=headers).status == 403
    refused = request(kind="websocket", headers=headers)
    assert not refused.reached
    assert refused.messages[0]["type"] == "websocket.close"


@pytest.mark.parametrize("headers", [{}, {"origin": "http://127.0.0.1:3000", "sec-fetch-site": "same-origin"}])
def test_own_pages_and_programs_pass(headers: dict[str, str]) -> None:
    assert request("POST", headers=JSON | headers).reached
    assert request(query=[("query", QUERY)], headers=headers).reached
    assert request(kind="websocket", headers=headers).reached


def test_a_link_from_another_site_opens_a_page() -> None:
    assert request(path="/runs", headers={"sec-fetch-site": "cross-site"}).reached


@pytest.mark.parametrize(
    "host", ["127.0.0.1:3000", "localhost:3000", "LOCALHOST", "localhost.", "[::1]:3000", "127.8.0.1"]
)
def test_loopback_names_are_known(host: str) -> None:
    assert request(path="/", host=host).reached


@pytest.mark.parametrize(
    "host", ["evil.example:3000", "localhost.evil.example", "192.168.0.7", "127.0.0.1.nip.io", "10.0.0.0"]
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_unknown_host_names_are_refused(kind: str, host: str) -> None:
    answer = request(path="/", host=host, kind=kind)
    assert not answer.reached
    if kind == "http":
        assert answer.status == 403


@pytest.mark.parametrize("host", [None, "", "a b", "localhost@evil.example", "localhost:x", "localhost/"])
def test_a_missing_or_malformed_host_is_refused(host: str | None) -> None:
    assert request(path="/", host=host).status == 400


def test_two_host_headers_are_refused() -> None:
    assert request(path="/", headers=[("Host", "evil.example")]).status == 400


def test_a_configured_name_is_known_and_its_pages_are_own_pages() -> None:
    own, foreign = "https://plan.bakery.example", "https://evil.example"
    named = partial(request, host="plan.bakery.example", host_names=("Plan.Bakery.example",))
    assert named(path="/").reached
    assert named("POST", headers=JSON | {"origin": own}).reached
    assert named("POST", headers=JSON | {"origin": foreign}).status == 403


def test_what_is_not_a_request_passes() -> None:
    assert request(kind="lifespan", host=None).reached
