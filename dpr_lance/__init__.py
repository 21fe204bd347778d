"""Dense Passage Retrieval (Karpukhin et al. 2020) as an extension of LanceDB.

    import dpr_lance
    retriever = dpr_lance.connect("wiki.lance")
    retriever.add(documents)
    hits = retriever.search("who first voiced meg on family guy?")

`import dpr_lance` changes nothing in the process and costs next to nothing: a name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dpr_lance.adoption import adopt as adopt
    from dpr_lance.answering.answerer import ReaderSource as ReaderSource
    from dpr_lance.connection import connect as connect
    from dpr_lance.documents.document import Document as Document
    from dpr_lance.encoders.card import EncoderCard as EncoderCard
    from dpr_lance.encoders.encoder import Encoder as Encoder
    from dpr_lance.encoders.hash_encoder import HashEncoder as HashEncoder
    from dpr_lance.encoders.loading import load_encoder as load_encoder
    from dpr_lance.errors import (
        DamagedTableError as DamagedTableError,
        DprLanceError as DprLanceError,
        EncoderError as EncoderError,
        EncoderMismatchError as EncoderMismatchError,
        InvalidInputError as InvalidInputError,
        LockedError as LockedError,
        MissingExtraError as MissingExtraError,
        ReaderError as ReaderError,
        StorageError as StorageError,
        TableError as TableError,
    )
    from dpr_lance.evaluation.answers import (
        AnswerEvaluation as AnswerEvaluation,
        AnswerEvaluationRow as AnswerEvaluationRow,
        evaluate_answers as evaluate_answers,
    )
    from dpr_lance.evaluation.evaluate import evaluate as evaluate
    from dpr_lance.evaluation.metrics import Interval as Interval, PairedTest as PairedTest
    from dpr_lance.evaluation.results import (
        Evaluation as Evaluation,
        EvaluationOutcome as EvaluationOutcome,
        EvaluationPair as EvaluationPair,
        EvaluationProgress as EvaluationProgress,
        EvaluationRow as EvaluationRow,
    )
    from dpr_lance.health.check_report import CheckReport as CheckReport, Finding as Finding
    from dpr_lance.ingest.embedding import ProgressCallback as ProgressCallback
    from dpr_lance.inputs.questions import LabelledQuestion as LabelledQuestion, QuestionSource as QuestionSource
    from dpr_lance.reader.choice import RerankSource as RerankSource
    from dpr_lance.reader.card import ReaderCard as ReaderCard
    from dpr_lance.reader.late_interaction import LateInteraction as LateInteraction
    from dpr_lance.reader.late_interaction_bundle import LateInteractionCard as LateInteractionCard
    from dpr_lance.reader.late_interaction_loading import load_late_interaction as load_late_interaction
    from dpr_lance.reader.loading import load_reader as load_reader
    from dpr_lance.reader.onnx_reader import Reader as Reader
    from dpr_lance.reader.reading import AnswerSpan as AnswerSpan, Reading as Reading
    from dpr_lance.reader.reranker import PassageText as PassageText, Reranker as Reranker
    from dpr_lance.records.answers import (
        Answer as Answer,
        AnswerCalibration as AnswerCalibration,
        Answers as Answers,
        AnswerSource as AnswerSource,
    )
    from dpr_lance.records.context import Context as Context, ContextPassage as ContextPassage
    from dpr_lance.records.hits import (
        Effort as Effort,
        Explanation as Explanation,
        Hit as Hit,
        HitExplanation as HitExplanation,
        Hits as Hits,
        Mode as Mode,
        WeightSource as WeightSource,
        WordScore as WordScore,
    )
    from dpr_lance.records.passage import Passage as Passage, StoredDocument as StoredDocument
    from dpr_lance.records.reports import (
        AddReport as AddReport,
        IndexInfo as IndexInfo,
        IndexReport as IndexReport,
        OnError as OnError,
        Progress as Progress,
        ReembedReport as ReembedReport,
        Skipped as Skipped,
        VectorReport as VectorReport,
    )
    from dpr_lance.records.table_info import (
        Calibration as Calibration,
        EffortPoint as EffortPoint,
        IndexKind as IndexKind,
        LearnedWeight as LearnedWeight,
        RerankCalibration as RerankCalibration,
        SnapshotInfo as SnapshotInfo,
        TableInfo as TableInfo,
        WeightPoint as WeightPoint,
    )
    from dpr_lance.retriever import Retriever as Retriever
    from dpr_lance.table.catalogue import drop as drop, tables as tables
    from dpr_lance.table.encoder import EncoderSource as EncoderSource
    from dpr_lance.table.filters import Filter as Filter
    from dpr_lance.table.memory import bound_memory as bound_memory
    from dpr_lance.text.language import Language as Language
    from dpr_lance.text.splitter import (
        MarkdownSplitter as MarkdownSplitter,
        SentenceSplitter as SentenceSplitter,
        Span as Span,
        Splitter as Splitter,
        WordSplitter as WordSplitter,
    )

_NAMES_BY_MODULE = {
    "adoption": ("adopt",),
    "answering.answerer": ("ReaderSource",),
    "connection": ("connect",),
    "documents.document": ("Document",),
    "encoders.card": ("EncoderCard",),
    "encoders.encoder": ("Encoder",),
    "encoders.hash_encoder": ("HashEncoder",),
    "encoders.loading": ("load_encoder",),
    "errors": (
        "DamagedTableError",
        "DprLanceError",
        "EncoderError",
        "EncoderMismatchError",
        "InvalidInputError",
        "LockedError",
        "MissingExtraError",
        "ReaderError",
        "StorageError",
        "TableError",
    ),
    "evaluation.answers": ("AnswerEvaluation", "AnswerEvaluationRow", "evaluate_answers"),
    "evaluation.evaluate": ("evaluate",),
    "evaluation.metrics": ("Interval", "PairedTest"),
    "evaluation.results": ("Evaluation", "EvaluationOutcome", "EvaluationPair", "EvaluationProgress", "EvaluationRow"),
    "health.check_report": ("CheckReport", "Finding"),
    "ingest.embedding": ("ProgressCallback",),
    "inputs.questions": ("LabelledQuestion", "QuestionSource"),
    "reader.choice": ("RerankSource",),
    "reader.card": ("ReaderCard",),
    "reader.late_interaction": ("LateInteraction",),
    "reader.late_interaction_bundle": ("LateInteractionCard",),
    "reader.late_interaction_loading": ("load_late_interaction",),
    "reader.loading": ("load_reader",),
    "reader.onnx_reader": ("Reader",),
    "reader.reading": ("AnswerSpan", "Reading"),
    "reader.reranker": ("PassageText", "Reranker"),
    "records.answers": ("Answer", "AnswerCalibration", "Answers", "AnswerSource"),
    "records.context": ("Context", "ContextPassage"),
    "records.hits": ("Effort", "Explanation", "Hit", "HitExplanation", "Hits", "Mode", "WeightSource", "WordScore"),
    "records.passage": ("Passage", "StoredDocument"),
    "records.reports": (
        "AddReport",
        "IndexInfo",
        "IndexReport",
        "OnError",
        "Progress",
        "ReembedReport",
        "Skipped",
        "VectorReport",
    ),
    "records.table_info": (
        "Calibration",
        "EffortPoint",
        "IndexKind",
        "LearnedWeight",
        "RerankCalibration",
        "SnapshotInfo",
        "TableInfo",
        "WeightPoint",
    ),
    "retriever": ("Retriever",),
    "table.catalogue": ("drop", "tables"),
    "table.encoder": ("EncoderSource",),
    "table.filters": ("Filter",),
    "table.memory": ("bound_memory",),
    "text.language": ("Language",),
    "text.splitter": ("MarkdownSplitter", "SentenceSplitter", "Span", "Splitter", "WordSplitter"),
}
_MODULES = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names}

__all__ = sorted(_MODULES)  # noqa: PLE0605 - one list of the names is enough

if TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name: str) -> object:  # type checkers know the names from the imports above
        if name == "__version__":
            return importlib.import_module("importlib.metadata").version("dpr-lance")
        if name not in _MODULES:
            raise AttributeError(f"module 'dpr_lance' has no attribute {name!r}")
        return getattr(importlib.import_module(f"dpr_lance.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
