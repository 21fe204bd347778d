"""Every number that decides when indexes are built and how thoroughly they are searched."""

from __future__ import annotations

from dataclasses import dataclass

from dpr_lance.records.hits import Mode
from dpr_lance.records.table_info import IndexKind

MOST_CANDIDATES = 2**31 - 1
"""The largest limit that LanceDB takes; no table has as many passages."""


@dataclass(frozen=True, slots=True)
class IndexPolicy:
    """When a table's indexes are built, and how they are searched. docs/decisions.md has the measurements."""

    # The vector index
    vector_index_rows: int = 50_000
    """Search is exact below: LanceDB scans 50,000 x 384 in about 40 ms, and then a refined index is faster."""
    rows_per_partition: int = 1_024
    """A target size for LanceDB, never a number of partitions: its `optimize` ruins those."""
    kind: IndexKind = "ivf_rq"
    """The default kind: the fastest, as accurate as IVF-SQ at half its size."""
    bits_per_dimension: int = 4
    """Of IVF-RQ. 4 found as many neighbours as 8; 3 needed twice as many candidates, 1 ten times."""
    dimensions_per_sub_vector: int = 4
    """Of IVF-PQ. LanceDB's default of 16 loses most of the ranking before it is refined."""
    kmeans_iterations: int = 5
    """LanceDB's default of 50 takes about 8 times as long and improves refined hits hardly at all."""
    sample_rate: int = 64
    """Rows sampled for each centroid."""
    refine_rq: int = 1
    """Candidates scored again on stored vectors, as a multiple of those requested; 2 found no more."""
    refine_sq: int = 2
    """The same for IVF-SQ; 4 found no more."""
    refine_pq: int = 4
    """The same for IVF-PQ, where 2 lost 0.01 of recall."""

    # Recall
    target_recall: float = 0.98
    """Recall@20 against exact search; more partitions are probed until it is reached."""
    recall_at: int = 20
    recall_questions: int = 200
    """Stored vectors used as questions. With 50 the measured recall varied by 0.02."""
    question_noise: float = 1.75
    """Length of the noise added to those vectors, as a share of a vector's distance from the mean."""
    probed_shares: tuple[float, ...] = (
        *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15),
        *(0.2, 0.275, 0.35, 0.425, 0.5, 0.6, 0.7, 1.0),
    )
    """Shares of the partitions that are tried to reach it. A larger table needs a smaller share."""
    recall_change: float = 0.25
    """Recall is measured again once this share of the table was added or replaced."""

    # Training again
    retrain_growth: float = 2.0
    """Train again when the embedded rows have grown by this factor since the last training."""
    retrain_effort: float = 3.0
    """Train again when this multiple of the probes after training (or of `retrain_share` of all) is needed."""
    retrain_share: float = 0.02
    """Needing fewer partitions than this share is luck: the number varies several-fold by itself."""
    retrain_fall: float = 0.03
    """Train again when recall is below the target and this much below its value after training."""
    most_parts: int = 8
    """Train again when the index has more parts than this and the table has grown by `parts_growth`."""
    parts_growth: float = 1.1
    """Keeps training cheap compared with embedding, however often `optimize` is called."""

    # The other indexes
    scalar_index_rows: int = 10_000
    """Ids get an index from here on."""
    fold_rows: int = 200
    """Fold the BM25 index's unindexed tail from this many rows on: every search scans it (30 to 100 ms per 1,000)."""
    fold_share: float = 0.02
    """The tail must be this share of the index too, for folding rewrites the index."""
    fold_rows_least: int = 50
    """A small table folds from this many rows on, at `fold_share_small`: a long tail distorts its BM25 scores."""
    fold_share_small: float = 0.1
    rebuild_rows: int = 20_000
    """Rebuild the BM25 index when this many rows are to be folded: that bounds its memory."""
    bulk_fold_share: float = 0.5
    """During one long `add`, fold only when the tail has grown to this share of the index."""
    fold_fragments: int = 32
    """Every commit leaves a file and a version: fold when there are this many, or `fragment_share` of the rows."""
    fragment_share: float = 0.002
    fold_fragments_most: int = 200

    # Candidates
    least_candidates: int = 100
    """A hybrid search asks each leg for this many candidates, or for `candidates_per_hit` for each hit if more."""
    candidates_per_hit: int = 4
    spare_hits: int = 10
    """What a single leg is asked for beyond the hits, at least; see `overfetched`."""

    def refine_factor(self, kind: IndexKind) -> int:
        """Return how many candidates are scored again on stored vectors, as a multiple of those requested."""
        return {"ivf_rq": self.refine_rq, "ivf_sq": self.refine_sq, "ivf_pq": self.refine_pq}[kind]

    def candidates(self, k: int, mode: Mode) -> int:
        """Return how many candidates each leg is asked for, to find k hits."""
        wanted = max(self.least_candidates, self.candidates_per_hit * k) if mode == "hybrid" else self.overfetched(k)
        return min(wanted, MOST_CANDIDATES)

    def overfetched(self, k: int) -> int:
        """Return how many candidates a leg is asked for that alone answers with k hits.

        With more than k, ties at the end are ordered too, and an index scores more candidates again.
        """
        return k + max(self.spare_hits, k // 2)
