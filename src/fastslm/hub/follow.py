"""Whoever wants to use the files of a repository while they are being fetched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from fastslm.hub.client import HubClient
from fastslm.hub.plan import DownloadPlan, PlannedFile
from fastslm.hub.transfer import Arrival

WEIGHTS = (".safetensors", ".gguf", ".bin", ".onnx", ".onnx_data", ".data")


class Follower(Protocol):
    """Called from the thread that downloads; what a method raises ends the download.

    Attributes:
        at_once: the most files of weights that are on disk at the same time; 0 for all.
    """

    at_once: int

    def begin(self, plan: DownloadPlan, client: HubClient) -> None:
        """The locks are held, and these files are going to be fetched."""

    def batches(self, files: Sequence[PlannedFile]) -> Iterator[Sequence[PlannedFile]]:
        """The files in the order in which they are wanted, those of one batch side by side; some may be left out."""

    def arrived(self, file: PlannedFile, arrival: Arrival) -> None:
        """How far a file has come; told ten times a second."""

    def verified(self, file: PlannedFile) -> None:
        """A file is complete, right, and in its place."""


class Nobody:
    """Nothing is used before everything is here."""

    at_once = 0

    def begin(self, plan: DownloadPlan, client: HubClient) -> None:
        """Nothing begins."""

    def batches(self, files: Sequence[PlannedFile]) -> Iterator[Sequence[PlannedFile]]:
        """All at once, small ones first."""
        yield by_use(files)

    def arrived(self, file: PlannedFile, arrival: Arrival) -> None:
        """Nobody listens."""

    def verified(self, file: PlannedFile) -> None:
        """Nobody listens."""


def is_weights(file: PlannedFile) -> bool:
    """Whether a file holds weights, and is not one of the texts that are read first."""
    return file.path.lower().endswith(WEIGHTS)


def by_use(files: Sequence[PlannedFile]) -> list[PlannedFile]:
    """What is read first comes first: configuration and tokenizer, then weights in the order of their names."""
    return sorted(files, key=lambda file: (is_weights(file), file.path))
