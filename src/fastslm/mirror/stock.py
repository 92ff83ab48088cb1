"""What a mirror can answer: from this machine's cache alone, or with an upstream hub for what the cache lacks.

With an upstream, the upstream says who may see a model: it is asked as anybody, without a token, and what it hides
from anybody is not served from the cache either. When it cannot be reached, the cache answers alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Protocol, TypeVar

from fastslm.config import Settings
from fastslm.errors import (
    ConnectionLost,
    FileMissing,
    NetworkError,
    NotFoundError,
    RetryableNetworkError,
    ServerRefused,
)
from fastslm.hub.client import HubClient, Patience, RemoteFile
from fastslm.hub.fetch import carry_out_file
from fastslm.hub.layout import is_commit, read_tree
from fastslm.hub.plan import DownloadPlan, PlannedFile
from fastslm.hub.refs import is_safe_path
from fastslm.hub.transfer import Arrival
from fastslm.mirror.flights import Flight, Flights
from fastslm.mirror.memo import Memo
from fastslm.mirror.shelf import Shelf, Stored, etag_of

BRANCH_S = 30.0
"""How long a branch counts as not moved."""

LISTING_S = 3600.0

SILENT_S = 10.0
"""How long an upstream that did not answer is left alone, so that a class does not wait for it file by file."""

PATIENCE = Patience(resolve_s=6.0, listing_s=60.0, locate_s=8.0, attempts=2)
"""Clients wait ten seconds for a head; they shall get the mirror's answer and not their own time-out."""

T = TypeVar("T")


class Stock(Protocol):
    """Where answers come from. Calls may block; every method raises NotFoundError and what the hub's client raises."""

    def repos(self) -> tuple[str, ...]:
        """Models on this machine whose names may be told."""

    def commit_of(self, repo: str, revision: str) -> str:
        """The commit of a revision; empty for the default branch."""

    def refs(self, repo: str) -> dict[str, str]:
        """Branches and tags to commits."""

    def files(self, repo: str, commit: str) -> tuple[RemoteFile, ...]:
        """What can be had of a commit, sorted by path."""

    def entry(self, repo: str, commit: str, path: str) -> RemoteFile:
        """One file of it."""

    def content(self, repo: str, commit: str, file: RemoteFile) -> Stored | Flight:
        """Its bytes: here, or on their way."""

    def close(self) -> None:
        """End what is under way."""


class LocalStock:
    """The cache alone."""

    def __init__(self, shelf: Shelf) -> None:
        self.repos = shelf.repos
        self.commit_of = shelf.commit_of
        self.refs = shelf.refs
        self.files = shelf.files
        self._shelf = shelf

    def entry(self, repo: str, commit: str, path: str) -> RemoteFile:
        """See ``Stock``."""
        return self._shelf.stored(repo, commit, path).file

    def content(self, repo: str, commit: str, file: RemoteFile) -> Stored:
        """See ``Stock``."""
        return self._shelf.stored(repo, commit, file.path)

    def close(self) -> None:
        """Nothing is ever under way."""


class UpstreamStock:
    """The cache, filled from the hub at ``settings.endpoint``."""

    def __init__(self, shelf: Shelf, settings: Settings) -> None:
        self._shelf = shelf
        self._settings = replace(settings, token=None, hub_cache=shelf.root)
        self._client = HubClient(self._settings, PATIENCE)
        self._commits: Memo[str] = Memo(BRANCH_S)
        self._access: Memo[None] = Memo(LISTING_S)
        self._listings: Memo[tuple[RemoteFile, ...]] = Memo(LISTING_S)
        self._flights = Flights()
        self._silent_until = 0.0
        self._revisions: dict[tuple[str, str], str] = {}

    def repos(self) -> tuple[str, ...]:
        """None: a name may be what the upstream hides."""
        return ()

    def commit_of(self, repo: str, revision: str) -> str:
        """See ``Stock``."""
        self._shelf.layout(repo)  # a name that can exist
        commit = self._commits.get((repo, revision), lambda: self._ask_commit(repo, revision))
        if not is_commit(revision):
            self._revisions[repo, commit] = revision
            self._commits.know((repo, commit), commit)
        return commit

    def refs(self, repo: str) -> dict[str, str]:
        """See ``Stock``."""
        main = self.commit_of(repo, "")
        try:
            return {**self._shelf.refs(repo), "main": main}
        except NotFoundError:
            return {"main": main}

    def files(self, repo: str, commit: str) -> tuple[RemoteFile, ...]:
        """See ``Stock``."""
        known = read_tree(self._shelf.layout(repo), commit)
        if known is not None:
            return known
        return self._or_shelf(
            lambda: self._listings.get((repo, commit), lambda: _safe(self._client.list_files(repo, commit))),
            lambda: self._shelf.files(repo, commit),
        )

    def entry(self, repo: str, commit: str, path: str) -> RemoteFile:
        """See ``Stock``."""
        found = next((file for file in self.files(repo, commit) if file.path == path), None)
        if found is None:
            raise FileMissing(f"`{repo}` has no file `{path}`", what="file", name=path)
        with suppress(NetworkError):  # nobody answered: the cache decides, until somebody does
            self._access.get((repo, commit), lambda: self._ask_access(repo, commit, path))
        if found.masked:
            raise ServerRefused(f"`{self._settings.endpoint}` hides the hash of `{path}`")
        return found

    def content(self, repo: str, commit: str, file: RemoteFile) -> Stored | Flight:
        """See ``Stock``."""
        stored = self._shelf.find(repo, commit, file)
        if stored is not None:
            return stored
        layout, digest = self._shelf.layout(repo), etag_of(file)
        planned = PlannedFile(file.path, file.size, "sha256" if file.sha256 else "git-sha1", digest)
        revision = self._revisions.get((repo, commit), commit)
        plan = DownloadPlan(repo, revision, commit, (planned,), self.files(repo, commit))

        def fly(watch: Callable[[Arrival], None]) -> None:
            carry_out_file(plan, self._settings, self._client, watch)

        return self._flights.join(file, (layout.partial(digest), layout.blob(digest)), fly)

    def close(self) -> None:
        """See ``Stock``."""
        self._flights.close()

    def _ask_commit(self, repo: str, revision: str) -> str:
        return self._or_shelf(
            lambda: self._client.resolve_revision(repo, revision), lambda: self._shelf.commit_of(repo, revision)
        )

    def _ask_access(self, repo: str, commit: str, path: str) -> None:
        """Whether anybody may have a file of this commit; a listing can be public where the files are not."""
        with suppress(FileMissing):
            self._patiently(lambda: self._client.locate(repo, commit, path))

    def _patiently(self, ask: Callable[[], T]) -> T:
        """The upstream's answer, unless it gave none a moment ago. Raises NetworkError."""
        endpoint = self._settings.endpoint
        if time.monotonic() < self._silent_until:
            raise ConnectionLost(f"`{endpoint}` did not answer a moment ago", url=endpoint)
        try:
            return ask()
        except RetryableNetworkError:
            self._silent_until = time.monotonic() + SILENT_S
            raise

    def _or_shelf(self, ask: Callable[[], T], look: Callable[[], T]) -> T:
        """The upstream's answer; without one, the cache's."""
        try:
            return self._patiently(ask)
        except NetworkError as error:
            try:
                return look()
            except NotFoundError:
                raise error from None


def _safe(files: tuple[RemoteFile, ...]) -> tuple[RemoteFile, ...]:
    """Without names that would lead out of a folder, and sizes that there are not."""
    return tuple(file for file in files if is_safe_path(file.path) and file.size >= 0)
