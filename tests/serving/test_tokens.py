"""Texts as tokens and back."""

from __future__ import annotations

import json

import pytest
from tests.tiny import tiny_model

from xlmr.errors import InputError
from xlmr.model.bundle import open_bundle
from xlmr.serving.tokens import DetokenizeOptions, TokenizeOptions, detokenize, tokenize


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    directory = tiny_model(tmp_path_factory.mktemp("models"), "embed")
    prompts = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    (directory / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    return open_bundle(directory)


def read(bundle, *items, **options):
    faults = [None] * len(items)
    return tokenize(bundle, items, TokenizeOptions(**options), faults), faults


def test_a_text_and_a_pair(bundle):
    (text, pair), _ = read(bundle, "hello world", ("hello", "world"))
    assert text.encoding == bundle.tokenizer.encode("hello world")
    assert pair.encoding == bundle.tokenizer.encode("hello", "world")
    assert text.pieces == ("<s>", "▁hello", "▁world", "</s>")
    assert (text.text, pair.text) == ("hello world", "hello\nworld")
    assert text.accounting.tokens == text.accounting.total_tokens == 4


def test_a_fault_stands_in_its_own_place(bundle):
    found, faults = read(bundle, "a", "\ud800", ("b", "\ud800"))
    assert [one is None for one in found] == [False, True, True]
    assert [fault and fault.path for fault in faults] == [None, "$[1]", "$[2][1]"]


def test_what_has_a_fault_already_is_left_alone(bundle):
    fault = InputError("no")
    faults = [fault, None]
    found = tokenize(bundle, ["a", "b"], TokenizeOptions(), faults)
    assert found[0] is None
    assert faults == [fault, None]


@pytest.mark.parametrize(("prompt", "tokens"), [("", 3), (None, 4), ("query", 4)])
def test_a_prompt_is_put_before_single_texts_where_it_is_asked_for(bundle, prompt, tokens):
    (text, pair), _ = read(bundle, "hello", ("hello", "world"), prompt=prompt)
    assert text.accounting.tokens == tokens
    assert text.text == "hello"
    assert pair.accounting.tokens == 6


def test_a_prompt_that_there_is_not(bundle):
    with pytest.raises(InputError) as refusal:
        read(bundle, "a", prompt="other")
    assert refusal.value.path == "$.prompt"


@pytest.mark.parametrize("long", ["truncate", "whole", "error"])
def test_512_tokens_are_no_long_text(bundle, long):
    (fits,), faults = read(bundle, " ".join(["hello"] * 510), long=long)
    assert faults == [None]
    assert (fits.accounting.tokens, fits.accounting.truncated) == (512, False)


def test_513_tokens_are(bundle):
    text = " ".join(["hello"] * 511)
    (cut,), _ = read(bundle, text)
    assert (cut.accounting.tokens, cut.accounting.total_tokens) == (512, 513)
    assert cut.accounting.truncated
    (whole,), _ = read(bundle, text, long="whole")
    assert (whole.accounting.tokens, whole.accounting.truncated) == (513, False)
    _, [fault] = read(bundle, text, long="error")
    assert (fault.code, fault.path) == ("too_long", "$[0]")


def test_ids_say_their_text(bundle):
    ids = bundle.tokenizer.encode("hello").ids
    faults = [None, None, None]
    found = detokenize(bundle, [ids, [], [3, -1]], DetokenizeOptions(), faults)
    assert [one and one.text for one in found] == ["▁hello", "", None]
    assert found[0].accounting.tokens == 3
    assert faults[2].path == "$[2][1]"
    [shown] = detokenize(bundle, [ids], DetokenizeOptions(skip_special=False), [None])
    assert shown.text == "<s> ▁hello </s>"


def test_unknown_pieces_are_counted(bundle):
    [one] = detokenize(bundle, [[0, 3, 3, 2]], DetokenizeOptions(), [None])
    assert one.accounting.unknown == 2
