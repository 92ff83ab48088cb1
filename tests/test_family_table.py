"""What the README says of models is what the program does."""

from __future__ import annotations

from fastslm.export.families import ENCODERS, FAMILIES
from fastslm.hub.catalogue import load_catalogue
from support.family_table import README, table, with_table


def test_the_table_of_families_is_up_to_date() -> None:
    """When this fails: `python tests/support/family_table.py`."""
    text = README.read_text(encoding="utf-8")
    assert with_table(text) == text
    assert table().count("\n") == len(FAMILIES) + len(ENCODERS) + 4


def test_every_model_of_the_catalogue_can_be_converted() -> None:
    """A short name is a promise."""
    assert {model.architecture for model in load_catalogue().models} <= set(FAMILIES)
