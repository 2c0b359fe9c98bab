"""Variants of an image in a local registry over HTTP: the same bytes to fetch and unpack under other digests.

A layer's variant is a small gzip member with one tar entry before the layer's own: gzip allows members in a row,
and a tar reader goes on. Nothing of the layer is compressed again.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import json
import os
import tarfile
import urllib.parse
from typing import Any

MANIFESTS = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"


def push_variants(reference: str, count: int) -> list[str]:
    """`HOST/NAME[:TAG]` → references of `count` variants, `HOST/NAME-variant:…`, new ones each time."""
    host, _, rest = reference.partition("/")
    name, _, tag = rest.partition(":")
    registry = _Registry(host)
    manifest = json.loads(registry.get(f"/v2/{name}/manifests/{tag or 'latest'}", MANIFESTS))
    blobs = [registry.get(f"/v2/{name}/blobs/{layer['digest']}") for layer in manifest["layers"]]
    config = json.loads(registry.get(f"/v2/{name}/blobs/{manifest['config']['digest']}"))
    plain = [gzip.decompress(blob) for blob in blobs]
    return [_variant(registry, f"{name}-variant", manifest, config, blobs, plain) for _ in range(count)]


def _variant(
    registry: _Registry,
    name: str,
    manifest: dict[str, Any],
    config: dict[str, Any],
    blobs: list[bytes],
    plain: list[bytes],
) -> str:
    own = json.loads(json.dumps(manifest))
    document = json.loads(json.dumps(config))
    nonce = os.urandom(6).hex()
    for i, (blob, content) in enumerate(zip(blobs, plain, strict=True)):
        entry = _entry(f"variant-{nonce}-{i}")
        document["rootfs"]["diff_ids"][i] = "sha256:" + hashlib.sha256(entry + content).hexdigest()
        own["layers"][i].update(registry.push(name, gzip.compress(entry, mtime=0) + blob))
    own["config"].update(registry.push(name, json.dumps(document).encode()))
    own.setdefault("mediaType", "application/vnd.oci.image.manifest.v1+json")
    registry.put_manifest(name, nonce, own)
    return f"{registry.host}/{name}:{nonce}"


def _entry(name: str) -> bytes:
    """One tar entry without the zero blocks that end an archive."""
    out = io.BytesIO()
    tar = tarfile.TarFile(fileobj=out, mode="w")
    info = tarfile.TarInfo(name)
    info.size = len(name)
    tar.addfile(info, io.BytesIO(name.encode()))
    return out.getvalue()


class _Registry:
    def __init__(self, host: str) -> None:
        self.host = host
        self._connection = http.client.HTTPConnection(host)

    def get(self, path: str, accept: str = "*/*") -> bytes:
        return self._ask("GET", path, None, {"Accept": accept}, 200)[1]

    def push(self, name: str, data: bytes) -> dict[str, Any]:
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        location, _ = self._ask("POST", f"/v2/{name}/blobs/uploads/", b"", {}, 202)
        place = urllib.parse.urlsplit(location)
        query = f"{place.query}&digest={digest}".lstrip("&")
        kind = {"Content-Type": "application/octet-stream"}
        self._ask("PUT", f"{place.path}?{query}", data, kind, 201)
        return {"digest": digest, "size": len(data)}

    def put_manifest(self, name: str, tag: str, manifest: dict[str, Any]) -> None:
        kind = {"Content-Type": manifest["mediaType"]}
        self._ask("PUT", f"/v2/{name}/manifests/{tag}", json.dumps(manifest).encode(), kind, 201)

    def _ask(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], expected: int
    ) -> tuple[str, bytes]:
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        data = answer.read()
        if answer.status != expected:
            raise SystemExit(f"{method} http://{self.host}{path}: {answer.status} {data[:200]!r}")
        return answer.getheader("Location", ""), data
