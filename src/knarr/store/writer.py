"""The store's writing side: one process's session, claims and connection, and the blobs. Off the start-up path.

Order on disk, so that a kill between any two steps leaves the state of before or the state of after:
  layer    unpacked in tmp/ → its row → blob renamed → layer renamed        (knarr.store.intake)
  image    everything it needs is there → one syncfs → its uses, durable → images/HEX renamed → names
                                                                            (knarr.store.commit)
"""

from __future__ import annotations

import hashlib
import os
import threading

from knarr.errors import DataError
from knarr.oci.digest import Digest
from knarr.oci.image import OCI_LAYER, Descriptor
from knarr.store.database import Database, boot_id
from knarr.store.decompress import Decompressed
from knarr.store.flush import Flusher
from knarr.store.ingest import Limits, disk_trouble
from knarr.store.session import Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

CLOSED = 0o700  # no other user of the machine may reach a setuid program of an image


class Writer:
    """One process's writing side. Methods may be called from several threads."""

    def __init__(self, root: str, *, userxattr: bool, limits: Limits) -> None:
        from knarr.store.commit import rebuild

        self.root = root
        self.userxattr = userxattr
        self.limits = limits
        self._mutex = threading.Lock()
        self._claims: dict[str, int] = {}
        os.makedirs(root, 0o711, exist_ok=True)
        for name in ("layers", "images", "refs", "blobs", "blobs/sha256"):
            os.makedirs(f"{root}/{name}", CLOSED, exist_ok=True)
        self.session = Session(root)
        self.flusher = Flusher(root)
        self.db = Database(root, lambda db: rebuild(root, db))
        with self.db.changing():
            living = self.session.living()
            for (pinner,) in self.db.execute("SELECT DISTINCT session FROM pins"):
                if pinner not in living:
                    self.db.execute("DELETE FROM pins WHERE session = ?", pinner)

    def close(self) -> None:
        """Let go of everything; what was only pinned may be collected from now on."""
        self.flusher.close()
        self.db.execute("DELETE FROM pins WHERE session = ?", self.session.name)
        self.db.close()
        for fd in self._claims.values():
            os.close(fd)
        self._claims.clear()
        self.session.close()

    # Where things are.

    def blob_path(self, digest: str) -> str:
        return blob_path(self.root, digest)

    def layer_path(self, diff_id: str) -> str:
        return f"{self.root}/layers/{Digest(diff_id).hex}"

    # What is here. What was asked for stays, as long as this process lives.

    def pin(self, *digests: str) -> None:
        """Keep these from being collected until an image uses them or this process ends."""
        with self.db.changing():
            self.db.insert("pins", ((self.session.name, digest) for digest in digests))

    def unpin(self, digests: set[str]) -> None:
        with self.db.changing():
            for digest in digests:
                self.db.execute(
                    "DELETE FROM pins WHERE session = ? AND digest = ?", self.session.name, digest
                )

    def has_layer(self, diff_id: str) -> bool:
        """Is the layer unpacked and whole."""
        digest = Digest(diff_id)
        self.pin(digest, *self.blobs_of(digest))
        return self.is_layer(digest)

    def is_layer(self, digest: Digest) -> bool:
        rows = self.db.execute("SELECT boot FROM layers WHERE diff_id = ?", digest)
        return bool(rows) and rows[0][0] in ("", boot_id()) and os.path.isdir(self.layer_path(digest))

    def has_blob(self, digest: str) -> bool:
        """Is the layer's blob here and whole."""
        self.pin(Digest(digest))
        return self.is_blob(digest)

    def is_blob(self, digest: str) -> bool:
        rows = self.db.execute("SELECT boot FROM blobs WHERE digest = ?", digest)
        return bool(rows) and rows[0][0] in ("", boot_id()) and os.path.isfile(self.blob_path(digest))

    def blobs_of(self, diff_id: str) -> list[str]:
        """Digests of blobs known to unpack to a layer."""
        return [str(d) for (d,) in self.db.execute("SELECT digest FROM blobs WHERE diff_id = ?", diff_id)]

    def describe(self, digest: str) -> Descriptor:
        """A descriptor of a layer's blob that is here."""
        with open(self.blob_path(digest), "rb", buffering=0) as file:
            compression = Decompressed(file.read, digest, ceiling=0).recognise()
            size = os.fstat(file.fileno()).st_size
        return Descriptor(f"{OCI_LAYER}+{compression}" if compression else OCI_LAYER, digest, size)

    # Cut downloads. A claim is a lock: of all threads and processes one fetches a blob, the others wait.

    def partial(self, digest: str, progress: Callable[[int], None]) -> int:
        """See `Store.partial`. The claim is handed to the `ingest_layer` that follows."""
        if self.is_blob(digest):
            return os.stat(self.blob_path(digest)).st_size
        with self._mutex:
            fd = self._claims.get(digest, -1)
        if fd < 0:
            fd = self.claim(digest, progress)
            with self._mutex:
                self._claims[digest] = fd
        if self.is_blob(digest):  # while we waited
            return os.stat(self.blob_path(digest)).st_size
        return os.fstat(fd).st_size

    def claim(self, digest: str, progress: Callable[[int], None]) -> int:
        """A descriptor of the blob's cut download, held. Waits for others, calling `progress(0)`."""
        return self.session.claim_partial(partial_name(digest), lambda: progress(0))

    def handed_over(self, digest: str) -> int | None:
        """The claim that `partial` made, once."""
        with self._mutex:
            return self._claims.pop(digest, None)

    # Documents.

    def put_blob(self, digest: Digest, data: bytes) -> None:
        """See `Store.put_blob`. Not synced: `commit_image` does that once for all."""
        actual = hashlib.new(digest.algorithm, data).hexdigest()
        if actual != digest.hex:
            raise DataError(
                f"blob {digest}: its bytes have the digest {digest.algorithm}:{actual}: damaged or forged"
            )
        self.pin(digest)
        if read_document(self.root, digest) == data:
            return
        path = self.blob_path(digest)
        try:
            os.makedirs(os.path.dirname(path), CLOSED, exist_ok=True)
            self.write_file(path, data)
        except OSError as e:
            raise disk_trouble(f"blob {digest}", e) from e

    def read_blob(self, digest: Digest) -> bytes:
        """A document that `put_blob` kept. Raises `DataError` when it is not here."""
        data = read_document(self.root, digest)
        if data is None:
            raise DataError(f"blob {digest} is not here")
        return data

    def write_file(self, path: str, data: bytes, *, sync: bool = False) -> None:
        """Beside and renamed."""
        beside = self.session.free_path("file")
        with open(beside, "wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.rename(beside, path)


def blob_path(root: str, digest: str) -> str:
    checked = Digest(digest)
    return f"{root}/blobs/{checked.algorithm}/{checked.hex}"


def partial_name(digest: str) -> str:
    return digest.replace(":", "-")


def read_document(root: str, digest: Digest) -> bytes | None:
    """A blob in memory, None when it is not here, or not what its digest says: a power cut can leave that."""
    try:
        with open(blob_path(root, digest), "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return None
    return data if hashlib.new(digest.algorithm, data).hexdigest() == digest.hex else None
