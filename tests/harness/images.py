"""Images for tests, made without knarr: a busybox root filesystem, layers, OCI archives.

image = make_image([layer({"etc/motd": "hello"})], Cmd=["cat", "/etc/motd"])
write_archive(image, "localhost/hello:1", path)      then: knarr load -i PATH
registry.push(image, "hello:1")
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from harness.machine import Machine

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
BUSYBOX = "localhost/busybox:latest"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}


class MadeImage(NamedTuple):
    manifest: bytes
    blobs: dict[str, bytes]  # by digest: the config and the compressed layers, not the manifest


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def architecture() -> str:
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def layer(files: Mapping[str, str | bytes | tarfile.TarInfo]) -> bytes:
    """An uncompressed layer: path → content, or a ready TarInfo for anything else (links, devices, hostile names)."""
    out = io.BytesIO()
    with tarfile.TarFile(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.mode = 0o644
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def layer_of(rootfs: Path) -> bytes:
    """A directory as an uncompressed layer, owned by root, without times: the same bytes each time."""
    out = io.BytesIO()

    def plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = info.gid = info.mtime = 0
        info.uname = info.gname = ""
        return info

    with tarfile.TarFile(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(os.listdir(rootfs)):
            tar.add(rootfs / name, name, filter=plain)
    return out.getvalue()


def make_image(layers: Sequence[bytes], **config: Any) -> MadeImage:
    """An OCI image of uncompressed layers (lowest first); `config` has the keys of the image config's `config`."""
    document = {
        "architecture": architecture(),
        "os": "linux",
        "config": {"Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], **config},
        "rootfs": {"type": "layers", "diff_ids": [digest(data) for data in layers]},
    }
    body = json.dumps(document).encode()
    packed = [gzip.compress(data, 1, mtime=0) for data in layers]
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _descriptor(CONFIG, body),
        "layers": [_descriptor(LAYER, data) for data in packed],
    }
    return MadeImage(json.dumps(manifest).encode(), {digest(data): data for data in (body, *packed)})


def _descriptor(kind: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "digest": digest(data), "size": len(data)}


def write_archive(image: MadeImage, name: str, path: Path) -> Path:
    """An OCI layout in a tar file, as `knarr load -i`, `podman load -i` and `docker load -i` (25+) read it."""
    entry = _descriptor(MANIFEST, image.manifest) | {
        "annotations": {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
    }
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]}
    files: dict[str, bytes] = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": json.dumps(index).encode(),
    }
    for data in (image.manifest, *image.blobs.values()):
        files["blobs/" + digest(data).replace(":", "/")] = data
    path.write_bytes(layer(files))
    return path


@pytest.fixture(scope="session")
def busybox_rootfs(machine: Machine) -> Path:
    """A root filesystem with this machine's static busybox and nothing else. Shared: do not write to it."""
    rootfs = machine.state / "busybox-rootfs"
    for folder in ("bin", "etc", "dev", "proc", "sys", "tmp", "root", "var/tmp", "home", "www"):
        (rootfs / folder).mkdir(parents=True)
    program = shutil.which("busybox")
    if program is None:
        pytest.fail("busybox is not installed: Debian's busybox-static")
    shutil.copy2(program, rootfs / "bin/busybox")
    for applet in subprocess.run(
        [program, "--list"], capture_output=True, text=True, check=True
    ).stdout.split():
        if applet != "busybox":
            (rootfs / "bin" / applet).symlink_to("busybox")
    (rootfs / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"
    )
    (rootfs / "etc/group").write_text("root:x:0:\nalice:x:1000:\nstaff:x:50:alice\nnogroup:x:65534:\n")
    (rootfs / "etc/hostname").write_text("busybox\n")
    for folder in ("tmp", "var/tmp"):
        (rootfs / folder).chmod(0o1777)
    return rootfs


@pytest.fixture(scope="session")
def busybox_image(busybox_rootfs: Path) -> MadeImage:
    return make_image([layer_of(busybox_rootfs)], Cmd=["sh"])


@pytest.fixture(scope="session")
def busybox_archive(machine: Machine, busybox_image: MadeImage) -> Path:
    """An OCI archive of the busybox image, named `localhost/busybox:latest`."""
    path = write_archive(busybox_image, BUSYBOX, machine.state / "busybox.oci.tar")
    path.chmod(0o644)
    return path


@pytest.fixture(scope="session")
def layered(busybox_rootfs: Path) -> MadeImage:
    """busybox, and a second layer that adds a file and takes one away."""
    second = layer({"etc/marker": "second layer\n", "etc/.wh.hostname": ""})
    return make_image([layer_of(busybox_rootfs), second], Cmd=["cat", "/etc/marker"], Labels={"made": "here"})
