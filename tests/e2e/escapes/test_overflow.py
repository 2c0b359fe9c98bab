"""CVE-2021-43784's kind: so much is handed to the executor that a length in between does not hold it.

There the list of mappings ran over and what followed was read as an order. Here a plan is text with counts that are
checked: what is too large is refused in one line, and never half done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from e2e.escapes.engines import RuntimeEngine, config_of

pytestmark = [pytest.mark.requires("root", "busybox", "cc"), pytest.mark.timeout(300)]

LONG = "x" * 70_000


def mappings(count: int) -> list[dict[str, int]]:
    return [{"containerID": n, "hostID": 100_000 + n, "size": 1} for n in range(count)]


def userns(config: dict[str, Any], count: int) -> None:
    config["linux"]["namespaces"].append({"type": "user"})
    config["linux"]["uidMappings"] = config["linux"]["gidMappings"] = mappings(count)


def many(kind: str, count: int) -> Callable[[dict[str, Any]], object]:
    mount = {"destination": "/tmp", "type": kind, "source": kind}
    return lambda config: config["mounts"].extend([mount] * count)


CASES: dict[str, Callable[[dict[str, Any]], object]] = {
    "mappings": lambda config: userns(config, 6_000),
    "more mappings": lambda config: userns(config, 70_000),
    "a long argument": lambda config: config["process"]["args"].append("x" * (3 << 20)),
    "many arguments": lambda config: config["process"]["args"].extend(["x"] * 1_200_000),
    "a plan of more than its limit": lambda config: config["process"]["args"].extend(["x" * 1000] * 20_000),
    "a long variable": lambda config: config["process"]["env"].append("A=" + "x" * (3 << 20)),
    "a long option": lambda config: config["mounts"][1]["options"].append(f"size={LONG}"),
    "a long source": lambda config: config["mounts"][1].update(
        type="bind", source=f"/{LONG}", options=["bind"]
    ),
    "a long target": lambda config: config["mounts"][1].update(destination="/" + "d/" * 40_000),
    "a long name": lambda config: config["mounts"][1].update(destination=f"/{LONG}"),
    "a long type": lambda config: config["mounts"][1].update(type=LONG),
    "a long directory": lambda config: config["process"].update(cwd="/" + "d/" * 40_000),
    "a long hostname": lambda config: config.update(hostname=LONG),
    "a long sysctl": lambda config: config["linux"].update(sysctl={"net." + "x." * 40_000: "1"}),
    "a long value": lambda config: config["linux"].update(sysctl={"net.ipv4.ip_forward": LONG}),
    "a long mask": lambda config: config["linux"]["maskedPaths"].append(f"/{LONG}"),
    "a long cgroup": lambda config: config["linux"].update(cgroupsPath="/" + "c/" * 40_000),
    "a cgroup elsewhere": lambda config: config["linux"].update(cgroupsPath="/../../../../tmp/made"),
    "many groups": lambda config: config["process"]["user"].update(additionalGids=list(range(70_000))),
    "a huge number": lambda config: config["process"]["user"].update(uid=1 << 32),
    "a negative number": lambda config: config["process"]["user"].update(uid=-1),
    "a huge limit": lambda config: config["process"].update(
        rlimits=[{"type": "RLIMIT_CORE", "soft": 1 << 64, "hard": 1 << 64}]
    ),
    "a program of its own": lambda config: config["process"].update(args=["\0init", "3"]),
    "words after a NUL": lambda config: config["process"]["env"].append("A=1\0exec\0\0o\x001\0sh"),
    "words after a NUL in a path": lambda config: config["mounts"][1].update(
        source="tmpfs\0umount\0\0o\x001\0/"
    ),
    "a line in a mapping's file": lambda config: config.update(hostname="a\nb" * 40),
}


@pytest.mark.parametrize("name", CASES)
def test_too_much(bundles: RuntimeEngine, name: str) -> None:
    config = config_of("sh", "-c", "echo runs as $(cat /proc/self/uid_map)")
    CASES[name](config)
    bundle = bundles.bundle(bundles.image(), config=config)
    result = bundles.runtime("run", "-b", str(bundle), "one")
    assert result.code == 1 or result.code in (126, 127), str(result)[:2000]
    assert "runs as" not in result.stdout
    lines = result.stderr.splitlines()
    assert len(lines) <= 2 and lines[0].startswith("knarr-runtime: "), str(result)[:2000]
    assert bundles.runtime.ok("list", "-q") == ""


def test_much_that_fits(bundles: RuntimeEngine) -> None:
    """Hundreds of mounts and variables are many, and are done, all of them."""
    config = config_of("sh", "-c", "grep -c tmpfs /proc/self/mounts; env | grep -c ^V")
    config["mounts"] += [{"destination": f"/m/{n}", "type": "tmpfs", "source": "tmpfs"} for n in range(300)]
    config["process"]["env"] += [f"V{n}={'x' * 100}" for n in range(5_000)]
    bundle = bundles.bundle(bundles.image(), config=config)
    result = bundles.runtime("run", "-b", str(bundle), "one")
    assert result.code == 0, str(result)[:2000]
    mounts, variables = map(int, result.stdout.split())
    assert (mounts >= 300, variables) == (True, 5_000), str(result)
