"""The tokens of a filter with their places; what the engine could read in another way is refused."""

from __future__ import annotations

import re
from typing import NoReturn, TypeAlias

from dpr_lance.errors import InvalidInputError

Token: TypeAlias = tuple[str, str, int]
"""Kind, text, and the character at which it begins."""

_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<comment>--|/\*|//)
    |(?P<text>'(?:[^']|'')*')
    |(?P<name>`(?:[^`]|``)+`|"(?:[^"]|"")+")
    |(?P<hex>[xX]'(?:[0-9a-fA-F]{2})*')
    |(?P<prefixed>(?:[A-Za-z]&?)'|\$\w*\$)
    |(?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![\w.]))
    |(?P<word>[^\W\d][\w$\#@]*)
    |(?P<sign>==|!=|<>|<=|>=|\|\||::|[=<>+\-*/%()\[\],.])""",
    re.VERBOSE,
)


def tokens_of(sql: str) -> list[Token]:
    """Return the tokens of a filter, followed by some of the kind "end"; raise `InvalidInputError` for other text."""
    found: list[Token] = []
    at, end = 0, len(sql)
    while at < end:
        match = _TOKEN.match(sql, at)
        kind = "" if match is None else match.lastgroup or ""
        if match is None or kind in ("comment", "prefixed"):
            _refuse_character(sql, at, kind)
        if kind != "space":
            found.append((kind, match.group(), at))
        at = match.end()
    found += [("end", "", end)] * 6
    return found


def _refuse_character(sql: str, at: int, kind: str) -> NoReturn:
    character = sql[at]
    if kind == "comment":
        refuse(sql, at, "a comment begins", "remove it")
    if kind == "prefixed":
        refuse(sql, at, "only plain 'strings' and X'bytes' are known", "write text in single quotes, without a prefix")
    if character in "'`\"":
        refuse(sql, at, f"the quote {character} is not closed, or quotes nothing", "close it; double a quote within")
    if character in "?$:":
        refuse(sql, at, f"{character!r} is a placeholder", "write the value itself")
    if character == ";":
        refuse(sql, at, "';' ends a statement", "a filter is one expression: remove it")
    what = "a number that goes on as a word" if character.isdigit() else f"{character!r}"
    refuse(sql, at, f"{what} is not known in filters", "put names with signs in `backticks`")


def refuse(sql: str, at: int, what: str, remedy: str) -> NoReturn:
    """Raise the `InvalidInputError` that says what is wrong at a character of a filter, and what to do."""
    shown = repr(sql) if len(sql) <= 100 else f"{sql[:100]!r}... ({len(sql):,} characters)"
    raise InvalidInputError(f"where={shown} cannot be used: at character {at}, {what}; {remedy}")


def quoted(name: str) -> str:
    """Return a name as it was given, in backticks where it stood in quotes."""
    return name if name[0] not in '`"' else backticked(name)


def backticked(name: str) -> str:
    """Return a name in backticks."""
    if name[0] == '"':
        name = name[1:-1].replace('""', '"').replace("`", "``")
        return f"`{name}`"
    return name if name[0] == "`" else f"`{name}`"
