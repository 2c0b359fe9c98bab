"""A store of one's own, images to put into it, and an audit of what is on disk.

These tests run as whoever starts them; `test_as_user` runs all of them again as root of a user namespace.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.images import MadeImage, digest, layer, make_image
from knarr.oci.digest import Digest
from knarr.oci.document import decode
from knarr.oci.image import Descriptor, Manifest
from knarr.store.images import Image
from knarr.store.ingest import Limits
from knarr.store.removal import remove_tree
from knarr.store.store import Store

Read = Callable[[int], bytes]
LIMITS = Limits(bytes_floor=64 << 20, ratio=1, entries=10_000)


def feed(data: bytes, step: int = 1 << 16) -> Read:
    """`read(n)` over bytes."""
    at = 0

    def read(size: int) -> bytes:
        nonlocal at
        chunk = data[at : at + min(size, step)]
        at += len(chunk)
        return chunk

    return read


class Parcel(NamedTuple):
    """A compressed layer on its way to a store."""

    descriptor: Descriptor
    diff_id: str
    data: bytes


def parcels(image: MadeImage) -> list[Parcel]:
    """The layers of an image, lowest first."""
    manifest = decode(Manifest, json.loads(image.manifest))
    diff_ids = json.loads(image.blobs[manifest.config.digest])["rootfs"]["diff_ids"]
    return [Parcel(d, diff, image.blobs[d.digest]) for d, diff in zip(manifest.layers, diff_ids, strict=True)]


def ingest(store: Store, parcel: Parcel) -> None:
    store.ingest_layer(parcel.descriptor, parcel.diff_id, feed(parcel.data))


def commit(store: Store, image: MadeImage, name: str) -> Image:
    """Documents and name of an image whose layers are there."""
    config = Digest(json.loads(image.manifest)["config"]["digest"])
    manifest = Digest(digest(image.manifest))
    store.put_blob(config, image.blobs[config])
    store.put_blob(manifest, image.manifest)
    return store.commit_image(name, manifest, manifest, config)


def add(store: Store, image: MadeImage, name: str) -> Image:
    """All of an image, as a pull does it."""
    for parcel in parcels(image):
        if not store.has_layer(parcel.diff_id):
            ingest(store, parcel)
    return commit(store, image, name)


def files(root: str) -> list[str]:
    """Everything in a store that is not its frame: relative paths, layers as one entry, the database left out."""
    found = []
    for folder in ("blobs/sha256", "layers", "images", "refs", "tmp", "tmp/partial"):
        try:
            found += [f"{folder}/{name}" for name in os.listdir(f"{root}/{folder}")]
        except FileNotFoundError:
            continue
    return sorted(set(found) - {"tmp/partial"})


def audit(store: Store) -> None:
    """Every image is whole, and nothing is there that none of them needs. Collects first."""
    store.collect()
    store.close()
    needed: set[str] = set()
    for image in store.images():
        body = store.read_blob(image.manifest_digest)
        assert body is not None
        manifest = decode(Manifest, json.loads(body))
        needed |= {f"images/{image.id.hex}"}
        for one in (image.manifest_digest, image.target, image.id, *(d.digest for d in manifest.layers)):
            data = store.read_blob(Digest(one))
            assert data is not None, f"{one} is missing"
            assert hashlib.sha256(data).hexdigest() == one[7:]
            needed.add(f"blobs/sha256/{one[7:]}")
        for directory in image.layers:
            assert os.path.isdir(directory), directory
            needed.add(os.path.dirname(directory).removeprefix(store.root + "/"))
        for name in image.names:
            found = store.find_image(name)
            assert found is not None
            assert found.id == image.id
    there = [name for name in files(store.root) if not name.startswith(("refs/", "tmp/partial/"))]
    assert there == sorted(needed)


def one_file(content: str, size: int = 0) -> bytes:
    """An uncompressed layer with one file of that content, and one of `size` bytes that do not compress."""
    noise = hashlib.shake_128(content.encode()).digest(size)
    return layer({"file": content, "noise": noise}) if size else layer({"file": content})


@pytest.fixture
def root(tmp_path: Path) -> Iterator[str]:
    path = str(tmp_path / "store")
    yield path
    remove_tree(path)


@pytest.fixture
def store(root: str) -> Iterator[Store]:
    with Store(root, limits=LIMITS) as opened:
        yield opened


@pytest.fixture
def open_store(root: str) -> Iterator[Callable[[], Store]]:
    """Further commands on the same store, each with its own locks and connection."""
    opened: list[Store] = []

    def make() -> Store:
        opened.append(Store(root, limits=LIMITS))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


@pytest.fixture(scope="session")
def image() -> MadeImage:
    """Two layers, the upper one of some size."""
    return make_image([one_file("low"), one_file("high", 300_000)], Cmd=["true"])


@pytest.fixture(scope="session")
def sibling() -> MadeImage:
    """Shares its lower layer with `image`."""
    return make_image([one_file("low"), one_file("other")], Cmd=["false"])


def in_use(*containers: str) -> Callable[[Digest], list[str]]:
    return lambda image_id: list(containers)


def names_of(images: Iterable[Image]) -> set[str]:
    return {name for image in images for name in image.names}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of three megabytes."""
    from harness.capabilities import SKIPPED
    from harness.machine import mount

    place = tmp_path / "small"
    place.mkdir()
    try:
        mount("tmpfs", str(place), "tmpfs", 0, "size=3m")
    except OSError:
        pytest.skip(f"{SKIPPED}root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)
