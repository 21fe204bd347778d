"""The tokenizer of a bundle, whose failures are errors of this library."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dpr_lance.encoders.bundle_folder import TOKENIZER, BundleFolder
from dpr_lance.errors import is_panic

if TYPE_CHECKING:  # loaded at the first text: importing this module stays cheap
    from tokenizers import Tokenizer


def bundle_tokenizer(bundle: BundleFolder[Any], *, limit: int | None = None) -> Tokenizer:
    """Return the tokenizer that cuts at `limit` tokens; the padding and truncation in its file are never used.

    Raises the bundle's error when the file is damaged.
    """
    from tokenizers import Tokenizer  # noqa: PLC0415

    path = bundle.verified(TOKENIZER)
    with tokenizing(bundle):
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        if limit is not None:
            tokenizer.enable_truncation(limit)
    return tokenizer


@contextmanager
def tokenizing(bundle: BundleFolder[Any]) -> Iterator[None]:
    """Turn whatever the bundle's tokenizer raises into the bundle's error, panics too."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        raise bundle.error(
            f"{bundle.folder / TOKENIZER} cannot be used by the `tokenizers` package: {error}"
        ) from error
