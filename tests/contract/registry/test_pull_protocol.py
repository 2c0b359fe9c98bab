"""The happy path, the same for our own test registry and for Debian's docker-registry."""

from __future__ import annotations

import json
from typing import NamedTuple

import pytest

from contract.registry.conftest import MakeClient
from contract.registry.hostile import Handler, Hostile, Reply
from harness.images import MANIFEST, MadeImage, digest
from knarr.errors import NotFound
from knarr.oci.image import DOCKER_CONFIG, DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, Index, Manifest
from knarr.oci.manifest import CONFIG_MAX, read_config, read_manifest
from knarr.oci.reference import parse
from knarr.registry.client import verify


class Served(NamedTuple):
    """A registry with the image under `reference`."""

    host: str
    reference: str
    digest: str


@pytest.fixture(params=["ours", "docker-registry"])
def served(request: pytest.FixtureRequest, image: MadeImage) -> Served:
    if request.param == "ours":
        hostile: Hostile = request.getfixturevalue("hostile")
        return Served(hostile.host, hostile.add("contract/protocol", "v1", image), digest(image.manifest))
    real = request.getfixturevalue("registry")
    return Served(real.host, real.push(image, "contract/protocol:v1"), digest(image.manifest))


def test_by_tag(served: Served, client: MakeClient, image: MadeImage) -> None:
    found = client().source(parse(served.reference)).manifest()
    assert (found.body, found.media_type, found.digest) == (image.manifest, MANIFEST, served.digest)


def test_by_digest(served: Served, client: MakeClient, image: MadeImage) -> None:
    reference = parse(f"{served.host}/contract/protocol@{served.digest}")
    assert client().source(reference).manifest().body == image.manifest


def test_head(served: Served, client: MakeClient, image: MadeImage) -> None:
    found = client().source(parse(served.reference)).head()
    assert found is not None
    assert (found.digest, found.size, found.body) == (served.digest, len(image.manifest), b"")


def test_config_and_layers(served: Served, client: MakeClient, image: MadeImage) -> None:
    source = client().source(parse(served.reference))
    manifest = read_manifest(image.manifest, MANIFEST, "it")
    assert isinstance(manifest, Manifest)
    config = read_config(source.document(manifest.config, CONFIG_MAX), manifest, "it")
    assert config.config.cmd == ("cat", "/etc/motd")
    for layer in manifest.layers:
        reader = source.blob(layer)
        assert b"".join(iter(reader.read, b"")) == image.blobs[layer.digest]
        half = source.blob(layer, offset=layer.size // 2)
        assert b"".join(iter(half.read, b"")) == image.blobs[layer.digest][layer.size // 2 :]


def test_what_is_not_there(served: Served, client: MakeClient) -> None:
    with pytest.raises(NotFound, match="manifest for .*/contract/protocol:none not found"):
        client().source(parse(f"{served.host}/contract/protocol:none")).manifest()
    with pytest.raises(NotFound, match="not found"):
        client().source(parse(f"{served.host}/contract/protocol:none")).head()
    with pytest.raises(NotFound, match="not found|pull access denied"):
        client().source(parse(f"{served.host}/contract/absent")).manifest()


@pytest.mark.parametrize("kind", [OCI_INDEX, DOCKER_LIST])
def test_an_index(hostile: Hostile, client: MakeClient, image: MadeImage, kind: str) -> None:
    hostile.add("a", "amd64", image)
    inner = DOCKER_MANIFEST if kind == DOCKER_LIST else MANIFEST
    entry = {
        "mediaType": inner, "digest": digest(image.manifest), "size": len(image.manifest),
        "platform": {"os": "linux", "architecture": "amd64"},
    }  # fmt: skip
    body = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": [entry]}).encode()
    hostile.put("a", "latest", body, kind)
    source = client().source(parse(f"{hostile.host}/a"))
    found = source.manifest()
    index = read_manifest(found.body, found.media_type, "it")
    assert isinstance(index, Index)
    assert source.manifest(index.manifests[0].digest).body == image.manifest


def test_docker_schema_2(hostile: Hostile, client: MakeClient, image: MadeImage) -> None:
    document = json.loads(image.manifest)
    document["mediaType"] = DOCKER_MANIFEST
    document["config"]["mediaType"] = DOCKER_CONFIG
    for layer in document["layers"]:
        layer["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    hostile.put("a", "latest", json.dumps(document).encode(), DOCKER_MANIFEST)
    found = client().source(parse(f"{hostile.host}/a")).manifest()
    verify(found.body, found.digest, "it")
    assert isinstance(read_manifest(found.body, found.media_type, "it"), Manifest)


def test_one_connection_serves_many_requests(hostile: Hostile, client: MakeClient, image: MadeImage) -> None:
    reference = hostile.add("a", "latest", image)
    opened: list[object] = []
    accept = hostile._server.get_request
    hostile._server.get_request = lambda: (opened.append(1), accept())[1]  # type: ignore[method-assign, func-returns-value]
    source = client().source(parse(reference))
    for _ in range(3):
        source.head()
        manifest = read_manifest(source.manifest().body, MANIFEST, "it")
        assert isinstance(manifest, Manifest)
        for layer in manifest.layers:
            reader = source.blob(layer)
            while reader.read():
                pass
    assert len(opened) == 1


def test_a_connection_the_server_let_go_of(hostile: Hostile, client: MakeClient, image: MadeImage) -> None:
    """It closes an idle one without having said so: the next request takes another, and nobody notices."""
    source = client().source(parse(hostile.add("a", "latest", image)))

    def answer_and_leave(handler: Handler, honest: Reply) -> bool:
        handler.send(honest)
        handler.close_connection = True
        return True

    for _ in range(3):
        hostile.on("/manifests/", answer_and_leave)
        assert source.manifest().body == image.manifest
    assert hostile.count("/manifests/", "GET") == 3
