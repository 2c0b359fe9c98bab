"""A layer into the store: fetched once, verified, unpacked, put in its place. See `knarr.store.ingest` for the pass."""

from __future__ import annotations

import os

from knarr.errors import DataError
from knarr.oci.digest import Digest
from knarr.store.database import boot_id
from knarr.store.ingest import Incoming, check_layer, disk_trouble, unpack_layer
from knarr.store.removal import remove_tree
from knarr.store.unpack import Unpacked
from knarr.store.writer import CLOSED, partial_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from knarr.oci.image import Descriptor
    from knarr.store.writer import Writer

_NOTHING = Unpacked(0, 0, 0, 0, 0)


def ingest_layer(
    writer: Writer,
    descriptor: Descriptor,
    diff_id: str,
    read: Callable[[int], bytes],
    progress: Callable[[int], None],
) -> Unpacked:
    """See `Store.ingest_layer`."""
    digest, diff = Digest(descriptor.digest), Digest(diff_id)
    writer.pin(digest, diff)
    claimed = writer.handed_over(digest)
    fd = writer.claim(digest, progress) if claimed is None else claimed
    incoming = None
    keep = False
    try:
        if writer.is_blob(digest):
            return _from_blob(writer, descriptor, diff, progress)
        if claimed is None:
            os.ftruncate(fd, 0)
        kept = os.lseek(fd, 0, os.SEEK_END)
        if kept > descriptor.size:
            raise DataError(
                f"layer {digest}: more is here than the {descriptor.size} bytes its manifest says"
            )
        incoming = Incoming(descriptor, fd, kept, read, progress, writer.flusher.soon)
        return _store(writer, incoming, descriptor, diff, keep_blob=True)
    except BaseException as e:
        keep = incoming is not None and incoming.interrupted
        if isinstance(e, OSError) and not keep:
            raise disk_trouble(f"layer {digest}", e) from e
        raise
    finally:
        if not keep:
            _drop_partial(f"{writer.session.partial}/{partial_name(digest)}", fd)
        os.close(fd)


def _drop_partial(path: str, fd: int) -> None:
    """Unless it has become the blob."""
    try:
        if os.path.samestat(os.fstat(fd), os.stat(path)):
            os.unlink(path)
    except FileNotFoundError:
        pass


def _from_blob(
    writer: Writer, descriptor: Descriptor, diff: Digest, progress: Callable[[int], None]
) -> Unpacked:
    """The blob is here: all is, or a kill or a removal has taken the layer."""
    digest = Digest(descriptor.digest)
    if writer.is_layer(diff) and digest in writer.blobs_of(diff):
        progress(descriptor.size)
        return _NOTHING
    path = writer.blob_path(digest)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        incoming = Incoming(descriptor, fd, os.fstat(fd).st_size, lambda n: b"", progress)
        return _store(writer, incoming, descriptor, diff, keep_blob=False)
    except DataError:
        if diff in _diffs_of(
            writer, digest
        ):  # it was right once, so the disk has lost it: the next try fetches it
            writer.db.execute("DELETE FROM blobs WHERE digest = ?", digest)
            os.unlink(path)
        raise
    finally:
        os.close(fd)


def _diffs_of(writer: Writer, digest: Digest) -> list[object]:
    return [diff for (diff,) in writer.db.execute("SELECT diff_id FROM blobs WHERE digest = ?", digest)]


def _store(
    writer: Writer, incoming: Incoming, descriptor: Descriptor, diff: Digest, *, keep_blob: bool
) -> Unpacked:
    ceiling = writer.limits.ceiling(descriptor.size)
    digest = Digest(descriptor.digest)
    if writer.is_layer(diff):
        check_layer(incoming, diff, digest, ceiling=ceiling)
        if keep_blob:
            _keep(writer, digest, diff)
        return _NOTHING
    writer.flusher.soon()
    made = writer.session.free_path("layer")
    os.mkdir(made, CLOSED)
    try:
        result = unpack_layer(
            incoming,
            diff,
            digest,
            f"{made}/diff",
            ceiling=ceiling,
            limits=writer.limits,
            userxattr=writer.userxattr,
        )
        writer.db.insert("layers", [(diff, result.size_bytes, result.archive_bytes, boot_id())])
        if keep_blob:
            _keep(writer, digest, diff)
        _place(writer, made, diff)
        writer.flusher.soon()
    finally:
        remove_tree(made)
    return result


def _keep(writer: Writer, digest: Digest, diff: Digest) -> None:
    """The blob to its place, and what it is."""
    path = writer.blob_path(digest)
    os.makedirs(os.path.dirname(path), CLOSED, exist_ok=True)
    os.rename(f"{writer.session.partial}/{partial_name(digest)}", path)
    writer.db.insert("blobs", [(digest, diff, boot_id())])


def _place(writer: Writer, made: str, diff: Digest) -> None:
    """A finished layer to its place. Another process may have been quicker with the same one, from another blob."""
    path = writer.layer_path(diff)
    try:
        os.rename(made, path)
    except OSError:
        if not os.path.isdir(path):
            raise
        if writer.db.execute("SELECT 1 FROM uses WHERE digest = ?", diff):
            return
        # Without a use it may be what a power cut left half written; its own maker, if there is one, made the same.
        aside = writer.session.free_path("old")
        os.rename(path, aside)
        os.rename(made, path)
        remove_tree(aside)
