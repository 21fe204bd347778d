"""What a table that nobody has calibrated learns from the questions that it is asked: λ."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, fields
from typing import Any, NamedTuple

import numpy as np

from dpr_lance.errors import DprLanceError, LockedError
from dpr_lance.records.hits import Mode, WeightSource
from dpr_lance.records.table_info import LearnedWeight
from dpr_lance.search.agreement import Agreement, agreement_on, weight_in_scale
from dpr_lance.search.candidates import LegResults
from dpr_lance.table.schema import TableCard
from dpr_lance.table.store import Store
from dpr_lance.table.tuning import calibration_in, keep_learned, learned_in

FIRST, LAST = 10, 160
"""Questions after which λ is set for the first and for the last time; in between, whenever their number has doubled.
On 28 sets, 20 questions brought five sixths of what all 225 to 600 brought, and 50 nearly all."""
DEPTH = 100
"""Candidates of each leg that count. Of fewer than these in all, from a small table, nothing is learnt."""

_LOG = logging.getLogger("dpr_lance")
_SUMS = [field.name for field in fields(Agreement)]


class Ranking(NamedTuple):
    """How a table's searches rank without arguments: λ, where it is from, and the mode."""

    weight: float
    source: WeightSource
    mode: Mode


class AskedQuestions:
    """The questions of one retriever that its table has not learnt from yet, as sums; shared by threads."""

    def __init__(self, store: Store, *, learn: bool) -> None:
        self._store, self._learn = store, learn
        self._lock = threading.Lock()
        self._sums, self._column = Agreement(), ""
        self._own: LearnedWeight | None = None
        """What could not be stored."""
        self.counted = True
        """Whether any of the questions of the last search counted; at first, yes."""

    def ranking_in(self, values: Mapping[str, Any], card: TableCard) -> Ranking:
        """Return how to rank by these values of the small table: calibrated, else learnt, else the encoder's λ."""
        calibration = calibration_in(values, card)
        if calibration is not None:
            return Ranking(calibration.hybrid_weight, "calibration", calibration.mode)
        learned = self.learned_in(values, card)
        if learned is not None:
            return Ranking(learned.hybrid_weight, "questions", card.mode)
        return Ranking(card.encoder.hybrid_weight, "encoder", card.mode)

    def learned_in(self, values: Mapping[str, Any], card: TableCard) -> LearnedWeight | None:
        """Return what the table has learnt, here or in another process; None where that does not count."""
        if not self._learn or calibration_in(values, card) is not None:
            return None
        known, own = learned_in(values, card), self._own
        if own is not None and own.column == card.column and (known is None or known.questions < own.questions):
            return own
        return known

    def wanted_in(self, values: Mapping[str, Any], card: TableCard) -> int:
        """Return how many further questions set λ again; 0 where nothing is to be learnt."""
        if not self._learn or calibration_in(values, card) is not None:
            return 0
        known = self.learned_in(values, card)
        count = 0 if known is None else known.questions
        pending = self._sums.questions if self._column == card.column else 0
        return 0 if count >= LAST else max(1, max(FIRST, count) - pending)

    def note(self, agreements: Iterable[Agreement], card: TableCard) -> None:
        """Count the questions of a search; set λ and store it where there are enough of them.

        That never fails: what cannot be stored holds for this retriever.
        """
        heard = list(agreements)
        self.counted = any(each.questions for each in heard)
        with self._lock:
            if self._column != card.column:
                self._sums, self._column = Agreement(), card.column
            for each in heard:  # one by one, so that a list of questions gives the same sums to the last bit
                self._sums += each
            values = self._store.remembered.values()
            known = self.learned_in(values, card)
            if self._sums.questions < max(FIRST, 0 if known is None else known.questions):
                return
            if self._store.remembered.is_lost():
                return  # storing would make the small table again, and hide what it has lost
            learned = _learned(self._sums, known, card)
            try:
                keep_learned(self._store, learned)
            except LockedError:
                return  # another process is writing: after the next question
            except DprLanceError as error:
                _LOG.info("what the questions say about λ holds for this retriever, and is not stored: %s", error)
                self._own = learned
            self._sums = Agreement()


def agreements_in(found: LegResults) -> Iterator[Agreement]:
    """Yield what each question of a hybrid search says, where its candidates have all their scores."""
    for legs, candidates in zip(found.legs, found.candidates, strict=True):
        if legs.dense is None or legs.bm25 is None or len(candidates) < DEPTH:
            continue
        first = np.concatenate([legs.dense.row_ids[:DEPTH], legs.bm25.row_ids[:DEPTH]])
        counted = np.isin(candidates.row_ids, first)
        yield agreement_on(candidates.dense[counted], candidates.bm25[counted])


def _learned(sums: Agreement, known: LearnedWeight | None, card: TableCard) -> LearnedWeight:
    if known is not None:
        sums += Agreement(**{name: getattr(known, name) for name in _SUMS})
    weight = sums.weight(weight_in_scale(card.encoder.hybrid_weight, sums.balanced))
    return LearnedWeight(hybrid_weight=weight, column=card.column, **asdict(sums))
