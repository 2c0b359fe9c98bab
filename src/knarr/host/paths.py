"""Where knarr keeps things. Root and users have the same tree under different roots.

    ROOT  /var/lib/knarr, or $XDG_DATA_HOME/knarr          survives a reboot
      blobs/sha256/HEX                                     every document and compressed layer, by digest
      layers/HEX/diff/                                     a layer unpacked, by the hex of its diff id
      images/HEX/image.json                                an image, by the hex of its config's digest
      refs/NAME                                            symbolic link to ../images/HEX; NAME is the percent-encoded reference
      store.db                                             SQLite: which blobs, layers and pulls there are, for collecting
      containers/ID/                                       one container: see knarr.engine.container_dir
      names/NAME                                           symbolic link to ../containers/ID: taking it is taking the name
      tmp/                                                 what is being made; swept when its maker is gone
    RUN   /run/knarr, or $XDG_RUNTIME_DIR/knarr            gone with a reboot
      containers/ID/                                       one running container: pid, attach socket, tear-down plan
      networks/NAME/ADDRESS                                symbolic link, text ID: taking it is leasing the address

Overrides: `--root`, `--run-root`, `KNARR_ROOT`, `KNARR_RUN`.
"""

from __future__ import annotations

import os

from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Paths(Record):
    root: str
    run: str
    config: tuple[str, ...]  # directories, the one that wins first


def default_paths(euid: int, env: Mapping[str, str]) -> Paths:
    """Absolute paths; nothing is created."""
    if euid == 0 and "KNARR_USERNS" not in env:
        root, run, config = "/var/lib/knarr", "/run/knarr", ("/etc/knarr",)
    else:
        home = env.get("HOME") or "/"
        root = (env.get("XDG_DATA_HOME") or f"{home}/.local/share") + "/knarr"
        run = env.get("XDG_RUNTIME_DIR") or _private_run(int(env.get("KNARR_USERNS", euid)))
        run += "/knarr"
        config = ((env.get("XDG_CONFIG_HOME") or f"{home}/.config") + "/knarr", "/etc/knarr")
    return Paths(
        os.path.abspath(env.get("KNARR_ROOT") or root),
        os.path.abspath(env.get("KNARR_RUN") or run),
        config,
    )


def _private_run(uid: int) -> str:
    """A user without XDG_RUNTIME_DIR: /run/user/UID when it is there, else a directory of their own in /tmp."""
    return f"/run/user/{uid}" if os.access(f"/run/user/{uid}", os.W_OK) else f"/tmp/knarr-run-{uid}"
