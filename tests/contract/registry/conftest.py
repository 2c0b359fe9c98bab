"""The registries these tests pull from, and clients that do not wait long."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from contract.registry.hostile import Hostile
from harness.images import MadeImage, layer, make_image
from knarr.registry.client import Client
from knarr.registry.credentials import Credentials
from knarr.registry.registries import Registries, decode
from knarr.registry.retry import Retry
from knarr.registry.transport import Limits

QUICK = Retry(attempts=4, base_s=0.01, cap_s=0.05)
IMPATIENT = Limits(connect_s=2.0, read_s=0.4)

MakeClient = Callable[..., Client]


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    registry = Hostile()
    yield registry
    registry.close()


class Authority(NamedTuple):
    ca: Path
    cert: Path
    key: Path
    client_cert: Path
    client_key: Path


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A private authority, a certificate for 127.0.0.1, localhost and registry.invalid, and a client's."""
    at = tmp_path_factory.mktemp("tls")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=at, check=True, capture_output=True)

    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "3650")
    openssl(
        "req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=test authority",
        "-addext", "keyUsage=critical,keyCertSign",
    )  # fmt: skip
    for name, usage in (("server", "serverAuth"), ("client", "clientAuth")):
        (at / f"{name}.ext").write_text(
            f"subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:registry.invalid\nextendedKeyUsage={usage}\n"
            "authorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n"
        )
        openssl(
            "req", "-new", *new_key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}"
        )
        openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
            "-days", "3650", "-extfile", f"{name}.ext", "-out", f"{name}.cert",
        )  # fmt: skip
    return Authority(
        at / "ca.crt", at / "server.cert", at / "server.key", at / "client.cert", at / "client.key"
    )


@pytest.fixture
def secure(authority: Authority) -> Iterator[Hostile]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.cert, authority.key)
    registry = Hostile(context)
    yield registry
    registry.close()


@pytest.fixture
def client(tmp_path: Any) -> Iterator[MakeClient]:
    """`client(settings={…registries.toml…}, env={…})`: no credentials but those in `env`, little patience."""
    made: list[Client] = []

    def make(settings: dict[str, Any] | None = None, **env: str) -> Client:
        registries = decode(settings, "registries.toml") if settings else Registries()
        given = {"HOME": str(tmp_path), **env}
        found = Client(registries, Credentials(given), given, (str(tmp_path),), retry=QUICK, limits=IMPATIENT)
        made.append(found)
        return found

    yield make
    for each in made:
        each.cancel()
        each.close()


@pytest.fixture(scope="session")
def image() -> MadeImage:
    """Two layers, the second one a megabyte that does not compress."""
    import random

    noise = random.Random(1).randbytes(1_000_000)
    return make_image([layer({"etc/motd": "hello\n"}), layer({"noise": noise})], Cmd=["cat", "/etc/motd"])
