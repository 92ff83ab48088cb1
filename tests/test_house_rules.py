"""The house keeps its shape: floors, file sizes, one reader of the environment, one printer, one user of pybind11."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "fastslm"
CORE = ROOT / "csrc"

FLOORS = {
    "errors": 0,
    "config": 1,
    "progress": 1,
    "encoder_facts": 1,
    "fidelity": 1,
    "machine": 1,
    "runtime": 1,
    "_native": 1,
    "verdict": 5,
    "diagnosis": 5,
    "removal": 5,
    "upkeep": 5,
    "kernels": 2,
    "ops": 2,
    "formats": 2,
    "store": 2,
    "hub": 3,
    "text": 3,
    "export": 3,
    "engine": 4,
    "plan": 4,
    "mirror": 4,
    "naming": 4,
    "api": 5,
    "cli": 6,
    "server": 6,
    "dashboard": 6,
    "cluster": 6,
    "__main__": 7,
}
CORE_FLOORS = {
    "base": 0,
    "fs": 1,
    "hash": 1,
    "codec": 2,
    "net": 2,
    "quant": 2,
    "ops": 2,
    "fetch": 3,
    "bindings": 4,
}
MOST_LINES = 500
MOST_TEST_LINES = 600
MOST_FUNCTION_LINES = 60

MODULES = sorted(PACKAGE.rglob("*.py"))
CORE_FILES = sorted(path for path in CORE.rglob("*") if path.suffix in {".cpp", ".hpp", ".inl"})
TEST_FILES = sorted(path for path in (ROOT / "tests").rglob("*") if path.suffix in {".py", ".cpp", ".hpp"})


def room(path: Path) -> str:
    """The first part of a module's name below the package."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    parts = [name.split(".") for name in names if name.startswith("fastslm.")]
    return {part[1] for part in parts if part[1] in FLOORS}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_modules_import_from_lower_floors_only(path: Path) -> None:
    """A reader can take the rooms one by one from the ground floor up; siblings do not know each other."""
    if path == PACKAGE / "__init__.py":
        return  # the front door names every public thing, lazily
    here = room(path)
    assert here in FLOORS, f"give `{here}` a floor"
    wrong = {r for r in imported_rooms(ast.parse(path.read_text())) if r != here and FLOORS[r] >= FLOORS[here]}
    assert not wrong, f"{here} (floor {FLOORS[here]}) imports {sorted(wrong)}"


@pytest.mark.parametrize("path", CORE_FILES, ids=lambda p: str(p.relative_to(CORE)))
def test_core_includes_from_lower_floors_only(path: Path) -> None:
    """The C++ core has floors too, and only the bindings know Python."""
    text = path.read_text()
    here = path.relative_to(CORE).parts[0]
    if here != "bindings":
        assert not re.search(r'#include\s*[<"](pybind11|Python\.h)', text), "pybind11 lives in bindings only"
    if here == "include":
        quoted = set(re.findall(r'#include\s*[<"]([^>"]+/[^>"]+)[>"]', text))
        assert all(name.startswith("fastslm/") for name in quoted), "public headers use the standard library only"
        return
    assert here in CORE_FLOORS, f"give csrc/{here} a floor"
    included = {name.split("/")[0] for name in re.findall(r'#include\s*"([^"]+/[^"]+)"', text)}
    wrong = {i for i in included if i in CORE_FLOORS and i != here and CORE_FLOORS[i] >= CORE_FLOORS[here]}
    assert not wrong, f"{here} includes {sorted(wrong)}"


@pytest.mark.parametrize("path", [*MODULES, *CORE_FILES], ids=lambda p: str(p.relative_to(ROOT)))
def test_files_are_short_enough_to_read(path: Path) -> None:
    """A file has one reason to exist, which shows in its length."""
    assert len(path.read_text().splitlines()) <= MOST_LINES


@pytest.mark.parametrize("path", TEST_FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_test_files_are_short_enough_to_read(path: Path) -> None:
    """A failing test points at one module."""
    assert len(path.read_text().splitlines()) <= MOST_TEST_LINES


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_functions_are_short_and_modules_say_what_they_are_for(path: Path) -> None:
    """Long functions hide bugs; a module without a first sentence hides its reason."""
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "the module has no docstring"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < MOST_FUNCTION_LINES, f"{node.name} is too long"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_environment_and_printing_have_one_place_each(path: Path) -> None:
    """Settings are read in config.py, text is printed in cli."""
    text = path.read_text()
    if path.name != "config.py":
        assert not re.search(r"os\.environ\.get|os\.environ\[[^]]*\](?!\s*=)|os\.getenv|environ\.get\(", text)
    if room(path) != "cli":
        calls = [ast.unparse(n.func) for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Call)]
        assert not {"print", "sys.stdout.write", "sys.stderr.write"} & set(calls)


def test_nothing_of_the_workshop_is_left_in_the_house() -> None:
    """No path of a builder's machine, no address of a package registry."""
    banned = re.compile("|".join(["/wo" + "rk/", "/ro" + "ot/", "pypi" + r"\.org", "pythonhosted" + r"\.org"]))
    files = [p for p in [*MODULES, *CORE_FILES, *TEST_FILES, *ROOT.glob("*.md"), ROOT / "Makefile"] if p.is_file()]
    assert [str(p.relative_to(ROOT)) for p in files if banned.search(p.read_text())] == []


def test_the_version_is_written_in_one_place() -> None:
    """The compiled module and the package agree, because both read pyproject.toml."""
    import fastslm

    declared = re.search(r'^version = "([^"]+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert declared is not None
    assert fastslm.__version__ == declared.group(1)
