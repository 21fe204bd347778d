"""The steps that call a retriever: each does the same to the table and to the model, and compares what is said."""

import dataclasses

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from dpr_lance import EncoderError, InvalidInputError, TableError, WordSplitter
from tests.model.brute_force import TOLERANCE, check_hits
from tests.model.encoders import NO_WORD
from tests.model.filters import COMPARED, CUT_SHORT, columns_of, expression_of, holds, sql_of
from tests.model.values import made, must_fit, same_metadata
from tests.model.world import BATCH, check_passage

STEPS = {}


def step(call):
    STEPS[call.__name__] = call
    return call


def aligned(documents, types=None):
    """Return an Arrow table of all fields that some document has, of these types where they are declared."""
    names = dict.fromkeys(name for document in documents for name in document)
    return pa.table(
        {name: pa.array([document.get(name) for document in documents], type=(types or {}).get(name)) for name in names}
    )


FORMS = {
    "list": list,
    "generator": iter,
    "arrow": aligned,
    "reader": lambda documents: aligned(documents).to_reader(max_chunksize=3),
    "pandas": lambda documents: aligned(documents).to_pandas(types_mapper=pd.ArrowDtype),
    "polars": lambda documents: pl.from_arrow(aligned(documents)),
}
"""What `add` is given documents as."""


@step
def add(world, by, documents, words="own", embed=True, form="list"):
    """Add documents with ordinary values: they have to fit, unless a column is of another type by now."""
    documents = [made(document) for document in documents]
    _add(world, by, documents, FORMS[form](documents), words=words, embed=embed)


@step
def add_odd(world, by, documents, odd, on_error, embed=True):
    """Add documents of which those named in `odd` have odd values: each is stored as given, or refused by name."""
    documents = [made(document) for document in documents]
    _add(world, by, documents, iter(documents), odd=odd, on_error=on_error, embed=embed)


@step
def add_arrow(world, by, documents, types):
    """Add an Arrow table whose columns have these declared types; the types of new columns are kept."""
    documents = [made(document) for document in documents]
    table, before = aligned(documents, types), world.types()
    odd = [document["id"] for document in documents] if types.keys() & before.keys() else []
    _add(world, by, documents, table, odd=odd)
    for name, kind in types.items():
        if name not in before and not pa.types.is_dictionary(kind) and name in world.types():
            assert world.types()[name] == kind


def _add(world, by, documents, given, *, odd=(), words="own", embed=True, on_error="raise"):
    types = world.types()
    size = 4 if words == "own" else words
    splitter = {} if words == "own" and types else {"splitter": None if size is None else WordSplitter(size)}
    certain = [document for document in documents if document["id"] not in odd and _fits(document, types, new=not odd)]
    report, refusal = _tried(
        world, by, lambda retriever: retriever.add(given, embed=embed, on_error=on_error, **splitter)
    )
    if refusal is not None:
        assert on_error == "raise", f"not skipped: {refusal}"
        assert len(certain) < len(documents), f"refused: {refusal}"
        _stopped(world, documents, words, embed)
        return
    skipped = _skipped(world, by, documents) if on_error == "skip" else []
    assert report.documents_skipped == len(skipped), f"{report}; not stored: {skipped}"
    assert not [document for document in skipped if document in certain], f"skipped: {report.skipped}"
    stored = [document for document in documents if document["id"] not in {each["id"] for each in skipped}]
    model = world.model = world.model.copy()
    kept = _kept(world, by, stored)
    counts = [(model.add(batch, words, embed, kept), duplicate) for batch, duplicate in model.batches(stored, BATCH)]
    _check_report(report, counts)
    world.changed(folded=world.folded and not (report.passages_added or report.passages_embedded))


def _tried(world, by, call):
    """Return what a call returns and None, or None and the error that refuses what it was given."""
    try:
        return world.ask(by, call), None
    except InvalidInputError as error:
        return None, error


def _fits(document, types, *, new):
    """Tell whether the columns have to take a document's values; `new`: also those that are not there yet."""
    return all(
        must_fit(value, types.get(name)) and (new or name in types)
        for name, value in document.items()
        if name not in ("id", "title", "text")
    )


def _check_report(report, counts):
    either = sum(count.either for count, _ in counts)
    assert report.documents_added == sum(count.added for count, _ in counts), report
    assert report.documents_duplicate == sum(duplicate for _, duplicate in counts), report
    for name in ("replaced", "unchanged"):
        least = sum(getattr(count, name) for count, _ in counts)
        assert least <= getattr(report, f"documents_{name}") <= least + either, (report, counts)
    embedded = sum(count.embedded for count, _ in counts)
    assert either or report.passages_embedded == embedded, (report, embedded)


def _skipped(world, by, documents):
    """Return the documents that are not stored as they were given; each has an id of its own here."""
    left = []
    for document in documents:
        passages = world.ask(by, lambda retriever, name=document["id"]: retriever.get(name))
        text = " ".join(passage.text for passage in passages)
        given = world.model.metadata_of(document)
        if text != document["text"] or not all(same_metadata(given, passage.metadata) for passage in passages):
            left.append(document)
    return left


def _kept(world, by, documents):
    """Return the ids of documents whose metadata plain LanceDB had set, and which still have that after the `add`.

    Whether `add` of what it has stored itself looks for such changes is open.
    """
    kept = set()
    for name in {str(document["id"]) for document in documents}:
        old = world.model.documents.get(name)
        if old is not None and old.touched and old.complete:
            passages = world.ask(by, lambda retriever, name=name: retriever.get(name))
            if [row.content for row in old.rows] == [(passage.title, passage.text) for passage in passages] and all(
                same_metadata(row.metadata, passage.metadata) for row, passage in zip(old.rows, passages, strict=True)
            ):
                kept.add(name)
    return kept


def _stopped(world, documents, words, embed):
    """Find how many batches were stored before the one that was refused, and go on from there."""
    states = [world.model]
    for batch, _ in world.model.batches(documents, BATCH):
        states.append(states[-1].copy())
        states[-1].add(batch, words, embed)
    stored = world.ask(0, len)
    world.model = next((state for state in states if state.count() == stored), states[0])
    world.changed()


@step
def embed(world, by):
    """Give a vector to what has none."""
    report = world.ask(by, lambda retriever: retriever.embed())
    missing = world.model.embed()
    assert report.passages_embedded == missing
    world.changed(folded=world.folded and not missing)


@step
def delete(world, by, names):
    """Delete documents and passages by id."""
    gone = world.model.delete(world.model.meant(names))
    assert world.ask(by, lambda retriever: retriever.delete(names)) == gone
    world.changed(folded=world.folded and not gone)


@step
def delete_where(world, by, where):
    """Delete what a filter matches."""
    sql = sql_of(where)
    if not usable(world, where):
        _refused(world, by, lambda retriever: retriever.delete(where=sql))
        return
    gone = world.model.delete([row for row in world.model.rows() if holds(where, row) is True])
    assert world.ask(by, lambda retriever: retriever.delete(where=sql)) == gone
    world.changed(folded=world.folded and not gone)


@step
def cut_short(world, by, where, form):
    """Search and delete with texts that begin with a filter but are not filters."""
    sql = CUT_SHORT[form].format(sql_of(where))
    if world.types():
        for mode in ("bm25", "hybrid"):
            _refused(world, by, lambda retriever, mode=mode: retriever.search("river", mode=mode, where=sql))
        _refused(world, by, lambda retriever: retriever.delete(where=sql))
        world.check()


def usable(world, where):
    """Tell whether the table has a filter's columns, of the types that it compares them with."""
    types = world.types()
    own = ("id", "document_id", "title")
    for name in columns_of(where):
        kind = types.get(name)
        if name == "tags" and kind is not None and not pa.types.is_list(kind):
            return False
        if kind is None or (name in COMPARED and kind != COMPARED[name] and name not in own):
            return False
    return True


def _refused(world, by, call):
    """Assert that a filter is refused, unless the table is not there."""
    missing = not world.types()
    _, refusal = _tried(world, by, call)
    assert missing or refusal is not None, "a filter that cannot be used was taken"
    assert refusal is None or "where" in str(refusal)


@step
def optimize(world, by, filter_columns=()):
    """Fold the indexes: from then on BM25 scores are exact."""
    if not world.types():
        with pytest.raises(TableError):
            world.ask(by, lambda retriever: retriever.optimize())
        return
    kinds = world.types()
    columns = [name for name in filter_columns if kinds.get(name) in (pa.int64(), pa.string(), pa.list_(pa.string()))]
    report = world.ask(by, lambda retriever: retriever.optimize(filter_columns=columns))
    covered = {index.column: (index.indexed_rows, index.unindexed_rows) for index in report.indexes}
    assert covered["content"][1] == 0
    assert set(columns) <= covered.keys()
    world.changed(folded=True)


@step
def reembed(world, by, encoder):
    """Change the encoder; the other retriever raises an error about it, once."""
    if not world.types():
        return
    new = world.encoders[encoder]
    report = world.ask(by, lambda retriever: retriever.reembed(new))
    if encoder == world.model.encoder:
        assert report.passages_embedded == 0
    else:
        world.model = world.model.copy()
        world.model.change(lambda row: dataclasses.replace(row, embedded=row.encodable))
        assert report.passages_embedded == sum(row.copies for row in world.model.rows() if row.embedded)
        world.model.encoder = encoder
        world.stale.add(1 - by)
    world.changed(folded=encoder != world.model.encoder or world.folded)


@step
def reopen(world, by):
    """Close a retriever and connect again."""
    world.reopen(by)


@step
def search(world, by, questions, k, mode, where=None, expression=False, explain=False):
    """Search for one question or several: the hits are those of brute force."""
    given = None if where is None else expression_of(where) if expression else sql_of(where)
    asked = questions[0] if len(questions) == 1 else list(questions)

    def call(retriever):
        found = retriever.search(asked, k, mode=mode, where=given, explain=explain)
        return [found] if len(questions) == 1 else found

    if where is not None and world.types() and not usable(world, where):
        _maybe_refused(world, by, call)
        return
    embedded = any(row.embedded for row in world.model.rows())
    if mode == "dense" and not embedded and world.model.count():
        with pytest.raises(EncoderError, match="no passage has a vector yet"):
            world.ask(by, call)
        return
    for question, hits in zip(questions, world.ask(by, call), strict=True):
        assert hits.question == question
        assert "total" in hits.seconds or not world.types()
        if not world.model.count():
            assert not len(hits)
            continue
        really = mode if embedded or mode == "dense" or by in world.stale else "bm25"
        assert hits.mode == really or (by in world.stale and hits.fallback)
        assert (hits.fallback is None) == (hits.mode == mode), hits.fallback
        check_hits(hits, world.entries(question, where), k, world.promise(by, where))
        rows = {row.id: row for row in world.model.rows()}
        for hit in hits:
            check_passage(hit, rows[hit.id])
        if explain and world.folded and hits.mode != "dense":
            for hit in hits:
                assert abs(sum(word.score for word in hit.explanation.words) - hit.bm25_score) <= TOLERANCE


@step
def search_without_vector(world, by, mode):
    """Ask what the encoder makes no vector of: BM25 alone answers, and says why."""
    if any(row.embedded for row in world.model.rows()) and by not in world.stale:
        if mode == "dense":
            assert _tried(world, by, lambda retriever: retriever.search(NO_WORD, mode=mode))[1] is not None
        else:
            hits = world.ask(by, lambda retriever: retriever.search(NO_WORD, mode=mode))
            assert not len(hits)
            assert (hits.mode, hits.fallback is None) == ("bm25", mode == "bm25")


def _maybe_refused(world, by, call):
    """A filter over columns that are missing or of other types may be refused, by name."""
    _, refusal = _tried(world, by, call)
    assert refusal is None or "where" in str(refusal)


@step
def get(world, by, names):
    """Look up documents and passages by id."""
    found = world.ask(by, lambda retriever: retriever.get(names))
    expected = world.model.meant(names)
    assert [passage.id for passage in found] == [row.id for row in expected]
    for passage, row in zip(found, expected, strict=True):
        check_passage(passage, row)


@step
def context(world, by, name, before, after):
    """Look up a passage with its neighbours."""
    row = next((row for row in world.model.rows() if row.id == name), None)
    document = world.model.documents[row.document_id].rows if row else ()
    near = [each.id for each in document if row.position - before <= each.position <= row.position + after]
    assert [passage.id for passage in world.ask(by, lambda retriever: retriever.context(name, before, after))] == near


@step
def info(world, by):
    """Count everything."""
    info = world.ask(by, lambda retriever: retriever.info())
    rows = [row for row in world.model.rows() for _ in range(row.copies)]
    counted = info.documents, info.passages, info.embedded
    assert counted == (len(world.model.documents), len(rows), sum(row.embedded for row in rows))
    types = {name: str(kind) for name, kind in world.types().items() if name in info.metadata}
    assert dict(info.metadata) == types
