"""Files of ``torch.save`` made without torch, sound ones and hostile ones: pickles that name what need not exist."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any, ClassVar

from fastslm.formats.source import TensorSource


class Name:
    """Pickles as a name of some module, whether or not it exists."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Call:
    """Pickles as a call of a name."""

    def __init__(self, function: Name, *arguments: object) -> None:
        self.function, self.arguments = function, arguments


class Stored:
    """Pickles as torch's description of a storage."""

    def __init__(self, kind: str = "FloatStorage", key: object = "0", length: object = 6) -> None:
        self.described = ("storage", Name("torch", kind), key, "cpu", length)


class Writer(pickle._Pickler):  # type: ignore[name-defined,misc]
    """Writes names that need not exist."""

    dispatch: ClassVar[dict[Any, Any]] = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def persistent_id(self, value: object) -> object:
        return value.described if isinstance(value, Stored) else None

    def save_name(self, value: Name) -> None:
        self.write(f"c{value.module}\n{value.name}\n".encode())

    def save_call(self, value: Call) -> None:
        self.save(value.function)
        self.save(value.arguments)
        self.write(pickle.REDUCE)

    dispatch[Name] = save_name
    dispatch[Call] = save_call


def pickled(value: object) -> bytes:
    buffer = io.BytesIO()
    Writer(buffer, 2).dump(value)
    return buffer.getvalue()


def write_zip(path: Path, root: object, storages: dict[str, bytes] | None = None, **other: bytes) -> Path:
    """A file of torch's newer format around any pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        data = root if isinstance(root, bytes) else pickled(root)
        archive.writestr("model/data.pkl", data)
        for key, content in ({"0": bytes(24)} if storages is None else storages).items():
            archive.writestr(f"model/data/{key}", content)
        for name, content in other.items():
            archive.writestr(f"model/{name}", content)
    return path


def tensor(storage: object, offset: object = 0, shape: object = (2, 3), strides: object = (3, 1)) -> Call:
    arguments = (storage, offset, shape, strides, False, Call(Name("collections", "OrderedDict")))
    return Call(Name("torch._utils", "_rebuild_tensor_v2"), *arguments)


def write_model(path: Path, source: TensorSource) -> Path:
    """All tensors of a source as float32, each with a storage of its own."""
    root, storages = {}, {}
    for number, name in enumerate(source):
        values = source.read(name)
        strides = tuple(step // 4 for step in values.strides)
        root[name] = tensor(Stored("FloatStorage", str(number), values.size), 0, values.shape, strides)
        storages[str(number)] = values.tobytes()
    return write_zip(path, root, storages)
