"""A registry that lies, stalls, cuts off, redirects in circles: what can be mended is, the rest is one line."""

from __future__ import annotations

import json
import threading
import time

import pytest

from contract.registry.conftest import MakeClient
from contract.registry.hostile import (
    Action,
    Hostile,
    Reply,
    answer,
    change,
    cut,
    cut_chunked,
    drip,
    error,
    garbage,
    longer,
    redirect,
    reset,
    stall,
    status,
    tamper,
)
from harness.images import MANIFEST, MadeImage, digest
from knarr.errors import DataError, KnarrError, NotFound, RemoteError
from knarr.oci.digest import Digest
from knarr.oci.image import Descriptor, Manifest
from knarr.oci.manifest import read_manifest
from knarr.oci.reference import parse
from knarr.registry.client import Client, Fetched, verify
from knarr.registry.failures import Cancelled


def manifest_of(client: Client, reference: str) -> Fetched:
    return client.source(parse(reference)).manifest()


def layers(image: MadeImage) -> tuple[Descriptor, ...]:
    found = read_manifest(image.manifest, MANIFEST, "image")
    assert isinstance(found, Manifest)
    return found.layers


def fetch(client: Client, reference: str, descriptor: Descriptor, offset: int = 0) -> bytes:
    reader = client.source(parse(reference)).blob(descriptor, offset=offset)
    return b"".join(iter(lambda: reader.read(100_000), b""))


def fails(client: Client, reference: str, image: MadeImage, kind: type[KnarrError]) -> str:
    """The one line a user reads when the big layer cannot be had."""
    with pytest.raises(kind) as failure:
        fetch(client, reference, layers(image)[1])
    return clear(failure.value)


def clear(failure: KnarrError) -> str:
    assert failure.message.isprintable(), "a registry must not write to the terminal"
    assert len(failure.message) < 500
    return failure.message


# ---- what is mended


@pytest.mark.parametrize(
    "trouble",
    [
        cut(0), cut(300_000), cut_chunked(200_000), reset, stall(-1), stall(100_000),
        status(500), status(502), status(503), status(429), status(429, Retry_After="0"), garbage(b""),
    ],
    ids="cut0 cut300k chunked reset stall stall100k 500 502 503 429 429-after eof".split(),
)  # fmt: skip
def test_a_blob_survives_trouble_once_or_twice(
    hostile: Hostile, client: MakeClient, image: MadeImage, trouble: Action
) -> None:
    reference = hostile.add("a", "latest", image)
    hostile.on("/blobs/", trouble, times=2)
    big = layers(image)[1]
    assert fetch(client(), reference, big) == image.blobs[big.digest]


def test_a_cut_is_resumed_where_it_was(hostile: Hostile, client: MakeClient, image: MadeImage) -> None:
    reference = hostile.add("a", "latest", image)
    hostile.on("/blobs/", cut(400_000), times=2)
    big = layers(image)[1]
    assert fetch(client(), reference, big) == image.blobs[big.digest]
    asked = [r.headers.get("Range") for r in hostile.seen if "/blobs/" in r.path]
    assert asked == [None, "bytes=400000-", "bytes=800000-"]


def test_a_registry_that_ignores_range_is_read_past(
    hostile: Hostile, client: MakeClient, image: MadeImage
) -> None:
    reference = hostile.add("a", "latest", image)
    hostile.ranges = False
    hostile.on("/blobs/", cut(600_000), times=2)
    big = layers(image)[1]
    assert fetch(client(), reference, big) == image.blobs[big.digest]
    assert fetch(client(), reference, big, offset=999_999) == image.blobs[big.digest][999_999:]


def test_a_blob_from_the_middle(hostile: Hostile, client: MakeClient, image: MadeImage) -> None:
    reference = hostile.add("a", "latest", image)
    big = layers(image)[1]
    assert fetch(client(), reference, big, offset=123_456) == image.blobs[big.digest][123_456:]
    assert fetch(client(), reference, big, offset=big.size) == b""


def test_a_chunked_blob_without_length(hostile: Hostile, client: MakeClient, image: MadeImage) -> None:
    reference = hostile.add("a", "latest", image)
    hostile.on("/blobs/", longer(0, chunked=True))
    big = layers(image)[1]
    assert fetch(client(), reference, big) == image.blobs[big.digest]


@pytest.mark.parametrize("trouble", [status(500), status(429), reset, cut(10), stall(-1), stall(20)])
def test_a_manifest_survives_trouble(
    hostile: Hostile, client: MakeClient, image: MadeImage, trouble: Action
) -> None:
    reference = hostile.add("a", "latest", image)
    hostile.on("/manifests/", trouble, times=2)
    assert manifest_of(client(), reference).body == image.manifest


def test_redirects_are_followed(hostile: Hostile, client: MakeClient, image: MadeImage) -> None:
    store = Hostile()
    try:
        store.blobs.update(image.blobs)
        reference = hostile.add("a", "latest", image)
        big = layers(image)[1]
        hostile.on("/blobs/", redirect(f"http://{store.host}/v2/elsewhere/blobs/{big.digest}"))
        store.on("/blobs/", cut(500_000), times=1)
        assert fetch(client(), reference, big) == image.blobs[big.digest]
        assert store.seen[1].headers["Range"] == "bytes=500000-"
    finally:
        store.close()


# ---- what is not


def test_the_registry_that_keeps_failing(hostile: Hostile, client: MakeClient, image: MadeImage) -> None:
    reference = hostile.add("a", "latest", image)
    hostile.on("/blobs/", status(500, "the \x1b[31mdisk\n is full"))
    line = fails(client(), reference, image, RemoteError)
    assert f"registry {hostile.host} answered 500 Internal Server Error: the  [31mdisk  is full" in line
    assert hostile.count("/blobs/") == 4


def test_a_registry_that_never_makes_progress(hostile: Hostile, client: MakeClient, image: MadeImage) -> None:
    reference = hostile.add("a", "latest", image)
    hostile.on("/blobs/", cut(10))
    assert "cut the connection off" in fails(client(), reference, image, RemoteError)
    assert hostile.count("/blobs/") < 10


def test_a_registry_that_sends_nothing(hostile: Hostile, client: MakeClient, image: MadeImage) -> None:
    reference = hostile.add("a", "latest", image)
    hostile.on("/blobs/", stall(-1))
    assert f"registry {hostile.host} stalls" in fails(client(), reference, image, RemoteError)


def test_a_registry_that_drips(hostile: Hostile, client: MakeClient, image: MadeImage) -> None:
    reference = hostile.add("a", "latest", image)
    hostile.on("/blobs/", drip(0.1))
    assert "sends too slowly" in fails(client(), reference, image, RemoteError)


@pytest.mark.parametrize(
    ("trouble", "line"),
    [
        (longer(10, chunked=False), "its manifest says"),
        (longer(10, chunked=True), "sends more than"),
        (change(Content_Encoding="gzip"), "came encoded as 'gzip'"),
        (answer(Reply(200, b"short")), "its manifest says"),
    ],
)
def test_sizes_that_lie(
    hostile: Hostile, client: MakeClient, image: MadeImage, trouble: Action, line: str
) -> None:
    reference = hostile.add("a", "latest", image)
    hostile.on("/blobs/", trouble)
    assert line in fails(client(), reference, image, DataError)


@pytest.mark.parametrize(
    "span",
    ["bytes 0-9/10", "bytes 400001-{last}/{size}", "bytes 400000-{last}/1", "items 400000-{last}/{size}", ""],
)
def test_ranges_that_lie(hostile: Hostile, client: MakeClient, image: MadeImage, span: str) -> None:
    reference = hostile.add("a", "latest", image)
    size = layers(image)[1].size
    hostile.on("/blobs/", cut(400_000), times=1)
    hostile.on("/blobs/", change(Content_Range=span.format(last=size - 1, size=size)))
    assert "asked for bytes 400000-" in fails(client(), reference, image, RemoteError)


def test_documents_that_lie(hostile: Hostile, client: MakeClient, image: MadeImage) -> None:
    reference = hostile.add("a", "latest", image)
    config = read_manifest(image.manifest, MANIFEST, "image")
    assert isinstance(config, Manifest)
    source = client().source(parse(reference))
    hostile.on("/blobs/", tamper, times=1)
    with pytest.raises(DataError, match="is not what its digest says"):
        source.document(config.config, 1 << 20)
    with pytest.raises(DataError, match="at most 10 make sense"):
        source.document(config.config, 10)


def test_a_manifest_that_is_not_its_digest(hostile: Hostile, client: MakeClient, image: MadeImage) -> None:
    reference = hostile.add("a", "latest", image)
    hostile.on("/manifests/", tamper)
    with pytest.raises(DataError, match="is not what its digest says"):
        manifest_of(client(), reference)
    with pytest.raises(DataError, match="is not what its digest says"):
        manifest_of(client(), f"{hostile.host}/a@{digest(image.manifest)}")


@pytest.mark.parametrize("announced", ["sha256:" + "0" * 64, "sha256:nonsense", "md5:" + "0" * 32])
def test_an_announced_digest_that_lies(
    hostile: Hostile, client: MakeClient, image: MadeImage, announced: str
) -> None:
    reference = hostile.add("a", "latest", image)
    hostile.on("/manifests/", change(Docker_Content_Digest=announced))
    with pytest.raises(DataError, match="digest"):
        manifest_of(client(), reference)
    # By digest the announcement does not matter: ours is the one that counts
    assert manifest_of(client(), f"{hostile.host}/a@{digest(image.manifest)}").body == image.manifest


def test_no_announced_digest_is_fine(hostile: Hostile, client: MakeClient, image: MadeImage) -> None:
    hostile.manifests["a", "latest"] = Reply(200, image.manifest, MANIFEST)
    found = manifest_of(client(), f"{hostile.host}/a")
    assert found.digest == digest(image.manifest)
    assert client().source(parse(f"{hostile.host}/a")).head() is None


def test_a_huge_manifest(hostile: Hostile, client: MakeClient) -> None:
    hostile.put("a", "latest", b" " * ((4 << 20) + 1), MANIFEST)
    with pytest.raises(DataError, match="announces 4194305 bytes"):
        manifest_of(client(), f"{hostile.host}/a")
    hostile.on("/manifests/", longer(0, chunked=True))
    with pytest.raises(DataError, match="sends more than"):
        manifest_of(client(), f"{hostile.host}/a")


def test_a_redirect_in_a_circle(hostile: Hostile, client: MakeClient, image: MadeImage) -> None:
    reference = hostile.add("a", "latest", image)
    hostile.on("/blobs/", redirect("/b/blobs/1"))
    hostile.on("/b/blobs/", redirect("/b/blobs/1"))
    assert "redirects in a loop" in fails(client(), reference, image, RemoteError)


def test_redirects_without_end(hostile: Hostile, client: MakeClient, image: MadeImage) -> None:
    reference = hostile.add("a", "latest", image)

    def further(handler: object, honest: Reply) -> bool:
        return redirect(f"/blobs/{hostile.count('/blobs/')}")(handler, honest)  # type: ignore[arg-type]

    hostile.on("/blobs/", further)
    assert "redirects more than 10 times" in fails(client(), reference, image, RemoteError)
    assert hostile.count("/blobs/") == 11


@pytest.mark.parametrize("target", ["ftp://x/y", "file:///etc/passwd", "http://[::1", "http://a:b/"])
def test_redirects_to_nowhere(hostile: Hostile, client: MakeClient, image: MadeImage, target: str) -> None:
    reference = hostile.add("a", "latest", image)
    hostile.on("/blobs/", redirect(target))
    assert "redirects to" in fails(client(), reference, image, RemoteError)


def test_what_is_not_http(hostile: Hostile, client: MakeClient, image: MadeImage) -> None:
    reference = hostile.add("a", "latest", image)
    c = client()
    manifest_of(c, reference)
    hostile.on("/blobs/", garbage(b"SSH-2.0-OpenSSH_9.2\r\n"))
    assert "does not speak HTTP" in fails(c, reference, image, RemoteError)


def test_headers_without_end(hostile: Hostile, client: MakeClient, image: MadeImage) -> None:
    reference = hostile.add("a", "latest", image)
    hostile.on("/blobs/", garbage(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000 + b"\r\n"))
    assert hostile.host in fails(client(), reference, image, RemoteError)
    hostile.on("/manifests/", garbage(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000))
    with pytest.raises(RemoteError, match=hostile.host):
        manifest_of(client(), reference)


@pytest.mark.parametrize(
    ("reply", "kind", "line"),
    [
        (
            error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
            NotFound,
            "manifest for {} not found: manifest unknown",
        ),
        (Reply(404, b"<html>"), NotFound, "manifest for {} not found"),
        (error(404, "NAME_UNKNOWN", "not known"), NotFound, "pull access denied for {}, repository does"),
        (error(401, "UNAUTHORIZED", "authentication required"), NotFound, "pull access denied for {}"),
        (
            error(403, "DENIED", "requested access to the resource is denied"),
            NotFound,
            "pull access denied for {}",
        ),
        (error(429, "TOOMANYREQUESTS", "slow down"), RemoteError, "too many requests to {}: slow down"),
        (Reply(500, b""), RemoteError, "registry {} answered 500 Internal Server Error"),
        (Reply(418, b"\xff\x00"), RemoteError, "registry {} answered 418"),
        (Reply(301, b""), RemoteError, "registry {} answered 301"),
        (Reply(204, b""), RemoteError, "registry {} answered 204"),
    ],
)
def test_refusals(
    hostile: Hostile, client: MakeClient, reply: Reply, kind: type[KnarrError], line: str
) -> None:
    hostile.on("/manifests/", answer(reply))
    with pytest.raises(kind) as failure:
        manifest_of(client(), f"{hostile.host}/team/app:v1")
    text = clear(failure.value)
    shown = hostile.host if "registry {" in line or "to {" in line else f"{hostile.host}/team/app"
    assert line.format(shown + (":v1" if "manifest for" in line else "")) in text


def test_a_long_wait_is_told_and_not_waited(hostile: Hostile, client: MakeClient) -> None:
    hostile.on("/manifests/", status(429, "pull rate limit", Retry_After="3600"))
    with pytest.raises(RemoteError, match="too many requests"):
        manifest_of(client(), f"{hostile.host}/a")
    assert hostile.count("/manifests/") == 1


def test_a_blob_its_manifest_names_but_the_registry_lost(
    hostile: Hostile, client: MakeClient, image: MadeImage
) -> None:
    reference = hostile.add("a", "latest", image)
    hostile.blobs.clear()
    assert "though its manifest names it" in fails(client(), reference, image, NotFound)


def test_nobody_answers(hostile: Hostile, client: MakeClient) -> None:
    from harness.registry import free_port

    with pytest.raises(RemoteError, match="connection refused"):
        manifest_of(client(), f"127.0.0.1:{free_port()}/a")


def test_cancel_wakes_a_stalled_reader(hostile: Hostile, client: MakeClient, image: MadeImage) -> None:
    from knarr.registry.credentials import Credentials
    from knarr.registry.registries import Registries
    from knarr.registry.transport import Limits

    reference = hostile.add("a", "latest", image)
    hostile.on("/blobs/", stall(1000))
    patient = Client(Registries(), Credentials({}), {}, (), limits=Limits(read_s=60.0))
    failures: list[BaseException] = []
    started = threading.Event()

    def read() -> None:
        reader = patient.source(parse(reference)).blob(layers(image)[1])
        try:
            reader.read()
            started.set()
            reader.read()
        except BaseException as e:
            failures.append(e)

    thread = threading.Thread(target=read)
    thread.start()
    assert started.wait(10)
    time.sleep(0.05)  # let it get into its wait; too early is as good a test
    patient.cancel()
    thread.join(10)
    assert not thread.is_alive()
    patient.close()
    assert [type(f) for f in failures] == [Cancelled]


def test_verify_knows_other_algorithms() -> None:
    import hashlib

    verify(b"x", Digest("sha512:" + hashlib.sha512(b"x").hexdigest()), "it")
    with pytest.raises(DataError):
        verify(b"y", Digest("sha512:" + hashlib.sha512(b"x").hexdigest()), "it")


def test_error_bodies_are_cut(hostile: Hostile, client: MakeClient) -> None:
    body = json.dumps({"errors": [{"code": "X", "message": "m" * 50_000}] * 3}).encode()
    hostile.on("/manifests/", answer(Reply(400, body)))
    with pytest.raises(RemoteError) as failure:
        manifest_of(client(), f"{hostile.host}/a")
    clear(failure.value)
