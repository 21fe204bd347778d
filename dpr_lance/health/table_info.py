"""The record that `info` returns."""

from __future__ import annotations

import pyarrow.compute as pc

from dpr_lance.indexes.maintenance import index_infos
from dpr_lance.records.table_info import TableInfo
from dpr_lance.search.asked import AskedQuestions
from dpr_lance.table.completion import count_incomplete
from dpr_lance.table.schema import DOCUMENT_ID, metadata_fields
from dpr_lance.table.store import Store
from dpr_lance.table.tuning import answer_calibration_in, calibration_in, training_of


def table_info(store: Store, asked: AskedQuestions, bytes_resident: int) -> TableInfo:
    """Return counts, encoder, indexes, calibration and size; see `Retriever.info`."""
    card = store.find_card()
    if card is None:
        return TableInfo(uri=store.uri, table=store.name)
    training = training_of(store, card)
    chosen = store.remembered.values()
    documents = pc.count_distinct(store.select([DOCUMENT_ID], None)[DOCUMENT_ID]).as_py()
    return TableInfo(
        uri=store.uri,
        table=store.name,
        documents=documents,
        passages=store.count(),
        embedded=store.count(card.embedded),
        incomplete=count_incomplete(store),
        encoder=card.encoder,
        splitter=card.splitter,
        metadata={field.name: str(field.type) for field in metadata_fields(store.schema())},
        indexes=store.retry_on_conflict(index_infos),
        recall=None if training is None else training.recall,
        calibration=calibration_in(chosen, card),
        learned=asked.learned_in(chosen, card),
        bytes_on_disk=store.files.bytes_on_disk(),
        bytes_resident=bytes_resident,
        versions=store.retry_on_conflict(lambda table: len(table.list_versions())),
        language=card.language,
        answers=answer_calibration_in(chosen),
    )
