"""Archives cross over: what knarr saves, podman, docker and skopeo read; what they save, knarr loads and runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.command import Knarr
from harness.images import MadeImage, write_archive
from harness.peers import Tool

NAME = "localhost/layered:1"
pytestmark = pytest.mark.requires("root")


@pytest.fixture
def ours(knarr: Knarr, layered: MadeImage, tmp_path: Path) -> str:
    """The two-layer image in knarr's store."""
    knarr.ok("load", "-i", str(write_archive(layered, NAME, tmp_path / "layered.tar")))
    return NAME


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_podman_loads_what_knarr_saves(
    form: str, knarr: Knarr, ours: str, podman: Tool, tmp_path: Path
) -> None:
    knarr.ok("save", "--format", form, "-o", str(tmp_path / "a.tar"), ours)
    podman("load", "-q", "-i", str(tmp_path / "a.tar"))
    try:
        assert podman("image", "inspect", "--format", "{{json .Config.Cmd}}", ours) == '["cat","/etc/marker"]'
        assert podman("image", "inspect", "--format", "{{.Labels.made}}", ours) == "here"
        root = Path(podman("image", "mount", ours))
        assert (root / "etc/marker").read_text() == "second layer\n"
        assert not (root / "etc/hostname").exists()
    finally:
        podman("image", "unmount", "-f", ours)
        podman("rmi", "-f", ours)


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_knarr_runs_what_podman_saves(
    form: str, knarr: Knarr, podman: Tool, layered: MadeImage, tmp_path: Path
) -> None:
    podman("load", "-q", "-i", str(write_archive(layered, NAME, tmp_path / "layered.tar")))
    try:
        podman("save", "-q", "--format", form, "-o", str(tmp_path / "b.tar"), NAME)
    finally:
        podman("rmi", "-f", NAME)
    knarr.ok("load", "-i", str(tmp_path / "b.tar"))
    assert knarr.ok("run", "--rm", "--network", "none", NAME) == "second layer"
    assert knarr("run", "--rm", "--network", "none", NAME, "test", "-e", "/etc/hostname.absent").code == 1


def test_docker_loads_what_knarr_saves(knarr: Knarr, ours: str, docker: Tool, tmp_path: Path) -> None:
    knarr.ok("save", "-o", str(tmp_path / "a.tar"), ours)
    assert NAME in docker("load", "-i", str(tmp_path / "a.tar"))
    assert docker("image", "inspect", "--format", "{{json .Config.Cmd}}", NAME) == '["cat","/etc/marker"]'
    assert docker("image", "inspect", "--format", "{{len .RootFS.Layers}}", NAME) == "2"
    docker("rmi", "-f", NAME)


def test_knarr_runs_what_docker_builds_and_saves(
    knarr: Knarr, docker: Tool, busybox_rootfs: Path, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text(
        "FROM scratch\nCOPY root /\nCOPY marker /etc/marker\nENV A=b\nWORKDIR /tmp/deep\n"
        'ENTRYPOINT ["sh", "-c"]\nCMD ["cat /etc/marker; echo $A; pwd"]\n'
    )
    (tmp_path / "marker").write_text("by docker\n")
    import shutil

    shutil.copytree(busybox_rootfs, tmp_path / "root", symlinks=True)
    docker("build", "-q", "-t", "localhost/built:1", str(tmp_path))
    docker("save", "-o", str(tmp_path / "c.tar"), "localhost/built:1")
    docker("rmi", "-f", "localhost/built:1")
    knarr.ok("load", "-i", str(tmp_path / "c.tar"))
    assert knarr.ok("run", "--rm", "--network", "none", "localhost/built:1") == "by docker\nb\n/tmp/deep"


def test_skopeo_reads_the_layout_knarr_saves(knarr: Knarr, ours: str, skopeo: Tool, tmp_path: Path) -> None:
    knarr.ok("save", "--format", "oci-dir", "-o", str(tmp_path / "layout"), ours)
    skopeo("copy", "-q", f"oci:{tmp_path}/layout", f"docker-archive:{tmp_path}/d.tar:{NAME}")
    knarr.ok("rmi", NAME)
    knarr.ok("load", "-i", str(tmp_path / "d.tar"))
    assert knarr.ok("run", "--rm", "--network", "none", NAME) == "second layer"


def test_knarr_runs_what_umoci_makes(knarr: Knarr, umoci: Tool, busybox_rootfs: Path, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    (tmp_path / "marker").write_text("by umoci\n")
    umoci("init", "--layout", str(layout))
    umoci("new", "--image", f"{layout}:1")
    umoci("insert", "--image", f"{layout}:1", str(busybox_rootfs / "bin"), "/bin")
    umoci("insert", "--image", f"{layout}:1", str(tmp_path / "marker"), "/etc/marker")
    umoci("config", "--image", f"{layout}:1", "--config.cmd", "cat", "--config.cmd", "/etc/marker")
    loaded = knarr.ok("load", "-i", str(layout))
    assert loaded.startswith("Loaded image"), loaded
    assert knarr.ok("run", "--rm", "--network", "none", loaded.rpartition(" ")[2]) == "by umoci"
