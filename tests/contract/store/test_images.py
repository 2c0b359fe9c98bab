"""Images are named, listed, removed; what nobody needs goes, what anybody needs stays."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from contract.store.conftest import add, audit, commit, files, in_use, ingest, names_of, parcels
from harness.images import MadeImage, digest, make_image
from knarr.errors import Conflict, DataError, KnarrError, NotFound
from knarr.oci.digest import Digest
from knarr.oci.reference import parse
from knarr.store.removal import remove_tree
from knarr.store.store import Store


def test_an_image_is_found_by_all_its_names(store: Store, image: MadeImage) -> None:
    made = add(store, image, "busybox")
    for text in ("busybox", "docker.io/library/busybox:latest", made.id, made.id.hex, made.id.hex[:7]):
        found = Store(store.root).find_image(text)
        assert found is not None, text
        assert found == made
    assert made.names == ("docker.io/library/busybox:latest",)
    assert [os.path.basename(os.path.dirname(d)) for d in made.layers] == [
        p.diff_id[7:] for p in reversed(parcels(image))
    ]
    assert made.size_bytes == 3 + 4 + 300_000
    assert made.config.config.cmd == ("true",)
    assert store.has_image(made.id)
    audit(store)


def test_commit_needs_all_of_it(store: Store, image: MadeImage) -> None:
    ingest(store, parcels(image)[0])
    with pytest.raises(DataError, match="is not here"):
        commit(store, image, "half")
    nothing = Digest("sha256:" + "0" * 64)
    with pytest.raises(DataError, match="is not here"):
        store.commit_image("none", nothing, nothing, nothing)
    assert store.images() == []
    with pytest.raises(DataError, match="damaged or forged"):
        store.put_blob(Digest("sha256:" + "0" * 64), b"x")
    store.close()
    audit(store)


def test_one_digest_is_not_taken_for_another(store: Store, image: MadeImage, sibling: MadeImage) -> None:
    add(store, image, "a")
    other = Digest(json.loads(sibling.manifest)["config"]["digest"])
    store.put_blob(other, sibling.blobs[other])
    manifest = Digest(digest(image.manifest))
    with pytest.raises(DataError, match="is not the manifest of"):
        store.commit_image("b", manifest, manifest, other)
    with pytest.raises(DataError):
        store.commit_image("b", other, other, other)


def test_a_name_moves_to_the_newer_image(store: Store, image: MadeImage, sibling: MadeImage) -> None:
    first = add(store, image, "app:1")
    second = add(store, sibling, "app:1")
    assert {i.id: i.names for i in store.images()} == {first.id: (), second.id: ("docker.io/library/app:1",)}
    lines, collected = store.prune(in_use=in_use())
    assert lines == [f"Deleted: {first.id}", f"Deleted: {parcels(image)[1].diff_id}"]
    assert collected.freed_bytes == 0, "it went with the image"
    assert [i.id for i in store.images()] == [second.id]
    audit(store)


def test_tags(store: Store, image: MadeImage) -> None:
    made = add(store, image, "app:1")
    store.tag(made, parse("app:2"))
    store.tag(made, parse("quay.io/team/app"))
    assert names_of(store.images()) == {
        "docker.io/library/app:1", "docker.io/library/app:2", "quay.io/team/app:latest",
    }  # fmt: skip
    assert store.remove("app:1", in_use=in_use("c1")) == ["Untagged: app:1"], (
        "a name goes, whoever uses the image"
    )
    with pytest.raises(Conflict, match="it has several names: app:2, quay.io/team/app:latest"):
        store.remove(made.id.hex[:12], in_use=in_use())
    assert store.remove("app:2", in_use=in_use()) == ["Untagged: app:2"]
    assert store.remove("quay.io/team/app", in_use=in_use())[:2] == [
        "Untagged: quay.io/team/app:latest", f"Deleted: {made.id}",
    ]  # fmt: skip
    with pytest.raises(NotFound):
        store.tag(made, parse("late"))
    store.close()
    assert files(store.root) == []


def test_removing_by_id(store: Store, image: MadeImage) -> None:
    made = add(store, image, "app:1")
    store.tag(made, parse("app:2"))
    lines = store.remove(made.id.hex[:12], in_use=in_use())
    assert lines[:3] == ["Untagged: app:1", "Untagged: app:2", f"Deleted: {made.id}"], (
        "names of one repository"
    )
    assert set(lines[3:]) == {f"Deleted: {p.diff_id}" for p in parcels(image)}
    with pytest.raises(NotFound):
        store.remove(made.id, in_use=in_use())
    with pytest.raises(NotFound):
        store.remove("../../etc", in_use=in_use())


def test_a_name_by_digest_goes_with_the_last_tag_of_its_repository(store: Store, image: MadeImage) -> None:
    made = add(store, image, "app:1")
    by_digest = f"docker.io/library/app@{made.manifest_digest}"
    store.tag(made, parse(by_digest))
    store.tag(made, parse("other:1"))
    assert store.remove("app:1", in_use=in_use()) == [
        "Untagged: app:1",
        f"Untagged: app@{made.manifest_digest}",
    ]
    assert store.remove("other:1", in_use=in_use())[0] == "Untagged: other:1"
    assert store.images() == []


def test_layers_are_shared_and_go_with_the_last_image(
    store: Store, image: MadeImage, sibling: MadeImage
) -> None:
    add(store, image, "one")
    other = add(store, sibling, "two")
    low = parcels(image)[0].diff_id
    assert f"Deleted: {low}" not in store.remove("one", in_use=in_use())
    assert all(os.path.isdir(d) for d in other.layers)
    audit(store)
    assert f"Deleted: {low}" in store.remove("two", in_use=in_use())
    audit(store)


def test_containers_keep_their_image(store: Store, image: MadeImage) -> None:
    made = add(store, image, "app")
    with pytest.raises(Conflict, match="unable to remove image app:latest: container c1 is using it"):
        store.remove("app", in_use=in_use("c1"))
    assert store.find_image("app") == made
    assert store.prune(in_use=in_use("c1"), everything=True)[0] == []
    asked: list[Digest] = []

    def created_meanwhile(image_id: Digest) -> list[str]:
        asked.append(image_id)
        if len(asked) == 2:
            assert not store.has_image(image_id), "who asks for it now must be told no"
            return ["c2"]
        return []

    with pytest.raises(Conflict):
        store.remove("app", in_use=created_meanwhile)
    assert store.find_image("app") == made
    audit(store)


def test_a_forced_removal_leaves_containers_their_layers(store: Store, image: MadeImage) -> None:
    made = add(store, image, "app")
    container = Path(store.root, "containers/c1")
    container.mkdir(parents=True)
    (container / "config.json").write_text(json.dumps({"image": made.id, "layers": made.layers}))
    assert store.remove("app", in_use=in_use("c1"), force=True) == [
        "Untagged: app:latest",
        f"Deleted: {made.id}",
    ]
    assert all(os.path.isdir(d) for d in made.layers)
    store.close()
    os.unlink(f"{store.root}/store.db")
    store.collect()
    assert all(os.path.isdir(d) for d in made.layers), "also when the database was lost"
    (container / "config.json").write_text("{")
    with pytest.raises(Conflict, match="container c1 cannot be read"):
        store.collect()
    remove_tree(str(container))
    assert len(store.collect().layers) == 2
    store.close()
    assert files(store.root) == []


def test_what_a_running_pull_relies_on_stays(
    store: Store, image: MadeImage, sibling: MadeImage, open_store: Callable[[], Store]
) -> None:
    add(store, image, "old")
    store.close()
    puller = open_store()
    low = parcels(sibling)[0]
    assert puller.has_layer(low.diff_id), "no need to fetch it"
    other = open_store()
    assert f"Deleted: {low.diff_id}" not in other.remove("old", in_use=in_use())
    assert add(puller, sibling, "new").config.config.cmd == ("false",)
    puller.close()
    other.close()
    audit(store)
    other.remove("new", in_use=in_use())
    other.close()
    assert files(store.root) == []


def test_pins_of_the_dead_hold_nothing(
    store: Store, image: MadeImage, open_store: Callable[[], Store]
) -> None:
    ingest(store, parcels(image)[0])
    store.writer.db.execute("UPDATE pins SET session = 'making-dead'")
    assert open_store().collect().layers == (parcels(image)[0].diff_id,)


def test_cut_downloads_are_kept_a_day_or_until_a_prune(store: Store) -> None:
    partial = Path(store.writer.session.partial)
    for name, age in (("sha256-old", 25 * 3600), ("sha256-new", 0)):
        (partial / name).write_bytes(b"12345")
        os.utime(partial / name, (os.stat(partial / name).st_mtime - age,) * 2)
    store.close()
    store.collect()
    assert [p.name for p in partial.iterdir()] == ["sha256-new"]
    assert store.prune(in_use=in_use())[1].freed_bytes == 5
    assert list(partial.iterdir()) == []


@pytest.mark.parametrize("loss", ["gone", "garbage", "empty", "other"])
def test_the_database_is_made_again(store: Store, image: MadeImage, sibling: MadeImage, loss: str) -> None:
    made = add(store, image, "app")
    store.close()
    path = Path(store.root, "store.db")
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    if loss == "gone":
        path.unlink()
    else:
        data = path.read_bytes()
        path.write_bytes({"garbage": b"x" * 9000, "empty": b"", "other": data[:100] + b"\xff" * 9000}[loss])
    assert store.has_layer(parcels(image)[1].diff_id)
    add(store, sibling, "two")
    store.remove("two", in_use=in_use())
    assert store.find_image("app") == made
    audit(store)


def test_a_damaged_image_can_be_removed(store: Store, image: MadeImage) -> None:
    made = add(store, image, "app")
    Path(store.root, "images", made.id.hex, "image.json").write_text("{")
    with pytest.raises(DataError, match=r"image\.json"):
        store.remove("app", in_use=in_use())
    assert store.remove("app", in_use=in_use(), force=True)[0] == "Untagged: app:latest"
    store.close()
    assert files(store.root) == []


def test_the_same_image_again_is_no_work(store: Store, image: MadeImage) -> None:
    made = add(store, image, "app")
    assert add(store, image, "app") == made
    audit(store)


def test_an_image_without_layers(store: Store) -> None:
    empty = make_image([], Cmd=["x"])
    assert add(store, empty, "empty").layers == ()
    audit(store)


def test_names_that_are_none(store: Store, image: MadeImage) -> None:
    for parcel in parcels(image):
        ingest(store, parcel)
    with pytest.raises(KnarrError):
        commit(store, image, "Not A Name")
    assert store.images() == []
    assert commit(store, image, "").names == ()


def test_two_commands_remove_at_once(store: Store, image: MadeImage, open_store: Callable[[], Store]) -> None:
    add(store, image, "app")
    store.close()
    one, two = open_store(), open_store()
    assert two.find_image("app")

    def other_was_quicker(image_id: Digest) -> list[str]:
        if one.has_image(image_id):
            one.remove("app", in_use=in_use())
        return []

    with pytest.raises(KnarrError):
        two.remove("app", in_use=other_was_quicker)
    one.close()
    two.close()
    audit(store)


def test_an_image_from_a_directory(store: Store, tmp_path: Path) -> None:
    from knarr.oci.image import RunConfig
    from knarr.store.layer_writer import Look
    from knarr.store.scratch import image_from_directory

    tree = tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin/sh").write_text("#!")
    look = Look(owner=(0, 0), newest_ns=0)
    made = image_from_directory(store, str(tree), RunConfig(cmd=("sh",)), "scratch:1", look=look)
    again = image_from_directory(store, str(tree), RunConfig(cmd=("sh",)), "scratch:1", look=look)
    assert again == made
    assert Path(made.layers[0], "bin/sh").read_text() == "#!"
    assert made.config.config.cmd == ("sh",)
    audit(store)
    with pytest.raises(KnarrError, match="no such file"):
        image_from_directory(store, str(tmp_path / "no"), RunConfig(), "x")
