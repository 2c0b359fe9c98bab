"""Manifest and index bytes to records, with the checks that keep one document from being read as another.

A registry says what a document is in a header, the document says it in `mediaType`, and its shape says it a third
time. Where they differ, two programs can be made to see two different images under one digest (CVE-2021-41190);
such a document is refused.
"""

from __future__ import annotations

from knarr.errors import DataError
from knarr.oci.digest import Digest
from knarr.oci.document import decode
from knarr.oci.image import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    INDEX_TYPES,
    MANIFEST_TYPES,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    ImageConfig,
    Index,
    Manifest,
)
from knarr.oci.json import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.oci.image import Descriptor

_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1"
_FOREIGN_LAYERS = (
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
)
_COMPRESSIONS = ("", "+gzip", "+zstd", ".gzip", ".zstd")
_LAYER_TYPES = frozenset(
    base + compression
    for base in (OCI_LAYER, DOCKER_LAYER, *_FOREIGN_LAYERS)
    for compression in _COMPRESSIONS
)
MANIFEST_MAX = 4 << 20  # bytes; what the distribution specification asks registries to accept
CONFIG_MAX = 8 << 20
LAYERS_MAX = 500  # OVL_MAX_STACK


def read_manifest(body: bytes, media_type: str, what: str) -> Manifest | Index:
    """The document `body` that came as `media_type` ("" when unknown). `what` names it in a `DataError`."""
    if len(body) > MANIFEST_MAX:
        raise DataError(f"{what}: a manifest of {len(body)} bytes; {MANIFEST_MAX} are allowed")
    try:
        document = loads(body)
    except DataError as e:
        raise DataError(f"{what}: {e.message}") from e
    if not isinstance(document, dict):
        raise DataError(f"{what}: a manifest must be an object")
    kind = _kind(document, media_type.partition(";")[0].strip().lower(), what)
    if kind in INDEX_TYPES:
        index = decode(Index, document, what)
        for i, item in enumerate(index.manifests):
            check_descriptor(item, f"{what}.manifests[{i}]")
        return index
    manifest = decode(Manifest, document, what)
    check_descriptor(manifest.config, f"{what}.config")
    for i, layer in enumerate(manifest.layers):
        check_descriptor(layer, f"{what}.layers[{i}]")
    return manifest


def check_image(manifest: Manifest, what: str) -> None:
    """That a manifest is a container image's and every layer of a kind that can be unpacked. Raises `DataError`."""
    if manifest.config.media_type not in (OCI_CONFIG, DOCKER_CONFIG):
        kind = manifest.artifact_type or manifest.config.media_type
        raise DataError(f"{what} is not a container image but an artifact of type {kind[:120]!r}")
    if len(manifest.layers) > LAYERS_MAX:
        raise DataError(f"{what}: has {len(manifest.layers)} layers; the kernel's overlay takes {LAYERS_MAX}")
    for i, layer in enumerate(manifest.layers):
        if layer.media_type in _LAYER_TYPES:
            continue
        if "encrypted" in layer.media_type:
            raise DataError(
                f"{what}.layers[{i}] is encrypted; knarr has no keys for {layer.media_type[:120]!r}"
            )
        raise DataError(
            f"{what}.layers[{i}] is of type {layer.media_type[:120]!r}, which is no layer knarr knows"
        )


def read_config(body: bytes, manifest: Manifest, what: str) -> ImageConfig:
    """An image's config (config.md), with one diff id per layer. Raises `DataError`."""
    try:
        document = loads(body)
    except DataError as e:
        raise DataError(f"{what}: config: {e.message}") from e
    config = decode(ImageConfig, document, f"{what}: config")
    if config.rootfs.type != "layers":
        raise DataError(f"{what}: config.rootfs.type is {config.rootfs.type[:40]!r}, not 'layers'")
    if len(config.rootfs.diff_ids) != len(manifest.layers):
        raise DataError(
            f"{what}: the manifest has {len(manifest.layers)} layers, its config {len(config.rootfs.diff_ids)}"
        )
    for diff_id in config.rootfs.diff_ids:
        Digest(diff_id)
    return config


def check_descriptor(descriptor: Descriptor, where: str) -> None:
    """Digest and size of a descriptor from outside. Raises `DataError`."""
    try:
        Digest(descriptor.digest)
    except DataError as e:
        raise DataError(f"{where}.digest: {e.message}") from e
    if not 0 <= descriptor.size < 1 << 50:
        raise DataError(f"{where}.size: {descriptor.size} bytes make no sense")


def _kind(document: dict[str, object], announced: str, what: str) -> str:
    """The media type all three witnesses agree on."""
    own = document.get("mediaType", "")
    if not isinstance(own, str):
        raise DataError(f"{what}.mediaType: expected a string")
    if document.get("schemaVersion") == 1 or _SCHEMA1 in (announced[: len(_SCHEMA1)], own[: len(_SCHEMA1)]):
        raise DataError(
            f"{what}: a docker manifest of schema 1, a format without verifiable layers that docker itself dropped",
            hint="push the image again with a current docker, podman or buildah",
        )
    if document.get("schemaVersion") != 2:
        raise DataError(f"{what}.schemaVersion: expected 2")
    is_index, is_manifest = "manifests" in document, "layers" in document or "config" in document
    if is_index and is_manifest:
        raise DataError(f"{what}: claims to be an index and a manifest at once")
    if not is_index and not is_manifest:
        raise DataError(f"{what}: neither an index nor a manifest")
    known = INDEX_TYPES if is_index else MANIFEST_TYPES
    shape = "an index" if is_index else "a manifest"
    if own and own not in known:
        raise DataError(f"{what}.mediaType: {own[:120]!r}, but it has the shape of {shape}")
    if announced in INDEX_TYPES + MANIFEST_TYPES and announced != (own or announced):
        raise DataError(f"{what}: came as {announced!r} but calls itself {own!r}")
    if announced in INDEX_TYPES + MANIFEST_TYPES and announced not in known:
        raise DataError(f"{what}: came as {announced!r}, but it has the shape of {shape}")
    return own or (announced if announced in known else OCI_INDEX if is_index else OCI_MANIFEST)
