"""The methods of a `Retriever` that keep named states of the table and bring them back."""

from __future__ import annotations

from dpr_lance.records.table_info import SnapshotInfo
from dpr_lance.table.holder import TableHolder
from dpr_lance.table.snapshots import delete_snapshot, restore_snapshot, snapshots_of, take_snapshot


class Restorable(TableHolder):
    """A table with snapshots."""

    def snapshot(self, name: str) -> SnapshotInfo:
        """Keep the present state of the table under a name, until `delete_snapshot`; it takes milliseconds.

        It is a tag of LanceDB's, which plain LanceDB checks out by this name, and holds the calibration as well.
        Maintenance frees no version since the oldest snapshot, so the table's folder grows with what is written.

            retriever.snapshot("before-import")

        Raises `InvalidInputError` for a name that is taken or that LanceDB cannot use, `TableError` when nothing has
        been added yet.
        """
        self._store.check_usable()
        return take_snapshot(self._store, name)

    def snapshots(self) -> list[SnapshotInfo]:
        """Return the snapshots, the oldest first; tags that other programs have made are among them."""
        self._store.check_usable()
        return snapshots_of(self._store)

    def restore(self, name: str) -> SnapshotInfo:
        """Bring back the state of a snapshot: passages, vectors, indexes and calibration; the snapshot stays.

        What was written since is gone from the table: take a snapshot first to keep it. Other retrievers follow. After
        an interruption the table is in one of the two states, and the next write completes the rest.

        Raises `InvalidInputError` where there is no such snapshot, `LockedError` while the table is re-embedded.
        """
        self._store.check_usable()
        return restore_snapshot(self._store, name)

    def delete_snapshot(self, name: str) -> None:
        """Delete a snapshot; `optimize` frees what only it has kept. Raises `InvalidInputError` where there is none."""
        self._store.check_usable()
        delete_snapshot(self._store, name)
