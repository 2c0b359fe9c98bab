"""The build hook: compiles `native/` into the package and says which machine the wheel is for.

The program is static, so one wheel serves every Linux of its architecture, glibc or musl.
`KNARR_NATIVE_PREBUILT=PATH` takes a program that was compiled elsewhere (a packager's cross build).
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


class NativeProgram(BuildHookInterface):  # type: ignore[type-arg]  # hatchling's generic has no public parameter
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """`version` is `standard` or `editable`; both get the program, in the tree itself."""
        root = Path(self.root)
        program = root / PROGRAM
        program.parent.mkdir(parents=True, exist_ok=True)
        prebuilt = os.environ.get("KNARR_NATIVE_PREBUILT")
        if prebuilt:
            shutil.copy(prebuilt, program)
        else:
            compile_native(root / "native" / "build.py", program)
        program.chmod(0o755)
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform_tag()}"


def compile_native(script: Path, output: Path) -> None:
    """Runs `build(output)` of native/build.py, which is also what `make native` runs."""
    spec = importlib.util.spec_from_file_location("knarr_native_build", script)
    if spec is None or spec.loader is None:
        raise RuntimeError(f"{script}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.build(output)


def platform_tag() -> str:
    """Static means any libc: `manylinux_2_17_x86_64.musllinux_1_1_x86_64` on that architecture."""
    machine = sysconfig.get_platform().removeprefix("linux-").replace("-", "_").replace(".", "_")
    return f"manylinux_2_17_{machine}.manylinux2014_{machine}.musllinux_1_1_{machine}"
