"""An image becomes visible: checked, synced, its uses noted, its document and its names put in place."""

from __future__ import annotations

import os

from knarr.errors import DataError, KnarrError, NotFound
from knarr.oci import json
from knarr.oci.digest import Digest
from knarr.oci.image import Manifest
from knarr.oci.manifest import check_image, read_config, read_manifest
from knarr.oci.reference import parse
from knarr.store.flush import sync, sync_file_system
from knarr.store.images import Image, image_ids, load_image, read_image_file
from knarr.store.ingest import disk_trouble
from knarr.store.refs import read_ref, remove_ref, write_ref
from knarr.store.removal import remove_tree
from knarr.store.writer import CLOSED, read_document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from knarr.oci.reference import Reference
    from knarr.store.database import Database
    from knarr.store.writer import Writer


def commit_image(
    writer: Writer, name: str, target: Digest, manifest_digest: Digest, config_digest: Digest
) -> Image:
    """See `Store.commit_image`."""
    complete = [str(parse(name))] if name else []
    what = f"image {name or manifest_digest}"
    manifest = read_manifest(writer.read_blob(manifest_digest), "", what)
    if not isinstance(manifest, Manifest) or manifest.config.digest != config_digest:
        raise DataError(f"{what}: {manifest_digest} is not the manifest of {config_digest}")
    check_image(manifest, what)
    config_body = writer.read_blob(config_digest)
    layers = read_config(config_body, manifest, what).rootfs.diff_ids
    for diff_id in layers:
        if not writer.has_layer(diff_id):
            raise DataError(f"{what}: its layer {diff_id} is not here")
    document = {
        "manifest": manifest_digest,
        "target": target,
        "size": sum(layer_size(writer, d) for d in set(layers)),
        "layers": list(reversed(layers)),
        "config": json.loads(config_body),
    }
    needed = _needed(writer, manifest, layers) | {target, manifest_digest, config_digest}
    try:
        _sync(writer, layers, (target, manifest_digest, config_digest))
        with writer.db.changing(durable=True):
            writer.db.insert("uses", ((config_digest, digest) for digest in needed))
            for digest in needed:
                writer.db.execute("UPDATE layers SET boot = '' WHERE diff_id = ?", digest)
                writer.db.execute("UPDATE blobs SET boot = '' WHERE digest = ?", digest)
        _write_image(writer, config_digest.hex, json.dumps(document).encode())
        name_image(writer, config_digest.hex, complete)
        writer.unpin(needed)  # the image holds them from now on, so that removing it frees them
    except OSError as e:
        raise disk_trouble(what, e) from e
    image = load_image(writer.root, config_digest.hex)
    if image is None:
        raise KnarrError(f"{what}: was removed by another command while it was stored")
    return image


def _needed(writer: Writer, manifest: Manifest, layers: Sequence[str]) -> set[str]:
    """Layers, and their blobs: where another image brought a layer, whichever blob that came from."""
    needed = set(layers)
    for layer, diff_id in zip(manifest.layers, layers, strict=True):
        needed.add(layer.digest)
        if not writer.is_blob(layer.digest):
            needed.update(writer.blobs_of(diff_id))
    return needed


def layer_size(writer: Writer, diff_id: str) -> int:
    """Bytes of a layer's files; measured where the database was lost."""
    rows = writer.db.execute("SELECT size, archive FROM layers WHERE diff_id = ?", diff_id)
    size, archive = (int(str(n)) for n in rows[0]) if rows else (0, 0)
    if archive:
        return size
    size = sum(
        os.lstat(os.path.join(base, name)).st_size
        for base, _, names in os.walk(writer.layer_path(diff_id))
        for name in names
    )
    writer.db.execute("UPDATE layers SET size = ? WHERE diff_id = ?", size, diff_id)
    return size


def archive_bytes(writer: Writer, diff_id: str) -> int:
    """How long a layer's uncompressed archive is, 0 when that is not known."""
    rows = writer.db.execute("SELECT archive FROM layers WHERE diff_id = ?", diff_id)
    return int(str(rows[0][0])) if rows else 0


def _sync(writer: Writer, layers: Iterable[str], documents: Iterable[Digest]) -> None:
    """Everything to disk, at once when there is much: an fsync per file costs more than all else together."""
    for diff_id in layers:
        if writer.db.execute(
            "SELECT 1 FROM layers WHERE diff_id = ? AND boot != '' "
            "UNION SELECT 1 FROM blobs WHERE diff_id = ? AND boot != ''",
            diff_id,
            diff_id,
        ):
            sync_file_system(writer.root)
            return
    for digest in documents:
        sync(writer.blob_path(digest))
    sync(f"{writer.root}/blobs/sha256")


def _write_image(writer: Writer, image_hex: str, document: bytes) -> None:
    final = f"{writer.root}/images/{image_hex}"
    if os.path.isdir(final):
        writer.write_file(f"{final}/image.json", document, sync=True)
        return
    made = writer.session.free_path("image")
    os.mkdir(made, CLOSED)
    try:
        writer.write_file(f"{made}/image.json", document, sync=True)
        os.rename(made, final)
    except OSError:
        if not os.path.isdir(final):
            raise
    finally:
        remove_tree(made)
    sync(f"{writer.root}/images")


def name_image(writer: Writer, image_hex: str, names: Iterable[str]) -> None:
    """Give complete references to an image; a name that another had is taken from it."""
    for name in names:
        if read_ref(writer.root, name) != image_hex:
            write_ref(writer.root, name, image_hex, writer.session.free_path("ref"))
    sync(f"{writer.root}/refs")


def tag(writer: Writer, image: Image, name: Reference) -> None:
    """See `Store.tag`."""
    name_image(writer, image.id.hex, [str(name)])
    if not os.path.isdir(
        f"{writer.root}/images/{image.id.hex}"
    ):  # after: who removes it takes the names there are
        remove_ref(writer.root, str(name))
        raise NotFound("image", image.id)


def rebuild(root: str, db: Database) -> None:
    """Fill an empty database from the images and containers there are."""
    from knarr.store.collect import container_layers

    for image_hex in image_ids(root):
        try:
            file = read_image_file(root, image_hex)
        except DataError:
            continue  # it says so itself when it is asked for
        if file is None:
            continue
        image_id = f"sha256:{image_hex}"
        needed = {file.manifest, file.target or file.manifest, image_id, *file.layers}
        body = read_document(root, Digest(file.manifest))
        manifest = read_manifest(body, "", file.manifest) if body else None
        if isinstance(manifest, Manifest):
            needed |= {layer.digest for layer in manifest.layers}
            pairs = zip(manifest.layers, reversed(file.layers))
            db.insert("blobs", ((layer.digest, diff_id, "") for layer, diff_id in pairs))
        db.insert("uses", ((image_id, digest) for digest in needed))
        db.insert("layers", ((diff_id, 0, 0, "") for diff_id in file.layers))
    db.insert("layers", ((f"sha256:{layer}", 0, 0, "") for layer in container_layers(root)))
