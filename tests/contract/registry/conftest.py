"""The registries these tests pull from, and clients that do not wait long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

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
