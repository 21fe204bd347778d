"""Where a checkpoint lies: local folders, Hub names, short names of the original DPR pairs. Needs no torch."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from dpr_lance.errors import EncoderError, InvalidInputError

Named = str | Path
CheckpointSource = Named | tuple[Named, Named]
"""A folder, a `.cp` file, a Hub name or a short name; or a pair of folders or Hub names: (question, passage)."""
Revision = str | tuple[str, str] | None
"""A branch, tag or commit of the Hub repository; for a pair one for both or one for each."""

SHORT_NAMES = {
    "dpr-single-nq": ("facebook/dpr-question_encoder-single-nq-base", "facebook/dpr-ctx_encoder-single-nq-base"),
    "dpr-multiset": ("facebook/dpr-question_encoder-multiset-base", "facebook/dpr-ctx_encoder-multiset-base"),
}
"""The pairs that the paper's authors published on the Hub (licence cc-by-nc-4.0)."""

QUESTION_FOLDER, PASSAGE_FOLDER = "question", "passage"
"""Sub-folders that make one local folder a pair."""

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_DESCRIPTION_FILES = ("*.json", "*.metadata", "*.txt", "*.model", "README.md", "*.safetensors")
_PICKLED_WEIGHTS = ("pytorch_model*.bin", "[0-9]*_*/pytorch_model.bin")


@dataclass(frozen=True, slots=True)
class Located:
    """A checkpoint on this machine: a folder for each side (the same one when weights are shared)."""

    name: str
    """Short and readable, for the card."""
    source: str
    """What the user named, with Hub revisions resolved to commits."""
    root: Path
    """Where an `encoder.json` of our own would lie."""
    question: Path
    passage: Path


def locate(source: CheckpointSource, *, revision: Revision = None) -> Located:
    """Return the local folders of `source`, downloading Hub repositories into the Hugging Face cache when needed.

    Honours HF_HUB_OFFLINE, HF_HOME and HF_TOKEN; a progress bar is shown on a terminal only. Weights come as
    safetensors where the repository has them. Raises `EncoderError` when there is no such folder or repository, or
    when it cannot be reached and is not in the cache.
    """
    short = source if isinstance(source, str) and source in SHORT_NAMES and not Path(source).exists() else None
    if short:
        source = SHORT_NAMES[short]
    if isinstance(source, tuple):
        return _locate_pair(source, revision, short)
    if isinstance(revision, tuple):
        raise InvalidInputError(f"two revisions {revision!r} for one checkpoint {str(source)!r}: give one")
    folder, identity = _fetch(source, revision)
    question, passage = folder / QUESTION_FOLDER, folder / PASSAGE_FOLDER
    name = Path(source).resolve().stem if folder.is_file() else Path(source).name or folder.resolve().name
    if question.is_dir() and passage.is_dir():
        return Located(name, identity, folder, question, passage)
    return Located(name, identity, folder, folder, folder)


def _locate_pair(pair: tuple[Named, Named], revision: Revision, short: str | None) -> Located:
    if len(pair) != 2:
        raise InvalidInputError(f"a pair is (question encoder, passage encoder), not {len(pair)} names: {pair!r}")
    revisions = revision if isinstance(revision, tuple) else (revision, revision)
    (question, question_identity), (passage, passage_identity) = (
        _fetch(named, wanted) for named, wanted in zip(pair, revisions, strict=True)
    )
    identity = question_identity if question == passage else f"{question_identity} + {passage_identity}"
    name = short or Path(pair[0]).name
    return Located(name, identity, question, question, passage)


def _fetch(named: Named, revision: str | None) -> tuple[Path, str]:
    """Return the local path of `named` and its identity: the path, or `repository@commit`."""
    path = Path(named)
    if path.exists():
        if revision is not None:
            raise InvalidInputError(f"{named} is a local path, which has no revision {revision!r}: leave it out")
        return path, str(path.resolve())
    if isinstance(named, Path) or not _HUB_NAME.fullmatch(named):
        raise EncoderError(f"{named} does not exist: name a folder, a .cp file or a Hub repository")
    folder = _download(named, revision)
    return folder, f"{named}@{folder.name}"


def _download(repository: str, revision: str | None) -> Path:
    """Return the repository's snapshot folder, whose name is the commit."""
    try:
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=list(_DESCRIPTION_FILES)))
        if not any([*folder.glob("model*.safetensors"), *folder.glob("0_*/model*.safetensors")]):
            patterns = [*_DESCRIPTION_FILES, *_PICKLED_WEIGHTS]
            folder = Path(snapshot_download(repository, revision=revision, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        at = f" at revision {revision!r}" if revision else ""
        why = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise EncoderError(
            f"no folder is named {repository!r} here, and the Hub repository of that name{at} cannot be reached: "
            f"{why}. Check the name, the connection, HF_HUB_OFFLINE and (private repositories) HF_TOKEN"
        ) from error
    return folder


def read_json(path: Path, missing: str | None) -> dict[str, Any]:
    """Return the JSON object in `path`; without the file an empty one, or `EncoderError(missing)` when given."""
    if not path.is_file():
        if missing is not None:
            raise EncoderError(missing)
        return {}
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise EncoderError(f"{path} is not JSON ({error})") from error
    if not isinstance(values, dict):
        raise EncoderError(f"{path} is not a JSON object")
    return values
