"""What a search is asked for: the keyword arguments of `Retriever.search`, checked, in one record."""

from __future__ import annotations

from dataclasses import dataclass

from dpr_lance.checks import checked_choice, checked_flag, checked_number, checked_seconds, checked_whole
from dpr_lance.reader.choice import RerankSource, checked_reranker
from dpr_lance.records.hits import CANDIDATES, MODES, Mode
from dpr_lance.search.grouping import Grouping
from dpr_lance.search.selection import Page, Selection, checked_selection
from dpr_lance.table.filters import Filter


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How to search; see `Retriever.search`. `where` is checked when the table is read."""

    k: int = 10
    mode: Mode | None = None
    where: Filter = None
    explain: bool = False
    rerank: RerankSource = None
    candidates: int = CANDIDATES
    rerank_within: float | None = None
    group_by: str | None = None
    per_group: int = 1
    diversity: float = 0.0
    offset: int = 0
    min_score: float | None = None
    learn: bool = True
    """Whether the table may learn from these questions."""

    def checked(self) -> SearchOptions:
        """Return the options with plain values; raise `InvalidInputError` that names an argument to change."""
        seconds = "give the seconds that re-ranking a question may take, more than 0, or None"
        return SearchOptions(
            k=checked_whole(self.k, "k", "ask for at least 1 hit, as a whole number", least=1),
            mode=None if self.mode is None else checked_choice(self.mode, "mode", MODES),
            where=self.where,
            explain=checked_flag(self.explain, "explain"),
            rerank=checked_reranker(self.rerank),
            candidates=checked_whole(
                self.candidates, "candidates", "re-score at least 1 hit, as a whole number", least=1
            ),
            rerank_within=None
            if self.rerank_within is None
            else checked_seconds(self.rerank_within, "rerank_within", seconds),
            **checked_selection(self.group_by, self.per_group, self.diversity),
            offset=checked_whole(
                self.offset, "offset", "give the number of hits to leave out, 0 or more, as a whole number", least=0
            ),
            min_score=None
            if self.min_score is None
            else checked_number(
                self.min_score, "min_score", "give the lowest score of a hit, a finite number, or None"
            ),
        )

    def pool(self, *, reranks: bool) -> int:
        """Return how many hits retrieval finds for the later stages: re-ranking, groups and diversity, the page."""
        pool = self.selection.pool(self.page.end)
        return max(pool, self.candidates) if reranks else pool

    @property
    def page(self) -> Page:
        """The part of the chosen hits that is the result."""
        return Page(self.k, self.offset, self.min_score)

    @property
    def selection(self) -> Selection:
        """How the result is chosen from the ranked hits."""
        return Selection(None if self.group_by is None else Grouping(self.group_by, self.per_group), self.diversity)
