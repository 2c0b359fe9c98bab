"""Pull: registry → store. Index → manifest → config → layers, several at once, each in one stream.

Nothing is fetched that is here already, and nothing is visible before all of it is here: the image is committed
last. A pull that is interrupted or fails leaves whole layers, which the next one finds, and nothing half done.

Off the start-up path: import it when there is something to pull.
"""

from __future__ import annotations

import os
import queue
import threading
import time

from knarr.errors import DataError, KnarrError, NotFound, RemoteError
from knarr.oci import platform as platforms
from knarr.oci.digest import Digest
from knarr.oci.image import Index, Manifest, Platform
from knarr.oci.manifest import CONFIG_MAX, check_image, read_config, read_manifest
from knarr.record import Record
from knarr.registry.client import Client, Fetched
from knarr.registry.credentials import Credentials
from knarr.registry.failures import Cancelled, Transient
from knarr.registry.registries import load
from knarr.registry.retry import DEFAULT_RETRY, Retry
from knarr.registry.transport import DEFAULT_LIMITS, Limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from knarr.oci.image import Descriptor, ImageConfig
    from knarr.oci.reference import Reference
    from knarr.registry.client import Source
    from knarr.store.store import Image, Store

ALWAYS, MISSING, NEVER = "always", "missing", "never"
_WORKERS = 4
_PATIENCE_S = (
    5.0  # for threads that clean up after an interrupt; what they leave is swept by the next command
)
_NESTING_MAX = 4  # an index may name an index (image-index.md)


class Progress:
    """What a pull tells while it runs; this one listens to nothing. Called from several threads.

    `digest` is the layer's blob. First each layer, in the image's order, is `exists` or `waiting`; those that wait are
    then `advanced` a number of times, and `complete`.
    """

    def started(self, reference: Reference) -> None:
        """A registry is about to be asked."""

    def warned(self, message: str) -> None:
        """Something the user should know goes on regardless."""

    def waiting(self, digest: str, size: int) -> None:
        """A layer of `size` bytes is going to be fetched."""

    def exists(self, digest: str) -> None:
        """The layer is here already."""

    def advanced(self, digest: str, fetched: int) -> None:
        """So many of its bytes have come, from its beginning."""

    def complete(self, digest: str) -> None:
        """The layer is unpacked."""

    def finished(self, reference: Reference, digest: str, newer: bool) -> None:
        """The image is here under its name. `newer` is false when it was before."""

    def close(self) -> None:
        """The pull is over, one way or another."""


SILENT = Progress()


class Pulled(Record):
    """`reference` is what the words meant in the end: an alias or a search domain may have completed them."""

    reference: Reference
    image: Image


class Found(Record):
    """An image at a registry, before its layers."""

    reference: Reference
    documents: tuple[Fetched, ...]  # from what the reference names down to the manifest itself
    manifest: Manifest
    config: ImageConfig
    config_body: bytes

    @property
    def digest(self) -> Digest:
        """Of what the reference names: an index where there is one. What docker prints and keeps."""
        return self.documents[0].digest


def pull(
    store: Store,
    text: str,
    *,
    platform: str = "",
    policy: str = ALWAYS,
    progress: Progress = SILENT,
    config: Sequence[str] = (),
    env: Mapping[str, str] = os.environ,
    retry: Retry = DEFAULT_RETRY,
    limits: Limits = DEFAULT_LIMITS,
) -> Pulled:
    """The image of a reference, fetched if `policy` (always, missing, never) and what is here ask for it.

    `config` are the directories of `registries.toml`. Raises `NotFound`, `RemoteError`, `DataError`, `UsageError`,
    and passes `KeyboardInterrupt` on, each with nothing half done.
    """
    machine = os.uname().machine
    wanted = platforms.parse(platform, machine) if platform else platforms.host(machine)
    registries = load(config)
    names = registries.resolve(text)
    if policy != ALWAYS:
        for name in names:
            image = store.find_image(str(name))
            if image is not None and platforms.matches(wanted, _platform(image.config)):
                return Pulled(name, image)
        if policy == NEVER:
            raise NotFound("image", text, hint=f"fetch it with `knarr pull {text}`")
    failure: KnarrError | None = None
    with Client(registries, Credentials(env), env, config, retry=retry, limits=limits) as client:
        for name in names:
            try:
                image = _pull_one(store, client, name, wanted, strict=bool(platform), progress=progress)
                return Pulled(name, image)
            except (NotFound, RemoteError) as e:
                failure = failure or e
    raise failure or NotFound("image", text)


def _pull_one(
    store: Store, client: Client, reference: Reference, wanted: Platform, *, strict: bool, progress: Progress
) -> Image:
    source = client.source(reference)
    progress.started(reference)
    before = store.find_image(str(reference))
    found = find(store, source, wanted, known=before is not None)
    _check_platform(found, wanted, strict, progress)
    same = before is not None and before.id == found.manifest.config.digest
    fetch_layers(store, client, source, found, SILENT if same else progress)
    image = commit(store, found)
    progress.finished(reference, found.digest, newer=before is None or before.id != image.id)
    return image


def find(store: Store, source: Source, wanted: Platform, *, known: bool) -> Found:
    """Follows a reference down to the image for `wanted`. `known`: one is here, so its digest is asked for first."""
    what = source.reference.familiar
    documents = [_top(store, source, known=known)]
    document = read_manifest(documents[0].body, documents[0].media_type, what)
    while isinstance(document, Index):
        if len(documents) > _NESTING_MAX:
            raise DataError(f"{what}: indexes within indexes, more than {_NESTING_MAX} deep")
        chosen = _choose(document, wanted, what)
        documents.append(_below(store, source, chosen, what))
        document = read_manifest(documents[-1].body, documents[-1].media_type or chosen.media_type, what)
    check_image(document, what)
    body = store.read_blob(Digest(document.config.digest)) or source.document(document.config, CONFIG_MAX)
    return Found(source.reference, tuple(documents), document, read_config(body, document, what), body)


def _top(store: Store, source: Source, *, known: bool) -> Fetched:
    """What the reference itself names, from here if it is here."""
    digest = Digest(source.reference.digest) if source.reference.digest else None
    if digest is None and known:
        try:
            head = source.head()
        except Transient:
            raise
        except (RemoteError, NotFound):
            head = None  # GET says it again, with the registry's reasons
        digest = head.digest if head else None
    body = store.read_blob(digest) if digest else None
    return Fetched(body, "", digest, len(body)) if body and digest else source.manifest()


def _below(store: Store, source: Source, descriptor: Descriptor, what: str) -> Fetched:
    """A manifest an index names, from here if it is here."""
    digest = Digest(descriptor.digest)
    body = store.read_blob(digest)
    found = Fetched(body, "", digest, len(body)) if body else source.manifest(digest)
    if found.size != descriptor.size:
        raise DataError(
            f"{what}: the index says {descriptor.size} bytes for {digest[:19]}, it has {found.size}"
        )
    return found


def _choose(index: Index, wanted: Platform, what: str) -> Descriptor:
    chosen = platforms.select(index.manifests, wanted)
    if chosen is None:
        named = [
            platforms.shown(d.platform) for d in index.manifests if d.platform and d.platform.os != "unknown"
        ]
        offered = ", ".join(dict.fromkeys(named))
        raise NotFound(
            "image", f"{what} for platform {platforms.shown(wanted)}",
            hint=f"it is there for {offered[:300]}" if offered else "its index names no platform at all",
        )  # fmt: skip
    return chosen


def _check_platform(found: Found, wanted: Platform, strict: bool, progress: Progress) -> None:
    """An image without an index is for one platform, be it ours or not."""
    actual = _platform(found.config)
    if platforms.matches(wanted, actual):
        return
    what, shown, here = found.reference.familiar, platforms.shown(actual), platforms.shown(wanted)
    if strict:
        raise NotFound("image", f"{what} for platform {here}: it is for {shown}")
    progress.warned(f"image {what} is for platform {shown}, this machine is {here}")


def _platform(config: ImageConfig) -> Platform:
    return Platform(config.architecture, config.os, variant=config.variant)


class _Job(Record):
    descriptor: Descriptor
    diff_id: Digest


def fetch_layers(store: Store, client: Client, source: Source, found: Found, progress: Progress) -> None:
    """Every layer that is not here, several at once, the largest first: it decides when all are done."""
    jobs = {
        layer.digest: _Job(layer, Digest(diff_id))
        for layer, diff_id in zip(found.manifest.layers, found.config.rootfs.diff_ids, strict=True)
    }
    missing = []
    for job in jobs.values():
        if store.has_layer(job.diff_id):
            progress.exists(job.descriptor.digest)
        else:
            progress.waiting(job.descriptor.digest, job.descriptor.size)
            missing.append(job)
    missing.sort(key=lambda job: job.descriptor.size)
    _Crew(store, client, source, progress, missing).work()


class _Crew:
    """A few threads that take jobs from a pile. The first failure, or an interrupt, ends them all."""

    def __init__(
        self, store: Store, client: Client, source: Source, progress: Progress, pile: list[_Job]
    ) -> None:
        self._store, self._client, self._source, self._progress = store, client, source, progress
        self._pile = pile
        self._failures: list[BaseException] = []
        self._done: queue.SimpleQueue[None] = queue.SimpleQueue()

    def work(self) -> None:
        at_work = 0
        # Not by join: up to Python 3.12 a Ctrl-C in it marks a thread that runs as ended
        try:
            for _ in range(min(_WORKERS, len(self._pile))):
                at_work += 1
                threading.Thread(target=self._take, daemon=True).start()
            while at_work:
                self._done.get()
                at_work -= 1
        except BaseException:  # Ctrl-C: readers wake, unpackings clean up, then it goes on its way
            self._client.cancel()
            self._await(at_work)
            raise
        causes = [f for f in self._failures if not isinstance(f, Cancelled)]
        if self._failures:
            raise (causes or self._failures)[0]

    def _next(self) -> _Job | None:
        try:
            return self._pile.pop()
        except IndexError:
            return None

    def _await(self, at_work: int) -> None:
        until = time.monotonic() + _PATIENCE_S
        try:
            for _ in range(at_work):
                self._done.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            pass

    def _take(self) -> None:
        try:
            while job := self._next():
                self._fetch(job)
        except BaseException as e:  # noqa: BLE001  # raised again by the thread that waits
            self._failures.append(e)
            self._client.cancel()
        finally:
            self._done.put(None)

    def _fetch(self, job: _Job) -> None:
        digest = job.descriptor.digest
        taken = 0

        def took(count: int) -> None:
            nonlocal taken
            if self._client.transport.cancelled.is_set():
                raise Cancelled
            taken += count
            self._progress.advanced(digest, taken)

        here = self._store.partial(digest, progress=took)
        reader = self._source.blob(job.descriptor, offset=here)
        try:
            self._store.ingest_layer(job.descriptor, job.diff_id, reader.read, progress=took)
        finally:
            reader.close()
        self._progress.complete(digest)


def commit(store: Store, found: Found) -> Image:
    """Makes the image visible under its name."""
    for document in found.documents:
        store.put_blob(document.digest, document.body)
    config = Digest(found.manifest.config.digest)
    store.put_blob(config, found.config_body)
    # Of a reference with both, the digest is what was asked for: nobody asked the registry what the tag means
    name = found.reference._replace(tag="") if found.reference.digest else found.reference
    return store.commit_image(str(name), found.digest, found.documents[-1].digest, config)
