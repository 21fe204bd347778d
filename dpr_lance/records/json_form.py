"""Records as values that JSON can hold."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time
from typing import Any


def json_text(value: Any) -> str:  # noqa: ANN401 - dataclasses and JSON values
    """Return a record, or a collection of values, as one line of JSON."""
    return json.dumps(jsonable(value), ensure_ascii=False, allow_nan=False)


def jsonable(value: Any) -> Any:  # noqa: ANN401, PLR0911 - a case for each kind of value that Arrow can hold
    """Return the value in JSON's own types: dates as ISO 8601, bytes as base64, NaN and infinity as null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # A field that `repr` leaves out is written elsewhere: the question of a hit stands in its `Hits`.
        return {field.name: jsonable(getattr(value, field.name)) for field in dataclasses.fields(value) if field.repr}
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Iterable):
        return [jsonable(item) for item in value]
    return str(value)
