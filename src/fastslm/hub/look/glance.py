"""What can be known of a model for a few hundred kilobytes: sizes, what is here, and headers to look into."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fastslm.config import Settings
from fastslm.errors import NetworkError, OfflineMode, ServerRefused
from fastslm.formats.archive import is_archive
from fastslm.hub import address
from fastslm.hub.catalogue import load_catalogue
from fastslm.hub.client import HubClient
from fastslm.hub.demo import demo_file
from fastslm.hub.look.peek import peek, write_outline
from fastslm.hub.look.ranges import read_range
from fastslm.hub.plan import DownloadPlan, make_plan
from fastslm.hub.refs import ModelRef
from fastslm.hub.select import Wishes
from fastslm.hub.transfer import Fetched

TOKENIZER = "tokenizer.json"


@dataclass(frozen=True)
class Glance:
    """A look at a model.

    Attributes:
        path: what a reader of headers opens; None when nothing of the model can be read before it is here.
        commit: as in ``Fetched``.
        total_bytes, cached_bytes: of the download, and how much of it is here.
        scratch_bytes: room that is needed beside the download for a while.
        tokenizer_bytes: size of ``tokenizer.json``, 0 when the model keeps its vocabulary elsewhere.
        passing_bytes: of the download that are removed before the rest is there.
    """

    path: Path | None
    commit: str
    total_bytes: int = 0
    cached_bytes: int = 0
    scratch_bytes: int = 0
    tokenizer_bytes: int = 0
    passing_bytes: int = 0


def glance(ref: ModelRef, settings: Settings, wishes: Wishes, folder: Path) -> Glance:
    """Look at a model without downloading it; headers are put into an empty ``folder``.

    Raises:
        ModelNotFound, RevisionNotFound, FileMissing, AccessDenied, UnsupportedModel: the hub's answer.
        OfflineMode, NetworkError: it is not here and nobody can be asked.
    """
    if ref.kind == "demo":
        return _demo(settings)
    if ref.kind == "url":
        return _address(ref, settings, folder)
    if ref.kind == "local":
        return at_hand(Fetched(ref, ref.path or Path(ref.name), "", ()))
    client = HubClient(settings)
    return glance_at_plan(make_plan(ref, settings, wishes, client), settings, client, folder)


def glance_at_plan(plan: DownloadPlan, settings: Settings, client: HubClient, folder: Path) -> Glance:
    """Look at a repository whose download is planned. Raises as ``glance``."""
    sizes = {file.path: file.size for file in plan.files}
    return Glance(
        path=peek(plan, settings, client, folder),
        commit=plan.commit,
        total_bytes=plan.total_bytes,
        cached_bytes=plan.cached_bytes,
        tokenizer_bytes=sizes.get(TOKENIZER, 0),
    )


def at_hand(fetched: Fetched) -> Glance:
    """Look at a model that is on this machine."""
    folder = fetched.path if fetched.path.is_dir() else fetched.path.parent
    files = [fetched.path] if fetched.path.is_file() else [path for path in folder.iterdir() if path.is_file()]
    tokenizer = folder / TOKENIZER
    own = fetched.path.is_dir() and tokenizer.is_file()
    total = sum(path.stat().st_size for path in files)
    return Glance(
        path=fetched.path,
        commit=fetched.commit,
        total_bytes=total,
        cached_bytes=total,
        tokenizer_bytes=tokenizer.stat().st_size if own else 0,
    )


def _demo(settings: Settings) -> Glance:
    demo, file = load_catalogue().demo, demo_file(settings)
    if file is not None:
        return Glance(file, demo.sha256, total_bytes=demo.size_bytes, cached_bytes=demo.size_bytes)
    unpacked = demo.wheel_bytes + demo.size_bytes
    return Glance(None, demo.sha256, total_bytes=demo.wheel_bytes, scratch_bytes=unpacked)


def _address(ref: ModelRef, settings: Settings, folder: Path) -> Glance:
    place = address.address_folder(ref, settings)
    known = address.recorded(place, place / ref.file)
    try:
        source, link = address.probe(ref, settings)
    except NetworkError as error:
        if known is None or (isinstance(error, ServerRefused) and not isinstance(error, OfflineMode)):
            raise
        return at_hand(address.fetched(ref, place / ref.file, known))
    if known is not None and known.identity == source.identity:
        return at_hand(address.fetched(ref, place / ref.file, known))
    target = folder / ref.file
    if is_archive(ref.file):  # nothing can be read of it in front
        return Glance(None, "", total_bytes=max(source.size, 0))
    if source.size > 0:
        write_outline(lambda start, stop: read_range(link, start, stop, settings), source.size, target)
    return Glance(target if source.size > 0 else None, "", total_bytes=max(source.size, 0))
