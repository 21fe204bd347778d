"""The table of passages in its LanceDB database: its form, its versions, its filters, and who may change it when."""
