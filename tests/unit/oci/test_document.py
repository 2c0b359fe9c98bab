"""Documents to records and back: paths in errors, unknown fields ignored, null is absent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knarr.errors import DataError
from knarr.oci.document import decode, encode
from knarr.oci.image import ImageConfig, Index, Manifest, RunConfig
from knarr.oci.spec import Spec

MANIFEST = {
    "schemaVersion": 2,
    "config": {"mediaType": "c", "digest": "d", "size": 1},
    "layers": [{"mediaType": "l", "digest": "e", "size": 2, "annotations": {"k": "v"}}],
}


def test_fields_and_nesting() -> None:
    found = decode(Manifest, {**MANIFEST, "unknown": [1], "annotations": None})
    assert found.layers[0].annotations == {"k": "v"}
    assert found.annotations == {}
    assert encode(found) == MANIFEST


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], r"\$: expected an object, not an array"),
        ({}, r"\$.schemaVersion: is required"),
        ({**MANIFEST, "schemaVersion": "2"}, r"\$.schemaVersion: expected an integer, not a string"),
        ({**MANIFEST, "schemaVersion": True}, r"\$.schemaVersion: expected an integer, not a boolean"),
        ({**MANIFEST, "layers": {}}, r"\$.layers: expected an array, not an object"),
        ({**MANIFEST, "layers": [{}]}, r"\$.layers\[0\].mediaType: is required"),
        ({**MANIFEST, "layers": [None]}, r"\$.layers\[0\]: expected an object, not null"),
        ({**MANIFEST, "annotations": {"a": 1}}, r"\$.annotations.a: expected a string, not an integer"),
    ],
)
def test_faults_name_their_place(value: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        decode(Manifest, value)


def test_names_in_each_style() -> None:
    config = decode(
        ImageConfig,
        {
            "architecture": "arm64", "os": "linux", "os.version": "1", "variant": "v8",
            "rootfs": {"type": "layers", "diff_ids": ["a"]},
            "config": {"Env": ["A=1"], "Cmd": None, "WorkingDir": "/w", "Healthcheck": {"StartPeriod": 5}},
            "history": [{"created_by": "x", "empty_layer": True}],
        },
    )  # fmt: skip
    assert (config.os_version, config.rootfs.diff_ids, config.history[0].empty_layer) == ("1", ("a",), True)
    assert config.config.working_dir == "/w"
    assert config.config.healthcheck is not None
    assert config.config.healthcheck.start_period == 5
    assert encode(RunConfig(cmd=("a",), on_build=("b",))) == {"Cmd": ["a"], "OnBuild": ["b"]}


def test_the_runtime_specifications_odd_names() -> None:
    spec = decode(
        Spec,
        {
            "ociVersion": "1.0.2",
            "linux": {
                "uidMappings": [{"containerID": 0, "hostID": 1, "size": 2}],
                "resources": {"blockIO": {"throttleReadIOPSDevice": [{"major": 1, "minor": 2}]}},
            },
        },
    )
    assert spec.linux.uid_mappings[0].host_id == 1
    assert decode(Spec, encode(spec)) == spec


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["schemaVersion", "config", "layers", "manifests", "mediaType", "digest", "size", "platform"]
            ),
            inner,
        )
    ),
    max_leaves=15,
)


@given(anything)
def test_any_value_is_a_record_or_an_error_of_ours(value: object) -> None:
    for cls in (Manifest, Index):
        try:
            found = decode(cls, value)
        except DataError as e:
            assert e.message.startswith("$")
            continue
        assert decode(cls, encode(found)) == found
