"""A card for a version that came without one: who finds its directory should know it. Pure."""

from __future__ import annotations

import re

from xlmr.registry.lineage import told_by
from xlmr.registry.manifest import Manifest
from xlmr.registry.tables import Version


def stand_in_card(version: Version, manifest: Manifest) -> str:
    """Markdown with Hugging Face's front matter; says nothing that the manifest does not."""
    tags = "".join(f"- {tag}\n" for tag in ("xlm-roberta", "xlmr", *manifest.tasks))
    rows = [("version", f"{version.name}@{version.version}"), ("digest", manifest.digest)]
    rows += told_by(manifest.lineage)
    table = "".join(f"| {name} | {_cell(said)} |\n" for name, said in rows)
    return (
        f"---\nlibrary_name: transformers\ntags:\n{tags}---\n\n# {version.name}\n\n"
        "It was released without a model card. Of its licence nothing is known; of its origin, "
        f"this:\n\n| | |\n| --- | --- |\n{table}"
    )


def _cell(said: str) -> str:
    """A value that cannot break a line or a table, nor become markup."""
    return re.sub(r"([|<>\[\]])", r"\\\1", " ".join(said.split()))
