"""An image from a directory, made by knarr itself: one layer, its config, its manifest, all in the store.

image_from_directory(store, "/tmp/rootfs", RunConfig(cmd=("sh",)), "hello:1", look=Look(owner=(0, 0)))
"""

from __future__ import annotations

import hashlib
import os

from knarr.errors import UsageError
from knarr.oci import json
from knarr.oci.digest import Digest
from knarr.oci.document import encode
from knarr.oci.image import (
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    History,
    ImageConfig,
    Manifest,
    RootFs,
)
from knarr.oci.platform import host
from knarr.record import Record
from knarr.store.compress import gzip_compressor
from knarr.store.ingest import disk_trouble
from knarr.store.layer_writer import AS_ON_DISK, Look, write_layer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from knarr.oci.image import RunConfig
    from knarr.store.store import Image, Store


class WrittenLayer(Record):
    """A layer that `write_compressed` wrote to a file."""

    descriptor: Descriptor
    diff_id: Digest


def image_from_directory(
    store: Store, directory: str, config: RunConfig, name: str, *, look: Look = AS_ON_DISK, created: str = ""
) -> Image:
    """The tree below `directory` as an image for this machine, named `name`.

    `created` in RFC 3339. With a `look` that fixes owner and time, the same tree gives the same image.
    Raises `UsageError` when there is no such directory, `HostError`, `DataError`.
    """
    layer = ingest_directory(store, directory, look)
    platform = host(os.uname().machine)
    document = ImageConfig(
        platform.architecture,
        "linux",
        RootFs("layers", (layer.diff_id,)),
        created=created,
        config=config,
        history=(History(created=created, created_by="knarr"),),
        variant=platform.variant,
    )
    return commit(store, document, (layer.descriptor,), name)


def ingest_directory(store: Store, directory: str, look: Look) -> WrittenLayer:
    """A tree as a layer of the store."""
    path = store.writer.session.free_path("layer.tar.gz")
    try:
        tree = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as e:
        raise UsageError(f"{directory}: {os.strerror(e.errno or 0).lower()}") from e
    try:
        with open(path, "wb") as file:
            layer = write_compressed(tree, file.write, look)
        with open(path, "rb", buffering=0) as file:
            if not (store.has_layer(layer.diff_id) and store.has_blob(layer.descriptor.digest)):
                store.ingest_layer(layer.descriptor, layer.diff_id, file.read)
    except OSError as e:
        raise disk_trouble(f"layer of {directory}", e) from e
    finally:
        os.close(tree)
        if os.path.exists(path):
            os.unlink(path)
    return layer


def write_compressed(directory: int, write: Callable[[bytes], object], look: Look) -> WrittenLayer:
    """The tree below `directory` as a gzip layer to `write(bytes)`."""

    compressor = gzip_compressor()
    whole, plain = hashlib.sha256(), hashlib.sha256()
    size = 0

    def put(packed: bytes) -> None:
        nonlocal size
        whole.update(packed)
        size += len(packed)
        write(packed)

    def take(data: bytes) -> None:
        plain.update(data)
        put(compressor.compress(data))

    write_layer(directory, take, look)
    put(compressor.flush())
    descriptor = Descriptor(f"{OCI_LAYER}+gzip", f"sha256:{whole.hexdigest()}", size)
    return WrittenLayer(descriptor, Digest(f"sha256:{plain.hexdigest()}"))


def commit(store: Store, config: ImageConfig, layers: tuple[Descriptor, ...], name: str) -> Image:
    """An image of layers that are here, lowest first, under `name`."""
    config_body = json.dumps(encode(config), sort_keys=True).encode()
    config_digest = _digest(config_body)
    manifest = Manifest(2, Descriptor(OCI_CONFIG, config_digest, len(config_body)), layers, OCI_MANIFEST)
    body = json.dumps(encode(manifest)).encode()
    digest = _digest(body)
    store.put_blob(config_digest, config_body)
    store.put_blob(digest, body)
    return store.commit_image(name, digest, digest, config_digest)


def _digest(data: bytes) -> Digest:
    return Digest(f"sha256:{hashlib.sha256(data).hexdigest()}")
