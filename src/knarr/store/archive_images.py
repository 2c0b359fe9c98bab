"""Images out of an archive into the store: what docker archives and OCI layouts have in common."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

from knarr.errors import DataError
from knarr.oci.digest import Digest
from knarr.oci.reference import parse
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.oci.image import Descriptor
    from knarr.store.images import Image
    from knarr.store.parts import Part
    from knarr.store.store import Store


class LayerPart(Record):
    """A layer in an archive; `part` is None when the archive leaves it out."""

    descriptor: Descriptor
    diff_id: Digest
    part: Part | None


def ingest(store: Store, layers: list[LayerPart], what: str) -> None:
    """Every layer that is not here yet, several at once. Raises `DataError`, `HostError`."""
    missing = {}
    for layer in layers:
        if store.has_layer(layer.diff_id) and (layer.part is None or store.has_blob(layer.descriptor.digest)):
            continue
        if layer.part is None:
            raise DataError(f"{what}: its layer {layer.descriptor.digest} is neither in the archive nor here")
        missing[layer.descriptor.digest] = layer
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        # The largest first: it decides when all are done.
        waiting = [
            pool.submit(store.ingest_layer, layer.descriptor, layer.diff_id, layer.part.reader())
            for layer in sorted(missing.values(), key=lambda layer: -layer.descriptor.size)
            if layer.part is not None
        ]
        try:
            for future in waiting:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def name_all(store: Store, image: Image, names: list[str]) -> list[str]:
    """Give an image its names; docker's lines about what was loaded."""
    for name in names:
        store.tag(image, parse(name))
    if not names:
        return [f"Loaded image ID: {image.id}"]
    return [f"Loaded image: {parse(name).familiar}" for name in names]


def digest_of(data: bytes) -> Digest:
    return Digest(f"sha256:{hashlib.sha256(data).hexdigest()}")


def digest_of_part(part: Part) -> Digest:
    """Of a member that does not say its own."""
    read, found = part.reader(), hashlib.sha256()
    while chunk := read(1 << 20):
        found.update(chunk)
    return Digest(f"sha256:{found.hexdigest()}")
