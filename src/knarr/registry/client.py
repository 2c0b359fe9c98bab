"""Client of the distribution specification (pull): manifests and blobs of one reference, from the first place that
has them.

    with Client(load(paths.config), Credentials(env), env, paths.config) as client:
        source = client.source(parse("busybox"))
        found = source.manifest()                    # Fetched(body, media_type, digest)
        reader = source.blob(descriptor)             # BlobReader
"""

from __future__ import annotations

import hashlib
import threading

from knarr.errors import DataError, KnarrError, NotFound, RemoteError
from knarr.oci.digest import Digest
from knarr.oci.image import INDEX_TYPES, MANIFEST_TYPES
from knarr.oci.manifest import MANIFEST_MAX
from knarr.record import Record
from knarr.registry import tls
from knarr.registry.auth import Authorizer
from knarr.registry.blob import BlobReader
from knarr.registry.failures import (
    Cancelled,
    Transient,
    Unreachable,
    WrongScheme,
    answer_failure,
    blob_failure,
    errors_of,
    manifest_failure,
)
from knarr.registry.retry import DEFAULT_RETRY, Patience, Retry
from knarr.registry.transport import DEFAULT_LIMITS, Limits, Transport, host_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType
    from typing import Self, TypeVar

    from knarr.oci.image import Descriptor
    from knarr.oci.reference import Reference
    from knarr.registry.credentials import Credentials, Given
    from knarr.registry.registries import Endpoint, Registries
    from knarr.registry.transport import Answer

    T = TypeVar("T")

_ACCEPT = ", ".join((*INDEX_TYPES, *MANIFEST_TYPES))
_CHALLENGES_MAX = 2  # a token for the repository, and another when the first has expired in between


class Fetched(Record):
    """A manifest's bytes as they are, verified against `digest`. From HEAD, `body` is empty."""

    body: bytes
    media_type: str
    digest: Digest
    size: int


class Client:
    """Connections, tokens and settings of one command. Safe for several threads; close it at the end."""

    def __init__(
        self,
        registries: Registries,
        credentials: Credentials | Given,
        env: Mapping[str, str],
        config: Iterable[str],
        *,
        retry: Retry = DEFAULT_RETRY,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self._registries = registries
        self._certificates = tls.certificate_directories(env, config)
        self.transport = Transport(registries.trust, self._certificates, env, limits)
        self._retry = retry
        self._authorizer = Authorizer(self.transport, credentials, registries.trust)
        self._bases: dict[str, str] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.transport.close()

    def cancel(self) -> None:
        """Wakes and ends every reader, from any thread."""
        self.transport.cancel()

    def source(self, reference: Reference) -> Source:
        """Where `reference` is fetched from. Raises `UsageError` for a blocked registry."""
        return Source(self, reference, self._registries.endpoints(reference))

    def patience(self) -> Patience:
        return Patience(self._retry, self.transport.cancelled)

    def insist(self, attempt: Callable[[], T]) -> T:
        return self.patience().insist(attempt)

    def ask(self, endpoint: Endpoint, method: str, path: str, headers: Mapping[str, str]) -> Answer:
        """One request to `/v2/<repository>/PATH`, with whatever authorization it takes. Not retried."""
        return self._send(endpoint, method, f"/v2/{endpoint.path}/{path}", headers)

    def check(self, domain: str) -> None:
        """That a registry lets us in at all, with the credentials given (distribution-spec, Determining Support)."""
        endpoint = self._registries.registry(domain)
        answer = self.insist(lambda: self._send(endpoint, "GET", "/v2/", {}))
        _, said = errors_of(answer.error_body())
        if answer.status in (401, 403):
            raise RemoteError(
                f"login to {domain}: unauthorized: {said or 'incorrect user name or password'}",
                status=answer.status,
            )
        if answer.status != 200:
            raise answer_failure(f"login to {domain}", answer.host, answer.status, said)

    def _send(self, endpoint: Endpoint, method: str, path: str, headers: Mapping[str, str]) -> Answer:
        base = self.base(endpoint)
        url = base + path
        for round_ in range(_CHALLENGES_MAX + 1):
            sent = self._authorizer.header(endpoint)
            given = {**headers, "Authorization": sent} if sent else headers
            answer = self.transport.open(method, url, given, endpoint.trust)
            challenges = answer.headers.getlist("WWW-Authenticate")
            if answer.status != 401 or not challenges or round_ == _CHALLENGES_MAX:
                return answer
            if answer.host != host_of(url):
                return answer  # where a redirect led may not ask for the registry's password
            answer.error_body()  # the connection is free for the token
            if not self._authorizer.answer(endpoint, challenges, sent, base):
                return answer
        raise AssertionError("unreachable")

    def base(self, endpoint: Endpoint) -> str:
        """`scheme://host` of an endpoint. Where both schemes are allowed, the one that answers `/v2/`."""
        schemes = endpoint.schemes
        if "http" in schemes and tls.has_authority(endpoint.host, self._certificates):
            schemes = ("https",)
        if len(schemes) == 1:
            return f"{schemes[0]}://{endpoint.host}"
        with self._lock:
            if endpoint.host not in self._bases:
                self._bases[endpoint.host] = self._probe(endpoint, schemes)
            return self._bases[endpoint.host]

    def _probe(self, endpoint: Endpoint, schemes: tuple[str, ...]) -> str:
        failure: KnarrError | None = None
        for scheme in schemes:
            base = f"{scheme}://{endpoint.host}"
            try:
                answer = self.transport.open("GET", f"{base}/v2/", {}, endpoint.trust, follow=False)
                body = answer.error_body()
                if scheme == "http" and answer.status == 400 and b"HTTPS" in body:
                    failure = failure or WrongScheme(f"registry {endpoint.host} speaks HTTPS only")
                    continue
                return base
            except Unreachable:
                raise
            except RemoteError as e:
                failure = failure or e
        raise failure or RemoteError(f"registry {endpoint.host} answers neither HTTPS nor HTTP")


class Source:
    """One repository at its endpoints: mirrors first, the registry itself last."""

    def __init__(self, client: Client, reference: Reference, endpoints: tuple[Endpoint, ...]) -> None:
        self.reference = reference
        self._client = client
        self._mirrors = endpoints[:-1]
        self._dropped: set[Endpoint] = set()
        self._last = endpoints[-1]

    def head(self) -> Fetched | None:
        """What the reference names now, without its bytes; None when the registry does not say."""
        return self._first(lambda e: self._head(e, self.reference.version))

    def manifest(self, digest: str = "") -> Fetched:
        """The reference's manifest or index, or the one with `digest` in the same repository."""
        version = digest or self.reference.version
        return self._first(lambda e: self._manifest(e, version))

    def blob(self, descriptor: Descriptor, *, offset: int = 0) -> BlobReader:
        """The blob's bytes from `offset` on. Nothing is sent before the first read."""
        what = f"blob {descriptor.digest[:19]} of {self.reference.familiar_name}"

        def open_at(start: int) -> Answer:
            return self._first(
                lambda e: self._blob(e, descriptor.digest, start), insist=False
            )  # the reader does

        return BlobReader(descriptor, what, open_at, self._client.patience(), offset=offset)

    def document(self, descriptor: Descriptor, limit: int) -> bytes:
        """A small blob, whole and verified against its digest."""
        what = f"blob {descriptor.digest[:19]} of {self.reference.familiar_name}"
        if descriptor.size > limit:
            raise DataError(f"{what}: {descriptor.size} bytes where at most {limit} make sense")
        reader = self.blob(descriptor)
        try:
            body = b"".join(iter(reader.read, b""))
        finally:
            reader.close()
        verify(body, Digest(descriptor.digest), what)
        return body

    def _first(self, attempt: Callable[[Endpoint], T], *, insist: bool = True) -> T:
        """The answer of the first endpoint that has one; the last one's failure counts."""
        for mirror in self._mirrors:
            if mirror in self._dropped:
                continue
            try:
                return attempt(mirror)
            except Cancelled:
                raise
            except NotFound:
                continue
            except (RemoteError, DataError):  # it is down, or lies: it costs time once, not for every layer
                self._dropped.add(mirror)
        return self._client.insist(lambda: attempt(self._last)) if insist else attempt(self._last)

    def _head(self, endpoint: Endpoint, version: str) -> Fetched | None:
        answer = self._client.ask(endpoint, "HEAD", f"manifests/{version}", {"Accept": _ACCEPT})
        answer.error_body()
        if answer.status != 200:
            raise self._manifest_failure(answer, b"")
        try:
            digest = Digest(answer.headers.get("Docker-Content-Digest", ""))
        except DataError:
            return None
        return Fetched(b"", _media_type(answer), digest, answer.length or 0)

    def _manifest(self, endpoint: Endpoint, version: str) -> Fetched:
        what = f"manifest of {self.reference.familiar}"
        answer = self._client.ask(endpoint, "GET", f"manifests/{version}", {"Accept": _ACCEPT})
        if answer.status != 200:
            raise self._manifest_failure(answer, answer.error_body())
        if answer.encoded:
            answer.close()
            raise DataError(f"{what}: came encoded as {answer.encoded[:40]!r}, which was not asked for")
        body = answer.read_all(MANIFEST_MAX, what)
        if ":" in version:
            wanted = Digest(version)
        else:
            wanted = _announced(answer, what) or _sha256(body)
        verify(body, wanted, what, answer.host)
        return Fetched(body, _media_type(answer), wanted, len(body))

    def _blob(self, endpoint: Endpoint, digest: str, start: int) -> Answer:
        headers = {"Range": f"bytes={start}-"} if start else {}
        answer = self._client.ask(endpoint, "GET", f"blobs/{digest}", headers)
        if answer.status in (200, 206 if start else 200):
            return answer
        body = answer.error_body()
        failure = blob_failure(self.reference, digest, answer.host, answer.status, body)
        raise _with_delay(failure, answer)

    def _manifest_failure(self, answer: Answer, body: bytes) -> KnarrError:
        return _with_delay(manifest_failure(self.reference, answer.host, answer.status, body), answer)


def verify(body: bytes, digest: Digest, what: str, host: str = "") -> None:
    """That `body` is what `digest` says. Raises `DataError`."""
    found = hashlib.new(digest.algorithm, body).hexdigest()
    if found != digest.hex:
        by = f" from registry {host}" if host else ""
        raise DataError(
            f"{what}{by} is not what its digest says: expected {digest}, got {digest.algorithm}:{found}"
        )


def _sha256(body: bytes) -> Digest:
    return Digest("sha256:" + hashlib.sha256(body).hexdigest())


def _announced(answer: Answer, what: str) -> Digest | None:
    text = answer.headers.get("Docker-Content-Digest", "")
    if not text:
        return None
    try:
        return Digest(text)
    except DataError:
        raise DataError(f"{what}: registry {answer.host} announces {text[:80]!r} as its digest") from None


def _media_type(answer: Answer) -> str:
    found: str = answer.headers.get("Content-Type", "")
    return found.partition(";")[0].strip().lower()


def _with_delay(failure: KnarrError, answer: Answer) -> KnarrError:
    if isinstance(failure, Transient):
        failure.after_s = answer.retry_after_s
    return failure
