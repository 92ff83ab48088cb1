"""A model's name to verified files on disk. One door: ``parse`` a name, ``fetch_model`` what it means.

Whatever is complete on disk is used when nobody answers; nothing that is not verified is ever shown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from fastslm.config import Settings
from fastslm.errors import Cancelled, FileMissing, NetworkError, OfflineMode, ServerRefused
from fastslm.hub.client import HubClient
from fastslm.hub.fetch import carry_out
from fastslm.hub.follow import Follower, Nobody
from fastslm.hub.layout import RepoLayout, Snapshot, find_snapshot, known_commit
from fastslm.hub.plan import DownloadPlan, check_space, make_plan
from fastslm.hub.refs import ModelRef, parse
from fastslm.hub.select import Wishes
from fastslm.hub.transfer import Fetched
from fastslm.progress import Progress, ProgressCallback, silent

Gate = Callable[[DownloadPlan, HubClient], None]

__all__ = ["Fetched", "Gate", "ModelRef", "Wishes", "fetch_model", "parse", "plan_model"]


def fetch_model(
    ref: ModelRef,
    settings: Settings,
    wishes: Wishes | None = None,
    progress: ProgressCallback = silent,
    *,
    gate: Gate | None = None,
    follower: Follower | None = None,
) -> Fetched:
    """Have a model on disk: a snapshot folder, or one file (a GGUF, wherever it comes from).

    Args:
        ref: what ``parse`` made of the name.
        settings: where to put it and whom to ask.
        wishes: files to choose from a repository; by default what a conversion needs.
        progress: called about ten times a second from this thread.
        gate: sees the plan of a repository before its first byte is fetched, and may raise.
        follower: is told how the files of a repository arrive.

    Raises:
        ModelNotFound, RevisionNotFound, FileMissing, AccessDenied, UnsupportedModel: the hub's answer.
        OfflineMode, NetworkError: it is not here and cannot be had.
        IntegrityError: what came is not what was announced; nothing of it is kept.
        DiskFull, FileSystemError: there is no room, or no right to write.
        Cancelled: Ctrl-C; the next call goes on from where this one stopped.
    """
    try:
        if ref.kind == "hub":
            door = _Door(gate or _open_gate, follower or Nobody())
            return _from_hub(ref, settings, _complete(wishes, ref), progress, door)
        return _fetch(ref, settings, progress)
    except KeyboardInterrupt:
        raise Cancelled from None


@dataclass(frozen=True)
class _Door:
    """Who has a say in a download, and who is told of it."""

    gate: Gate
    follower: Follower


def _fetch(ref: ModelRef, settings: Settings, progress: ProgressCallback) -> Fetched:
    if ref.kind == "local":
        return _local(ref)
    if ref.kind == "demo":
        from fastslm.hub.demo import fetch_demo

        return fetch_demo(ref, settings, progress)
    from fastslm.hub.address import fetch_address

    return fetch_address(ref, settings, progress)


def plan_model(ref: ModelRef, settings: Settings, wishes: Wishes | None = None) -> DownloadPlan:
    """What fetching a hub repository would do. Raises as ``fetch_model``."""
    return make_plan(ref, settings, _complete(wishes, ref), HubClient(settings))


def _complete(wishes: Wishes | None, ref: ModelRef) -> Wishes:
    """The user's wishes, and the file that is part of the name."""
    given = wishes or Wishes()
    return replace(given, file=ref.file) if ref.file else given


def _open_gate(plan: DownloadPlan, client: HubClient) -> None:
    """Lets everything through."""


def _from_hub(ref: ModelRef, settings: Settings, wishes: Wishes, progress: ProgressCallback, door: _Door) -> Fetched:
    layout = RepoLayout(settings.hub_cache, ref.repo)
    client = HubClient(settings)
    progress(Progress("resolving", 0, 1, "files", ref.repo))
    try:
        plan = make_plan(ref, settings, wishes, client)
    except NetworkError as error:
        refused = isinstance(error, ServerRefused)
        kept = None if refused else find_snapshot(layout, ref.revision, wishes) or _used_up(layout, ref, door.follower)
        if kept is None and isinstance(error, OfflineMode):
            message = f"the network is switched off and `{ref.name}` is not complete on this machine"
            raise OfflineMode(message, url=settings.endpoint) from None
        if kept is None:
            raise
        return _from_cache(ref, kept)
    if plan.missing:
        check_space(plan, settings, door.follower.at_once, door.follower.held_bytes)
        door.gate(plan, client)
    moved = carry_out(plan, settings, client, progress, door.follower)
    files = tuple(file.path for file in plan.files)
    return Fetched(
        ref=ref,
        path=_entrance(layout.snapshot(plan.commit), files),
        commit=plan.commit,
        files=files,
        resumed_bytes=moved.resumed_bytes,
        wire_bytes=moved.wire_bytes,
        dropped_sources=moved.dropped_sources,
    )


def _used_up(layout: RepoLayout, ref: ModelRef, follower: Follower) -> Snapshot | None:
    """The commit that was here last, if whoever asks needs nothing more of it."""
    commit = known_commit(layout, ref.revision)
    return Snapshot(commit, layout.snapshot(commit), ()) if commit and follower.does_without(commit) else None


def _from_cache(ref: ModelRef, kept: Snapshot) -> Fetched:
    return Fetched(
        ref=ref, path=_entrance(kept.folder, kept.paths), commit=kept.commit, files=kept.paths, from_cache=True
    )


def _entrance(folder: Path, files: tuple[str, ...]) -> Path:
    """What to open: the only GGUF or graph of a selection, since the folder may hold others; else the folder."""
    single = [name for name in files if name.lower().endswith((".gguf", ".onnx"))]
    return folder / single[0] if len(single) == 1 else folder


def _local(ref: ModelRef) -> Fetched:
    path = ref.path
    if path is None or not path.exists():
        raise FileMissing(f"`{ref.name}` is not there any more", what="path", name=ref.name)
    files = tuple(sorted(p.name for p in path.iterdir() if p.is_file())) if path.is_dir() else (path.name,)
    return Fetched(ref=ref, path=path, commit="", files=files)
