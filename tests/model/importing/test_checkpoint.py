from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from xlmr.errors import ModelError, ModelNotFoundError, ModelRefusedError, WeightsError
from xlmr.model.bundle import open_bundle
from xlmr.model.importing.checkpoint import import_checkpoint

HEADS = [
    "Model",
    "ForMaskedLM",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
]


def bring_in(source: Path, **options):
    out = source.with_name("out")
    return import_checkpoint(str(source), out, cache_dir=source.with_name("cache"), **options)


def rewrite_config(directory: Path, **fields):
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def agree(left, right):
    assert len(left) == len(right) > 0
    for one, other in zip(left, right, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)


@pytest.mark.parametrize("pickled", [False, True])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", ["XLMRoberta", "XLMRobertaXL", "Bert"])
def test_answers_stay_what_they_were(checkpoint, outputs, family, head, pickled):
    source = checkpoint(head, family=family, pickled=pickled)
    before = outputs(source)
    report = bring_in(source)
    agree(before, outputs(report.out))
    bundle = open_bundle(report.out)
    assert bundle.max_tokens == 20
    assert set(bundle.weights().encoder_names())
    assert bundle.raw_config["model_type"] != "bert"
    assert not list(report.warnings)


def test_number_formats_are_kept(checkpoint):
    source = checkpoint(type_vocab_size=1)
    weights = {k: v.clone() for k, v in load_file(source / "model.safetensors").items()}
    for dtype, name in [(torch.float16, "F16"), (torch.bfloat16, "BF16")]:
        save_file({k: v.to(dtype) for k, v in weights.items()}, source / "model.safetensors")
        report = bring_in(source, force=True)
        file = open_bundle(report.out).weights().files[0]
        assert {file.raw(weight)[0] for weight in file} == {name}
        stored = load_file(report.out / "model.safetensors")
        for weight, before in weights.items():
            assert torch.equal(stored[weight], before.to(dtype)), weight


def test_bert_number_format_is_kept_where_rows_are_added(checkpoint):
    source = checkpoint(family="Bert")
    weights = {k: v.clone() for k, v in load_file(source / "model.safetensors").items()}
    save_file({k: v.half() for k, v in weights.items()}, source / "model.safetensors")
    stored = load_file(bring_in(source).out / "model.safetensors")
    positions = stored["embeddings.position_embeddings.weight"]
    assert positions.dtype == torch.float16
    assert positions.shape == (22, 16)
    assert not positions[:2].any()
    before = weights["embeddings.position_embeddings.weight"].half()
    assert torch.equal(positions[2:], before)


def test_labels_and_problem_type_are_kept(checkpoint):
    labels = {0: "negative", 1: "neutral", 2: "positive"}
    source = checkpoint(
        "ForSequenceClassification",
        family="Bert",
        id2label=labels,
        label2id={v: k for k, v in labels.items()},
        problem_type="multi_label_classification",
    )
    config = json.loads((bring_in(source).out / "config.json").read_text())
    assert config["id2label"] == {str(k): v for k, v in labels.items()}
    assert config["problem_type"] == "multi_label_classification"
    assert config["architectures"] == ["XLMRobertaForSequenceClassification"]


@pytest.mark.parametrize("pickled", [False, True])
def test_shards_become_one_file(checkpoint, outputs, pickled):
    source = checkpoint("ForMaskedLM")
    before = outputs(source)
    weights = load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    name, suffix = ("pytorch_model", "bin") if pickled else ("model", "safetensors")
    save = torch.save if pickled else save_file
    home = {}
    for shard in range(3):
        part = {k: v for i, (k, v) in enumerate(weights.items()) if i % 3 == shard}
        file = f"{name}-{shard + 1:05d}-of-00003.{suffix}"
        save(part, source / file)
        home |= dict.fromkeys(part, file)
    index = source / f"{name}.{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": home}))
    report = bring_in(source)
    agree(before, outputs(report.out))
    assert [file.name for file in report.files if "model" in file.name] == ["model.safetensors"]

    (source / file).unlink()
    with pytest.raises(WeightsError, match="shard"):
        bring_in(source, force=True)


def test_old_names_and_buffers(checkpoint, outputs):
    source = checkpoint("ForMaskedLM", pickled=True)
    before = outputs(source)
    path = source / "pytorch_model.bin"
    weights = torch.load(path, weights_only=True)
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): array
        for name, array in weights.items()
    }
    old["roberta.embeddings.position_ids"] = torch.arange(22)[None]
    old["roberta.pooler.dense.weight"] = torch.zeros(16, 16)
    torch.save(old, path)
    report = bring_in(source)
    agree(before, outputs(report.out))
    reasons = {skipped.name: skipped.reason for skipped in report.skipped}
    assert reasons["roberta.embeddings.position_ids"] == "a buffer, not a weight"
    assert reasons["roberta.pooler.dense.weight"] == "no part of XLMRobertaForMaskedLM"
    tied = "the same as roberta.embeddings.word_embeddings.weight"
    assert reasons["lm_head.decoder.weight"] == tied


def test_a_decoder_of_its_own_is_kept(checkpoint):
    source = checkpoint("ForMaskedLM", pickled=True, tie_word_embeddings=False)
    weights = torch.load(source / "pytorch_model.bin", weights_only=True)
    stored = load_file(bring_in(source).out / "model.safetensors")
    assert torch.equal(stored["lm_head.decoder.weight"], weights["lm_head.decoder.weight"])


def test_architecture_is_guessed_where_it_is_not_said(checkpoint):
    for head in HEADS:
        source = checkpoint(head)
        rewrite_config(source, architectures=None)
        config = json.loads((bring_in(source, force=True).out / "config.json").read_text())
        assert config["architectures"] == [f"XLMRoberta{head}"]


def test_skips_are_said_and_code_stays_behind(checkpoint):
    source = checkpoint()
    rewrite_config(source, auto_map={"AutoModel": "modeling.XModel"})
    for name in ("modeling.py", "colbert_linear.pt", "tf_model.h5", "training_args.bin", "x.txt"):
        (source / name).write_text("raise SystemExit")
    (source / "onnx").mkdir()
    (source / "onnx" / "model.onnx").write_text("x")
    report = bring_in(source)
    assert {skipped.name: skipped.reason for skipped in report.skipped} == {
        "config.json auto_map": "remote code is never run",
        "modeling.py": "code of others is never run",
        "colbert_linear.pt": "the sparse and multi-vector heads are not supported",
        "tf_model.h5": "another format of the weights",
        "training_args.bin": "pickled objects are not loaded",
        "x.txt": "not needed",
        "onnx/": "another format of the weights",
    }
    assert "auto_map" not in (report.out / "config.json").read_text()
    assert sorted(file.name for file in report.files) == [
        "config.json",
        "model.safetensors",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_sentence_files_come_along(checkpoint):
    source = checkpoint()
    (source / "1_Pooling").mkdir()
    (source / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    modules = [{"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"}]
    modules += [{"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]
    (source / "modules.json").write_text(json.dumps(modules))
    (source / "sentence_bert_config.json").write_text('{"max_seq_length": 8}')
    bundle = open_bundle(bring_in(source).out)
    assert (bundle.pooling.kind, bundle.max_tokens) == ("cls", 8)

    modules += [{"idx": 2, "path": "2_Dense", "type": "sentence_transformers.models.Dense"}]
    (source / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelRefusedError, match=r"modules\.json \[2\]\.type"):
        bring_in(source, force=True)


def test_e5_gets_the_prompts_it_was_trained_with(checkpoint):
    source = checkpoint().rename(checkpoint().with_name("multilingual-e5-small"))
    assert open_bundle(bring_in(source).out).prompts == {"query": "query: ", "passage": "passage: "}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"model_type": "roberta"}, "config.json model_type"),
        ({"hidden_act": "relu"}, "config.json hidden_act"),
        ({"position_embedding_type": "relative_key"}, "config.json position_embedding_type"),
        ({"is_decoder": True}, "config.json is_decoder"),
        ({"hidden_size": None}, "config.json hidden_size"),
        ({"pad_token_id": 0}, "config.json pad_token_id"),
        ({"num_attention_heads": 3}, "config.json num_attention_heads"),
        ({"architectures": ["XLMRobertaForMultipleChoice"]}, "config.json architectures"),
        ({"quantization_config": {"bits": 4}}, "config.json quantization_config"),
        ({"vocab_size": 30}, "config.json vocab_size"),
        ({"intermediate_size": 32}, "encoder.layer.0.intermediate.dense.weight"),
        ({"max_position_embeddings": 24}, "embeddings.position_embeddings.weight"),
        ({"model_type": "bert"}, "config.json architectures"),
        ({"model_type": "bert", "max_position_embeddings": "x"}, "max_position_embeddings"),
    ],
)
def test_refuses_what_is_not_xlm_r_and_names_the_field(checkpoint, fields, field):
    source = checkpoint()
    rewrite_config(source, **fields)
    with pytest.raises(ModelRefusedError) as refused:
        bring_in(source)
    assert field in refused.value.field
    assert not source.with_name("out").exists()
    assert not [path for path in source.parent.iterdir() if path.name.startswith(".")]


def test_refuses_a_head_that_contradicts_its_labels(checkpoint):
    source = checkpoint("ForTokenClassification")
    rewrite_config(source, id2label={"0": "O"})
    with pytest.raises(ModelRefusedError) as refused:
        bring_in(source)
    assert refused.value.field == "config.json id2label"


def test_refuses_weights_xlm_r_does_not_have(checkpoint):
    source = checkpoint()
    path = source / "model.safetensors"
    weights = load_file(path)
    save_file(weights | {"encoder.layer.0.attention.self.rotary": torch.ones(2)}, path)
    with pytest.raises(ModelRefusedError, match="rotary"):
        bring_in(source)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda w: w.pop("encoder.layer.1.output.dense.bias"), "is missing"),
        (lambda w: w.update({"pooler.dense.bias": torch.tensor([1, 2])}), "I64"),
        (lambda w: w["embeddings.LayerNorm.bias"].__setitem__(3, float("nan")), "not finite"),
    ],
)
def test_refuses_damaged_weights(checkpoint, damage, message):
    source = checkpoint()
    path = source / "model.safetensors"
    weights = {k: v.clone() for k, v in load_file(path).items()}
    damage(weights)
    save_file(weights, path)
    with pytest.raises(WeightsError, match=message):
        bring_in(source)
    assert not source.with_name("out").exists()


def test_refuses_another_vocabulary(checkpoint):
    source = checkpoint(family="Bert")
    (source / "tokenizer.json").write_text('{"model": {"type": "WordPiece", "vocab": {}}}')
    with pytest.raises(ModelRefusedError) as refused:
        bring_in(source)
    assert refused.value.field == "tokenizer.json model.type"
    (source / "tokenizer.json").write_text(
        '{"model": {"type": "Unigram", "vocab": [["<unk>", 0]]}}'
    )
    with pytest.raises(ModelRefusedError, match="<s>, <pad>"):
        bring_in(source)
    (source / "tokenizer.json").unlink()
    with pytest.raises(ModelRefusedError, match=r"sentencepiece\.bpe\.model"):
        bring_in(source)


def test_targets(checkpoint):
    source = checkpoint()
    report = bring_in(source)
    with pytest.raises(ModelError, match="exists"):
        bring_in(source)
    bring_in(source, force=True)
    with pytest.raises(ModelError, match="overlap"):
        import_checkpoint(str(report.out), report.out, cache_dir=source, force=True)
    shutil.rmtree(report.out)
    report.out.mkdir()
    (report.out / "thesis.txt").write_text("mine")
    with pytest.raises(ModelError, match="something else"):
        bring_in(source, force=True)
    assert (report.out / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("source", ["./nowhere", "/nowhere/at/all", "a/b/c", "../x"])
def test_no_such_directory(tmp_path, source):
    with pytest.raises(ModelNotFoundError):
        import_checkpoint(source, tmp_path / "out", cache_dir=tmp_path)


def test_importing_twice_changes_nothing(checkpoint):
    first = bring_in(checkpoint("ForMaskedLM", family="Bert"))
    again = import_checkpoint(
        str(first.out), first.out.with_name("again"), cache_dir=first.out.with_name("cache")
    )
    assert again.files == first.files
    assert again.converted == again.skipped == again.warnings == ()
