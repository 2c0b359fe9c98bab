"""A small image of this machine's busybox and one page, its layer written by knarr, uploaded to a registry.

python make_image.py DIRECTORY HOST:PORT/NAME:TAG
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

from upload import upload

from knarr.oci import json
from knarr.oci.document import encode
from knarr.oci.image import OCI_CONFIG, OCI_MANIFEST, Descriptor, ImageConfig, Manifest, RootFs, RunConfig
from knarr.oci.platform import host
from knarr.store.layer_writer import Look
from knarr.store.scratch import write_compressed

PAGE = "<h1>Land ahoy</h1> This page comes out of a container that knarr runs.\n"
CONFIG = RunConfig(
    env=("PATH=/usr/sbin:/usr/bin:/sbin:/bin",),
    entrypoint=("httpd", "-f", "-v", "-h", "/www"),
    cmd=("-p", "80"),
    exposed_ports={"80/tcp": {}},
    working_dir="/www",
)


def main(rootfs: Path, reference: str) -> None:
    write_rootfs(rootfs)
    packed = io.BytesIO()
    tree = os.open(rootfs, os.O_RDONLY | os.O_DIRECTORY)
    layer = write_compressed(tree, packed.write, Look(owner=(0, 0)))
    os.close(tree)

    platform = host(os.uname().machine)
    document = ImageConfig(platform.architecture, "linux", RootFs("layers", (layer.diff_id,)), config=CONFIG)
    config = json.dumps(encode(document)).encode()
    described = Descriptor(OCI_CONFIG, digest(config), len(config))
    manifest = json.dumps(encode(Manifest(2, described, (layer.descriptor,), OCI_MANIFEST))).encode()
    blobs = {described.digest: config, layer.descriptor.digest: packed.getvalue()}
    upload(reference, manifest, OCI_MANIFEST, blobs)
    print(f"{reference}: one layer of {layer.descriptor.size} bytes, {digest(manifest)}")


def write_rootfs(rootfs: Path) -> None:
    """busybox with a link per applet, a page, and the few files a shell looks for."""
    program = shutil.which("busybox")
    if program is None:
        raise SystemExit("busybox is not installed: Debian's busybox-static")
    for folder in ("bin", "etc", "dev", "proc", "sys", "tmp", "www"):
        (rootfs / folder).mkdir(parents=True)
    shutil.copy(program, rootfs / "bin/busybox")
    for applet in subprocess.run(
        [program, "--list"], capture_output=True, text=True, check=True
    ).stdout.split():
        if applet != "busybox":
            (rootfs / "bin" / applet).symlink_to("busybox")
    (rootfs / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    (rootfs / "etc/group").write_text("root:x:0:\n")
    (rootfs / "www/index.html").write_text(PAGE)


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
