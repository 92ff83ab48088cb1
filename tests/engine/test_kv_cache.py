"""The KV cache: cheap to reserve, exact about what it holds."""

import numpy as np
import psutil
import pytest

from fastslm.engine.kv_cache import CacheShape, KVCache
from fastslm.errors import DoesNotFit
from fastslm.ops import CACHE_FORMATS


def test_a_long_context_costs_memory_only_as_it_fills():
    """131,072 positions of a 1B model are 8 GB of address space; a laptop must be able to chat with it."""
    before = psutil.Process().memory_info().rss
    cache = KVCache(CacheShape(num_layers=16, num_kv_heads=8, capacity=131_072, head_dim=64))
    for buffer in cache.buffers.values():
        buffer[:, :, :3] = 1.0
    assert psutil.Process().memory_info().rss - before < 50_000_000
    assert len(cache.buffers) == 2 * 16
    assert cache.buffers["0.key"].shape == (1, 8, 131_072, 64)
    assert cache.buffers["0.key"].dtype == np.float32
    assert cache.buffers["15.value"].flags.c_contiguous


def test_fewer_bits_take_fewer_bytes():
    """Half of float32 in float16, as good as half in int16, and little more than a quarter in int8."""
    sizes = {f: KVCache(CacheShape(1, 2, 8, 64, format=f)).buffers["0.key"].nbytes for f in CACHE_FORMATS}
    assert sizes == {"f32": 4096, "f16": 2048, "int16": 16 * 132, "int8": 16 * 68}


def test_a_layer_may_keep_something_else_of_each_position():
    """A convolution keeps its inputs, as wide as the model, and no values."""
    cache = KVCache(CacheShape(3, 2, 8, 64, states=((0, 32), (2, 32))))
    heads = {name: buffer.shape[1] for name, buffer in cache.buffers.items()}
    assert heads == {"0.key": 32, "1.key": 2, "1.value": 2, "2.key": 32}


def test_what_cannot_be_reserved_is_said_in_bytes():
    with pytest.raises(DoesNotFit, match="a KV cache buffer of 4611686018427387904 bytes") as caught:
        KVCache(CacheShape(1, 1, 2**50, 2**10))
    assert caught.value.needed == 2**62


@pytest.mark.parametrize(
    ("held", "asked", "shared"),
    [([], [1, 2], 0), ([1, 2, 3], [1, 2, 3], 3), ([1, 2, 3], [1, 2], 2), ([1, 2], [1, 2, 3], 2), ([1, 9], [1, 2], 1)],
)
def test_the_shared_beginning_is_counted(held, asked, shared):
    cache = KVCache(CacheShape(1, 1, 8, 2))
    cache.extend(held)
    assert cache.common_prefix(asked) == shared
    cache.truncate(shared)
    assert cache.ids == held[:shared]
    assert len(cache) == shared
