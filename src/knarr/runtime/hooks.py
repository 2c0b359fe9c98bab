"""Hooks in the runtime's namespaces (config.md, POSIX-platform Hooks): prestart, createRuntime, poststart, poststop.

Those of the container's namespaces are steps of its plan.
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


def run_hooks(kind: str, hooks: Sequence[Hook], state: dict[str, Any], cwd: str) -> None:
    """Run them in order, the state on their standard input. Raises `HostError` for the first that fails."""
    for i, hook in enumerate(hooks):
        run_hook(f"hooks.{kind}[{i}]", hook, state, cwd)


def run_hooks_anyway(
    kind: str, hooks: Sequence[Hook], state: dict[str, Any], cwd: str, warn: Callable[[str], None]
) -> None:
    """As above for hooks whose failure is logged and changes nothing (runtime.md: poststart, poststop)."""
    for i, hook in enumerate(hooks):
        try:
            run_hook(f"hooks.{kind}[{i}]", hook, state, cwd)
        except HostError as e:
            warn(e.message)


def run_hook(origin: str, hook: Hook, state: dict[str, Any], cwd: str) -> None:
    """Raises `HostError` when it cannot be started, fails, or takes longer than its timeout."""
    import subprocess  # most containers have no hooks

    try:
        done = subprocess.run(
            list(hook.args) or [hook.path],
            executable=hook.path,
            input=json.dumps(state).encode(),
            env=_environment(hook.env),
            cwd=cwd if os.path.isdir(cwd) else "/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=hook.timeout,
            restore_signals=True,
        )
    except subprocess.TimeoutExpired:
        raise HostError(f"{origin}: {hook.path} took longer than its timeout of {hook.timeout} s") from None
    except OSError as e:
        raise HostError(f"{origin}: cannot run {hook.path}: {os.strerror(e.errno or 0).lower()}") from e
    if done.returncode:
        ended = (
            f"exit status {done.returncode}"
            if done.returncode > 0
            else f"killed by signal {-done.returncode}"
        )
        words = " ".join(done.stderr.decode(errors="replace").split())[:400]
        raise HostError(f"{origin}: {hook.path} failed: {ended}{f', {words}' if words else ''}")


def _environment(env: Sequence[str] | None) -> dict[str, str] | None:
    """Ours, where a hook does not say."""
    if env is None:
        return None
    pairs = (word.partition("=") for word in env)
    return {name: value for name, _, value in pairs if name}
