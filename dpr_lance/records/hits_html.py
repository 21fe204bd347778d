"""Hits as HTML for notebooks: colours that read on light and dark pages, and nothing from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

MARK = '<mark style="background:#ffe08a;color:#1a1a1a;border-radius:2px;padding:0 1px">', "</mark>"
"""What stands before and after a word of the question."""
_CELL = "vertical-align:top;text-align:left;padding:4px 8px"
_NUMBER = "vertical-align:top;text-align:right;padding:4px 8px;font-variant-numeric:tabular-nums"
_SMALL = "opacity:.7;font-size:90%"
_SCORES = ("score", "score"), ("rerank", "rerank_score"), ("dense", "dense_score"), ("bm25", "bm25_score")
SNIPPET = 300
"""Characters of a passage."""
_VALUE = 60
"""Characters of a metadata value."""
_FIELDS = 8
"""Metadata fields of a hit."""


def html_of(question: str, about: str, hits: Sequence[Mapping[str, Any]], snippets: Sequence[str]) -> str:
    """Return hits, given by their fields and their snippets in HTML, as a table under the question and a line `about`.

    A column of scores that no hit has is left out.
    """
    scores = [(name, field) for name, field in _SCORES if any(hit[field] is not None for hit in hits)]
    head = "".join(f'<th style="{_NUMBER}">{name}</th>' for name in ["#", *(name for name, _ in scores)])
    rows = [
        "".join(
            f'<td style="{_NUMBER}">{cell}</td>' for cell in [hit["rank"], *(_score(hit[name]) for _, name in scores)]
        )
        + f'<td style="{_CELL}">{_passage(hit, snippet)}</td>'
        for hit, snippet in zip(hits, snippets, strict=True)
    ]
    table = "<div>no passage found</div>"
    if rows:
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        head = f'<thead><tr>{head}<th style="{_CELL}">passage</th></tr></thead>'
        table = f'<table style="border-collapse:collapse">{head}<tbody>{body}</tbody></table>'
    heading = f'<div dir="auto"><b>{escape(question)}</b></div><div style="{_SMALL}">{escape(about)}</div>'
    return f"<div>{heading}{table}</div>"


def _passage(hit: Mapping[str, Any], snippet: str) -> str:
    title = f"<b>{escape(hit['title'])}</b> " if hit["title"] else ""
    return (
        f'<div dir="auto">{title}<span style="{_SMALL}"><bdi>{escape(hit["id"])}</bdi></span></div>'
        f'<div dir="auto">{snippet}</div>{_metadata(hit["metadata"])}'
    )


def _metadata(fields: Mapping[str, Any]) -> str:
    given = [(name, value) for name, value in fields.items() if value is not None]
    shown = [f"{name}: {_cut(str(value))}" for name, value in given[:_FIELDS]]
    shown += ["…"] if len(given) > _FIELDS else []
    return f'<div style="{_SMALL}" dir="auto">{escape(" · ".join(shown))}</div>' if shown else ""


def _cut(text: str) -> str:
    return text if len(text) <= _VALUE else f"{text[: _VALUE - 1]}…"


def _score(score: float | None) -> str:
    return "–" if score is None else f"{score:.3f}"
