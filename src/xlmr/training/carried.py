"""What a smaller model has of the one it was made of: files, lineage, model card; and what not."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xlmr.model.bundle import Bundle
from xlmr.model.jsonfiles import read_object
from xlmr.registry.manifest import MANIFEST_FILE
from xlmr.training.checkpoint import HEAD_FILE, XLMR_JSON, link_files, write_json, write_model

# Written anew for every smaller model, or untrue of it: another vocabulary's, what was promised of
# and measured on the model it was made of.
_NOT_CARRIED = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "added_tokens.json",
    "sentencepiece.bpe.model",
    "golden.json",
    "report.json",
    MANIFEST_FILE,
    XLMR_JSON,
)
_CARRIED_SUFFIXES = (".json", ".txt", ".md")
_CARD = "README.md"


def carry(source: Path, target: Path) -> None:
    """Links what a smaller model has in common with the one it was made of."""
    names = [
        name
        for path in (*source.glob("*"), *source.glob("*/*"))
        if (name := str(path.relative_to(source))) not in _NOT_CARRIED
        and not (target / name).exists()
        and not name.startswith("model.safetensors")
        and (
            path.suffix in _CARRIED_SUFFIXES
            or path.name.startswith(("LICENSE", "NOTICE"))
            or name == HEAD_FILE
        )
    ]
    head = read_object(source / XLMR_JSON).get("head") if (source / XLMR_JSON).exists() else None
    if isinstance(head, dict) and isinstance(head.get("file"), str):
        names.append(head["file"])
    if names:
        link_files(source, target, names=names)
    if (source / XLMR_JSON).exists():
        shutil.copyfile(source / XLMR_JSON, target / XLMR_JSON)


def write_compressed(
    bundle: Bundle, made: Path, told: Mapping[str, Any], out: Path, *, force: bool
) -> None:
    """Puts a smaller model where it was asked for, with where it comes from.

    Args:
        bundle: the model it was made of.
        made: its files.
        told: what was done; plain values.
        out: the directory to write.
        force: replace a model that stands there.

    Raises:
        ModelError: the target is taken, or cannot be written.
    """
    extras = dict(bundle.extras)
    extras.pop("report", None)  # it speaks of the model this one was made of
    before = dict(extras.pop("lineage", None) or {})
    earlier = list(before.get("compressed") or [])
    content = {"format": 1, **extras, "lineage": before | {"compressed": [*earlier, dict(told)]}}
    content["report"] = {}

    def fill(fresh: Path) -> None:
        names = [str(p.relative_to(made)) for p in (*made.glob("*"), *made.glob("*/*"))]
        link_files(made, fresh, names=[n for n in names if n not in (XLMR_JSON, _CARD)])
        if (made / _CARD).exists():
            card = (made / _CARD).read_text(encoding="utf-8")
            (fresh / _CARD).write_text(card.rstrip() + _appended(told), encoding="utf-8")
        write_json(fresh / XLMR_JSON, content)

    write_model(out, fill, encoder=bundle.directory, force=force)


def parent_of(bundle: Bundle) -> dict[str, Any]:
    """The model a smaller one was made of, by name and digest."""
    return {"name": bundle.directory.resolve().name, "digest": bundle.digest}


def _appended(told: Mapping[str, Any]) -> str:
    """What a model card says more of a compressed model."""
    lines = [f"made of `{told['parent']['name']}` (SHA-256 {told['parent']['digest']})"]
    if "languages" in told:
        before, after = told["pieces"]
        lines.append(
            f"{after:,} of {before:,} vocabulary pieces, for {', '.join(told['languages'])}"
        )
    if "kept_layers" in told:
        kept = ", ".join(map(str, told["kept_layers"]))
        lines.append(f"{told['layers']} layers, begun as {kept} of the original's, distilled")
    listed = "".join(f"- {line}\n" for line in lines)
    return f"\n\n## Compressed\n\nWhat is said above is said of the original.\n\n{listed}"
