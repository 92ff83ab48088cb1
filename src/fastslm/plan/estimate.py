"""A plan as a frozen value: what a model costs in each precision, and whether this machine can pay."""

from __future__ import annotations

from dataclasses import dataclass

from fastslm.errors import DiskFull, DoesNotFit
from fastslm.export.footprint import Footprint
from fastslm.plan.memory import MemoryNeed, memory_need

LEAST_CONTEXT = 512
"""A model that cannot hold even this much of a conversation does not fit."""

BY_QUALITY = ("fp32", "exact", "int8", "mixed", "int4", "int4-fast")
"""What to offer instead of a precision that does not fit, best first."""


@dataclass(frozen=True)
class Estimate:
    """One precision of a model.

    Attributes:
        footprint: what the conversion gives.
        tokenizer_bytes: size of ``tokenizer.json``.
        memory: what an answer takes at the plan's context.
        longest_context: positions that fit into the machine's memory; 0 when the weights do not.
        tokens_per_s: expected speed of an answer, None when the memory's speed is not known.
    """

    footprint: Footprint
    tokenizer_bytes: int
    memory: MemoryNeed
    longest_context: int
    tokens_per_s: float | None

    @property
    def precision(self) -> str:
        """As in ``ConvertOptions``, never ``auto``."""
        return self.footprint.kind.precision


@dataclass(frozen=True)
class Machine:
    """What this machine has, in bytes (and bytes per second): installed, free now, and on the disks."""

    memory_bytes: int
    available_bytes: int
    download_disk_bytes: int
    models_disk_bytes: int
    same_disk: bool
    bandwidth: float | None


@dataclass(frozen=True)
class Traffic:
    """What is to be downloaded: all of it, what is here already, room needed beside it for unpacking, and what of it
    is removed again before the rest is there.
    """

    total_bytes: int
    cached_bytes: int
    scratch_bytes: int = 0
    passing_bytes: int = 0

    @property
    def missing_bytes(self) -> int:
        """What must still come."""
        return self.total_bytes - self.cached_bytes


@dataclass(frozen=True)
class Plan:
    """What having and running a model would cost.

    Attributes:
        name, commit: what it is; the commit is empty for a local path.
        traffic: the download.
        architecture: ``model_type``.
        parameters: numbers in all tensors.
        context: positions of prompt and answer that memory is told for.
        asked_context: whether the user asked for exactly this context.
        chosen: the precision that would be made.
        estimates: one for each precision that is possible; ``chosen`` is one of them.
        converted: whether the chosen precision is on this machine already.
        machine: what there is to pay with.
    """

    name: str
    commit: str
    traffic: Traffic
    architecture: str
    parameters: int
    context: int
    asked_context: bool
    chosen: str
    estimates: tuple[Estimate, ...]
    converted: bool
    machine: Machine

    @property
    def choice(self) -> Estimate:
        """The estimate of the chosen precision."""
        return next(each for each in self.estimates if each.precision == self.chosen)

    @property
    def disk_peak_bytes(self) -> int:
        """Most room that is needed on disks at once."""
        return self.traffic.missing_bytes + max(self.traffic.scratch_bytes, self._converted_bytes)

    @property
    def _converted_bytes(self) -> int:
        return 0 if self.converted else self.choice.footprint.file_bytes

    @property
    def least_context(self) -> int:
        """What must fit: the context that was asked for, else a short one."""
        return self.context if self.asked_context else min(self.context, LEAST_CONTEXT)

    def fits(self, estimate: Estimate) -> bool:
        """Whether memory holds a precision with the least context."""
        return estimate.longest_context >= self.least_context

    @property
    def alternative(self) -> Estimate | None:
        """The best precision that fits, when the chosen one does not; or None."""
        if self.fits(self.choice):
            return None
        fitting = [each for each in self.estimates if self.fits(each)]
        return min(fitting, key=lambda each: BY_QUALITY.index(each.precision), default=None)

    def check(self) -> None:
        """Refuse what cannot work.

        Raises:
            DiskFull: the disk cannot hold it.
            DoesNotFit: memory cannot.
        """
        self._check_disk()
        if not self.fits(self.choice):
            raise self._too_large()

    def _check_disk(self) -> None:
        here, made = self.traffic.missing_bytes - self.traffic.passing_bytes, self._converted_bytes
        machine = self.machine
        needs = [
            (here + max(self.traffic.scratch_bytes, made if machine.same_disk else 0), machine.download_disk_bytes)
        ]
        needs += [] if machine.same_disk else [(made, machine.models_disk_bytes)]
        for needed, free in needs:
            if needed > free:
                message = f"`{self.name}` in {self.chosen} needs {_gb(needed)} of disk, {_gb(free)} are free"
                raise DiskFull(message, resource="disk", needed=needed, available=free)

    def _too_large(self) -> DoesNotFit:
        choice, context = self.choice, self.least_context
        needed = memory_need(choice.footprint, context, choice.tokenizer_bytes).peak_bytes
        available = self.machine.memory_bytes
        message = (
            f"`{self.name}` in {self.chosen} with a context of {context} needs {_gb(needed)} of memory, "
            f"this machine has {_gb(available)}"
        )
        other = self.alternative
        message += f"; {other.precision} fits" if other is not None else "; no precision fits"
        return DoesNotFit(message, resource="memory", needed=needed, available=available)


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
