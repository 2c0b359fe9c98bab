"""The mounts of a container: the standard ones, the generated files, what was asked for; parents before children."""

from __future__ import annotations

from knarr.engine.volumes import marker_of
from knarr.oci.spec import Mount
from knarr.plan.rootfs import Seed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from knarr.engine.container_dir import ContainerConfig
    from knarr.engine.options import MountRequest

_PROPAGATION = ("shared", "slave", "private", "rshared", "rslave", "rprivate")
# What docker lets one say and has no effect here: SELinux labels, cache hints of a virtual machine.
_IDLE = frozenset(("z", "Z", "cached", "delegated", "consistent", "nocopy", "copy", "bind", "rbind"))


def mounts(
    config: ContainerConfig, standard: Sequence[Mount], volumes: Mapping[str, str], files: Mapping[str, str]
) -> tuple[Mount, ...]:
    """Every mount. One asked for takes the place of a standard one at the same target."""
    asked = [_requested(m, config, volumes) for m in config.options.mounts]
    asked += [
        Mount(target, volumes[name], "bind", ("rbind", "rprivate"))
        for target, name in config.volumes.items()
        if all(m.destination != target for m in asked)
    ]
    taken = {m.destination for m in asked}
    asked += [
        Mount(target, source, "bind", ("rbind", "rprivate"))
        for target, source in files.items()
        if target not in taken
    ]
    asked.sort(key=lambda m: m.destination.count("/"))
    return (*(m for m in standard if m.destination not in taken), *asked)


def seeds(config: ContainerConfig, volumes: Mapping[str, str]) -> tuple[Seed, ...]:
    """The volumes that begin with what the image has where they are mounted, if they are empty; not `nocopy` ones."""
    named = {
        m.target: m.source
        for m in config.options.mounts
        if m.kind == "volume" and m.source and "nocopy" not in m.options
    }
    targets = {**config.volumes, **named}
    return tuple(Seed(volumes[name], target, marker_of(volumes[name])) for target, name in targets.items())


def _requested(request: MountRequest, config: ContainerConfig, volumes: Mapping[str, str]) -> Mount:
    if request.kind == "tmpfs":
        return Mount(request.target, "tmpfs", "tmpfs", _tmpfs_options(request))
    source = request.source
    if request.kind == "volume":
        source = volumes[source or config.volumes[request.target]]
    words = request.options
    propagation = next((w for w in words if w in _PROPAGATION), "rprivate")
    options = ["bind" if "bind" in words else "rbind", propagation]
    options += ["ro"] if request.read_only else []
    options += [w for w in words if w not in _PROPAGATION and w not in _IDLE]
    return Mount(request.target, source, "bind", tuple(options))


def _tmpfs_options(request: MountRequest) -> tuple[str, ...]:
    options = ["noexec", "nosuid", "nodev"]
    for word in request.options:
        opposite = word[2:] if word.startswith("no") else f"no{word}"
        options = [o for o in options if o not in (word, opposite)]
        options.append(word)
    if request.read_only:
        options.append("ro")
    return tuple(options)
