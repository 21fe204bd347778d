"""Every number that decides about the indexes, and what is remembered of the vector index's last training."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from dpr_lance.errors import DamagedTableError
from dpr_lance.records.hits import Metric
from dpr_lance.records.table_info import IndexKind
from dpr_lance.table.files import REBUILD
from dpr_lance.table.schema import TableCard
from dpr_lance.table.store import Store

T = TypeVar("T")

KIND = "vector_index"
"""Key of the vector index's kind beside the table, where one was asked for."""

TRAINING = "vector_training"
"""Key of the `Training` record beside the table."""


@dataclass(frozen=True, slots=True)
class IndexPolicy:
    """Every number that decides about indexes. Times are from one measurement on 2 cores; ratios are what counts."""

    vector_index_rows: int = 50_000
    """Exact search below: LanceDB scans 50,000 x 384 in about 40 ms, and is then overtaken by a refined index."""
    rows_per_partition: int = 1_024
    """Told to LanceDB as the target size, never as a number of partitions: with a number, its `optimize` joins and
    splits partitions towards a target of its own, and recall@20 at 200,000 rows fell from .85 to .12.
    With 512, three probes found .89 of the neighbours in a million made vectors; with 1,024 one probe found .99."""
    kind: IndexKind = "ivf_rq"
    """Of a table that asks for none and can have it. Scoring 1,024 inner products x 768 takes LanceDB .01 ms with
    IVF-RQ, .18 with IVF-PQ and .44 with IVF-SQ, where it adds up product by product. Over 171,348 real passages x 384,
    by cosine, IVF-RQ and IVF-SQ took equal time, found equally many, and IVF-RQ is half the size (35 MiB)."""
    bits_per_dimension: int = 4
    """Of IVF-RQ. With 4 as many neighbours were found as with 8 or with IVF-SQ, with no more candidates scored again
    than are asked for; 3 needed twice as many, 1 (a quarter of the size) ten times."""
    dimensions_per_sub_vector: int = 4
    """Of IVF-PQ. d/4 sub-vectors: the default d/16 loses most of the ranking before it is refined."""
    kmeans_iterations: int = 5
    """50, LanceDB's default, costs about 8 times as much and buys next to nothing once hits are refined."""
    sample_rate: int = 64
    """Rows sampled for each centroid. LanceDB's 256 held a quarter of a table in memory twice, and found the same
    partitions: recall on 171,348 real passages was the same within .005 at every effort, with .4 of the time."""
    target_recall: float = 0.98
    """Recall@20 against exact search that probing is widened for."""
    question_noise: float = 1.75
    """Length of the noise, as a share of a vector's distance from the mean, that is added to stored vectors where they
    stand in for questions, which lie less close to passages. Over 171,348 real passages, where half of the partitions
    found .985 of real questions' neighbours, they found .981 of these, .995 with noise of length 1, and .997 of the
    vectors' own; `calibrate` measures with real ones."""
    probed_shares: tuple[float, ...] = (
        *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15),
        *(0.2, 0.275, 0.35, 0.425, 0.5, 0.6, 0.7, 1.0),
    )
    """Shares of the partitions that are tried for it. The larger the table, the smaller the share it takes."""
    refine_rq: int = 1
    """Candidates re-scored on stored vectors, as a multiple of what is asked for; 2 found no more."""
    refine_sq: int = 2
    """The same for IVF-SQ; 4 found no more."""
    refine_pq: int = 4
    """The same for IVF-PQ, where 2 lost .01 of recall."""
    retrain_growth: float = 2.0
    """Train anew when this many times the rows of the last training are embedded."""
    scalar_index_rows: int = 10_000
    fold_rows: int = 200
    """Rows outside the BM25 index are scanned by every search at 30 to 100 ms per 1,000: with 200 in a small table a
    hybrid search took 36 ms, and 13 once they were folded, which took 70."""
    fold_share: float = 0.02
    """Folding rewrites the BM25 index, at about 20 CPU-seconds a million rows: `add` folds once the tail is beyond both
    this share and `fold_rows`, so that its cost per added row does not grow with the table."""
    fold_rows_least: int = 50
    fold_share_small: float = 0.1
    """A small table is folded from so many rows on, at this share: LanceDB counts words in the index and in the tail
    apart, and only among what a filter leaves. With 450 of 900 passages in the tail BM25 scores were off by 1.8 of 13
    on average (82 of 900: 0.26), and a 27th of the ten best hits were others; folding so few takes 0.1 s."""
    rebuild_rows: int = 20_000
    """Build the BM25 index anew when so many rows are to be folded into it: merging, as LanceDB does, takes six times
    the index's size on disk in memory (200 MiB at 200,000 passages), building bounded memory and 2.5 times the CPU."""
    bulk_fold_share: float = 0.5
    """Within one long `add`, fold only when the tail has grown to this share of the table."""
    fold_fragments: int = 32
    """Every commit leaves a file and a version: fold when this many have come, or `fragment_share` of the rows."""
    fragment_share: float = 0.002
    fold_fragments_most: int = 200
    recall_questions: int = 200
    """Stored vectors that stand in for questions. An index misses many neighbours of few questions: of 50, the recall
    that was measured strayed by .02."""
    recall_at: int = 20
    recall_change: float = 0.25
    """Measure recall again when so large a share of the table has been added or replaced since the last measurement."""
    retrain_effort: float = 3.0
    """Train anew when so many times the probes of the training are needed, or of `retrain_share` of the partitions."""
    retrain_share: float = 0.02
    """Where fewer partitions than these were enough, that was luck: their number varies by some times itself."""
    most_parts: int = 8
    """Train anew when the index is in more parts than these and the table has grown by `parts_growth`. Every fold adds
    a part, and all are probed: among 100,000 real passages a search took 4 ms of CPU in one part, 9 in 8, 13 in 16."""
    parts_growth: float = 1.1
    """So that building stays small beside embedding what was added, however often `optimize` is called."""
    retrain_fall: float = 0.03
    """Train anew, too, when recall is below what is aimed at and by so much below that of the training."""

    def refine_factor(self, kind: IndexKind) -> int:
        """Return the multiple of the hits asked for that is re-scored on stored vectors."""
        return {"ivf_rq": self.refine_rq, "ivf_sq": self.refine_sq, "ivf_pq": self.refine_pq}[kind]


POLICY = IndexPolicy()

SPARE_HITS = 10
"""See `with_spare`."""


def with_spare(k: int) -> int:
    """Return how many candidates a leg is asked for that alone answers with k hits.

    More than k, so that ties at the end are ordered too, and that an index scores more of them again on stored vectors:
    of the 100 nearest real questions lost .012 with 10 more.
    """
    return k + max(SPARE_HITS, k // 2)


@dataclass(frozen=True, slots=True)
class Training:
    """What is remembered of the vector index's last training."""

    column: str
    rows: int
    partitions: int
    recall: float | None = None
    """Recall@20 against exact search when it was last measured, with stored vectors and noise as questions."""
    probes: int = 0
    """How many partitions a search probes at the least, as that measurement has found; 0 before it: then all are."""
    trained_probes: int = 0
    """The same right after the training."""
    trained_recall: float | None = None
    """Recall right after the training."""
    measured_rows: int = 0
    """The table's rows when recall was last measured."""
    changed_rows: int = 0
    """Vectors that were put into the index since then, of new passages or of changed ones."""
    metric: Metric = "dot"
    """What the index orders by."""
    kind: IndexKind = "ivf_pq"
    """What records of earlier tables, which do not tell, are taken for: an index of another kind is trained anew."""


def training_of(store: Store, card: TableCard) -> Training | None:
    """Return the record of the last training on the card's vectors; None when there was none."""
    return training_in(store.remembered.values(), card)


def training_in(state: Mapping[str, Any], card: TableCard) -> Training | None:
    """Return the same from what is remembered beside the table."""
    value = state.get(TRAINING)
    training = None if value is None else record_of(Training, value, TRAINING)
    return training if training is not None and training.column == card.column else None


def record_of(kind: Callable[..., T], fields: Mapping[str, Any], key: str) -> T:
    """Return a record of what is kept under a key of the small table; raise `DamagedTableError` when it is none."""
    try:
        return kind(**fields)
    except (TypeError, ValueError, KeyError) as error:
        raise DamagedTableError(f"what the small table keeps under {key!r} is damaged ({error}); {REBUILD}") from error


def kind_of(store: Store, card: TableCard, policy: IndexPolicy) -> IndexKind:
    """Return the kind of vector index that the table asks for, where its vectors can have it, or the usual one."""
    asked: IndexKind = store.remembered.values().get(KIND, {}).get("kind", policy.kind)
    kinds: tuple[IndexKind, ...] = (asked, policy.kind, "ivf_sq")
    return next(kind for kind in kinds if unfit(kind, card) is None)


def unfit(kind: IndexKind, card: TableCard) -> str | None:
    """Return why the card's vectors cannot have this kind of index; None where they can: all can have IVF-SQ.

    What LanceDB folds into an IVF-PQ index of inner products is scored out of line with the rest: recall fell by .12
    over seven folds of 2 %. IVF-RQ it builds for whole bytes alone.
    """
    encoder = card.encoder
    if kind == "ivf_pq" and not encoder.normalise:
        return f"is for unit vectors, and those of {encoder.name!r} are not"
    if kind == "ivf_rq" and encoder.dimension % 8:
        return f"is for dimensions that 8 divides, and vectors of {encoder.name!r} have {encoder.dimension}"
    return None


def remember(store: Store, training: Training) -> None:
    """Keep the record of the last training beside the table."""
    store.remembered.keep(**{TRAINING: dataclasses.asdict(training)})
