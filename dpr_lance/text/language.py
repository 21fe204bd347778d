"""The language of a table: how its full-text index cuts text into terms.

A stemmer joins the forms of a word ("Häuser", "Haus") and drops the language's stop words. "multilingual" has neither:
it finds the words of every script, also of those without spaces between them (Chinese, Japanese, Thai), by Unicode's
dictionaries, which are inside LanceDB.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from dpr_lance.checks import shown
from dpr_lance.errors import InvalidInputError

Language = Literal[
    "arabic",
    "danish",
    "dutch",
    "english",
    "finnish",
    "french",
    "german",
    "greek",
    "hungarian",
    "italian",
    "multilingual",
    "norwegian",
    "portuguese",
    "romanian",
    "russian",
    "spanish",
    "swedish",
    "tamil",
    "turkish",
]
"""The languages of a table: those that LanceDB has a stemmer for, and "multilingual"."""
LANGUAGES: tuple[Language, ...] = get_args(Language)
ENGLISH: Language = "english"
MULTILINGUAL: Language = "multilingual"


def checked_language(value: object, place: str = "language") -> Language:
    """Return `value` if it is a language of tables; raise `InvalidInputError` with the list of them."""
    for language in LANGUAGES:
        if isinstance(value, str) and value == language:
            return language
    raise InvalidInputError(
        f"{place}={shown(value)} is not one of {', '.join(LANGUAGES)}; take 'multilingual' for every other language"
    )


def tokenizer_options(language: Language) -> dict[str, Any]:
    """Return the options, where they differ from LanceDB's defaults, of the index and of `lancedb.tokenize`."""
    if language == ENGLISH:
        return {}
    if language == MULTILINGUAL:
        # "icu/split" cuts "l'eau" and "x@mail.com" as the other languages do, "icu" does not. With stop words LanceDB
        # would drop those of 30 languages together, such as "war", which is German for "was".
        return {"base_tokenizer": "icu/split", "stem": False, "remove_stop_words": False}
    return {"language": language.capitalize()}


def spelling_options(language: Language) -> dict[str, Any]:
    """Return the options with which the same tokens keep the spelling of the text, and none is left out."""
    plain = {"lower_case": False, "ascii_folding": False, "max_token_length": None}
    return tokenizer_options(language) | plain | {"stem": False, "remove_stop_words": False}
