"""One line of the registry: which model, how far it has come, and where its files are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from fastslm.store.atomic import process_is_alive

STATES = ("downloading", "downloaded", "converting", "ready", "failed")

NEXT_STATES: Mapping[str, frozenset[str]] = {
    "downloading": frozenset({"downloaded"}),
    "downloaded": frozenset({"converting", "ready"}),
    "converting": frozenset({"converting", "ready"}),
    "ready": frozenset({"converting"}),
    "failed": frozenset({"converting"}),
}
"""What may follow a state. A new pull (``downloading``) and a failure may follow every state."""

CANCELLED = "cancelled"
"""The cause of a failure that the user wanted."""

WORKING = frozenset({"downloading", "converting"})


@dataclass(frozen=True)
class Entry:
    """State of one model in one precision.

    Attributes:
        name: canonical name.
        precision: as it was asked for: ``auto`` or a named one.
        state: one of ``STATES``.
        resolved_precision: what ``auto`` turned out to be, once it is converted.
        revision, commit: what was asked for, and the commit or content hash that it meant.
        snapshot: path of the source files, once they are downloaded.
        folder: path of the converted model. It stays set while a newer pull runs or fails, so that the model
            remains usable.
        discarded: when the weights of the source were removed because nobody wanted to keep them.
        size_bytes: of the converted folder, or of the source before that.
        stage, cause, failed_at: of the last failure.
        pid: process that is working on it.
        created, updated: UTC time, ISO 8601.
    """

    name: str
    precision: str
    state: str
    resolved_precision: str = ""
    revision: str = ""
    commit: str = ""
    snapshot: str = ""
    discarded: str = ""
    folder: str = ""
    size_bytes: int = 0
    stage: str = ""
    cause: str = ""
    failed_at: str = ""
    pid: int = 0
    created: str = ""
    updated: str = ""

    @property
    def key(self) -> str:
        """Name of the entry in the file."""
        return f"{self.name}#{self.precision}"

    @property
    def usable(self) -> bool:
        """Whether there is a converted model, whatever is being done about a newer one."""
        return bool(self.folder)

    @property
    def at_work(self) -> bool:
        """Whether a process is working on it now."""
        return self.state in WORKING and not self.interrupted

    @property
    def interrupted(self) -> bool:
        """Whether the process that was working on it is gone."""
        return self.state in WORKING and not process_is_alive(self.pid)

    @property
    def cancelled(self) -> bool:
        """Whether the user stopped the last work on it, and nothing usable is there."""
        return self.state == "failed" and self.cause == CANCELLED

    @property
    def resumable(self) -> bool:
        """Whether a pull began and did not end: its process is gone, or its download failed or was stopped."""
        return self.interrupted or (self.state == "failed" and self.stage == "download")

    def to_json(self) -> dict[str, Any]:
        """The entry as a JSON object."""
        return asdict(self)

    @staticmethod
    def from_json(data: Any) -> Entry:
        """Check and build an entry. Raises ValueError that says what is wrong."""
        if not isinstance(data, dict):
            raise ValueError("an entry is not an object")
        kinds = {field.name: int if field.type == "int" else str for field in fields(Entry)}
        for key, value in data.items():
            if key not in kinds or type(value) is not kinds[key]:
                raise ValueError(f"`{key}` is {value!r}")
        if data.get("state") not in STATES or not data.get("name") or not data.get("precision"):
            raise ValueError(
                f"state `{data.get('state')}`, name `{data.get('name')}`, precision `{data.get('precision')}`"
            )
        return Entry(**data)
