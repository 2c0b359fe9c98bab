"""The OCI runtime specification's `config.json` as records (config.md, config-linux.md, version 1.3).

Field names are the specification's in snake_case; `knarr.oci.document` maps them. Optional scalars are
`None` when absent, because absent and zero differ. Lists and maps are empty when absent.
"""

from __future__ import annotations

from knarr.oci.document import document
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

OCI_VERSION = "1.3.0"


class Root(Record):
    path: str
    readonly: bool = False


@document(container_id="containerID", host_id="hostID")
class IdMap(Record):
    """config-linux.md, User namespace mappings. Also on mounts."""

    container_id: int
    host_id: int
    size: int


class Mount(Record):
    destination: str
    source: str = ""
    type: str = ""
    options: tuple[str, ...] = ()
    uid_mappings: tuple[IdMap, ...] = ()
    gid_mappings: tuple[IdMap, ...] = ()


class ConsoleSize(Record):
    height: int
    width: int


@document(additional_gids="additionalGids")
class User(Record):
    uid: int = 0
    gid: int = 0
    umask: int | None = None
    additional_gids: tuple[int, ...] = ()


class Capabilities(Record):
    """The five sets (capabilities(7)); names as `CAP_CHOWN`."""

    bounding: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()


class Rlimit(Record):
    type: str
    hard: int
    soft: int


class Scheduler(Record):
    policy: str
    nice: int | None = None
    priority: int | None = None
    flags: tuple[str, ...] = ()
    runtime: int | None = None
    deadline: int | None = None
    period: int | None = None


@document(class_="class")
class IoPriority(Record):
    class_: str
    priority: int = 0


class CpuAffinity(Record):
    initial: str = ""
    final: str = ""


@document(io_priority="ioPriority", exec_cpu_affinity="execCPUAffinity", selinux_label="selinuxLabel")
class Process(Record):
    cwd: str
    args: tuple[str, ...] = ()
    terminal: bool = False
    console_size: ConsoleSize | None = None
    env: tuple[str, ...] = ()
    user: User = User()
    capabilities: Capabilities | None = None
    rlimits: tuple[Rlimit, ...] = ()
    no_new_privileges: bool = False
    apparmor_profile: str = ""
    selinux_label: str = ""
    oom_score_adj: int | None = None
    scheduler: Scheduler | None = None
    io_priority: IoPriority | None = None
    exec_cpu_affinity: CpuAffinity | None = None


class Namespace(Record):
    type: str
    path: str = ""


class Device(Record):
    """config-linux.md, Devices. `file_mode` is decimal in JSON."""

    path: str
    type: str
    major: int = 0
    minor: int = 0
    file_mode: int | None = None
    uid: int | None = None
    gid: int | None = None


class DeviceRule(Record):
    allow: bool
    type: str = "a"
    major: int | None = None
    minor: int | None = None
    access: str = "rwm"


@document(kernel_tcp="kernelTCP", disable_oom_killer="disableOOMKiller")
class Memory(Record):
    """Bytes, -1 for unlimited."""

    limit: int | None = None
    reservation: int | None = None
    swap: int | None = None
    kernel: int | None = None
    kernel_tcp: int | None = None
    swappiness: int | None = None
    disable_oom_killer: bool = False
    use_hierarchy: bool | None = None
    check_before_update: bool = False


class Cpu(Record):
    """`quota`, `period`, `burst` and realtime values in microseconds."""

    shares: int | None = None
    quota: int | None = None
    burst: int | None = None
    period: int | None = None
    realtime_runtime: int | None = None
    realtime_period: int | None = None
    cpus: str = ""
    mems: str = ""
    idle: int | None = None


class Pids(Record):
    limit: int | None = None


class WeightDevice(Record):
    major: int
    minor: int
    weight: int | None = None
    leaf_weight: int | None = None


class ThrottleDevice(Record):
    major: int
    minor: int
    rate: int = 0


@document(
    throttle_read_bps_device="throttleReadBpsDevice",
    throttle_read_iops_device="throttleReadIOPSDevice",
    throttle_write_iops_device="throttleWriteIOPSDevice",
)
class BlockIO(Record):
    weight: int | None = None
    leaf_weight: int | None = None
    weight_device: tuple[WeightDevice, ...] = ()
    throttle_read_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_read_iops_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_iops_device: tuple[ThrottleDevice, ...] = ()


class HugepageLimit(Record):
    page_size: str
    limit: int


class NetworkPriority(Record):
    name: str
    priority: int


@document(class_id="classID")
class NetworkClass(Record):
    class_id: int | None = None
    priorities: tuple[NetworkPriority, ...] = ()


class Rdma(Record):
    hca_handles: int | None = None
    hca_objects: int | None = None


@document(block_io="blockIO")
class Resources(Record):
    devices: tuple[DeviceRule, ...] = ()
    memory: Memory | None = None
    cpu: Cpu | None = None
    pids: Pids | None = None
    block_io: BlockIO | None = None
    hugepage_limits: tuple[HugepageLimit, ...] = ()
    network: NetworkClass | None = None
    rdma: Mapping[str, Rdma] = {}
    unified: Mapping[str, str] = {}


class SeccompArg(Record):
    index: int  # type: ignore[assignment]  # the specification's name, over tuple's method
    value: int
    op: str
    value_two: int = 0


class SyscallRule(Record):
    names: tuple[str, ...]
    action: str
    errno_ret: int | None = None
    args: tuple[SeccompArg, ...] = ()


class Seccomp(Record):
    default_action: str
    default_errno_ret: int | None = None
    architectures: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    listener_path: str = ""
    listener_metadata: str = ""
    syscalls: tuple[SyscallRule, ...] = ()


@document(clos_id="closID", l3_cache_schema="l3CacheSchema", enable_cmt="enableCMT", enable_mbm="enableMBM")
class IntelRdt(Record):
    clos_id: str = ""
    schemata: tuple[str, ...] = ()
    l3_cache_schema: str = ""
    mem_bw_schema: str = ""
    enable_monitoring: bool = False
    enable_cmt: bool = False
    enable_mbm: bool = False


class Personality(Record):
    domain: str
    flags: tuple[str, ...] = ()


class MemoryPolicy(Record):
    mode: str
    nodes: str = ""
    flags: tuple[str, ...] = ()


class TimeOffset(Record):
    secs: int = 0
    nanosecs: int = 0


class NetDevice(Record):
    name: str = ""


class Linux(Record):
    namespaces: tuple[Namespace, ...] = ()
    uid_mappings: tuple[IdMap, ...] = ()
    gid_mappings: tuple[IdMap, ...] = ()
    time_offsets: Mapping[str, TimeOffset] = {}
    devices: tuple[Device, ...] = ()
    net_devices: Mapping[str, NetDevice] = {}
    cgroups_path: str = ""
    resources: Resources = Resources()
    rootfs_propagation: str = ""
    seccomp: Seccomp | None = None
    sysctl: Mapping[str, str] = {}
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    mount_label: str = ""
    personality: Personality | None = None
    intel_rdt: IntelRdt | None = None
    memory_policy: MemoryPolicy | None = None


class Hook(Record):
    """`env` is None when absent: then the environment is the caller's."""

    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] | None = None
    timeout: int | None = None


class Hooks(Record):
    prestart: tuple[Hook, ...] = ()
    create_runtime: tuple[Hook, ...] = ()
    create_container: tuple[Hook, ...] = ()
    start_container: tuple[Hook, ...] = ()
    poststart: tuple[Hook, ...] = ()
    poststop: tuple[Hook, ...] = ()


class Spec(Record):
    """A whole `config.json` for Linux (config.md)."""

    oci_version: str
    root: Root | None = None
    mounts: tuple[Mount, ...] = ()
    process: Process | None = None
    hostname: str = ""
    domainname: str = ""
    hooks: Hooks | None = None
    linux: Linux = Linux()
    annotations: Mapping[str, str] = {}
