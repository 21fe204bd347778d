"""Merged candidates of random tables: every hit has the scores that brute force over the whole table gives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpr_lance.search.fusion import fused_scores
from dpr_lance.table.index_policy import IndexPolicy
from dpr_lance.text.terms import terms
from tests.tables import WeightedEncoder, brute_force_bm25, opened

WORDS = [
    "river",
    "rivers",
    "Alps",
    "alp",
    "the",
    "of",
    "Zürich",
    "zurich",
    "running",
    "run",
    "e-mail",
    "2024",
    "of-run",
]
WEIGHTS = (0.0, 1.1, 10.0, 300.0)
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=14).map(" ".join)


class RandomEncoder(WeightedEncoder):
    """Vectors of uneven length, of which a quarter is the same: ties are common."""

    def __init__(self, weight):
        super().__init__(weight, dimension=8)

    def _encode(self, entries):
        vectors = super()._encode(entries)
        length = np.array([1 + len(text) % 4 for _, _, text in entries], dtype=np.float32)
        vectors = vectors * length[:, None]
        vectors[length == 2] = 0.5
        return vectors


@settings(max_examples=100, deadline=None)
@given(
    table=st.lists(st.tuples(texts, texts, st.booleans()), min_size=1, max_size=25),
    questions=st.lists(texts, min_size=1, max_size=3),
    weight=st.sampled_from(WEIGHTS),
    depth=st.sampled_from([1, 3, 100]),
    resident_bytes=st.sampled_from([0, 1 << 20]),
)
def test_every_hit_has_its_exact_scores(table, questions, weight, depth, resident_bytes):
    """Legs of `depth` candidates: a passage that one leg lists has the other's exact score, too."""
    encoder = RandomEncoder(weight)
    documents = [{"id": f"d{number:02}", "title": title, "text": text} for number, (title, text, _) in enumerate(table)]
    embedded = np.array([embed for _, _, embed in table])
    contents = [f"{document['title']}\n{document['text']}" for document in documents]
    vectors = encoder.encode_passages([(document["title"], document["text"]) for document in documents])
    policy = IndexPolicy(least_candidates=depth, candidates_per_hit=1)
    with opened("memory://", encoder, policy=policy, resident_bytes=resident_bytes) as retriever:
        for embed in (True, False):
            chosen = [document for document, has in zip(documents, embedded, strict=True) if has == embed]
            if chosen:
                retriever.add(chosen, splitter=None, embed=embed)
        retriever.optimize()
        for question, hits in zip(questions, retriever.search(questions, depth), strict=True):
            bm25 = brute_force_bm25(question, contents)
            dense = np.where(embedded, vectors @ encoder.encode_questions([question])[0], np.nan).astype(np.float64)
            assert hits.mode == ("hybrid" if embedded.any() else "bm25")
            found = {int(hit.document_id[1:]): hit for hit in hits}
            for number, hit in found.items():
                assert hit.bm25_score == pytest.approx(bm25[number], abs=1e-4)
                if hits.mode == "hybrid":
                    known = None if np.isnan(dense[number]) else pytest.approx(dense[number], abs=1e-4)
                    assert hit.dense_score == known
            if hits.mode == "hybrid":
                # All of the table was a candidate where the legs are deep enough for it.
                if depth == 100 and terms(question):
                    candidates = np.flatnonzero(embedded | (bm25 > 0))
                    assert len(hits) == len(candidates)
                scores = fused_scores(dense, bm25, weight)
                if embedded[list(found)].any() and depth == 100:
                    for number, hit in found.items():
                        assert hit.score == pytest.approx(scores[number], abs=1e-4 * (1 + weight))
            assert [(-hit.score, hit.id) for hit in hits] == sorted((-hit.score, hit.id) for hit in hits)


@pytest.mark.parametrize("weight", [0.0, 3.0, 20.0, 300.0])
def test_the_hits_are_the_best_of_both_legs_together(weight):
    """Few hits out of many candidates: those that are not scored by both legs could not have been among them."""
    encoder = WeightedEncoder(weight, dimension=16)
    choose = np.random.default_rng(3)
    words = np.array([f"word{number}" for number in range(80)])
    often = 1 / np.arange(1, 81)
    made = [" ".join(choose.choice(words, choose.integers(8, 60), p=often / often.sum())) for _ in range(225)]
    documents = [{"id": f"d{number:03}", "title": "", "text": text} for number, text in enumerate(made[:200])]
    contents = [f"{document['title']}\n{document['text']}" for document in documents]
    vectors = encoder.encode_passages([(document["title"], document["text"]) for document in documents])
    questions = [text[:40] for text in made[200:]]
    policy = IndexPolicy(least_candidates=20, candidates_per_hit=1)
    with opened("memory://", encoder, policy=policy) as retriever:
        retriever.add(documents, splitter=None)
        retriever.optimize()
        for question in questions:
            bm25 = brute_force_bm25(question, contents)
            dense = (vectors @ encoder.encode_questions([question])[0]).astype(np.float64)
            union = {*np.argsort(-dense)[:20].tolist(), *(row for row in np.argsort(-bm25)[:20].tolist() if bm25[row])}
            scores = fused_scores(dense, bm25, weight)
            best = sorted(scores[list(union)], reverse=True)
            for k in (1, 3, 10, 20):
                hits = retriever.search(question, k)
                assert [hit.score for hit in hits] == pytest.approx(best[:k], abs=1e-4 * (1 + weight))
                for hit in hits:
                    assert hit.bm25_score == pytest.approx(bm25[int(hit.document_id[1:])], abs=1e-4)
