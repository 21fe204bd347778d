"""Every argument of every public function, given odd values one at a time: an error is ours, and names the argument."""

import asyncio
import inspect
from pathlib import Path

import lancedb
import numpy as np
import pytest

import dpr_lance
from dpr_lance import (
    Document,
    DprLanceError,
    HashEncoder,
    MarkdownSplitter,
    SentenceSplitter,
    WordSplitter,
    adopt,
    connect,
    drop,
    evaluate,
    evaluate_answers,
    load_encoder,
    load_late_interaction,
    load_reader,
    tables,
)
from dpr_lance.encoders.loading import DEFAULT_ENCODER
from tests.reader.tiny_late_interaction import tiny_late_interaction
from tests.reader.tiny_reader import tiny_reader

WRONG = {
    "None": None,
    "bytes": b"bytes",
    "empty string": "",
    "blank string": " ",
    "string": "nonsense",
    "lone surrogate": "a\ud800",
    "nul": "a\0b",
    "negative": -1,
    "zero": 0,
    "fraction": 1.5,
    "nan": float("nan"),
    "infinity": float("inf"),
    "boolean": True,
    "huge": 10**30,
    "list": [],
    "list of objects": [object()],
    "list of None": [None],
    "dict": {},
    "set": set(),
    "tuple": (),
    "object": object(),
    "class": int,
    "function": lambda: None,
    "generator": None,
    "numpy integer": np.int64(3),
    "numpy float": np.float32(1.5),
    "numpy boolean": np.True_,
    "numpy array": np.arange(3),
    "missing path": Path("/missing/folder"),
    "complex": 1j,
    "range": range(3),
}

DOCUMENTS = [
    {"id": "alps", "title": "Alps", "text": "The Alps are mountains in Europe.", "year": 2001},
    {"id": "rhine", "title": "Rhine", "text": "The Rhine is a river that rises in the Alps.", "year": 2010},
]
ANSWERED = [{"question": f"question {number}", "answers": ["the Alps"][number % 2 :]} for number in range(20)]
QUESTIONS = [{"question": "where are the Alps?", "labels": ["alps"]}]


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where odd paths lead
    tiny_reader(tmp_path)
    tiny_late_interaction(tmp_path / "late")
    with connect("table.lance", encoder=HashEncoder()) as retriever:
        retriever.add(DOCUMENTS)
        yield retriever


def hit(table):
    return table.search("where are the Alps?", 1)[0]


def dropped(**given):
    """Drops what it has just made."""
    with connect("other.lance", encoder=HashEncoder()) as retriever:
        retriever.add(DOCUMENTS)
    drop(**given)


def adopted(**given):
    """Adopts a table that plain LanceDB has made before."""
    lancedb.connect("plain.lance").create_table(
        "passages",
        [{"id": "a", "text": "snow", "vector": HashEncoder(8).encode_passages([("", "snow")])[0]}],
        mode="overwrite",
    )
    return adopt(**given)


CALLS = {
    "connect": (lambda table: connect, {"uri": "other.lance"}),
    "adopt": (lambda table: adopted, {"uri": "plain.lance", "encoder": HashEncoder(8)}),
    "Retriever.add": (lambda table: table.add, {"documents": DOCUMENTS}),
    "Retriever.add_async": (
        lambda table: lambda **given: asyncio.run(table.add_async(**given)),
        {"documents": DOCUMENTS},
    ),
    "Retriever.delete_async": (
        lambda table: lambda **given: asyncio.run(table.delete_async(**given)),
        {"ids": "nothing"},
    ),
    "Retriever.embed": (lambda table: table.embed, {}),
    "Retriever.reembed": (lambda table: table.reembed, {"encoder": HashEncoder(32)}),
    "Retriever.import_vectors": (lambda table: table.import_vectors, {"files": []}),
    "Retriever.search": (lambda table: table.search, {"question": "where are the Alps?"}),
    "Retriever.search_async": (
        lambda table: lambda **given: asyncio.run(table.search_async(**given)),
        {"question": "where are the Alps?"},
    ),
    "Retriever.delete by id": (lambda table: table.delete, {"ids": "nothing"}),
    "Retriever.update": (lambda table: table.update, {"ids": "alps", "metadata": {"year": 2002}}),
    "Retriever.get": (lambda table: table.get, {"ids": "alps"}),
    "Retriever.context": (lambda table: table.context, {"hit": "alps#0"}),
    "Retriever.context_for": (lambda table: table.context_for, {"hits": ()}),
    "Retriever.calibrate": (lambda table: table.calibrate, {"questions": ["where are the Alps?"]}),
    "Retriever.snapshot": (lambda table: table.snapshot, {"name": "kept"}),
    "Retriever.restore": (lambda table: table.restore, {"name": "kept"}),
    "Retriever.delete_snapshot": (lambda table: table.delete_snapshot, {"name": "kept"}),
    "Retriever.export": (lambda table: table.export, {"path": "dump.jsonl", "overwrite": True}),
    "tables": (lambda table: tables, {"uri": "other.lance"}),
    "drop": (lambda table: dropped, {"uri": "other.lance"}),
    "Retriever.check": (lambda table: table.check, {}),
    "Retriever.optimize": (lambda table: table.optimize, {}),
    "evaluate": (
        lambda table: lambda **given: evaluate(**({"retriever": table} | given)),
        {"questions": QUESTIONS},
    ),
    "evaluate_answers": (
        lambda table: lambda **given: evaluate_answers(**({"retriever": table} | given)),
        {"questions": ANSWERED[::2], "reader": "reader"},
    ),
    "load_encoder": (lambda table: load_encoder, {"source": DEFAULT_ENCODER}),
    "Retriever.answer": (lambda table: table.answer, {"question": "where are the Alps?", "reader": "reader"}),
    "Retriever.answer_async": (
        lambda table: lambda **given: asyncio.run(table.answer_async(**given)),
        {"question": "where are the Alps?", "reader": "reader"},
    ),
    "Retriever.calibrate_answers": (
        lambda table: table.calibrate_answers,
        {"questions": ANSWERED, "reader": "reader"},
    ),
    "load_reader": (lambda table: load_reader, {"source": "reader"}),
    "Reader.score": (lambda table: load_reader("reader").score, {"question": "a", "passages": [("", "a")]}),
    "Reader.score_pairs": (lambda table: load_reader("reader").score_pairs, {"pairs": [("a", ("", "a"))]}),
    "Reader.read": (lambda table: load_reader("reader").read, {"question": "a", "passages": [("", "a")]}),
    "load_late_interaction": (lambda table: load_late_interaction, {"source": "late/bundle"}),
    "LateInteraction.score": (
        lambda table: load_late_interaction("late/bundle").score,
        {"question": "a", "passages": [("", "a")]},
    ),
    "LateInteraction.score_pairs": (
        lambda table: load_late_interaction("late/bundle").score_pairs,
        {"pairs": [("a", ("", "a"))]},
    ),
    "LateInteraction.question_vectors": (
        lambda table: load_late_interaction("late/bundle").question_vectors,
        {"question": "a"},
    ),
    "LateInteraction.passage_vectors": (
        lambda table: load_late_interaction("late/bundle").passage_vectors,
        {"passages": [("", "a")]},
    ),
    "HashEncoder": (lambda table: HashEncoder, {}),
    "HashEncoder.encode_questions": (lambda table: HashEncoder().encode_questions, {"questions": ["a"]}),
    "HashEncoder.encode_passages": (lambda table: HashEncoder().encode_passages, {"passages": [("", "a")]}),
    "Encoder.encode_questions": (lambda table: load_encoder(DEFAULT_ENCODER).encode_questions, {"questions": ["a"]}),
    "Encoder.encode_passages": (
        lambda table: load_encoder(DEFAULT_ENCODER).encode_passages,
        {"passages": [("", "a")]},
    ),
    "WordSplitter": (lambda table: WordSplitter, {}),
    "SentenceSplitter": (lambda table: SentenceSplitter, {}),
    "MarkdownSplitter": (lambda table: MarkdownSplitter, {}),
    "WordSplitter.split": (lambda table: lambda text: list(WordSplitter().split(text)), {"text": "a"}),
    "SentenceSplitter.split": (lambda table: lambda text: list(SentenceSplitter().split(text)), {"text": "a"}),
    "MarkdownSplitter.split": (lambda table: lambda text: list(MarkdownSplitter().split(text)), {"text": "a"}),
    "Document": (lambda table: lambda **given: table.add([Document(**given)]), {"text": "a"}),
    "Hit.snippet": (lambda table: hit(table).snippet, {}),
    "Hits.context": (lambda table: table.search("where are the Alps?", 1).context, {}),
}


def test_every_public_name_is_called():
    called = {name.split(".")[0].split(" ")[0] for name in CALLS}
    # The library makes the other records, and `bound_memory` takes nothing.
    functions = {name for name in dpr_lance.__all__ if inspect.isfunction(getattr(dpr_lance, name))}
    assert called >= {*functions, "Document", "HashEncoder", "LateInteraction", "Reader", "Retriever"} - {
        "bound_memory"
    }
    methods = {
        f"Retriever.{name}"
        for name, member in inspect.getmembers(dpr_lance.Retriever, inspect.isfunction)
        if not name.startswith("_") and len(inspect.signature(member).parameters) > 1
    }
    assert methods <= {name.split(" ")[0] for name in CALLS}


def arguments_of(name):
    owner, _, method = name.split(" ")[0].partition(".")
    call = getattr(dpr_lance, owner)
    if method:
        call = getattr(call, method, None) or CALLS[name][0](None)
    return [argument for argument in inspect.signature(call).parameters if argument != "self"]


TEXT = {"string", "nul"}
ANY_TEXT = TEXT | {"empty string", "blank string"}
LISTS = {"list", "set", "tuple"}
INTEGERS = {"negative", "zero", "huge", "numpy integer"}
FLAG = {"boolean", "numpy boolean"}
COUNT = {"numpy integer", "huge"}
PLACE = {"string", "missing path"}
TAKEN = {
    "uri": PLACE,
    "encoder": {"None", *PLACE},
    "table": {"string"},
    "storage_options": {"None", "dict"},
    "language": {"None"},
    "learn": FLAG,
    "cache_bytes": {"zero", "numpy integer"},
    "resident_bytes": {"zero", *COUNT},
    "documents": LISTS,
    "splitter": {"None"},
    "embed": FLAG,
    "progress": {"None", "class"},
    "on_error": set(),
    "files": LISTS,
    "question": TEXT | {"list", "tuple"},
    "k": COUNT,
    "mode": {"None"},
    "where": {"None"},
    "explain": FLAG,
    "rerank": {"None", *FLAG},  # True where there is a packaged reader
    "candidates": COUNT,
    "rerank_within": {"None", "fraction", "huge", "numpy integer", "numpy float"},
    "ids": ANY_TEXT | LISTS | INTEGERS | {"None", "generator", "numpy array", "range"},
    "hit": set(),
    "before": {"zero", *COUNT} | ANY_TEXT,  # of `context`, and of `snippet`
    "after": {"zero", *COUNT} | ANY_TEXT,
    "group_by": {"None"},
    "per_group": set(),  # but with `group_by`
    "diversity": {"zero"},
    "offset": {"zero", *COUNT},
    "min_score": {"None", "negative", "zero", "fraction", "huge", "numpy integer", "numpy float"},
    "overwrite": {"boolean", "numpy boolean"},
    "path": set(),  # but with one of two endings
    "name": {"string"},  # of a snapshot
    "reader": {"None"},  # where there is a packaged reader
    "threshold": {"None", "zero"},
    "most": COUNT,
    "hits": LISTS,
    "budget_tokens": {"None", *COUNT},
    "count": {"class"},  # which is called for hits alone
    "neighbours": {"zero", "numpy integer"},
    "questions": {"None", *LISTS},
    "split": {"None"},
    "regex": FLAG,
    "filter_columns": LISTS,
    "index": {"None"},
    "rebuild": FLAG,
    "keep_versions": set(),
    "encode": {"zero", *COUNT},
    "retriever": set(),
    "modes": set(),
    "ks": {"generator"},  # of the number 1
    "compare": {"None"},
    "runs": {"None", *PLACE},
    "source": set(),
    "precision": {"None"},
    "threads": {"None", *COUNT},
    "dimension": {"numpy integer"},
    "passages": LISTS,
    "pairs": LISTS,
    "spans": COUNT,
    "overlapping": FLAG,
    "words": COUNT,
    "overlap": {"zero", "numpy integer"},
    "text": ANY_TEXT | {"lone surrogate", "None"},  # of `adopt`, and of a document
    "title": ANY_TEXT | {"None"},
    "id": TEXT | {"None"},
    "metadata": {"dict"},
    "types": {"dict"},
    "length": COUNT,
    "escape": set(),
}
"""The values of `WRONG` that each argument may take after all; a further argument needs an entry."""


def names(message, argument, value):
    """Whether an error names the argument, or the value where that is the name of something that is not there."""
    return argument.removesuffix("s") in message or (isinstance(value, (str, Path)) and str(value) in message)


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_argument_is_named(table, name):
    make, usual = CALLS[name]
    call = make(table)
    bare = []
    for argument in arguments_of(name):
        for kind, value in WRONG.items():
            given = (item for item in (1,)) if kind == "generator" else value
            try:
                call(**(usual | {argument: given}))
                if kind not in TAKEN[argument]:
                    bare.append(f"{argument}={kind}: taken without a word")
            except DprLanceError as error:
                if not names(str(error), argument, value):
                    bare.append(f"{argument}={kind}: unnamed: {type(error).__name__}: {error!s:.150}")
            except BaseException as error:  # noqa: BLE001 - panics too
                if argument in ("progress", "escape", "count") and kind == "class":
                    continue  # it can be called, and fails by itself
                bare.append(f"{argument}={kind}: {type(error).__name__}: {error!s:.150}")
    assert not bare, f"{len(bare)} wrong answers:\n" + "\n".join(bare)
