"""What must hold of a table after a crash, or after a crowd of writers: comparison with what was written to it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import lancedb
import numpy as np

from dpr_lance import HashEncoder
from dpr_lance.table.store import Store
from tests.stress import scripted_writer as writer
from tests.stress.scripted_writer import Journal, State, Step, Stored


class DamageError(AssertionError):
    """The table is not what it must be; the message says where."""


def check(folder: Path, seed: int, journal: Journal, seen: tuple[int, State] | None) -> tuple[Step, State]:
    """Open the table again and compare it with script and journal; return the step under way and what is stored.

    `seen` is what the last call has returned: what was there must still be there. Raises `DamageError`.
    """
    done = journal.done()
    step, before, after = writer.states(seed, done)
    if seen is not None and seen[0] == done:
        before = seen[1]
    here = [record for record in journal.read() if record.get("step") == done]
    committed = max((record["documents"] for record in here if record["event"] == "committed"), default=0)
    observed = stored_documents(folder)
    place = f"seed {seed}, step {done} ({step.kind}{'' if here else ', not begun'})"
    for name in before.keys() | after.keys() | observed.keys():
        check_document(f"{place}, {name}", before.get(name), after.get(name) if here else before.get(name), observed)
    for name in list(step.documents)[:committed]:
        if observed.get(name) != after[name]:
            raise DamageError(f"{place}: {name} was reported as committed; stored is {observed.get(name)}")
    if len({name in observed for name in step.names}) > 1:
        raise DamageError(f"{place}: of {step.names} some are deleted and some are not")
    check_searches(folder, place, observed)
    return step, observed


def check_document(place: str, before: Stored | None, after: Stored | None, observed: State) -> None:
    """Raise unless the document is wholly as before or wholly as after, and no vector is lost."""
    found = observed.get(place.rpartition(" ")[2])
    if found is None:
        if before is not None and after is not None:
            raise DamageError(f"{place} is gone")
        return
    if after is not None and found.content == after.content:
        least = writer.with_vectors(after, before, all_of_them=False)
        if any(low > there for low, there in zip(least.embedded, found.embedded, strict=True)):
            raise DamageError(f"{place} has lost vectors: {found.embedded}, there were {least.embedded}")
        if any(there > high for there, high in zip(found.embedded, after.embedded, strict=True)):
            raise DamageError(f"{place} has vectors that nothing has made: {found.embedded}")
    elif found != before:
        raise DamageError(f"{place} is neither as before nor as after:\n{found}\n{before}\n{after}")


def stored_documents(folder: Path) -> State:
    """Read the table with plain LanceDB; raise when ids are doubled, passages out of place, or vectors wrong."""
    store = Store(folder, "passages")
    card = store.find_card()
    if card is None:
        return {}
    rows = lancedb.connect(folder).open_table("passages").to_arrow().to_pylist()
    doubled = [name for name, count in Counter(row["id"] for row in rows).items() if count > 1]
    if doubled:
        raise DamageError(f"{len(doubled)} ids are stored more than once: {doubled[:5]}")
    embedded = [row for row in rows if row[card.column] is not None]
    if embedded:
        vectors = HashEncoder(card.encoder.dimension).encode_passages([(row["title"], row["text"]) for row in embedded])
        wrong = np.flatnonzero((vectors != np.array([row[card.column] for row in embedded], np.float32)).any(axis=1))
        if wrong.size:
            raise DamageError(f"{embedded[int(wrong[0])]['id']} has the vector of another text ({wrong.size} such)")
    documents: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row["position"]):
        documents.setdefault(row["document_id"], []).append(row)
    return {name: _document(name, passages, card.column) for name, passages in documents.items()}


def _document(name: str, passages: list[dict[str, Any]], column: str) -> Stored:
    if [row["id"] for row in passages] != [f"{name}#{position}" for position in range(len(passages))]:
        raise DamageError(f"{name} has the passages {[row['id'] for row in passages]}")
    if len({(row["title"], row["year"], row["document_hash"]) for row in passages}) > 1:
        raise DamageError(f"{name} is a mix of states: {passages}")
    flags = tuple(row[column] is not None for row in passages)
    return Stored(passages[0]["title"], tuple(row["text"] for row in passages), passages[0]["year"], flags)


def check_searches(folder: Path, place: str, stored: State, *, names: int = 3, k: int = 5) -> None:
    """Raise unless each mode finds what is stored: BM25 all passages of a document, the others the best k."""
    if not stored:
        return
    texts = {f"{name}#{at}": block for name, document in stored.items() for at, block in enumerate(document.blocks)}
    embedded = sum(sum(document.embedded) for document in stored.values())
    retriever, _ = writer.open_table(folder)
    with retriever:
        for name in sorted(stored)[:: max(1, len(stored) // names)]:
            expected = {f"{name}#{at}" for at in range(len(stored[name].blocks))}
            found = {"bm25": retriever.search(name, 50, mode="bm25")}
            if {hit.id for hit in found["bm25"]} != expected:
                raise DamageError(f"{place}: BM25 finds {sorted(hit.id for hit in found['bm25'])} for {name}")
            if embedded:
                found |= {mode: retriever.search(name, k, mode=mode) for mode in ("dense", "hybrid")}
                if len(found["dense"]) != min(k, embedded) or len(found["hybrid"]) != min(k, len(texts)):
                    raise DamageError(f"{place}: {len(found['dense'])} dense, {len(found['hybrid'])} hybrid hits")
            for mode, hits in found.items():
                if len({hit.id for hit in hits}) < len(hits) or any(texts.get(hit.id) != hit.text for hit in hits):
                    raise DamageError(f"{place}: {mode} search for {name} gives what is not stored: {hits}")


def rows_of(folder: Path) -> dict[str, dict[str, Any]]:
    """All rows by id, with the vectors in force under one name."""
    store = Store(folder, "passages")
    rows = lancedb.connect(folder).open_table("passages").to_arrow().to_pylist()
    return {row["id"]: {**_without_vectors(row), "vector": row[store.card.column]} for row in rows}


def _without_vectors(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if not name.startswith("vector")}
