from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from xlmr.cli.import_ import import_command
from xlmr.errors import ModelRefusedError
from xlmr.model.config import parse_config
from xlmr.model.importing.writing import StoredArray, write_safetensors
from xlmr.model.weights import name_table, random_weights

CONFIG = {
    "model_type": "xlm-roberta",
    "vocab_size": 8,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "max_position_embeddings": 10,
    "type_vocab_size": 1,
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    directory = tmp_path / "source"
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(CONFIG))
    config = parse_config(CONFIG)
    names, weights = name_table(config), random_weights(config, seed=0)

    def stored(name: str, array: np.ndarray) -> StoredArray:
        return StoredArray(names[name], "F32", array.shape, lambda: [array])

    write_safetensors(directory / "model.safetensors", [stored(*pair) for pair in weights.items()])
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", "a", "b", "<mask>"]
    special = [
        {
            "id": pieces.index(piece),
            "content": piece,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for piece in ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    ]
    template = [
        {"SpecialToken": {"id": "<s>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "</s>", "type_id": 0}},
    ]
    second = [
        {"SpecialToken": {"id": "</s>", "type_id": 0}},
        {"Sequence": {"id": "B", "type_id": 0}},
        {"SpecialToken": {"id": "</s>", "type_id": 0}},
    ]
    tokenizer = {
        "version": "1.0",
        "added_tokens": special,
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": template,
            "pair": template + second,
            "special_tokens": {
                piece: {"id": piece, "ids": [pieces.index(piece)], "tokens": [piece]}
                for piece in ("<s>", "</s>")
            },
        },
        "model": {"type": "Unigram", "unk_id": 3, "vocab": [[piece, -1.0] for piece in pieces]},
    }
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer))
    (directory / "modeling.py").write_text("raise SystemExit")
    return directory


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(import_command, [str(argument) for argument in arguments])


def test_says_what_was_written_and_skipped(source, tmp_path):
    result = run(source, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "wrote     model.safetensors" in result.stdout
    assert "skipped   modeling.py: code of others is never run" in result.stdout
    assert (tmp_path / "out" / "model.safetensors").exists()


def test_json(source, tmp_path):
    report = json.loads(run(source, "--out", tmp_path / "out", "--json").stdout)
    digests = {file["name"]: file["sha256"] for file in report["files"]}
    content = (tmp_path / "out" / "model.safetensors").read_bytes()
    assert digests["model.safetensors"] == hashlib.sha256(content).hexdigest()
    assert report["out"] == str(tmp_path / "out")
    assert [skipped["name"] for skipped in report["skipped"]] == ["modeling.py"]


def test_force(source, tmp_path):
    assert run(source, "--out", tmp_path / "out").exit_code == 0
    assert "--force" in str(run(source, "--out", tmp_path / "out").exception)
    assert run(source, "--out", tmp_path / "out", "--force").exit_code == 0


def test_faults_are_ours(source, tmp_path):
    (source / "config.json").write_text(json.dumps(CONFIG | {"model_type": "gpt2"}))
    result = run(source, "--out", tmp_path / "out")
    assert isinstance(result.exception, ModelRefusedError)
    assert run("starter", "--out", tmp_path / "out", "--revision", "x").exit_code == 2


def test_a_starter_that_is_there_is_left(source, tmp_path):
    out = tmp_path / "out"
    run(source, "--out", out)
    before = (out / "model.safetensors").read_bytes()
    result = run("starter", "--out", out)
    assert "is there already" in result.stdout
    assert (out / "model.safetensors").read_bytes() == before
