"""Save and load: digests survive, every tool's habits are understood, hostile archives are refused whole."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contract.store.archives import INDEX, docker_archive, entry, layout, named, symlink, write
from contract.store.conftest import add, audit, one_file, parcels
from harness.images import CONFIG, MANIFEST, MadeImage, digest, make_image, write_archive
from knarr.errors import Conflict, DataError, HostError, NotFound, UsageError
from knarr.oci.reference import parse
from knarr.store.archive import load, save
from knarr.store.store import Store

FORMS = ["docker-archive", "oci-archive", "oci-dir"]


def members(path: Path) -> dict[str, bytes]:
    """Name → content of an archive or a directory."""
    if path.is_dir():
        return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}
    with tarfile.TarFile(path) as archive:
        return {m.name: f.read() for m in archive if (f := archive.extractfile(m))}


@pytest.mark.parametrize("form", FORMS)
def test_there_and_back(
    store: Store,
    image: MadeImage,
    sibling: MadeImage,
    tmp_path: Path,
    form: str,
    open_other: Callable[[], Store],
) -> None:
    one, two = add(store, image, "app:1"), add(store, sibling, "quay.io/team/app:2")
    store.tag(one, parse("again:3"))
    path = tmp_path / "saved"
    save(store, ["app:1", "again:3", "quay.io/team/app:2"], str(path), form)
    other = open_other()
    assert sorted(load(other, str(path))) == [
        "Loaded image: again:3", "Loaded image: app:1", "Loaded image: quay.io/team/app:2",
    ]  # fmt: skip
    assert {i.id: i.names for i in other.images()} == {i.id: i.names for i in store.images()}
    if form != "docker-archive":
        assert {i.manifest_digest for i in other.images()} == {one.manifest_digest, two.manifest_digest}
    for name, data in members(path).items():
        if name.startswith("blobs/"):
            assert hashlib.sha256(data).hexdigest() == name.rpartition("/")[2]
    audit(other)


def test_what_docker_reads_is_docker_s(store: Store, image: MadeImage, tmp_path: Path) -> None:
    made = add(store, image, "app:1")
    save(store, ["app:1"], str(tmp_path / "a.tar"), "docker-archive")
    found = members(tmp_path / "a.tar")
    (entry,) = json.loads(found["manifest.json"])
    assert entry["RepoTags"] == ["app:1"]
    assert "sha256:" + hashlib.sha256(found[entry["Config"]]).hexdigest() == made.id
    layers = ["sha256:" + hashlib.sha256(found[name]).hexdigest() for name in entry["Layers"]]
    assert layers == [p.diff_id for p in parcels(image)]


def test_an_image_saved_by_id_has_no_name(
    store: Store, image: MadeImage, tmp_path: Path, open_other: Callable[[], Store]
) -> None:
    made = add(store, image, "app:1")
    for form in FORMS:
        save(store, [made.id.hex[:12]], str(tmp_path / form), form)
        other = open_other()
        assert load(other, str(tmp_path / form)) == [f"Loaded image ID: {made.id}"]


def test_the_same_bytes_each_time(store: Store, image: MadeImage, tmp_path: Path) -> None:
    add(store, image, "app:1")
    for form in FORMS[:2]:
        for name in ("one", "two"):
            save(store, ["app:1"], str(tmp_path / name), form)
        assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}


@pytest.mark.parametrize("kind", PACKERS)
def test_compressed_archives(store: Store, image: MadeImage, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "packed"
    path.write_bytes(PACKERS[kind](write_archive(image, "app:1", tmp_path / "a.tar").read_bytes()))
    assert load(store, str(path)) == ["Loaded image: app:1"]
    audit(store)


def run(code: str, root: str, *args: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    names = "from knarr.store.store import Store\nfrom knarr.store.archive import load, save\n"
    program = f"import sys\n{names}store = Store(sys.argv[1])\n{code}"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-c", program, root, *args], input=stdin, capture_output=True, env=env
    )


def test_from_standard_input_and_to_standard_output(store: Store, image: MadeImage, tmp_path: Path) -> None:
    data = write_archive(image, "app:1", tmp_path / "a.tar").read_bytes()
    done = run("print(load(store, ''))", store.root, stdin=data)
    assert done.stdout == b"['Loaded image: app:1']\n", done.stderr
    done = run("save(store, ['app:1'], '', 'oci-archive')", store.root)
    (tmp_path / "out.tar").write_bytes(done.stdout)
    assert f"blobs/{digest(image.manifest).replace(':', '/')}" in members(tmp_path / "out.tar")
    cut = run("load(store, '')", store.root, stdin=data[: len(data) // 2])
    assert b"DataError: tar: the archive is cut off" in cut.stderr
    audit(store)


def test_docker_s_own_form(store: Store, image: MadeImage, sibling: MadeImage, tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", docker_archive((image, ["app:1", "app:2"]), (sibling, [])))
    config = json.loads(sibling.manifest)["config"]["digest"]
    assert load(store, str(path)) == [
        "Loaded image: app:1",
        "Loaded image: app:2",
        f"Loaded image ID: {config}",
    ]
    assert load(store, str(path))[0] == "Loaded image: app:1", "and again"
    audit(store)


def test_a_known_manifest_is_not_replaced_by_one_of_ours(
    store: Store, image: MadeImage, tmp_path: Path
) -> None:
    made = add(store, image, "app:1")
    load(store, str(write(tmp_path / "a.tar", docker_archive((image, ["app:2"])))))
    found = store.find_image("app:2")
    assert found is not None
    assert found.manifest_digest == made.manifest_digest
    audit(store)


def test_layers_that_are_links_compressed_or_left_out(store: Store, tmp_path: Path) -> None:
    """Docker links equal layers, podman links its old names, some tools compress, some leave out what is known."""
    made = make_image([one_file("same"), one_file("same"), one_file("packed"), one_file("known")])
    add(store, make_image([one_file("known")]), "known")
    archive = docker_archive((made, ["app:1"]))
    same, _, packed, known = (f"{p.diff_id[7:]}/layer.tar" for p in parcels(made))
    (index,) = json.loads(archive["manifest.json"])
    index["Layers"][1] = "second/layer.tar"
    archive |= {"manifest.json": json.dumps([index]).encode(), packed: gzip.compress(archive[packed])}
    del archive[known]
    contents = named({**archive, "second/layer.tar": symlink(f"../{same}")})
    assert load(store, str(write(tmp_path / "a.tar", contents))) == ["Loaded image: app:1"]
    found = store.find_image("app:1")
    assert found is not None
    assert len(found.layers) == 4
    audit(store)


def test_docker_25_writes_both_forms(store: Store, image: MadeImage, tmp_path: Path) -> None:
    plain = {p.diff_id: gzip.decompress(p.data) for p in parcels(image)}
    config = json.loads(image.manifest)["config"]["digest"]
    manifest = json.dumps(
        {
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": config, "size": len(image.blobs[config])},
            "layers": [
                {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": d, "size": len(data)}
                for d, data in plain.items()
            ],
        }
    ).encode()  # fmt: skip
    blobs = {"blobs/" + d.replace(":", "/"): data for d, data in plain.items()}
    blobs |= {"blobs/" + digest(d).replace(":", "/"): d for d in (manifest, image.blobs[config])}
    entry = {"mediaType": MANIFEST, "digest": digest(manifest), "size": len(manifest)}
    entry["annotations"] = {
        "io.containerd.image.name": "docker.io/library/app:1",
        "org.opencontainers.image.ref.name": "1",
    }
    path = write(
        tmp_path / "a.tar",
        {
            **blobs, "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
            "index.json": json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode(),
            "manifest.json": json.dumps(
                [{"Config": f"blobs/sha256/{config[7:]}", "RepoTags": ["app:1", "app:2"],
                  "Layers": [f"blobs/sha256/{d[7:]}" for d in plain]}]
            ).encode(),
        },
    )  # fmt: skip
    assert load(store, str(path)) == ["Loaded image: app:1", "Loaded image: app:2"]
    found = store.find_image("app:2")
    assert found is not None
    assert found.manifest_digest == digest(manifest)
    audit(store)


def test_an_index_with_platforms_and_attestations(
    store: Store, image: MadeImage, sibling: MadeImage, tmp_path: Path
) -> None:
    from harness.images import architecture

    attestation = {"annotations": {"vnd.docker.reference.type": "attestation-manifest"}}
    index = json.dumps(
        {
            "schemaVersion": 2, "mediaType": INDEX,
            "manifests": [
                entry(sibling.manifest, platform={"os": "linux", "architecture": "s390x"}),
                entry(b"not here", platform={"os": "linux", "architecture": architecture(), "variant": "v9"}),
                entry(image.manifest, platform={"os": "linux", "architecture": architecture()}),
                entry(b"attested", platform={"os": "unknown", "architecture": "unknown"}, **attestation),
            ],
        }
    ).encode()  # fmt: skip
    blobs = {**image.blobs, digest(index): index, digest(image.manifest): image.manifest}
    name = {"annotations": {"org.opencontainers.image.ref.name": "quay.io/app:1"}}
    path = write(tmp_path / "a.tar", layout([entry(index, INDEX, **name)], blobs))
    assert load(store, str(path)) == ["Loaded image: quay.io/app:1"]
    found = store.find_image(f"quay.io/app@{digest(index)}")
    assert found is not None
    assert (found.target, found.manifest_digest) == (digest(index), digest(image.manifest))
    audit(store)


def test_a_tag_alone_is_no_name(store: Store, image: MadeImage, tmp_path: Path) -> None:
    """What umoci and skopeo write: `latest` names a tag of the layout, not an image."""
    tag = {"annotations": {"org.opencontainers.image.ref.name": "latest"}}
    blobs = {**image.blobs, digest(image.manifest): image.manifest}
    config = json.loads(image.manifest)["config"]["digest"]
    path = write(tmp_path / "a.tar", layout([entry(image.manifest, **tag)], blobs))
    assert load(store, str(path)) == [f"Loaded image ID: {config}"]


def test_saving_what_cannot_be(store: Store, image: MadeImage, tmp_path: Path) -> None:
    add(store, image, "app")
    with pytest.raises(NotFound):
        save(store, ["app", "no"], str(tmp_path / "x"), "docker-archive")
    with pytest.raises(UsageError, match="is a directory"):
        save(store, ["app"], str(tmp_path), "docker-archive")
    with pytest.raises(HostError, match="no such file"):
        save(store, ["app"], str(tmp_path / "no/x"), "docker-archive")
    with pytest.raises(UsageError, match="standard output"):
        save(store, ["app"], "", "oci-dir")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    with pytest.raises(Conflict):
        save(store, ["app"], str(tmp_path / "full"), "oci-dir")
    assert sorted(os.listdir(tmp_path)) == ["full", "store"]


def test_a_damaged_blob_is_not_passed_on(store: Store, image: MadeImage, tmp_path: Path) -> None:
    add(store, image, "app")
    blob = Path(store.root, "blobs/sha256", parcels(image)[1].descriptor.digest[7:])
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.write_bytes(data)
    for form in FORMS:
        with pytest.raises(DataError):
            save(store, ["app"], str(tmp_path / form), form)
    blob.unlink()
    with pytest.raises(DataError, match="its blob is not in the store") as caught:
        save(store, ["app"], str(tmp_path / "x"), "docker-archive")
    assert "pull" in caught.value.hint
    assert os.listdir(tmp_path) == ["store"]


def test_a_full_disk_while_saving(store: Store, image: MadeImage, small_disk: Path) -> None:
    add(store, make_image([one_file("big", 4 << 20)]), "app")
    for form in FORMS:
        with pytest.raises(HostError, match="no space left on device"):
            save(store, ["app"], str(small_disk / "x"), form)
        assert os.listdir(small_disk) == []


def test_another_blob_of_the_layer_serves(store: Store, tmp_path: Path) -> None:
    """The layer was here from another image, so its own blob was never fetched."""
    plain = one_file("same", 2000)
    one, two = make_image([plain], Cmd=["1"]), make_image([plain], Cmd=["2"])
    repacked = gzip.compress(plain, 9, mtime=5)
    manifest = json.loads(two.manifest)
    manifest["layers"][0] |= {"digest": digest(repacked), "size": len(repacked)}
    two = MadeImage(json.dumps(manifest).encode(), {**two.blobs, digest(repacked): repacked})
    add(store, one, "one")
    add(store, two, "two")
    save(store, ["two"], str(tmp_path / "a"), "docker-archive")
    with pytest.raises(DataError, match="in another compression"):
        save(store, ["two"], str(tmp_path / "b"), "oci-archive")


@pytest.fixture
def open_other(tmp_path: Path) -> Any:
    from knarr.store.removal import remove_tree

    opened: list[Store] = []

    def make() -> Store:
        opened.append(Store(str(tmp_path / f"other{len(opened)}")))
        return opened[-1]

    yield make
    for other in opened:
        other.close()
        remove_tree(other.root)
