"""How well a table answers labelled questions: accuracy of each mode, intervals, and the differences between modes."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dpr_lance.checks import (
    checked_callback,
    checked_choice,
    checked_flag,
    checked_items,
    checked_path,
    checked_whole,
    refused,
)
from dpr_lance.connection import connect
from dpr_lance.documents.document import Document
from dpr_lance.encoders.encoding import UnencodableError
from dpr_lance.errors import EncoderError, InvalidInputError, MissingExtraError
from dpr_lance.evaluation.metrics import Values, bootstrap, first_rank, hits_within, paired_test, ranking_measures
from dpr_lance.evaluation.results import (
    Evaluation,
    EvaluationOutcome,
    EvaluationPair,
    EvaluationProgress,
    EvaluationRow,
    Judgement,
)
from dpr_lance.evaluation.trec import RunFiles
from dpr_lance.inputs.questions import LabelledQuestion, QuestionSource, read_questions
from dpr_lance.reader.choice import RerankSource, checked_reranker
from dpr_lance.records.hits import CANDIDATES, MODES, Hits, Mode
from dpr_lance.records.reports import Skipped
from dpr_lance.retriever import Retriever
from dpr_lance.search.options import SearchOptions
from dpr_lance.search.searcher import QUESTIONS_AT_ONCE
from dpr_lance.table.encoder import EncoderSource, check_source
from dpr_lance.text.language import ENGLISH

KS = (1, 5, 20, 100)
"""The paper's k (appendix B); the last one is the depth of the search."""
EVALUATED: tuple[Mode, ...] = ("bm25", "dense", "hybrid")
READER = "+reader"
"""Ends the names of the rows of a mode whose hits are re-ranked."""
OTHER = "other."
"""Begins the names of the rows of the table or encoder that is compared."""

_IDS_AT_ONCE = 1_000


def evaluate(  # noqa: PLR0913 - keywords, each with its default
    retriever: Retriever,
    questions: QuestionSource,
    *,
    modes: Sequence[str] = EVALUATED,
    ks: Sequence[int] = KS,
    regex: bool = False,
    split: str | None = None,
    rerank: RerankSource = None,
    candidates: int = CANDIDATES,
    compare: Retriever | EncoderSource | None = None,
    runs: str | Path | None = None,
    progress: Callable[[EvaluationProgress], None] | None = None,
) -> Evaluation:
    """Measure how well a table's searches answer labelled questions (top-k accuracy: paper, section 5).

    `questions`: a file or BEIR folder (`split` names its qrels), or an iterable of mappings or `LabelledQuestion`s. A
    passage is a hit by answer when its text (not its title) contains one by the reference rules; with `regex`, answers
    are regular expressions, as in TREC. It is a hit by label when its id, or its document's, is a label.
    `compare`: another table, or an encoder that embeds the passages again into a temporary table; its rows are called
    "other.dense" and so on. `runs`: a folder for TREC run files, one for each row, and for the labels as qrels.
    A question that an encoder makes no vector of is left out of all rows, and named in `Evaluation.skipped`.
    `rerank`, as in `search`, adds the row "hybrid+reader" of hits whose first `candidates` are re-ranked; `modes` may
    name "bm25+reader" and "dense+reader" too. Other rows are never re-ranked.

        evaluation = dpr_lance.evaluate(retriever, "nq-test.csv")
        {row.name: row.by_answer[20].mean for row in evaluation.rows}

    Raises `InvalidInputError` for questions that cannot be used, with file and line, and when there are none;
    `EncoderError` when a mode cannot be searched (its fallback would be measured under the wrong name), `ReaderError`
    without the re-ranker.
    """
    if not isinstance(retriever, Retriever):
        raise refused("retriever", retriever, "give a Retriever, as `connect` makes it")
    searches, ks = checked_searches(modes, checked_reranker(rerank), candidates), checked_ks(ks)
    regex = checked_flag(regex, "regex")
    folder = None if runs is None else checked_path(runs, "runs", "give the folder for run files")
    if progress is not None:
        checked_callback(progress, "progress")
    if compare is not None and not isinstance(compare, Retriever):
        check_source(compare, "compare")
    report = progress or (lambda _: None)
    started = time.perf_counter()
    with ExitStack() as stack:
        contenders = [_Contender(name, retriever, options) for name, options in searches.items()]
        if isinstance(compare, Retriever):
            contenders += [_Contender(OTHER + name, compare, options) for name, options in searches.items()]
        elif compare is not None:
            place = stack.enter_context(tempfile.TemporaryDirectory(prefix="dpr-lance-eval-"))
            other = stack.enter_context(connect(place, encoder=compare))
            _embed_again(retriever, other, report)
            # BM25 is the same whatever the encoder.
            contenders += [
                _Contender(OTHER + name, other, options, copied=True)
                for name, options in searches.items()
                if options.mode != "bm25"
            ]
        files = None
        if folder is not None:
            files = stack.enter_context(RunFiles(folder, [contender.name for contender in contenders]))
        source = stack.enter_context(closing(read_questions(questions, split=split)))
        tally = _Tally(contenders, ks, regex, files, retriever)
        total = len(questions) if isinstance(questions, Sequence) and not isinstance(questions, str) else None
        while batch := list(itertools.islice(source, QUESTIONS_AT_ONCE)):
            tally.search(batch)
            report(EvaluationProgress("questions", len(tally.outcomes), total))
    return tally.evaluation(time.perf_counter() - started)


def checked_searches(modes: object, rerank: RerankSource, candidates: int) -> dict[str, SearchOptions]:
    """Return how each row searches, by its name."""
    rows = [*MODES, *(mode + READER for mode in MODES)]
    wanted = f"name one or more of {', '.join(rows)}, each once"
    named: list[str] = [checked_choice(mode, "modes", rows) for mode in checked_items(modes, "modes", wanted)]
    if not named or len(set(named)) < len(named):
        raise refused("modes", modes, wanted)
    reranked = [name for name in named if name.endswith(READER)]
    if reranked and rerank is False:
        raise refused("rerank", rerank, f"the row {reranked[0]} needs a re-ranker")
    if rerank is not None and rerank is not False and not reranked:
        named.append("hybrid" + READER)
    source = True if rerank is None else rerank
    return {
        name: SearchOptions(
            mode=checked_choice(name.removesuffix(READER), "modes", MODES),
            rerank=source if name.endswith(READER) else False,
            candidates=candidates,
        ).checked()
        for name in named
    }


def checked_ks(ks: object) -> tuple[int, ...]:
    """Return the numbers of passages, in order, each once; raise `InvalidInputError` for anything else."""
    wanted = "name one or more whole numbers, 1 or more"
    numbers = [checked_whole(k, "ks", wanted, least=1) for k in checked_items(ks, "ks", wanted)]
    if not numbers:
        raise refused("ks", ks, wanted)
    return tuple(sorted(set(numbers)))


def _embed_again(source: Retriever, target: Retriever, report: Callable[[EvaluationProgress], None]) -> None:
    """Copy all passages into another table, whole, under its encoder."""
    total = len(source)
    copies = (
        Document(passage.text, passage.title, passage.id, {"original_document": passage.document_id})
        for passage in source.passages()
    )
    added = target.add(
        copies, splitter=None, progress=lambda done: report(EvaluationProgress("passages", done.passages, total))
    )
    if added.not_embedded:
        raise EncoderError(added.not_embedded)


@dataclass(frozen=True, slots=True)
class _Contender:
    name: str
    retriever: Retriever
    options: SearchOptions
    copied: bool = False

    def search(self, questions: Sequence[LabelledQuestion], k: int) -> list[Hits]:
        texts = [question.text for question in questions]
        mode, rerank, candidates = self.options.mode, self.options.rerank, self.options.candidates
        found = self.retriever.search(texts, k, mode=mode, rerank=rerank, candidates=candidates)
        if (other := next((hits for hits in found if hits.mode != mode), None)) is not None:
            with suppress(EncoderError, MissingExtraError):
                self.retriever.search(texts, 1, mode="dense")  # an `UnencodableError` if a question is the reason
            raise EncoderError(f"{self.name} cannot be measured, {other.mode} alone would answer: {other.fallback}")
        return found

    def ranking(self, hits: Hits, question: LabelledQuestion) -> list[tuple[str, float]]:
        """Return the ids and scores of the hits, best first, each id once.

        A passage has the id by which it is labelled, its own or its document's, else its own. So the rank of the first
        hit is the same here and in ir-measures.
        """
        scores: dict[str, float] = {}
        for hit in hits:
            passage, document = hit.id, hit.document_id
            if self.copied:  # by `_embed_again`, as a document with the passage's id
                passage, document = document, hit.metadata["original_document"]
            labelled = document if document in question.labels and passage not in question.labels else passage
            scores.setdefault(labelled, hit.score)
        return list(scores.items())


@dataclass(slots=True)
class _Tally:
    """Searches for batches of questions in every row, and keeps what the rows are made of."""

    contenders: Sequence[_Contender]
    ks: tuple[int, ...]
    regex: bool
    files: RunFiles | None
    retriever: Retriever
    outcomes: list[EvaluationOutcome] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    _measures: dict[str, list[dict[str, Values]]] = field(default_factory=lambda: defaultdict(list))
    _seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    _rerankers: dict[str, str | None] = field(default_factory=dict)
    _not_measured: str | None = None
    _stored: set[str] = field(default_factory=set)
    """Labels that are ids of stored passages or documents."""
    _missing: set[str] = field(default_factory=set)

    def search(self, batch: Sequence[LabelledQuestion]) -> None:
        """Search in every row; a question that some encoder makes no vector of is left out of all rows."""
        self._look_up_labels(batch)
        while batch:
            try:
                self._take(batch, [self._found(contender, batch) for contender in self.contenders])
            except UnencodableError as error:
                for at, reason in error.reasons.items():
                    place = batch[at].place or f"question {batch[at].id!r}"
                    self.skipped.append(Skipped(place, reason))
                batch = [question for at, question in enumerate(batch) if at not in error.reasons]
            else:
                return

    def _look_up_labels(self, batch: Sequence[LabelledQuestion]) -> None:
        new = sorted({label for question in batch for label in question.labels} - self._stored - self._missing)
        for start in range(0, len(new), _IDS_AT_ONCE):
            part = set(new[start : start + _IDS_AT_ONCE])
            for passage in self.retriever.get(sorted(part)):
                self._stored.update(part & {passage.id, passage.document_id})
        self._missing.update(set(new) - self._stored)

    def _found(self, contender: _Contender, batch: Sequence[LabelledQuestion]) -> tuple[list[Hits], float]:
        """Return a row's hits, and the seconds that they took."""
        started = time.perf_counter()
        return contender.search(batch, max(self.ks)), time.perf_counter() - started

    def _take(self, batch: Sequence[LabelledQuestion], answers: Sequence[tuple[list[Hits], float]]) -> None:
        """Keep what each row found for these questions."""
        language = next((hit.language for found, _ in answers for hits in found for hit in hits), ENGLISH)
        matchers = [question.matcher(regex=self.regex, language=language) for question in batch]
        by_answer: list[dict[str, int]] = [{} for _ in batch]
        by_label: list[dict[str, int]] = [{} for _ in batch]
        if self.files is not None:
            self.files.write_labels(batch)
        for contender, (found, elapsed) in zip(self.contenders, answers, strict=True):
            row = contender.name
            self._seconds[row] += elapsed
            self._rerankers[row] = found[0].reranker
            rankings = [contender.ranking(hits, question) for hits, question in zip(found, batch, strict=True)]
            for at, (question, hits, ranking) in enumerate(zip(batch, found, rankings, strict=True)):
                by_answer[at][row] = first_rank(matchers[at](hit.text) for hit in hits)
                by_label[at][row] = first_rank(label in question.labels for label, _ in ranking)
                if self.files is not None:
                    self.files.write(row, question.id, ranking)
            self._measure(row, batch, rankings)
        for at, question in enumerate(batch):
            ranks = by_answer[at] if question.answers else None, by_label[at] if question.labels else None
            self.outcomes.append(EvaluationOutcome(question.id, question.text, *ranks))

    def _measure(
        self, row: str, batch: Sequence[LabelledQuestion], rankings: Sequence[Sequence[tuple[str, float]]]
    ) -> None:
        labels = [question.labels for question in batch if question.labels]
        if not labels or self._not_measured:
            return
        found = [ranking for question, ranking in zip(batch, rankings, strict=True) if question.labels]
        try:
            self._measures[row].append(
                ranking_measures(labels, [[name for name, _ in each] for each in found], self.ks)
            )
        except MissingExtraError as error:
            self._not_measured = str(error)

    def evaluation(self, seconds: float) -> Evaluation:
        """Return all that was measured."""
        if not self.outcomes:
            why = f": {self.skipped[0].place}: {self.skipped[0].reason}" if self.skipped else ""
            raise InvalidInputError(f"there is no question to evaluate with{why}")
        names = [contender.name for contender in self.contenders]
        ranks: dict[Judgement, dict[str, list[int]]] = {"answer": {}, "label": {}}
        for by, name in itertools.product(ranks, names):
            found = [outcome.ranks(by) for outcome in self.outcomes]
            ranks[by][name] = [row[name] for row in found if row is not None]
        with_answers, with_labels = (len(ranks[by][names[0]]) for by in ranks)
        if self._missing and not self._stored and not with_answers:
            raise InvalidInputError(
                f"none of the {len(self._missing):,} labels of these questions is stored here, for example "
                f"{min(self._missing)!r:.60}: labels are ids of passages or documents of this table"
            )
        return Evaluation(
            questions=len(self.outcomes),
            with_answers=with_answers,
            with_labels=with_labels,
            ks=self.ks,
            rows=tuple(self._row(contender, ranks) for contender in self.contenders),
            pairs=tuple(
                EvaluationPair(
                    first, second, by, k, paired_test(hits_within(rows[first], k), hits_within(rows[second], k))
                )
                for by, rows in ranks.items()
                if rows[names[0]]
                for second, first in itertools.combinations(names, 2)
                for k in self.ks
            ),
            outcomes=tuple(self.outcomes),
            not_measured=self._not_measured,
            seconds=seconds,
            skipped=tuple(self.skipped),
            labels=len(self._stored) + len(self._missing),
            labels_missing=len(self._missing),
        )

    def _row(self, contender: _Contender, ranks: Mapping[Judgement, Mapping[str, Sequence[int]]]) -> EvaluationRow:
        name = contender.name
        accuracy = {
            by: {k: bootstrap(hits_within(found[name], k)) for k in self.ks if found[name]}
            for by, found in ranks.items()
        }
        parts = self._measures[name]
        measures = {
            measure: bootstrap(np.concatenate([part[measure] for part in parts])) for measure in (parts or [{}])[0]
        }
        rate = len(self.outcomes) / self._seconds[name]
        return EvaluationRow(
            name,
            contender.options.mode or "hybrid",
            accuracy["answer"],
            accuracy["label"],
            measures,
            rate,
            self._rerankers[name],
        )
