"""What a user would otherwise pick, each run in a virtual environment of its own as its documentation shows.

Every module here has two verbs, `ingest` and `opened`, and runs as a process: see `protocol`. Versions are pinned in
the .txt file next to it. All read the same MiniLM weights from the same files.
"""
