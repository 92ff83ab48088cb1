"""Fail unless a wheel holds the package with its two compiled parts and nothing that belongs to the build."""

from __future__ import annotations

import sys
import zipfile
from pathlib import PurePosixPath

ALLOWED = {".py", ".pyi", ".json", ".typed", ".so", ".jinja"}
QUALITY = PurePosixPath("fastslm/engine/quality")
TEXTS = {QUALITY / "text.txt", QUALITY / "calibration.txt"}  # what conversions are compared on, and guided by
COMPILED = ["_native", "libfastslm_ops"]


def main(path: str) -> None:
    """List what is wrong and exit with 1, or say how much is in it."""
    names = [PurePosixPath(name) for name in zipfile.ZipFile(path).namelist() if not name.endswith("/")]
    package = [name for name in names if name.parts[0] == "fastslm"]
    others = [name for name in names if name.parts[0] != "fastslm" and ".dist-info" not in name.parts[0]]
    strange = [name for name in package if name.suffix not in ALLOWED and name not in TEXTS]
    missing = sorted(TEXTS - set(package))
    compiled = sorted(name.name.split(".")[0] for name in package if name.suffix == ".so")
    assert not others, f"outside the package: {others}"
    assert not strange, f"does not belong into a wheel: {strange}"
    assert not missing, f"not in the wheel: {missing}"
    assert compiled == COMPILED, f"expected the compiled parts {COMPILED}, found {compiled}"
    assert PurePosixPath("fastslm/py.typed") in package, "py.typed is missing"
    print(f"{path}: {len(package)} files, compiled parts {', '.join(compiled)}")


if __name__ == "__main__":
    main(sys.argv[1])
