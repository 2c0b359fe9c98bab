"""Capability names and sets (capabilities(7)) as the bit masks that the executor takes."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from knarr.oci.spec import Capabilities

# In the order of their numbers, linux/capability.h.
NAMES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE"
    " NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT"
    " SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE"
    " AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ"
    " PERFMON BPF CHECKPOINT_RESTORE"
).split()
NUMBER = {f"CAP_{name}": number for number, name in enumerate(NAMES)}
SYS_ADMIN, SYS_RESOURCE, SYS_TIME, MKNOD = 21, 24, 25, 27


def cap_mask(names: Iterable[str], available: int, problems: dict[str, str]) -> int:
    """The bits of `names` that are in `available`. The others go to `problems`: name -> why it was left out."""
    mask = 0
    for name in names:
        number = NUMBER.get(name)
        if number is None:
            problems[name] = "is not a capability knarr knows"
        elif not available >> number & 1:
            problems[name] = "is not available to this process"
        else:
            mask |= 1 << number
    return mask


def cap_masks(sets: Capabilities | None, available: int) -> tuple[int, int, int, int, int, list[str]]:
    """(bounding, effective, permitted, inheritable, ambient, warnings). No `capabilities` at all drops every one.

    The kernel refuses what does not fit together: effective beyond permitted, ambient beyond permitted
    and inheritable. A name that is left out of one set is therefore left out of those that lean on it.
    """
    if sets is None:
        return 0, 0, 0, 0, 0, []
    problems: dict[str, str] = {}
    bounding = cap_mask(sets.bounding, available, problems)
    permitted = cap_mask(sets.permitted, available, problems)
    effective = cap_mask(sets.effective, available, problems) & permitted
    inheritable = cap_mask(sets.inheritable, available, problems)
    asked = cap_mask(sets.ambient, available, problems)
    ambient = asked & permitted & inheritable
    warnings = [f"process.capabilities: {name} {why}: left out" for name, why in problems.items()]
    if lost := ", ".join(cap_names(asked & ~ambient)):
        what = f"can't raise ambient capability {lost}"
        warnings.append(f"process.capabilities.ambient: {what}: not both permitted and inheritable")
    return bounding, effective, permitted, inheritable, ambient, warnings


def cap_names(mask: int) -> tuple[str, ...]:
    return tuple(name for name, number in NUMBER.items() if mask >> number & 1)
