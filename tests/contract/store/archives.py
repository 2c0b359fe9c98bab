"""Archives as other tools write them, member by member."""

from __future__ import annotations

import gzip
import json
import tarfile
from pathlib import Path
from typing import Any

from contract.store.conftest import parcels
from harness.images import MANIFEST, MadeImage, digest, layer

INDEX = "application/vnd.oci.image.index.v1+json"


def write(path: Path, contents: dict[str, Any]) -> Path:
    path.write_bytes(layer(contents))
    return path


def docker_archive(*images: tuple[MadeImage, list[str]]) -> dict[str, bytes]:
    """As docker 20 saves it: uncompressed layers."""
    out: dict[str, bytes] = {}
    index = []
    for image, tags in images:
        config = json.loads(image.manifest)["config"]["digest"][7:] + ".json"
        out[config] = image.blobs["sha256:" + config[:-5]]
        names = []
        for parcel in parcels(image):
            name = f"{parcel.diff_id[7:]}/layer.tar"
            out[name] = gzip.decompress(parcel.data)
            names.append(name)
        index.append({"Config": config, "RepoTags": tags or None, "Layers": names})
    return {**out, "manifest.json": json.dumps(index).encode()}


def symlink(target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


def named(contents: dict[str, Any]) -> dict[str, Any]:
    for name, info in contents.items():
        if isinstance(info, tarfile.TarInfo):
            info.name = name
    return contents


def layout(top: list[dict[str, Any]], blobs: dict[str, bytes]) -> dict[str, bytes]:
    files = {"blobs/" + name.replace(":", "/"): data for name, data in blobs.items()}
    index = json.dumps({"schemaVersion": 2, "manifests": top}).encode()
    return {**files, "oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": index}


def entry(data: bytes, kind: str = MANIFEST, **more: Any) -> dict[str, Any]:
    return {"mediaType": kind, "digest": digest(data), "size": len(data), **more}


def deep(image: MadeImage) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """Indexes within indexes."""
    body, blobs = image.manifest, {**image.blobs, digest(image.manifest): image.manifest}
    kind = MANIFEST
    for _ in range(8):
        body = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry(body, kind)]}).encode()
        blobs[digest(body)] = body
        kind = INDEX
    return [entry(body, INDEX)], blobs


def all_blobs(image: MadeImage) -> dict[str, bytes]:
    return {**image.blobs, digest(image.manifest): image.manifest}
