"""JSON files of a model folder: one sentence for every kind of damage."""

from __future__ import annotations

import pytest

from fastslm.errors import FileMissing, FileSystemError, FormatError
from fastslm.formats import checked_json


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[1]", "holds a JSON list, expected an object"),
        ("null", "holds a JSON null"),
        ('{"a": 1, "a": 2}', "key `'a'` occurs twice"),
        ('{"x": {"b": 1, "b": 2}}', "key `'b'` occurs twice"),
        ('{"a": Infinity}', "`Infinity` is not a JSON number"),
        ('{"a": ' + "[" * 200_000, "not valid JSON"),
        ('{"a": ' + "1" * 5000 + "}", "not valid JSON"),
    ],
)
def test_what_is_not_a_sound_object_is_refused(text, message):
    with pytest.raises(FormatError, match=message) as caught:
        checked_json.parse_object(text, "config.json")
    assert "config.json" in str(caught.value)


def test_a_file_is_read_with_limits(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert checked_json.read_object(path) == {"a": 1}, "a byte order mark of Windows editors is no damage"
    with pytest.raises(FormatError, match="larger than 5 bytes"):
        checked_json.read_object(path, 5)
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(FormatError, match="not UTF-8 text: byte 7"):
        checked_json.read_object(path)
    with pytest.raises(FileMissing):
        checked_json.read_object(tmp_path / "b.json")
    with pytest.raises(FileSystemError, match="cannot be read"):
        checked_json.read_object(tmp_path)


@pytest.mark.parametrize(
    ("value", "kind", "found"),
    [
        ("x", int, "string `'x'`"),
        (True, int, "boolean `True`"),
        (1, bool, "integer `1`"),
        (1.5, int, "number `1.5`"),
        ([], dict, "list"),
        ("y" * 500, int, "\\.\\.\\.`"),
        (float("inf"), float, "number `inf`"),
        (1 << 4000, str, "a very large number"),
        (1 << 4000, float, "a very large number"),
    ],
)
def test_a_value_of_another_type_is_named_with_file_key_and_what_was_expected(value, kind, found):
    with pytest.raises(FormatError, match=f"`f.json`: `k` is .*{found}.*, expected"):
        checked_json.get({"k": value}, "k", kind, "f.json")


def test_values_of_the_right_type_pass():
    data = {"i": 3, "s": "x", "n": None}
    assert checked_json.get(data, "i", int, "f") == 3
    assert checked_json.get(data, "i", float, "f") == 3.0
    assert checked_json.get(data, "n", str, "f") is None
    assert checked_json.get(data, "absent", str, "f") is None
