"""The OCI image specification's documents as records: descriptor, index, manifest, image config.

Docker's schema 2 manifest and manifest list have the same shape under other media types; both are read here.
"""

from __future__ import annotations

from knarr.oci.document import document
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"

INDEX_TYPES = (OCI_INDEX, DOCKER_LIST)
MANIFEST_TYPES = (OCI_MANIFEST, DOCKER_MANIFEST)


@document(os_version="os.version", os_features="os.features")
class Platform(Record):
    """image-index.md. `variant` as in `arm64/v8`."""

    architecture: str = ""
    os: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()
    variant: str = ""


class Descriptor(Record):
    """descriptor.md. `digest` is checked by `knarr.oci.digest.Digest` where it is used; `size` in bytes."""

    media_type: str
    digest: str
    size: int
    urls: tuple[str, ...] = ()
    annotations: Mapping[str, str] = {}
    data: str = ""
    artifact_type: str = ""
    platform: Platform | None = None


class Index(Record):
    schema_version: int
    manifests: tuple[Descriptor, ...]
    media_type: str = ""
    artifact_type: str = ""
    subject: Descriptor | None = None
    annotations: Mapping[str, str] = {}


class Manifest(Record):
    schema_version: int
    config: Descriptor
    layers: tuple[Descriptor, ...]
    media_type: str = ""
    artifact_type: str = ""
    subject: Descriptor | None = None
    annotations: Mapping[str, str] = {}


@document("pascal")
class Healthcheck(Record):
    """Docker's extension. Durations in nanoseconds."""

    test: tuple[str, ...] = ()
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@document("pascal")
class RunConfig(Record):
    """config.md, property `config`: what a container is started with when nothing else is asked."""

    user: str = ""
    exposed_ports: Mapping[str, object] = {}
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    volumes: Mapping[str, object] = {}
    working_dir: str = ""
    labels: Mapping[str, str] = {}
    stop_signal: str = ""
    args_escaped: bool = False
    healthcheck: Healthcheck | None = None
    shell: tuple[str, ...] = ()
    on_build: tuple[str, ...] = ()


@document("snake")
class RootFs(Record):
    type: str
    diff_ids: tuple[str, ...] = ()


@document("snake")
class History(Record):
    created: str = ""
    author: str = ""
    created_by: str = ""
    comment: str = ""
    empty_layer: bool = False


@document("snake", os_version="os.version", os_features="os.features")
class ImageConfig(Record):
    """config.md. The digest of its JSON is the image's id."""

    architecture: str
    os: str
    rootfs: RootFs
    created: str = ""
    author: str = ""
    config: RunConfig = RunConfig()
    history: tuple[History, ...] = ()
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()
