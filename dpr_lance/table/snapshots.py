"""Named snapshots: LanceDB's tags, each with what the small table held then, so that both can be restored.

A clean-up frees no tagged version. A tag of another program is a snapshot too; restoring it leaves the small table
without a calibration and without the record of a training, which the next maintenance makes again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from lancedb.table import Table

from dpr_lance.checks import checked_text, refused, shown
from dpr_lance.errors import InvalidInputError, StorageError
from dpr_lance.records.table_info import SnapshotInfo
from dpr_lance.table.contention import committed, put_back
from dpr_lance.table.remembered import SNAPSHOT
from dpr_lance.table.store import WRITE_TIMEOUT, Store

MAINTENANCE_TIMEOUT = 600.0
"""Seconds to wait for maintenance, which must not free a version that is about to be tagged or restored."""
LONGEST_NAME = 100

_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
"""LanceDB lists no tag any more where one has other letters."""


def take_snapshot(store: Store, name: str) -> SnapshotInfo:
    """Tag the latest version; see `Retriever.snapshot`."""
    checked_name(name)
    if store.find() is None:
        raise store.absent()
    with store.lock(timeout=MAINTENANCE_TIMEOUT), store.lock(timeout=WRITE_TIMEOUT, purpose="write"):
        store.finish_restoring()
        tags = store.retry_on_conflict(_tags)
        if name in tags:
            raise InvalidInputError(
                f"name={name!r}: {store.place} has a snapshot of this name; choose another one, or call "
                f"delete_snapshot({name!r}) first"
            )
        version = store.retry_on_conflict(lambda table: int(table.version))
        record = {
            "version": version,
            "created": datetime.now(UTC).isoformat(),
            "passages": store.count(),
            "values": store.remembered.own_values(),
        }
        gone = [
            key for key in store.remembered.values() if key.startswith(SNAPSHOT) and key[len(SNAPSHOT) :] not in tags
        ]
        # The tag comes last: without it there is no snapshot.
        store.remembered.keep(**dict.fromkeys(gone), **{f"{SNAPSHOT}{name}": record})
        store.retry_on_conflict(lambda table: table.tags.create(name, version))
    return _info(name, version, record)


def snapshots_of(store: Store) -> list[SnapshotInfo]:
    """Return all snapshots, the oldest first."""
    if store.find() is None:
        return []
    values, tags = store.remembered.values(), store.retry_on_conflict(_tags)
    found = [_info(name, version, _record(values, name, version)) for name, version in tags.items()]
    return sorted(found, key=lambda info: (info.version, info.name))


def restore_snapshot(store: Store, name: str) -> SnapshotInfo:
    """Make the version of a snapshot the latest one again; see `Retriever.restore`."""
    checked_name(name)
    if store.find() is None:
        raise store.absent()
    with (
        store.lock(timeout=0, purpose="reembed"),
        store.lock(timeout=MAINTENANCE_TIMEOUT),
        store.lock(timeout=WRITE_TIMEOUT, purpose="write"),
    ):
        store.finish_restoring()
        version = _version_of(store, name)
        record = _record(store.remembered.values(), name, version)
        kept: Mapping[str, Any] = {} if record is None else record["values"]
        store.remembered.begin_restoring(store.retry_on_conflict(lambda table: int(table.version)), kept)
        try:
            committed(lambda table: put_back(table, version), store.on_another_handle, store.files)
        except StorageError:  # undone
            store.remembered.give_up_restoring()
            raise
        store.finish_restoring()
    return _info(name, version, record)


def delete_snapshot(store: Store, name: str) -> None:
    """Remove the tag and what was kept for it; see `Retriever.delete_snapshot`."""
    checked_name(name)
    if store.find() is None:
        raise store.absent()
    with store.lock(timeout=MAINTENANCE_TIMEOUT), store.lock(timeout=WRITE_TIMEOUT, purpose="write"):
        _version_of(store, name)
        store.retry_on_conflict(lambda table: table.tags.delete(name))
        store.remembered.keep(**{f"{SNAPSHOT}{name}": None})


def checked_name(name: object) -> str:
    """Return a snapshot's name; raise `InvalidInputError` for one that LanceDB's tags cannot have."""
    text = checked_text(name, name="the name", place="snapshot")
    if len(text) > LONGEST_NAME or not _NAME.fullmatch(text) or text.endswith(".lock"):
        raise refused(
            "name", name, f"use letters, digits, '_', '-' and single dots in between, up to {LONGEST_NAME}, not '.lock'"
        )
    return text


def _tags(table: Table) -> dict[str, int]:
    return {name: int(tag["version"]) for name, tag in table.tags.list().items()}


def _version_of(store: Store, name: str) -> int:
    tags = store.retry_on_conflict(_tags)
    if name not in tags:
        raise InvalidInputError(
            f"name={shown(name)}: {store.place} has no snapshot of this name; it has "
            f"{', '.join(sorted(tags)) or 'none'}"
        )
    return tags[name]


def _record(values: Mapping[str, Any], name: str, version: int) -> Mapping[str, Any] | None:
    """Return what was kept for a snapshot; None for a tag that another program made."""
    record: Mapping[str, Any] | None = values.get(f"{SNAPSHOT}{name}")
    return record if record is not None and record.get("version") == version else None


def _info(name: str, version: int, record: Mapping[str, Any] | None) -> SnapshotInfo:
    if record is None:
        return SnapshotInfo(name, version)
    return SnapshotInfo(name, version, datetime.fromisoformat(record["created"]), record["passages"])
