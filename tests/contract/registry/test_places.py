"""Where a reference is looked for: mirrors, TLS with private authorities, plain HTTP, blocked registries, proxies."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.registry.conftest import Authority, MakeClient
from contract.registry.hostile import Hostile, answer, cut, error, stall, status, tamper
from harness.images import MANIFEST, MadeImage
from harness.registry import free_port
from knarr.errors import HostError, NotFound, RemoteError, UsageError
from knarr.oci.image import Manifest
from knarr.oci.manifest import read_manifest
from knarr.oci.reference import parse


@pytest.fixture
def mirror() -> Iterator[Hostile]:
    registry = Hostile()
    yield registry
    registry.close()


def layers(image: MadeImage) -> Manifest:
    found = read_manifest(image.manifest, MANIFEST, "image")
    assert isinstance(found, Manifest)
    return found


# ---- TLS


def test_private_authority_by_settings(
    secure: Hostile, client: MakeClient, image: MadeImage, authority: Authority
) -> None:
    reference = parse(secure.add("a", "latest", image))
    settings = {"registry": {secure.host: {"ca": str(authority.ca)}}}
    assert client(settings).source(reference).manifest().body == image.manifest


def test_private_authority_by_certs_d(
    secure: Hostile, client: MakeClient, image: MadeImage, authority: Authority, tmp_path: Path
) -> None:
    reference = parse(secure.add("a", "latest", image))
    place = tmp_path / "certs.d" / secure.host
    place.mkdir(parents=True)
    (place / "ca.crt").write_bytes(authority.ca.read_bytes())
    assert client().source(reference).manifest().body == image.manifest
    assert secure.count("/v2/", "GET") == 1, "no probe: who has an authority speaks TLS"


def test_an_authority_that_is_not_the_one(
    secure: Hostile, client: MakeClient, image: MadeImage, authority: Authority
) -> None:
    """Even on loopback: a configured authority means that the certificate counts."""
    reference = parse(secure.add("a", "latest", image))
    settings = {"registry": {secure.host: {"insecure": False}}}
    with pytest.raises(RemoteError, match="self-signed|unable to get local issuer") as failure:
        client(settings).source(reference).manifest()
    assert "certs.d" in failure.value.hint
    assert secure.seen == []


def test_loopback_is_not_verified_and_not_always_plain(
    secure: Hostile, client: MakeClient, image: MadeImage
) -> None:
    reference = parse(secure.add("a", "latest", image))
    assert client().source(reference).manifest().body == image.manifest


def test_a_plain_registry_where_tls_is_demanded(
    hostile: Hostile, client: MakeClient, image: MadeImage
) -> None:
    reference = parse(hostile.add("a", "latest", image))
    with pytest.raises(RemoteError, match="server gave HTTP response to HTTPS client") as failure:
        client({"registry": {hostile.host: {"insecure": False}}}).source(reference).manifest()
    assert "insecure = true" in failure.value.hint


def test_client_certificate(
    client: MakeClient, image: MadeImage, authority: Authority, tmp_path: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.cert, authority.key)
    context.load_verify_locations(authority.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # in 1.3 the refusal comes after the handshake
    registry = Hostile(context)
    try:
        reference = parse(registry.add("a", "latest", image))
        known = {"ca": str(authority.ca)}
        with pytest.raises(RemoteError, match=registry.host):
            client({"registry": {registry.host: known}}).source(reference).manifest()
        pair = {"client-cert": str(authority.client_cert), "client-key": str(authority.client_key)}
        named = client({"registry": {registry.host: {**known, **pair}}})
        assert named.source(reference).manifest().body == image.manifest
        place = tmp_path / "certs.d" / registry.host
        place.mkdir(parents=True)
        pair_of_files = {"me.cert": authority.client_cert, "me.key": authority.client_key}
        for name, path in {"ca.crt": authority.ca, **pair_of_files}.items():
            (place / name).write_bytes(path.read_bytes())
        assert client().source(reference).manifest().body == image.manifest
        (place / "me.key").unlink()
        with pytest.raises(HostError, match="its key me.key is missing"):
            client().source(reference).manifest()
    finally:
        registry.close()


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_an_authority_that_cannot_be_read(
    secure: Hostile, client: MakeClient, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(HostError, match="ca.pem: (no such file|not a certificate)|ca.pem: No such"):
        client({"registry": {secure.host: {"ca": str(path)}}}).source(parse(f"{secure.host}/a")).manifest()


# ---- mirrors


def test_the_mirror_is_asked_first(
    hostile: Hostile, mirror: Hostile, client: MakeClient, image: MadeImage
) -> None:
    mirror.add("hub/team/a", "v1", image)
    settings = {"registry": {hostile.host: {"mirrors": [f"http://{mirror.host}/hub/"]}}}
    source = client(settings).source(parse(f"{hostile.host}/team/a:v1"))
    assert source.manifest().body == image.manifest
    reader = source.blob(layers(image).layers[1])
    assert len(b"".join(iter(reader.read, b""))) == layers(image).layers[1].size
    assert hostile.seen == []


@pytest.mark.parametrize("trouble", [status(500), status(404), status(401), tamper, stall(-1), cut(3)])
def test_a_mirror_that_fails_costs_nothing_but_time(
    hostile: Hostile, mirror: Hostile, client: MakeClient, image: MadeImage, trouble: object
) -> None:
    reference = parse(hostile.add("a", "latest", image))
    mirror.add("a", "latest", image)
    mirror.on("/a/", trouble)  # type: ignore[arg-type]
    settings = {"registry": {hostile.host: {"mirrors": [f"127.0.0.1:{free_port()}", mirror.host]}}}
    source = client(settings).source(reference)
    assert source.manifest().body == image.manifest
    assert source.head() is not None


def test_a_blob_goes_on_at_the_next_place(
    hostile: Hostile, mirror: Hostile, client: MakeClient, image: MadeImage
) -> None:
    reference = parse(hostile.add("a", "latest", image))
    mirror.add("a", "latest", image)
    big = layers(image).layers[1]
    mirror.on("/blobs/", cut(300_000), times=1)
    mirror.on("/blobs/", answer(error(404, "BLOB_UNKNOWN", "gone")))
    settings = {"registry": {hostile.host: {"mirrors": [mirror.host]}}}
    reader = client(settings).source(reference).blob(big)
    assert b"".join(iter(reader.read, b"")) == image.blobs[big.digest]
    assert [r.headers["Range"] for r in hostile.seen if "/blobs/" in r.path] == ["bytes=300000-"]


def test_only_the_mirrors(hostile: Hostile, mirror: Hostile, client: MakeClient, image: MadeImage) -> None:
    reference = parse(hostile.add("a", "latest", image))
    settings = {"registry": {hostile.host: {"mirrors": [mirror.host], "mirrors-only": True}}}
    with pytest.raises(NotFound, match="not found"):
        client(settings).source(reference).manifest()
    assert hostile.seen == []


def test_blocked(hostile: Hostile, client: MakeClient) -> None:
    settings = {"registry": {f"{hostile.host}/bad": {"blocked": True}}}
    with pytest.raises(UsageError, match=f"registry {hostile.host} is blocked by registries.toml"):
        client(settings).source(parse(f"{hostile.host}/bad/image"))
    client(settings).source(parse(f"{hostile.host}/good/image"))


# ---- proxies


def test_a_proxy_is_used_and_loopback_never_is(
    hostile: Hostile, client: MakeClient, image: MadeImage
) -> None:
    """The registry itself plays the proxy: a request through one has the whole URL in its first line."""
    hostile.add("a", "latest", image)
    c = client(
        {"registry": {"registry.invalid": {"mirrors": ["http://registry.invalid"], "mirrors-only": True}}},
        HTTP_PROXY=f"http://me:pw@{hostile.host}",
    )
    assert c.source(parse("registry.invalid/a")).manifest().body == image.manifest
    assert hostile.seen[0].path == "http://registry.invalid/v2/a/manifests/latest"
    assert hostile.seen[0].headers["Proxy-Authorization"] == "Basic bWU6cHc="
    plain = client(HTTP_PROXY="http://127.0.0.1:9", HTTPS_PROXY="http://127.0.0.1:9")
    assert plain.source(parse(f"{hostile.host}/a")).manifest().body == image.manifest


def test_a_proxy_that_is_not_there(client: MakeClient) -> None:
    c = client(HTTPS_PROXY=f"127.0.0.1:{free_port()}")
    with pytest.raises(RemoteError, match="proxy for registry.invalid: connection refused") as failure:
        c.source(parse("registry.invalid/a")).manifest()
    assert "HTTPS_PROXY" in failure.value.hint


def test_a_proxy_of_a_kind_we_do_not_speak(client: MakeClient) -> None:
    with pytest.raises(HostError, match="only http and https proxies"):
        client(HTTPS_PROXY="socks5://127.0.0.1:1080").source(parse("registry.invalid/a")).manifest()


def test_no_such_host(client: MakeClient) -> None:
    with pytest.raises(RemoteError, match="registry registry.invalid: no such host name"):
        client().source(parse("registry.invalid/a")).manifest()
