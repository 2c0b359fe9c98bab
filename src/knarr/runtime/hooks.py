"""Hooks in the runtime's namespaces (config.md, POSIX-platform Hooks): prestart, createRuntime, poststart, poststop.

Those of the container's namespaces are steps of its plan. As with crun, annotations of the container may name files
that take what the hooks print; else it goes nowhere, but for the end of it that explains a failure.
"""

from __future__ import annotations

import os

from knarr.errors import HostError
from knarr.oci import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from knarr.oci.spec import Hook
    from knarr.runtime.state_dir import Container

STDOUT, STDERR = "run.oci.hooks.stdout", "run.oci.hooks.stderr"


def run_hooks(kind: str, hooks: Sequence[Hook], state: dict[str, Any], container: Container) -> None:
    """Run them in order, the state on their standard input. Raises `HostError` for the first that fails."""
    for i, hook in enumerate(hooks):
        _run(kind, i, hook, state, container)


def run_hooks_anyway(
    kind: str,
    hooks: Sequence[Hook],
    state: dict[str, Any],
    container: Container,
    warn: Callable[[str], None],
) -> None:
    """As above for hooks whose failure is logged and changes nothing (runtime.md, Lifecycle: poststop)."""
    for i, hook in enumerate(hooks):
        try:
            _run(kind, i, hook, state, container)
        except HostError as e:
            warn(e.message)


def _run(kind: str, number: int, hook: Hook, state: dict[str, Any], container: Container) -> None:
    """Raises `HostError` when it cannot be started, fails, or takes longer than its timeout."""
    import subprocess  # most containers have no hooks

    origin = f"hooks.{kind}[{number}]"
    outputs = [_file(container.annotations.get(name, "")) for name in (STDOUT, STDERR)]
    try:
        done = subprocess.run(
            list(hook.args) or [hook.path],
            executable=hook.path,
            input=json.dumps(state).encode(),
            env=_environment(hook.env),
            cwd=container.bundle if os.path.isdir(container.bundle) else "/",
            stdout=subprocess.DEVNULL if outputs[0] < 0 else outputs[0],
            stderr=subprocess.PIPE if outputs[1] < 0 else outputs[1],
            timeout=hook.timeout,
        )
    except subprocess.TimeoutExpired:
        raise HostError(f"{origin}: {hook.path} took longer than its timeout of {hook.timeout} s") from None
    except OSError as e:
        raise HostError(f"{origin}: cannot run {hook.path}: {os.strerror(e.errno or 0).lower()}") from e
    finally:
        for fd in outputs:
            if fd >= 0:
                os.close(fd)
    if done.returncode:
        how = f"exit code {done.returncode}" if done.returncode > 0 else f"signal {-done.returncode}"
        words = " ".join((done.stderr or b"").decode(errors="replace").split())[-400:]
        what = f"error running {kind} hook #{number}: {kind} hook failed with {how}"  # words that callers look for
        raise HostError(f"{origin}: {what}: {hook.path}{f': {words}' if words else ''}")


def _file(path: str) -> int:
    """A file that output is appended to; -1 for none."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600) if path else -1


def _environment(env: Sequence[str] | None) -> dict[str, str] | None:
    """Ours, where a hook does not say."""
    if env is None:
        return None
    pairs = (word.partition("=") for word in env)
    return {name: value for name, _, value in pairs if name}
