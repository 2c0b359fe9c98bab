"""From what was asked and what the image says to a runtime specification. A value; nothing is made or mounted here."""

from __future__ import annotations

from knarr.engine.process import container_process
from knarr.engine.security import guarded_paths, seccomp_profile
from knarr.engine.spec_mounts import mounts
from knarr.engine.spec_resources import resources
from knarr.oci.spec import OCI_VERSION, Linux, Namespace, Root, Spec
from knarr.plan import defaults
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from knarr.engine.container_dir import ContainerConfig
    from knarr.host.users import Identity
    from knarr.oci.spec import Device, DeviceRule, IdMap, Mount
    from knarr.plan.facts import HostFacts


class Surroundings(Record):
    """What the specification needs to know of this machine and of the engine's preparations.

    Namespace words are `new`, `host`, or a path. `files` are the generated files to bind: target → host path.
    """

    account: Identity
    hostname: str
    rootfs: str
    volumes: Mapping[str, str]  # volume name → data directory
    files: Mapping[str, str]
    network: str = "new"
    pid: str = "new"
    ipc: str = "new"
    uts: str = "new"
    cgroup: str = "new"
    shm_path: str = ""
    uid_maps: tuple[IdMap, ...] = ()
    gid_maps: tuple[IdMap, ...] = ()
    userns_path: str = ""
    cgroups_path: str = ""


def build_spec(config: ContainerConfig, facts: HostFacts, around: Surroundings) -> Spec:
    """The whole `config.json` of a container. Raises `UsageError` for options that do not go together."""
    options = config.options
    security = options.security
    userns = bool(around.uid_maps) or bool(around.userns_path)
    masked, readonly = guarded_paths(security)
    process = container_process(config, around.account, around.hostname, facts, userns=userns)
    devices, rules, bound = _devices(config, facts, userns)
    return Spec(
        OCI_VERSION,
        root=Root(around.rootfs, security.read_only),
        mounts=(*_all_mounts(config, facts, around, userns), *bound),
        process=process,
        hostname=around.hostname if around.uts == "new" else "",
        domainname=options.domainname if around.uts == "new" else "",
        linux=Linux(
            namespaces=_namespaces(around),
            uid_mappings=around.uid_maps,
            gid_mappings=around.gid_maps,
            devices=devices,
            cgroups_path=around.cgroups_path,
            resources=resources(options.limits, rules, facts),
            seccomp=seccomp_profile(security, process, facts),
            sysctl=_sysctls(config, around, userns),
            masked_paths=masked,
            readonly_paths=readonly,
        ),
        annotations=options.annotations,
    )


def _namespaces(around: Surroundings) -> tuple[Namespace, ...]:
    listed = defaults.namespaces(
        user=bool(around.uid_maps),
        network=around.network,
        ipc=around.ipc,
        pid=around.pid,
        uts=around.uts,
        cgroup=around.cgroup,
    )
    return (Namespace("user", around.userns_path), *listed) if around.userns_path else listed


def _all_mounts(
    config: ContainerConfig, facts: HostFacts, around: Surroundings, userns: bool
) -> tuple[Mount, ...]:
    standard = defaults.mounts(
        facts,
        userns=userns,
        gids=around.gid_maps,
        network=around.network,
        ipc=around.ipc,
        pid=around.pid,
        cgroup=around.cgroup,
        privileged=config.options.security.privileged,
        shm_size_bytes=config.options.shm_size_bytes,
        shm_path=around.shm_path,
    )
    return mounts(config, standard, around.volumes, around.files)


def _devices(
    config: ContainerConfig, facts: HostFacts, userns: bool
) -> tuple[tuple[Device, ...], tuple[DeviceRule, ...], tuple[Mount, ...]]:
    """The devices beyond the standard ones, what the device controller lets through, and devices that are mounts."""
    privileged = config.options.security.privileged
    devices: tuple[Device, ...] = ()
    bound: tuple[Mount, ...] = ()
    rules = defaults.ALL_DEVICES if privileged else defaults.DEVICE_RULES
    if privileged or config.options.devices:
        from knarr.engine.spec_devices import bound_elsewhere, requested_devices

        asked = requested_devices(config.options)
        if userns:
            asked, bound = bound_elsewhere(asked)
        devices, rules = asked.devices, (*rules, *asked.rules)
    return devices, () if facts.rootless or userns else rules, bound


def _sysctls(config: ContainerConfig, around: Surroundings, userns: bool) -> dict[str, str]:
    """docker's two defaults for a network namespace of the container's own, under what was asked for."""
    values: dict[str, str] = {}
    if around.network == "new":
        values["net.ipv4.ip_unprivileged_port_start"] = "0"
        if not userns:  # the kernel refuses groups that the user namespace does not map
            values["net.ipv4.ping_group_range"] = "0 2147483647"
    values.update(config.options.security.sysctls)
    return values
