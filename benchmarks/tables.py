"""Tables that a benchmark prints, and writes into a page between the markers that name them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path


def write_tables(tables: Mapping[str, Callable[[], Iterator[str]]], page: Path | None) -> None:
    """Prints each table's rows; where a page is given they replace its rows at once, heads stay.

    Raises:
        SystemExit: the page has no markers of that name.
    """
    for name, rows in tables.items():
        body = "\n".join(rows())
        print(f"{name}\n{body}\n", flush=True)
        if page is None:
            continue
        text = page.read_text(encoding="utf-8")
        opened, closed = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
        before, _, rest = text.partition(opened)
        old, found, after = rest.partition(closed)
        if not found:
            raise SystemExit(f"{page}: no markers for {name}")
        head = "\n".join(old.splitlines()[:2])
        whole = f"{before}{opened}{head}\n{body}{closed}{after}"
        page.write_text(whole, encoding="utf-8")
