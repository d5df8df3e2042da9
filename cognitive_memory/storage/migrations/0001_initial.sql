-- Memories, what hangs on them, and the indexes that SQLite itself keeps.

CREATE TABLE properties (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE memories (
    pk INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    content TEXT NOT NULL,
    hierarchy_level INTEGER NOT NULL,
    memory_type TEXT NOT NULL,
    importance_score REAL NOT NULL,
    source_path TEXT,
    source_type TEXT NOT NULL,
    created_us INTEGER NOT NULL,        -- microseconds since 1970, UTC
    last_accessed_us INTEGER NOT NULL,
    access_count INTEGER NOT NULL,
    metadata TEXT NOT NULL              -- JSON object
);
CREATE INDEX memories_by_source ON memories (source_path) WHERE source_path IS NOT NULL;
CREATE INDEX memories_by_time ON memories (created_us);

CREATE TABLE tags (
    memory_pk INTEGER NOT NULL REFERENCES memories (pk) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    tag TEXT NOT NULL,
    PRIMARY KEY (memory_pk, position)
) WITHOUT ROWID;
CREATE INDEX tags_by_tag ON tags (tag, memory_pk);

-- Ids only grow, so an index in memory catches up by asking for those beyond its last one.
CREATE TABLE vectors (
    vector_id INTEGER PRIMARY KEY AUTOINCREMENT,
    memory_pk INTEGER NOT NULL REFERENCES memories (pk) ON DELETE CASCADE,
    chunk INTEGER NOT NULL,
    vector BLOB NOT NULL,               -- float32, little endian, unit length
    UNIQUE (memory_pk, chunk)
);
CREATE TABLE vector_deletions (
    deletion_id INTEGER PRIMARY KEY AUTOINCREMENT,
    vector_id INTEGER NOT NULL
);
CREATE TRIGGER vectors_deleted AFTER DELETE ON vectors BEGIN
    INSERT INTO vector_deletions (vector_id) VALUES (old.vector_id);
END;

CREATE TABLE connections (
    source_pk INTEGER NOT NULL REFERENCES memories (pk) ON DELETE CASCADE,
    target_pk INTEGER NOT NULL REFERENCES memories (pk) ON DELETE CASCADE,
    connection_type TEXT NOT NULL,
    strength REAL NOT NULL,
    PRIMARY KEY (source_pk, target_pk, connection_type)
) WITHOUT ROWID;
CREATE INDEX connections_by_target ON connections (target_pk);

CREATE VIRTUAL TABLE memories_text USING fts5 (
    content,
    content = 'memories',
    content_rowid = 'pk',
    tokenize = 'porter unicode61 remove_diacritics 2'
);
CREATE TRIGGER memories_text_inserted AFTER INSERT ON memories BEGIN
    INSERT INTO memories_text (rowid, content) VALUES (new.pk, new.content);
END;
CREATE TRIGGER memories_text_deleted AFTER DELETE ON memories BEGIN
    INSERT INTO memories_text (memories_text, rowid, content)
    VALUES ('delete', old.pk, old.content);
END;
CREATE TRIGGER memories_text_updated AFTER UPDATE OF content ON memories BEGIN
    INSERT INTO memories_text (memories_text, rowid, content)
    VALUES ('delete', old.pk, old.content);
    INSERT INTO memories_text (rowid, content) VALUES (new.pk, new.content);
END;
