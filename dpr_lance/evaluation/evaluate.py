"""How well a table answers labelled questions: accuracy of each mode, intervals, and what differs between them."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

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
from dpr_lance.evaluation.labels import StoredLabels
from dpr_lance.evaluation.metrics import (
    Interval,
    PairedTest,
    Values,
    bootstrap,
    first_rank,
    hits_within,
    paired_test,
    ranking_measures,
)
from dpr_lance.evaluation.trec import RunFiles
from dpr_lance.readers.questions import LabelledQuestion, QuestionSource, read_questions
from dpr_lance.records.hits import MODES, Hit, Hits, Mode
from dpr_lance.records.reports import Progress, Skipped
from dpr_lance.retriever import Retriever
from dpr_lance.search.candidates import QUESTIONS_AT_ONCE
from dpr_lance.table.encoder import EncoderSource, check_source
from dpr_lance.text.answers import AnswerMatcher

KS = (1, 5, 20, 100)
"""The paper's k (appendix B); the last one is how deep is searched."""
EVALUATED: tuple[Mode, ...] = ("bm25", "dense", "hybrid")
OTHER = "other."
"""Begins the names of the rows of the table or encoder that is compared with."""
HEADLINE_K = 20

Judgement = Literal["answer", "label"]
"""Whether a passage counts as a hit because it holds an answer, or because it is labelled."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one mode reaches: shares from 0 to 1 with their 95 % bootstrap intervals.

    `by_answer` and `by_label` give top-k accuracy by k (empty where no question has answers, or labels), `measures`
    MRR@10, nDCG@10 and recall@k by labelled passage. `questions_per_second` is that of searching in batches.
    """

    name: str
    mode: Mode
    by_answer: Mapping[int, Interval]
    by_label: Mapping[int, Interval]
    measures: Mapping[str, Interval]
    questions_per_second: float


@dataclass(frozen=True, slots=True)
class Pair:
    """Two rows on the same questions: top-k accuracy of `first` beside that of `second`."""

    first: str
    second: str
    by: Judgement
    k: int
    test: PairedTest


@dataclass(frozen=True, slots=True)
class Outcome:
    """One question: the rank of its first hit in each row, 0 where there is none within the depth searched.

    None where the question has no answers, or no labels.
    """

    id: str
    text: str
    by_answer: Mapping[str, int] | None
    by_label: Mapping[str, int] | None

    def ranks(self, by: Judgement) -> Mapping[str, int] | None:
        """Return the ranks by row."""
        return self.by_answer if by == "answer" else self.by_label


@dataclass(frozen=True)
class Evaluation:
    """The rows of an evaluation, what differs between them, and each question's outcome."""

    questions: int
    with_answers: int
    with_labels: int
    ks: tuple[int, ...]
    rows: tuple[Row, ...]
    pairs: tuple[Pair, ...]
    """Each two rows, at each k, by answer and by label."""
    outcomes: tuple[Outcome, ...]
    not_measured: str | None
    """Why there is no MRR, nDCG and recall, although questions have labels; None when there is."""
    seconds: float
    skipped: tuple[Skipped, ...] = ()
    """Questions that an encoder makes no vector of: no row was measured on them."""
    labels: int = 0
    labels_missing: int = 0
    """Different labels, and how many of them are the id of no stored passage or document."""

    @property
    def headline(self) -> tuple[Judgement, int]:
        """What is looked at first: by answer where questions have answers, top-20 where that was asked for."""
        return "answer" if self.with_answers else "label", HEADLINE_K if HEADLINE_K in self.ks else max(self.ks)

    def accuracy_over_k(self, row: str, by: Judgement) -> Values:
        """Return top-k accuracy of a row for k = 1, 2, ... up to the depth searched."""
        ranks = [found[row] for outcome in self.outcomes if (found := outcome.ranks(by)) is not None]
        return np.array([hits_within(ranks, k).mean() for k in range(1, max(self.ks) + 1)])

    def disagreements(self, by: Judgement, k: int) -> Iterator[Outcome]:
        """Yield the questions that some row answers within the first k, and another does not."""
        for outcome in self.outcomes:
            ranks = outcome.ranks(by)
            if ranks is not None and len({0 < rank <= k for rank in ranks.values()}) > 1:
                yield outcome


@dataclass(frozen=True, slots=True)
class EvaluationProgress:
    """How far `evaluate` has come: passages embedded for a comparison, then questions; the total where it is known."""

    stage: Literal["passages", "questions"]
    done: int
    total: int | None


def evaluate(  # noqa: PLR0913 - keywords, each with its default
    retriever: Retriever,
    questions: QuestionSource,
    *,
    modes: Sequence[Mode] = EVALUATED,
    ks: Sequence[int] = KS,
    regex: bool = False,
    split: str | None = None,
    compare: Retriever | EncoderSource | None = None,
    runs: str | Path | None = None,
    progress: Callable[[EvaluationProgress], None] | None = None,
) -> Evaluation:
    """Measure how well a table's searches answer labelled questions (top-k accuracy: paper, section 5).

    `questions`: a file or BEIR folder (`split` names its qrels), or an iterable; see `dpr_lance.readers.questions`. A
    passage is a hit by answer when its text (not its title) holds one, by the reference rules; with `regex` answers
    are regular expressions, as TREC's. It is a hit by label when its id, or its document's, is labelled.
    `compare`: another table, or an encoder under which the passages are embedded once more, into a temporary table; its
    rows are called "other.dense" and so on. `runs`: a folder for TREC run files, one a row, and the labels as qrels.
    Questions are read and asked in batches; what is kept of each are its text and its ranks. A question that an encoder
    makes no vector of is left out of all rows, and named in `Evaluation.skipped`.

        evaluation = dpr_lance.evaluate(retriever, "nq-test.csv")
        {row.name: row.by_answer[20].mean for row in evaluation.rows}

    Raises `InvalidInputError` for questions that cannot be used, naming file and line, and where there is none;
    `EncoderError` when a mode cannot be searched (a fallback would be measured under a wrong name).
    """
    if not isinstance(retriever, Retriever):
        raise refused("retriever", retriever, "give a Retriever, as `connect` makes it")
    modes, ks = _checked_modes(modes), _checked_ks(ks)
    regex = checked_flag(regex, "regex")
    folder = None if runs is None else checked_path(runs, "runs", "give the folder for run files")
    if progress is not None:
        checked_callback(progress, "progress")
    if compare is not None and not isinstance(compare, Retriever):
        check_source(compare, "compare")
    started = time.perf_counter()
    with ExitStack() as stack:
        contenders = [_Contender(mode, retriever, mode, _ids) for mode in modes]
        if isinstance(compare, Retriever):
            contenders += [_Contender(OTHER + mode, compare, mode, _ids) for mode in modes]
        elif compare is not None:
            place = stack.enter_context(tempfile.TemporaryDirectory(prefix="dpr-lance-eval-"))
            other = stack.enter_context(connect(place, encoder=compare))
            _embed_again(retriever, other, progress)
            # BM25 is the same whatever the encoder.
            contenders += [_Contender(OTHER + mode, other, mode, _original_ids) for mode in modes if mode != "bm25"]
        rows = [each.name for each in contenders]
        files = None if folder is None else stack.enter_context(RunFiles(folder, rows))
        asked = stack.enter_context(closing(read_questions(questions, split=split)))
        tally = _Tally(contenders, ks, regex, files, StoredLabels(retriever))
        total = len(questions) if isinstance(questions, Sequence) and not isinstance(questions, str) else None
        while batch := list(itertools.islice(asked, QUESTIONS_AT_ONCE)):
            tally.ask(batch)
            if progress is not None:
                progress(EvaluationProgress("questions", len(tally.outcomes), total))
    return tally.evaluation(time.perf_counter() - started)


def _checked_modes(modes: object) -> tuple[Mode, ...]:
    wanted = f"name one or more of {', '.join(MODES)}, each once"
    named = [checked_choice(mode, "modes", MODES) for mode in checked_items(modes, "modes", wanted)]
    if not named or len(set(named)) < len(named):
        raise refused("modes", modes, wanted)
    return tuple(named)


def _checked_ks(ks: object) -> tuple[int, ...]:
    wanted = "name one or more whole numbers from 1 on"
    numbers = [checked_whole(k, "ks", wanted, least=1) for k in checked_items(ks, "ks", wanted)]
    if not numbers:
        raise refused("ks", ks, wanted)
    return tuple(sorted(set(numbers)))


def _ids(hit: Hit) -> tuple[str, str]:
    """Return the ids that a label may name a passage by: its own and its document's."""
    return hit.id, hit.document_id


def _original_ids(hit: Hit) -> tuple[str, str]:
    """Return the same for a passage that `_embed_again` has copied: as a document of the passage's id."""
    return hit.document_id, str(hit.metadata["original_document"])


def _embed_again(source: Retriever, target: Retriever, progress: Callable[[EvaluationProgress], None] | None) -> None:
    """Copy all passages into another table, whole, under its encoder."""
    total = len(source)

    def tell(advance: Progress) -> None:
        if progress is not None:
            progress(EvaluationProgress("passages", advance.passages, total))

    copies = (
        Document(passage.text, passage.title, passage.id, {"original_document": passage.document_id})
        for passage in source.passages()
    )
    report = target.add(copies, splitter=None, progress=tell)
    if report.not_embedded:
        raise EncoderError(report.not_embedded)


@dataclass(frozen=True, slots=True)
class _Contender:
    name: str
    retriever: Retriever
    mode: Mode
    ids: Callable[[Hit], tuple[str, str]]

    def search(self, questions: Sequence[LabelledQuestion], k: int) -> list[Hits]:
        texts = [question.text for question in questions]
        found = self.retriever.search(texts, k, mode=self.mode)
        if (other := next((hits for hits in found if hits.mode != self.mode), None)) is not None:
            with suppress(EncoderError, MissingExtraError):
                self.retriever.search(texts, 1, mode="dense")  # an `UnencodableError` where a question is why
            raise EncoderError(f"{self.name} cannot be measured, {other.mode} alone would answer: {other.fallback}")
        return found


@dataclass(slots=True)
class _Tally:
    """Asks batches of questions in every row, and keeps what the rows are made of."""

    contenders: Sequence[_Contender]
    ks: tuple[int, ...]
    regex: bool
    files: RunFiles | None
    stored: StoredLabels
    outcomes: list[Outcome] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    _measures: dict[str, list[dict[str, Values]]] = field(default_factory=dict)
    _seconds: dict[str, float] = field(default_factory=dict)
    _not_measured: str | None = None

    def ask(self, batch: Sequence[LabelledQuestion]) -> None:
        """Ask the questions in every row; one that some encoder makes no vector of is left out of all of them."""
        self.stored.look_up(batch)
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

    def _found(self, contender: _Contender, batch: Sequence[LabelledQuestion]) -> tuple[list[Hits], float]:
        """Return a row's hits, and the seconds that they took."""
        started = time.perf_counter()
        return contender.search(batch, max(self.ks)), time.perf_counter() - started

    def _take(self, batch: Sequence[LabelledQuestion], answers: Sequence[tuple[list[Hits], float]]) -> None:
        """Keep what each row found for these questions."""
        matchers = [question.matcher(regex=self.regex) for question in batch]
        by_answer: list[dict[str, int]] = [{} for _ in batch]
        by_label: list[dict[str, int]] = [{} for _ in batch]
        if self.files is not None:
            self.files.write_labels(batch)
        for contender, (found, elapsed) in zip(self.contenders, answers, strict=True):
            self._seconds[contender.name] = self._seconds.get(contender.name, 0.0) + elapsed
            rankings = [_ranking(hits, question, contender) for hits, question in zip(found, batch, strict=True)]
            for number, (question, hits) in enumerate(zip(batch, found, strict=True)):
                by_answer[number][contender.name] = _answered(hits, matchers[number])
                by_label[number][contender.name] = first_rank(name in question.labels for name, _ in rankings[number])
                if self.files is not None:
                    self.files.write(contender.name, question.id, rankings[number])
            self._measure(contender.name, batch, rankings)
        for question, answered, labelled in zip(batch, by_answer, by_label, strict=True):
            ranks = answered if question.answers else None, labelled if question.labels else None
            self.outcomes.append(Outcome(question.id, question.text, *ranks))

    def _measure(
        self, name: str, batch: Sequence[LabelledQuestion], rankings: Sequence[Sequence[tuple[str, float]]]
    ) -> None:
        chosen = [number for number, question in enumerate(batch) if question.labels]
        if not chosen or self._not_measured:
            return
        labels = [batch[number].labels for number in chosen]
        names = [[passage for passage, _ in rankings[number]] for number in chosen]
        try:
            self._measures.setdefault(name, []).append(ranking_measures(labels, names, self.ks))
        except MissingExtraError as error:
            self._not_measured = str(error)

    def evaluation(self, seconds: float) -> Evaluation:
        """Return all that was measured."""
        if not self.outcomes:
            why = f": {self.skipped[0].place}: {self.skipped[0].reason}" if self.skipped else ""
            raise InvalidInputError(f"there is no question to evaluate with{why}")
        ranks: dict[Judgement, dict[str, list[int]]] = {"answer": {}, "label": {}}
        for by, contender in itertools.product(ranks, self.contenders):
            found = [outcome.ranks(by) for outcome in self.outcomes]
            ranks[by][contender.name] = [row[contender.name] for row in found if row is not None]
        counts = {by: len(ranks[by][self.contenders[0].name]) for by in ranks}
        self.stored.check(judged_otherwise=counts["answer"] > 0)
        return Evaluation(
            questions=len(self.outcomes),
            with_answers=counts["answer"],
            with_labels=counts["label"],
            ks=self.ks,
            rows=tuple(self._row(contender, ranks) for contender in self.contenders),
            pairs=tuple(
                Pair(first.name, second.name, by, k, paired_test(*hits))
                for by in ranks
                if counts[by]
                for second, first in itertools.combinations(self.contenders, 2)
                for k in self.ks
                for hits in [[hits_within(ranks[by][row.name], k) for row in (first, second)]]
            ),
            outcomes=tuple(self.outcomes),
            not_measured=self._not_measured,
            seconds=seconds,
            skipped=tuple(self.skipped),
            labels=len(self.stored.found) + len(self.stored.missing),
            labels_missing=len(self.stored.missing),
        )

    def _row(self, contender: _Contender, ranks: Mapping[Judgement, Mapping[str, Sequence[int]]]) -> Row:
        accuracy = {
            by: {k: bootstrap(hits_within(found[contender.name], k)) for k in self.ks if found[contender.name]}
            for by, found in ranks.items()
        }
        parts = self._measures.get(contender.name, [])
        measures = {name: bootstrap(np.concatenate([part[name] for part in parts])) for name in (parts or [{}])[0]}
        rate = len(self.outcomes) / self._seconds[contender.name]
        return Row(contender.name, contender.mode, accuracy["answer"], accuracy["label"], measures, rate)


def _answered(hits: Hits, holds_answer: AnswerMatcher) -> int:
    return first_rank(holds_answer(hit.text) for hit in hits)


def _ranking(hits: Hits, question: LabelledQuestion, contender: _Contender) -> list[tuple[str, float]]:
    """Return the names and scores of what was found, best first, each name once.

    A passage has the name by which it is labelled, its own or its document's, else its own. So the rank of the first
    hit is the same here and in what ir-measures counts.
    """
    scores: dict[str, float] = {}
    for hit in hits:
        passage, document = contender.ids(hit)
        named = document if document in question.labels and passage not in question.labels else passage
        scores.setdefault(named, hit.score)
    return list(scores.items())
