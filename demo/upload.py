"""Uploads an OCI layout to a registry over plain HTTP: what `docker push` would do, in the fewest requests.

distribution-spec, "Pushing a blob monolithically" (POST then PUT) and "Pushing manifests".
"""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from pathlib import Path


def upload(layout: Path, reference: str) -> None:
    """`reference` is HOST:PORT/NAME:TAG; the layout's first manifest becomes it."""
    host, _, rest = reference.partition("/")
    name, _, tag = rest.rpartition(":")
    (entry, *_) = json.loads((layout / "index.json").read_text())["manifests"]
    manifest = _blob(layout, entry["digest"])
    document = json.loads(manifest)
    for descriptor in (document["config"], *document["layers"]):
        location = _ask("POST", f"http://{host}/v2/{name}/blobs/uploads/", b"", "")
        place = urllib.parse.urlsplit(urllib.parse.urljoin(f"http://{host}", location))
        query = f"{place.query}&digest={descriptor['digest']}".lstrip("&")
        _ask(
            "PUT",
            place._replace(query=query).geturl(),
            _blob(layout, descriptor["digest"]),
            "application/octet-stream",
        )
    _ask("PUT", f"http://{host}/v2/{name}/manifests/{tag}", manifest, entry["mediaType"])


def _blob(layout: Path, digest: str) -> bytes:
    return (layout / "blobs" / digest.replace(":", "/")).read_bytes()


def _ask(method: str, url: str, body: bytes, kind: str) -> str:
    request = urllib.request.Request(url, body, {"Content-Type": kind} if kind else {}, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(answer.headers.get("Location", ""))
