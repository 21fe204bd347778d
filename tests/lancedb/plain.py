"""What these tests share: tables of this library as plain LanceDB opens them."""

import lancedb


def plain_table(folder, name="passages"):
    return lancedb.connect(folder).open_table(name)
