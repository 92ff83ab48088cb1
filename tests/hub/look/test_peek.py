"""A look at files that are still on the hub costs their headers, and shows the same model as the whole files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fastslm.config import Settings
from fastslm.errors import FormatError, RangeMismatch, UnsupportedModel
from fastslm.formats import open_outline
from fastslm.hub.client import HubClient
from fastslm.hub.look import peek as module
from fastslm.hub.look.peek import peek, write_outline
from fastslm.hub.look.ranges import read_range
from fastslm.hub.plan import make_plan
from fastslm.hub.refs import parse
from fastslm.hub.select import Wishes
from fastslm.hub.transfer import Link
from support.hub_server import FakeHub, Fault
from support.tiny_files import TinyLlama, write_llama_gguf, write_safetensors


def same_outline(one: Path, other: Path) -> bool:
    """Whether a reader of headers sees the same model in both."""
    a, b = open_outline(one), open_outline(other)
    return a.config == b.config and [a.tensors.info(n) for n in a.tensors] == [b.tensors.info(n) for n in b.tensors]


def peek_at(hub: FakeHub, settings: Settings, client: HubClient, folder: Path) -> Path:
    plan = make_plan(parse("tiny/model", endpoint=hub.endpoint), settings, Wishes(), client)
    hub.clear()
    folder.mkdir()
    return peek(plan, settings, client, folder)


def asked_bytes(hub: FakeHub) -> int:
    """Bytes that ranges of weight files asked for."""
    spans = [request.range.removeprefix("bytes=").split("-") for request in hub.log("cdn", "GET")]
    return sum(int(last) - int(first) + 1 for first, last in spans)


def test_a_gguf_is_seen_through_its_header(
    hub: FakeHub, hub_settings: Settings, client: HubClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the header does not come with the first range, and with rotary factors among the weights."""
    monkeypatch.setattr(module, "FIRST_BYTES", 1024)
    source = tmp_path / "big.gguf"
    write_llama_gguf(source, TinyLlama(hidden=256), extra={"rope_freqs.weight": np.linspace(1, 8, 32)})
    data = source.read_bytes()
    hub.add_repo("tiny/model", {"README.md": b"", "big.Q8_0.gguf": data})
    seen = peek_at(hub, hub_settings, client, tmp_path / "peek")
    assert same_outline(seen, source)
    assert asked_bytes(hub) < len(data) / 4
    assert seen.stat().st_size == len(data)


def test_sharded_safetensors_are_seen_through_their_headers(
    hub: FakeHub, hub_settings: Settings, client: HubClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Configuration and index come whole, of every shard the header; what is here already is not asked for."""
    monkeypatch.setattr(module, "FIRST_BYTES", 64)
    source = tmp_path / "source"
    source.mkdir()
    files = {}
    for number in (1, 2):
        name = f"model-0000{number}-of-00002.safetensors"
        write_safetensors(source / name, {f"tensor.{number}": ("F32", np.ones((500, 40), np.float32))})
        files[name] = (source / name).read_bytes()
    index = {"weight_map": {f"tensor.{n}": f"model-0000{n}-of-00002.safetensors" for n in (1, 2)}}
    files["model.safetensors.index.json"] = json.dumps(index).encode()
    files["config.json"] = b'{"model_type": "llama"}'
    files["tokenizer.json"] = b"{}"
    for name, data in files.items():
        (source / name).write_bytes(data)
    hub.add_repo("tiny/model", files)
    assert same_outline(peek_at(hub, hub_settings, client, tmp_path / "peek"), source)
    assert not (tmp_path / "peek" / "tokenizer.json").exists()
    assert asked_bytes(hub) < 2000


def test_an_outline_takes_no_room(tmp_path: Path) -> None:
    """A weight file of a gigabyte is a hole behind its header."""
    header = json.dumps({"t": {"dtype": "F32", "shape": [250_000_000], "data_offsets": [0, 1_000_000_000]}}).encode()
    content = len(header).to_bytes(8, "little") + header
    size = len(content) + 1_000_000_000
    target = tmp_path / "model.safetensors"
    write_outline(lambda start, stop: (content + bytes(stop))[start:stop], size, target)
    assert target.stat().st_size == size
    assert target.stat().st_blocks * 512 < 1_000_000


def test_a_header_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger cannot make a look as dear as the download."""
    monkeypatch.setattr(module, "MOST_BYTES", 10_000)
    endless = (1 << 40).to_bytes(8, "little")
    with pytest.raises(UnsupportedModel, match="header"):
        write_outline(lambda a, b: (endless + bytes(b))[a:b], 1 << 41, tmp_path / "model.safetensors")
    with pytest.raises(FormatError, match="GGUF"):
        write_outline(lambda a, b: bytes(b - a), 1 << 20, tmp_path / "model.gguf")


def test_a_server_that_sends_another_range_is_not_believed(hub: FakeHub, hub_settings: Settings) -> None:
    """Bytes of another place would make another model."""
    data = bytes(range(256)) * 40
    repo = hub.add_repo("tiny/model", {"model.safetensors": data})
    file = next(iter(repo.commits.values()))["model.safetensors"]
    link = Link(hub.signed(file, "model.safetensors"))
    assert read_range(link, 100, 300, hub_settings) == data[100:300]
    hub.add_fault(Fault("shift", path="safetensors"))
    with pytest.raises(RangeMismatch, match="bytes 100-299"):
        read_range(link, 100, 300, hub_settings)


def test_a_server_without_ranges_serves_a_beginning(hub: FakeHub, hub_settings: Settings) -> None:
    """The whole file is cut off after what was asked for; another place cannot be had."""
    data = bytes(range(256)) * 40
    repo = hub.add_repo("tiny/model", {"model.safetensors": data})
    link = Link(hub.signed(next(iter(repo.commits.values()))["model.safetensors"], "model.safetensors"))
    hub.add_fault(Fault("whole", path="safetensors", times=2))
    assert read_range(link, 0, 300, hub_settings) == data[:300]
    with pytest.raises(RangeMismatch):
        read_range(link, 100, 300, hub_settings)
