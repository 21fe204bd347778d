"""The embedding files that DPR publishes, read without unpickling them.

Such a file is a pickle of a list of (passage id, float32 vector). A pickle is a program that can call any function of
any module. Here its opcodes are only read (`pickletools.genops` runs nothing), and a small machine of our own follows
those of such a list. It can neither import nor call anything: the six names of NumPy in front of an array are compared
as text, and everything else is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from dpr_lance.encoders.vectors import Vector
from dpr_lance.errors import InvalidInputError

_NAMES = {
    f"{module} {name}": name
    for module, name in (
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy.core.numeric", "_frombuffer"),
        ("numpy._core.numeric", "_frombuffer"),
    )
}
"""What a file may name: how NumPy 1 and 2 write an array and its type."""

_SHORT = 64
"""Characters or bytes of a constant that the file may refer back to."""

_TEXTS = ("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")
_BYTES = ("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8")
_VALUES = frozenset([*_TEXTS, *_BYTES, "BININT", "BININT1", "BININT2"])
_CONSTANTS: Mapping[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _RefusedError(ValueError):
    """What is in the file and not in a list of ids and vectors."""


@dataclass(frozen=True, slots=True)
class _Name:
    text: str


class _Kind:
    """An array's type, which is float32."""


class _Unset:
    """An array whose values are still to come."""


_LIST, _MARK = object(), object()
"""The list, whose items are taken as they come, and where a tuple or a part of the list begins."""


def read_embeddings(path: Path) -> Iterator[tuple[str, Vector]]:
    """Yield the ids and vectors (float32[d]) of a pickled list, as `generate_dense_embeddings.py` of DPR writes it.

    Pickle protocols 3 to 5; read in parts of 1,000 passages. Nothing in the file is executed. Raises
    `InvalidInputError` that names the file and the byte of what is not part of such a list.
    """
    machine = _Machine()
    try:
        with path.open("rb") as stream:
            for opcode, argument, position in _opcodes(stream):
                machine.position = position
                machine.step(opcode, argument)
                yield from machine.finished
                machine.finished.clear()
    except _RefusedError as error:
        raise InvalidInputError(
            f"{path}: byte {machine.position}: {error}; a file of DPR embeddings is a pickled list of (id, float32 "
            f"vector), and nothing else is read"
        ) from None
    except OSError as error:
        raise InvalidInputError(f"{path}: the file cannot be read ({error.strerror or error})") from None


def _opcodes(stream: BinaryIO) -> Iterator[tuple[str, Any, int]]:
    import pickletools  # noqa: PLC0415 - only such files need it

    try:
        for opcode, argument, position in pickletools.genops(stream):
            yield opcode.name, argument, position or 0
    except (ValueError, UnicodeDecodeError, MemoryError, OverflowError) as error:
        raise _RefusedError(f"this is not a pickle, or it is cut short ({error})") from None


@dataclass(slots=True)
class _Machine:
    """Follows the opcodes of a list of (id, vector).

    The memo keeps names, NumPy's type and short constants that were made before the first items are finished; a file
    that refers back to more is refused. So memory does not grow with the file.
    """

    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)
    memoised: int = 0
    finished: list[tuple[str, Vector]] = field(default_factory=list)
    count: int = 0
    position: int = 0

    def step(self, opcode: str, argument: Any) -> None:  # noqa: ANN401, C901, PLR0912 - one case for each opcode
        """Do what an opcode says."""
        match opcode:
            case "PROTO" | "FRAME":
                pass
            case _ if opcode in _VALUES:
                self.stack.append(argument)
            case _ if opcode in _CONSTANTS:
                self.stack.append(_CONSTANTS[opcode])
            case "EMPTY_LIST":
                self.stack.append(_LIST)
            case "MARK":
                self.stack.append(_MARK)
            case "TUPLE":
                self.stack.append(tuple(self._since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                values = [self._pop() for _ in range(_TUPLES[opcode])]
                self.stack.append(tuple(reversed(values)))
            case "APPEND":
                self._extend([self._pop()])
            case "APPENDS":
                self._extend(self._since_mark())
            case "BINPUT" | "LONG_BINPUT" | "MEMOIZE":
                self._remember(argument)
            case "BINGET" | "LONG_BINGET":
                if argument not in self.memo:
                    raise _RefusedError(f"a reference back to value {argument}, which was not kept")
                self.stack.append(self.memo[argument])
            case "GLOBAL":
                self._name(argument)
            case "STACK_GLOBAL":
                name, module = self._pop(), self._pop()
                self._name(f"{module} {name}")
            case "REDUCE":
                self._call()
            case "BUILD":
                self._build()
            case "STOP":
                self._check_alone("something else than one list")
            case _:
                raise _RefusedError(f"the opcode {opcode}")

    def _pop(self) -> Any:  # noqa: ANN401 - whatever is there
        if not self.stack:
            raise _RefusedError("a value is missing")
        return self.stack.pop()

    def _since_mark(self) -> list[Any]:
        for at in range(len(self.stack) - 1, -1, -1):
            if self.stack[at] is _MARK:
                values = self.stack[at + 1 :]
                del self.stack[at:]
                return values
        raise _RefusedError("a mark is missing")

    def _remember(self, index: int | None) -> None:
        if not self.stack:
            raise _RefusedError("a value is missing")
        value = self.stack[-1]
        short = isinstance(value, str | bytes) and len(value) < _SHORT
        if self.count == 0 and (short or isinstance(value, _Name | _Kind) or value is _LIST):
            self.memo[self.memoised if index is None else index] = value
        self.memoised += 1

    def _name(self, text: str) -> None:
        if text not in _NAMES:
            raise _RefusedError(f"the name {text.replace(' ', '.')!r}")
        self.stack.append(_Name(_NAMES[text]))

    def _call(self) -> None:
        """Make what a call of NumPy's would make: a type, an array to be filled, a filled array."""
        arguments, name = self._pop(), self._pop()
        match name, arguments:
            case _Name("dtype"), ("f4", *_):
                self.stack.append(_Kind())
            case _Name("_reconstruct"), (_Name("ndarray"), (0,), b"b"):
                self.stack.append(_Unset())
            case _Name("_frombuffer"), (bytes() | bytearray() as values, _Kind(), (int(length),), "C"):
                self.stack.append(_vector(values, length))
            case _:
                raise _RefusedError(f"a call of {name!r:.60} with {arguments!r:.60}")

    def _build(self) -> None:
        """Fill the array, or check the byte order of a type."""
        state, target = self._pop(), self._pop()
        match target, state:
            case _Kind(), (3, "<", None, None, None, -1, -1, 0):
                self.stack.append(target)
            case _Unset(), (1, (int(length),), _Kind(), False, bytes(values)):
                self.stack.append(_vector(values, length))
            case _:
                raise _RefusedError(f"a state {state!r:.60} of {type(target).__name__}")

    def _extend(self, items: list[Any]) -> None:
        self._check_alone("items of another list")
        for item in items:
            match item:
                case (str() | int() as identity, np.ndarray() as vector):
                    self.finished.append((str(identity), vector))
                    self.count += 1
                case _:
                    raise _RefusedError(f"item {self.count} is {item!r:.60}, not an id and a vector")

    def _check_alone(self, otherwise: str) -> None:
        if len(self.stack) != 1 or self.stack[0] is not _LIST:
            raise _RefusedError(otherwise)


def _vector(values: bytes | bytearray, length: int) -> Vector:
    if len(values) != 4 * length or length < 1:
        raise _RefusedError(f"{len(values)} bytes for a vector of {length}")
    return np.frombuffer(values, dtype="<f4").astype(np.float32, copy=False)
