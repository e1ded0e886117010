"""Where messages go: the log, a webhook, a mail server. Each `send` returns when the message was taken, and raises otherwise.

Addresses and secrets come from the environment; none is stored, logged or put into an error.
"""

import base64
import binascii
import hashlib
import hmac
import ipaddress
import json
import logging
import smtplib
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import UUID

import httpx

from resources import vocabulary
from resources.store.alerts import LOG

WEBHOOK_SETTING: Final = "DAYBREAK_ALERT_WEBHOOK"
WEBHOOK_SECRET_SETTING: Final = "DAYBREAK_ALERT_WEBHOOK_SECRET"  # noqa: S105 (the variable's name)
SMTP_SETTING: Final = "DAYBREAK_ALERT_SMTP"

ANSWER_S: Final = 5.0
SMTP_REMEDY = (
    f"Remedy: set {SMTP_SETTING} to smtp://user:password@host:port?from=daybreak@example.org&to=ana@example.org."
)
SECRET_REMEDY = (
    f"Remedy: set {WEBHOOK_SECRET_SETTING} to whsec_ and 24 to 64 random bytes in Base64, here and at the receiver."
)

PHRASES = MappingProxyType(
    {
        "firing": vocabulary.ALERT_FIRING,
        "reminder": vocabulary.ALERT_REMINDER,
        "escalation": vocabulary.ALERT_ESCALATED,
        "resolved": vocabulary.ALERT_RESOLVED,
    }
)
LEVELS = MappingProxyType({"critical": logging.CRITICAL, "high": logging.ERROR, "medium": logging.WARNING})

logger = logging.getLogger("daybreak.alerts")


class DeliveryFailed(Exception):
    """A message was not taken. The reason holds no secret."""


@dataclass(frozen=True)
class Letter:
    """A message as it leaves. created_at: when it was written; sent_at: now."""

    message_id: UUID
    payload: Mapping[str, Any]
    created_at: datetime
    sent_at: datetime


Send = Callable[[Letter], None]


def targets_of(environment: Mapping[str, str]) -> dict[str, Send]:
    """The targets that the environment names; the log is always one.

    A setting that cannot be read is a target all the same, whose messages fail with the remedy until it is mended.
    """
    found: dict[str, Send] = {LOG: write_log}
    url = environment.get(WEBHOOK_SETTING, "").strip()
    if url:
        secret = environment.get(WEBHOOK_SECRET_SETTING, "").strip()
        found["webhook"] = lambda letter: post(url, secret, letter)
    address = environment.get(SMTP_SETTING, "").strip()
    if address:
        found["email"] = lambda letter: mail(address, letter)
    return found


def write_log(letter: Letter) -> None:
    """Write a line per alert."""
    data = letter.payload["data"]
    for alert in data["alerts"]:
        level = logging.INFO if data["kind"] == "resolved" else LEVELS.get(data["severity"], logging.WARNING)
        logger.log(
            level, "%s: %s (%s): %s %s See %s.", PHRASES[data["kind"]], data["name"], data["severity"],
            alert["summary"], alert["remedy"], alert["runbook"],
        )  # fmt: skip


def post(url: str, secret: str, letter: Letter) -> None:
    """Post to a webhook, signed as Standard Webhooks 1.0 says. Raises DeliveryFailed unless the answer is 2xx."""
    if urlsplit(url).scheme not in {"http", "https"}:
        raise DeliveryFailed(f"{WEBHOOK_SETTING} is no http address. Remedy: set it to https://host/path.")
    body = json.dumps(letter.payload, allow_nan=False).encode()
    stamp = str(int(letter.sent_at.timestamp()))
    headers = {
        "content-type": "application/json",
        "user-agent": "daybreak",
        "webhook-id": str(letter.message_id),
        "webhook-timestamp": stamp,
        "webhook-signature": signature(secret, str(letter.message_id), stamp, body),
    }
    try:
        answer = httpx.post(url, content=body, headers=headers, timeout=ANSWER_S, follow_redirects=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise DeliveryFailed(f"The webhook does not answer ({type(error).__name__}).") from None
    if not answer.is_success:
        raise DeliveryFailed(f"The webhook answered {answer.status_code}.")


def signature(secret: str, message_id: str, stamp: str, body: bytes) -> str:
    """The signature of a body: HMAC-SHA256 over id, time and body. Raises DeliveryFailed for a secret that is none."""
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        key = b""
    if not 24 <= len(key) <= 64:
        raise DeliveryFailed(f"{WEBHOOK_SECRET_SETTING} is no secret of Standard Webhooks. {SECRET_REMEDY}")
    signed = b".".join((message_id.encode(), stamp.encode(), body))
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


@dataclass(frozen=True)
class MailServer:
    """What the address of a mail server says. is_tls: encrypted from the first byte; else STARTTLS where it is offered."""

    host: str
    port: int
    is_tls: bool
    user: str
    password: str
    sender: str
    to: list[str]
    escalate_to: list[str]


def mail_server(address: str) -> MailServer:
    """Read smtp:// or smtps://user:password@host:port?from=…&to=…[&escalate_to=…]. Raises DeliveryFailed with the remedy."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        raise DeliveryFailed(f"{SMTP_SETTING} cannot be read as an address. {SMTP_REMEDY}") from None
    query = parse_qs(parts.query)
    given = {
        name: [one.strip() for text in query.get(name, []) for one in text.split(",")]
        for name in ("from", "to", "escalate_to")
    }
    if parts.scheme not in {"smtp", "smtps"} or not parts.hostname or len(given["from"]) != 1 or not given["to"]:
        raise DeliveryFailed(f"{SMTP_SETTING} names no server, sender or recipient. {SMTP_REMEDY}")
    for one in (*given["from"], *given["to"], *given["escalate_to"]):
        try:
            Address(addr_spec=one)
        except (ValueError, IndexError):
            raise DeliveryFailed(f"{SMTP_SETTING} names {one!r}, which is no mail address. {SMTP_REMEDY}") from None
    is_tls = parts.scheme == "smtps"
    return MailServer(
        host=parts.hostname,
        port=port or (465 if is_tls else 587),
        is_tls=is_tls,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        sender=given["from"][0],
        to=given["to"],
        escalate_to=given["escalate_to"],
    )


def mail(address: str, letter: Letter) -> None:
    """Hand a message to a mail server. Raises DeliveryFailed unless the server has taken it for somebody.

    One that some recipients' servers refuse is taken: sent again, it would reach the others twice.
    """
    server = mail_server(address)
    message = compose(server, letter)
    context = ssl.create_default_context()
    try:
        opened = (
            smtplib.SMTP_SSL(server.host, server.port, timeout=ANSWER_S, context=context)
            if server.is_tls
            else smtplib.SMTP(server.host, server.port, timeout=ANSWER_S)
        )
        with opened as connection:
            connection.ehlo()
            if not server.is_tls and connection.has_extn("starttls"):
                connection.starttls(context=context)
                connection.ehlo()
            elif not server.is_tls and server.password and not _is_loopback(server.host):
                raise DeliveryFailed(
                    "The mail server offers no encryption, and the password is not sent without it. "
                    f"Remedy: use smtps:// in {SMTP_SETTING}, or a server with STARTTLS."
                )
            if server.user:
                connection.login(server.user, server.password)
            refused = connection.send_message(message)
    except smtplib.SMTPAuthenticationError as error:
        raise DeliveryFailed(f"The mail server refuses user or password ({error.smtp_code}).") from None
    except smtplib.SMTPResponseException as error:
        raise DeliveryFailed(f"The mail server answered {error.smtp_code}.") from None
    except smtplib.SMTPRecipientsRefused:
        raise DeliveryFailed("The mail server refuses every recipient.") from None
    except (smtplib.SMTPException, OSError) as error:
        raise DeliveryFailed(f"The mail server does not answer as it should ({type(error).__name__}).") from None
    if refused:
        logger.warning("The mail server refuses some recipients of alerts: %s", ", ".join(sorted(refused)))


def compose(server: MailServer, letter: Letter) -> EmailMessage:
    """The mail of a message. Its Message-ID is that of the message, so that one that comes twice is known for it."""
    data = letter.payload["data"]
    subject = f"[{data['severity']}] {PHRASES[data['kind']]}: {data['name']}"
    tenants = sorted({alert["tenant_id"] for alert in data["alerts"] if alert["tenant_id"]})
    if tenants:
        subject += f" ({tenants[0]})" if len(tenants) == 1 else f" ({len(tenants)} tenants)"
    message = EmailMessage()
    message["Subject"] = subject
    message["From"] = server.sender
    message["To"] = ", ".join(server.to + (server.escalate_to if data["kind"] == "escalation" else []))
    message["Date"] = format_datetime(letter.created_at)
    message["Message-ID"] = f"<{letter.message_id}@daybreak>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(
        "\n\n".join(
            f"{alert['summary']}\n{'Was: ' if data['kind'] == 'resolved' else ''}{alert['remedy']}\n"
            f"Since {alert['started_at']}, id {alert['alert_id'][:8]}: `daybreak alerts ack {alert['alert_id'][:8]}`"
            for alert in data["alerts"]
        )
        + f"\n\nRunbook: {data['runbook']}\n"
    )
    return message


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
