"""What every test has: its own state, the machine's capabilities, a private machine around it.

The parts are in `tests/harness`, one subject each:

    capabilities   what this host can do; `@pytest.mark.requires("root", "nft")`; no skip can hide
    machine        each test process lives in its own mount and network namespace and cgroup
    clean          after an end-to-end test nothing may be left; leftovers of aborted runs are swept
    command        `knarr`: the real command line with its own state; `user`: the same without privilege
    images         a busybox root filesystem and archives of it
    runtime        `runtime`: the real knarr-runtime, and bundles for it
    registry       Debian's docker-registry on a free loopback port
    peers          podman, buildah, skopeo, umoci, docker, each with its own storage
    runtime_tools  the validation programs of runtime-tools, built from Go modules
    schemas        the OCI specifications' JSON schemas
"""

from __future__ import annotations

pytest_plugins = [
    "harness.capabilities",
    "harness.machine",
    "harness.clean",
    "harness.images",
    "harness.registry",
    "harness.command",
    "harness.runtime",
    "harness.peers",
    "harness.runtime_tools",
    "harness.schemas",
]
