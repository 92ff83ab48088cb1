"""Who samples: a program for each peer, which reads an order from its command line and prints lists of seconds.

transformers has no presence and frequency penalties, onnxruntime-genai has neither these nor min-p; what a peer does
not have it is not asked for. Both get the whole width as a float32 tensor, as their models would give it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

TIMES = """
import json, sys, time
order = json.loads(sys.argv[1])
settings = order["settings"]

def timed(prepare, call, count=160):
    times = []
    for i in range(count):
        given = prepare(i)
        began = time.perf_counter()
        call(given)
        times.append(time.perf_counter() - began)
    return times[count // 8:]
"""

OURS = """
import numpy as np
from fastslm.engine.sampler import SamplingOptions, make_sampler
rows = np.load(order["rows"])
sampler = make_sampler(SamplingOptions(**settings, seed=1), rows.shape[1])
sampler.observe(list(range(64)))
def choose(row):
    sampler.observe([sampler.pick(row)])
print(json.dumps({"": timed(lambda i: rows[i % len(rows)].copy(), choose)}))
"""

TRANSFORMERS = """
import numpy as np
import torch
from transformers import generation as g
torch.set_num_threads(1)  # two wait for each other longer than they work, on rows this small
rows = torch.from_numpy(np.load(order["rows"]))
steps = g.LogitsProcessorList()
if settings["repetition_penalty"] != 1:
    steps.append(g.RepetitionPenaltyLogitsProcessor(settings["repetition_penalty"]))
if settings["temperature"] not in (0, 1):
    steps.append(g.TemperatureLogitsWarper(settings["temperature"]))
if settings["top_k"]:
    steps.append(g.TopKLogitsWarper(settings["top_k"]))
if settings["top_p"] < 1:
    steps.append(g.TopPLogitsWarper(settings["top_p"]))
if settings["min_p"]:
    steps.append(g.MinPLogitsWarper(settings["min_p"]))
recent = torch.arange(64)[None]
def choose(row):
    scores = steps(recent, row)
    if settings["temperature"] == 0:
        return int(scores.argmax())
    return int(torch.multinomial(torch.softmax(scores, -1), 1))
print(json.dumps({"": timed(lambda i: rows[i % len(rows)][None].clone(), choose, 40)}))
"""

GENAI = """
import numpy as np
import onnxruntime_genai as og
rows = np.load(order["rows"])
model = og.Model(order["model"])
params = og.GeneratorParams(model)
wanted = {name: settings[name] for name in ("temperature", "top_k", "top_p", "repetition_penalty")}
if settings["temperature"] == 0:
    wanted = {"temperature": 1.0, "top_k": 1, "top_p": 1.0}
params.set_search_options(do_sample=settings["temperature"] != 0, max_length=4096, **wanted)
generator = og.Generator(model, params)
generator.append_tokens(np.arange(64, dtype=np.int32))
def prepare(i):
    generator.get_logits()
    generator.set_logits(rows[i % len(rows)][None])
generator.generate_next_token()
print(json.dumps({"": timed(prepare, lambda _: generator.generate_next_token(), 40)}))
"""

TEXT = """
import random
from pathlib import Path
from fastslm.text.detok import StreamDecoder
from fastslm.text.tokenizer import Tokenizer
tokenizer = Tokenizer.open(Path(order["tokenizer"]))
random.seed(1)
ids = [random.randrange(tokenizer.vocab_size) for _ in range(10_400)]
decoder, found = StreamDecoder(tokenizer), {}
times = timed(lambda i: ids[i], decoder.push, len(ids))
start = len(ids) // 8
for after in (2_000, 10_000):
    found[f"after {after}"] = times[after - start:after - start + 400]
decoder = StreamDecoder(tokenizer)
print(json.dumps({"after 10": timed(lambda i: ids[i], decoder.push, 400)} | found))
"""

SECOND_START = """
import numpy, numba
from fastslm.engine.sampler import load_kernels
began, worked = time.perf_counter(), time.process_time()
load_kernels()
seconds, busy = time.perf_counter() - began, time.process_time() - worked
print(json.dumps({"wall": [seconds, seconds], "CPU": [busy, busy]}))
"""

ENCODE = """
from pathlib import Path
from tokenizers import Tokenizer
path = Path(order["tokenizer"])
inner = Tokenizer.from_file(str(path))
text = path.with_name("text.txt").read_text(encoding="utf-8")
began = time.process_time()
from fastslm.text.byte_level import ByteLevelEncoder
ours = ByteLevelEncoder(inner)
loading = time.process_time() - began
who = {
    "fastslm": ours.encode,
    "encode": lambda text: inner.encode(text, add_special_tokens=False).ids,
    "encode_batch_fast": lambda text: inner.encode_batch_fast([text], add_special_tokens=False)[0].ids,
}
found = {f"{path.stem}, to load@fastslm": [loading, loading]}
for size, count in ((2_000, 100), (32_000, 30), (len(text), 7)):
    part, ids, rows = text[:size], {}, {name: [] for name in who}
    for _ in range(count):
        for name, call in who.items():
            began = time.process_time()
            ids[name] = call(part)
            rows[name].append(time.process_time() - began)
    assert ids["fastslm"] == ids["encode"] == ids["encode_batch_fast"], "other ids"
    found |= {f"{path.stem}, {size:,}@{name}": times for name, times in rows.items()}
print(json.dumps(found))
"""

PROGRAMS: Mapping[str, str] = MappingProxyType(
    {
        "fastslm": TIMES + OURS,
        "transformers": TIMES + TRANSFORMERS,
        "genai": TIMES + GENAI,
        "text": TIMES + TEXT,
        "second start": TIMES + SECOND_START,
        "encode": TIMES + ENCODE,
    }
)
