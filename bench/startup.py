"""Interpreter, imports and parsing of `run`: a command line that ends where the store would be asked.

Beside it what the same interpreter costs bare, and the script pip generates for an entry point.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from engines import engine
from measure import Limit, alternate, report

RUNS = 40
WORDS = "run -it --rm --name web -e A=b -v /srv:/srv:ro -p 8080:80 --memory 1g --cpus 1.5 --help".split()
GENERATED = """#!{python}
# -*- coding: utf-8 -*-
import re
import sys
from knarr.cli.main import entry
if __name__ == '__main__':
    sys.argv[0] = re.sub(r'(-script\\.pyw|\\.exe)?$', '', sys.argv[0])
    sys.exit(entry())
"""


def main() -> bool:
    knarr = engine("knarr")
    if knarr is None:
        raise SystemExit("knarr is not installed beside this Python")
    python = str(Path(sys.executable))
    with tempfile.TemporaryDirectory(prefix="knarr-bench-") as made:
        generated = Path(made, "knarr")
        generated.write_text(GENERATED.format(python=python))
        generated.chmod(0o755)
        contenders = {
            "knarr": [*knarr.prefix, *WORDS],
            "pip's own script": [str(generated), *WORDS],
            "python -I -S": [python, "-I", "-S", "-c", "pass"],
            "python": [python, "-c", "pass"],
        }
        return report(
            "start: interpreter + imports + parsing of run", alternate(contenders, runs=RUNS), [Limit(20)]
        )


if __name__ == "__main__":
    sys.exit(not main())
