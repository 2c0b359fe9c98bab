"""What a container needs of this machine before its plan is compiled: network, files, volumes, namespaces of others."""

from __future__ import annotations

import os

from knarr.engine.container_dir import ContainerConfig, ContainerDir, RunRecord, find, write_file
from knarr.engine.spec import Surroundings
from knarr.engine.spec_mounts import seeds
from knarr.engine.state import read_state
from knarr.engine.userns import id_maps
from knarr.engine.volumes import ensure, keep_as_it_is
from knarr.errors import Conflict, UsageError
from knarr.host.users import identity_in
from knarr.network import attach
from knarr.network.ports import PortRequest, parse_ports, publish_all
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from knarr.engine.engine import Engine
    from knarr.network.attachment import Attachment
    from knarr.plan.rootfs import Seed

FILES = {"hosts": "/etc/hosts", "hostname": "/etc/hostname", "resolv.conf": "/etc/resolv.conf"}


class Prepared(Record):
    """Everything prepared for one start."""

    around: Surroundings
    attachment: Attachment
    record: RunRecord
    work: str
    warnings: tuple[str, ...]
    seeds: tuple[Seed, ...] = ()


def surroundings(engine: Engine, directory: ContainerDir, config: ContainerConfig) -> Prepared:
    """Prepare a start; `release` gives back what it took. Raises `UsageError`, `Conflict`, `HostError`."""
    options = config.options
    warnings: list[str] = []
    uid_maps, gid_maps = id_maps(options.security.userns, engine.facts, warnings)
    joined = _joined(engine, options.network.mode)
    userns_path = ""
    if uid_maps and joined is not None:
        # Another's network can only be entered with rights in the user namespace that owns it.
        userns_path, uid_maps, gid_maps = _namespace_file(joined, "user"), (), ()
    hostname = _hostname(config, joined, options.network.mode, options.uts)
    account = identity_in(config.layers, options.user or config.image_config.user, options.security.group_add)
    volumes = _volumes(engine, config)
    filled = _filled(directory, config, volumes)
    pid, ipc = (_namespace(engine, word, kind) for word, kind in ((options.pid, "pid"), (options.ipc, "ipc")))
    attachment = attach.prepare(
        engine.paths,
        engine.facts,
        directory.id,
        options.network.mode,
        _ports(config),
        hostname=hostname if joined is None else "",
        dns=options.network.dns,
        dns_search=options.network.dns_search,
        dns_options=options.network.dns_options,
        add_hosts=options.network.add_hosts,
        mac=options.network.mac_address,
        ip=options.network.ip,
        join=_namespace_file(joined, "net") if joined else "",
    )
    try:
        files = _write_files(directory, attachment, joined)
        work = _fresh_work(directory)
    except BaseException:
        attach.release(attachment)
        raise
    around = Surroundings(
        account=account,
        hostname=hostname,
        rootfs=f"{directory.root}/rootfs",
        volumes=volumes,
        files=files,
        network=attachment.namespace,
        pid=pid,
        ipc=ipc,
        uts="host"
        if options.uts == "host" or (attachment.mode == "host" and not options.hostname)
        else "new",
        cgroup="host" if options.cgroupns == "host" else "new",
        shm_path="/dev/shm" if ipc == "host" else "",
        uid_maps=uid_maps,
        gid_maps=gid_maps,
        userns_path=userns_path,
        cgroups_path=f"{options.cgroup_parent.rstrip('/')}/{directory.id}" if options.cgroup_parent else "",
    )
    record = RunRecord(
        attachment.mode,
        attachment.ip,
        attachment.gateway,
        attachment.ip6,
        attachment.mac,
        tuple(map(str, attachment.published)),
    )
    return Prepared(around, attachment, record, work, (*warnings, *attachment.warnings), filled)


def _ports(config: ContainerConfig) -> list[PortRequest]:
    network = config.options.network
    requests = parse_ports(network.ports)
    if network.publish_all:
        requests += publish_all((*config.image_config.exposed_ports, *network.expose), requests)
    return requests


def _joined(engine: Engine, mode: str) -> ContainerDir | None:
    """The container whose network is shared."""
    return find(engine.paths, mode.partition(":")[2]) if mode.startswith("container:") else None


def _namespace(engine: Engine, word: str, kind: str) -> str:
    """`--pid` and `--ipc`: `new`, `host`, or another container's namespace file."""
    if word in ("", "private", "shareable", "none"):
        return "new"
    if word == "host":
        return "host"
    if word.startswith("container:"):
        other = find(engine.paths, word.partition(":")[2])
        if runtime := other.config().options.runtime:
            raise UsageError(
                f"--{kind} {word}: that container is {runtime}'s, which keeps its {kind} namespace"
            )
        return _namespace_file(other, kind)
    raise UsageError(f"invalid --{kind} {word!r}", hint="host or container:NAME")


def _namespace_file(directory: ContainerDir, kind: str) -> str:
    state = read_state(directory)
    if not state.running:
        raise Conflict(
            f"cannot join the {kind} namespace of container {directory.id[:12]}: it is not running"
        )
    return f"/proc/{state.pid}/ns/{kind}"


def _hostname(config: ContainerConfig, joined: ContainerDir | None, mode: str, uts: str) -> str:
    if config.options.hostname:
        return config.options.hostname
    if joined is not None:
        other = joined.config()
        return other.options.hostname or other.id[:12]
    return os.uname().nodename if mode == "host" or uts == "host" else config.id[:12]


def _volumes(engine: Engine, config: ContainerConfig) -> dict[str, str]:
    """Data directories by volume name; host directories of `-v` that are missing are made, as docker does."""
    names = [m.source for m in config.options.mounts if m.kind == "volume" and m.source]
    for mount in config.options.mounts:
        if mount.kind == "bind" and not os.path.lexists(mount.source):
            if not mount.make_source:
                raise UsageError(f"bind source path does not exist: {mount.source}")
            try:
                os.makedirs(mount.source, 0o755, exist_ok=True)
            except OSError as e:
                raise UsageError(f"bind source path {mount.source}: {(e.strerror or str(e)).lower()}") from e
    return {name: ensure(engine.paths, name) for name in (*names, *config.volumes.values())}


def _filled(directory: ContainerDir, config: ContainerConfig, volumes: Mapping[str, str]) -> tuple[Seed, ...]:
    """Docker fills empty volumes when a container is made; we when it is first started, never when it is again."""
    if not volumes:
        return ()
    filled = () if directory.exit_record() else seeds(config, volumes)
    for data in {*volumes.values()} - {seed.directory for seed in filled}:
        keep_as_it_is(data)
    return filled


def _write_files(
    directory: ContainerDir, attachment: Attachment, joined: ContainerDir | None
) -> dict[str, str]:
    """/etc/hosts and its like; with another container's network, that container's."""
    if joined is not None:
        return {
            target: f"{joined.root}/{name}"
            for name, target in FILES.items()
            if os.path.exists(f"{joined.root}/{name}")
        }
    texts = {
        "hosts": attachment.hosts,
        "hostname": attachment.hostname,
        "resolv.conf": attachment.resolv_conf,
    }
    for name, text in texts.items():
        write_file(f"{directory.root}/{name}", text.encode("utf-8", "surrogateescape"))
    return {target: f"{directory.root}/{name}" for name, target in FILES.items()}


def _fresh_work(directory: ContainerDir) -> str:
    """Overlay refuses a work directory that was used before, once it was mounted `volatile`."""
    for name in os.listdir(directory.root):
        if name.startswith("work"):
            from knarr.engine.remove import delete_tree

            delete_tree(f"{directory.root}/{name}", rootless=os.geteuid() != 0)
    work = f"{directory.root}/work-{os.urandom(4).hex()}"
    os.mkdir(work, 0o700)
    return work
