"""Store: images, layers and blobs under one root. The door of the package.

Reading is files and links only, and cheap to import: it is on every start's path. Writing opens a session and the
database on first use, and imports what it needs then.
"""

from __future__ import annotations

import os

from knarr.store import images
from knarr.store.images import Image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from knarr.oci.digest import Digest
    from knarr.oci.image import Descriptor
    from knarr.oci.reference import Reference
    from knarr.store.collect import Collected
    from knarr.store.ingest import Limits
    from knarr.store.unpack import Unpacked
    from knarr.store.writer import Writer

__all__ = ["Image", "Store"]


def _no_progress(count: int) -> None:
    """Nobody wants to know."""


class Store:
    """`root` as in `knarr.host.paths`. `userxattr`: layers for overlay in a user namespace; by default as we are."""

    __slots__ = ("_limits", "_unpacked", "_userxattr", "_writer", "root")

    def __init__(self, root: str, *, userxattr: bool | None = None, limits: Limits | None = None) -> None:
        self.root = root
        self._userxattr = userxattr
        self._limits = limits
        self._writer: Writer | None = None
        self._unpacked: list[Unpacked] = []

    # Reading: on the start-up path.

    def find_image(self, name_or_id: str) -> Image | None:
        """The image of a name, an id or the unique beginning of an id. Raises `Conflict` when several begin so."""
        return images.find_image(self.root, name_or_id)

    def has_image(self, image_id: Digest) -> bool:
        """Is the image here. `create` asks once its container is on disk: `remove` looks for containers meanwhile."""
        return os.path.isdir(f"{self.root}/images/{image_id.hex}")

    def images(self) -> list[Image]:
        """Every image, unordered."""
        return images.all_images(self.root)

    def read_blob(self, digest: Digest) -> bytes | None:
        """A document: manifest, index, config. None when it is not here, or not whole."""
        from knarr.store.writer import read_document

        return read_document(self.root, digest)

    # Writing.

    @property
    def writer(self) -> Writer:
        """The writing side, opened on first use. Raises `HostError`."""
        if self._writer is None:
            from knarr.store.opening import open_writer

            self._writer = open_writer(self.root, userxattr=self._userxattr, limits=self._limits)
        return self._writer

    def operation(self) -> Operation:
        """`with store.operation() as writer:` the writing side, closed afterwards when nobody had it open before."""
        return Operation(self, self._writer is None)

    def close(self) -> None:
        """Let go of locks, pins and the database. When a process just ends, the next one sweeps."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def has_layer(self, diff_id: str) -> bool:
        """Is the layer unpacked here; it then stays as long as this process lives."""
        return self.writer.has_layer(diff_id)

    def has_blob(self, digest: str) -> bool:
        """Is the (compressed) blob here; it then stays as long as this process lives."""
        return self.writer.has_blob(digest)

    def partial(self, digest: str, *, progress: Callable[[int], None] = _no_progress) -> int:
        """How many bytes of a layer's blob are here from a cut download: `read` of `ingest_layer` goes on behind them.

        While another process fetches the same blob this waits, calling `progress(0)`; then it may be here whole.
        """
        return self.writer.partial(digest, progress)

    def ingest_layer(
        self,
        descriptor: Descriptor,
        diff_id: str,
        read: Callable[[int], bytes],
        *,
        progress: Callable[[int], None] = _no_progress,
    ) -> Unpacked:
        """Unpack a layer and keep its blob.

        `read(n)` delivers the compressed bytes: from `partial(digest)` on when that was asked before, else from the
        start. `progress(n)` is told of n more bytes.

        Raises `DataError` when size, digest or diff id are not what was said, or the archive is hostile, `HostError`
        when the disk is full; then nothing is left. What `read` raises passes through, and what came is kept for the
        next try. Callable from several threads.
        """
        from knarr.store.intake import ingest_layer

        result = ingest_layer(self.writer, descriptor, diff_id, read, progress)
        self._unpacked.append(result)
        return result

    def warnings(self) -> list[str]:
        """What this user could not unpack as the layers say it, one line each kind. Tells it once."""
        from knarr.store.unpack import warnings

        found, self._unpacked = warnings(self._unpacked), []
        return found

    def put_blob(self, digest: Digest, data: bytes) -> None:
        """Keep a document that an image committed by this process refers to. Raises `DataError` for other bytes."""
        self.writer.put_blob(digest, data)

    def commit_image(self, name: str, target: Digest, manifest: Digest, config: Digest) -> Image:
        """Make an image visible, under `name` ("" for none). Its documents were put and its layers ingested before.

        `target` is what the name stands for, the index where there is one; it stays with the image. On disk, whatever
        happens, when this returns. Raises `DataError`, `HostError`.
        """
        from knarr.store.commit import commit_image

        return commit_image(self.writer, name, target, manifest, config)

    def tag(self, image: Image, name: Reference) -> None:
        """Give an image another name; who had it before loses it."""
        from knarr.store.commit import tag

        with self.operation() as writer:
            tag(writer, image, name)

    def remove(
        self, name_or_id: str, *, in_use: Callable[[Digest], list[str]], force: bool = False
    ) -> list[str]:
        """Remove a name, and with the last one the image and what only it needed; docker's lines about it.

        `in_use(image id)` lists containers of an image. Raises `NotFound`, `Conflict`.
        """
        from knarr.store.collect import remove

        with self.operation() as writer:
            return remove(writer, name_or_id, in_use, force=force)

    def prune(
        self, *, in_use: Callable[[Digest], list[str]], everything: bool = False
    ) -> tuple[list[str], Collected]:
        """Delete images without a name, or all that no container uses; then collect. Docker's lines, and the sum."""
        from knarr.store.collect import prune

        with self.operation() as writer:
            return prune(writer, in_use, everything=everything)

    def collect(self) -> Collected:
        """Delete layers and blobs that no image, container or running pull needs."""
        from knarr.store.collect import collect

        with self.operation() as writer:
            return collect(writer)


class Operation:
    """See `Store.operation`."""

    __slots__ = ("_closes", "_store")

    def __init__(self, store: Store, closes: bool) -> None:
        self._store = store
        self._closes = closes

    def __enter__(self) -> Writer:
        return self._store.writer

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if self._closes:
            self._store.close()
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            from knarr.store.ingest import disk_trouble

            raise disk_trouble(f"store {self._store.root}", error) from error
