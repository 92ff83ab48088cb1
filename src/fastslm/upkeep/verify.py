"""Hash every file that somebody vouches for, several at a time, and tell which are damaged. Offline.

Blobs of the hub cache are vouched for by their names and the commits' listings, converted folders by their manifests,
other downloads by the record beside them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fastslm.config import Settings
from fastslm.errors import FastSLMError, FileSystemError, ModelNotFound
from fastslm.hub.disk.inventory import cached_files, repositories
from fastslm.hub.disk.keepsakes import keepsakes
from fastslm.hub.layout import RepoLayout
from fastslm.naming import reference
from fastslm.progress import Progress, ProgressCallback, silent
from fastslm.store.entry import Entry
from fastslm.store.manifest import MANIFEST_NAME, ModelManifest
from fastslm.store.registry import Registry

MOST_THREADS = 8

Kind = Literal["cached", "converted", "downloaded"]


@dataclass(frozen=True)
class Vouched:
    """One file and what it must hash to; ``expected`` is empty when nobody knows.

    ``owner`` is a repository, a converted model's ``name#precision``, or the name of another download; ``commit`` and
    ``path`` tell where a repository has it.
    """

    kind: Kind
    file: Path
    algorithm: Literal["sha256", "git-sha1"]
    expected: str
    owner: str
    commit: str = ""
    path: str = ""


@dataclass(frozen=True)
class Damage:
    """A file that is not what it should be; ``found`` is its hash, empty when it is missing or cannot be read."""

    item: Vouched
    found: str
    reason: str


@dataclass(frozen=True)
class Verified:
    """What a verification saw: files and bytes that were hashed, files nobody vouches for, and the damaged ones."""

    files: int
    bytes: int
    unknown: int
    damaged: tuple[Damage, ...]


def verify(name: str | None, settings: Settings, progress: ProgressCallback = silent) -> Verified:
    """Check the files of one model, or of all with None.

    Raises:
        ModelNotFound: nothing of this model is here.
        UsageError: the text cannot be a model's name.
    """
    items = list(vouched(name, settings))
    if name is not None and not items:
        raise ModelNotFound(f"`{name}` is not on this machine", what="model", name=name)
    known = [item for item in items if item.expected]
    sizes = {item.file: _size(item.file) for item in known}
    damaged = tuple(_examined(known, sizes, progress))
    return Verified(len(known), sum(sizes.values()), len(items) - len(known), damaged)


def vouched(name: str | None, settings: Settings) -> Iterator[Vouched]:
    """Every file of one model or of all, with what it must hash to. Raises UsageError."""
    entries = Registry(settings.registry_file).list()
    ref = reference(name, settings) if name is not None else None
    name = ref.name if ref is not None else None
    if name is None or (ref is not None and ref.kind == "hub"):
        yield from _cached(settings, ref.repo if ref is not None else None)
    mine = {entry.folder: entry for entry in entries if name in (None, entry.name) and entry.usable}
    for entry in mine.values():  # `auto` and `exact` may be one folder
        yield from _converted(entry)
    for kept in keepsakes(settings):
        if name in (None, kept.name):
            yield Vouched("downloaded", kept.file, "sha256", kept.sha256, kept.name)


def _cached(settings: Settings, repo: str | None) -> Iterator[Vouched]:
    layouts = repositories(settings.hub_cache) if repo is None else (RepoLayout(settings.hub_cache, repo),)
    for layout in layouts:
        for found in cached_files(layout):
            expected = found.expected if found.algorithm else ""
            yield Vouched(
                "cached", found.file, found.algorithm or "sha256", expected, found.repo, found.commit, found.path
            )


def _converted(entry: Entry) -> Iterator[Vouched]:
    folder = Path(entry.folder)
    try:
        hashes = ModelManifest.read(folder).hashes
    except FastSLMError:  # told as a file that is not what it should be
        yield Vouched("converted", folder / MANIFEST_NAME, "sha256", "a readable manifest", entry.key)
        return
    for name, digest in sorted(hashes.items()):
        yield Vouched("converted", folder / name, "sha256", digest, entry.key)


def _examined(items: Sequence[Vouched], sizes: dict[Path, int], progress: ProgressCallback) -> Iterator[Damage]:
    """Damaged ones in the order of ``items``; large files are hashed side by side."""
    results: dict[int, Damage | None] = {}
    total, done = sum(sizes.values()), 0
    with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1), "verify") as pool:
        running: dict[Future[Damage | None], int] = {pool.submit(examine, item): i for i, item in enumerate(items)}
        try:
            for future in _completed(running):
                index = running[future]
                results[index] = future.result()
                done += sizes[items[index].file]
                progress(Progress("verifying", done, total, "B", items[index].file.name))
        finally:
            for future in running:
                future.cancel()
    yield from (found for _, found in sorted(results.items()) if found is not None)


def _completed(futures: Iterable[Future[Damage | None]]) -> Iterator[Future[Damage | None]]:
    """Each as it is ready; waits in short steps, so that Ctrl-C is heard."""
    waiting = set(futures)
    while waiting:
        ready, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
        yield from ready


def examine(item: Vouched) -> Damage | None:
    """Hash one file; None when it is what it should be."""
    from fastslm import _native

    try:
        found = _native.hash_file(str(item.file), item.algorithm)
    except FileSystemError as error:
        missing = not item.file.exists()
        return Damage(item, "", "is missing" if missing else f"cannot be read: {error.message}")
    if found == item.expected:
        return None
    return Damage(item, found, f"has the hash `{found}`, expected `{item.expected}`")


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
