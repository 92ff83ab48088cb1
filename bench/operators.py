"""Our operators beside ONNX Runtime's own, by turns in one process: medians, spread and ratios.

    python bench/operators.py linear 2048 8192 --rows 1 4 8 128
    python bench/operators.py attention 14 2 64 --context 512 8192
    python bench/operators.py mixture 2048 768 64 8 --rows 1 32 512

Each side has as many different matrices as it takes to leave the caches, as in a model. The plain read of the same
bytes by the same number of threads is the bound of the case with one row. FASTSLM_ISA forces an instruction set; the
other side cannot be restricted.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from fastslm import _native, ops

Parts = Mapping[str, tuple[np.ndarray, np.ndarray]]
WORKING_SET = 160 * 1024 * 1024


class Model:
    """A graph whose weights lie in an external file, and a session on it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.size = folder, 0
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []
        folder.mkdir()
        self.data = (folder / "data").open("wb")

    def weight(self, name: str, value: np.ndarray) -> str:
        """Append an initializer at a multiple of 64 bytes."""
        self.data.seek(-(-self.size // 64) * 64)
        tensor = TensorProto(name=name, dims=value.shape, data_location=TensorProto.EXTERNAL)
        tensor.data_type = helper.np_dtype_to_tensor_dtype(value.dtype)
        for key, text in {"location": "data", "offset": self.data.tell(), "length": value.nbytes}.items():
            tensor.external_data.add(key=key, value=str(text))
        self.data.write(value.tobytes())
        self.size = self.data.tell()
        self.tensors.append(tensor)
        return name

    def session(self, inputs: dict[str, int], outputs: dict[str, int], threads: int) -> Any:
        """Load it; types of inputs and outputs by name."""
        self.data.close()
        values, results = (
            [helper.make_tensor_value_info(name, kind, None) for name, kind in types.items()]
            for types in (inputs, outputs)
        )
        graph = helper.make_graph(self.nodes, "bench", values, results, self.tensors)
        opsets = [helper.make_opsetid(*each) for each in (("", 21), ("com.microsoft", 1), (ops.DOMAIN, 1))]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), self.folder / "model.onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.register_custom_ops_library(str(ops.library_path()))
        return onnxruntime.InferenceSession(self.folder / "model.onnx", options, providers=["CPUExecutionProvider"])


def linear_session(folder: Path, shape: tuple[int, int], count: int, threads: int, *, ours: bool) -> Any:
    """``count`` products of one input with 4-bit matrices of their own."""
    inputs, rows = shape
    rng, model = np.random.default_rng(0), Model(folder)
    for i in range(count):
        codes = rng.integers(0, 16, (rows, inputs), dtype=np.uint8)
        scales = rng.random((rows, inputs // 32), dtype=np.float32)
        if ours:
            names = ["x", model.weight(f"w{i}", _native.pack_linear(codes, scales, bits=4))]
            options = {"K": inputs, "N": rows, "bits": 4, "group_size": 32, "layout": ops.layout_version()}
            node = helper.make_node("QLinear", names, [f"y{i}"], domain=ops.DOMAIN, **options)
        else:
            packed = (codes[:, 0::2] | codes[:, 1::2] << 4).reshape(rows, -1, 16)
            names = ["x", model.weight(f"w{i}", packed), model.weight(f"s{i}", scales.reshape(-1))]
            options = {"K": inputs, "N": rows, "bits": 4, "block_size": 32, "accuracy_level": 4}
            node = helper.make_node("MatMulNBits", names, [f"y{i}"], domain="com.microsoft", **options)
        model.nodes.append(node)
    return model.session({"x": TensorProto.FLOAT}, {f"y{i}": TensorProto.FLOAT for i in range(count)}, threads)


def mixture_session(folder: Path, shape: Sequence[int], count: int, threads: int, *, ours: bool) -> Any:
    """``count`` layers of experts with 4-bit matrices, which are alike within a layer."""
    inputs, width, experts, chosen = shape
    rng, model = np.random.default_rng(0), Model(folder)
    for i in range(count):
        parts = {}
        for part, (rows, columns) in {"gate_up": (2 * width, inputs), "down": (inputs, width)}.items():
            codes = rng.integers(0, 16, (rows, columns), dtype=np.uint8)
            parts[part] = codes, rng.random((rows, columns // 32), dtype=np.float32) / 100
        scores = rng.normal(size=(experts, inputs)) / np.sqrt(
            inputs
        )  # no share so small that an expert could be left out
        router = model.weight(f"r{i}", scores.astype(np.float32))
        add = _our_mixture if ours else _stock_mixture
        add(model, i, router, parts, (experts, chosen))
    return model.session({"x": TensorProto.FLOAT}, {f"y{i}": TensorProto.FLOAT for i in range(count)}, threads)


def _our_mixture(model: Model, i: int, router: str, parts: Parts, sizes: tuple[int, int]) -> None:
    names, options = ["x", router], {"experts": sizes[0], "chosen": sizes[1], "normalized": 1, "activation": 0}
    for part, (codes, scales) in parts.items():
        names.append(model.weight(f"{part}{i}", np.tile(_native.pack_linear(codes, scales, bits=4), sizes[0])))
        values = {"K": codes.shape[1], "N": codes.shape[0], "bits": 4, "group_size": 32, "layout": ops.layout_version()}
        options |= {f"{part}_{key}": value for key, value in values.items()}
    model.nodes.append(helper.make_node("QMoE", names, [f"y{i}"], domain=ops.DOMAIN, **options))


def _stock_mixture(model: Model, i: int, router: str, parts: Parts, sizes: tuple[int, int]) -> None:
    model.nodes.append(helper.make_node("Gemm", ["x", router], [f"scores{i}"], transB=1))
    names = ["x", f"scores{i}"]
    for part, (codes, scales) in parts.items():
        packed = codes[:, 0::2] | codes[:, 1::2] << 4
        names.append(model.weight(f"{part}{i}", np.broadcast_to(packed, (sizes[0], *packed.shape))))
        names.append(model.weight(f"{part}s{i}", np.broadcast_to(scales, (sizes[0], *scales.shape))))
        names.append("")
    options = {
        "k": sizes[1],
        "activation_type": "swiglu",
        "swiglu_fusion": 1,
        "expert_weight_bits": 4,
        "block_size": 32,
    }
    options |= {"normalize_routing_weights": 1, "activation_alpha": 1.0, "activation_beta": 0.0}
    model.nodes.append(helper.make_node("QMoE", names[:-1], [f"y{i}"], domain="com.microsoft", **options))


def attention_session(folder: Path, heads: tuple[int, int, int], context: int, threads: int, *, ours: bool) -> Any:
    """One attention layer with rotary positions over a cache that is bound as past and present."""
    query, key, size = heads
    model = Model(folder)
    angles = np.outer(np.arange(context), 1e4 ** -(np.arange(size // 2) / (size // 2)))
    tables = [model.weight(n, f(angles).astype(np.float32)) for n, f in (("cos", np.cos), ("sin", np.sin))]
    if ours:
        names = ["x", "", "", "pk", "pv", "last", *tables]
        options = {"heads": query, "kv_heads": key, "head_dim": size}
        node = helper.make_node("Attention", names, ["y", "k", "v"], domain=ops.DOMAIN, **options)
    else:
        names = ["x", "", "", "pk", "pv", "last", "total", *tables]
        options = {"num_heads": query, "kv_num_heads": key, "do_rotary": 1}
        node = helper.make_node("GroupQueryAttention", names, ["y", "k", "v"], domain="com.microsoft", **options)
    model.nodes.append(node)
    kind = TensorProto.UINT8 if ours else TensorProto.FLOAT
    inputs = {"x": TensorProto.FLOAT, "pk": kind, "pv": kind, "last": TensorProto.INT32, "total": TensorProto.INT32}
    return model.session(inputs, {"y": TensorProto.FLOAT, "k": kind, "v": kind}, threads)


def bound(session: Any, feeds: dict[str, np.ndarray], results: dict[str, np.ndarray]) -> Callable[[], None]:
    """A call that moves no data: inputs and outputs are bound once and kept alive by the closure."""
    binding = session.io_binding()
    wrap = onnxruntime.OrtValue.ortvalue_from_numpy
    kept = [(binding.bind_ortvalue_input, name, wrap(value)) for name, value in feeds.items()]
    kept += [(binding.bind_ortvalue_output, name, wrap(value)) for name, value in results.items()]
    for bind, name, value in kept:
        bind(name, value)
    return lambda: (session.run_with_iobinding(binding), kept)[0]


def seconds(call: Callable[[], None]) -> float:
    """One call, after one that nobody counts and that brings the threads back."""
    call()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def report(case: str, times: dict[str, list[float]]) -> None:
    """Medians with quartiles in microseconds, and ratios of calls that were neighbours."""
    parts = []
    for name, values in times.items():
        low, middle, high = (q * 1e6 for q in statistics.quantiles(values, n=4))
        parts.append(f"{name} {middle:9.1f} us ({low:.1f} to {high:.1f})")
    for name, values in list(times.items())[1:]:
        first = next(iter(times))
        ratio = statistics.median(other / ours for ours, other in zip(times[first], values, strict=True))
        parts.append(f"{name}/{first} {ratio:.2f}")
    print(f"{case:28} {'   '.join(parts)}", flush=True)


def timed_rows(
    options: argparse.Namespace, sessions: dict[str, Any], shape: tuple[int, int], count: int, size: int
) -> Iterator[tuple[int, dict[str, list[float]]]]:
    """Seconds of one of ``count`` operators in each session, by turns, for every number of rows; and a plain read."""
    inputs, outputs = shape
    for batch in options.rows:
        x = np.random.default_rng(1).normal(size=(batch, inputs)).astype(np.float32)
        y = np.empty((batch, outputs), np.float32)
        calls = {n: bound(s, {"x": x}, {f"y{i}": y for i in range(count)}) for n, s in sessions.items()}
        times: dict[str, list[float]] = {name: [] for name in (*calls, "read")}
        for _ in range(options.repeats):
            for name, call in calls.items():
                times[name].append(seconds(call) / count)
            times["read"].append(size / _native.read_bandwidth(size * count, options.threads, 0.02))
        yield batch, times


def bench_linear(options: argparse.Namespace, folder: Path) -> None:
    """QLinear, MatMulNBits at level 4, and a plain read of as many bytes."""
    inputs, rows = options.shape
    size = rows * inputs // 32 * 18
    count = max(2, WORKING_SET // size)
    names = {"ours": True, "MatMulNBits": False}
    sessions = {n: linear_session(folder / n, (inputs, rows), count, options.threads, ours=o) for n, o in names.items()}
    for batch, times in timed_rows(options, sessions, (inputs, rows), count, size):
        report(f"{inputs} x {rows}, rows {batch}", times)
        print(f"{'':28} {2 * batch * inputs * rows / statistics.median(times['ours']) / 1e9:.0f} GOPS")


def bench_mixture(options: argparse.Namespace, folder: Path) -> None:
    """Both QMoE, and a plain read of the bytes of the experts of one row."""
    inputs, width, experts, chosen = options.shape
    size = 3 * inputs * width // 32 * 18 * chosen
    count = max(2, WORKING_SET // size)
    names = {"ours": True, "stock QMoE": False}
    sessions = {n: mixture_session(folder / n, options.shape, count, options.threads, ours=o) for n, o in names.items()}
    for batch, times in timed_rows(options, sessions, (inputs, inputs), count, size):
        report(f"{chosen} of {experts}, rows {batch}", times)


def bench_attention(options: argparse.Namespace, folder: Path) -> None:
    """Attention and GroupQueryAttention: a whole prefill, and one token at the end of the context."""
    query, key, size = options.shape
    for context in options.context:
        ours, stock = (
            attention_session(folder / f"{o}{context}", options.shape, context, options.threads, ours=o)
            for o in (True, False)
        )
        formats = {f"ours {f}": (np.uint8, ops.cache_row_bytes(f, size)) for f in ops.CACHE_FORMATS}
        caches = formats | {"GQA": (np.float32, size)}
        shapes = {name: (kind, (1, key, context, row)) for name, (kind, row) in caches.items()}
        for tokens in (context, 1):
            x = np.random.default_rng(1).normal(size=(1, tokens, (query + 2 * key) * size)).astype(np.float32)
            feeds = {"x": x, "last": np.array([context - 1], np.int32), "total": np.array(context, np.int32)}
            results = {"y": np.empty((1, tokens, query * size), np.float32)}
            calls = {}
            for name, (kind, shape) in shapes.items():
                keys, values = np.zeros(shape, kind), np.zeros(shape, kind)
                session = stock if name == "GQA" else ours
                calls[name] = bound(session, feeds | {"pk": keys, "pv": values}, results | {"k": keys, "v": values})
            times: dict[str, list[float]] = {name: [] for name in calls}
            for _ in range(options.repeats):
                for name, call in calls.items():
                    times[name].append(seconds(call))
            report(f"context {context}, tokens {tokens}", times)


KINDS = {"linear": bench_linear, "attention": bench_attention, "mixture": bench_mixture}


def main() -> None:
    """Read the command line and run one kind of case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=list(KINDS))
    parser.add_argument(
        "shape", type=int, nargs="+", help="inputs and rows; heads, KV heads, head size; inputs, width, experts, chosen"
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 2, 4, 8, 32, 128])
    parser.add_argument("--context", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    print(f"onnxruntime {onnxruntime.__version__}, {ops.active_isa()}, {options.threads} threads")
    with tempfile.TemporaryDirectory() as folder:
        KINDS[options.kind](options, Path(folder))


if __name__ == "__main__":
    main()
