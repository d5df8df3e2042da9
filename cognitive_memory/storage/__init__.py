"""One SQLite file as the record, and the indexes that are derived from it."""
