"""Finding images: names in docker's forms, ids and their beginnings; names on disk."""

from __future__ import annotations

import os
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knarr.errors import Conflict, DataError
from knarr.oci import json
from knarr.store.images import all_images, find_image
from knarr.store.refs import all_refs, encode, read_ref, remove_ref, write_ref

MANIFEST, INDEX = "sha256:" + "e" * 64, "sha256:" + "f" * 64
DIFFS = ["sha256:" + "1" * 64, "sha256:" + "2" * 64]


@pytest.fixture
def root(tmp_path: Path) -> str:
    for name in ("images", "refs"):
        (tmp_path / name).mkdir()
    add(tmp_path, "a" * 63 + "1", "docker.io/library/busybox:latest", "localhost/box:1")
    add(tmp_path, "a" * 63 + "2", "docker.io/me/tool:2", f"quay.io/a/b@{INDEX}")
    add(tmp_path, "bad0" + "0" * 60)
    return str(tmp_path)


def add(root: Path, image_hex: str, *names: str) -> None:
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": DIFFS[::-1]}}
    document = {"manifest": MANIFEST, "target": INDEX, "size": 7, "layers": DIFFS, "config": config}
    (root / "images" / image_hex).mkdir()
    (root / "images" / image_hex / "image.json").write_text(json.dumps(document))
    for name in names:
        write_ref(str(root), name, image_hex, str(root / "beside"))


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("busybox", "1"), ("busybox:latest", "1"), ("docker.io/busybox", "1"), ("library/busybox", "1"),
        ("localhost/box:1", "1"), ("me/tool:2", "2"), (f"quay.io/a/b@{INDEX}", "2"), (f"quay.io/a/b:any@{INDEX}", "2"),
        (f"busybox@{MANIFEST}", "1"), (f"busybox:gone@{INDEX}", "1"), ("a" * 63 + "2", "2"),
        ("sha256:" + "a" * 63 + "1", "1"), ("bad0", "0"), ("sha256:bad", "0"), ("b", "0"),
    ],
)  # fmt: skip
def test_found(root: str, text: str, last: str) -> None:
    image = find_image(root, text)
    assert image is not None
    assert image.id.hex[-1] == last
    assert image.layers == tuple(f"{root}/layers/{d[7:]}/diff" for d in DIFFS), "topmost first"


@pytest.mark.parametrize(
    "text",
    ["nothing", "busybox:2", "Busybox", "box:1", "", "a" * 63 + "3", "sha256:c", "../images", "a/../b", "c" * 70,
     f"other@{MANIFEST}", "busybox@sha256:" + "0" * 64, "\0", "é"],
)  # fmt: skip
def test_not_found(root: str, text: str) -> None:
    assert find_image(root, text) is None


def test_several_ids_begin_alike(root: str) -> None:
    with pytest.raises(Conflict, match="more than one image's id begins with aaa"):
        find_image(root, "aaa")


def test_all_of_them_with_their_names(root: str) -> None:
    found = {image.id.hex[-1]: image.names for image in all_images(root)}
    assert found == {
        "1": ("docker.io/library/busybox:latest", "localhost/box:1"),
        "2": ("docker.io/me/tool:2", f"quay.io/a/b@{INDEX}"),
        "0": (),
    }


def test_a_store_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert all_images(str(tmp_path / "no")) == []
    assert find_image(str(tmp_path / "no"), "abc") is None
    assert find_image(str(tmp_path / "no"), "busybox:1") is None


def test_a_damaged_document_is_named(root: str) -> None:
    Path(root, "images", "bad0" + "0" * 60, "image.json").write_text("{")
    with pytest.raises(DataError, match=r"image\.json: JSON") as caught:
        find_image(root, "bad0")
    assert caught.value.hint == "remove the image with `knarr rmi -f bad000000000`"


def test_a_name_whose_image_is_gone_finds_nothing(root: str) -> None:
    write_ref(root, "docker.io/library/stale:1", "9" * 64, f"{root}/beside")
    assert find_image(root, "stale:1") is None


parts = st.text(string.ascii_lowercase + string.digits + "._-", min_size=1, max_size=250)


@given(st.lists(parts, min_size=1, max_size=4), parts)
def test_names_come_back_whatever_their_length(
    tmp_path_factory: pytest.TempPathFactory, path: list[str], tag: str
) -> None:
    root = str(tmp_path_factory.mktemp("refs"))
    os.mkdir(f"{root}/refs")
    name = f"quay.io:5000/{'/'.join(path)}:{tag}"
    assert len(encode(name)) <= 255
    assert "/" not in encode(name)
    write_ref(root, name, "1" * 64, f"{root}/beside")
    assert list(all_refs(root)) == [(name, "1" * 64)]
    assert read_ref(root, name) == "1" * 64
    write_ref(root, name, "2" * 64, f"{root}/beside")
    assert read_ref(root, name) == "2" * 64
    remove_ref(root, name)
    remove_ref(root, name)
    assert os.listdir(f"{root}/refs") == []
