"""Uploads an image to a registry over plain HTTP: what `docker push` would do, in the fewest requests.

distribution-spec, "Pushing a blob monolithically" (POST then PUT) and "Pushing manifests".
"""

from __future__ import annotations

import urllib.parse
import urllib.request
from collections.abc import Mapping


def upload(reference: str, manifest: bytes, media_type: str, blobs: Mapping[str, bytes]) -> None:
    """`reference` is HOST:PORT/NAME:TAG; `blobs` are the config and the layers by digest."""
    host, _, rest = reference.partition("/")
    name, _, tag = rest.rpartition(":")
    for digest, data in blobs.items():
        location = _ask("POST", f"http://{host}/v2/{name}/blobs/uploads/", b"", "")
        place = urllib.parse.urlsplit(urllib.parse.urljoin(f"http://{host}", location))
        query = f"{place.query}&digest={digest}".lstrip("&")
        _ask("PUT", place._replace(query=query).geturl(), data, "application/octet-stream")
    _ask("PUT", f"http://{host}/v2/{name}/manifests/{tag}", manifest, media_type)


def _ask(method: str, url: str, body: bytes, kind: str) -> str:
    request = urllib.request.Request(url, body, {"Content-Type": kind} if kind else {}, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(answer.headers.get("Location", ""))
