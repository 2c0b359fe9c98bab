"""Layers come in: verified before they are seen, whole or not at all, once although several fetch them."""

from __future__ import annotations

import gzip
import os
import sys
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from contract.store.conftest import LIMITS, Parcel, add, audit, commit, feed, files, ingest, one_file, parcels
from harness.images import MadeImage, digest, layer, make_image
from knarr.errors import DataError, HostError, RemoteError
from knarr.oci.image import OCI_LAYER, Descriptor
from knarr.store.removal import remove_tree
from knarr.store.store import Store

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def parcel(packed: bytes, plain: bytes) -> Parcel:
    return Parcel(Descriptor(OCI_LAYER, digest(packed), len(packed)), digest(plain), packed)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": lambda data: gzip.compress(data, 1),
    "gzip in members": lambda data: b"".join(
        gzip.compress(data[i : i + 999]) for i in range(0, len(data), 999)
    ),
    "zstd": zstd.compress,
}


@pytest.mark.parametrize("kind", PACKERS)
def test_every_compression(store: Store, kind: str) -> None:
    plain = one_file("hello", 5000)
    given = parcel(PACKERS[kind](plain), plain)
    told: list[int] = []
    result = store.ingest_layer(given.descriptor, given.diff_id, feed(given.data, 700), progress=told.append)
    assert sum(told) == len(given.data)
    assert (result.entries, result.size_bytes, result.archive_bytes) == (2, 5005, len(plain))
    assert Path(store.root, "layers", given.diff_id[7:], "diff/file").read_text() == "hello"
    assert Path(store.root, "blobs/sha256", given.descriptor.digest[7:]).read_bytes() == given.data
    assert store.has_layer(given.diff_id)
    assert store.has_blob(given.descriptor.digest)


def test_nobody_else_of_this_machine_gets_near(store: Store, image: MadeImage) -> None:
    """An image's setuid programs must not be for every user of the machine to run."""
    add(store, image, "one")
    for name in ("layers", "blobs", "images", "refs", "tmp"):
        assert os.stat(f"{store.root}/{name}").st_mode & 0o077 == 0, name


LIES: dict[str, Callable[[Parcel], Parcel]] = {
    "digest": lambda p: p._replace(descriptor=p.descriptor._replace(digest="sha256:" + "0" * 64)),
    "size too small": lambda p: p._replace(descriptor=p.descriptor._replace(size=len(p.data) - 1)),
    "size too large": lambda p: p._replace(descriptor=p.descriptor._replace(size=len(p.data) + 1)),
    "diff id": lambda p: p._replace(diff_id="sha256:" + "0" * 64),
    "cut off": lambda p: p._replace(data=p.data[:-20]),
    "more behind it": lambda p: p._replace(data=p.data + b"more"),
    "nothing": lambda p: p._replace(data=b""),
    "flipped": lambda p: p._replace(data=p.data[:-30] + bytes([p.data[-30] ^ 1]) + p.data[-29:]),
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_leave_nothing(store: Store, image: MadeImage, lie: str) -> None:
    told = LIES[lie](parcels(image)[1])
    store.has_layer(told.diff_id)
    with pytest.raises(DataError, match=r"layer sha256:"):
        ingest(store, told)
    assert not store.has_layer(told.diff_id)
    store.close()
    assert files(store.root) == []


def whole(data: bytes, **changes: object) -> Parcel:
    """A gzip layer whose digests are right, whatever is in it."""
    return parcel(gzip.compress(data, 9), data)


HOSTILE: dict[str, Callable[[], Parcel]] = {
    "not a tar archive": lambda: whole(b"x" * 2000),
    "a cut archive": lambda: whole(one_file("x", 5000)[:3000]),
    "outward": lambda: whole(layer({"../../../escaped": "x"})),
    "a bomb of one file": lambda: whole(layer({"zeros": bytes(65 << 20)})),
    "a bomb behind the end": lambda: whole(layer({"a": "b"}) + bytes(65 << 20)),
    "a bomb of entries": lambda: whole(layer({f"{i}": b"" for i in range(10_001)})),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_layers_leave_nothing(store: Store, tmp_path: Path, kind: str) -> None:
    with pytest.raises(DataError):
        ingest(store, HOSTILE[kind]())
    store.close()
    assert files(store.root) == []
    assert sorted(os.listdir(tmp_path)) == ["store"]


def test_a_zip_bomb_of_nothing_but_empty_members_ends(store: Store) -> None:
    data = gzip.compress(b"") * 3000 + gzip.compress(one_file("x"))
    ingest(store, parcel(data, one_file("x")))


def test_a_source_that_fails_keeps_what_came(
    store: Store, image: MadeImage, open_store: Callable[[], Store]
) -> None:
    given = parcels(image)[1]
    half = len(given.data) // 2
    served = feed(given.data[:half])

    def read(size: int) -> bytes:
        chunk = served(size)
        if not chunk:
            raise RemoteError("the line is cut")
        return chunk

    with pytest.raises(RemoteError, match="the line is cut"):
        store.ingest_layer(given.descriptor, given.diff_id, read)
    store.close()
    assert files(store.root) == [f"tmp/partial/sha256-{given.descriptor.digest[7:]}"]

    again = open_store()
    here = again.partial(given.descriptor.digest)
    assert here == half
    told: list[int] = []
    again.ingest_layer(given.descriptor, given.diff_id, feed(given.data[here:]), progress=told.append)
    assert sum(told) == len(given.data)
    assert again.has_layer(given.diff_id)
    assert files(again.root)[:2] == [
        f"blobs/sha256/{given.descriptor.digest[7:]}",
        f"layers/{given.diff_id[7:]}",
    ]


def test_who_does_not_ask_for_the_rest_starts_anew(store: Store, image: MadeImage) -> None:
    given = parcels(image)[1]
    Path(store.writer.session.partial, f"sha256-{given.descriptor.digest[7:]}").write_bytes(b"other bytes")
    ingest(store, given)
    assert store.has_layer(given.diff_id)


def test_a_rest_that_does_not_fit_is_dropped(store: Store, image: MadeImage) -> None:
    given = parcels(image)[1]
    partial = Path(store.writer.session.partial, f"sha256-{given.descriptor.digest[7:]}")
    partial.write_bytes(b"\x1f\x8b other bytes")
    here = store.partial(given.descriptor.digest)
    with pytest.raises(DataError):
        store.ingest_layer(given.descriptor, given.diff_id, feed(given.data[here:]))
    assert not partial.exists()
    assert store.partial(given.descriptor.digest) == 0
    ingest(store, given)


def test_a_blob_that_is_here_is_not_fetched_again(store: Store, image: MadeImage) -> None:
    """A kill came between the blob and the layer, or the layer was lost."""
    given = parcels(image)[0]
    ingest(store, given)
    remove_tree(f"{store.root}/layers/{given.diff_id[7:]}")
    assert not store.has_layer(given.diff_id)
    assert store.partial(given.descriptor.digest) == len(given.data)

    def read(size: int) -> bytes:
        raise AssertionError("nothing has to be fetched")

    store.ingest_layer(given.descriptor, given.diff_id, read)
    assert store.has_layer(given.diff_id)


def test_another_blob_of_a_layer_that_is_here(store: Store) -> None:
    plain = one_file("same", 3000)
    first, second = parcel(gzip.compress(plain), plain), parcel(zstd.compress(plain), plain)
    ingest(store, first)
    before = os.stat(f"{store.root}/layers/{first.diff_id[7:]}").st_ino
    ingest(store, second)
    assert os.stat(f"{store.root}/layers/{first.diff_id[7:]}").st_ino == before
    assert store.has_blob(first.descriptor.digest)
    assert store.has_blob(second.descriptor.digest)
    forged = second._replace(descriptor=Descriptor(OCI_LAYER, digest(b"x"), 1), data=b"x")
    with pytest.raises(DataError):
        ingest(store, forged)


def test_several_threads_and_commands_share_one_download(
    store: Store, image: MadeImage, open_store: Callable[[], Store]
) -> None:
    given = parcels(image)[1]
    fetched: list[int] = []
    waited = threading.Event()
    failures: list[BaseException] = []

    def fetch(from_store: Store) -> None:
        def took(count: int) -> None:
            if count == 0:
                waited.set()

        def read(size: int) -> bytes:
            assert waited.wait(20), "the others do not wait"
            chunk = served(size)
            fetched.append(len(chunk))
            return chunk

        try:
            here = from_store.partial(given.descriptor.digest, progress=took)
            served = feed(given.data[here:])
            from_store.ingest_layer(given.descriptor, given.diff_id, read, progress=took)
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=fetch, args=(s,)) for s in (store, open_store(), open_store())]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []
    assert sum(fetched) == len(given.data)
    assert store.has_layer(given.diff_id)


def test_the_same_layer_twice_in_one_image(store: Store) -> None:
    twice = make_image([one_file("same"), one_file("same")])
    both = parcels(twice)
    threads = [threading.Thread(target=ingest, args=(store, p)) for p in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(commit(store, twice, "two").layers) == 2


def test_a_waiting_command_can_be_interrupted(
    store: Store, image: MadeImage, open_store: Callable[[], Store]
) -> None:
    given = parcels(image)[1]
    store.partial(given.descriptor.digest)

    def told(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_store().partial(given.descriptor.digest, progress=told)


def test_what_a_power_cut_may_have_taken_is_made_again(store: Store, image: MadeImage) -> None:
    """Unpacked in an earlier boot and never synced: the files may be empty."""
    given = parcels(image)[0]
    ingest(store, given)
    path = Path(store.root, "layers", given.diff_id[7:], "diff/file")
    path.write_text("")
    store.writer.db.execute("UPDATE layers SET boot = 'another boot'")
    assert not store.has_layer(given.diff_id)
    ingest(store, given)
    assert path.read_text() == "low"
    add(store, image, "one")
    store.writer.db.execute("UPDATE layers SET boot = 'another boot' WHERE boot != ''")
    assert store.has_layer(given.diff_id), "a committed one is on disk"


def test_a_full_disk_leaves_nothing(small_disk: Path, image: MadeImage) -> None:
    with Store(str(small_disk / "store"), limits=LIMITS) as store:
        big = make_image([one_file("big", 4 << 20)])
        before = files(store.root)
        for _ in range(2):
            with pytest.raises(HostError, match="no space left on device") as caught:
                ingest(store, parcels(big)[0])
            assert "knarr rmi" in caught.value.hint
            assert [f for f in files(store.root) if not f.startswith("tmp/making-")] == before
        add(store, image, "fits")
        audit(store)


def test_a_disk_that_fills_while_files_are_made(small_disk: Path) -> None:
    plain = layer({"zeros": bytes(30 << 20)})
    with Store(str(small_disk / "store")) as store:
        with pytest.raises(HostError, match=r"unpack 'zeros': no space left on device"):
            ingest(store, parcel(zlib.compress(plain, wbits=31), plain))
        store.close()
        assert files(store.root) == []


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match="store .*/file: "):
        Store(str(tmp_path / "file")).has_layer("sha256:" + "0" * 64)
