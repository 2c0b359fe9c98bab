"""What a killed command does, all of it in its first thread: run as `python scenario.py VERB ROOT WHAT`.

ingest ROOT LAYOUT      the image of an OCI layout, named app:1, the way a pull does it
remove ROOT NAME        the image
retag ROOT NAME         another name for it
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from knarr.oci.digest import Digest
from knarr.oci.document import decode
from knarr.oci.image import Manifest
from knarr.oci.reference import parse
from knarr.store.store import Store


def main(verb: str, root: str, what: str) -> None:
    store = Store(root)
    if verb == "ingest":
        ingest(store, Path(what))
    elif verb == "remove":
        store.remove(what, in_use=lambda image_id: [])
    else:
        image = store.find_image(what)
        assert image is not None
        store.tag(image, parse("retagged:1"))
    store.close()


def ingest(store: Store, layout: Path) -> None:
    def blob(digest: str) -> Path:
        return layout / "blobs" / digest.replace(":", "/")

    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    body = blob(entry["digest"]).read_bytes()
    manifest = decode(Manifest, json.loads(body))
    config = blob(manifest.config.digest).read_bytes()
    diff_ids = json.loads(config)["rootfs"]["diff_ids"]
    for layer, diff_id in zip(manifest.layers, diff_ids, strict=True):
        if not store.has_layer(diff_id):
            here = store.partial(layer.digest)
            with blob(layer.digest).open("rb", buffering=0) as file:
                file.seek(here)
                store.ingest_layer(layer, diff_id, file.read)
    top, id_ = Digest(entry["digest"]), Digest(manifest.config.digest)
    store.put_blob(id_, config)
    store.put_blob(top, body)
    store.commit_image("app:1", top, top, id_)


if __name__ == "__main__":
    main(*sys.argv[1:4])
