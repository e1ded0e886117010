"""Refuses what a foreign web page could make a browser send to the Dagster web server. Plain ASGI, no state.

Dagster executes mutations that come by GET or as `text/plain`, which browsers send across sites without asking. A
loopback address does not help: the browser is on the same machine, and a name that resolves to 127.0.0.1 makes a
foreign page "same-origin". Programs that send no browser headers pass.
"""

import ipaddress
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from graphql import GraphQLError, OperationDefinitionNode, OperationType, parse

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

READING_METHODS = {"GET", "HEAD", "OPTIONS"}
OWN_SITE = {"same-origin", "none"}
"""What Sec-Fetch-Site says of our own pages, and of an address that a person typed."""

POLICY_VIOLATION = 1008
HOST_FORM = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[^:@/\s]+)(:\d{1,5})?")


class Refused(Exception):
    """The request is not let through: an HTTP status and one line that says why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Guard:
    """Lets requests through to `app` that come from its own pages, or from no page at all.

    `host_names` are further names that the server is reached by; loopback names are always known.
    """

    def __init__(self, app: App, host_names: Iterable[str] = ()) -> None:
        self._app = app
        self._host_names = {name.lower() for name in host_names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a refused request, hand every other one on."""
        if scope["type"] in {"http", "websocket"}:
            try:
                self._check(scope)
            except Refused as refused:
                await _refuse(scope, receive, send, refused)
                return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers = _headers(scope)
        host = self._known_host(headers)
        if scope["type"] == "websocket":
            _require_own_page(headers, host)
            return
        if scope["method"] not in READING_METHODS:
            _require_own_page(headers, host)
            media_type = _single(headers, "content-type").partition(";")[0].strip().lower()
            if media_type != "application/json":
                raise Refused(415, "Only application/json may be posted here.")
            return
        documents = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True).get("query", [])
        if documents and scope["path"].rstrip("/").endswith("/graphql"):
            _require_own_page(headers, host)
            if not all(map(_only_reads, documents)):
                raise Refused(403, "Only queries may come by GET. Post mutations as application/json.")

    def _known_host(self, headers: dict[str, list[str]]) -> str:
        host = _single(headers, "host").lower()
        form = HOST_FORM.fullmatch(host)
        if form is None:
            raise Refused(400, "The Host header is missing or malformed.")
        name = form["name"].rstrip(".")
        if not _is_loopback(name) and name not in self._host_names:
            raise Refused(
                403, "This host name is not known here. Use localhost, or start with `daybreak up --host-name NAME`."
            )
        return host


def _headers(scope: Scope) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1").strip())
    return found


def _single(headers: dict[str, list[str]], name: str) -> str:
    """A header that may come once; '' when it is missing. Two values could be read differently further on."""
    values = headers.get(name, [])
    if len(values) > 1:
        raise Refused(400, f"The header {name} came more than once.")
    return values[0] if values else ""


def _require_own_page(headers: dict[str, list[str]], host: str) -> None:
    """Browsers name the page that sends: it must be ours, or none."""
    site = _single(headers, "sec-fetch-site").lower()
    origin = _single(headers, "origin").lower()
    if site and site not in OWN_SITE:
        raise Refused(403, "Requests from other sites are refused.")
    if origin and _netloc(origin) != host:
        raise Refused(403, "Requests from other origins are refused.")


def _netloc(origin: str) -> str:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return ""
    return parts.netloc if parts.scheme in {"http", "https"} else ""


def _is_loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def _only_reads(document: str) -> bool:
    """Whether a GraphQL document holds queries alone. One that cannot be read is left to no one."""
    try:
        definitions = parse(document).definitions
    except (GraphQLError, RecursionError) as error:
        raise Refused(400, "The query is not a GraphQL document.") from error
    return all(
        definition.operation is OperationType.QUERY
        for definition in definitions
        if isinstance(definition, OperationDefinitionNode)
    )


async def _refuse(scope: Scope, receive: Receive, send: Send, refused: Refused) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": str(refused)})
        return
    body = f"{refused}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
