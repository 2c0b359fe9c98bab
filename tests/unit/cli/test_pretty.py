from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from knarr.cli.pretty import pretty

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(values)
def test_it_is_what_the_standard_library_writes(value: object) -> None:
    assert pretty(value) == json.dumps(value, indent=4)
