"""`inspect`: what is known of a container or an image, under docker's keys so that people's scripts work."""

from __future__ import annotations

from knarr import __version__
from knarr.engine.listing import labels_of
from knarr.engine.mend import mend
from knarr.engine.process import command_line, command_of, environment
from knarr.engine.state import EXITED, PAUSED, read_state
from knarr.errors import NotFound
from knarr.oci.document import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from knarr.engine.container_dir import ContainerConfig, ContainerDir, RunRecord
    from knarr.engine.engine import Engine
    from knarr.engine.state import State

_NEVER = "0001-01-01T00:00:00Z"


def inspect_container(engine: Engine, directory: ContainerDir) -> dict[str, Any]:
    """A container under docker's keys (Engine API, ContainerInspect). Raises `NotFound`."""
    mend(engine, directory)
    config, state, run = directory.config(), read_state(directory), directory.run_record()
    words = command_of(config)
    options = config.options
    return {
        "Id": config.id,
        "Created": config.created,
        "Path": words[0],
        "Args": list(words[1:]),
        "State": _state(state),
        "Image": config.image,
        "ResolvConfPath": f"{directory.root}/resolv.conf",
        "HostnamePath": f"{directory.root}/hostname",
        "HostsPath": f"{directory.root}/hosts",
        "LogPath": "" if options.log.driver == "none" else f"{directory.root}/log",
        "Name": f"/{config.name}",
        "RestartCount": 0,
        "Driver": "overlay",
        "Platform": "linux",
        "HostConfig": _host_config(config),
        "GraphDriver": {
            "Name": "overlay",
            "Data": {"LowerDir": ":".join(config.layers), "UpperDir": f"{directory.root}/upper"},
        },
        "Mounts": _mounts(engine, config),
        "Config": _config(config),
        "NetworkSettings": _network(config, run),
        "Engine": f"knarr {__version__}",
    }


def _state(state: State) -> dict[str, Any]:
    return {
        "Status": state.status,
        "Running": state.running,
        "Paused": state.status == PAUSED,
        "Restarting": False,
        "OOMKilled": state.oom_killed,
        "Dead": False,
        "Pid": state.pid,
        "ExitCode": state.exit_code if state.status == EXITED else 0,
        "Error": "",
        "StartedAt": state.started_at or _NEVER,
        "FinishedAt": state.finished_at or _NEVER,
    }


def _config(config: ContainerConfig) -> dict[str, Any]:
    options, image = config.options, config.image_config
    entrypoint = image.entrypoint if options.entrypoint is None else options.entrypoint
    return {
        "Hostname": options.hostname or config.id[:12],
        "Domainname": options.domainname,
        "User": options.user or image.user,
        "AttachStdin": options.stdin,
        "Tty": options.tty,
        "OpenStdin": options.stdin,
        "Env": list(environment(config, options.hostname or config.id[:12], "", ())),
        "Cmd": list(command_line(options._replace(entrypoint=()), image)) or None,
        "Image": config.image_name,
        "Volumes": {target: {} for target in config.volumes} or None,
        "WorkingDir": options.workdir or image.working_dir,
        "Entrypoint": list(entrypoint) or None,
        "ExposedPorts": {port: {} for port in image.exposed_ports},
        "Labels": labels_of(config),
        "StopSignal": options.stop_signal or image.stop_signal or "SIGTERM",
        "StopTimeout": options.stop_timeout_s,
    }


def _host_config(config: ContainerConfig) -> dict[str, Any]:
    options, limits, security = config.options, config.options.limits, config.options.security
    return {
        "Binds": [
            f"{m.source}:{m.target}" + ":ro" * m.read_only for m in options.mounts if m.kind != "tmpfs"
        ],
        "NetworkMode": options.network.mode,
        "Runtime": options.runtime or "knarr",
        "AutoRemove": options.auto_remove,
        "Privileged": security.privileged,
        "ReadonlyRootfs": security.read_only,
        "CapAdd": list(security.cap_add),
        "CapDrop": list(security.cap_drop),
        "SecurityOpt": list(security.options),
        "Init": options.init,
        "LogConfig": {
            "Type": options.log.driver,
            "Config": {"max-size": str(options.log.max_size_bytes), "max-file": str(options.log.max_files)},
        },
        "Memory": limits.memory or 0,
        "MemorySwap": limits.memory_swap or 0,
        "MemoryReservation": limits.memory_reservation or 0,
        "NanoCpus": limits.nano_cpus or 0,
        "CpuShares": limits.cpu_shares or 0,
        "CpuPeriod": limits.cpu_period or 0,
        "CpuQuota": limits.cpu_quota or 0,
        "CpusetCpus": limits.cpuset_cpus,
        "CpusetMems": limits.cpuset_mems,
        "PidsLimit": limits.pids,
        "ShmSize": options.shm_size_bytes,
        "Sysctls": dict(security.sysctls),
        "UsernsMode": security.userns,
        "PidMode": options.pid,
        "IpcMode": options.ipc or "private",
        "UTSMode": options.uts,
        "CgroupnsMode": options.cgroupns or "private",
        "CgroupParent": options.cgroup_parent,
        "PublishAllPorts": options.network.publish_all,
        "Dns": list(options.network.dns),
        "ExtraHosts": list(options.network.add_hosts),
        "Ulimits": [{"Name": u.name, "Soft": u.soft, "Hard": u.hard} for u in options.ulimits],
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
    }


def _mounts(engine: Engine, config: ContainerConfig) -> list[dict[str, Any]]:
    rows = []
    for mount in config.options.mounts:
        name = mount.source or config.volumes.get(mount.target, "") if mount.kind == "volume" else ""
        source = f"{engine.paths.root}/volumes/{name}/_data" if name else mount.source
        rows.append(
            {
                "Type": mount.kind,
                "Name": name,
                "Source": source,
                "Destination": mount.target,
                "Mode": ",".join(mount.options),
                "RW": not mount.read_only,
            }
        )
    listed = {row["Destination"] for row in rows}
    for target, name in config.volumes.items():
        if target not in listed:
            source = f"{engine.paths.root}/volumes/{name}/_data"
            rows.append(
                {
                    "Type": "volume",
                    "Name": name,
                    "Source": source,
                    "Destination": target,
                    "Mode": "",
                    "RW": True,
                }
            )
    return rows


def _network(config: ContainerConfig, run: RunRecord) -> dict[str, Any]:
    ports: dict[str, list[dict[str, str]]] = {}
    for published in run.ports:
        host, _, inside = published.partition("->")
        address, _, port = host.rpartition(":")
        ports.setdefault(inside, []).append({"HostIp": address.strip("[]"), "HostPort": port})
    own = {
        "IPAddress": run.ip,
        "Gateway": run.gateway,
        "GlobalIPv6Address": run.ip6,
        "MacAddress": run.mac,
    }
    return {**own, "Ports": ports, "Networks": {run.network or config.options.network.mode: own}}


def inspect_image(engine: Engine, name: str) -> dict[str, Any]:
    """An image under docker's keys (ImageInspect). Raises `NotFound`."""
    image = engine.store.find_image(name)
    if image is None:
        raise NotFound("image", name)
    config = image.config
    digests = sorted({f"{n.rpartition(':')[0]}@{image.manifest_digest}" for n in image.names if "@" not in n})
    return {
        "Id": image.id,
        "RepoTags": [n for n in image.names if "@" not in n],
        "RepoDigests": digests,
        "Created": config.created,
        "Author": config.author,
        "Architecture": config.architecture,
        "Variant": config.variant,
        "Os": config.os,
        "Size": image.size_bytes,
        "Config": encode(config.config),
        "GraphDriver": {"Name": "overlay", "Data": {"Layers": list(image.layers)}},
        "RootFS": {"Type": config.rootfs.type, "Layers": list(config.rootfs.diff_ids)},
        "History": [encode(entry) for entry in config.history],
    }
