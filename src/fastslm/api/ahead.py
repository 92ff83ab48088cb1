"""Convert a model while it is being downloaded, and, where the source is not to be kept, drop it file by file.

Law: what is made ahead stays in its staging folder. It is published by the ordinary conversion, after every file was
verified; when a file is doubted it is thrown away, and everything is converted once more.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType

from fastslm.api.converting import HeadStart, Order, subject
from fastslm.api.passing import HELD_BYTES, PassingFile, can_pass
from fastslm.api.records import of_no_source
from fastslm.config import Settings
from fastslm.errors import Cancelled, DiskFull, FastSLMError, FileSystemError, StoreError
from fastslm.formats.arriving import ArrivingFiles, Coming, Doubted
from fastslm.hub.cache import drop_file, drop_partial, symlinks_work
from fastslm.hub.client import HubClient
from fastslm.hub.follow import by_use, is_weights
from fastslm.hub.layout import RepoLayout
from fastslm.hub.look.outline import outline_path, outlined
from fastslm.hub.plan import DownloadPlan, PlannedFile
from fastslm.hub.transfer import Arrival
from fastslm.progress import Progress
from fastslm.store import models
from fastslm.store.staging import Busy, refuse, staged

WORTH_BYTES = 64 * 1024 * 1024
"""What is smaller is converted in a moment when it is here."""

POLL_S = 0.1
OUTLINED = (".safetensors", ".gguf")

_OURS = (DiskFull, FileSystemError, StoreError)
"""Failures that have nothing to do with what the bytes are: waiting for the rest of them would not help."""


class Ahead:
    """A ``hub.follow.Follower`` that converts. A context manager: at its end nothing runs and no lock is held."""

    def __init__(self, name: str, order: Order, settings: Settings) -> None:
        self._drop = order.discards and order.checks.quality != "always" and order.checks.calibration is None
        self.at_once = 2 if self._drop else 0
        self._passing: set[str] = set()
        self._name, self._order, self._settings = name, order, settings
        self._stack = ExitStack()
        self._thread: threading.Thread | None = None
        self._files = ArrivingFiles({})
        self._folder = Path()
        self._plan: DownloadPlan | None = None
        self._texts = threading.Event()
        self._start: HeadStart | None = None
        self._failure: BaseException | None = None
        self._now = Progress("converting", 0, 1, "tensors")
        self.dropped_bytes = 0
        self.is_done = False

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop()
        self._stack.__exit__(kind, error, at)
        if self._thread is not None and (kind is None or not self._drop):
            shutil.rmtree(self._folder, ignore_errors=True)

    # What the download says.

    def does_without(self, commit: str) -> bool:
        """See ``Follower``."""
        order = self._order
        self.is_done = of_no_source(self._name, commit, order.options, order.checks, self._settings) is not None
        return self.is_done

    def begin(self, plan: DownloadPlan, client: HubClient) -> None:
        """See ``Follower``."""
        self.does_without(plan.commit)
        weights = [file for file in plan.missing if is_weights(file) and not self.is_done]
        paths = [file.path for file in plan.files if is_weights(file)]
        layout = RepoLayout(self._settings.hub_cache, plan.repo)
        readable = all(path.lower().endswith(OUTLINED) for path in paths)
        is_worth_it = self._order.checks.calibration is None and sum(file.size for file in weights) >= WORTH_BYTES
        if not weights or not readable or not is_worth_it or not symlinks_work(layout.partials):
            return
        self._plan = plan
        self._folder = outline_path(self._settings.models_dir, self._name, plan.commit)
        self._files = ArrivingFiles(
            {
                self._folder / file.path: Coming(
                    _places(layout, plan.commit, file), file.size, gone=_gone(layout, file) if self.held_bytes else ()
                )
                for file in by_use(weights)
            }
        )
        self._thread = threading.Thread(target=self._run, args=(plan, client), name="fastslm-ahead", daemon=True)
        self._thread.start()

    def batches(self, files: Sequence[PlannedFile]) -> Iterator[Sequence[PlannedFile]]:
        """See ``Follower``: all at once; or, where files are dropped, one of weights after another."""
        weights = [file for file in by_use(files) if is_weights(file)]
        if self.is_done:
            yield [file for file in files if not is_weights(file)]
            return
        if not self._drop or self._thread is None or (len(weights) < 2 and not self.held_bytes):
            yield by_use(files)
            self._texts.set()
            return
        yield [file for file in files if not is_weights(file)]
        self._texts.set()
        self._until(lambda: self._files.is_planned or self._files.is_starving)
        kept: list[PlannedFile] = []
        for file in weights:
            if self._files.is_needed(self._folder / file.path):
                yield [file]
                kept = [*self._let_go(kept), file]
        self._let_go(kept)

    def arrived(self, file: PlannedFile, arrival: Arrival) -> None:
        """See ``Follower``."""
        self._look()
        if self._thread is None or not is_weights(file):
            return
        place = self._folder / file.path
        self._files.arrived(place, arrival.ready_bytes)
        if arrival.doubted:
            self._files.doubt(place)

    @cached_property
    def held_bytes(self) -> int:
        """See ``Follower``."""
        return HELD_BYTES if self._drop and can_pass(self._settings.hub_cache) else 0

    def passing(self, file: PlannedFile) -> PassingFile | None:
        """See ``Follower``."""
        start, place = self._start, self._folder / file.path
        if not self.held_bytes or not is_weights(file) or start is None or not self._is_at_work():
            return None
        if not self._files.is_planned or not self._files.let_pass(place):
            return None
        self._passing.add(file.digest)
        return PassingFile(place, self._files, file.size, start.staging.sync, self._is_at_work)

    @property
    def is_short(self) -> bool:
        """Whether something that was fetched is not here any more, or not whole."""
        return self.dropped_bytes > 0 or bool(self._passing)

    def verified(self, file: PlannedFile) -> None:
        """See ``Follower``."""
        self._look()
        if self._thread is None or not is_weights(file):
            return
        keys = self._files.verified(self._folder / file.path)
        if self._start is None:
            return
        try:
            self._files.compare(self._folder / file.path)
            self._start.staging.ledger.prove(keys)
        except Doubted as error:
            self._files.stop(error)
        except OSError:  # then a later process does that work again
            return

    # What the pull asks.

    def finish(self) -> HeadStart | None:
        """Wait for the end. None when nothing was made ahead that can be used.

        Raises:
            DiskFull, FileSystemError, StoreError: the conversion cannot be written.
        """
        self._texts.set()
        self._until(lambda: False)
        if self._start is not None and self._failure is None:
            if self._files.is_shaken:
                self._start.staging.ledger.distrust()
                self._files.settle()
            try:
                for path in self._files.paths if not self.dropped_bytes else ():
                    self._files.compare(path)
            except Doubted as error:
                self._failure = error
        if self._failure is not None:
            self._give_up()
            return None
        return replace(self._start, sourceless=self.dropped_bytes > 0) if self._start is not None else None

    @property
    def order(self) -> Order:
        """The order as it can be carried out: without the floats nothing can be compared with them."""
        if not self.dropped_bytes or self._order.checks.quality == "never":
            return self._order
        self._order.notice("the quality is not measured, since the source was removed as it was converted")
        return replace(self._order, checks=replace(self._order.checks, quality="never"))

    def caused(self, error: BaseException) -> bool:
        """Whether it was the conversion that failed."""
        return error is self._failure

    def _look(self) -> None:
        """Let small files be read as soon as all of them are here, and hear of a failure."""
        if not self._texts.is_set() and self._plan is not None:
            layout = RepoLayout(self._settings.hub_cache, self._plan.repo)
            texts = [each for each in self._plan.files if not is_weights(each)]
            if all(layout.pointer(self._plan.commit, each.path).exists() for each in texts):
                self._texts.set()
        self._raise_ours()

    def _raise_ours(self) -> None:
        """Raise a failure that is certain: not of the bytes, or of bytes that are verified."""
        failure = self._failure
        is_certain = isinstance(failure, FastSLMError) and not isinstance(failure, Cancelled | Doubted | Busy)
        if failure is None or not is_certain or self._plan is None:
            return
        if isinstance(failure, _OURS) or (self._start is not None and self._files.all_read_is_proven):
            raise failure

    def _until(self, done: Callable[[], bool]) -> None:
        """Wait for the conversion, or for its end; tells its progress."""
        while self._thread is not None and self._thread.is_alive() and not done():
            self._thread.join(POLL_S)
            self._order.progress(self._now)
        self._raise_ours()

    def _give_up(self) -> None:
        """Leave the place to whoever converts now."""
        stack, self._stack = self._stack, ExitStack()
        failure = self._failure or Cancelled()
        with suppress(type(failure)):
            stack.__exit__(type(failure), failure, None)

    def _is_at_work(self) -> bool:
        return self._thread is not None and self._failure is None

    def _stop(self) -> None:
        self._files.stop(Cancelled())
        self._texts.set()
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(POLL_S)

    # The files that are dropped.

    def _is_used_up(self, file: PlannedFile) -> bool:
        return self._thread is not None and self._files.is_used_up(self._folder / file.path)

    def _let_go(self, files: Sequence[PlannedFile]) -> list[PlannedFile]:
        """Drop files whose tensors are converted, once these are on the disk itself; returns those that are needed
        together with files that are still to come.
        """
        kept = []
        for file in files:
            self._until(lambda file=file: self._is_used_up(file) or self._files.is_starving)  # type: ignore[misc]
            if not self._is_used_up(file) or self._start is None or self._plan is None:
                kept.append(file)
                continue
            self._start.staging.sync()
            layout = RepoLayout(self._settings.hub_cache, self._plan.repo)
            if file.digest in self._passing:
                drop_partial(layout, file.digest)
                self.dropped_bytes += file.size
            else:
                self.dropped_bytes += drop_file(layout, self._plan.commit, file.path)
        return kept

    # The thread.

    def _run(self, plan: DownloadPlan, client: HubClient) -> None:
        try:
            self._convert(plan, client)
        except BaseException as error:  # noqa: BLE001 - it is looked at by the thread that downloads
            self._failure = error

    def _convert(self, plan: DownloadPlan, client: HubClient) -> None:
        from fastslm.engine.quality.gate import check_wishes, guided
        from fastslm.engine.usable import is_same
        from fastslm.export.convert import convert_tensors
        from fastslm.export.filling import Course
        from fastslm.export.prepare import prepared
        from fastslm.formats import open_model

        order, settings = self._order, self._settings
        entrance = outlined(plan, settings, client, self._folder)
        self._texts.wait()
        self._files.check()
        source = open_model(entrance, self._files.open)
        work = prepared(source, replace(order.options, name=self._name, commit=plan.commit))
        check_wishes(work, order.checks)
        folder = models.folder_path(settings.models_dir, self._name, plan.commit, work.precision)
        self._stack.enter_context(models.exclusive(folder, refuse))
        if is_same(folder, order.options, order.checks):
            return
        if not self._drop and guided(work, settings.models_dir, order.checks) != order.checks:
            return  # a small model: its floats are run first, all of them
        staging = self._stack.enter_context(staged(folder, subject(work, order.checks)))
        self._start = HeadStart(work, staging)
        course = Course(staging.ledger, self._files)
        while True:
            try:
                convert_tensors(source, staging.model, work.options, self._note, course)
            except Doubted:
                self._files.check_end()
                staging.ledger.distrust()
            else:
                return

    def _note(self, now: Progress) -> None:
        self._now = now


def _gone(layout: RepoLayout, file: PlannedFile) -> tuple[tuple[int, int], ...]:
    """What an earlier process used of a file and gave back."""
    from fastslm._native import given_back

    return tuple(given_back(str(layout.partial(file.digest)), str(layout.journal(file.digest))))


def _places(layout: RepoLayout, commit: str, file: PlannedFile) -> tuple[Path, ...]:
    """Where a file is, one after the other."""
    return layout.partial(file.digest), layout.blob(file.digest), layout.pointer(commit, file.path)
