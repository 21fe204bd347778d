"""Random steps: what is chosen depends on the phase, so that tables grow, shrink, change and rest for a while each."""

import datetime as dt
import decimal
import unicodedata

import pyarrow as pa

from tests.model import filters as table_filters
from tests.model.encoders import NO_WORD
from tests.model.values import BASE, FIELDS, ODD_NAMES, ODD_VALUES, UTC

WORDS = (
    *("river", "rivers", "glacier", "canyon", "delta", "fjord", "tundra", "the", "of", "run", "2024"),
    *(
        "Zürich",
        "zurich",
        unicodedata.normalize("NFD", "Zürich"),
        "한국",
        unicodedata.normalize("NFD", "한국"),
        NO_WORD,
    ),
)
TITLES = ("", "", "atlas", "Globe of rivers")
NAMES = 90

PHASES = {
    "bulk": {"add": 12, "optimize": 1, "search": 6, "embed": 1},
    "deletes": {"delete": 8, "delete_where": 5, "plain_delete": 3, "optimize": 6, "search": 14, "add": 2, "reopen": 1},
    "updates": {"add": 12, "add_odd": 5, "add_arrow": 2, "delete": 2, "optimize": 2, "search": 8, "embed": 2},
    "quiet": {
        "search": 20, "search_without_vector": 1, "get": 4, "context": 3, "info": 2,
        "cut_short": 3, "optimize": 2, "reopen": 1,
    },
    "plain": {
        "plain_append": 3, "plain_delete": 3, "plain_delete_where": 2,
        "plain_update": 2, "plain_add_column": 1, "plain_drop_column": 2,
        "plain_optimize": 3, "plain_clean": 1, "plain_tag": 2, "plain_restore": 4, "plain_open": 3, "plain_read": 3,
        "add": 8, "optimize": 4, "search": 10,
    },
    "changes": {
        "reembed": 2, "remake": 2, "remove": 1, "damaged_copy": 1, "plain_restore": 2, "plain_tag": 2, "add": 8,
        "search": 10,
        "optimize": 2, "embed": 2, "delete": 2, "info": 1, "get": 2,
    },
}  # fmt: skip
"""How often each step is taken in a phase."""

DECLARED = {
    "price": [(pa.decimal128(12, 2), lambda choose: decimal.Decimal(choose.randint(1, 999)) / 100)],
    "year": [
        (pa.int8(), lambda choose: choose.randint(-128, 127)),
        (pa.uint64(), lambda choose: 2**63 + choose.randint(0, 3)),
    ],
    "at": [
        (pa.timestamp("ns"), lambda choose: BASE + dt.timedelta(seconds=choose.randint(0, 3))),
        (pa.timestamp("ms", "UTC"), lambda choose: BASE.replace(tzinfo=UTC)),
    ],
    "kind": [
        (pa.large_string(), lambda choose: choose.choice("xy")),
        (pa.dictionary(pa.int32(), pa.string()), lambda choose: choose.choice("xy")),
    ],
    "tags": [(pa.large_list(pa.string()), lambda choose: ["a"] * choose.randint(0, 2))],
    "ratio": [(pa.float32(), lambda choose: choose.choice([0.5, 1.25]))],
    "clock": [
        (pa.time64("us"), lambda choose: dt.time(choose.randint(0, 23), 1)),
        (pa.duration("us"), lambda choose: dt.timedelta(1)),
    ],
}
"""Columns of Arrow sources: types, and values of them."""


class Choices:
    """Makes steps for a world from a random generator."""

    def __init__(self, choose, *, leave_out=()):
        self.choose = choose
        self.leave_out = leave_out
        self.phase, self.left = "bulk", 4
        self.added = []

    def step(self, world):
        """Return the next step: its name and its arguments."""
        if not self.left:
            self.phase, self.left = self.choose.choice(list(PHASES)), self.choose.randint(5, 25)
        self.left -= 1
        weights = {name: weight for name, weight in PHASES[self.phase].items() if name not in self.leave_out}
        name = self.choose.choices(list(weights), list(weights.values()))[0]
        arguments = getattr(self, name, dict)
        chosen = arguments(world) if name in ("context", "plain_tag") else arguments()
        by = (
            {}
            if name.startswith(("plain", "rem", "damaged")) and name != "reembed"
            else {"by": self.choose.randint(0, 1)}
        )
        return name, by | chosen

    # Documents

    def name(self):
        return f"d{self.choose.randrange(NAMES)}" if self.choose.random() < 0.97 else "d1#0"

    def document(self, name=None):
        text = " ".join(self.choose.choices(WORDS, k=self.choose.choice([1, 2, 3, 5, 9, 14])))
        document = {"id": name or self.name(), "title": self.choose.choice(TITLES), "text": text}
        fields = self.choose.sample(
            [field for field in FIELDS if field not in self.leave_out], self.choose.choice([0, 1, 2, 3])
        )
        return document | {field: FIELDS[field](self.choose) for field in fields}

    def documents(self, most):
        documents = [self.document() for _ in range(self.choose.randint(1, most))]
        if self.added and self.choose.random() < 0.5:
            again = [dict(self.choose.choice(self.added)) for _ in range(self.choose.randint(1, 5))]
            for document in again[1::2]:
                self.change(document)
            documents += again
        self.added = [*self.added, *documents][-100:]
        return documents

    def change(self, document):
        """Change one thing about a document, or nothing."""
        field = self.choose.choice(["title", "text", "nothing", *(name for name in document if name in FIELDS)])
        if field == "title":
            document["title"] = self.choose.choice(TITLES)
        elif field == "text":
            document["text"] += " " + self.choose.choice(WORDS)
        elif field in FIELDS:
            document[field] = FIELDS[field](self.choose) if self.choose.random() < 0.7 else None

    def add(self):
        documents = self.documents(60 if self.phase == "bulk" else 6)
        words = self.choose.choice(["own", "own", "own", "own", None, 3])
        form = self.choose.choice(["list", "list", "generator", "arrow", "reader", "pandas", "polars"])
        form = "list" if "forms" in self.leave_out else form
        return {"documents": documents, "words": words, "embed": self.choose.random() < 0.8, "form": form}

    def add_odd(self):
        names = self.choose.sample(range(NAMES), self.choose.randint(1, 5))
        documents = [self.document(f"d{number}") for number in names]
        odd = self.choose.sample(documents, self.choose.randint(1, min(2, len(documents))))
        for document in odd:
            name = self.choose.choice([*FIELDS, *FIELDS, *ODD_NAMES])
            document[name] = self.choose.choice(ODD_VALUES)
        return {
            "documents": documents,
            "odd": [document["id"] for document in odd],
            "on_error": self.choose.choice(["raise", "skip"]),
            "embed": self.choose.random() < 0.8,
        }

    def add_arrow(self):
        documents = [
            self.document(f"d{number}") for number in self.choose.sample(range(NAMES), self.choose.randint(1, 4))
        ]
        name = self.choose.choice(list(DECLARED))
        kind, value = self.choose.choice(DECLARED[name])
        for document in documents:
            document[name] = value(self.choose) if self.choose.random() < 0.8 else None
        return {"documents": documents, "types": {name: kind}}

    # Arguments of the other steps

    def names(self, most):
        names = [self.name() for _ in range(self.choose.randint(1, most))]
        named = [name if self.choose.random() < 0.6 else f"{name}#{self.choose.randint(0, 3)}" for name in names]
        return named if self.choose.random() < 0.9 or "numbers" in self.leave_out else [*named, 7]

    def delete(self):
        return {"names": self.names(14 if self.phase == "deletes" else 3)}

    def get(self):
        return {"names": self.names(4)}

    def context(self, world):
        rows = world.model.rows()
        name = self.choose.choice(rows).id if rows else "d1#0"
        return {"name": name, "before": self.choose.randint(0, 2), "after": self.choose.randint(0, 2)}

    def delete_where(self):
        return {"where": table_filters.generate(self.choose)}

    plain_delete_where = delete_where

    def cut_short(self):
        form = self.choose.randrange(len(table_filters.CUT_SHORT))
        return {"where": ("compare", "document_id", "=", self.choose.choice(["d1", "d2"])), "form": form}

    def optimize(self):
        columns = ("year", "kind", "tags", "two words", "वर्ष")
        return {"filter_columns": (self.choose.choice(columns),)} if self.choose.random() < 0.3 else {}

    def reembed(self):
        return {"encoder": self.choose.randint(0, 2)}

    def search(self):
        several = self.choose.choice([1, 1, 1, 3])
        words = [word for word in (*WORDS, "atlas", "absent") if word != NO_WORD]
        questions = [" ".join(self.choose.choices(words, k=self.choose.randint(1, 3))) for _ in range(several)]
        where = table_filters.generate(self.choose) if self.choose.random() < 0.4 else None
        return {
            "questions": questions,
            "k": self.choose.choice([1, 2, 5, 10, 25, 100, 1000]),
            "mode": self.choose.choice(["bm25", "dense", "hybrid"]),
            "where": where,
            "expression": self.choose.random() < 0.5,
            "explain": self.choose.random() < 0.2,
        }

    def search_without_vector(self):
        return {"mode": self.choose.choice(["bm25", "dense", "hybrid"])}

    def plain_append(self):
        return {"numbers": [self.choose.randrange(1000) for _ in range(self.choose.randint(1, 4))]}

    plain_delete = plain_append

    def plain_update(self):
        return {"name": self.choose.choice(["year", "वर्ष"]), "value": self.choose.randint(1, 4)}

    def plain_add_column(self):
        return {"name": self.choose.choice(["year", "extra"]), "value": self.choose.randint(1, 4)}

    def plain_drop_column(self):
        return {"name": self.choose.choice([*FIELDS, "extra"])}

    def plain_tag(self, world):
        return {"name": f"tag-{len(world.versions)}"}

    def plain_restore(self):
        return {"back": self.choose.choice([0, 1, 2, 3, 10])}

    def remake(self):
        documents = [self.document() for _ in range(self.choose.randint(1, 30))]
        return {"documents": documents, "encoder": self.choose.randint(0, 2), "embed": self.choose.random() < 0.9}

    def damaged_copy(self):
        return {"number": self.choose.choice([0, self.choose.randrange(1000)]), "question": "river"}
