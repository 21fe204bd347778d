"""What `check` reports: one record for each damage, with its remedy."""

from __future__ import annotations

from dataclasses import dataclass

IDS_NAMED = 20
"""A finding names this many ids; it counts all."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One damage: what and where it is, and what to do.

    `file` is the damaged file, if any; `ids` are the first of the `count` passages that are affected.
    """

    what: str
    remedy: str
    file: str | None = None
    ids: tuple[str, ...] = ()
    count: int = 0

    def __str__(self) -> str:
        more = "" if self.count <= len(self.ids) else ", …"
        named = f" ({self.count:,}: {', '.join(self.ids)}{more})" if self.ids else ""
        return f"{self.what}{named}; {self.remedy}"


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What `check` has read, and what it found; `ok` when it found nothing.

    `files` were compared with the checksums from when they were written; `files_without` have none, because another
    program wrote them, so that only their content can be checked. `encoded` passages were encoded again to compare
    their vectors; `not_encoded` says why none were.
    """

    findings: tuple[Finding, ...] = ()
    passages: int = 0
    documents: int = 0
    files: int = 0
    files_without: int = 0
    indexes: tuple[str, ...] = ()
    encoded: int = 0
    not_encoded: str | None = None
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged."""
        return not self.findings
