"""LlamaIndex's nodes as documents of a table, and passages as nodes."""

from __future__ import annotations

from collections.abc import Sequence

from llama_index.core.schema import BaseNode, MetadataMode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict

from dpr_lance.documents.document import Document
from dpr_lance.errors import InvalidInputError
from dpr_lance.integrations.columns import read_metadata, stored_metadata
from dpr_lance.records.hits import Hit
from dpr_lance.records.passage import Passage

TITLE = "title"
"""The metadata key that is the document's title, where it is a text."""
NODE, NODE_TYPE, SOURCE = "_node_content", "_node_type", "ref_doc_id"
"""Columns of a node without its text and metadata, as JSON; of its class; and of the id of its source document."""


def table_document(node: BaseNode, place: str) -> Document:
    """Return a node as a document of one passage; its metadata become columns."""
    if not isinstance(node, BaseNode):
        raise InvalidInputError(f"{place}: give a node of LlamaIndex, not {type(node).__name__} ({node!r:.60})")
    metadata = dict(node.metadata)
    rest = node.model_copy(update={"metadata": {key: None for key, value in metadata.items() if value is None}})
    title = metadata.pop(TITLE) if isinstance(metadata.get(TITLE), str) else ""
    about = node_to_metadata_dict(rest, remove_text=True)
    own = {NODE: about[NODE], NODE_TYPE: about[NODE_TYPE], SOURCE: node.ref_doc_id}
    text = node.get_content(metadata_mode=MetadataMode.NONE)
    columns = stored_metadata(metadata, place=place) | {name: value for name, value in own.items() if value is not None}
    return Document(text, title, node.node_id, columns).checked(place=f"{place} (node {node.node_id!r})")


def node_of(found: Hit | Passage) -> BaseNode:
    """Return a passage as the node that it was, or as a `TextNode` where dpr_lance has added it."""
    metadata = read_metadata(found)
    about = {name: metadata.pop(name, None) for name in (NODE, NODE_TYPE, SOURCE)}
    if found.title:
        metadata = {TITLE: found.title} | metadata
    if about[NODE] is None:
        source = RelatedNodeInfo(node_id=found.document_id)
        return TextNode(
            id_=found.id,
            text=found.text,
            metadata=metadata,
            relationships={NodeRelationship.SOURCE: source},
            start_char_idx=found.start,
            end_char_idx=found.end,
        )
    node = metadata_dict_to_node(about, text=found.text)
    node.metadata = metadata | node.metadata
    return node


def nodes_of(found: Sequence[Hit | Passage]) -> list[BaseNode]:
    """Return passages as nodes."""
    return [node_of(each) for each in found]
