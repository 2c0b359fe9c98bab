"""Requests over HTTPS through a proxy: the way through it, its refusals, TLS within its own TLS."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.registry.conftest import Authority, MakeClient
from contract.registry.hostile import Hostile
from harness.images import MadeImage
from knarr.errors import RemoteError
from knarr.oci.image import Manifest
from knarr.oci.manifest import read_manifest
from knarr.oci.reference import parse

REGISTRY = "registry.invalid"


class Tunnels:
    """A proxy that leads every CONNECT to one address, whatever name was asked for."""

    def __init__(self, target: tuple[str, int], context: ssl.SSLContext | None = None) -> None:
        self._target = target
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.heads: list[str] = []
        self.answer = b"HTTP/1.1 200 Connection established\r\n\r\n"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        try:
            if self._context is not None:
                near = self._context.wrap_socket(near, server_side=True)
            head = b""
            while b"\r\n\r\n" not in head:
                head += near.recv(4096)
            self.heads.append(head.decode())
            near.sendall(self.answer)
            if b" 200 " not in self.answer:
                near.close()
                return
            far = socket.create_connection(self._target)
            threading.Thread(target=_pass, args=(near, far), daemon=True).start()
            _pass(far, near)
        except OSError:
            near.close()


def _pass(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    finally:
        target.close()


@pytest.fixture
def tunnels(secure: Hostile) -> Iterator[Tunnels]:
    proxy = Tunnels(_address(secure))
    yield proxy
    proxy.close()


@pytest.fixture
def secure_tunnels(secure: Hostile, authority: Authority) -> Iterator[Tunnels]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.cert, authority.key)
    proxy = Tunnels(_address(secure), context)
    yield proxy
    proxy.close()


def _address(registry: Hostile) -> tuple[str, int]:
    name, _, port = registry.host.partition(":")
    return name, int(port)


def _known(authority: Authority) -> dict[str, dict[str, dict[str, str]]]:
    return {"registry": {REGISTRY: {"ca": str(authority.ca)}}}


def test_a_way_through(
    secure: Hostile, tunnels: Tunnels, client: MakeClient, image: MadeImage, authority: Authority
) -> None:
    secure.add("a", "latest", image)
    c = client(_known(authority), HTTPS_PROXY=f"http://me:p%40w@{tunnels.host}")
    assert c.source(parse(f"{REGISTRY}/a")).manifest().body == image.manifest
    (head,) = tunnels.heads
    assert head.startswith(f"CONNECT {REGISTRY}:443 HTTP/1.1\r\n")
    assert "Proxy-Authorization: Basic bWU6cEB3\r\n" in head
    assert "Proxy-Authorization" not in secure.seen[-1].headers, "the proxy's password is the proxy's"


def test_the_certificate_is_the_registrys(
    secure: Hostile, tunnels: Tunnels, client: MakeClient, image: MadeImage
) -> None:
    secure.add("a", "latest", image)
    with pytest.raises(RemoteError, match="self-signed|unable to get local issuer"):
        client(HTTPS_PROXY=tunnels.host).source(parse(f"{REGISTRY}/a")).manifest()


def test_a_proxy_that_refuses(tunnels: Tunnels, client: MakeClient, authority: Authority) -> None:
    tunnels.answer = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    with pytest.raises(RemoteError, match=f"proxy for {REGISTRY}: it answered 407") as failure:
        client(_known(authority), HTTPS_PROXY=tunnels.host).source(parse(f"{REGISTRY}/a")).manifest()
    assert "HTTPS_PROXY" in failure.value.hint


def test_tls_within_tls(
    secure: Hostile,
    secure_tunnels: Tunnels,
    client: MakeClient,
    image: MadeImage,
    authority: Authority,
    tmp_path: Path,
) -> None:
    secure.add("a", "latest", image)
    place = tmp_path / "certs.d" / secure_tunnels.host
    place.mkdir(parents=True)
    (place / "ca.crt").write_bytes(authority.ca.read_bytes())
    source = client(_known(authority), HTTPS_PROXY=f"https://{secure_tunnels.host}").source(
        parse(f"{REGISTRY}/a")
    )
    found = source.manifest()
    assert found.body == image.manifest
    manifest = read_manifest(found.body, found.media_type, "it")
    assert isinstance(manifest, Manifest)
    largest = max(manifest.layers, key=lambda layer: layer.size)
    assert largest.size > 1_000_000
    assert source.document(largest, 2_000_000) == image.blobs[largest.digest]
