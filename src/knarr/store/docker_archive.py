"""Archives in docker's own form, as docker, podman, skopeo and buildah write and read them.

manifest.json   [{"Config": NAME, "RepoTags": ["busybox:latest"], "Layers": [NAME, lowest first]}, …]
NAME            the image's config; its layers, each an uncompressed tar archive (a compressed one is read, too)
"""

from __future__ import annotations

from knarr.errors import DataError
from knarr.oci import json
from knarr.oci.digest import Digest
from knarr.oci.document import decode, document, encode
from knarr.oci.image import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Descriptor, ImageConfig, Manifest
from knarr.oci.manifest import CONFIG_MAX, MANIFEST_MAX
from knarr.oci.reference import parse
from knarr.record import Record
from knarr.store import tar
from knarr.store.archive_images import LayerPart, digest_of, digest_of_part, ingest, name_all
from knarr.store.parts import document as read_part
from knarr.store.saved_layers import SavedLayer, uncompressed
from knarr.store.tar import Entry
from knarr.store.tar_writer import TarWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from knarr.store.images import Image
    from knarr.store.parts import Parts
    from knarr.store.store import Store

INDEX = "manifest.json"
_MAX_INDEX = 16 << 20


@document("pascal")
class Saved(Record):
    """One image of `manifest.json`."""

    config: str
    layers: tuple[str, ...] = ()
    repo_tags: tuple[str, ...] = ()


def read_index(parts: Parts) -> list[Saved]:
    """`manifest.json`. Raises `DataError`."""
    found = json.loads(read_part(parts, INDEX, _MAX_INDEX))
    if not isinstance(found, list):
        raise DataError(f"{INDEX}: expected an array")
    return [decode(Saved, item, f"{INDEX}[{i}]") for i, item in enumerate(found)]


def load(store: Store, parts: Parts) -> list[str]:
    """Every image of the archive; docker's lines about it. Raises `DataError`, `HostError`."""
    lines: list[str] = []
    for saved in read_index(parts):
        names = [str(parse(name)) for name in saved.repo_tags]
        lines += name_all(store, _load_one(store, parts, saved), names)
    return lines


def _load_one(store: Store, parts: Parts, saved: Saved) -> Image:
    what = f"image {saved.repo_tags[0] if saved.repo_tags else saved.config[:19]}"
    config_body = read_part(parts, saved.config, CONFIG_MAX)
    config = decode(ImageConfig, json.loads(config_body), what)
    if len(config.rootfs.diff_ids) != len(saved.layers):
        raise DataError(f"{what}: {len(saved.layers)} layers, its config says {len(config.rootfs.diff_ids)}")
    config_digest = digest_of(config_body)
    here = store.find_image(config_digest)
    if here is not None and all(store.has_layer(diff_id) for diff_id in config.rootfs.diff_ids):
        return here  # perhaps from a registry, with a manifest that others know: ours would take its place
    layers = [
        _layer(store, parts, name, Digest(diff_id))
        for name, diff_id in zip(saved.layers, config.rootfs.diff_ids)
    ]
    ingest(store, layers, what)
    manifest = Manifest(
        2,
        Descriptor(OCI_CONFIG, config_digest, len(config_body)),
        tuple(layer.descriptor for layer in layers),
        OCI_MANIFEST,
    )
    body = json.dumps(encode(manifest)).encode()
    if len(body) > MANIFEST_MAX:
        raise DataError(f"{what}: too many layers")
    digest = digest_of(body)
    store.put_blob(config_digest, config_body)
    store.put_blob(digest, body)
    return store.commit_image("", digest, digest, config_digest)


def _layer(store: Store, parts: Parts, name: str, diff_id: Digest) -> LayerPart:
    part = parts.find(name)
    if part is None:
        known = [d for d in store.writer.blobs_of(diff_id) if store.has_blob(d)]
        if not known:
            raise DataError(f"the archive has no {name[:200]!r}")
        return LayerPart(store.writer.describe(known[0]), diff_id, None)
    if compression := part.compression():
        return LayerPart(
            Descriptor(f"{OCI_LAYER}+{compression}", digest_of_part(part), part.size), diff_id, part
        )
    return LayerPart(Descriptor(OCI_LAYER, diff_id, part.size), diff_id, part)


def save(
    store: Store, chosen: Sequence[tuple[Image, Sequence[str]]], write: Callable[[bytes], object]
) -> None:
    """The images with the names that were asked for, to `write`. Raises `DataError` when a blob is damaged."""
    out = TarWriter(write)
    written: set[str] = set()
    index: list[dict[str, object]] = []

    def put(name: str, data: bytes) -> None:
        if name not in written:
            written.add(name)
            out.entry(Entry(name.encode(), tar.FILE, 0o644, 0, 0, len(data), 0))
            out.data(data)

    for image, names in chosen:
        config = store.writer.read_blob(image.id)
        put(f"{image.id.hex}.json", config)
        layers = []
        for layer in uncompressed(store, image):
            name = f"{layer.diff_id.hex}.tar"
            layers.append(name)
            if name not in written:
                written.add(name)
                _copy(out, name, layer)
        tags = [parse(name).familiar for name in names]
        index.append({"Config": f"{image.id.hex}.json", "RepoTags": tags or None, "Layers": layers})
    put(INDEX, json.dumps(index).encode())
    out.close()


def _copy(out: TarWriter, name: str, layer: SavedLayer) -> None:
    out.entry(Entry(name.encode(), tar.FILE, 0o644, 0, 0, layer.size, 0))
    for chunk in layer.chunks():
        out.data(chunk)
