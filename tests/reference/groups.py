"""Slow, obvious twin of ``formats/prequantized``: one weight at a time, by the definition of each format."""

import numpy as np

AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def pack_gptq(codes, zeros, added=1):
    """qweight and qzeros of codes [outputs, inputs] and zero points [outputs, groups]."""
    outputs, inputs = codes.shape
    qweight = np.zeros((inputs // 8, outputs), np.int64)
    for row in range(inputs):
        qweight[row // 8] |= codes[:, row].astype(np.int64) << 4 * (row % 8)
    return _words(qweight), _words(_pack_columns(zeros.T.astype(np.int64) - added, range(8)))


def pack_awq(codes, zeros):
    """The same for AWQ."""
    return _words(_pack_columns(codes.T, AWQ_ORDER)), _words(_pack_columns(zeros.T, AWQ_ORDER))


def dequantized(codes, zeros, scales, groups):
    """float32 [outputs, inputs]; scales are [outputs, groups], ``groups`` tells the group of every input."""
    result = np.empty(codes.shape, np.float32)
    for output in range(codes.shape[0]):
        for place in range(codes.shape[1]):
            group = groups[place]
            difference = np.float32(int(codes[output, place]) - int(zeros[output, group]))
            result[output, place] = difference * np.float32(scales[output, group])
    return result


def _pack_columns(values, order):
    packed = np.zeros((values.shape[0], values.shape[1] // 8), np.int64)
    for column in range(packed.shape[1]):
        for place, source in enumerate(order):
            packed[:, column] |= values[:, 8 * column + source].astype(np.int64) << 4 * place
    return packed


def _words(values):
    return values.astype(np.uint32).view(np.int32)
