-- Memories are found by their day, tags, file and metadata, too: a second column of words.

ALTER TABLE memories ADD COLUMN context TEXT NOT NULL DEFAULT '';

DROP TRIGGER memories_text_inserted;
DROP TRIGGER memories_text_deleted;
DROP TRIGGER memories_text_updated;
DROP TABLE memories_text;

UPDATE memories SET context = context_words(
    content, metadata, created_us, source_path,
    (SELECT json_group_array(tag) FROM tags WHERE memory_pk = pk)
);

CREATE VIRTUAL TABLE memories_text USING fts5 (
    content,
    context,
    content = 'memories',
    content_rowid = 'pk',
    tokenize = 'porter unicode61 remove_diacritics 2'
);
INSERT INTO memories_text (memories_text) VALUES ('rebuild');
CREATE TRIGGER memories_text_inserted AFTER INSERT ON memories BEGIN
    INSERT INTO memories_text (rowid, content, context)
    VALUES (new.pk, new.content, new.context);
END;
CREATE TRIGGER memories_text_deleted AFTER DELETE ON memories BEGIN
    INSERT INTO memories_text (memories_text, rowid, content, context)
    VALUES ('delete', old.pk, old.content, old.context);
END;
CREATE TRIGGER memories_text_updated AFTER UPDATE OF content, context ON memories BEGIN
    INSERT INTO memories_text (memories_text, rowid, content, context)
    VALUES ('delete', old.pk, old.content, old.context);
    INSERT INTO memories_text (rowid, content, context)
    VALUES (new.pk, new.content, new.context);
END;
