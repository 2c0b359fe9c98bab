"""The store's writing side: layers and blobs come in, images are committed. Off the start-up path.

Order on disk, so that a kill between any two steps leaves the state of before or the state of after:
  layer    unpacked in tmp/ → its row → blob renamed → layer renamed
  image    everything it needs is there → one syncfs → its uses, durable → images/HEX renamed → names
"""

from __future__ import annotations

import os
import threading

from knarr.errors import DataError, KnarrError, NotFound
from knarr.oci import json
from knarr.oci.digest import Digest
from knarr.oci.image import OCI_LAYER, Descriptor, Manifest
from knarr.oci.manifest import check_image, read_config, read_manifest
from knarr.oci.reference import parse
from knarr.store.database import Database, boot_id
from knarr.store.decompress import Decompressed
from knarr.store.images import Image, image_ids, load_image, read_image_file
from knarr.store.ingest import Incoming, Limits, check_layer, disk_trouble, unpack_layer
from knarr.store.refs import read_ref, write_ref
from knarr.store.removal import remove_tree
from knarr.store.session import Session
from knarr.store.unpack import Unpacked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from knarr.oci.reference import Reference

_CLOSED = 0o700  # no other user of the machine may reach a setuid program of an image
_NOTHING = Unpacked(0, 0, 0, 0, 0)


class Writer:
    """One process's writing side. Methods may be called from several threads."""

    def __init__(self, root: str, *, userxattr: bool, limits: Limits) -> None:
        self.root = root
        self._userxattr = userxattr
        self._limits = limits
        self._mutex = threading.Lock()
        self._claims: dict[str, int] = {}
        os.makedirs(root, 0o711, exist_ok=True)
        for name in ("layers", "images", "refs", "blobs", "blobs/sha256"):
            os.makedirs(f"{root}/{name}", _CLOSED, exist_ok=True)
        self.session = Session(root)
        self.db = Database(root, self._rebuild)
        with self.db.changing():
            living = self.session.living()
            for (pinner,) in self.db.execute("SELECT DISTINCT session FROM pins"):
                if pinner not in living:
                    self.db.execute("DELETE FROM pins WHERE session = ?", pinner)

    def close(self) -> None:
        """Let go of everything; what was only pinned may be collected from now on."""
        self.db.execute("DELETE FROM pins WHERE session = ?", self.session.name)
        self.db.close()
        for fd in self._claims.values():
            os.close(fd)
        self._claims.clear()
        self.session.close()

    # What is here.

    def has_layer(self, diff_id: str) -> bool:
        """Is the layer unpacked and whole. From now on it stays, as long as this process lives."""
        digest = Digest(diff_id)
        self._pin(digest)
        return self._has_layer(digest)

    def _has_layer(self, digest: Digest) -> bool:
        rows = self.db.execute("SELECT boot FROM layers WHERE diff_id = ?", digest)
        return bool(rows) and rows[0][0] in ("", boot_id()) and os.path.isdir(self.layer_path(digest))

    def has_blob(self, digest: str) -> bool:
        """Is the blob here. From now on it stays, as long as this process lives."""
        self._pin(Digest(digest))
        return os.path.exists(self.blob_path(digest))

    def blob_path(self, digest: str) -> str:
        checked = Digest(digest)
        return f"{self.root}/blobs/{checked.algorithm}/{checked.hex}"

    def layer_path(self, diff_id: str) -> str:
        return f"{self.root}/layers/{Digest(diff_id).hex}"

    def blobs_of(self, diff_id: str) -> list[str]:
        """Digests of blobs known to unpack to a layer."""
        return [str(d) for (d,) in self.db.execute("SELECT digest FROM blobs WHERE diff_id = ?", diff_id)]

    def describe(self, digest: str) -> Descriptor:
        """A descriptor of a layer's blob that is here."""
        with open(self.blob_path(digest), "rb", buffering=0) as file:
            compression = Decompressed(file.read, digest, ceiling=0).recognise()
            size = os.fstat(file.fileno()).st_size
        return Descriptor(f"{OCI_LAYER}+{compression}" if compression else OCI_LAYER, digest, size)

    def _pin(self, *digests: str) -> None:
        with self.db.changing():
            self.db.insert("pins", ((self.session.name, digest) for digest in digests))

    # Layers.

    def partial(self, digest: str, progress: Callable[[int], None]) -> int:
        """How many bytes of a blob an earlier try left here. They are ours now: `ingest_layer` goes on behind them.

        All of them when the blob is here. Waits, calling `progress(0)`, while another process fetches it.
        """
        if os.path.exists(self.blob_path(digest)):
            return os.stat(self.blob_path(digest)).st_size
        fd = self._claim(digest, progress)
        if os.path.exists(self.blob_path(digest)):
            return os.stat(self.blob_path(digest)).st_size
        return os.fstat(fd).st_size

    def _claim(self, digest: str, progress: Callable[[int], None]) -> int:
        with self._mutex:
            if digest in self._claims:
                return self._claims[digest]
        fd = self.session.claim_partial(_partial_name(digest), lambda: progress(0))
        with self._mutex:
            self._claims[digest] = fd
        return fd

    def ingest_layer(
        self,
        descriptor: Descriptor,
        diff_id: str,
        read: Callable[[int], bytes],
        progress: Callable[[int], None],
    ) -> Unpacked:
        """See `Store.ingest_layer`."""
        digest, diff = Digest(descriptor.digest), Digest(diff_id)
        self._pin(digest, diff)
        with self._mutex:
            resumed = digest in self._claims
        fd = self._claim(digest, progress)
        keep = False
        incoming = None
        try:
            blob = self.blob_path(digest)
            if os.path.exists(blob):
                return self._unpack_blob(descriptor, diff, blob, progress)
            if not resumed:
                os.ftruncate(fd, 0)
            kept = os.lseek(fd, 0, os.SEEK_END)
            if kept > descriptor.size:
                raise DataError(
                    f"layer {digest}: more bytes are here than the {descriptor.size} its manifest says"
                )
            incoming = Incoming(descriptor, fd, kept, read, progress)
            result = self._store_layer(incoming, descriptor, diff, keep_blob=True)
        except OSError as e:
            raise disk_trouble(f"layer {digest}", e) from e
        except BaseException:
            keep = incoming is not None and incoming.interrupted
            raise
        finally:
            with self._mutex:
                self._claims.pop(digest, None)
            if not keep:
                self._drop_partial(digest, fd)
            os.close(fd)
        return result

    def _drop_partial(self, digest: str, fd: int) -> None:
        path = f"{self.session.partial}/{_partial_name(digest)}"
        try:
            if os.fstat(fd).st_nlink and os.stat(path).st_ino == os.fstat(fd).st_ino:
                os.unlink(path)
        except FileNotFoundError:
            pass

    def _unpack_blob(
        self, descriptor: Descriptor, diff: Digest, blob: str, progress: Callable[[int], None]
    ) -> Unpacked:
        """The blob is here: was it a kill that kept the layer away, or a removal."""
        if self._has_layer(diff) and self.db.execute(
            "SELECT 1 FROM blobs WHERE digest = ? AND diff_id = ?", descriptor.digest, diff
        ):
            progress(descriptor.size)
            return _NOTHING
        fd = os.open(blob, os.O_RDONLY | os.O_CLOEXEC)
        try:
            incoming = Incoming(descriptor, fd, os.fstat(fd).st_size, lambda n: b"", progress)
            return self._store_layer(incoming, descriptor, diff, keep_blob=False)
        finally:
            os.close(fd)

    def _store_layer(
        self, incoming: Incoming, descriptor: Descriptor, diff: Digest, *, keep_blob: bool
    ) -> Unpacked:
        ceiling = self._limits.ceiling(descriptor.size)
        digest = Digest(descriptor.digest)
        made = ""
        result = _NOTHING
        if self._has_layer(diff):
            check_layer(incoming, diff, digest, ceiling=ceiling)
        else:
            made = self.session.free_path("layer")
            os.mkdir(made, _CLOSED)
        try:
            if made:
                result = unpack_layer(
                    incoming,
                    diff,
                    digest,
                    f"{made}/diff",
                    ceiling=ceiling,
                    limits=self._limits,
                    userxattr=self._userxattr,
                )
            with self.db.changing():
                if made:
                    self.db.insert("layers", [(diff, result.size_bytes, result.archive_bytes, boot_id())])
                self.db.insert("blobs", [(digest, diff)])
            if keep_blob:
                os.makedirs(os.path.dirname(self.blob_path(digest)), _CLOSED, exist_ok=True)
                os.rename(f"{self.session.partial}/{_partial_name(digest)}", self.blob_path(digest))
            if made:
                self._place(made, self.layer_path(diff))
        finally:
            if made:
                remove_tree(made)
        return result

    def _place(self, made: str, path: str) -> None:
        """A finished layer to its place. Another process may have been quicker with the same one, from another blob."""
        try:
            os.rename(made, path)
        except OSError:
            if not os.path.isdir(path):
                raise
            rows = self.db.execute("SELECT 1 FROM uses WHERE digest = ?", f"sha256:{os.path.basename(path)}")
            if rows:
                return
            # Without a use it may be what a power cut left half written; its own maker, if there is one, made the same.
            aside = self.session.free_path("old")
            os.rename(path, aside)
            os.rename(made, path)
            remove_tree(aside)

    # Blobs and images.

    def put_blob(self, digest: Digest, data: bytes) -> None:
        """See `Store.put_blob`."""
        import hashlib

        actual = hashlib.new(digest.algorithm, data).hexdigest()
        if actual != digest.hex:
            raise DataError(
                f"blob {digest}: its bytes have the digest {digest.algorithm}:{actual}: damaged or forged"
            )
        self._pin(digest)
        path = self.blob_path(digest)
        if not os.path.exists(path):
            os.makedirs(os.path.dirname(path), _CLOSED, exist_ok=True)
            self._write(path, data)

    def read_blob(self, digest: Digest) -> bytes:
        """A document that `put_blob` kept. Raises `DataError` when it is not here."""
        try:
            with open(self.blob_path(digest), "rb") as file:
                return file.read()
        except FileNotFoundError:
            raise DataError(f"blob {digest} is not here") from None

    def _write(self, path: str, data: bytes) -> None:
        beside = self.session.free_path("file")
        try:
            with open(beside, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.rename(beside, path)
        except OSError as e:
            raise disk_trouble(path, e) from e

    def commit_image(
        self, name: str, target: Digest, manifest_digest: Digest, config_digest: Digest
    ) -> Image:
        """See `Store.commit_image`."""
        complete = [str(parse(name))] if name else []
        what = f"image {name or manifest_digest}"
        body = self.read_blob(manifest_digest)
        manifest = read_manifest(body, "", what)
        if not isinstance(manifest, Manifest) or manifest.config.digest != config_digest:
            raise DataError(f"{what}: {manifest_digest} is not the manifest of {config_digest}")
        check_image(manifest, what)
        config_body = self.read_blob(config_digest)
        layers = read_config(config_body, manifest, what).rootfs.diff_ids
        for diff_id in layers:
            if not self.has_layer(diff_id):
                raise DataError(f"{what}: its layer {diff_id} is not here")
        document = {
            "manifest": manifest_digest,
            "target": target,
            "size": sum(self._layer_size(d) for d in set(layers)),
            "layers": list(reversed(layers)),
            "config": json.loads(config_body),
        }
        needed = {
            target,
            manifest_digest,
            config_digest,
            *layers,
            *(layer.digest for layer in manifest.layers),
        }
        try:
            self._sync(layers)
            with self.db.changing(durable=True):
                self.db.insert("uses", ((config_digest, digest) for digest in needed))
                for diff_id in layers:
                    self.db.execute("UPDATE layers SET boot = '' WHERE diff_id = ?", diff_id)
            self._write_image(config_digest.hex, json.dumps(document).encode())
            self.name_image(config_digest.hex, complete)
        except OSError as e:
            raise disk_trouble(what, e) from e
        image = load_image(self.root, config_digest.hex)
        if image is None:
            raise KnarrError(f"{what}: was removed by another command while it was stored")
        return image

    def archive_bytes(self, diff_id: str) -> int:
        """How long the layer's uncompressed archive is, 0 when that is not known."""
        rows = self.db.execute("SELECT archive FROM layers WHERE diff_id = ?", diff_id)
        return int(str(rows[0][0])) if rows else 0

    def _layer_size(self, diff_id: str) -> int:
        rows = self.db.execute("SELECT size FROM layers WHERE diff_id = ?", diff_id)
        return int(str(rows[0][0])) if rows else 0

    def _sync(self, layers: Iterable[str]) -> None:
        """Layers and blobs to disk, all at once: an fsync per file costs more than everything else together."""
        for diff_id in layers:
            if self.db.execute("SELECT 1 FROM layers WHERE diff_id = ? AND boot != ''", diff_id):
                sync_file_system(self.root)
                return

    def _write_image(self, image_hex: str, document: bytes) -> None:
        final = f"{self.root}/images/{image_hex}"
        if os.path.isdir(final):
            self._write(f"{final}/image.json", document)
            return
        made = self.session.free_path("image")
        os.mkdir(made, _CLOSED)
        try:
            self._write(f"{made}/image.json", document)
            os.rename(made, final)
        except OSError:
            if not os.path.isdir(final):
                raise
        finally:
            remove_tree(made)
        sync_directory(f"{self.root}/images")

    def name_image(self, image_hex: str, names: Iterable[str]) -> None:
        """Give complete references to an image; a name that another had is taken from it."""
        for name in names:
            if read_ref(self.root, name) != image_hex:
                write_ref(self.root, name, image_hex, self.session.free_path("ref"))
        sync_directory(f"{self.root}/refs")

    def tag(self, image: Image, name: Reference) -> None:
        """See `Store.tag`."""
        self._pin(image.id)
        if load_image(self.root, image.id.hex, ()) is None:
            raise NotFound("image", image.id)
        try:
            self.name_image(image.id.hex, [str(name)])
        except OSError as e:
            raise disk_trouble(f"tag {name.familiar}", e) from e

    def _rebuild(self, db: Database) -> None:
        """An empty database from the images and containers there are."""
        from knarr.store.collect import container_layers

        for image_hex in image_ids(self.root):
            file = read_image_file(self.root, image_hex)
            if file is None:
                continue
            image_id = f"sha256:{image_hex}"
            needed = {file.manifest, image_id, *file.layers}
            try:
                with open(self.blob_path(file.manifest), "rb") as blob:
                    manifest = read_manifest(blob.read(), "", file.manifest)
            except (OSError, DataError):
                manifest = None
            needed |= {file.target} - {""}
            if isinstance(manifest, Manifest):
                needed |= {layer.digest for layer in manifest.layers}
                pairs = zip(manifest.layers, reversed(file.layers))
                db.insert("blobs", ((layer.digest, diff_id) for layer, diff_id in pairs))
            db.insert("uses", ((image_id, digest) for digest in needed))
            db.insert("layers", ((diff_id, 0, 0, "") for diff_id in file.layers))
        db.insert("layers", ((f"sha256:{layer}", 0, 0, "") for layer in container_layers(self.root)))


def _partial_name(digest: str) -> str:
    return digest.replace(":", "-")


def sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_file_system(path: str) -> None:
    """syncfs(2), which Python has no name for."""
    import ctypes

    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(fd) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), path)
    finally:
        os.close(fd)
