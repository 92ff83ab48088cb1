"""The README's table of model families, made from the tables that the converter itself uses.

python tests/support/family_table.py      # writes it between the markers of README.md
"""

from __future__ import annotations

from pathlib import Path

from fastslm.export.families import ENCODERS, FAMILIES
from fastslm.formats.gguf.names import ARCHITECTURES, MIXTURES

README = Path(__file__).parent.parent.parent / "README.md"
BEGIN, END = "<!-- families: begin -->", "<!-- families: end -->"


def table() -> str:
    """Two tables, decoders and encoders, with a row per ``model_type`` in the order of the converter's."""
    rows = ["| models that generate text | `model_type` | GGUF |", "|---|---|---|"]
    for kind, family in FAMILIES.items():
        known = [*ARCHITECTURES.items(), *MIXTURES.items()]
        names = [f"`{name}`" for name, arch in known if arch.model_type == kind]
        note = " (target `native` only)" if family.native_only else ""
        rows.append(f"| {family.models}{note} | `{kind}` | {', '.join(names) or 'no'} |")
    rows += ["", "| models for vectors and scores | `model_type` |", "|---|---|"]
    rows += [f"| {family.models} | `{kind}` |" for kind, family in ENCODERS.items()]
    return "\n".join(rows)


def with_table(text: str) -> str:
    """The README with a fresh table."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{README.name} lacks `{BEGIN}` or `{END}`")
    return f"{head}{BEGIN}\n\n{table()}\n\n{END}{tail}"


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
