from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.tiny import tiny_model, write_linear_head

from xlmr.errors import ModelNotFoundError, ModelRefusedError, WeightsError
from xlmr.model.bundle import Bundle, open_bundle, open_encoder
from xlmr.model.digests import Digests
from xlmr.model.pooling import Pooling


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tiny_model(tmp_path, "embed")


def edit(path: Path, **changed: Any) -> None:
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | changed))


def write_modules(path: Path, pooling: dict[str, Any], *, normalize: bool = True) -> None:
    prefix = "sentence_transformers.models."
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": prefix + "Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": prefix + "Pooling"},
    ]
    if normalize:
        modules.append({"idx": 2, "name": "2", "path": "2_Normalize", "type": prefix + "Normalize"})
    (path / "modules.json").write_text(json.dumps(modules))
    (path / "1_Pooling").mkdir(exist_ok=True)
    (path / "1_Pooling" / "config.json").write_text(json.dumps(pooling))


def test_an_encoder_alone_is_the_bundles(path: Path) -> None:
    bundle, bare = open_bundle(path), open_encoder(path)
    assert bare.encoder_digest == bundle.encoder_digest
    assert (bare.config, bare.max_tokens) == (bundle.config, bundle.max_tokens)
    name = next(iter(bundle.weights().encoder_names()))
    assert np.array_equal(bare.weights().encoder(name), bundle.weights().encoder(name))
    with pytest.raises(ModelNotFoundError):
        open_encoder(path / "nothing")


# --- opening -----------------------------------------------------------------------------------


def test_opens_a_plain_encoder(path: Path) -> None:
    bundle = open_bundle(path)
    assert bundle.tasks == {"embed"}
    assert bundle.max_tokens == bundle.tokenizer.max_tokens == 512
    assert bundle.pooling == Pooling(kind="mean", normalize=True)
    assert (bundle.prompts, bundle.default_prompt, bundle.extras) == ({}, None, {})
    assert bundle.prompt(None) == ""
    assert bundle.weights().encoder("embeddings.position").shape == (514, 32)


@pytest.mark.parametrize(
    ("kind", "tasks"),
    [
        ("fill", {"embed", "fill"}),
        ("classify", {"classify"}),
        ("multi_label", {"classify"}),
        ("regression", {"classify", "rerank"}),
        ("rerank", {"classify", "rerank"}),
        ("zero_shot", {"classify", "zero_shot"}),
        ("tag", {"tag"}),
        ("answer", {"answer"}),
    ],
)
@pytest.mark.parametrize("pre_norm", [False, True])
def test_the_architecture_decides_the_tasks(
    tmp_path: Path, kind: str, tasks: set[str], pre_norm: bool
) -> None:
    assert open_bundle(tiny_model(tmp_path, kind, pre_norm=pre_norm)).tasks == tasks


def test_a_linear_head_adds_classification(path: Path) -> None:
    write_linear_head(path, ("refund", "delivery"))
    assert open_bundle(path).tasks == {"classify", "embed"}


def test_without_architectures_it_is_an_encoder(path: Path) -> None:
    edit(path / "config.json", architectures=None)
    assert open_bundle(path).tasks == {"embed"}


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="no such directory"):
        open_bundle(tmp_path / "gone")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_missing_file_is_named(path: Path, name: str) -> None:
    (path / name).unlink()
    with pytest.raises(ModelNotFoundError, match=name):
        open_bundle(path)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"a": 1}}', b"[" * 100_000]
)
@pytest.mark.parametrize("name", ["config.json", "xlmr.json", "config_sentence_transformers.json"])
def test_files_that_are_no_json_object_are_refused(path: Path, name: str, content: bytes) -> None:
    (path / name).write_bytes(content)
    with pytest.raises(ModelRefusedError) as refused:
        open_bundle(path)
    assert refused.value.field == name


@pytest.mark.parametrize(
    ("name", "changed", "field"),
    [
        ("config.json", {"architectures": ["BertModel"]}, "architectures"),
        ("config.json", {"architectures": ["XLMRobertaForMultipleChoice"]}, "architectures"),
        ("config.json", {"architectures": "XLMRobertaModel"}, "architectures"),
        ("config.json", {"architectures": [4]}, "architectures"),
        ("config.json", {"model_type": "bert"}, "model_type"),
        ("config.json", {"vocab_size": 10}, "vocab_size"),
        ("xlmr.json", {"format": 2}, "format"),
        ("xlmr.json", {"format": 1, "head": []}, "head"),
        ("sentence_bert_config.json", {"max_seq_length": "512"}, "max_seq_length"),
        ("sentence_bert_config.json", {"max_seq_length": 2}, "max_seq_length"),
        ("config_sentence_transformers.json", {"prompts": {"query": 4}}, "prompts"),
        ("config_sentence_transformers.json", {"prompts": ["query"]}, "prompts"),
        ("config_sentence_transformers.json", {"default_prompt_name": "q"}, "default_prompt_name"),
    ],
)
def test_wrong_fields_are_named(path: Path, name: str, changed: dict[str, Any], field: str) -> None:
    edit(path / name, **changed)
    with pytest.raises(ModelRefusedError) as refused:
        open_bundle(path)
    assert name in refused.value.field
    assert field in refused.value.field


# --- sentence vectors --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pooling", "normalize", "expected"),
    [
        ({"pooling_mode_mean_tokens": True}, True, Pooling("mean", True)),
        ({"pooling_mode_mean_tokens": True}, False, Pooling("mean", False)),
        (
            {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False},
            True,
            Pooling("cls", True),
        ),
        ({"pooling_mode": "cls", "include_prompt": True}, True, Pooling("cls", True)),
    ],
)
def test_pooling_is_read(
    path: Path, pooling: dict[str, Any], normalize: bool, expected: Pooling
) -> None:
    write_modules(path, pooling, normalize=normalize)
    assert open_bundle(path).pooling == expected


@pytest.mark.parametrize(
    "pooling",
    [
        {"pooling_mode_max_tokens": True},
        {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
        {"pooling_mode": "lasttoken"},
        {"pooling_mode_mean_tokens": True, "include_prompt": False},
        {},
    ],
)
def test_other_poolings_are_refused(path: Path, pooling: dict[str, Any]) -> None:
    write_modules(path, pooling)
    with pytest.raises(ModelRefusedError, match=r"1_Pooling/config\.json"):
        open_bundle(path)


@pytest.mark.parametrize(
    "module",
    [
        {"type": "sentence_transformers.models.Dense", "path": "2_Dense"},
        {"type": "sentence_transformers.models.Pooling", "path": "../elsewhere"},
        {"type": "sentence_transformers.models.Pooling"},
        {"path": "1_Pooling"},
        "Pooling",
    ],
)
def test_other_modules_are_refused(path: Path, module: Any) -> None:
    (path / "modules.json").write_text(json.dumps([module]))
    with pytest.raises(ModelRefusedError, match=r"modules\.json"):
        open_bundle(path)


def test_prompts_are_read(path: Path) -> None:
    prompts = {"query": "query: ", "passage": "passage: "}
    edit(path / "config_sentence_transformers.json", prompts=prompts, default_prompt_name="query")
    bundle = open_bundle(path)
    assert bundle.prompt(None) == "query: "
    assert bundle.prompt("passage") == "passage: "
    assert bundle.prompt("") == ""
    with pytest.raises(KeyError):
        bundle.prompt("unknown")


def test_a_lower_limit_is_kept_and_a_higher_one_is_not_believed(path: Path) -> None:
    edit(path / "sentence_bert_config.json", max_seq_length=128)
    assert open_bundle(path).max_tokens == 128
    edit(path / "sentence_bert_config.json", max_seq_length=514)
    assert open_bundle(path).max_tokens == 512


# --- digests -----------------------------------------------------------------------------------


def test_the_same_content_has_the_same_digest_anywhere(tmp_path: Path) -> None:
    first = open_bundle(tiny_model(tmp_path / "a", "classify"))
    second = open_bundle(tiny_model(tmp_path / "b", "classify"))
    assert first.digest == second.digest
    assert first.encoder_digest == second.encoder_digest
    assert len(first.digest) == 64


def digests(path: Path) -> tuple[str, str]:
    bundle = open_bundle(path)
    return bundle.digest, bundle.encoder_digest


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "modules.json",
        "config_sentence_transformers.json",
        "1_Pooling/config.json",
        "xlmr.json",
    ],
)
def test_whatever_makes_answers_changes_the_digest_and_not_the_encoders(
    path: Path, name: str
) -> None:
    write_modules(path, {"pooling_mode_mean_tokens": True})
    write_linear_head(path, ("refund", "delivery"))
    before = digests(path)
    if name == "modules.json":
        write_modules(path, {"pooling_mode_mean_tokens": True}, normalize=False)
    elif name == "xlmr.json":
        write_linear_head(path, ("refund", "cancel"))
    else:
        edit(path / name, prompts={"query": "q"}, irrelevant=1)
    after = digests(path)
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_the_heads_weights_change_the_digest_and_not_the_encoders(path: Path) -> None:
    write_linear_head(path, ("refund", "delivery"), seed=0)
    before = digests(path)
    write_linear_head(path, ("refund", "delivery"), seed=1)
    after = digests(path)
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_the_encoders_weights_change_both(tmp_path: Path) -> None:
    before = digests(tiny_model(tmp_path / "a", "embed", seed=0))
    after = digests(tiny_model(tmp_path / "b", "embed", seed=1))
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_what_only_describes_changes_nothing(path: Path) -> None:
    write_linear_head(path, ("refund", "delivery"))
    before = digests(path)
    edit(path / "xlmr.json", lineage={"date": "2025-01-01"}, report={"accuracy": 0.9})
    (path / "README.md").write_text("words")
    assert digests(path) == before


def test_digests_are_remembered_until_the_file_changes(tmp_path: Path) -> None:
    file, cache = tmp_path / "weights", tmp_path / "cache" / "deep"
    file.write_bytes(b"one")
    one = Digests(cache).of(file)
    remembered = json.loads((cache / "digests.json").read_text())
    assert remembered == {str(file): [3, file.stat().st_mtime_ns, one]}
    # Shown by a lie: what is remembered is believed, and not read again.
    (cache / "digests.json").write_text(json.dumps({str(file): [*remembered[str(file)][:2], "ab"]}))
    assert Digests(cache).of(file) == "ab"
    os.utime(file, ns=(0, 0))
    assert Digests(cache).of(file) == one
    file.write_bytes(b"three")
    assert Digests(cache).of(file) not in (one, "ab")
    assert not list(cache.glob(".*"))


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 4}', "null"])
def test_a_broken_memory_is_forgotten(tmp_path: Path, content: str) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    (tmp_path / "digests.json").write_text(content)
    assert Digests(tmp_path).of(file) == Digests(None).of(file)


def test_a_memory_that_cannot_be_written_is_no_fault(tmp_path: Path) -> None:
    file, blocked = tmp_path / "weights", tmp_path / "a file"
    file.write_bytes(b"one")
    blocked.write_bytes(b"")
    assert Digests(blocked).of(file) == Digests(None).of(file)


def test_without_a_cache_nothing_is_written(path: Path) -> None:
    before = sorted(path.parent.rglob("*"))
    assert digests(path)
    assert sorted(path.parent.rglob("*")) == before


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="gone"):
        Digests(None).of(tmp_path / "gone")


def test_transformers_still_opens_a_directory_with_our_files(path: Path) -> None:
    import transformers

    write_linear_head(path, ("refund", "delivery"))
    network = transformers.AutoModel.from_pretrained(path)
    bundle: Bundle = open_bundle(path)
    np.testing.assert_array_equal(
        network.embeddings.word_embeddings.weight.detach().numpy(),
        bundle.weights().encoder("embeddings.word"),
    )
