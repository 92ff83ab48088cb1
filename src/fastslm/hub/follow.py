"""Whoever wants to use the files of a repository while they are being fetched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from fastslm.hub.client import HubClient
from fastslm.hub.plan import DownloadPlan, PlannedFile
from fastslm.hub.transfer import Arrival, Passing

WEIGHTS = (".safetensors", ".gguf", ".bin", ".onnx", ".onnx_data", ".data")


class Follower(Protocol):
    """Called from the thread that downloads; what a method raises ends the download.

    Attributes:
        at_once: the most files of weights that are on disk at the same time; 0 for all.
        held_bytes: the most of one of them that is on disk; 0 for all of it.
    """

    at_once: int

    @property
    def held_bytes(self) -> int:
        """See above."""

    def does_without(self, commit: str) -> bool:
        """Whether the weights of a commit are not wanted any more; asked when nobody can tell which files it has."""

    def begin(self, plan: DownloadPlan, client: HubClient) -> None:
        """The locks are held, and these files are going to be fetched."""

    def batches(self, files: Sequence[PlannedFile]) -> Iterator[Sequence[PlannedFile]]:
        """The files in the order in which they are wanted, those of one batch side by side; some may be left out."""

    def arrived(self, file: PlannedFile, arrival: Arrival) -> None:
        """How far a file has come; told ten times a second."""

    def passing(self, file: PlannedFile) -> Passing | None:
        """Asked before a file is fetched: who uses it up, if it is not to be kept."""

    def verified(self, file: PlannedFile) -> None:
        """A file is complete, right, and in its place; one that passes is not placed anywhere."""


class Nobody:
    """Nothing is used before everything is here."""

    at_once = 0
    held_bytes = 0

    def does_without(self, commit: str) -> bool:
        """Everything is wanted."""
        return False

    def begin(self, plan: DownloadPlan, client: HubClient) -> None:
        """Nothing begins."""

    def batches(self, files: Sequence[PlannedFile]) -> Iterator[Sequence[PlannedFile]]:
        """All at once, small ones first."""
        yield by_use(files)

    def arrived(self, file: PlannedFile, arrival: Arrival) -> None:
        """Nobody listens."""

    def passing(self, file: PlannedFile) -> None:
        """Everything is kept."""

    def verified(self, file: PlannedFile) -> None:
        """Nobody listens."""


def is_weights(file: PlannedFile) -> bool:
    """Whether a file holds weights, and is not one of the texts that are read first."""
    return file.path.lower().endswith(WEIGHTS)


def by_use(files: Sequence[PlannedFile]) -> list[PlannedFile]:
    """What is read first comes first: configuration and tokenizer, then weights in the order of their names."""
    return sorted(files, key=lambda file: (is_weights(file), file.path))
