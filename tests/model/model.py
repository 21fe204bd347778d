"""A table of passages in plain Python: what it holds after documents were added, deleted or embedded."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.model.encoders import encodable
from tests.model.values import plain, same_metadata


@dataclass(frozen=True)
class Row:
    """A passage. Where plain LanceDB appended it again, `copies` are more than one."""

    document_id: str
    position: int
    title: str
    text: str
    start: int
    metadata: Mapping[str, Any]
    embedded: bool
    copies: int = 1

    @property
    def id(self):
        return f"{self.document_id}#{self.position}"

    @property
    def content(self):
        return self.title, self.text

    @property
    def encodable(self):
        return encodable(self.text)

    @property
    def indexed(self):
        """What BM25 sees."""
        return f"{self.title}\n{self.text}" if self.title else self.text


@dataclass(frozen=True)
class Stored:
    """A document as it was added last, and the passages that are left of it.

    `touched`: plain LanceDB has changed metadata of it, so that whether adding it again changes anything is open.
    """

    document: Mapping[str, Any]
    words: int | None
    passages: int
    rows: tuple[Row, ...]
    touched: bool = False

    @property
    def complete(self):
        return len(self.rows) == self.passages and all(row.copies == 1 for row in self.rows)

    @property
    def embedded(self):
        return all(row.embedded or not row.encodable for row in self.rows)


@dataclass
class Counts:
    """What an `AddReport` has to say; of `either` documents it may count as replaced or as unchanged."""

    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    either: int = 0
    embedded: int = 0


@dataclass
class Model:
    """Documents by id; `words` is how many words a passage of the table's own splitter has (None: no table yet)."""

    documents: dict[str, Stored] = field(default_factory=dict)
    words: int | None = None
    exists: bool = False
    encoder: int = 0

    def copy(self):
        return replace(self, documents=dict(self.documents))

    def rows(self):
        return [row for stored in self.documents.values() for row in stored.rows]

    def count(self):
        return sum(row.copies for row in self.rows())

    def metadata_of(self, document):
        return {
            name: value
            for name, value in document.items()
            if name not in ("id", "title", "text") and plain(value) is not None
        }

    def batches(self, documents, size):
        """Yield the documents of each commit by id, of one id the last, and how many there were before it."""
        batch, duplicates = {}, 0
        for document in documents:
            name = str(document["id"])
            duplicates += batch.pop(name, None) is not None
            batch[name] = document
            if len(batch) >= size:
                yield batch, duplicates
                batch, duplicates = {}, 0
        if batch:
            yield batch, duplicates

    def add(self, batch, words, embed, kept=frozenset()):
        """Store the documents of one commit; return the counts. Those named in `kept` count as unchanged."""
        counts = Counts()
        words = self.words if self.exists and words == "own" else 4 if words == "own" else words
        if not self.exists:
            self.exists, self.words = True, words
        written = {}
        for name, document in batch.items():
            old, new = self.documents.get(name), self.split(document, words)
            if old is None:
                counts.added += 1
            elif name in kept:
                counts.unchanged += 1
                if not embed or old.embedded:
                    continue
                new = replace(old, rows=tuple(replace(row, embedded=False) for row in old.rows))
            elif self._alike(old, new) and old.complete:
                # Equal as 1 and 1.0 are, which is also what a whole number becomes among fractions of an Arrow source.
                if plain(old.document) != plain(document) or document.keys() & {"ratio", "sizes"}:
                    counts.either += 1
                else:
                    counts.unchanged += 1
                if not embed or old.embedded:
                    continue
            elif old.touched:
                counts.either += 1
            else:
                counts.replaced += 1
            written[name] = new
        # A title and text that one of these documents had a vector for keeps it.
        known = {row.content for name in written for row in self._rows_of(name) if row.embedded}
        missing = {row.content for new in written.values() for row in new.rows if row.encodable} - known
        counts.embedded = len(missing) if embed else 0
        for name, new in written.items():
            rows = tuple(replace(row, embedded=(embed and row.encodable) or row.content in known) for row in new.rows)
            self.documents[name] = replace(new, rows=rows)
        return counts

    def _rows_of(self, name):
        return self.documents[name].rows if name in self.documents else ()

    def _alike(self, old, new):
        first, second = old.document, new.document
        return (
            (first.get("title") or "") == (second.get("title") or "")
            and first["text"] == second["text"]
            and old.words == new.words
            and all(same_metadata(new.rows[0].metadata, row.metadata) for row in old.rows)
        )

    def split(self, document, words):
        """Return a document in passages of `words` words (None: in one)."""
        title, text, name = document.get("title") or "", document["text"], str(document["id"])
        parts = text.split(" ")
        size = words or len(parts)
        blocks = [" ".join(parts[start : start + size]) for start in range(0, len(parts), size)]
        metadata, rows, start = self.metadata_of(document), [], 0
        for position, block in enumerate(blocks):
            rows.append(Row(name, position, title, block, start, metadata, embedded=False))
            start += len(block) + 1
        return Stored(document, words, len(blocks), tuple(rows))

    def meant(self, names):
        """Return the rows that ids of documents or passages stand for, in order, each once."""
        found = {}
        for name in map(str, names):
            document = self.documents.get(name)
            rows = document.rows if document else [row for row in self.rows() if row.id == name]
            found.update((row.id, row) for row in rows)
        return list(found.values())

    def delete(self, rows):
        """Delete these rows; return how many went."""
        gone = {row.id for row in rows}
        self.change(lambda row: None if row.id in gone else row)
        return sum(row.copies for row in rows)

    def embed(self):
        """Give every row a vector that can have one; return how many got it."""
        missing = sum(row.copies for row in self.rows() if row.encodable and not row.embedded)
        self.change(lambda row: replace(row, embedded=row.encodable))
        return missing

    def change(self, call, *, touched=False):
        """Put `call(row)` in place of each row; without it where that is None."""
        for name, stored in list(self.documents.items()):
            rows = tuple(new for row in stored.rows if (new := call(row)) is not None)
            if not rows:
                del self.documents[name]
            elif rows != stored.rows:
                self.documents[name] = replace(stored, rows=rows, touched=stored.touched or touched)
