"""Whether an ONNX file refers to other files, found before it is loaded. Needs no `onnx` package.

An ONNX file is a protobuf message. Weights in another file have a `location`, a path that onnxruntime would follow
although nothing has verified that file.
"""

from __future__ import annotations

from collections.abc import Iterator

from dpr_lance.errors import EncoderError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_EXTERNAL = 1
_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function", 20: "training"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
"""Fields by number that lead to tensors, by kind of message (onnx.proto)."""
_TENSOR_LOCATION, _TENSOR_EXTERNAL = 14, 13
_DEEPEST = 64


def external_data(content: bytes) -> str | None:
    """Return the location of a tensor outside the file; None when the file holds all of them.

    Raises `EncoderError` for what is not a protobuf message, or is nested too deeply.
    """
    return _search(memoryview(content), "model", 0)


def _search(message: memoryview, kind: str, depth: int) -> str | None:
    if depth > _DEEPEST:
        raise EncoderError("its graphs are nested too deeply")
    if kind == "tensor":
        return _outside(message)
    children = _CHILDREN[kind]
    for number, value in _fields(message):
        if number in children and isinstance(value, memoryview):
            found = _search(value, children[number], depth + 1)
            if found is not None:
                return found
    return None


def _outside(tensor: memoryview) -> str | None:
    external, place = False, None
    for number, value in _fields(tensor):
        if number == _TENSOR_LOCATION and value == _EXTERNAL:
            external = True
        elif number == _TENSOR_EXTERNAL and isinstance(value, memoryview):
            external = True
            entry = {at: bytes(part) for at, part in _fields(value) if isinstance(part, memoryview)}
            if entry.get(1) == b"location":
                place = entry.get(2, b"").decode(errors="replace")
    return (place or "unnamed") if external else None


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            size, at = _varint(message, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise EncoderError("it is not an ONNX file (a field of an unknown kind)")
        if at + size > len(message):
            raise EncoderError("it is not an ONNX file (a field ends after the file)")
        yield key >> 3, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 70:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise EncoderError("it is not an ONNX file (a number does not end)")
