"""Images that podman, buildah, skopeo and docker push to a real registry are pulled by name and run."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.command import Knarr
from harness.images import MadeImage, write_archive
from harness.peers import Tool
from harness.registry import Registry

pytestmark = pytest.mark.requires("root", "docker-registry")
RUN = ("run", "--rm", "--network", "none", "--pull", "always")


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_layers_of_each_compression(
    compression: str, knarr: Knarr, skopeo: Tool, registry: Registry, layered: MadeImage, tmp_path: Path
) -> None:
    archive = write_archive(layered, "layered:1", tmp_path / "a.tar")
    reference = f"{registry.host}/skopeo-{compression}:1"
    options = ["--dest-compress-format", compression, "--dest-compress", "--dest-tls-verify=false"]
    skopeo("copy", "-q", *options, f"oci-archive:{archive}", f"docker://{reference}")
    assert knarr.ok(*RUN, reference) == "second layer"


@pytest.mark.parametrize("form", ["oci", "docker"])
def test_what_buildah_commits(
    form: str, knarr: Knarr, buildah: Tool, registry: Registry, busybox_rootfs: Path, tmp_path: Path
) -> None:
    (tmp_path / "marker").write_text("by buildah\n")
    container = buildah("from", "scratch")
    try:
        buildah("copy", "-q", container, str(busybox_rootfs), "/")
        buildah("copy", "-q", container, str(tmp_path / "marker"), "/etc/marker")
        buildah("config", "--cmd", "cat /etc/marker", "--user", "alice", container)
        reference = f"{registry.host}/buildah-{form}:1"
        buildah("commit", "-q", "--format", form, "--tls-verify=false", container, f"docker://{reference}")
    finally:
        buildah("rm", container)
    assert knarr.ok(*RUN, reference) == "by buildah"
    assert knarr.ok(*RUN, reference, "id", "-u") == "1000"


def test_what_docker_pushes(
    knarr: Knarr, docker: Tool, registry: Registry, busybox_rootfs: Path, tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(busybox_rootfs, tmp_path / "root", symlinks=True)
    reference = f"{registry.host}/docker:1"
    (tmp_path / "Dockerfile").write_text('FROM scratch\nCOPY root /\nCMD ["cat", "/etc/passwd"]\n')
    docker("build", "-q", "-t", reference, str(tmp_path))
    docker("push", "-q", reference)
    docker("rmi", "-f", reference)
    assert knarr.ok(*RUN, reference).startswith("root:x:0:0")


def test_an_index_that_podman_pushes(
    knarr: Knarr, podman: Tool, registry: Registry, layered: MadeImage, tmp_path: Path
) -> None:
    podman("load", "-q", "-i", str(write_archive(layered, "localhost/layered:1", tmp_path / "a.tar")))
    reference = f"{registry.host}/index:1"
    try:
        podman("manifest", "create", "several")
        podman("manifest", "add", "several", "containers-storage:localhost/layered:1")
        podman("manifest", "push", "--all", "--tls-verify=false", "several", f"docker://{reference}")
    finally:
        podman("rmi", "-f", "several", "localhost/layered:1")
    assert knarr.ok(*RUN, reference) == "second layer"
