"""Maximal marginal relevance: against hand-worked cases, brute force, and on a real table."""

import numpy as np
import pytest

import dpr_lance
from dpr_lance import HashEncoder, Hit, InvalidInputError, WordSplitter
from dpr_lance.search.diversity import choose_diverse
from tests.search.rerankers import Counting
from tests.tables import WORDS, random_documents


def hit(name, score):
    return Hit(1, name, name, "", "", score, None, None)


def order(hits, vectors, diversity):
    chosen = []
    choose_diverse(hits, vectors, diversity, lambda each: chosen.append(each.id) or True)
    return "".join(chosen)


HITS = [hit("a", 10.0), hit("b", 9.0), hit("c", 5.0), hit("d", 0.0)]
VECTORS = {
    "a": np.array([1, 0], dtype=np.float32),
    "b": np.array([3, 0], dtype=np.float32),  # the same direction as a
    "c": np.array([0.6, 0.8], dtype=np.float32),
    "d": np.array([0, 2], dtype=np.float32),
}


@pytest.mark.parametrize(
    ("diversity", "expected"),
    [
        (0.0, "abcd"),
        # After a: b 0.9 - 1 = -0.1, c 0.5 - 0.6 = -0.1, d 0 - 0 = 0 (each halved). After d: b -0.1, c 0.5 - 0.8 = -0.3.
        (0.5, "adbc"),
        # After a: b 0.72 - 0.2, c 0.4 - 0.12, d 0. After b, of the same direction: c 0.28, d 0.
        (0.2, "abcd"),
        # After a: d 0, c -0.6, b -1. After d: c -0.8, b -1.
        (1.0, "adcb"),
    ],
)
def test_the_order_is_that_of_a_hand_worked_case(diversity, expected):
    assert order(HITS, VECTORS, diversity) == expected


def test_a_missing_vector_is_as_similar_as_the_others_on_average():
    """The pairs of a, b and d have cosines 1, 0 and 0: c counts as similar by 1/3."""
    vectors = {name: VECTORS[name] for name in "abd"}
    assert order(HITS, vectors, 1.0) == "adcb"
    assert order(HITS, {}, 1.0) == order(HITS, {}, 0.5) == "abcd"
    assert order(HITS, {"a": VECTORS["a"]}, 1.0) == "abcd"


def test_equal_scores_and_equal_vectors_keep_their_order():
    hits = [hit(name, 1.0) for name in "abcdefg"]
    same = {name: np.full(37, 0.1, dtype=np.float32) for name in "abcdefg"}
    for diversity in (0.0, 0.3, 1.0):
        assert order(hits, same, diversity) == "abcdefg"
    assert order([], {}, 0.5) == ""
    assert order(hits, {name: np.zeros(3, dtype=np.float32) for name in "abcdefg"}, 1.0) == "abcdefg"


def test_the_opposite_is_less_similar_than_what_has_nothing_in_common():
    vectors = {"a": VECTORS["a"], "b": VECTORS["d"], "c": -VECTORS["a"]}
    assert order([hit(name, 1.0) for name in "abc"], vectors, 1.0) == "acb"


def test_what_is_not_taken_is_similar_to_nothing():
    chosen = []

    def take(each):
        if each.id == "a":
            return False
        chosen.append(each.id)
        return True

    choose_diverse(HITS, VECTORS, 1.0, take)
    assert chosen == ["b", "d", "c"]


def brute_force(hits, vectors, diversity, k):
    scores = np.array([each.score for each in hits])
    relevance = (scores - scores.min()) / (scores.max() - scores.min())
    units = np.array([vectors[each.id] / np.linalg.norm(vectors[each.id]) for each in hits], dtype=np.float64)
    cosines = units @ units.T
    chosen = [0]
    while len(chosen) < min(k, len(hits)):
        gains = (1 - diversity) * relevance - diversity * cosines[:, chosen].max(axis=1)
        chosen.append(max((at for at in range(len(hits)) if at not in chosen), key=lambda at: (gains[at], -at)))
    return [hits[at].id for at in chosen]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    with dpr_lance.connect(tmp_path_factory.mktemp("diverse") / "t", encoder=HashEncoder(64), learn=False) as retriever:
        retriever.add(random_documents(1, 120), splitter=None)
        retriever.optimize()
        yield retriever


@pytest.mark.parametrize("mode", ["hybrid", "dense", "bm25"])
@pytest.mark.parametrize("diversity", [0.15, 0.5, 1])
def test_the_hits_of_a_table_equal_brute_force(table, mode, diversity):
    encoder = HashEncoder(64)
    pool = table.search("river comet", 50, mode=mode)
    vectors = {each.id: encoder.encode_passages([(each.title, each.text)])[0] for each in pool}
    hits = table.search("river comet", 8, mode=mode, diversity=diversity)
    assert [each.id for each in hits] == brute_force(pool, vectors, diversity, 8)
    assert [each.rank for each in hits] == list(range(1, 9))
    scores = {each.id: each.score for each in pool}
    assert [each.score for each in hits] == [scores[each.id] for each in hits]
    if diversity > 0.2:
        assert [each.id for each in hits] != [each.id for each in pool[:8]]


def test_no_diversity_changes_nothing(table):
    plain = table.search("river comet", 8)
    assert table.search("river comet", 8, diversity=0).hits == plain.hits
    assert table.search("river comet", 8).seconds["select"] == 0
    together = table.search(["river comet", "violin"], 8, diversity=0.4)
    assert [hits.hits for hits in together] == [
        table.search(question, 8, diversity=0.4).hits for question in ("river comet", "violin")
    ]


def test_near_copies_make_way(tmp_path):
    copies = [{"id": f"c{number}", "text": f"the river rises in the Alps {number}"} for number in range(5)]
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(64)) as retriever:
        retriever.add([*copies, {"id": "other", "text": "a river in the plains, and the towns and bridges along it"}])
        assert "other" not in {each.document_id for each in retriever.search("river in the Alps", 3)}
        found = retriever.search("river in the Alps", 3, diversity=0.8)
        assert found[0].document_id.startswith("c")
        assert "other" in {each.document_id for each in found}


def test_passages_without_a_vector_are_chosen_too(tmp_path):
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(64)) as retriever:
        retriever.add([{"id": "a", "text": "river"}, {"id": "b", "text": "river bridge"}])
        retriever.add([{"id": "c", "text": "river castle"}], embed=False)
        assert {each.document_id for each in retriever.search("river", 3, diversity=0.7)} == {"a", "b", "c"}
    with dpr_lance.connect(tmp_path / "u", encoder=HashEncoder(64)) as retriever:
        retriever.add([{"id": "a", "text": "river"}], embed=False)
        assert len(retriever.search("river", 3, diversity=0.7)) == 1


def test_diversity_keeps_groups_and_follows_re_ranking(tmp_path):
    documents = [
        {"id": f"d{number}", "text": " ".join(WORDS[(number + at) % 10] for at in range(24))} for number in range(9)
    ]
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(64)) as retriever:
        retriever.add(documents, splitter=WordSplitter(4))
        for rerank in (None, Counting("comet")):
            hits = retriever.search("river", 5, diversity=0.5, group_by="document_id", per_group=2, rerank=rerank)
            counts = [sum(each.document_id == name for each in hits) for name in {each.document_id for each in hits}]
            assert counts == [2] * 5
            best = retriever.search("river", 1, rerank=rerank)[0]
            assert hits[0].id == best.id
            assert [each.rank for each in hits] == list(range(1, 11))


@pytest.mark.parametrize("wrong", [-0.1, 1.5, float("nan"), True, "0.5", None])
def test_a_diversity_that_is_not_a_share_is_refused(table, wrong):
    with pytest.raises(InvalidInputError, match="diversity="):
        table.search("river", 3, diversity=wrong)
