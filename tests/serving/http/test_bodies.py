"""Whatever bytes come in, a body decodes or is refused by an error of ours that names a place."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmr.errors import InputError
from xlmr.serving.http.bodies import Decoder
from xlmr.serving.http.openai import EmbeddingsRequest
from xlmr.serving.http.problems import BadJsonError
from xlmr.serving.http.verbs.classify import ClassifyRequest

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@pytest.mark.parametrize("kind", [ClassifyRequest, EmbeddingsRequest])
@given(value=json_values, name=st.sampled_from(["input", "model", "top", "dimensions", "other"]))
def test_any_json_decodes_or_names_a_place(kind, value, name):
    decode = Decoder(kind)
    for body in (value, {name: value}, {"input": "a", name: value}):
        path = None
        try:
            decoded = decode(json.dumps(body).encode())
        except BadJsonError:
            continue
        except InputError as error:
            path = error.path
        if path is None:
            assert isinstance(decoded.input, str | list)
        else:
            assert re.fullmatch(r"\$(\.\w+|\[\d+\])*", path)


@given(body=st.binary(max_size=60))
def test_any_bytes_decode_or_are_refused(body):
    with pytest.raises((BadJsonError, InputError)):
        Decoder(ClassifyRequest)(body + b"}")


def test_a_refused_value_is_not_repeated():
    with pytest.raises(InputError) as refusal:
        Decoder(ClassifyRequest)(b'{"input": "a", "long": "private"}')
    assert str(refusal.value) == "$.long: not one of the allowed values"


def test_lone_surrogates_pass_into_the_text_that_holds_them():
    decoded = Decoder(ClassifyRequest)(b'{"input": ["a", "\\ud800b"]}')
    assert decoded.input == ["a", "\ud800b"]
