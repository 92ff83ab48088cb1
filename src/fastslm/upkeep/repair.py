"""Fetch damaged files again. A file is set aside while its successor is fetched, and put back when that fails.

Converted models are not fetched but made again, which is for the caller: see ``Convert``.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from fastslm.config import Settings
from fastslm.errors import FastSLMError
from fastslm.hub import Wishes, fetch_model
from fastslm.hub.disk.keepsakes import keepsakes
from fastslm.hub.layout import file_errors
from fastslm.hub.refs import hub_ref, parse
from fastslm.progress import ProgressCallback
from fastslm.store.manifest import MANIFEST_NAME, ModelManifest
from fastslm.upkeep.verify import Damage, Vouched, examine

Convert = Callable[[str, str, int | None, str], None]
"""Makes a converted model again: name, precision, context length and target."""

ASIDE = ".damaged"
"""Suffix of a file whose successor is being fetched."""


@dataclass(frozen=True)
class Repair:
    """What came of one damaged file; ``problem`` is empty when it is sound now."""

    damage: Damage
    problem: str


@dataclass(frozen=True)
class Workshop:
    """What a repair needs."""

    settings: Settings
    convert: Convert
    progress: ProgressCallback


def repair(damaged: Sequence[Damage], workshop: Workshop) -> Iterator[Repair]:
    """Repair one file after the other, sources first, so that conversions are made of sound ones."""
    order = {"cached": 0, "downloaded": 1, "converted": 2}
    for damage in sorted(damaged, key=lambda each: order[each.item.kind]):
        try:
            _mend(damage.item, workshop)
        except FastSLMError as error:
            yield Repair(damage, error.message)
        else:
            sound = _is_sound(damage.item) or _is_nobodys(damage.item)
            yield Repair(damage, "" if sound else "it is damaged again")


def _is_sound(item: Vouched) -> bool:
    try:
        return examine(_today(item)) is None
    except FastSLMError:  # a manifest that cannot be read
        return False


def _is_nobodys(item: Vouched) -> bool:
    """A blob that no snapshot shows."""
    return item.kind == "cached" and not item.path


def _today(item: Vouched) -> Vouched:
    """A model that was made again has other hashes, which its new manifest tells."""
    if item.kind != "converted":
        return item
    hashes = ModelManifest.read(item.file.parent).hashes
    name = next(iter(hashes)) if item.file.name == MANIFEST_NAME else item.file.name
    return replace(item, file=item.file.with_name(name), expected=hashes.get(name, ""))


def _mend(item: Vouched, workshop: Workshop) -> None:
    if _is_sound(item):
        return  # mended together with another file of the same model
    if item.kind == "converted":
        _convert_again(item, workshop)
    elif item.kind == "cached":
        _fetch_again(item, workshop)
    else:
        _download_again(item, workshop)


def _convert_again(item: Vouched, workshop: Workshop) -> None:
    name, _, precision = item.owner.rpartition("#")
    try:
        manifest = ModelManifest.read(item.file.parent)
        context, target = manifest.context_length, manifest.target
    except FastSLMError:
        context, target = None, "auto"
    with _aside(item.file):
        workshop.convert(name, precision, context, target)


def _fetch_again(item: Vouched, workshop: Workshop) -> None:
    """Through the planner, which finds the file missing; the name is taken literally, whatever letters it has."""
    if _is_nobodys(item):
        with file_errors("remove", item.file):
            item.file.unlink()
        return
    ref = hub_ref(item.owner, item.commit)
    with _aside(item.file):
        fetch_model(ref, workshop.settings, Wishes(include=(glob.escape(item.path),)), workshop.progress)


def _download_again(item: Vouched, workshop: Workshop) -> None:
    kept = next((each for each in keepsakes(workshop.settings) if each.file == item.file), None)
    if item.owner != "demo" and not item.owner.startswith(("http://", "https://")):
        raise FastSLMError(f"`{item.owner}` was imported and has no address to fetch it from")
    if kept is not None:
        with _aside(item.file):
            fetch_model(parse(item.owner), workshop.settings, None, workshop.progress)


@contextmanager
def _aside(file: Path) -> Iterator[None]:
    """Out of the way while the block makes a new one; back again when it makes none."""
    hidden = file.with_name(f"{file.name}{ASIDE}")
    with file_errors("set aside", file):
        if file.exists():
            file.replace(hidden)
    try:
        yield
    finally:
        if hidden.exists():
            if file.exists():
                hidden.unlink()
            else:
                hidden.replace(file)
