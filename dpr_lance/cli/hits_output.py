"""How the command line shows the hits of a search: a table for people, one JSON object a question for pipes."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from rich.text import Text

from dpr_lance.cli.console import console_on, one_line, plain_table, print_json, print_table, print_text, say
from dpr_lance.records.hits import Explanation, Hit, HitExplanation, Hits, WeightSource
from dpr_lance.records.reports import AddReport
from dpr_lance.text.snippet import snippet

_SOURCES: Mapping[WeightSource, str] = {
    "encoder": "the encoder",
    "questions": "the questions that were asked",
    "calibration": "calibrate",
}
"""What has chosen λ, in words."""


def print_found(found: Sequence[Hits], *, as_json: bool) -> None:
    """Write the hits of each question to standard output, as a table or as a line of JSON."""
    for hits in found:
        if as_json:
            print_json(hits)
            continue
        _print_hits(hits)
        print_text("")
        if hits.fallback:
            say(f"BM25 alone answered: {hits.fallback}")
        if hits.not_reranked:
            say(f"not re-ranked: {hits.not_reranked}")


def print_demo(report: AddReport, found: Sequence[Hits], path: str, *, as_json: bool) -> None:
    """Write what the demo did and found, and what to type next."""
    if as_json:
        print_json(report)
        print_found(found, as_json=True)
        return
    changed = report.documents_added + report.documents_replaced
    if changed:
        say(f"{changed:,} documents were added to {path} in {report.seconds:.0f} s\n")
    else:
        say(f"nothing to add: all {report.documents_unchanged:,} documents are in {path} already\n")
    print_found(found, as_json=False)
    say(
        f"""Now try
  dpr-lance search {path} "your own question"          --mode bm25, --mode dense, -k 20, --json
  dpr-lance search {path} "sort a list" --where "kind = 'method'"
  dpr-lance info {path}
  dpr-lance add my-library FILE...                     JSONL, CSV, Parquet, text, Markdown, folders"""
    )


def _print_hits(hits: Hits) -> None:
    out = console_on(sys.stdout)
    out.print(Text(one_line(hits.question), style="bold").append(f"  ({_formula(hits)})", style="dim not bold"))
    table = plain_table()
    for name in ("#", "score", *(["rerank"] if hits.reranked else []), "dense", "bm25"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("passage", overflow="fold")
    for hit in hits:
        scores = [hit.score, *([hit.rerank_score] if hits.reranked else []), hit.dense_score, hit.bm25_score]
        table.add_row(str(hit.rank), *map(_score, scores), _passage(hit))
    if hits:
        print_table(table)
    else:
        print_text("no passage found")
    if hits.explanation is not None:
        print_text(_explained(hits, hits.explanation))


def _formula(hits: Hits) -> str:
    """Return the mode and what the scores are made of."""
    weight = "" if hits.hybrid_weight is None else f"bm25 + {hits.hybrid_weight:g} · dense"
    if not hits.reranked:
        return f"{hits.mode}: score = {weight}" if weight else hits.mode
    first = f"first {hits.reranked} re-ranked by {one_line(hits.reranker or '')}"
    share = f" + {hits.retrieval_weight:.4g} · retrieval" if hits.retrieval_weight else ""
    return f"{hits.mode}{': ' * bool(weight)}{weight}; {first}: score = rerank{share}"


def _passage(hit: Hit) -> Text:
    title, identity = one_line(hit.title), one_line(hit.id)
    heading = Text(title or identity, style="bold")
    if title and title != identity:
        heading.append(f"  {identity}", style="dim not bold")
    found = Text()
    for piece, matches in snippet(one_line(hit.text), hit.question, language=hit.language):
        found.append(piece, style="bold" if matches else "")
    lines = [heading, found]
    if hit.explanation is not None:
        lines.append(Text(_hit_explained(hit, hit.explanation), style="dim"))
    return Text("\n").join(lines)


def _hit_explained(hit: Hit, explanation: HitExplanation) -> str:
    ranks = [("dense", hit.dense_score, explanation.dense_rank), ("bm25", hit.bm25_score, explanation.bm25_rank)]
    parts = [
        f"{leg} #{rank}" if rank else f"not among {leg}'s candidates" for leg, score, rank in ranks if score is not None
    ]
    if hit.rerank_score is not None:
        parts.insert(0, f"retrieval #{explanation.retrieval_rank} ({_score(explanation.retrieval_score)})")
    words = " + ".join(f"{one_line(word.word)} {_score(word.score)}" for word in explanation.words)
    return " · ".join(parts) + (f" = {words}" if words else "")


def _explained(hits: Hits, explanation: Explanation) -> str:
    counts = [("dense", explanation.dense_candidates), ("bm25", explanation.bm25_candidates)]
    legs = " + ".join(f"{count} {leg}" for leg, count in counts if count is not None)
    lines = [f"{explanation.candidates} candidates of {legs}, {explanation.candidates_asked} asked of each"]
    effort = explanation.effort
    if effort is not None:
        index = f"{effort.probes} of {effort.partitions} partitions probed, {effort.refine_factor}-fold refined"
        lines.append(f"vectors searched {'exactly' if effort.partitions is None else f'by the index: {index}'}")
    if explanation.unfolded_rows:
        lines.append(f"{explanation.unfolded_rows:,} passages outside the BM25 index: scores of words may not add up")
    if explanation.weight_source is not None:
        lines.append(f"λ = {hits.hybrid_weight:.4g} is from {_SOURCES[explanation.weight_source]}")
    lines.append(_times(hits.seconds))
    return "\n".join(lines)


def _times(seconds: Mapping[str, float]) -> str:
    """Return how long a search and its stages took: BM25 runs in parallel with encoding and dense search."""
    stages = {stage: f"{stage} {1000 * taken:.1f}" for stage, taken in seconds.items() if taken or stage == "total"}
    total = stages.pop("total").removeprefix("total ")
    if "dense" in stages and "bm25" in stages:
        stages["dense"] += f" (in parallel {stages.pop('bm25')})"
    return f"{total} ms: {', '.join(stages.values())}"


def _score(score: float | None) -> str:
    return "–" if score is None else f"{score:.2f}" if abs(score) >= 1 else f"{score:.3f}"
