"""Getting in: WWW-Authenticate challenges, basic authentication, bearer tokens and their cache.

Nothing is sent before a challenge asked for it. A token is kept per host and repository until shortly before it
expires. See the distribution project's token authentication (Bearer) and RFC 9110 11.
"""

from __future__ import annotations

import base64
import threading
import time
from urllib.parse import urlencode

from knarr.errors import DataError, RemoteError
from knarr.oci.json import loads
from knarr.oci.reference import Reference
from knarr.record import Record
from knarr.registry.failures import NotThere, answer_failure, denied, errors_of
from knarr.registry.transport import host_of, scheme_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from knarr.registry.credentials import Credential, Credentials, Given
    from knarr.registry.registries import Endpoint, Trust
    from knarr.registry.transport import Transport

_TOKEN_MAX = 1 << 20
_LIFE_MIN_S = 60.0  # what a token without expires_in lives, and the least a client may assume
_LIFE_MAX_S = 86400.0
_EARLY_S = 10.0
_SEPARATORS = frozenset('()<>@,;:\\"/[]?={} \t')


class Challenge(Record):
    scheme: str  # lower case
    parameters: Mapping[str, str]  # keys in lower case


class _Held(Record):
    header: str
    until: float  # time.monotonic()


class Authorizer:
    """Safe for several threads: while one fetches a token for a repository, the others wait for it."""

    def __init__(
        self,
        transport: Transport,
        credentials: Credentials | Given,
        trust: Callable[[str], Trust],
    ) -> None:
        self._transport = transport
        self._credentials = credentials
        self._trust = trust
        self._lock = threading.Lock()
        self._held: dict[tuple[str, str], _Held] = {}

    def header(self, endpoint: Endpoint) -> str:
        """The `Authorization` to send, "" for none."""
        held = self._held.get((endpoint.host, endpoint.path))
        return held.header if held and held.until > time.monotonic() else ""

    def answer(self, endpoint: Endpoint, challenges: list[str], used: str, base: str) -> bool:
        """Meets a 401; whether the request is worth repeating. `used` is the header that was refused, `base` the
        `scheme://host` that refused it."""
        with self._lock:
            now = self.header(endpoint)
            if now and now != used:
                return True  # another thread has met it already
            found = self._meet(endpoint, challenges, base)
            if found is None or found.header == used:
                return False
            self._held[endpoint.host, endpoint.path] = found
            return True

    def _meet(self, endpoint: Endpoint, texts: list[str], base: str) -> _Held | None:
        offered = {c.scheme: c for text in reversed(texts) for c in reversed(parse_challenges(text))}
        credential = self._credentials.find(endpoint.key)
        if "bearer" in offered:
            if credential.registry_token:
                token = _plain(credential.registry_token, endpoint.host)
                return _Held(f"Bearer {token}", time.monotonic() + _LIFE_MAX_S)
            return self._token(endpoint, offered["bearer"], credential, base)
        if "basic" in offered and credential.username:
            return _Held(basic(credential), float("inf"))
        return None

    def _token(self, endpoint: Endpoint, challenge: Challenge, credential: Credential, base: str) -> _Held:
        realm = challenge.parameters.get("realm", "")
        host = host_of(realm)
        if scheme_of(realm) not in ("http", "https") or not host or not realm.isprintable():
            raise RemoteError(f"registry {endpoint.host} asks for a token without saying where to get it")
        trust = endpoint.trust if host == host_of(base) else self._trust(host)
        if credential and scheme_of(realm) == "http" and scheme_of(base) == "https" and not trust.plain:
            raise RemoteError(
                f"registry {endpoint.host} asks to send the password for it in the clear, to {realm[:120]}",
                hint=f'if that is right, in registries.toml: [registry."{host}"] insecure = true',
            )
        scope = challenge.parameters.get("scope") or (
            f"repository:{endpoint.path}:pull" if endpoint.path else ""
        )
        service = challenge.parameters.get("service", "")
        asked_at = time.monotonic()
        token, life_s = self._fetch(endpoint, realm, service, scope, credential, trust)
        return _Held(f"Bearer {_plain(token, host)}", asked_at + life_s - _EARLY_S)

    def _fetch(
        self, endpoint: Endpoint, realm: str, service: str, scope: str, credential: Credential, trust: Trust
    ) -> tuple[str, float]:
        if credential.identity_token:
            fields = {
                "grant_type": "refresh_token", "refresh_token": credential.identity_token,
                "service": service, "scope": scope, "client_id": "knarr",
            }  # fmt: skip
            answer = self._transport.open(
                "POST", realm, {"Content-Type": "application/x-www-form-urlencoded"}, trust,
                body=urlencode(fields).encode(),
            )  # fmt: skip
        else:
            query = [("service", service)] if service else []
            query += [("scope", one) for one in scope.split(" ") if one]
            headers = {}
            if credential.username:
                query.append(("account", credential.username))
                headers["Authorization"] = basic(credential)
            joint = "&" if "?" in realm else "?"
            answer = self._transport.open("GET", realm + joint + urlencode(query), headers, trust)
        if answer.status != 200:
            body = answer.error_body()
            raise _refused(endpoint, answer.host, answer.status, body, credential, answer.retry_after_s)
        return read_token(answer.read_all(_TOKEN_MAX, "token"), answer.host)


def read_token(body: bytes, host: str) -> tuple[str, float]:
    """(token, seconds it lives) from a token server's answer. Raises `RemoteError`."""
    try:
        document = loads(body)
    except DataError as e:
        raise RemoteError(f"token server {host}: its answer is not JSON") from e
    fields = document if isinstance(document, dict) else {}
    token = fields.get("token") or fields.get("access_token")
    if not isinstance(token, str) or not token:
        raise RemoteError(f"token server {host}: its answer has no token")
    life = fields.get("expires_in")
    if isinstance(life, bool) or not isinstance(life, (int, float)):
        life = _LIFE_MIN_S
    return token, min(max(float(life), _LIFE_MIN_S), _LIFE_MAX_S)


def parse_challenges(text: str) -> list[Challenge]:
    """The challenges of one WWW-Authenticate field (RFC 9110 11.6.1). What makes no sense is left out."""
    found: list[Challenge] = []
    at = 0
    while at < len(text):
        at = _skip(text, at, " \t,")
        scheme, at = _word(text, at)
        if not scheme:
            at += 1
            continue
        parameters: dict[str, str] = {}
        while True:
            start = _skip(text, at, " \t,")
            key, after = _word(text, start)
            after = _skip(text, after, " \t")
            if not key or after >= len(text) or text[after] != "=":
                break
            value, at = _value(text, _skip(text, after + 1, " \t"))
            parameters.setdefault(key.lower(), value)
        found.append(Challenge(scheme.lower(), parameters))
    return found


def basic(credential: Credential) -> str:
    """The `Authorization` of a user and password."""
    return "Basic " + base64.b64encode(f"{credential.username}:{credential.password}".encode()).decode()


def _refused(
    endpoint: Endpoint, host: str, status: int, body: bytes, credential: Credential, after_s: float | None
) -> RemoteError | NotThere:
    _, said = errors_of(body)
    if status in (400, 401, 403):
        if credential:
            return RemoteError(
                f"unauthorized: {host} refused the stored login for {endpoint.host}"
                + (f": {said}" if said else ""),
                hint=f"`knarr login {endpoint.key.partition('/')[0]}` again, or `knarr logout` to go on without",
                status=status,
            )
        domain, _, path = endpoint.key.partition("/")
        return denied(Reference(domain, path).familiar_name, domain, said)
    return answer_failure(f"token for {endpoint.key}", host, status, said, after_s)


def _plain(token: str, host: str) -> str:
    if not token.isascii() or not token.isprintable() or " " in token:
        raise RemoteError(f"token server {host}: its token has characters no token has")
    return token


def _skip(text: str, at: int, blanks: str) -> int:
    while at < len(text) and text[at] in blanks:
        at += 1
    return at


def _word(text: str, at: int) -> tuple[str, int]:
    end = at
    while end < len(text) and text[end] not in _SEPARATORS:
        end += 1
    return text[at:end], end


def _value(text: str, at: int) -> tuple[str, int]:
    if at >= len(text) or text[at] != '"':
        end = at
        while end < len(text) and text[end] not in ", \t":
            end += 1
        return text[at:end], end
    out: list[str] = []
    at += 1
    while at < len(text) and text[at] != '"':
        if text[at] == "\\" and at + 1 < len(text):
            at += 1
        out.append(text[at])
        at += 1
    return "".join(out), at + 1
