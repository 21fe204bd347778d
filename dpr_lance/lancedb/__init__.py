"""LanceDB's own interfaces: the embedding function `dpr`, and rerankers. Importing this package registers the function.

import lancedb
import dpr_lance.lancedb

table = lancedb.connect("wiki.lance").open_table("passages")  # made by dpr_lance.connect
table.search("who first voiced meg on family guy?", query_type="hybrid").limit(10).to_list()
"""

from dpr_lance.lancedb.embedding_function import DprEmbeddings as DprEmbeddings
from dpr_lance.lancedb.fusion import DprFusion as DprFusion
from dpr_lance.lancedb.own_tables import read_own_tables
from dpr_lance.lancedb.reader_reranker import DprReader as DprReader

__all__ = ["DprEmbeddings", "DprFusion", "DprReader"]

read_own_tables()
