"""Every number that decides about the indexes, and what is remembered of the vector index's last training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from dpr_lance.records import IndexKind, Metric
from dpr_lance.schema import TableCard
from dpr_lance.store import Store

KIND = "vector_index"
"""Key of the vector index's kind beside the table, where one was asked for."""

TRAINING = "vector_training"
"""Key of the `Training` record beside the table."""


@dataclass(frozen=True, slots=True)
class IndexPolicy:
    """Every number that decides about indexes. Times are from one measurement on 2 cores; ratios are what counts."""

    vector_index_rows: int = 50_000
    """Exact search below: LanceDB scans 50,000 x 384 in about 40 ms, and is then overtaken by a refined IVF-PQ."""
    rows_per_partition: int = 1_024
    """Told to LanceDB as the target size, never as a number of partitions: with a number, its `optimize` joins and
    splits partitions towards a target of its own, and recall@20 at 200,000 rows fell from .85 to .12."""
    kind: IndexKind = "ivf_sq"
    """Of a table that asks for none. Over 171,348 real passages x 384, at equal partitions probed, IVF-SQ took an
    eighth of IVF-PQ's CPU to build (3.4 s), .9 of its time a question, .7 in batches, and four times its size (66 MB).
    """
    dimensions_per_sub_vector: int = 4
    """Of IVF-PQ. d/4 sub-vectors: the default d/16 loses most of the ranking before it is refined."""
    kmeans_iterations: int = 5
    """50, LanceDB's default, costs about 8 times as much and buys next to nothing once hits are refined."""
    sample_rate: int = 64
    """Rows sampled for each centroid. LanceDB's 256 held a quarter of a table in memory twice, and found the same
    partitions: recall on 171,348 real passages was the same within .005 at every effort, with .4 of the time."""
    target_recall: float = 0.98
    """Recall@20 against exact search that probing is widened for."""
    question_noise: float = 1.0
    """Length of the noise, as a share of a vector's, that is added to stored vectors where they stand in for questions,
    which lie less close to passages. Over 171,348 real passages, where an index found .970 of real questions'
    neighbours, it found .983 of these and .993 of the vectors' own; `calibrate` measures with real ones."""
    probed_shares: tuple[float, ...] = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0)
    """Shares of the partitions that are tried for it. The larger the table, the smaller the share it takes."""
    refine_sq: int = 2
    """Candidates re-scored on stored vectors, as a multiple of the hits asked for; 4 found no more."""
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
    keep_versions: timedelta = timedelta(milliseconds=1)
    """Versions older than this are freed. The age protects no reader (LanceDB counts it from a version's writing, not
    from its replacement): reads are repeated instead, see `Store.steadily`."""
    keep_versions_remotely: timedelta = timedelta(hours=1)
    """The same where no file lock keeps a clean-up and a writer apart, who must not overlap: see `Store.commit`."""
    recall_questions: int = 50
    recall_at: int = 20
    recall_growth: float = 1.25
    """Measure recall again when the table has so many times the rows of the last measurement."""
    retrain_effort: float = 3.0
    """Train anew when so many times the probes of the training are needed."""

    def refine_factor(self, kind: IndexKind) -> int:
        """Return the multiple of the hits asked for that is re-scored on stored vectors."""
        return self.refine_sq if kind == "ivf_sq" else self.refine_pq


POLICY = IndexPolicy()


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
    measured_rows: int = 0
    metric: Metric = "dot"
    """What the index orders by."""
    kind: IndexKind = "ivf_pq"
    """What records of earlier tables, which do not tell, are taken for: an index of another kind is trained anew."""


def training_of(store: Store, card: TableCard) -> Training | None:
    """Return the record of the last training on the card's vectors; None when there was none."""
    return training_in(store.state(), card)


def training_in(state: Mapping[str, Any], card: TableCard) -> Training | None:
    """Return the same from what is remembered beside the table."""
    value = state.get(TRAINING)
    training = None if value is None else Training(**value)
    return training if training is not None and training.column == card.column else None


def kind_of(store: Store, card: TableCard, policy: IndexPolicy) -> IndexKind:
    """Return the kind of vector index that the table asks for, where its vectors can have it, or the policy's."""
    asked: IndexKind = store.state().get(KIND, {}).get("kind", policy.kind)
    return asked if suits(asked, card) else policy.kind


def suits(kind: IndexKind, card: TableCard) -> bool:
    """Tell whether the card's vectors can have this kind of index: IVF-PQ is for unit vectors alone.

    What LanceDB folds into an IVF-PQ index of inner products is scored out of line with the rest: recall fell by .12
    over seven folds of 2 %.
    """
    return kind != "ivf_pq" or card.encoder.normalise


def remember(store: Store, training: Training) -> None:
    """Keep the record of the last training beside the table."""
    store.remember(**{TRAINING: dataclasses.asdict(training)})
