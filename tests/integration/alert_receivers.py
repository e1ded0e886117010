"""Receivers of alerts on loopback: a webhook that can be down, and a mail server that speaks just enough SMTP."""

import base64
import hashlib
import hmac
import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "whsec_" + base64.b64encode(b"thirty-two bytes of a test secret").decode()


@dataclass
class Hook:
    """A webhook: what came, whether each came rightly signed, and what it answers."""

    url: str = ""
    answer: int = 204
    came: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    is_signed: list[bool] = field(default_factory=list)
    tries: int = 0

    def told(self) -> list[tuple[str, str, int]]:
        """Kind, name and number of alerts of each message taken."""
        return [(b["data"]["kind"], b["data"]["name"], len(b["data"]["alerts"])) for _, b in self.came]


@contextmanager
def webhook() -> Iterator[Hook]:
    """A webhook that runs for the block."""
    hook = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            hook.tries += 1
            if hook.answer < 300:
                signed = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + body
                key = base64.b64decode(SECRET.removeprefix("whsec_"))
                expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
                hook.is_signed.append(hmac.compare_digest(expected, self.headers["webhook-signature"]))
                hook.came.append((self.headers["webhook-id"], json.loads(body)))
            self.send_response(hook.answer)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hook.url = f"http://127.0.0.1:{server.server_port}/alerts"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield hook
        server.shutdown()
        thread.join()


@dataclass
class Mailbox:
    """A mail server: what it took, and how it answers to what is to be changed."""

    port: int = 0
    mails: list[tuple[list[str], EmailMessage]] = field(default_factory=list)
    replies: dict[str, bytes] = field(default_factory=dict)
    logins: list[str] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    is_down: bool = False


@contextmanager
def mail_server() -> Iterator[Mailbox]:
    """A mail server that runs for the block."""
    box = Mailbox()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            if box.is_down:
                return
            to: list[str] = []
            self._say(b"220 test")
            for line in iter(self.rfile.readline, b""):
                word = line[:4].upper().strip().decode()
                if word in box.replies:
                    self._say(box.replies[word])
                elif word == "EHLO":
                    self._say(b"250-test\r\n250 AUTH PLAIN")
                elif word == "AUTH":
                    box.logins.append(base64.b64decode(line.split()[-1]).decode())
                    self._say(b"235 welcome")
                elif word == "RCPT":
                    address = line.decode().partition("<")[2].partition(">")[0]
                    if address in box.refused:
                        self._say(b"550 unknown")
                    else:
                        to.append(address)
                        self._say(b"250 ok")
                elif word == "DATA":
                    self._say(b"354 go on")
                    data = b"".join(iter(self.rfile.readline, b".\r\n"))
                    parsed = message_from_bytes(data, policy=policy.default)
                    assert isinstance(parsed, EmailMessage)
                    box.mails.append((to, parsed))
                    self._say(box.replies.get("END", b"250 taken"))
                elif word == "QUIT":
                    self._say(b"221 bye")
                    return
                else:
                    self._say(b"250 ok")

        def _say(self, reply: bytes) -> None:
            self.wfile.write(reply + b"\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        box.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield box
        server.shutdown()
        thread.join()
