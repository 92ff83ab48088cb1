"""Fail unless a wheel holds the package with one compiled module and nothing that belongs to the build."""

from __future__ import annotations

import sys
import zipfile
from pathlib import PurePosixPath

ALLOWED = {".py", ".pyi", ".json", ".typed", ".so", ".jinja"}


def main(path: str) -> None:
    """List what is wrong and exit with 1, or say how much is in it."""
    names = [PurePosixPath(name) for name in zipfile.ZipFile(path).namelist() if not name.endswith("/")]
    package = [name for name in names if name.parts[0] == "fastslm"]
    others = [name for name in names if name.parts[0] != "fastslm" and ".dist-info" not in name.parts[0]]
    strange = [name for name in package if name.suffix not in ALLOWED]
    compiled = [name for name in package if name.suffix == ".so"]
    assert not others, f"outside the package: {others}"
    assert not strange, f"does not belong into a wheel: {strange}"
    assert len(compiled) == 1, f"expected one compiled module, found {compiled}"
    assert PurePosixPath("fastslm/py.typed") in package, "py.typed is missing"
    print(f"{path}: {len(package)} files, compiled module {compiled[0].name}")


if __name__ == "__main__":
    main(sys.argv[1])
