"""Re-ranked searches of a real table: which hits are scored, how the scores combine, what is refused."""

import asyncio
import dataclasses
import itertools
import shutil

import lancedb
import numpy as np
import pytest

import dpr_lance
from dpr_lance import HashEncoder, InvalidInputError, PassageText, ReaderError, load_reader
from dpr_lance.search.reranking import Reranking, combined, standardised
from tests.reader.tiny_late_interaction import tiny_late_interaction
from tests.reader.tiny_reader import CARD, tiny_reader
from tests.search.rerankers import Counting, CountingPairs, Giving, Sleeping
from tests.tables import WORDS, random_documents

QUESTION = "river bridge and the comet"


@pytest.fixture(scope="module")
def documents():
    return random_documents(7, 120)


@pytest.fixture(scope="module")
def table(tmp_path_factory, documents):
    with dpr_lance.connect(tmp_path_factory.mktemp("t") / "t", encoder=HashEncoder(32), learn=False) as retriever:
        retriever.add(documents, splitter=None)
        retriever.optimize()
        yield retriever


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A reader with a real graph: it counts the words in common, and 10 for each lantern."""
    card = dataclasses.replace(CARD, retrieval_weight=0.5)
    return tiny_reader(tmp_path_factory.mktemp("reader"), words=WORDS, bias={"lantern": 10.0}, card=card)


def by_hand(pool, scorer, candidates, weight):
    """The ids of a pool of hits in the order of their combined scores, computed one by one."""
    first = pool[:candidates]
    retrieval = np.array([hit.score for hit in first])
    parts = weight * (retrieval - retrieval.mean()) / retrieval.std()
    scores = [hit.text.split().count(scorer.word) + part for hit, part in zip(first, parts, strict=True)]
    order = sorted(range(len(first)), key=lambda at: (-scores[at], first[at].id))
    return [first[at].id for at in order] + [hit.id for hit in pool[candidates:]]


def test_a_passage_without_text_that_plain_lancedb_has_added_comes_last(tmp_path, bundle):
    encoder = HashEncoder(32)
    with dpr_lance.connect(tmp_path / "t", encoder=encoder) as retriever:
        retriever.add([{"id": "a", "text": "the river bridge"}, {"id": "b", "text": "snow"}])
        vector = encoder.encode_questions([QUESTION])[0]
        lancedb.connect(tmp_path / "t").open_table("passages").add([{"id": "blank", "text": " ", "vector": vector}])
        for asked in (QUESTION, [QUESTION, "snow"]):
            found = retriever.search(asked, 3, mode="dense", rerank=bundle)
            hits = found if isinstance(asked, str) else found[0]
            scores = {hit.id: hit.rerank_score for hit in hits}
            assert scores["blank"] == min(scores["a#0"], scores["b#0"]) < scores["a#0"]
        answers = retriever.answer(QUESTION, reader=bundle, k=3, mode="dense", threshold=0.0)
        assert all(source.hit.id != "blank" for answer in answers for source in answer.sources)


class TestOrder:
    @pytest.mark.parametrize("mode", ["hybrid", "dense", "bm25"])
    @pytest.mark.parametrize("weight", [0.0, 0.5, 100.0])
    def test_the_candidates_are_ordered_by_both_scores(self, table, mode, weight):
        scorer = CountingPairs(weight=weight)
        hits = table.search(QUESTION, 8, mode=mode, rerank=scorer, candidates=20)
        pool = table.search(QUESTION, 20, mode=mode)
        assert [hit.id for hit in hits] == by_hand(pool, scorer, 20, weight)[:8]
        assert [hit.rank for hit in hits] == list(range(1, 9))
        assert (hits.reranked, hits.reranker, hits.retrieval_weight) == (20, "counts glacier", weight)
        for hit in hits:
            assert hit.rerank_score == hit.text.split().count("glacier")
            before = next(other for other in pool if other.id == hit.id)
            assert (hit.dense_score, hit.bm25_score) == (before.dense_score, before.bm25_score)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)

    def test_a_large_weight_keeps_the_order_of_retrieval(self, table):
        hits = table.search(QUESTION, 20, rerank=CountingPairs(weight=1e6), candidates=20)
        assert [hit.id for hit in hits] == [hit.id for hit in table.search(QUESTION, 20)]

    def test_the_scorer_sees_the_question_and_the_best_hits_with_their_titles(self, table):
        scorer = Counting()
        table.search(QUESTION, 3, rerank=scorer, candidates=5)
        best = table.search(QUESTION, 5)
        assert scorer.asked == [(QUESTION, tuple(PassageText(hit.title, hit.text) for hit in best))]

    def test_hits_beyond_the_candidates_follow_in_their_order(self, table):
        hits = table.search(QUESTION, 12, rerank=Counting(), candidates=4)
        plain = table.search(QUESTION, 12)
        assert [hit.id for hit in hits[4:]] == [hit.id for hit in plain[4:]]
        assert {hit.id for hit in hits[:4]} == {hit.id for hit in plain[:4]}
        assert [hit.rerank_score is None for hit in hits] == [False] * 4 + [True] * 8
        assert all(later.score < earlier.score for earlier, later in itertools.pairwise(hits[3:]))
        assert hits.reranked == 4

    def test_equal_scores_are_ordered_by_id(self, table):
        hits = table.search(QUESTION, 20, rerank=Giving(np.ones), candidates=20)
        assert [hit.id for hit in hits] == sorted(hit.id for hit in hits)

    def test_all_hits_are_equal(self, retriever):
        retriever.add([{"id": name, "text": "the same words"} for name in "dbca"])
        for mode in ("hybrid", "dense", "bm25"):
            hits = retriever.search("same words", mode=mode, rerank=CountingPairs(weight=1.0))
            assert [hit.document_id for hit in hits] == ["a", "b", "c", "d"]
            assert {hit.score for hit in hits} == {0.0}

    def test_without_it_nothing_changes(self, table):
        plain, never = table.search(QUESTION), table.search(QUESTION, rerank=False)
        assert plain.hits == never.hits
        assert (plain.reranked, plain.reranker, plain.retrieval_weight, plain.not_reranked) == (0, None, None, None)
        assert plain.seconds["rerank"] == 0
        assert all(hit.rerank_score is None for hit in plain)

    def test_a_question_without_hits_is_not_scored(self, table, retriever):
        scorer = Counting()
        assert len(table.search("xyzzy", mode="bm25", rerank=scorer)) == 0
        assert len(retriever.search("river", rerank=scorer)) == 0  # of a table that does not exist yet
        assert table.search(["xyzzy", "plugh"], mode="bm25", rerank=CountingPairs())[1].reranked == 0
        assert scorer.asked == []


class TestWithOtherOptions:
    def test_filters_apply_before(self, table):
        hits = table.search(QUESTION, 5, rerank=Counting(), where="document_id < 'd050'")
        assert len(hits) == 5
        assert all(hit.document_id < "d050" for hit in hits)

    @pytest.mark.parametrize("scorer", [Counting, CountingPairs])
    def test_a_batch_equals_single_questions(self, table, scorer):
        questions = [QUESTION, "castle", "xyzzy", "violin engine"] * 20
        together = table.search(questions, 5, mode="bm25", rerank=scorer(), candidates=7)
        for question, hits in zip(questions, together, strict=True):
            assert hits.hits == table.search(question, 5, mode="bm25", rerank=scorer(), candidates=7).hits

    def test_a_batch_is_scored_in_one_call_where_the_object_can(self, table):
        scorer = CountingPairs()
        table.search([QUESTION, "castle"], 5, rerank=scorer, candidates=7)
        assert [len(pairs) for pairs in scorer.pairs] == [14]

    def test_asynchronously(self, table):
        hits = asyncio.run(table.search_async(QUESTION, 5, rerank=Counting(), candidates=7))
        assert hits.hits == table.search(QUESTION, 5, rerank=Counting(), candidates=7).hits

    def test_explained(self, table):
        hits = table.search(QUESTION, 12, rerank=CountingPairs(weight=0.5), candidates=9, explain=True)
        pool = {hit.id: hit for hit in table.search(QUESTION, 12)}
        for hit in hits:
            told = hit.explanation
            assert (told.retrieval_rank, told.retrieval_score) == (pool[hit.id].rank, pool[hit.id].score)
            if hit.rerank_score is None:
                assert told.retrieval_part is None
            else:
                assert hit.score == pytest.approx(hit.rerank_score + told.retrieval_part)
        for hit in table.search(QUESTION, 3, explain=True):
            assert (hit.explanation.retrieval_rank, hit.explanation.retrieval_score) == (hit.rank, hit.score)

    def test_its_time_is_a_stage(self, table):
        seconds = table.search(QUESTION, rerank=Counting()).seconds
        assert 0 < seconds["rerank"] < seconds["total"]


class TestReader:
    def test_a_folder_is_loaded_and_its_card_used(self, table, bundle):
        hits = table.search(QUESTION, 12, rerank=bundle, candidates=9)
        assert (hits.reranked, hits.reranker, hits.retrieval_weight) == (9, "tiny reader", 0.5)
        for hit in hits[:9]:
            words = f"{hit.title} {hit.text}".split()
            shared = sum(words.count(word) for word in ("river", "bridge", "comet"))
            assert hit.rerank_score == shared + 10 * words.count("lantern")
        assert table.search(QUESTION, 12, rerank=str(bundle), candidates=9).hits == hits.hits
        assert table.search(QUESTION, 12, rerank=load_reader(bundle), candidates=9).hits == hits.hits
        assert table.search(QUESTION, 12, rerank=bundle, candidates=9, rerank_within=3600).hits == hits.hits

    def test_a_batch_equals_single_questions(self, table, bundle):
        questions = [QUESTION, "castle", "xyzzy", "violin engine lantern"]
        for question, hits in zip(questions, table.search(questions, 5, mode="bm25", rerank=bundle), strict=True):
            assert hits.hits == table.search(question, 5, mode="bm25", rerank=bundle).hits

    def test_a_retriever_loads_it_once(self, tmp_path, table):
        folder = tiny_reader(tmp_path / "of this test", words=WORDS)
        before = table.search(QUESTION, rerank=folder)
        shutil.rmtree(folder)
        assert table.search(QUESTION, rerank=folder).hits == before.hits
        with pytest.raises(ReaderError, match="does not exist"):
            table.search(QUESTION, rerank=folder / "elsewhere")


class TestLateInteraction:
    @pytest.fixture
    def cache(self, tmp_path, monkeypatch):
        monkeypatch.setenv("DPR_LANCE_CACHE", str(tmp_path))
        return tmp_path / "bundles" / "late-interaction"

    def test_by_its_name_and_its_folder(self, retriever, documents, cache, tmp_path):
        retriever.add(documents, splitter=None)
        with pytest.raises(ReaderError, match=r"no late-interaction model is named .* and the cache has none"):
            retriever.search(QUESTION, rerank="late-interaction")
        shutil.copytree(tiny_late_interaction(tmp_path / "made"), cache)
        hits = retriever.search(QUESTION, 5, rerank="late-interaction", candidates=9)
        assert (hits.reranked, hits.reranker, hits.retrieval_weight) == (9, "tiny", 0.0)
        assert hits[0].rerank_score == max(hit.rerank_score for hit in hits)
        with dpr_lance.connect("memory://", encoder=HashEncoder(64)) as other:
            other.add(documents, splitter=None)
            assert other.search(QUESTION, 5, rerank=cache, candidates=9).hits == hits.hits
            both = other.search([QUESTION, "castle"], 5, rerank=cache, candidates=9)
            assert both[0].hits == hits.hits


class TestScores:
    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (lambda n: np.ones(n - 1), r"gave an array of shape \(29,\) for 30 passages for the question 'river"),
            (lambda n: np.ones((n, 1)), r"shape \(30, 1\).*return one number for each passage, float32\[30\]"),
            (lambda n: [[1.0]] * (n - 1) + [[1.0, 2.0]], "gave scores of no even shape"),
            (lambda n: ["good"] * n, "gave list of <U4 for 30 passages"),
            (lambda n: [True] * n, "gave list of bool"),
            (None, "gave NoneType of object"),
            (lambda n: 1.0, r"gave an array of shape \(\)"),
            (lambda n: [0.5] * (n - 1) + [float("nan")], r"gave nan .* the passage 'd\d+#0' \(number 30 of 30\)"),
            (lambda n: [float("inf")] * n, r"gave inf for the question 'river.*\(number 1 of 30\): scores must be fin"),
            (KeyError("weights"), r"failed on 30 passages for the question 'river.*\(KeyError: 'weights'\)"),
        ],
    )
    def test_anything_but_one_finite_number_for_each_passage_is_named(self, table, given, message):
        with pytest.raises(ReaderError, match="^the re-ranker 'Giving' .*" + message):
            table.search(QUESTION, rerank=Giving(given))

    def test_of_a_batch_the_question_is_named(self, table):
        scorer = CountingPairs()
        scorer.score_pairs = lambda pairs: np.array([np.nan if "castle" in pair[0] else 1.0 for pair in pairs])
        with pytest.raises(ReaderError, match=r"^the re-ranker 'counts glacier' gave nan for the question 'castle'"):
            table.search([QUESTION, "castle"], rerank=scorer)
        scorer.score_pairs = lambda pairs: np.ones(3)
        with pytest.raises(ReaderError, match=r"shape \(3,\) for 60 pairs of question and passage"):
            table.search([QUESTION, "castle"], rerank=scorer)

    def test_whole_numbers_and_lists_are_scores(self, table):
        hits = table.search(QUESTION, 30, rerank=Giving(lambda n: list(range(n))))
        assert [hit.rerank_score for hit in hits] == list(range(29, -1, -1))


class TestArguments:
    @pytest.mark.parametrize("rerank", [5, "", " ", b"reader", object(), Counting, [], {"score": 1}])
    def test_what_is_no_re_ranker_is_named_with_what_is(self, table, rerank):
        with pytest.raises(InvalidInputError, match=r"^rerank=.*give True for the packaged reader, .* score\(question"):
            table.search(QUESTION, rerank=rerank)

    @pytest.mark.parametrize("candidates", [0, -1, 2.5, True, "30", None])
    def test_candidates(self, table, candidates):
        with pytest.raises(InvalidInputError, match=r"^candidates=.*re-score at least 1 hit, as a whole number"):
            table.search(QUESTION, rerank=Counting(), candidates=candidates)

    @pytest.mark.parametrize("within", [0, -0.1, float("nan"), float("inf"), True, "0.2", 1j])
    def test_the_budget(self, table, within):
        with pytest.raises(
            InvalidInputError, match=r"^rerank_within=.*the seconds that re-ranking a question may take"
        ):
            table.search(QUESTION, rerank=Counting(), rerank_within=within)


class TestBudget:
    def asked(self, table, scorer, within):
        """How many passages each call had, and the hits."""
        reranking = Reranking(scorer, 30, 0.0, within, scorer.clock)
        (hits,) = reranking.rerank([table.search(QUESTION, 40)])
        return [len(passages) for _, passages in scorer.asked], hits

    def test_all_that_fits_is_scored(self, table):
        scorer = Sleeping(1e-4)
        parts, hits = self.asked(table, scorer, 10.0)
        assert (parts, hits.reranked) == ([1, 2, 4, 8, 8, 7], 30)
        assert hits.seconds["rerank"] == pytest.approx(scorer.now)
        assert [hit.rank for hit in hits] == list(range(1, 41))

    @pytest.mark.parametrize("within", [0.05, 0.1, 0.2, 0.25])
    def test_it_stops_before_the_budget_is_passed(self, table, within):
        parts, hits = self.asked(table, Sleeping(1e-4), within)
        plain = table.search(QUESTION, 40)
        taken = np.cumsum([1e-4 * (len(QUESTION) + len(hit.title) + len(hit.text)) for hit in plain])
        assert hits.reranked == sum(parts) == (taken <= within).sum() < 30
        assert hits.seconds["rerank"] <= within
        assert {hit.id for hit in hits[: hits.reranked]} == {hit.id for hit in plain[: hits.reranked]}
        assert [hit.id for hit in hits[hits.reranked :]] == [hit.id for hit in plain[hits.reranked :]]

    def test_passages_that_take_longer_than_those_before_end_it(self, table):
        parts, hits = self.asked(table, Sleeping(1e-5, slow=100.0, after=3), 0.2)
        assert (parts, hits.reranked) == ([1, 2, 4], 7)

    def test_at_least_one_is_scored(self, table):
        parts, hits = self.asked(table, Sleeping(1.0), 0.2)
        assert (parts, hits.reranked) == ([1], 1)

    def test_a_clock_that_does_not_move(self, table):
        assert self.asked(table, Sleeping(0.0), 0.2)[1].reranked == 30

    def test_more_candidates_than_there_are(self, table):
        assert table.search(QUESTION, 5, rerank=Counting(), candidates=2**64).reranked == 120

    def test_through_the_search(self, table):
        """A budget that nothing here can use up changes nothing."""
        plain = table.search(QUESTION, 10, rerank=Counting())
        assert table.search(QUESTION, 10, rerank=Counting(), rerank_within=3600).hits == plain.hits
        scorer = CountingPairs()
        hits = table.search([QUESTION, "castle"], 5, rerank=scorer, candidates=7, rerank_within=3600)
        assert [each.reranked for each in hits] == [7, 7]
        assert scorer.pairs == []  # each question has its own budget


class TestFormula:
    def test_retrieval_counts_the_same_on_any_scale(self):
        choose = np.random.default_rng(0)
        for count in range(2, 30):
            scores = choose.normal(size=count)
            found = standardised(scores)
            assert standardised(1e3 * scores - 77.0) == pytest.approx(found, abs=1e-9)
            assert (found.mean(), found.std()) == pytest.approx((0.0, 1.0), abs=1e-9)

    def test_rounding_is_no_difference(self):
        assert standardised(np.array([0.7000001, 0.7, 0.7])).tolist() == [0.0, 0.0, 0.0]
        assert standardised(np.array([3.0])).tolist() == [0.0]
        assert standardised(np.array([])).tolist() == []

    def test_the_others_stand_below(self):
        scores, parts = np.array([-5.0, 2.0]), np.array([0.5, -0.5, 9.0])
        assert combined(scores, parts, 4).tolist() == [-4.5, 1.5, -5.5, -6.5]
        assert combined(scores[:0], parts[:0], 0).tolist() == []
