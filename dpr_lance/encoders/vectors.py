"""Vectors as arrays, as an encoder returns them, and as columns of Arrow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dpr_lance.encoders.card import EncoderCard
from dpr_lance.errors import EncoderError

Vector = NDArray[np.float32]
Numbers = NDArray[np.int64]


def vectors_of(column: pa.Array | pa.ChunkedArray) -> Vector:
    """Return the vectors of a column that are not null, in their order: float32[n, d]."""
    there = column.drop_null()
    array = there.combine_chunks() if isinstance(there, pa.ChunkedArray) else there
    vectors: Vector = array.flatten().to_numpy().reshape(-1, column.type.list_size)
    return vectors


def checked_vectors(vectors: object, count: int, card: EncoderCard) -> Vector:
    """Return an encoder's output as float32[count, dimension]; raise `EncoderError` when it is something else."""
    try:
        array = np.asarray(vectors, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise EncoderError(
            f"encoder {card.name!r} gave {type(vectors).__name__} for {count} texts, which is not an array of numbers "
            f"({error})"
        ) from error
    if array.shape != (count, card.dimension):
        raise EncoderError(
            f"encoder {card.name!r} gave an array of shape {array.shape} for {count} texts; its card says dimension "
            f"{card.dimension}"
        )
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if bad.size:
        raise EncoderError(f"encoder {card.name!r} gave NaN or infinity for text {int(bad[0])} of {count}")
    return array


def vector_array(vectors: Sequence[Vector | None], dimension: int) -> pa.Array:
    """Return float32[d] vectors as an Arrow fixed-size list, None as null."""
    missing = np.zeros(dimension, dtype=np.float32)
    values = np.concatenate([missing if vector is None else vector for vector in vectors]) if vectors else missing[:0]
    mask = pa.array([vector is None for vector in vectors], type=pa.bool_())
    return pa.FixedSizeListArray.from_arrays(pa.array(values, type=pa.float32()), dimension, mask=mask)


def nearest(questions: Vector, parts: Iterable[tuple[Vector, Numbers]], k: int) -> list[tuple[Numbers, Vector]]:
    """Return, for each question, the numbers and inner products of the k nearest vectors, nearest first.

    The vectors come in parts: float32[n, d] with the number of each, int64[n]; those with a negative number are left
    out. Memory holds the products of one part at a time.
    """
    scores = np.empty((len(questions), 0), dtype=np.float32)  # the largest so far, [questions, <= k]
    numbers = np.empty((len(questions), 0), dtype=np.int64)
    for vectors, names in parts:
        products = questions @ vectors.T
        products[:, names < 0] = -np.inf
        best = largest(products, k)
        scores, numbers = np.hstack([scores, np.take_along_axis(products, best, 1)]), np.hstack([numbers, names[best]])
        best = largest(scores, k)
        scores, numbers = np.take_along_axis(scores, best, 1), np.take_along_axis(numbers, best, 1)
    order = np.argsort(-scores, axis=1, kind="stable")
    scores, numbers = np.take_along_axis(scores, order, 1), np.take_along_axis(numbers, order, 1)
    return [(row[line > -np.inf], line[line > -np.inf]) for row, line in zip(numbers, scores, strict=True)]


def largest(scores: Vector, k: int) -> Numbers:
    """Return the columns of each row's k largest values, in no order: int64[rows, min(k, columns)]."""
    columns = scores.shape[1]
    if columns <= k:
        return np.broadcast_to(np.arange(columns), scores.shape)
    return np.argpartition(scores, columns - k, axis=1)[:, columns - k :]
