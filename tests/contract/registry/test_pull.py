"""engine.pull between a registry and a store: what is asked for, in which order, and what is left after trouble."""

from __future__ import annotations

import json
import os
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.registry.conftest import IMPATIENT, QUICK
from contract.registry.hostile import Hostile, answer, cut, error, status, tamper
from harness.images import MANIFEST, MadeImage, digest, layer, make_image
from knarr.engine.pull import Progress, Pulled, pull
from knarr.errors import DataError, KnarrError, NotFound, RemoteError, UsageError
from knarr.oci.digest import Digest
from knarr.oci.image import DOCKER_LIST, OCI_INDEX
from knarr.oci.reference import Reference
from knarr.store.store import Store


class Shelf(Store):
    """The real store, and what the tests ask about it."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.before_layer: Callable[[], None] = lambda: None

    def ingest_layer(self, *args: Any, **named: Any) -> Any:
        self.before_layer()
        return super().ingest_layer(*args, **named)

    def named(self) -> set[str]:
        return {name for image in self.images() for name in image.names}

    def layers(self) -> set[str]:
        return set(os.listdir(f"{self.root}/layers"))

    def being_made(self) -> list[str]:
        """Everything in tmp/ that is neither a lock nor a directory kept for the next try."""
        found = [name for _, _, files in os.walk(f"{self.root}/tmp") for name in files]
        return [name for name in found if name != "lock"]


class Heard(Progress):
    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def started(self, reference: Reference) -> None:
        self.events.append(("started", str(reference)))

    def warned(self, message: str) -> None:
        self.events.append(("warned", message))

    def waiting(self, digest: str, size: int) -> None:
        self.events.append(("waiting", digest))

    def exists(self, digest: str) -> None:
        self.events.append(("exists", digest))

    def complete(self, digest: str) -> None:
        self.events.append(("complete", digest))

    def finished(self, reference: Reference, digest: str, newer: bool) -> None:
        self.events.append(("finished", digest, newer))


Fetch = Callable[..., Pulled]


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    with Shelf(str(tmp_path / "store")) as store:
        store.has_layer("sha256:" + "0" * 64)  # its directories are made
        yield store


@pytest.fixture
def fetch(shelf: Shelf, tmp_path: Path) -> Fetch:
    def run(text: str, **options: Any) -> Pulled:
        env = {"HOME": str(tmp_path)}
        options = {"config": (str(tmp_path),), "env": env, "retry": QUICK, "limits": IMPATIENT, **options}
        return pull(shelf, text, **options)

    return run


def entry(image: MadeImage, platform: str) -> dict[str, Any]:
    os, arch, *variant = platform.split("/")
    named = {"os": os, "architecture": arch, **({"variant": variant[0]} if variant else {})}
    return {
        "mediaType": MANIFEST,
        "digest": digest(image.manifest),
        "size": len(image.manifest),
        "platform": named,
    }


def index(hostile: Hostile, repository: str, kind: str = OCI_INDEX, /, **platforms: MadeImage) -> str:
    entries = []
    for name, image in platforms.items():
        hostile.add(repository, name, image)
        entries.append(entry(image, name.replace("_", "/")))
    return hostile.put(
        repository,
        "latest",
        json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": entries}).encode(),
        kind,
    )


def for_platform(image: MadeImage, architecture: str) -> MadeImage:
    """The same layers under another config."""
    manifest = json.loads(image.manifest)
    config = json.loads(image.blobs[manifest["config"]["digest"]])
    body = json.dumps({**config, "architecture": architecture}).encode()
    manifest["config"] |= {"digest": digest(body), "size": len(body)}
    return MadeImage(json.dumps(manifest).encode(), {**image.blobs, digest(body): body})


# ---- what is fetched


def test_by_tag(hostile: Hostile, fetch: Fetch, shelf: Shelf, image: MadeImage) -> None:
    heard = Heard()
    reference = hostile.add("team/app", "v1", image)
    pulled = fetch(reference, progress=heard)
    assert str(pulled.reference) == reference
    assert shelf.named() == {reference}
    small, big = (d["digest"] for d in json.loads(image.manifest)["layers"])
    assert heard.events[:3] == [("started", reference), ("waiting", small), ("waiting", big)]
    assert set(heard.events[3:5]) == {("complete", small), ("complete", big)}
    assert heard.events[5:] == [("finished", digest(image.manifest), True)]


def test_what_is_here_is_not_fetched(hostile: Hostile, fetch: Fetch, shelf: Shelf, image: MadeImage) -> None:
    reference = hostile.add("a", "latest", image)
    fetch(reference)
    asked = len(hostile.seen)
    heard = Heard()
    fetch(reference, progress=heard)
    assert [(r.method, r.path) for r in hostile.seen[asked:]] == [
        ("GET", "/v2/"),
        ("HEAD", "/v2/a/manifests/latest"),
    ]
    assert [e[0] for e in heard.events] == ["started", "finished"]
    assert heard.events[-1] == ("finished", digest(image.manifest), False)


def test_by_digest_needs_no_network_when_all_is_here(
    hostile: Hostile, fetch: Fetch, image: MadeImage
) -> None:
    hostile.add("a", "latest", image)
    reference = f"{hostile.host}/a@{digest(image.manifest)}"
    fetch(reference)
    asked = len(hostile.seen)
    fetch(reference)
    assert len(hostile.seen) == asked


def test_only_what_is_new_of_a_new_version(hostile: Hostile, fetch: Fetch, image: MadeImage) -> None:
    reference = hostile.add("a", "latest", image)
    fetch(reference)
    base = [zlib.decompress(image.blobs[d["digest"]], 31) for d in json.loads(image.manifest)["layers"]]
    hostile.add("a", "latest", make_image([*base, layer({"new": "x"})], Cmd=["new"]))
    heard = Heard()
    asked = hostile.count("/blobs/")
    fetch(reference, progress=heard)
    assert hostile.count("/blobs/") - asked == 2, "the config and one layer"
    assert [e[0] for e in heard.events].count("exists") == 2
    assert heard.events[-1][2] is True


def test_policies(hostile: Hostile, fetch: Fetch, image: MadeImage) -> None:
    reference = hostile.add("a", "latest", image)
    with pytest.raises(NotFound, match="no such image"):
        fetch(reference, policy="never")
    assert hostile.seen == []
    fetch(reference, policy="missing")
    asked = len(hostile.seen)
    assert fetch(reference, policy="missing").image.id == fetch(reference, policy="never").image.id
    assert len(hostile.seen) == asked


def test_the_same_layer_twice_is_fetched_once(hostile: Hostile, fetch: Fetch, shelf: Shelf) -> None:
    same = layer({"a": "b"})
    fetch(hostile.add("a", "latest", make_image([same, layer({"c": "d"}), same])))
    assert hostile.count("/blobs/") == 3
    assert len(shelf.layers()) == 2


def test_an_image_without_layers(hostile: Hostile, fetch: Fetch, shelf: Shelf) -> None:
    reference = hostile.add("a", "latest", make_image([]))
    fetch(reference)
    assert shelf.named() == {reference}


# ---- platforms


@pytest.mark.parametrize("kind", [OCI_INDEX, DOCKER_LIST])
def test_the_platform_of_an_index(
    hostile: Hostile, fetch: Fetch, shelf: Shelf, image: MadeImage, kind: str
) -> None:
    other = for_platform(image, "s390x")
    top = index(
        hostile, "a", kind, linux_s390x=other, linux_amd64=image, linux_arm64_v8=for_platform(image, "arm64")
    )
    reference = f"{hostile.host}/a:latest"
    heard = Heard()
    assert fetch(reference, platform="linux/s390x", progress=heard).image.config.architecture == "s390x"
    assert heard.events[-1] == ("finished", top, True)
    assert fetch(reference, platform="linux/arm64").image.config.architecture == "arm64"
    with pytest.raises(NotFound, match="for platform linux/riscv64") as failure:
        fetch(reference, platform="linux/riscv64")
    assert failure.value.hint == "it is there for linux/s390x, linux/amd64, linux/arm64/v8"
    kept = shelf.find_image(reference)
    assert kept is not None
    assert kept.config.architecture == "arm64"


def test_an_image_for_another_machine(hostile: Hostile, fetch: Fetch, shelf: Shelf, image: MadeImage) -> None:
    reference = hostile.add("a", "latest", for_platform(image, "s390x"))
    with pytest.raises(NotFound, match="it is for linux/s390x"):
        fetch(reference, platform="linux/ppc64le")
    assert not shelf.images()
    heard = Heard()
    fetch(reference, progress=heard)
    assert "is for platform linux/s390x" in next(e[1] for e in heard.events if e[0] == "warned")
    with pytest.raises(NotFound):
        fetch(reference, platform="linux/ppc64le", policy="never")


def test_an_index_in_an_index(hostile: Hostile, fetch: Fetch, image: MadeImage) -> None:
    inner = index(hostile, "a", linux_s390x=for_platform(image, "s390x"))
    for _ in range(3):
        document = {"mediaType": OCI_INDEX, "digest": inner, "size": len(hostile.manifests["a", inner].body)}
        document["platform"] = {"os": "linux", "architecture": "s390x"}
        inner = hostile.put(
            "a", "latest", json.dumps({"schemaVersion": 2, "manifests": [document]}).encode(), OCI_INDEX
        )
    fetch(f"{hostile.host}/a", platform="linux/s390x")
    document["digest"], document["size"] = inner, len(hostile.manifests["a", inner].body)
    hostile.put("a", "latest", json.dumps({"schemaVersion": 2, "manifests": [document]}).encode(), OCI_INDEX)
    with pytest.raises(DataError, match="indexes within indexes"):
        fetch(f"{hostile.host}/a", platform="linux/s390x")


def test_an_index_that_lies_about_sizes(hostile: Hostile, fetch: Fetch, image: MadeImage) -> None:
    hostile.add("a", "x", image)
    lying = {**entry(image, "linux/s390x"), "size": 1}
    hostile.put("a", "latest", json.dumps({"schemaVersion": 2, "manifests": [lying]}).encode(), OCI_INDEX)
    with pytest.raises(DataError, match="the index says 1 bytes"):
        fetch(f"{hostile.host}/a", platform="linux/s390x")


# ---- short names


def test_search_goes_on_to_the_next_registry(
    hostile: Hostile, fetch: Fetch, shelf: Shelf, image: MadeImage, tmp_path: Path
) -> None:
    hostile.add("second/app", "latest", image)
    other = Hostile()
    try:
        (tmp_path / "registries.toml").write_text(
            f'search = ["{other.host}", "{hostile.host}"]\n[aliases]\nmine = "{hostile.host}/second/app"\n'
        )
        assert str(fetch("second/app").reference) == f"{hostile.host}/second/app:latest"
        assert str(fetch("mine:latest").reference) == f"{hostile.host}/second/app:latest"
        with pytest.raises(NotFound, match=f"manifest for {other.host}/second/none:latest not found"):
            fetch("second/none")
        (tmp_path / "registries.toml").write_text(f'[registry."{hostile.host}"]\nblocked = true\n')
        with pytest.raises(UsageError, match="blocked"):
            fetch(f"{hostile.host}/second/app")
    finally:
        other.close()


# ---- bad weather


@pytest.mark.parametrize(
    ("where", "trouble", "kind", "line"),
    [
        (
            "/manifests/",
            answer(error(404, "MANIFEST_UNKNOWN", "unknown")),
            NotFound,
            "manifest for .* not found",
        ),
        ("/manifests/", tamper, DataError, "is not what its digest says"),
        ("/manifests/", status(500), RemoteError, "answered 500"),
        ("CONFIG", tamper, DataError, "is not what its digest says"),
        ("CONFIG", status(403), RemoteError, "refused blob"),
        ("LAYER", tamper, DataError, "damaged"),
        ("LAYER", cut(100), RemoteError, "cut the connection off"),
        ("LAYER", answer(error(404, "BLOB_UNKNOWN", "gone")), NotFound, "though its manifest names it"),
    ],
)
def test_trouble_leaves_no_image(
    hostile: Hostile,
    fetch: Fetch,
    shelf: Shelf,
    image: MadeImage,
    where: str,
    trouble: Any,
    kind: type[KnarrError],
    line: str,
) -> None:
    reference = hostile.add("a", "latest", image)
    document = json.loads(image.manifest)
    where = {"CONFIG": document["config"]["digest"], "LAYER": document["layers"][1]["digest"]}.get(
        where, where
    )
    hostile.on(where, trouble)
    with pytest.raises(kind, match=line) as failure:
        fetch(reference)
    assert failure.value.message.isprintable()
    assert shelf.images() == []
    hostile.rules.clear()
    fetch(reference)
    assert shelf.named() == {reference}


def test_an_update_that_fails_leaves_the_old_image(
    hostile: Hostile, fetch: Fetch, shelf: Shelf, image: MadeImage
) -> None:
    reference = hostile.add("a", "latest", image)
    old = fetch(reference).image
    hostile.add("a", "latest", make_image([layer({"new": "x" * 1000})]))
    hostile.on("/blobs/", status(404))
    with pytest.raises(NotFound):
        fetch(reference)
    assert shelf.find_image(reference) == old


def test_one_failure_ends_the_others_at_once(hostile: Hostile, fetch: Fetch, shelf: Shelf) -> None:
    """The layers that stall would take the whole patience; the one that is missing is known at once."""
    from contract.registry.hostile import stall
    from knarr.registry.transport import Limits

    made = make_image([layer({f"f{i}": "x" * i}) for i in range(4)])
    reference = hostile.add("a", "latest", made)
    digests = [d["digest"] for d in json.loads(made.manifest)["layers"]]
    hostile.on(digests[0], answer(error(404, "BLOB_UNKNOWN", "gone")))
    for each in digests[1:]:
        hostile.on(each, stall(3))
    with pytest.raises(NotFound, match="though its manifest names it"):
        fetch(reference, limits=Limits(read_s=60.0))
    assert not shelf.layers()
    assert not [name for name in shelf.being_made() if "sha256" not in name]


def test_an_interrupt_ends_the_pull_and_its_threads(
    hostile: Hostile, fetch: Fetch, shelf: Shelf, image: MadeImage
) -> None:
    import signal

    from contract.registry.hostile import stall
    from knarr.registry.transport import Limits

    reference = hostile.add("a", "latest", image)
    hostile.on("/blobs/", stall(3), method="GET")
    document = json.loads(image.manifest)
    hostile.rules.clear()
    for each in document["layers"]:
        hostile.on(each["digest"], stall(3))
    reached = threading.Semaphore(0)
    shelf.before_layer = reached.release

    def interrupt() -> None:
        for _ in document["layers"]:
            reached.acquire()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        fetch(reference, limits=Limits(read_s=60.0))
    thread.join()
    assert shelf.images() == []
    assert shelf.layers() == set()
    assert threading.active_count() <= before + 3, "handlers of the test server, none of ours"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            {"config": {"mediaType": "application/vnd.cncf.helm.config.v1+json"}},
            "not a container image but an artifact",
        ),
        ({"mediaType": OCI_INDEX}, "mediaType"),
        ({"manifests": []}, "an index and a manifest at once"),
        ({"schemaVersion": 1}, "schema 1"),
    ],
)
def test_what_is_no_image(
    hostile: Hostile, fetch: Fetch, shelf: Shelf, image: MadeImage, change: dict[str, Any], line: str
) -> None:
    document = json.loads(image.manifest)
    for key, value in change.items():
        document[key] = {**document[key], **value} if isinstance(value, dict) else value
    hostile.blobs.update(image.blobs)
    hostile.put("a", "latest", json.dumps(document).encode(), MANIFEST)
    with pytest.raises(DataError, match=line):
        fetch(f"{hostile.host}/a")
    assert not shelf.images()


def test_a_digest_nobody_has(hostile: Hostile, fetch: Fetch) -> None:
    absent = Digest("sha256:" + "0" * 64)
    with pytest.raises(NotFound, match=f"manifest for {hostile.host}/a@{absent} not found"):
        fetch(f"{hostile.host}/a@{absent}")


@pytest.mark.parametrize("compression", ["zstd", "", "gzip"])
def test_layers_however_compressed(
    hostile: Hostile, fetch: Fetch, shelf: Shelf, image: MadeImage, compression: str
) -> None:
    try:
        from compression import zstd
    except ImportError:  # before 3.14
        from backports import zstd

    document = json.loads(image.manifest)
    for each in document["layers"]:
        plain = zlib.decompress(image.blobs[each["digest"]], 31)
        packed = {"zstd": zstd.compress(plain), "": plain, "gzip": zlib.compress(plain, 1, 31)}[compression]
        kind = "application/vnd.oci.image.layer.v1.tar" + (f"+{compression}" if compression else "")
        each |= {"mediaType": kind, "digest": digest(packed), "size": len(packed)}
        hostile.blobs[digest(packed)] = packed
    hostile.blobs.update(image.blobs)
    hostile.put("a", "latest", json.dumps(document).encode(), MANIFEST)
    pulled = fetch(f"{hostile.host}/a")
    assert Path(pulled.image.layers[-1], "etc/motd").read_text() == "hello\n"


def test_a_layer_known_under_another_compression_is_not_fetched(
    hostile: Hostile, fetch: Fetch, shelf: Shelf, image: MadeImage
) -> None:
    fetch(hostile.add("a", "latest", image))
    document = json.loads(image.manifest)
    for each in document["layers"]:
        packed = zlib.compress(zlib.decompress(image.blobs[each["digest"]], 31), 9, 31)
        each |= {"digest": digest(packed), "size": len(packed)}
        hostile.blobs[digest(packed)] = packed
    hostile.put("b", "latest", json.dumps(document).encode(), MANIFEST)
    asked = hostile.count("/blobs/")
    fetch(f"{hostile.host}/b")
    assert hostile.count("/blobs/") == asked
    assert shelf.named() == {f"{hostile.host}/a:latest", f"{hostile.host}/b:latest"}
