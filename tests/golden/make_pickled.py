"""Write ``pickled/``: what ``torch.save`` makes of a few tensors, in both of its formats, and the same as numpy arrays.

    python tests/golden/make_pickled.py

Needs ``torch``; the tests do not.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch

TARGET = Path(__file__).parent / "pickled"


def tensors() -> OrderedDict[str, torch.Tensor]:
    """Views, strides, shared storages, a parameter, a scalar, and every type of floats."""
    torch.manual_seed(3)
    whole = torch.randn(5, 6)
    named = OrderedDict(
        whole=whole,
        turned=whole.t(),
        steps=whole[1:4, ::2],
        row=whole[3],
        tied=whole,
        half=torch.randn(3, 4).half(),
        brain=torch.randn(3, 4).bfloat16(),
        double=torch.randn(2, 2).double(),
        scalar=torch.tensor(2.5),
        empty=torch.zeros(0, 4),
        positions=torch.arange(4),
        parameter=torch.nn.Parameter(torch.randn(2, 3)),
    )
    named["_metadata"] = OrderedDict([("", {"version": 1})])
    return named


def main() -> None:
    """Both formats, and the numbers as float32."""
    TARGET.mkdir(exist_ok=True)
    named = tensors()
    torch.save(named, TARGET / "zip.bin")
    torch.save(named, TARGET / "older.bin", _use_new_zipfile_serialization=False)
    floats = {
        name: value.detach().float().numpy()
        for name, value in named.items()
        if isinstance(value, torch.Tensor) and value.is_floating_point()
    }
    np.savez_compressed(TARGET / "expected.npz", **floats)


if __name__ == "__main__":
    main()
