"""The embedding files that DPR publishes, read without unpickling them.

Such a file is a pickle of a list of (passage id, float32 vector). A pickle is a program: its opcodes can name any
function of any module and call it. Here the opcodes are only read (`pickletools.genops` takes a file apart and runs
nothing), and a small machine of our own follows those that such a list consists of. It has no way to import or to call
anything: the six names of numpy that stand in front of an array are compared as text, and everything else is refused.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterator, Mapping
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
"""What a file may name: how numpy 1 and 2 write down an array and its type."""

_SHORT = 64
"""Characters or bytes of a constant that the file may refer back to."""


class _RefusedError(ValueError):
    """What is in the file and not in a list of ids and vectors."""


@dataclass(frozen=True, slots=True)
class _Name:
    """A name of numpy in the file; it stands for itself, nothing is looked up."""

    text: str


@dataclass(frozen=True, slots=True)
class _Kind:
    """An array's type, which is float32."""


class _Unset:
    """An array whose values are still to come."""


class _List:
    """The list; its items are taken as they come."""


class _Mark:
    """Where a tuple or a part of the list begins."""


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
                yield from machine.taken()
    except _RefusedError as error:
        raise InvalidInputError(
            f"{path}: byte {machine.position}: {error}; a file of DPR embeddings is a pickled list of (id, float32 "
            f"vector), and nothing else is read"
        ) from None
    except OSError as error:
        raise InvalidInputError(f"{path}: the file cannot be read ({error.strerror or error})") from None


def _opcodes(stream: BinaryIO) -> Iterator[tuple[str, Any, int]]:
    """Yield name, argument and position of each opcode."""
    try:
        for opcode, argument, position in pickletools.genops(stream):
            yield opcode.name, argument, position or 0
    except (ValueError, UnicodeDecodeError, MemoryError, OverflowError) as error:
        raise _RefusedError(f"this is no pickle, or it is cut short ({error})") from None


@dataclass(slots=True)
class _Machine:
    """Follows the opcodes of a list of (id, vector); `taken` gives the items that are finished.

    The memo keeps names, numpy's type and short constants that were made before the first items are finished; nothing
    else, and a file that refers back to more is refused. So memory does not grow with the file.
    """

    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)
    memoised: int = 0
    finished: list[tuple[str, Vector]] = field(default_factory=list)
    count: int = 0
    position: int = 0

    def step(self, opcode: str, argument: Any) -> None:  # noqa: ANN401 - whatever an opcode carries
        """Do what an opcode says."""
        if opcode in _VALUES:
            self.stack.append(argument)
        elif opcode in _CONSTANTS:
            self.stack.append(_CONSTANTS[opcode])
        elif opcode in _STEPS:
            _STEPS[opcode](self, argument)
        elif opcode not in ("PROTO", "FRAME"):
            raise _RefusedError(f"the opcode {opcode}")

    def taken(self) -> list[tuple[str, Vector]]:
        """Return the finished items and forget them."""
        items, self.finished = self.finished, []
        return items

    def pop(self) -> Any:  # noqa: ANN401 - whatever is there
        """Return the last value."""
        if not self.stack:
            raise _RefusedError("a value is missing")
        return self.stack.pop()

    def since_mark(self) -> list[Any]:
        """Return the values since the last mark."""
        for at in range(len(self.stack) - 1, -1, -1):
            if isinstance(self.stack[at], _Mark):
                values = self.stack[at + 1 :]
                del self.stack[at:]
                return values
        raise _RefusedError("a mark is missing")

    def tuple_of(self, length: int) -> None:
        """Put the last values into a tuple."""
        values = [self.pop() for _ in range(length)]
        self.stack.append(tuple(reversed(values)))

    def remember(self, index: int | None) -> None:
        """Keep the last value in the memo."""
        if not self.stack:
            raise _RefusedError("a value is missing")
        value = self.stack[-1]
        short = isinstance(value, str | bytes) and len(value) < _SHORT
        if self.count == 0 and (short or isinstance(value, _Name | _Kind | _List)):
            self.memo[self.memoised if index is None else index] = value
        self.memoised += 1

    def recall(self, index: int) -> None:
        """Take a value out of the memo."""
        if index not in self.memo:
            raise _RefusedError(f"a reference back to value {index}, which was not kept")
        self.stack.append(self.memo[index])

    def name(self, text: str) -> None:
        """Take a name that the file may have."""
        if text not in _NAMES:
            raise _RefusedError(f"the name {text.replace(' ', '.')!r}")
        self.stack.append(_Name(_NAMES[text]))

    def stack_name(self) -> None:
        """Take a name whose parts were put down before."""
        name, module = self.pop(), self.pop()
        self.name(f"{module} {name}")

    def call(self) -> None:
        """Make what a call of numpy's would make: a type, an array to be filled, a filled array."""
        arguments, name = self.pop(), self.pop()
        match name, arguments:
            case _Name("dtype"), ("f4", *_):
                self.stack.append(_Kind())
            case _Name("_reconstruct"), (_Name("ndarray"), (0,), b"b"):
                self.stack.append(_Unset())
            case _Name("_frombuffer"), (bytes() | bytearray() as values, _Kind(), (int(length),), "C"):
                self.stack.append(_vector(values, length))
            case _:
                raise _RefusedError(f"a call of {name!r:.60} with {arguments!r:.60}")

    def build(self) -> None:
        """Fill the array, or check the order of a type's bytes."""
        state, target = self.pop(), self.pop()
        match target, state:
            case _Kind(), (3, "<", None, None, None, -1, -1, 0):
                self.stack.append(target)
            case _Unset(), (1, (int(length),), _Kind(), False, bytes(values)):
                self.stack.append(_vector(values, length))
            case _:
                raise _RefusedError(f"a state {state!r:.60} of {type(target).__name__}")

    def extend(self, items: list[Any]) -> None:
        """Take items of the list."""
        if len(self.stack) != 1 or not isinstance(self.stack[0], _List):
            raise _RefusedError("items of another list")
        for item in items:
            match item:
                case (str() | int() as identity, np.ndarray() as vector):
                    self.finished.append((str(identity), vector))
                    self.count += 1
                case _:
                    raise _RefusedError(f"item {self.count} is {item!r:.60}, not an id and a vector")

    def stop(self) -> None:
        """Make sure that the list is all there is."""
        if len(self.stack) != 1 or not isinstance(self.stack[0], _List):
            raise _RefusedError("something else than one list")


def _vector(values: bytes | bytearray, length: int) -> Vector:
    if len(values) != 4 * length or length < 1:
        raise _RefusedError(f"{len(values)} bytes for a vector of {length}")
    return np.frombuffer(values, dtype="<f4").astype(np.float32, copy=False)


_TEXTS = ("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")
_BYTES = ("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8")
_VALUES = frozenset([*_TEXTS, *_BYTES, "BININT", "BININT1", "BININT2"])
_CONSTANTS: Mapping[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_STEPS: Mapping[str, Callable[[_Machine, Any], None]] = {
    "EMPTY_LIST": lambda machine, _: machine.stack.append(_List()),
    "MARK": lambda machine, _: machine.stack.append(_Mark()),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.since_mark())),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "APPEND": lambda machine, _: machine.extend([machine.pop()]),
    "APPENDS": lambda machine, _: machine.extend(machine.since_mark()),
    "BINPUT": lambda machine, index: machine.remember(index),
    "LONG_BINPUT": lambda machine, index: machine.remember(index),
    "MEMOIZE": lambda machine, _: machine.remember(None),
    "BINGET": lambda machine, index: machine.recall(index),
    "LONG_BINGET": lambda machine, index: machine.recall(index),
    "GLOBAL": lambda machine, text: machine.name(text),
    "STACK_GLOBAL": lambda machine, _: machine.stack_name(),
    "REDUCE": lambda machine, _: machine.call(),
    "BUILD": lambda machine, _: machine.build(),
    "STOP": lambda machine, _: machine.stop(),
}
