from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from xlmr.errors import ModelRefusedError
from xlmr.model.importing.checkpoint import import_checkpoint
from xlmr.model.importing.sentencepiece import build_tokenizer, parse_sentencepiece

TEXTS = [
    "Where is my parcel? It should have been here on Tuesday.",
    "Wo bleibt mein Paket, es sollte schon längst da sein!",
    "¿Dónde está mi paquete? Llevo días esperándolo.",
    "Где моя посылка? Её обещали привезти во вторник.",
    "أين طردي؟ كان من المفترض أن يصل يوم الثلاثاء.",
    "איפה החבילה שלי? היא הייתה אמורה להגיע ביום שלישי.",
    "मेरा पार्सल कहाँ है? इसे मंगलवार को आना था।",
    "พัสดุของฉันอยู่ที่ไหน ควรจะมาถึงวันอังคาร",
    "私の荷物はどこですか。火曜日に届くはずでした。",
    "我的包裹在哪里？本来应该星期二到的。",
    "제 소포는 어디에 있나요? 화요일에 도착했어야 합니다.",
    "Πού είναι το δέμα μου; Έπρεπε να έρθει την Τρίτη.",
    "სად არის ჩემი ამანათი? სამშაბათს უნდა მოსულიყო.",
]
ODD = [
    "",
    "   ",
    "  two  spaces\tand a tab\nand a line ",
    "ﬁne ① ㎏ ｆｕｌｌｗｉｄｔｈ e\u0301 ½",
    "never seen: ₿ 🜚 ᚠᚢᚦ",
    "\u3000ideographic\u00a0no-break",
    "▁already ▁marked",
]


def train(**options) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 20),
        model_writer=model,
        # Fewer pieces where the few texts do not yield that many.
        **{"vocab_size": 400, "hard_vocab_limit": False, "minloglevel": 2} | options,
    )
    return model.getvalue()


@pytest.fixture(scope="module")
def trained() -> bytes:
    return train()


def fairseq_ids(processor: sentencepiece.SentencePieceProcessor, text: str) -> list[int]:
    """XLM-R's numbering: one above SentencePiece's, with the unknown piece 0 as 3."""
    return [0, *(i + 1 if i else 3 for i in processor.encode(text)), 2]


def test_ids_are_the_packages(trained):
    processor = sentencepiece.SentencePieceProcessor(model_proto=trained)
    tokenizer = build_tokenizer(parse_sentencepiece(trained))
    for text in TEXTS + ODD:
        assert tokenizer.encode(text).ids == fairseq_ids(processor, text), text
    assert tokenizer.get_vocab_size() == processor.get_piece_size() + 2
    assert tokenizer.token_to_id("<mask>") == processor.get_piece_size() + 1
    assert [tokenizer.id_to_token(i) for i in range(4)] == ["<s>", "<pad>", "</s>", "<unk>"]
    assert tokenizer.decode(tokenizer.encode(TEXTS[0]).ids) == TEXTS[0]


def test_pairs_and_masks(trained):
    tokenizer = build_tokenizer(parse_sentencepiece(trained))
    ids = tokenizer.encode("Wo", "my").ids
    assert ids[0] == 0
    assert ids.count(2) == 3
    mask = tokenizer.token_to_id("<mask>")
    assert mask in tokenizer.encode("my <mask> is").ids


def test_user_defined_pieces_are_never_split():
    content = train(user_defined_symbols=["<laugh>"])
    processor = sentencepiece.SentencePieceProcessor(model_proto=content)
    tokenizer = build_tokenizer(parse_sentencepiece(content))
    index = tokenizer.token_to_id("<laugh>")
    assert index == processor.piece_to_id("<laugh>") + 1
    assert index in tokenizer.encode("is<laugh>my").ids


def test_a_checkpoint_that_has_only_sentencepiece(checkpoint, trained, tmp_path):
    source: Path = checkpoint(vocab_size=402)
    (source / "tokenizer.json").unlink()
    (source / "sentencepiece.bpe.model").write_bytes(trained)
    processor = sentencepiece.SentencePieceProcessor(model_proto=trained)
    mask = processor.get_piece_size() + 1
    (source / "added_tokens.json").write_text(json.dumps({"<mask>": mask}))
    report = import_checkpoint(str(source), tmp_path / "out", cache_dir=tmp_path)
    assert "sentencepiece.bpe.model: tokenizer.json" in report.converted
    tokenizer = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    assert tokenizer.encode(TEXTS[1]).ids == fairseq_ids(processor, TEXTS[1])
    settings = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert (settings["model_max_length"], settings["mask_token"]) == (20, "<mask>")

    (source / "added_tokens.json").write_text(json.dumps({"<mask>": mask, "<user>": mask + 1}))
    with pytest.raises(ModelRefusedError, match="added_tokens"):
        import_checkpoint(str(source), tmp_path / "other", cache_dir=tmp_path)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (
            {"model_type": "bpe", "hard_vocab_limit": True, "vocab_size": 300},
            "trainer_spec.model_type",
        ),
        ({"add_dummy_prefix": False}, "normalizer_spec.add_dummy_prefix"),
        ({"remove_extra_whitespaces": False}, "normalizer_spec.remove_extra_whitespaces"),
        ({"unk_id": 1, "bos_id": 0}, "pieces"),
    ],
)
def test_refuses_other_kinds_of_model(options, field):
    with pytest.raises(ModelRefusedError, match=field):
        build_tokenizer(parse_sentencepiece(train(**options)))


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_read(content):
    try:
        build_tokenizer(parse_sentencepiece(content))
    except ModelRefusedError:
        return
    pytest.fail("300 bytes at random are no model")


@given(cut=st.floats(0, 0.999))
def test_truncations_are_refused_or_shorter(trained, cut):
    try:
        model = parse_sentencepiece(trained[: int(len(trained) * cut)])
    except ModelRefusedError:
        return
    assert len(model.pieces) <= 400
