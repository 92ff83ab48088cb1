"""What a user may wish about the quality of a conversion. Light, so that faces can import it early."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import get_args

from fastslm.errors import FileMissing, FormatError, UsageError
from fastslm.fidelity import Quality
from fastslm.store.manifest import ModelManifest


@dataclass(frozen=True)
class Checks:
    """What is done beside the conversion itself.

    Attributes:
        quality: whether the result is compared with its floats, see ``fidelity.Quality``.
        calibration: a text whose activations guide the quantisation; None for none.
        force: keep a result that is out of bounds.
        calibration_is_ours: nobody asked for the text, see ``gate.guided``.
    """

    quality: Quality = "auto"
    calibration: str | None = None
    force: bool = False
    calibration_is_ours: bool = False

    def __post_init__(self) -> None:
        allowed = get_args(Quality)
        if self.quality not in allowed:
            message = f"quality is `{self.quality}`, expected one of {', '.join(allowed)}"
            raise UsageError(message, name="quality", value=self.quality, allowed=allowed)

    @staticmethod
    def read(quality: Quality, calibrate: Path | str | None, *, force: bool) -> Checks:
        """With the content of the file ``calibrate``. Raises UsageError, FileMissing, FormatError."""
        return Checks(quality, None if calibrate is None else read_text(Path(calibrate)), force)

    def are_met(self, manifest: ModelManifest) -> bool:
        """Whether a model that is there was calibrated and measured as wished."""
        text = self.calibration
        is_guided = text is None or manifest.calibrated_on == sha256(text.encode()).hexdigest()
        return is_guided and (self.quality != "always" or manifest.quality is not None)


def read_text(path: Path) -> str:
    """The content of a text file.

    Raises:
        FileMissing, FormatError: there is no such file, or it is not UTF-8.
    """
    if not path.is_file():  # a device would never end
        raise FileMissing(f"there is no text file `{path}`", what="file", name=str(path))
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        message = f"`{path}` is not UTF-8 text: byte {error.start} is 0x{error.object[error.start]:02x}"
        raise FormatError(message, subject=str(path)) from None
