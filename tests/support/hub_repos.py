"""What the scripted hub holds and notes: files, repositories, requests, and what goes wrong."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

LFS_SUFFIXES = (".safetensors", ".gguf", ".bin", ".onnx")


@dataclass(frozen=True)
class HubFile:
    """One file; ``lfs`` decides whether the CDN serves it."""

    data: bytes
    lfs: bool

    @cached_property
    def blob_id(self) -> str:
        body = f"pointer {self.sha256}".encode() if self.lfs else self.data
        return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.blob_id


@dataclass
class HubRepo:
    """One repository: commits, and the branches that point to them."""

    name: str
    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, HubFile]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, files: Mapping[str, bytes], branch: str = "main") -> str:
        """Make a commit of these files the head of a branch."""
        kept = {path: HubFile(data, path.endswith(LFS_SUFFIXES)) for path, data in files.items()}
        text = json.dumps([self.name, len(self.commits), sorted((p, f.etag) for p, f in kept.items())])
        commit = hashlib.sha1(text.encode()).hexdigest()
        self.commits[commit] = kept
        self.refs[branch] = commit
        return commit


@dataclass(frozen=True)
class Request:
    """One line of the log."""

    origin: str
    method: str
    path: str
    query: str
    range: str
    authorization: str


@dataclass
class Fault:
    """Something that goes wrong with requests to ``origin`` whose address or file ends with ``path``.

    ``kind``: ``status`` (answers ``status``), ``flip`` (byte ``offset`` of the file is wrong), ``drop`` (the connection
    is cut when byte ``offset`` of the file is next), ``shift`` (Content-Range is one off), ``whole`` (200 for a range),
    ``mute`` (accepts and never answers), ``slow`` (``delay_s`` before each 64 KiB).
    The first ``skip`` matching requests are served well, then ``times`` of them go wrong.
    """

    kind: str
    path: str = ""
    origin: str = "cdn"
    method: str = ""
    status: int = 500
    offset: int = 0
    delay_s: float = 0.0
    skip: int = 0
    times: int = 1_000_000
    headers: dict[str, str] = field(default_factory=dict)
