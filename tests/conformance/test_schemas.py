"""Everything knarr writes, against the specifications' own JSON schemas."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.command import Knarr
from harness.images import MadeImage, write_archive
from harness.runtime import Bundle, Runtime
from harness.schemas import Schemas

OPTIONS = {
    "plain": [],
    "terminal": ["-t", "-w", "/tmp", "-u", "1000:50", "--hostname", "h", "--init"],
    "mounts": [
        "-v",
        "/etc:/host:ro",
        "--tmpfs",
        "/t:size=1m",
        "--mount",
        "type=bind,source=/etc,target=/m,readonly",
    ],
    "limits": [
        "--memory",
        "64m",
        "--cpus",
        "0.5",
        "--pids-limit",
        "9",
        "--cpuset-cpus",
        "0",
        "--ulimit",
        "nofile=64",
    ],
    "rights": [
        "--cap-drop",
        "all",
        "--cap-add",
        "chown",
        "--security-opt",
        "no-new-privileges",
        "--read-only",
    ],
    "privileged": ["--privileged"],
    "sysctl": [
        "--sysctl",
        "net.ipv4.ip_forward=1",
        "--shm-size",
        "1m",
        "--device",
        "/dev/null:/dev/nothing:r",
    ],
}


@pytest.mark.requires("root")
@pytest.mark.parametrize("name", list(OPTIONS))
def test_the_runtime_specification(name: str, knarr: Knarr, busybox: str, runtime_schemas: Schemas) -> None:
    shown = knarr.ok("run", "--print-spec", "--network", "none", *OPTIONS[name], busybox, "true")
    runtime_schemas.check(json.loads(shown), "config-schema.json")


@pytest.mark.requires("root")
@pytest.mark.parametrize("form", ["oci-dir", "docker-archive"])
def test_the_layout_of_a_saved_image(
    form: str, knarr: Knarr, layered: MadeImage, image_schemas: Schemas, tmp_path: Path
) -> None:
    knarr.ok("load", "-i", str(write_archive(layered, "localhost/layered:1", tmp_path / "a.tar")))
    target = tmp_path / "saved"
    knarr.ok("save", "--format", form, "-o", str(target), "localhost/layered:1")
    if form == "docker-archive":
        import subprocess

        folder = tmp_path / "unpacked"
        folder.mkdir()
        subprocess.run(["tar", "-xf", str(target), "-C", str(folder)], check=True)
        (entry,) = json.loads((folder / "manifest.json").read_text())
        image_schemas.check(json.loads((folder / entry["Config"]).read_text()), "config-schema.json")
        return
    image_schemas.check(json.loads((target / "oci-layout").read_text()), "image-layout-schema.json")
    index = json.loads((target / "index.json").read_text())
    image_schemas.check(index, "image-index-schema.json")
    for descriptor in index["manifests"]:
        manifest = json.loads((target / "blobs" / descriptor["digest"].replace(":", "/")).read_text())
        image_schemas.check(manifest, "image-manifest-schema.json")
        config = target / "blobs" / manifest["config"]["digest"].replace(":", "/")
        image_schemas.check(json.loads(config.read_text()), "config-schema.json")


@pytest.mark.parametrize("options", [[], ["--rootless"]], ids=["root", "rootless"])
def test_the_specification_to_begin_with(
    options: list[str], runtime: Runtime, tmp_path: Path, runtime_schemas: Schemas
) -> None:
    runtime.ok("spec", "--bundle", str(tmp_path), *options)
    runtime_schemas.check(json.loads((tmp_path / "config.json").read_text()), "config-schema.json")


def test_the_features_of_the_runtime(runtime: Runtime, runtime_schemas: Schemas) -> None:
    runtime_schemas.check(json.loads(runtime.ok("features")), "features-schema.json")


@pytest.mark.requires("root")
def test_the_state_of_a_container(runtime: Runtime, bundle: Bundle, runtime_schemas: Schemas) -> None:
    runtime.create("c1", bundle("sleep", "1000", annotations={"org.example": "yes"}))
    seen = []
    for command, *words in (["state"], ["start"], ["pause"], ["resume"], ["kill", "KILL"]):
        if command != "state":
            runtime.ok(command, "c1", *words)
        if command == "kill":
            runtime.until("c1", "stopped")
        state = runtime.state("c1")
        seen.append(state["status"])
        if (
            state["status"] != "paused"
        ):  # a status of our own and of others', as runtime.md allows; the schema does not
            runtime_schemas.check(state, "state-schema.json")
    assert seen == ["created", "running", "paused", "running", "stopped"]
