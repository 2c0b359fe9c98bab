"""The specifications' own JSON schemas.

They come as Go modules pinned in tests/conformance/go.mod: `make conformance` fetches them into build/go before
the run; nothing is fetched here.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from harness.capabilities import SKIPPED, has
from harness.machine import REPOSITORY

MODULES = REPOSITORY / "tests/conformance"
SPECIFICATIONS = {
    "image": "github.com/opencontainers/image-spec",
    "runtime": "github.com/opencontainers/runtime-spec",
}


class Schemas:
    """The JSON schemas of a specification, by file name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def check(self, document: Any, name: str) -> None:
        """Fails with every fault and its path."""
        from jsonschema.validators import validator_for
        from referencing import Registry, Resource
        from referencing.jsonschema import DRAFT4

        def by_file(uri: str) -> Resource[Any]:
            text = (self.folder / uri.rpartition("/")[2].partition("#")[0]).read_text()
            return Resource.from_contents(json.loads(text), default_specification=DRAFT4)

        schema = json.loads((self.folder / name).read_text())
        known = Registry(retrieve=by_file)  # type: ignore[call-arg, unused-ignore]  # an attrs class mypy cannot see into
        validator = validator_for(schema)(schema, registry=known)
        faults = [f"{e.json_path}: {e.message}" for e in validator.iter_errors(document)]
        assert not faults, "\n".join(faults)


@pytest.fixture(scope="session")
def image_schemas() -> Schemas:
    return _schemas("image")


@pytest.fixture(scope="session")
def runtime_schemas() -> Schemas:
    return _schemas("runtime")


def _schemas(which: str) -> Schemas:
    if not has("go"):
        pytest.skip(f"{SKIPPED}go")
    # What is in the module cache already is not asked for on the network, which is not there.
    argv = ["go", "mod", "download", "-json", SPECIFICATIONS[which]]
    env = os.environ | {"GOMODCACHE": str(REPOSITORY / "build/go"), "GOFLAGS": "-modcacherw"}
    done = subprocess.run(argv, cwd=MODULES, capture_output=True, text=True, env=env)
    assert done.returncode == 0, f"run `make conformance`: {done.stdout}{done.stderr}"
    return Schemas(Path(json.loads(done.stdout)["Dir"]) / "schema")
