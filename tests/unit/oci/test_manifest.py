"""Manifests: header, mediaType and shape must agree; what is no image is named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from knarr.errors import DataError
from knarr.oci.image import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Index,
    Manifest,
)
from knarr.oci.manifest import MANIFEST_MAX, check_image, read_config, read_manifest

D = "sha256:" + "a" * 64
Document = dict[str, Any]


def descriptor(media_type: str = OCI_LAYER + "+gzip", digest: str = D, size: int = 5) -> Document:
    return {"mediaType": media_type, "digest": digest, "size": size}


def manifest(**changes: object) -> Document:
    return {"schemaVersion": 2, "config": descriptor(OCI_CONFIG), "layers": [descriptor()], **changes}


def index(**changes: object) -> Document:
    return {"schemaVersion": 2, "manifests": [descriptor(OCI_MANIFEST)], **changes}


def read(document: object, media_type: str = "") -> Manifest | Index:
    return read_manifest(json.dumps(document).encode(), media_type, "it")


def image(document: Document) -> Manifest:
    found = read(document)
    assert isinstance(found, Manifest)
    return found


@pytest.mark.parametrize(
    ("document", "media_type", "kind"),
    [
        (manifest(), OCI_MANIFEST, Manifest),
        (manifest(mediaType=OCI_MANIFEST), OCI_MANIFEST + "; charset=utf-8", Manifest),
        (manifest(mediaType=DOCKER_MANIFEST), DOCKER_MANIFEST, Manifest),
        (manifest(), "application/json", Manifest),
        (manifest(), "", Manifest),
        (index(), OCI_INDEX, Index),
        (index(mediaType=DOCKER_LIST), DOCKER_LIST, Index),
        (index(), "text/plain", Index),
        (index(manifests=[]), OCI_INDEX, Index),
    ],
)
def test_read(document: Document, media_type: str, kind: type) -> None:
    assert type(read(document, media_type)) is kind


@pytest.mark.parametrize(
    ("document", "media_type", "message"),
    [
        ({**manifest(), **index()}, "", "an index and a manifest at once"),
        ({"schemaVersion": 2}, "", "neither an index nor a manifest"),
        (manifest(), OCI_INDEX, "came as .*index.* but it has the shape of a manifest"),
        (index(), DOCKER_MANIFEST, "came as .*manifest.* but it has the shape of an index"),
        (manifest(mediaType=OCI_INDEX), "", "mediaType.* shape of a manifest"),
        (manifest(mediaType=OCI_MANIFEST), DOCKER_MANIFEST, "came as .* but calls itself"),
        (manifest(mediaType=7), "", "mediaType: expected a string"),
        (manifest(schemaVersion=3), "", "schemaVersion: expected 2"),
        ({"schemaVersion": 1, "fsLayers": []}, "", "schema 1"),
        (manifest(), "application/vnd.docker.distribution.manifest.v1+prettyjws", "schema 1"),
        ([], "", "must be an object"),
        (manifest(layers=[descriptor(digest="sha256:..")]), "", r"it.layers\[0\].digest: not a digest"),
        (manifest(layers=[descriptor(size=-1)]), "", r"it.layers\[0\].size: -1 bytes make no sense"),
        (manifest(config=descriptor(size=1 << 60)), "", "it.config.size"),
        (index(manifests=[descriptor(digest="md5:a")]), "", r"it.manifests\[0\].digest"),
        (manifest(layers="x"), "", r"it.layers: expected an array"),
    ],
)
def test_refused(document: object, media_type: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(document, media_type)


def test_too_large() -> None:
    with pytest.raises(DataError, match="are allowed"):
        read_manifest(b" " * (MANIFEST_MAX + 1), "", "it")


@pytest.mark.parametrize("base", [OCI_LAYER, DOCKER_LAYER])
@pytest.mark.parametrize("compression", ["", "+gzip", "+zstd", ".gzip"])
def test_layers_that_are_layers(base: str, compression: str) -> None:
    check_image(image(manifest(layers=[descriptor(base + compression)])), "it")


def test_artifacts_and_strange_layers_are_named() -> None:
    check_image(image(manifest(config=descriptor(DOCKER_CONFIG))), "it")
    with pytest.raises(
        DataError, match=r"not a container image but an artifact of type 'application/x.chart'"
    ):
        check_image(image(manifest(config=descriptor("application/x.chart"))), "it")
    with pytest.raises(DataError, match=r"it.layers\[0\] is encrypted"):
        check_image(image(manifest(layers=[descriptor(OCI_LAYER + "+gzip+encrypted")])), "it")
    with pytest.raises(DataError, match="has 501 layers"):
        check_image(image(manifest(layers=[descriptor()] * 501)), "it")
    with pytest.raises(DataError, match=r"it.layers\[0\] is of type 'text/html'"):
        check_image(image(manifest(layers=[descriptor("text/html")])), "it")


def test_configs() -> None:
    def config(**rootfs: object) -> bytes:
        fields = {"type": "layers", "diff_ids": [D], **rootfs}
        return json.dumps({"architecture": "amd64", "os": "linux", "rootfs": fields}).encode()

    ours = image(manifest())
    assert read_config(config(), ours, "it").rootfs.diff_ids == (D,)
    with pytest.raises(DataError, match="the manifest has 1 layers, its config 2"):
        read_config(config(diff_ids=[D, D]), ours, "it")
    with pytest.raises(DataError, match="rootfs.type is 'base'"):
        read_config(config(type="base"), ours, "it")
    with pytest.raises(DataError, match="not a digest"):
        read_config(config(diff_ids=["x"]), ours, "it")
    with pytest.raises(DataError, match=r"it: config.architecture: is required"):
        read_config(b"{}", ours, "it")
    with pytest.raises(DataError, match="it: config: JSON"):
        read_config(b"{", ours, "it")
