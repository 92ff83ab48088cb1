"""A gated causal convolution by its definition, in float64, one token and one channel at a time."""

from __future__ import annotations

import numpy as np


def short_conv(gates: np.ndarray, taps: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """``gates`` [tokens, 3 * width], b, c and x side by side; ``taps`` [kernel, width], the present one last."""
    kernel, width = taps.shape
    b, c, x = (gates[:, i * width : (i + 1) * width].astype(np.float64) for i in range(3))
    y = np.zeros((len(gates), width))
    for t in range(len(gates)):
        for channel in range(width):
            total = 0.0 if bias is None else float(bias[channel])
            for j in range(kernel):
                past = t - kernel + 1 + j
                if past >= 0:
                    total += taps[j, channel] * b[past, channel] * x[past, channel]
            y[t, channel] = c[t, channel] * total
    return y
