"""The outline of a model of which only the configuration is known: its tensors as its family names them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fastslm.errors import FormatError
from fastslm.export.families import family_of
from fastslm.export.hparams import Hparams
from fastslm.formats.source import Extent, Outline, TensorInfo


def described(config: Mapping[str, Any], *, matrices: str, embedding: str) -> Outline:
    """The outline of a model with these types of matrices and of the embedding. Raises as ``export.measure``."""
    family = family_of(Hparams(config))
    wanted = list(family.wanted_tensors(family.read_shape(Hparams(config), ())))
    kinds = {tensor.name: matrices if len(tensor.shape) > 1 else "F32" for tensor in wanted}
    kinds |= {name: embedding for name in kinds if "embed" in name or name.startswith("lm_head")}
    return Outline(
        config, _Described({each.name: TensorInfo(each.name, kinds[each.name], each.shape) for each in wanted})
    )


class _Described:
    """Tensors that have names, types and shapes, and no content."""

    def __init__(self, infos: Mapping[str, TensorInfo]) -> None:
        self._infos = infos

    def __iter__(self) -> Iterator[str]:
        return iter(self._infos)

    def __contains__(self, name: object) -> bool:
        return name in self._infos

    def info(self, name: str) -> TensorInfo:
        """Type and shape. Raises FormatError when there is no such tensor."""
        try:
            return self._infos[name]
        except KeyError:
            raise FormatError(f"tensor `{name}` is missing in the model", subject=name) from None

    def read(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[np.float32]:
        """Always raises FormatError: there is nothing to read."""
        raise FormatError(f"tensor `{name}` is not on this machine", subject=name)

    def blocks(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[np.uint8]:
        """Always raises FormatError."""
        raise FormatError(f"tensor `{name}` is not on this machine", subject=name)

    def extents(self, name: str) -> tuple[Extent, ...]:
        """Nowhere yet."""
        return ()
