"""The allowed device list: v1's own lists, or a BPF program on version 2 (config-linux.md, Allowed Device list)."""

from __future__ import annotations

from knarr.errors import UsageError
from knarr.oci.spec import DeviceRule
from knarr.plan.step import Step, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from knarr.plan.cgroup import CgroupPlacement

ORIGIN = "linux.resources.devices"
# What config-linux.md's Default Devices need, whatever the rules say: nodes may be made, the harmless ones used. Not
# 5:1: a container's console is a terminal of its own, and that one is the host's.
ALWAYS = (
    DeviceRule(True, "c", None, None, "m"),
    DeviceRule(True, "b", None, None, "m"),
    *(DeviceRule(True, "c", 1, minor, "rwm") for minor in (3, 5, 7, 8, 9)),
    *(DeviceRule(True, "c", 5, minor, "rwm") for minor in (0, 2)),
    DeviceRule(True, "c", 136, None, "rwm"),
)


def device_rule_steps(rules: Sequence[DeviceRule], place: CgroupPlacement) -> list[Step]:
    for i, rule in enumerate(rules):
        check_rule(rule, f"{ORIGIN}[{i}]")
    given = set(rules)
    numbered = [(part, f"{ORIGIN}[{i}]") for i, rule in enumerate(rules) for part in _of_both_types(rule)]
    if not allows_all(rules):
        numbered += [(rule, ORIGIN) for rule in ALWAYS if rule not in given]
    directory = place.v1_of("devices")
    if directory:
        return [
            Step(
                "write", (f"{directory}/devices.{'allow' if rule.allow else 'deny'}", rule_text(rule)), origin
            )
            for rule, origin in numbered
        ]
    if place.v2 and not allows_all(rules):
        from knarr.plan.bpf_devices import assemble

        return [Step("cgroup-devices", (place.v2, assemble([rule for rule, _ in numbered]).hex()), ORIGIN)]
    return []


def _of_both_types(rule: DeviceRule) -> tuple[DeviceRule, ...]:
    """To a v1 list `a` means every access, whatever is said behind it."""
    if rule.type != "a" or set(rule.access) == set("rwm"):
        return (rule,)
    return rule._replace(type="b"), rule._replace(type="c")


def rule_text(rule: DeviceRule) -> str:
    if rule.type == "a":
        return "a"
    major, minor = ("*" if n is None or n < 0 else str(n) for n in (rule.major, rule.minor))
    return f"{rule.type} {major}:{minor} {rule.access}"


def check_rule(rule: DeviceRule, origin: str) -> None:
    if rule.type not in ("a", "b", "c"):
        raise UsageError(f"{origin}.type: unknown device type {quoted(rule.type)}", hint="one of a b c")
    if not rule.access or any(letter not in "rwm" for letter in rule.access):
        raise UsageError(f"{origin}.access: {quoted(rule.access)} is not made of r, w and m")
    if rule.type == "a" and (rule.major not in (None, -1) or rule.minor not in (None, -1)):
        raise UsageError(f"{origin}: a rule for all devices has no numbers: say c or b")


def allows_all(rules: Sequence[DeviceRule]) -> bool:
    """Do these rules end with everything for everybody."""
    return bool(rules) and rules[-1].allow and rules[-1].type == "a" and set(rules[-1].access) == set("rwm")
