r"""How a tokenizer cuts text into words: its expressions, as the tables of ``kernels.splitting``.

Law: what is not fully understood is refused. Which characters a class such as ``\p{L}`` holds is never decided here:
the `tokenizers` library is asked about each character that occurs, so no other table of Unicode can disagree with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""The expression of ``ByteLevel`` with ``use_regex``."""

NUMERIC = ""
"""In place of an expression for one character: those that ``Digits`` takes for one."""

MOST = 1 << 30
MOST_SETS = 31
MOST_STEPS = 16

_ONE = re.compile(
    r"\\[pP]\{\^?\w+\}|\\[sSdDwWrntfv]|\\[!-/:-@\[-`{-~ ]"  # classes and escapes
    r"|\[\^?(?:\\.|[^\[\]\\^])(?:\\.|[^\[\]\\])*\]"  # brackets, none inside another
    r"|[^\\()\[\]{}|?*+.^$]"
)
_COUNT = re.compile(r"([?*+])|\{(\d{1,4})(?:(,)(\d{0,4}))?\}")
_COUNTS = {"?": (0, 1), "*": (0, MOST), "+": (1, MOST)}
_FOLDED = frozenset({"'s|'t|'re|'ve|'m|'ll|'d", "[sdmt]|ll|ve|re"})
"""What may stand in ``(?i:…)``: elsewhere one character can equal several, such as the ligature of ``st``."""

Step = tuple[str, int, int]
"""Expression of one character, least and most that are taken; least -1: none may follow."""


class NotUnderstoodError(Exception):
    """The rule has a part that only the library knows."""


@dataclass
class Alternative:
    """Steps one after the other, and of ``endings`` the first that follows, if any does."""

    steps: list[Step] = field(default_factory=list)
    endings: list[list[Step]] = field(default_factory=list)

    @property
    def is_fixed(self) -> bool:
        """Whether there is one way to match it at most."""
        return not self.endings and all(least == most or least < 0 for _, least, most in self.steps)

    @property
    def least(self) -> int:
        """Characters that a match has at least."""
        return sum(max(0, least) for _, least, _ in self.steps)


def levels_of(state: Mapping[str, Any] | None) -> list[list[Alternative]]:
    """The rules of a ``pre_tokenizer`` of a tokenizer.json that ends in ``ByteLevel``. Raises NotUnderstoodError."""
    steps = list(_flat(state or {}))
    levels = [level for step in steps for level in _level(step)]
    if [step.get("type") == "ByteLevel" for step in steps] != [False] * (len(steps) - 1) + [True]:
        raise NotUnderstoodError
    return levels


def _flat(state: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if state.get("type") == "Sequence":
        for step in state["pretokenizers"]:
            yield from _flat(step)
    else:
        yield state


def _level(step: Mapping[str, Any]) -> list[list[Alternative]]:
    kind = step.get("type")
    if kind == "ByteLevel" and step.get("add_prefix_space") is False:
        return [parsed(GPT2)] if step.get("use_regex", True) else []
    if kind == "Digits":
        return [[Alternative([(NUMERIC, 1, 1 if step.get("individual_digits") else MOST)])]]
    if kind == "Split" and step["behavior"] == "Isolated" and step["invert"] is False and "Regex" in step["pattern"]:
        return [parsed(step["pattern"]["Regex"])]
    raise NotUnderstoodError


def parsed(pattern: str) -> list[Alternative]:
    """The alternatives of an expression. Raises NotUnderstoodError for all but a small part of the syntax."""
    found, end = _alternatives(pattern, 0)
    if end != len(pattern) or not all(one.least and all(map(_least, one.endings)) for one in found):
        raise NotUnderstoodError
    return found


def _least(steps: Sequence[Step]) -> int:
    return Alternative(list(steps)).least


def _alternatives(pattern: str, at: int, fold: str = "") -> tuple[list[Alternative], int]:
    """Alternatives up to the end or a closing bracket; ``fold`` is put around each character."""
    found: list[Alternative] = []
    while True:
        now, at = _sequence(pattern, at, fold)
        found += now
        if pattern[at : at + 1] != "|":
            return found, at
        at += 1


def _sequence(pattern: str, at: int, fold: str) -> tuple[list[Alternative], int]:
    """One alternative; it becomes several where it has a group."""
    found = [Alternative()]
    while at < len(pattern) and pattern[at] not in "|)":
        if any(one.endings for one in found):
            raise NotUnderstoodError  # what follows an optional group
        if pattern[at] == "(" and pattern[at : at + 3] != "(?!":
            found, at = _with_group(found, pattern, at)
            continue
        step, at = _step(pattern, at, fold)
        for one in found:
            one.steps.append(step)
    return found, at


def _step(pattern: str, at: int, fold: str) -> tuple[Step, int]:
    """One character and how often."""
    ahead = pattern.startswith("(?!", at)
    one = _ONE.match(pattern, at + 3 * ahead)
    if not one:
        raise NotUnderstoodError
    text, at = (f"(?i:{one[0]})" if fold else one[0]), one.end()
    if ahead:
        if pattern[at : at + 1] != ")":
            raise NotUnderstoodError
        return (text, -1, 1), at + 1
    least, most, at = _count(pattern, at)
    return (text, least, most), at


def _count(pattern: str, at: int) -> tuple[int, int, int]:
    found = _COUNT.match(pattern, at)
    if not found:
        return 1, 1, at
    if pattern[found.end() : found.end() + 1] in ("?", "*", "+", "{"):
        raise NotUnderstoodError  # lazy, possessive, or a count of counts
    if found[1]:
        return *_COUNTS[found[1]], found.end()
    least = int(found[2])
    most = least if not found[3] else int(found[4] or MOST)
    if most < max(1, least):
        raise NotUnderstoodError
    return least, most, found.end()


def _with_group(found: list[Alternative], pattern: str, at: int) -> tuple[list[Alternative], int]:
    """What was found so far, followed by a group: all its alternatives, or as optional endings."""
    for opening in ("(?:", "(?i:"):
        if pattern.startswith(opening, at):
            break
    else:
        raise NotUnderstoodError
    begin = at + len(opening)
    group, end = _alternatives(pattern, begin, "i" if "i" in opening else "")
    if pattern[end : end + 1] != ")" or ("i" in opening and pattern[begin:end] not in _FOLDED):
        raise NotUnderstoodError
    if any(one.endings for one in group):
        raise NotUnderstoodError
    least, most, at = _count(pattern, end + 1)
    if (least, most) == (0, 1):
        return [Alternative(one.steps, [each.steps for each in group]) for one in found], at
    if (least, most) != (1, 1) or not all(one.is_fixed for one in found):
        raise NotUnderstoodError
    return [Alternative([*one.steps, *each.steps]) for one in found for each in group], at


class RuleTables:
    """The arrays of ``kernels.splitting.Rules``, and the sets of characters they speak of."""

    def __init__(self, levels: Sequence[Sequence[Alternative]]) -> None:
        """Number everything. Raises NotUnderstoodError when it is too much."""
        self.sets: list[str] = []
        self._steps: list[tuple[int, int, int]] = []
        rows: list[tuple[int, int, int, int]] = []
        spans = []
        for level in levels:
            mains = [(self._spanned(one.steps), [self._spanned(more) for more in one.endings]) for one in level]
            endings = []
            for _, more in mains:
                endings.append((len(rows), len(rows) + len(more)))
                rows += [(*span, 0, 0) for span in more]
            spans.append((len(rows), len(rows) + len(mains)))
            rows += [(*span, *ending) for (span, _), ending in zip(mains, endings, strict=True)]
        if len(self.sets) > MOST_SETS:
            raise NotUnderstoodError
        self.arrays = (
            np.array(spans, np.int32).reshape(-1, 2),
            np.array(rows, np.int32).reshape(-1, 4),
            np.array([self._starts(first, end) for first, end, *_ in rows], np.uint32),
            np.array(self._steps, np.int32).reshape(-1, 3),
        )
        """``levels``, ``alternatives``, ``starts`` and ``steps``."""

    def _spanned(self, steps: Sequence[Step]) -> tuple[int, int]:
        if len(steps) > MOST_STEPS:
            raise NotUnderstoodError
        first = len(self._steps)
        for text, least, most in steps:
            if text not in self.sets:
                self.sets.append(text)
            self._steps.append((self.sets.index(text), least, most))
        return first, len(self._steps)

    def _starts(self, first: int, end: int) -> int:
        """Bits of the sets of the steps up to the first that must take something."""
        bits = 0
        for number, least, _ in self._steps[first:end]:
            bits |= 1 << number if least >= 0 else 0
            if least > 0:
                break
        return bits

    def kinds(self, characters: str) -> npt.NDArray[np.uint32]:
        """For each character a bit for each of ``sets`` that holds it, as the library says. All must differ."""
        found = np.zeros(len(characters), np.uint32)
        for number, text in enumerate(self.sets):
            members = _members(text, characters)
            found |= np.fromiter((c in members for c in characters), np.uint32, len(characters)) << np.uint32(number)
        return found


def _members(text: str, characters: str) -> set[str]:
    """The characters that an expression for one of them matches."""
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import Digits, Split

    if text == NUMERIC:  # a letter on both sides keeps numbers apart from each other and from what is none
        pieces = Digits(individual_digits=True).pre_tokenize_str("".join(f"a{c}a" for c in characters))
        return {piece for piece, _ in pieces if len(piece) == 1} & set(characters) - {"a"}
    rest = Split(Regex(f"(?:{text})"), "removed").pre_tokenize_str(characters)
    return set(characters) - {c for piece, _ in rest for c in piece}
