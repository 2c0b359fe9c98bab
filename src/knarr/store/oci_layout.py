"""OCI image layouts (image-layout.md), as a directory or in a tar archive. Digests are the same before and after.

oci-layout                {"imageLayoutVersion": "1.0.0"}
index.json                an index; each manifest's annotations may say its name
blobs/ALGORITHM/HEX
"""

from __future__ import annotations

import os

from knarr.errors import DataError
from knarr.oci import json
from knarr.oci import platform as platforms
from knarr.oci.digest import Digest
from knarr.oci.document import encode
from knarr.oci.image import OCI_INDEX, OCI_MANIFEST, Descriptor, Index, Manifest
from knarr.oci.manifest import CONFIG_MAX, MANIFEST_MAX, check_image, read_config, read_manifest
from knarr.oci.reference import parse
from knarr.store import docker_archive
from knarr.store.archive_images import LayerPart, digest_of, ingest, name_all
from knarr.store.parts import document as read_part
from knarr.store.saved_layers import blob_of, manifest_of, packed_chunks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from knarr.store.images import Image
    from knarr.store.parts import Parts
    from knarr.store.store import Store

    PutBytes = Callable[[str, bytes], None]
    PutChunks = Callable[[str, int, Iterator[bytes]], None]  # name in the layout, size, contents

LAYOUT = "oci-layout"
INDEX = "index.json"
_VERSION = {"imageLayoutVersion": "1.0.0"}
REF_NAME = "org.opencontainers.image.ref.name"
_CONTAINERD_NAME = "io.containerd.image.name"
_ATTESTATION = "vnd.docker.reference.type"
_NESTING_MAX = 4


def load(store: Store, parts: Parts) -> list[str]:
    """Every image of the layout, of an index the one for this machine. Raises `DataError`, `HostError`."""
    version = json.loads(read_part(parts, LAYOUT, 1 << 16))
    if not isinstance(version, dict) or not str(version.get("imageLayoutVersion", "")).startswith("1."):
        raise DataError(f"{LAYOUT}: a layout of a version that is not known")
    index = read_manifest(read_part(parts, INDEX, MANIFEST_MAX), OCI_INDEX, INDEX)
    if not isinstance(index, Index):
        raise DataError(f"{INDEX}: is not an index")
    tags = _docker_tags(parts)
    names: dict[str, list[str]] = {}
    images: dict[str, Image] = {}
    for descriptor in index.manifests:
        if _ATTESTATION in descriptor.annotations:
            continue
        image = _load_one(store, parts, descriptor)
        images[image.id] = image
        names.setdefault(image.id, []).extend((*_names(descriptor), *tags.get(image.id, ())))
    if not images:
        raise DataError(f"{INDEX}: names no image")
    return [
        line
        for image in images.values()
        for line in name_all(store, image, list(dict.fromkeys(names[image.id])))
    ]


def _docker_tags(parts: Parts) -> dict[str, list[str]]:
    """Docker 25 and later write both forms into one archive, and all the names only into their own."""
    if parts.find(docker_archive.INDEX) is None:
        return {}
    return {
        "sha256:" + saved.config.rpartition("/")[2].removesuffix(".json"): [
            str(parse(n)) for n in saved.repo_tags
        ]
        for saved in docker_archive.read_index(parts)
    }


def _names(descriptor: Descriptor) -> list[str]:
    """A complete name, when the annotations have one. Many tools write only a tag there, which names nothing."""
    full = descriptor.annotations.get(_CONTAINERD_NAME, "")
    name = full or descriptor.annotations.get(REF_NAME, "")
    return [str(parse(name))] if full or ":" in name or "/" in name else []


def _load_one(store: Store, parts: Parts, descriptor: Descriptor) -> Image:
    what = f"image {descriptor.digest[:19]}"
    top = chosen = descriptor
    documents: list[tuple[str, bytes]] = []
    for _ in range(_NESTING_MAX):
        body = _blob(parts, chosen, MANIFEST_MAX, what)
        documents.append((chosen.digest, body))
        manifest = read_manifest(body, chosen.media_type, what)
        if isinstance(manifest, Manifest):
            break
        chosen = _choose(parts, manifest, what)
    else:
        raise DataError(f"{what}: indexes within indexes, more than {_NESTING_MAX} deep")
    check_image(manifest, what)
    config_body = _blob(parts, manifest.config, CONFIG_MAX, what)
    config = read_config(config_body, manifest, what)
    layers = [
        LayerPart(layer, Digest(diff_id), parts.find(_path(layer.digest)))
        for layer, diff_id in zip(manifest.layers, config.rootfs.diff_ids, strict=True)
    ]
    ingest(store, layers, what)
    for digest, data in (*documents, (manifest.config.digest, config_body)):
        store.put_blob(Digest(digest), data)
    return store.commit_image("", Digest(top.digest), Digest(chosen.digest), Digest(manifest.config.digest))


def _choose(parts: Parts, index: Index, what: str) -> Descriptor:
    """Of an index the image for this machine; when there is just one in the layout, that one."""
    here = [d for d in index.manifests if _ATTESTATION not in d.annotations and parts.find(_path(d.digest))]
    chosen = platforms.select(here, platforms.host(os.uname().machine))
    if chosen is None and len(here) != 1:
        raise DataError(f"{what}: has no image for this machine")
    return chosen or here[0]


def _blob(parts: Parts, descriptor: Descriptor, limit: int, what: str) -> bytes:
    part = parts.find(_path(descriptor.digest))
    if part is None:
        raise DataError(f"{what}: the archive has no blob {descriptor.digest}")
    data = part.contents(limit, what)
    if len(data) != descriptor.size or digest_of(data) != descriptor.digest:
        raise DataError(f"{what}: the blob {descriptor.digest} is damaged or forged")
    return data


def _path(digest: str) -> str:
    checked = Digest(digest)
    return f"blobs/{checked.algorithm}/{checked.hex}"


def save(
    store: Store, chosen: Sequence[tuple[Image, Sequence[str]]], put: PutBytes, put_chunks: PutChunks
) -> None:
    """The images with the names that were asked for: documents to `put`, layers to `put_chunks`, each once."""
    entries: list[dict[str, object]] = []
    written: set[str] = set()
    put(LAYOUT, json.dumps(_VERSION).encode())
    for image, names in chosen:
        manifest = manifest_of(store, image)
        body = store.writer.read_blob(image.manifest_digest)
        for digest, data in (
            (image.manifest_digest, body),
            (image.id, store.writer.read_blob(image.id)),
        ):
            if digest not in written:
                written.add(digest)
                put(_path(digest), data)
        for layer, diff_id in zip(manifest.layers, image.config.rootfs.diff_ids, strict=True):
            if layer.digest not in written:
                written.add(layer.digest)
                _put_layer(store, layer, diff_id, put_chunks)
        media_type = manifest.media_type or OCI_MANIFEST
        for name in names or ("",):
            annotations = {REF_NAME: name, _CONTAINERD_NAME: name} if name else {}
            entry = Descriptor(media_type, image.manifest_digest, len(body), annotations=annotations)
            entries.append(encode(entry))
    put(INDEX, json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode())


def _put_layer(store: Store, layer: Descriptor, diff_id: str, put_chunks: PutChunks) -> None:
    if blob_of(store, layer.digest, diff_id) != layer.digest:
        raise DataError(
            f"layer {layer.digest}: its blob is not here, only one in another compression",
            hint="pull the image again, or save it as a docker-archive",
        )
    put_chunks(_path(layer.digest), layer.size, packed_chunks(store.writer.blob_path(layer.digest), layer))
