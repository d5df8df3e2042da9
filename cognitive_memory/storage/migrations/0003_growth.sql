-- Vectors of several embeddings side by side, so that a store serves while it is embedded anew;
-- a mark by which derived indexes know their record; what a remote index has yet to learn.

CREATE TABLE embeddings (
    embedding INTEGER PRIMARY KEY,
    fingerprint TEXT NOT NULL UNIQUE,
    dimension INTEGER NOT NULL
);
INSERT INTO embeddings (embedding, fingerprint, dimension)
SELECT 1, fingerprint.value, CAST(dimension.value AS INTEGER)
FROM properties AS fingerprint, properties AS dimension
WHERE fingerprint.name = 'fingerprint' AND dimension.name = 'dimension';

-- The property 'embedding' names the one that serves.
INSERT INTO properties (name, value) SELECT 'embedding', '1' FROM embeddings;
DELETE FROM properties WHERE name IN ('fingerprint', 'dimension');

-- Another one means that ids of vectors may have been used again.
INSERT INTO properties (name, value) VALUES ('epoch', lower(hex(randomblob(16))));

CREATE TABLE vectors_of_embeddings (
    vector_id INTEGER PRIMARY KEY AUTOINCREMENT,
    memory_pk INTEGER NOT NULL REFERENCES memories (pk) ON DELETE CASCADE,
    embedding INTEGER NOT NULL,
    chunk INTEGER NOT NULL,
    vector BLOB NOT NULL,               -- float32, little endian, unit length
    UNIQUE (memory_pk, embedding, chunk)
);
INSERT INTO vectors_of_embeddings (vector_id, memory_pk, embedding, chunk, vector)
SELECT vector_id, memory_pk, 1, chunk, vector FROM vectors ORDER BY vector_id;
DROP TABLE vectors;
ALTER TABLE vectors_of_embeddings RENAME TO vectors;
CREATE TRIGGER vectors_deleted AFTER DELETE ON vectors BEGIN
    INSERT INTO vector_deletions (vector_id) VALUES (old.vector_id);
END;

-- Vectors that do not serve are of a text that is no more.
CREATE TRIGGER vectors_outdated AFTER UPDATE OF content ON memories
WHEN old.content <> new.content BEGIN
    DELETE FROM vectors WHERE memory_pk = new.pk AND embedding IS NOT
        (SELECT CAST(value AS INTEGER) FROM properties WHERE name = 'embedding');
END;

-- One entry for each memory that has changed, numbered by its last change. Kept while the property
-- 'outbox' names a remote index.
CREATE TABLE outbox (
    entry INTEGER PRIMARY KEY AUTOINCREMENT,
    memory_id TEXT NOT NULL UNIQUE
);
CREATE TRIGGER outbox_vectors_inserted AFTER INSERT ON vectors
WHEN EXISTS (SELECT 1 FROM properties WHERE name = 'outbox') AND new.embedding =
    (SELECT CAST(value AS INTEGER) FROM properties WHERE name = 'embedding')
BEGIN
    DELETE FROM outbox WHERE memory_id = (SELECT id FROM memories WHERE pk = new.memory_pk);
    INSERT INTO outbox (memory_id) SELECT id FROM memories WHERE pk = new.memory_pk;
END;
CREATE TRIGGER outbox_vectors_deleted AFTER DELETE ON vectors
WHEN EXISTS (SELECT 1 FROM properties WHERE name = 'outbox') AND old.embedding =
    (SELECT CAST(value AS INTEGER) FROM properties WHERE name = 'embedding')
BEGIN
    DELETE FROM outbox WHERE memory_id = (SELECT id FROM memories WHERE pk = old.memory_pk);
    INSERT INTO outbox (memory_id) SELECT id FROM memories WHERE pk = old.memory_pk;
END;
CREATE TRIGGER outbox_memories_updated
AFTER UPDATE OF hierarchy_level, memory_type, source_path, created_us ON memories
WHEN EXISTS (SELECT 1 FROM properties WHERE name = 'outbox') BEGIN
    DELETE FROM outbox WHERE memory_id = new.id;
    INSERT INTO outbox (memory_id) VALUES (new.id);
END;
CREATE TRIGGER outbox_memories_deleted BEFORE DELETE ON memories
WHEN EXISTS (SELECT 1 FROM properties WHERE name = 'outbox') BEGIN
    DELETE FROM outbox WHERE memory_id = old.id;
    INSERT INTO outbox (memory_id) VALUES (old.id);
END;
CREATE TRIGGER outbox_tags_inserted AFTER INSERT ON tags
WHEN EXISTS (SELECT 1 FROM properties WHERE name = 'outbox') BEGIN
    DELETE FROM outbox WHERE memory_id = (SELECT id FROM memories WHERE pk = new.memory_pk);
    INSERT INTO outbox (memory_id) SELECT id FROM memories WHERE pk = new.memory_pk;
END;
CREATE TRIGGER outbox_tags_deleted AFTER DELETE ON tags
WHEN EXISTS (SELECT 1 FROM properties WHERE name = 'outbox') BEGIN
    DELETE FROM outbox WHERE memory_id = (SELECT id FROM memories WHERE pk = old.memory_pk);
    INSERT INTO outbox (memory_id) SELECT id FROM memories WHERE pk = old.memory_pk;
END;
