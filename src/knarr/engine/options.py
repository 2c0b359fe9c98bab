"""ContainerOptions: what was asked for a container, in docker's terms, checked and in plain units.

This is what `containers/ID/config.json` keeps, so it is a document (`knarr.oci.document`). It says nothing of how
it is done: `knarr.engine.spec` turns it into a runtime specification.
"""

from __future__ import annotations

from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class MountRequest(Record):
    """One `-v`, `--mount` or `--tmpfs`. `kind` is bind, volume or tmpfs; an anonymous volume has no source."""

    kind: str
    target: str
    source: str = ""
    read_only: bool = False
    options: tuple[str, ...] = ()  # mount(8) options and docker's: nocopy, z, Z, U, rslave …
    make_source: bool = False  # -v makes a missing host directory, --mount refuses


class DeviceRequest(Record):
    source: str
    target: str
    access: str = "rwm"


class UlimitRequest(Record):
    """-1 is unlimited."""

    name: str
    soft: int
    hard: int


class Limits(Record):
    """Bytes; processor time in nano-cpus (10⁹ is one processor). `None` is not asked."""

    memory: int | None = None
    memory_swap: int | None = None
    memory_reservation: int | None = None
    nano_cpus: int | None = None
    cpu_shares: int | None = None
    cpu_period: int | None = None
    cpu_quota: int | None = None
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids: int | None = None
    oom_kill_disable: bool = False


class NetworkRequest(Record):
    """`mode` is bridge, host, none or container:NAME. Ports in docker's text form."""

    mode: str = "bridge"
    ports: tuple[str, ...] = ()
    publish_all: bool = False
    expose: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    add_hosts: tuple[str, ...] = ()
    mac_address: str = ""
    ip: str = ""


class SecurityRequest(Record):
    privileged: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    options: tuple[str, ...] = ()  # --security-opt, as given
    read_only: bool = False
    userns: str = ""
    sysctls: Mapping[str, str] = {}
    group_add: tuple[str, ...] = ()
    oom_score_adj: int | None = None


class LogRequest(Record):
    """`driver` is k8s-file, json-file or none."""

    driver: str = "k8s-file"
    max_size_bytes: int = 10 << 20
    max_files: int = 3


class ContainerOptions(Record):
    image: str
    command: tuple[str, ...] = ()
    name: str = ""
    entrypoint: tuple[str, ...] | None = None
    env: tuple[str, ...] = ()
    user: str = ""
    workdir: str = ""
    hostname: str = ""
    domainname: str = ""
    tty: bool = False
    stdin: bool = False
    auto_remove: bool = False
    init: bool = False
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    stop_signal: str = ""
    stop_timeout_s: int | None = None
    mounts: tuple[MountRequest, ...] = ()
    devices: tuple[DeviceRequest, ...] = ()
    ulimits: tuple[UlimitRequest, ...] = ()
    shm_size_bytes: int = 64 << 20
    limits: Limits = Limits()
    network: NetworkRequest = NetworkRequest()
    security: SecurityRequest = SecurityRequest()
    log: LogRequest = LogRequest()
    pid: str = ""
    ipc: str = ""
    uts: str = ""
    cgroupns: str = ""
    cgroup_parent: str = ""
    runtime: str = ""  # the name or path of another runtime; "" is knarr's own
