"""A registry that serves what it is given and misbehaves on order.

registry = Hostile()                             # threads, http.server, a free loopback port
registry.add("team/app", "latest", image)        # a harness.images.MadeImage
registry.on("/blobs/", cut(1000), times=1)       # the first request whose path has that in it is cut off
registry.seen                                    # what was asked: (method, path, headers)

An action gets the request's handler and what the registry would have answered; it returns when the request is
answered. `None` from a rule's action lets the next rule, or the registry itself, answer.
"""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from harness.images import MANIFEST, MadeImage, digest


class Reply(NamedTuple):
    status: int
    body: bytes = b""
    kind: str = "application/octet-stream"
    headers: Mapping[str, str] = {}


class Request(NamedTuple):
    method: str
    path: str
    headers: Message
    body: bytes


class Rule:
    def __init__(self, where: str, action: Action, times: int | None, method: str) -> None:
        self.where, self.action, self.left, self.method = where, action, times, method


Action = Callable[["Handler", Reply], bool]


class Hostile:
    """`host` is `127.0.0.1:PORT`. `tls` makes it speak TLS with that context."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.seen: list[Request] = []
        self.rules: list[Rule] = []
        self.manifests: dict[tuple[str, str], Reply] = {}
        self.blobs: dict[str, bytes] = {}
        self.ranges = True
        self.guard: Callable[[Request], Reply | None] = lambda request: None
        self.given_up = threading.Event()  # wakes the handlers that stall
        self._lock = threading.Lock()
        self._server = Server(self, tls)
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self.scheme = "https" if tls else "http"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def add(self, repository: str, tag: str, image: MadeImage) -> str:
        """Serves an image; the reference to pull it by."""
        self.put(repository, tag, image.manifest, MANIFEST)
        self.blobs.update(image.blobs)
        return f"{self.host}/{repository}:{tag}"

    def put(self, repository: str, tag: str, body: bytes, kind: str) -> str:
        """Serves a manifest by its tag and its digest, which is returned."""
        reply = Reply(200, body, kind, {"Docker-Content-Digest": digest(body)})
        self.manifests[repository, tag] = self.manifests[repository, digest(body)] = reply
        return digest(body)

    def on(self, where: str, action: Action, *, times: int | None = None, method: str = "") -> None:
        """Requests with `where` in their path are answered by `action`, `times` times."""
        self.rules.append(Rule(where, action, times, method))

    def count(self, where: str, method: str = "") -> int:
        return sum(where in r.path and method in ("", r.method) for r in self.seen)

    def close(self) -> None:
        self.given_up.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def action_for(self, request: Request) -> Action | None:
        with self._lock:
            self.seen.append(request)
            for rule in self.rules:
                fits = rule.where in request.path and rule.method in ("", request.method)
                if fits and (rule.left is None or rule.left > 0):
                    if rule.left is not None:
                        rule.left -= 1
                    return rule.action
        return None

    def answer(self, request: Request) -> Reply:
        """What an honest registry would say (distribution-spec, Pull)."""
        denied = self.guard(request)
        if denied is not None:
            return denied
        path = urllib.parse.urlsplit(request.path).path
        if path == "/v2/":
            return Reply(200, b"{}", "application/json")
        repository, kind, name = path.removeprefix("/v2/").rsplit("/", 2)
        if kind == "manifests":
            return self.manifests.get((repository, name)) or error(
                404, "MANIFEST_UNKNOWN", "manifest unknown"
            )
        if kind == "blobs" and name in self.blobs:
            return self._blob(self.blobs[name], request.headers.get("Range", ""), name)
        return error(404, "BLOB_UNKNOWN", "blob unknown to registry")

    def _blob(self, body: bytes, span: str, name: str) -> Reply:
        headers = {"Docker-Content-Digest": name}
        if span and self.ranges:
            first = int(span.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {first}-{len(body) - 1}/{len(body)}"
            return Reply(206, body[first:], headers=headers)
        return Reply(200, body, headers=headers)


def error(status: int, code: str, message: str, **headers: str) -> Reply:
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    return Reply(status, body, "application/json", {k.replace("_", "-"): v for k, v in headers.items()})


class Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True

    def __init__(self, registry: Hostile, tls: ssl.SSLContext | None) -> None:
        self.registry = registry
        self.tls = tls
        self.live: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), Handler)

    def get_request(self) -> tuple[socket.socket, object]:
        connection, address = super().get_request()
        self.live.add(connection)
        return connection, address

    def finish_request(self, request: object, client_address: object) -> None:
        assert isinstance(request, socket.socket)
        if (
            self.tls is not None
        ):  # in the connection's own thread: a client that fails its handshake stops nobody
            request.settimeout(10)
            try:
                request = self.tls.wrap_socket(request, server_side=True)
                self.live.add(request)
            except OSError:
                return
        try:
            super().finish_request(request, client_address)  # type: ignore[arg-type]
        finally:
            if self.tls is not None:
                request.close()

    def server_close(self) -> None:
        for connection in self.live:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        super().server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what these tests are about."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = Request(self.command, self.path, self.headers, body)
        registry = self.server.registry
        action = registry.action_for(request)
        reply = registry.answer(request)
        if action is None or not action(self, reply):
            self.send(reply)

    do_GET = do_HEAD = do_POST = handle_any  # noqa: N815  # http.server's names

    def send(self, reply: Reply, *, announce: int | None = None, send: int | None = None) -> None:
        """`announce` bytes in Content-Length (-1: none, chunked), `send` bytes of the body."""
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.kind)
        for key, value in reply.headers.items():
            self.send_header(key, value)
        length = len(reply.body) if announce is None else announce
        self.send_header(
            *(("Transfer-Encoding", "chunked") if length < 0 else ("Content-Length", str(length)))
        )
        self.end_headers()
        if self.command == "HEAD":
            return
        body = reply.body if send is None else reply.body[:send]
        if length < 0:
            end = b"0\r\n\r\n" if send is None or not body else b""
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + end
        self.wfile.write(body)
        if send is not None:
            self.hang_up()

    def hang_up(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # http.server's name
        pass


# What a registry can do wrong.


def answer(reply: Reply) -> Action:
    def act(handler: Handler, honest: Reply) -> bool:
        handler.send(reply)
        return True

    return act


def status(code: int, message: str = "", **headers: str) -> Action:
    return answer(error(code, "UNKNOWN", message, **headers))


def cut(after: int) -> Action:
    """The full length is announced, `after` bytes are sent, then the connection ends."""

    def act(handler: Handler, honest: Reply) -> bool:
        handler.send(honest, announce=len(honest.body), send=after)
        return True

    return act


def cut_chunked(after: int) -> Action:
    def act(handler: Handler, honest: Reply) -> bool:
        handler.send(honest, announce=-1, send=after)
        return True

    return act


def reset(handler: Handler, honest: Reply) -> bool:
    """No answer at all: the connection is reset."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    handler.close_connection = True
    handler.connection.close()
    return True


def stall(after: int) -> Action:
    """`after` bytes of the body (-1: not even headers), then silence."""

    def act(handler: Handler, honest: Reply) -> bool:
        if after >= 0:
            handler.send_response(honest.status)
            handler.send_header("Content-Length", str(len(honest.body)))
            for key, value in honest.headers.items():
                handler.send_header(key, value)
            handler.end_headers()
            handler.wfile.write(honest.body[:after])
            handler.wfile.flush()
        handler.server.registry.given_up.wait(30)
        handler.hang_up()
        return True

    return act


def drip(pause_s: float) -> Action:
    """A byte now and then: never silent, never done."""

    def act(handler: Handler, honest: Reply) -> bool:
        handler.send_response(honest.status)
        handler.send_header("Content-Length", str(len(honest.body)))
        for key, value in honest.headers.items():
            handler.send_header(key, value)
        handler.end_headers()
        until = time.monotonic() + 20
        for byte in honest.body:
            handler.wfile.write(bytes((byte,)))
            handler.wfile.flush()
            if handler.server.registry.given_up.wait(pause_s) or time.monotonic() > until:
                break
        handler.hang_up()
        return True

    return act


def redirect(to: str, code: int = 307) -> Action:
    return answer(Reply(code, b"", headers={"Location": to}))


def change(**headers: str) -> Action:
    """The honest answer with other headers."""

    def act(handler: Handler, honest: Reply) -> bool:
        changed = {key.replace("_", "-"): value for key, value in headers.items()}
        handler.send(honest._replace(headers={**honest.headers, **changed}))
        return True

    return act


def tamper(handler: Handler, honest: Reply) -> bool:
    """The right length, one bit wrong."""
    handler.send(honest._replace(body=honest.body[:-1] + bytes((honest.body[-1] ^ 1,))))
    return True


def longer(extra: int, *, chunked: bool) -> Action:
    def act(handler: Handler, honest: Reply) -> bool:
        more = honest._replace(body=honest.body + bytes(extra))
        handler.send(more, announce=-1 if chunked else None)
        return True

    return act


def garbage(text: bytes) -> Action:
    """Bytes that are not HTTP."""

    def act(handler: Handler, honest: Reply) -> bool:
        handler.wfile.write(text)
        handler.hang_up()
        return True

    return act


# Ways to be asked for who one is.


def basic(user: str, password: str) -> Callable[[Request], Reply | None]:
    wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def guard(request: Request) -> Reply | None:
        if request.headers.get("Authorization") == wanted:
            return None
        return error(401, "UNAUTHORIZED", "authentication required", WWW_Authenticate='Basic realm="a, b"')

    return guard


class Tokens:
    """Bearer tokens, handed out at `/token` of the registry itself or of another server."""

    def __init__(self, realm: str, *, user: str = "", password: str = "", identity: str = "") -> None:
        self.realm, self.user, self.password, self.identity = realm, user, password, identity
        self.valid: set[str] = set()
        self.issued = 0

    def guard(self, request: Request) -> Reply | None:
        if request.path.startswith("/token"):
            return self.issue(request)
        if request.headers.get("Authorization", "").removeprefix("Bearer ") in self.valid:
            return None
        repository = request.path.removeprefix("/v2/").rsplit("/", 2)[0]
        challenge = f'Bearer realm="{self.realm}",service="reg.test",scope="repository:{repository}:pull"'
        return error(401, "UNAUTHORIZED", "authentication required", WWW_Authenticate=challenge)

    def issue(self, request: Request) -> Reply:
        if request.method == "POST":
            fields = urllib.parse.parse_qs(request.body.decode())
            if fields.get("refresh_token") != [self.identity] or fields.get("grant_type") != [
                "refresh_token"
            ]:
                return error(401, "UNAUTHORIZED", "bad refresh token")
        elif self.user:
            pair = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
            if request.headers.get("Authorization") != f"Basic {pair}":
                return error(401, "UNAUTHORIZED", "incorrect username or password")
        self.issued += 1
        token = f"token-{self.issued}"
        self.valid.add(token)
        body = json.dumps({"token": token, "expires_in": 300}).encode()
        return Reply(200, body, "application/json")
