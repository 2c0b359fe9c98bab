"""The build hook: compiles `native/` into the package and the launcher into the wheel's scripts, and says which machine
the wheel is for.

The programs are static, so one wheel serves every Linux of its architecture, glibc or musl.
`KNARR_NATIVE_PREBUILT=PATH` takes a program that was compiled elsewhere (a packager's cross build), and the launcher
`knarr-launcher` beside it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PROGRAM = Path("src/knarr/_native/knarr-native")
SCRIPTS = Path("build/scripts")
LAUNCHED = ("knarr", "knarr-runtime")


class NativeProgram(BuildHookInterface):  # type: ignore[type-arg]  # hatchling's generic has no public parameter
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """`version` is `standard` or `editable`; both get the program, in the tree itself."""
        root = Path(self.root)
        program = root / PROGRAM
        scripts = root / SCRIPTS
        for directory in (program.parent, scripts):
            directory.mkdir(parents=True, exist_ok=True)
        first, *others = (scripts / name for name in LAUNCHED)
        prebuilt = os.environ.get("KNARR_NATIVE_PREBUILT")
        if prebuilt:
            shutil.copy(prebuilt, program)
            shutil.copy(Path(prebuilt).with_name("knarr-launcher"), first)
        else:
            build = load(root / "native" / "build.py")
            build.build(program)
            build.build(first, sources=build.LAUNCHER)
        for other in others:
            shutil.copy(first, other)
        for file in (program, first, *others):
            file.chmod(0o755)
        build_data["shared_scripts"] = {str(SCRIPTS): "/"}
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform_tag()}"


def load(script: Path) -> Any:
    """native/build.py, which is also what `make native` runs."""
    spec = importlib.util.spec_from_file_location("knarr_native_build", script)
    if spec is None or spec.loader is None:
        raise RuntimeError(f"{script}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def platform_tag() -> str:
    """Static means any libc: `manylinux_2_17_x86_64.musllinux_1_1_x86_64` on that architecture."""
    machine = sysconfig.get_platform().removeprefix("linux-").replace("-", "_").replace(".", "_")
    return f"manylinux_2_17_{machine}.manylinux2014_{machine}.musllinux_1_1_{machine}"
