"""Builds knarr-native, the static program of knarr, and the launcher. No dependencies: the packaging hook and the
Makefile call this.

python3 native/build.py                    src/knarr/_native/knarr-native, for this machine
python3 native/build.py --launcher PATH    what is installed as `knarr` and `knarr-runtime` (native/launcher)
python3 native/build.py --sanitize PATH    for tests: address and undefined-behaviour sanitizers, not static
python3 native/build.py --compiler cc PATH with a compiler of your choice
python3 native/build.py --strict …         warnings are errors: for who changes it; another's compiler may have new ones
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
LAUNCHER = HERE / "launcher"
PACKAGED = HERE.parent / "src" / "knarr" / "_native" / "knarr-native"

WARNINGS = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wno-format-zero-length"]
COMMON = ["-std=c11", "-D_GNU_SOURCE", *WARNINGS]
# Small, because every monitor has it in memory: no unwinding tables, few pages that are written to.
STATIC = [
    "-static", "-s", "-Os", "-ffunction-sections", "-fdata-sections", "-fno-asynchronous-unwind-tables",
    "-Wl,--gc-sections,-z,noseparate-code,-z,norelro,--sort-section=alignment",
]  # fmt: skip
SANITIZED = [
    "-g",
    "-O1",
    "-fno-omit-frame-pointer",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
]


class BuildError(Exception):
    """The program could not be built; the message is the compiler's."""


def build(
    output: Path = PACKAGED,
    *,
    sources: Path = HERE,
    sanitize: bool = False,
    compiler: str | None = None,
    strict: bool = False,
) -> None:
    """Compile all of `sources` into `output`: by musl-gcc where it is, else by cc. Raises `BuildError`."""
    compiler = compiler or ("cc" if sanitize else None) or shutil.which("musl-gcc") or "cc"
    flags = [*COMMON, *(SANITIZED if sanitize else STATIC), *(["-Werror"] if strict else [])]
    if "musl" in os.path.basename(compiler):
        flags += _kernel_headers()
    output.parent.mkdir(parents=True, exist_ok=True)
    beside = output.with_name(f".{output.name}.{os.getpid()}")
    command = [compiler, *flags, "-o", str(beside), *(str(path) for path in sorted(sources.glob("*.c")))]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise BuildError(f"{compiler} failed:\n{result.stderr}")
        beside.replace(output)
    except FileNotFoundError as e:
        raise BuildError(f"no C compiler: {compiler} is not installed") from e
    finally:
        beside.unlink(missing_ok=True)


def _kernel_headers() -> list[str]:
    """musl brings none of its own. Behind its directories, so that its own headers win."""
    triplet = f"{os.uname().machine}-linux-gnu"
    return ["-idirafter", "/usr/include", "-idirafter", f"/usr/include/{triplet}"]


def main(words: list[str]) -> int:
    sanitize = "--sanitize" in words
    compiler = words[words.index("--compiler") + 1] if "--compiler" in words[:-1] else None
    paths = [word for word in words if not word.startswith("--") and word != compiler]
    output = Path(paths[0]) if paths else PACKAGED
    sources = LAUNCHER if "--launcher" in words else HERE
    try:
        build(output, sources=sources, sanitize=sanitize, compiler=compiler, strict="--strict" in words)
    except BuildError as e:
        print(e, file=sys.stderr)
        return 1
    print(f"{output}: {output.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
