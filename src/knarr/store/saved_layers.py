"""An image's layers on their way out: byte for byte as they came, whatever compression that was."""

from __future__ import annotations

import hashlib

from knarr.errors import DataError
from knarr.oci.digest import Digest
from knarr.oci.image import Manifest
from knarr.oci.manifest import read_manifest
from knarr.record import Record
from knarr.store.commit import archive_bytes
from knarr.store.decompress import Decompressed

_CHUNK = 1 << 20

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from knarr.oci.image import Descriptor
    from knarr.store.images import Image
    from knarr.store.store import Store


class SavedLayer(Record):
    """A layer's uncompressed archive of `size` bytes."""

    diff_id: Digest
    size: int
    path: str

    def chunks(self) -> Iterator[bytes]:
        """Its bytes. Raises `DataError` when they turn out not to be the layer's, the last chunk held back."""
        found = hashlib.new(self.diff_id.algorithm)
        left = self.size
        with open(self.path, "rb", buffering=0) as file:
            source = Decompressed(file.read, f"layer {self.diff_id}", ceiling=self.size)
            while chunk := source.read(_CHUNK):
                found.update(chunk)
                left -= len(chunk)
                if not left and found.hexdigest() != self.diff_id.hex:
                    raise damaged(self.diff_id)
                yield chunk
        if left:
            raise damaged(self.diff_id)


def packed_chunks(path: str, descriptor: Descriptor) -> Iterator[bytes]:
    """A blob as it came. Raises `DataError` when it is not any more what its digest says, the last chunk held back."""
    found = hashlib.new(Digest(descriptor.digest).algorithm)
    left = descriptor.size
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
            left -= len(chunk)
            if left < 0 or (not left and found.hexdigest() != Digest(descriptor.digest).hex):
                raise damaged(descriptor.digest)
            yield chunk
    if left:
        raise damaged(descriptor.digest)


def damaged(digest: str) -> DataError:
    return DataError(f"layer {digest}: is damaged in the store", hint="remove the image and pull it again")


def uncompressed(store: Store, image: Image) -> Iterator[SavedLayer]:
    """The image's layers, lowest first. Raises `DataError`."""
    manifest = manifest_of(store, image)
    for descriptor, diff_id in zip(manifest.layers, image.config.rootfs.diff_ids, strict=True):
        path = store.writer.blob_path(blob_of(store, descriptor.digest, diff_id))
        size = archive_bytes(store.writer, diff_id) or _length(path)
        yield SavedLayer(Digest(diff_id), size, path)


def manifest_of(store: Store, image: Image) -> Manifest:
    body = store.writer.read_blob(image.manifest_digest)
    manifest = read_manifest(body, "", f"image {image.id}")
    assert isinstance(manifest, Manifest)  # commit_image has seen to that
    return manifest


def blob_of(store: Store, digest: str, diff_id: str) -> str:
    """The blob itself, or another one that is known to unpack to the same layer. Raises `DataError`."""
    for candidate in (digest, *store.writer.blobs_of(diff_id)):
        if store.has_blob(candidate):
            return candidate
    raise DataError(f"layer {digest}: its blob is not in the store", hint="pull the image again")


def _length(path: str) -> int:
    """How long the archive is, where the database was lost."""
    with open(path, "rb", buffering=0) as file:
        source = Decompressed(file.read, path, ceiling=1 << 62)
        return sum(iter(lambda: len(source.read(1 << 20)), 0))
