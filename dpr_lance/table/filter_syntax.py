"""The SQL of filters: one expression of known form and bounded size, rewritten for the engine.

LanceDB's parser reads the first expression of a string and ignores the rest, and deep or long expressions overflow the
stack of its threads, which ends the process. So every filter is read here first; what is unknown here is refused. The
engine gets the tokens in one pair of parentheses and cannot read them in another way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import NoReturn

from dpr_lance.table.filter_tokens import Token, backticked, quoted, refuse, tokens_of

MOST_CHARACTERS = 4_000_000
MOST_VALUES = 100_000
"""Values in lists."""
MOST_TERMS = 4_000
"""Columns, operators and function calls, as the engine counts them: it writes the operand of BETWEEN twice."""
DEEPEST = 40
"""Nested operators; a chain of AND or OR counts as one. The engine's threads overflow beyond 200."""
MOST_BRACKETS = 12
"""Nested brackets, except those that change nothing. The engine's parser gives up at about 24."""
MOST_JOINED = 20
"""Texts joined by || or concat, each as long as a passage."""

_CALLED = """
    lower upper length char_length character_length octet_length btrim ltrim rtrim left right substr split_part
    reverse strpos instr starts_with ends_with contains regexp_like concat abs round trunc sqrt signum greatest
    least isnan coalesce nvl ifnull nullif is_valid date_part date_trunc to_date to_timestamp now current_date
    current_timestamp array_has array_contains list_has list_contains array_has_any list_has_any array_has_all
    list_has_all arrays_overlap array_length list_length cardinality array_position array_element make_array empty
    get_field
    """
FUNCTIONS = frozenset(_CALLED.split())
"""Functions that are useful in a filter and need no more memory than the columns that they read."""

_DOUBLING = frozenset({"coalesce", "nvl", "ifnull"})
_PLAIN_TYPES = """
    tinyint smallint int integer bigint float double string binary boolean date timestamp datetime decimal
    """
_TYPES = {name: name for name in _PLAIN_TYPES.split()} | {"varchar": "string", "text": "string"}
_COMPARISONS = {"=": "=", "==": "=", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_ARITHMETIC = frozenset({"+", "-", "*", "/", "%", "||"})
_KEYWORDS = "and or in is like ilike between escape select from where union case exists interval"
_NOT_NAMES = frozenset(_KEYWORDS.split())

_OF_BRACKETS = {"(": ")", "[": "]"}


@dataclass(slots=True)
class _Level:
    """The contents of one pair of brackets, or of the whole filter."""

    kind: str
    """"whole", "group", "call", "list", "array", "index" or "cast"."""
    at: int
    out: list[str] = field(default_factory=list)
    terms: int = 0
    """Those of the finished parts: a part ends at AND, OR and a comma."""
    part: int = 0
    operators: int = 0
    """Nested operators of the part, and the depth of the deepest brackets in it."""
    inner: int = 0
    deepest: int = 0
    brackets: int = 0
    betweens: int = 0
    junctions: set[str] = field(default_factory=set)
    function: str = ""

    def finish_part(self) -> None:
        self.terms += self.part
        self.deepest = max(self.deepest, self.operators + self.inner)
        self.part = self.operators = self.inner = 0


class _Reader:
    """Reads one filter from left to right: an operand, or an operator after one."""

    def __init__(self, sql: str, functions: frozenset[str]) -> None:
        self.sql = sql
        self.functions = functions
        self.tokens: list[Token] = tokens_of(sql)
        self.index = 0
        self.levels = [_Level("whole", 0)]
        self.values = 0
        self.joined = 0

    def read(self) -> str:
        expected = True
        while self.tokens[self.index][0] != "end":
            expected = self._operand() if expected else self._operator()
        level = self.levels[-1]
        if level.kind != "whole":
            opener = self.sql[level.at]
            refuse(self.sql, level.at, f"{opener!r} is not closed", f"add {_OF_BRACKETS[opener]!r}")
        if expected or level.betweens:
            what = "BETWEEN without AND" if level.betweens else "the end" if level.out else "nothing at all"
            refuse(self.sql, len(self.sql), f"a value or a column is missing: there is {what}", "complete it")
        level.finish_part()
        self._bound(level)
        return " ".join(level.out)

    def _operand(self) -> bool:  # noqa: PLR0911, RET503 - one branch for each form; the last call does not return
        kind, text, at = self.tokens[self.index]
        level = self.levels[-1]
        word = text.lower() if kind == "word" else ""
        if kind in ("text", "number", "hex") or word in ("true", "false", "null"):
            self.index += 1
            self.values += 1
            level.out.append(text)
            return False
        if text == "-" or word == "not":
            self._emit(text.upper(), operators=1)
            return True
        if text in ("(", "["):
            self._open("group" if text == "(" else "array", text)
            return True
        if (text, level.out[-1:]) == ("]", ["["]) and level.kind == "array":
            return self._close(text)
        if text == ")" and level.kind == "call" and len(level.out) == 1:
            return self._close(text)
        if word == "array" and self._next() == "[":
            self.index += 1
            return True
        if word in ("cast", "try_cast", "safe_cast") and self._next() == "(":
            self.index += 1
            level.out.append("CAST" if word == "cast" else "TRY_CAST")
            self._open("cast", "(")
            return True
        if word and self._typed_literal():
            return False
        if kind in ("word", "name"):
            return self._name(kind, text, at, word)
        self._misplaced("a value or a column")

    def _name(self, kind: str, text: str, at: int, word: str) -> bool:
        level = self.levels[-1]
        if kind == "word" and self._next() == "(":
            if word not in self.functions:
                known = ", ".join(sorted(FUNCTIONS))
                refuse(self.sql, at, f"{text} is not a function that filters may call", f"use one of {known}")
            self.index += 1
            level.out.append(word)
            self._open("call", "(")
            self.levels[-1].function = word
            if word == "concat":
                self._join(at)
            return True
        if word in _NOT_NAMES:
            self._misplaced("a value or a column")
        if kind == "word" and not all(character.isascii() or character.isalpha() for character in text):
            refuse(self.sql, at, f"{text} is not a plain name", f"write it in backticks: `{text}`")
        self._emit(quoted(text))
        return False

    def _operator(self) -> bool:  # noqa: C901, PLR0911, PLR0912, PLR0915, RET503 - a branch for each operator
        kind, text, at = self.tokens[self.index]
        level = self.levels[-1]
        word = text.lower() if kind == "word" else ""
        if word in ("and", "or"):
            if word == "and" and level.betweens:
                level.betweens -= 1
                self._emit("AND", operators=0)
                return True
            level.finish_part()
            level.junctions.add(word)
            self._emit(word.upper(), operators=0)
            return True
        if text in _COMPARISONS:
            self._emit(_COMPARISONS[text], operators=1)
            return True
        if text in _ARITHMETIC:
            if text == "||":
                self._join(at)
            self._emit(text, operators=1)
            return True
        if word == "not" and self._next().lower() in ("in", "like", "ilike", "between"):
            level.out.append("NOT")
            self.index += 1
            return self._operator()
        if word in ("like", "ilike"):
            self._emit(text.upper(), operators=1)
            return True
        if word == "between":
            level.part *= 2
            level.betweens += 1
            self._emit("BETWEEN", operators=2)
            return True
        if word == "in" and self._next() == "(":
            self._emit("IN", operators=1)
            self._open("list", "(")
            return True
        if word == "is":
            self._is()
            return False
        if word == "escape" and self.tokens[self.index + 1][0] == "text":
            level.out += ["ESCAPE", self.tokens[self.index + 1][1]]
            self.index += 2
            return False
        if text == "::" or (word == "as" and level.kind == "cast"):
            self._emit("AS" if word else "::", operators=1)
            level.out.append(self._type())
            if word and self.tokens[self.index][1] != ")":
                self._misplaced("')'")
            return False
        if text == "[":
            self._emit("", operators=1, stay=True)
            self._open("index", "[")
            return True
        if text == "." and self.tokens[self.index + 1][0] in ("word", "name"):
            self._emit(".", operators=1)
            level.out.append(backticked(self.tokens[self.index][1]))
            self.index += 1
            return False
        if text == "," and level.kind in ("call", "list", "array"):
            level.finish_part()
            if level.function == "concat":
                self._join(at)
            self._emit(",", operators=0, terms=0)
            return True
        if text in (")", "]"):
            return self._close(text)
        self._misplaced("an operator such as AND, =, IN or LIKE")

    def _is(self) -> None:
        self._emit("IS", operators=1)
        out, negated = self.levels[-1].out, self._word() == "not"
        if negated:
            out.append("NOT")
            self.index += 1
        word = self._word()
        if word not in ("null", "true", "false"):
            self._misplaced("NULL, TRUE or FALSE after IS")
        # With an index LanceDB takes `flag IS TRUE` for `flag = TRUE`, null where the flag is null; IS NOT is right.
        out.append(word.upper() if negated or word == "null" else f"NOT {word.upper()} IS NOT TRUE")
        self.index += 1

    def _word(self) -> str:
        kind, text, _ = self.tokens[self.index]
        return text.lower() if kind == "word" else ""

    def _open(self, kind: str, opener: str) -> None:
        at = self.tokens[self.index][2]
        self.index += 1
        self.levels.append(_Level(kind, at, [opener]))

    def _close(self, closer: str) -> bool:
        level, at = self.levels[-1], self.tokens[self.index][2]
        if level.kind == "whole" or _OF_BRACKETS[level.out[0]] != closer:
            refuse(self.sql, at, f"{closer!r} closes nothing", "remove it")
        if level.betweens:
            refuse(self.sql, at, "BETWEEN has no AND", "write BETWEEN low AND high")
        if level.kind == "cast" and "AS" not in level.out:
            self._misplaced("AS and a type")
        level.finish_part()
        self._bound(level)
        self.levels.pop()
        self.index += 1
        outer = self.levels[-1]
        plain = level.kind == "group" and self._changes_nothing(level, outer)
        outer.out += level.out[1:] if plain else [*level.out, closer]
        outer.part += level.terms * (2 if level.function in _DOUBLING else 1) + (level.kind == "call")
        outer.inner = max(outer.inner, level.deepest + (not plain))
        outer.brackets = max(outer.brackets, level.brackets + (not plain))
        if plain:
            outer.junctions |= level.junctions
        return False

    def _changes_nothing(self, level: _Level, outer: _Level) -> bool:
        """Tell whether the brackets of a group can be left out between AND, OR and the ends of its surroundings."""
        left = outer.out[-1] if outer.out else "("
        kind, text, _ = self.tokens[self.index]
        right = text.upper() if kind == "word" else text if kind == "sign" else ""
        if left not in ("(", ",", "AND", "OR") or right not in ("", ")", ",", "AND", "OR") or outer.betweens:
            return False
        # The AND of a BETWEEN is not a junction, and not distinguished here: such brackets stay.
        if (right == "" and kind != "end") or "BETWEEN" in outer.out or outer.kind in ("cast", "index"):
            return False
        return "or" not in level.junctions or "AND" not in (left, right)

    def _bound(self, level: _Level) -> None:
        for name, count, most in (
            ("values", self.values, MOST_VALUES),
            ("columns, operators and function calls", level.terms, MOST_TERMS),
            ("operators within each other", level.deepest, DEEPEST),
            ("brackets within each other", level.brackets, MOST_BRACKETS),
        ):
            if count > most:
                many = "give lists of values as IN (...), and split the rest into several calls"
                refuse(self.sql, level.at, f"there are more than {most:,} {name}", many)

    def _join(self, at: int) -> None:
        self.joined += 1
        if self.joined > MOST_JOINED:
            refuse(self.sql, at, f"it joins more than {MOST_JOINED} texts by || and concat", "join fewer")

    def _emit(self, text: str, *, operators: int = 0, terms: int = 1, stay: bool = False) -> None:
        level = self.levels[-1]
        if text:
            level.out.append(text)
        level.operators += operators
        level.part += terms
        if not stay:
            self.index += 1

    def _next(self) -> str:
        return self.tokens[self.index + 1][1]

    def _typed_literal(self) -> bool:
        """Read a literal such as DATE '2024-12-31'; return whether it is one."""
        start = self.index
        kind, text, _ = self.tokens[start + 1]
        sized = text == "(" and self.tokens[start + 2][0] == "number"
        if self._word() not in _TYPES or not (kind == "text" or sized or text.lower() == "unsigned"):
            return False
        name = self._type()
        kind, text, _ = self.tokens[self.index]
        if kind != "text":
            self.index = start
            return False
        self.levels[-1].out += [name, text]
        self.levels[-1].part += 1
        self.index += 1
        self.values += 1
        return True

    def _type(self) -> str:
        kind, text, at = self.tokens[self.index]
        name = _TYPES.get(text.lower()) if kind == "word" else None
        if name is None:
            refuse(self.sql, at, f"{text or 'the end'} is not a type", f"use one of {', '.join(_TYPES)}")
        self.index += 1
        sizes: list[str] = []
        if self.tokens[self.index][1] == "(":
            shape = [token[1] for token in self.tokens[self.index : self.index + 5]]
            sizes = shape[1:4:2] if shape[2:3] == [","] else shape[1:2]
            closing = self.index + 2 * len(sizes)
            if not all(size.isdecimal() for size in sizes) or self.tokens[closing][1] != ")":
                self._misplaced("a type such as decimal(10, 2)")
            self.index = closing + 1
        if name == "decimal" and (
            len(sizes) != 2 or not 0 < int(sizes[0][:9]) <= 38 or int(sizes[1][:9]) > int(sizes[0])
        ):
            refuse(
                self.sql, at, "a decimal needs its digits, up to 38, and how many are fractional", "as decimal(10, 2)"
            )
        unsigned = self.tokens[self.index][1].lower() == "unsigned"
        self.index += unsigned
        if sizes and (unsigned or name != "string"):
            name += f"({', '.join(sizes)})"
        return name + " unsigned" * unsigned

    def _misplaced(self, expected: str) -> NoReturn:
        _, text, at = self.tokens[self.index]
        remedy = "a filter is one whole expression, as year > 2000 AND kind = 'range'"
        if text.lower() in ("limit", "order", "group", "select", "union", "offset", "having"):
            remedy = f"a filter has no clauses: remove {text.upper()}; put a column of that name in backticks"
        elif text.lower() in ("case", "exists", "interval", "similar", "any", "all"):
            remedy = f"the engine has no {text.upper()} in filters"
        found = "the end" if not text else text[:40]
        refuse(self.sql, at, f"expected {expected}, found {found}", remedy)


def checked_sql(sql: str, *, functions: frozenset[str] = FUNCTIONS) -> str:
    """Return a filter for the engine, in parentheses, which keep it one expression.

    Raises `InvalidInputError` with the place and the remedy for what is not one whole expression of the known form,
    calls a function that is not in `FUNCTIONS`, or is too long or too deep.
    """
    if len(sql) <= _KEPT_CHARACTERS:
        return _kept(sql, functions)
    return _read(sql, functions)


def _read(sql: str, functions: frozenset[str]) -> str:
    if len(sql) > MOST_CHARACTERS:
        refuse(sql, MOST_CHARACTERS, f"it has {len(sql):,} characters, more than {MOST_CHARACTERS:,}", "split it")
    try:
        sql.encode()
    except UnicodeEncodeError as error:
        refuse(sql, error.start, "half of a surrogate pair is not a character", "remove it")
    return f"({_Reader(sql, functions).read()})"


_KEPT_CHARACTERS = 500
_kept = lru_cache(maxsize=256)(_read)
"""Filters repeat."""
