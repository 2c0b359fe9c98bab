"""Hostile and broken archives: refused whole, with one line, and nothing left behind."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contract.store.archives import (
    INDEX,
    all_blobs,
    deep,
    docker_archive,
    entry,
    layout,
    named,
    symlink,
    write,
)
from contract.store.conftest import audit, one_file, parcels
from harness.images import MadeImage, digest
from knarr.errors import DataError, UsageError
from knarr.store.archive import load
from knarr.store.store import Store

Contents = dict[str, Any]
Change = Callable[[Contents], Contents]


def without(part: str) -> Change:
    return lambda contents: {k: v for k, v in contents.items() if part not in k}


def layers_become(value: Callable[[], Any]) -> Change:
    return lambda contents: named({k: value() if k.endswith("layer.tar") else v for k, v in contents.items()})


def index_becomes(data: bytes) -> Change:
    return lambda contents: {**contents, "manifest.json": data}


def index_says(old: bytes, new: bytes) -> Change:
    return lambda contents: {**contents, "manifest.json": contents["manifest.json"].replace(old, new)}


def fewer_layers(contents: Contents) -> Contents:
    (index,) = json.loads(contents["manifest.json"])
    return {**contents, "manifest.json": json.dumps([{**index, "Layers": index["Layers"][:1]}]).encode()}


HOSTILE_DOCKER: dict[str, Change] = {
    "no config": lambda contents: {k: v for k, v in contents.items() if len(k) != 69},
    "no layers": without("layer.tar"),
    "forged layers": layers_become(lambda: one_file("forged")),
    "links outward": layers_become(lambda: symlink("../../../../etc/passwd")),
    "links in a circle": layers_become(lambda: symlink("layer.tar")),
    "an index that is none": index_becomes(b"{}"),
    "an index of nonsense": index_becomes(b'[{"Config": 5}]'),
    "an index of nothing": index_becomes(b"["),
    "a bad name": index_says(b"app:1", b"App:/1"),
    "a path in place of a name": index_says(b"layer.tar", b"../../../../etc/passwd"),
    "fewer layers than the config": fewer_layers,
    "nothing": lambda contents: {"hello": b"world"},
    "docker's oldest form": lambda contents: {"repositories": b"{}"},
}


@pytest.mark.parametrize("kind", HOSTILE_DOCKER)
@pytest.mark.parametrize("packed", [False, True])
def test_hostile_docker_archives(
    store: Store, image: MadeImage, tmp_path: Path, kind: str, packed: bool
) -> None:
    contents = HOSTILE_DOCKER[kind](docker_archive((image, ["app:1"])))
    path = write(tmp_path / "a.tar", contents)
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes(), 1))
    with pytest.raises((DataError, UsageError)):
        load(store, str(path))
    assert store.images() == []
    audit(store)
    assert sorted(os.listdir(tmp_path)) == ["a.tar", "store"]


def changed(image: MadeImage, **members: bytes) -> dict[str, bytes]:
    """A good layout but for some members."""
    good = layout([entry(image.manifest)], all_blobs(image))
    return {
        **good,
        **{k.replace("_", "-").replace("index-json", "index.json"): v for k, v in members.items()},
    }


def other_platforms(image: MadeImage) -> dict[str, bytes]:
    manifests = [
        entry(image.manifest, platform={"os": "linux", "architecture": name}) for name in ("s390x", "mips")
    ]
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}).encode()
    return layout([entry(index, INDEX)], {**all_blobs(image), digest(index): index})


def forged(image: MadeImage) -> dict[str, bytes]:
    return {**all_blobs(image), parcels(image)[0].descriptor.digest: gzip.compress(one_file("x"))}


HOSTILE_OCI: dict[str, Callable[[MadeImage], dict[str, bytes]]] = {
    "another version": lambda i: changed(i, oci_layout=b'{"imageLayoutVersion": "2.0"}'),
    "no version": lambda i: changed(i, oci_layout=b"5"),
    "no index": lambda i: changed(i, index_json=b'{"manifests": []}'),
    "no image": lambda i: layout([], all_blobs(i)),
    "no manifest": lambda i: layout([entry(i.manifest)], i.blobs),
    "no layers": lambda i: layout(
        [entry(i.manifest)], {d: b for d, b in all_blobs(i).items() if len(b) < 1000}
    ),
    "a forged manifest": lambda i: layout([entry(i.manifest)], {**all_blobs(i), digest(i.manifest): b"{}"}),
    "a forged layer": lambda i: layout([entry(i.manifest)], forged(i)),
    "a digest that is a path": lambda i: layout(
        [{**entry(i.manifest), "digest": "sha256:../../x"}], all_blobs(i)
    ),
    "a size that lies": lambda i: layout([{**entry(i.manifest), "size": 1}], all_blobs(i)),
    "indexes within indexes": lambda i: layout(*deep(i)),
    "only other platforms": other_platforms,
}


@pytest.mark.parametrize("kind", HOSTILE_OCI)
def test_hostile_layouts(store: Store, image: MadeImage, tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / "a.tar", HOSTILE_OCI[kind](image))
    with pytest.raises(DataError):
        load(store, str(path))
    assert store.images() == []
    audit(store)


def test_a_directory_does_not_lead_outside(store: Store, image: MadeImage, tmp_path: Path) -> None:
    place = tmp_path / "layout"
    for name, data in layout([entry(image.manifest)], all_blobs(image)).items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
    low = place / "blobs/sha256" / parcels(image)[0].descriptor.digest[7:]
    low.rename(tmp_path / "elsewhere")
    low.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="neither in the archive nor here"):
        load(store, str(place))
    low.unlink()
    os.mkfifo(low)
    with pytest.raises(DataError):
        load(store, str(place))


def test_archives_that_are_not_there(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        load(store, str(tmp_path / "no"))
    (tmp_path / "empty").touch()
    with pytest.raises(DataError):
        load(store, str(tmp_path / "empty"))
    (tmp_path / "noise").write_bytes(b"noise" * 500)
    with pytest.raises(DataError, match="checksum"):
        load(store, str(tmp_path / "noise"))
