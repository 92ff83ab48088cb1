"""The operators of these tests run on the instruction set that FASTSLM_ISA named when the process started."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(scope="session", autouse=True)
def library_is_registered() -> None:
    """The library reads FASTSLM_ISA once; each test then runs in a clean environment, as everywhere."""
    import onnxruntime

    from fastslm import ops

    onnxruntime.SessionOptions().register_custom_ops_library(str(ops.library_path()))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)
