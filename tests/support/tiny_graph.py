"""A two-layer language model written by hand with stock operators: the same interface as converted ones, in 1 MB."""

import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tests.support.tiny_tokenizers import tokenizer_json

from fastslm.store.manifest import ModelManifest

LAYERS, HEADS, KV_HEADS, HEAD_DIM, CONTEXT = 2, 4, 2, 16, 128
HIDDEN = HEADS * HEAD_DIM
TEMPLATE = (
    "{% for m in messages %}{% if m.role not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('unknown role ' + m.role) }}{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build_model(folder, *, seed=0, eos=1, template=TEMPLATE, broken=False, **manifest):
    """Write a whole model folder with random weights; ``broken`` weights give logits that are not numbers."""
    vocabulary = json.loads(tokenizer_json("byte_level"))
    vocab_size = len(vocabulary["model"]["vocab"]) + 1
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(_graph(np.random.default_rng(seed), vocab_size, broken=broken), folder / "model.onnx")
    (folder / "tokenizer.json").write_text(tokenizer_json("byte_level"), encoding="utf-8")
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    facts = {
        "name": "tiny",
        "commit": "0",
        "architecture": "llama",
        "precision": "fp32",
        "context_length": CONTEXT,
        "vocab_size": vocab_size,
        "num_layers": LAYERS,
        "num_kv_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
        "bos_token_id": 2,
        "eos_token_ids": (eos,),
        "add_bos": False,
    }
    ModelManifest(**{**facts, **manifest}).write(folder)
    return folder


class _Builder:
    def __init__(self, rng):
        self.rng, self.nodes, self.constants = rng, [], []

    def constant(self, name, value):
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def weight(self, name, *shape, scale=0.25):
        return self.constant(name, self.rng.normal(0, scale, shape).astype(np.float32))

    def node(self, operator, inputs, outputs, domain="", **attributes):
        names = [outputs] if isinstance(outputs, str) else outputs
        self.nodes.append(helper.make_node(operator, inputs, names, domain=domain, **attributes))
        return names[0]

    def linear(self, x, name, rows, columns):
        return self.node("MatMul", [x, self.weight(f"{name}.weight", rows, columns)], name)


def _graph(rng, vocab_size, *, broken):
    b = _Builder(rng)
    ones = np.full(HIDDEN, np.nan if broken else 1.0, np.float32)
    angles = np.outer(np.arange(CONTEXT), 100.0 ** -(np.arange(HEAD_DIM // 2) / (HEAD_DIM // 2)))
    b.constant("cos", np.cos(angles).astype(np.float32))
    b.constant("sin", np.sin(angles).astype(np.float32))
    b.constant("norm", ones)
    x = b.node("Gather", [b.weight("embedding", vocab_size, HIDDEN, scale=1.0), "input_ids"], "x")
    for layer in range(LAYERS):
        x = _layer(b, x, layer)
    rows = b.node("Reshape", [x, b.constant("rows_by_hidden", [-1, HIDDEN])], "flat")
    rows = b.node("Gather", [rows, "logit_rows"], "wanted")
    rows = b.node("SimplifiedLayerNormalization", [rows, "norm"], "normed", axis=-1, epsilon=1e-5)
    b.node("MatMul", [rows, b.weight("head", HIDDEN, vocab_size)], "logits")
    inputs, outputs = _interface(vocab_size)
    graph = helper.make_graph(b.nodes, "tiny", inputs, outputs, b.constants)
    domains = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, ir_version=10, opset_imports=domains)


def _layer(b, x, i):
    h = b.node("SimplifiedLayerNormalization", [x, "norm"], f"{i}.norm", axis=-1, epsilon=1e-5)
    q = b.linear(h, f"{i}.q", HIDDEN, HIDDEN)
    k = b.linear(h, f"{i}.k", HIDDEN, KV_HEADS * HEAD_DIM)
    v = b.linear(h, f"{i}.v", HIDDEN, KV_HEADS * HEAD_DIM)
    past = [f"past_key_values.{i}.key", f"past_key_values.{i}.value"]
    attended = b.node(
        "GroupQueryAttention",
        [q, k, v, *past, "seqlens_k", "total_sequence_length", "cos", "sin"],
        [f"{i}.attended", f"present.{i}.key", f"present.{i}.value"],
        domain="com.microsoft",
        num_heads=HEADS,
        kv_num_heads=KV_HEADS,
        do_rotary=1,
    )
    x = b.node("Add", [x, b.linear(attended, f"{i}.o", HIDDEN, HIDDEN)], f"{i}.residual")
    h = b.node("SimplifiedLayerNormalization", [x, "norm"], f"{i}.norm2", axis=-1, epsilon=1e-5)
    h = b.node("Tanh", [b.linear(h, f"{i}.up", HIDDEN, 2 * HIDDEN)], f"{i}.tanh")
    return b.node("Add", [x, b.linear(h, f"{i}.down", 2 * HIDDEN, HIDDEN)], f"{i}.out")


def _interface(vocab_size):
    value = helper.make_tensor_value_info
    cache = ["batch", KV_HEADS, "capacity", HEAD_DIM]
    inputs = [
        value("input_ids", TensorProto.INT64, ["batch", "sequence"]),
        value("seqlens_k", TensorProto.INT32, ["batch"]),
        value("total_sequence_length", TensorProto.INT32, []),
        value("logit_rows", TensorProto.INT64, ["rows"]),
    ]
    outputs = [value("logits", TensorProto.FLOAT, ["rows", vocab_size])]
    for layer in range(LAYERS):
        for kind in ("key", "value"):
            inputs.append(value(f"past_key_values.{layer}.{kind}", TensorProto.FLOAT, cache))
            outputs.append(value(f"present.{layer}.{kind}", TensorProto.FLOAT, cache))
    return inputs, outputs
