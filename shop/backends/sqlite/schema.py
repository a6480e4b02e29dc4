"""The schema of the database file, and its migrations.

``application_id`` marks a file as ours, ``user_version`` counts the migrations it has seen.
"""

from __future__ import annotations

APPLICATION_ID = 0x53484F50  # "SHOP"

PAGE_SIZE = 2048
"""Bytes. An append changes a page of each index, and all of them are written to the disk: with
SQLite's 4,096 it takes a tenth longer, while reading the whole log is a thirtieth faster."""

WAL_PAGES = 8000
"""Pages of the write-ahead log (16 MiB) before it is copied into the database: many appends change
the same pages, and those are copied once. SQLite's default is 1,000."""

MIGRATIONS = (
    """
    CREATE TABLE store (identity BLOB NOT NULL);
    INSERT INTO store VALUES (randomblob(16));

    CREATE TABLE events (
        position INTEGER PRIMARY KEY,
        id BLOB NOT NULL UNIQUE,
        name TEXT NOT NULL,
        schema_version INTEGER NOT NULL,
        time INTEGER NOT NULL,  -- microseconds since 1970-01-01 UTC
        aggregate TEXT NOT NULL,
        aggregate_id BLOB NOT NULL,
        version INTEGER NOT NULL CHECK (version > 0),
        data TEXT NOT NULL,
        metadata TEXT NOT NULL,
        -- The commit, at its last event only.
        commit_id BLOB,
        commit_size INTEGER,
        digest BLOB,
        UNIQUE (aggregate_id, aggregate, version)
    );
    -- It ends with the position, as every index of SQLite does.
    CREATE INDEX events_by_name ON events (name);
    CREATE UNIQUE INDEX commits ON events (commit_id) WHERE commit_id IS NOT NULL;

    CREATE TABLE empty_commits (
        id BLOB PRIMARY KEY,
        head INTEGER NOT NULL,
        digest BLOB NOT NULL
    ) WITHOUT ROWID;

    -- Which kinds of events there are. It also leads from an aggregate to its events' names, which
    -- spares the log an index.
    CREATE TABLE event_kinds (
        aggregate TEXT NOT NULL,
        name TEXT NOT NULL,
        schema_version INTEGER NOT NULL,
        PRIMARY KEY (aggregate, name, schema_version)
    ) WITHOUT ROWID;

    -- Times run along with the positions, but for clocks that were set: the range of each 1,024
    -- events, written when they are complete, leads to those of a time nearly as well as an index,
    -- which every append would have to write to.
    CREATE TABLE time_blocks (
        block INTEGER PRIMARY KEY,
        earliest INTEGER NOT NULL,
        latest INTEGER NOT NULL
    );
    CREATE TRIGGER events_fill_blocks AFTER INSERT ON events WHEN NEW.position % 1024 = 0
    BEGIN
        INSERT INTO time_blocks SELECT NEW.position / 1024, min(time), max(time) FROM events
        WHERE position > NEW.position - 1024 AND position <= NEW.position;
    END;

    CREATE TABLE checkpoints (
        projection TEXT PRIMARY KEY,
        generation INTEGER NOT NULL,
        position INTEGER NOT NULL,
        shape TEXT NOT NULL,
        store BLOB NOT NULL
    ) WITHOUT ROWID;

    CREATE TABLE snapshots (
        aggregate_id BLOB NOT NULL,
        aggregate TEXT NOT NULL,
        version INTEGER NOT NULL,
        event_id BLOB NOT NULL,
        shape TEXT NOT NULL,
        state BLOB NOT NULL,
        PRIMARY KEY (aggregate_id, aggregate)
    ) WITHOUT ROWID;

    -- The log is append-only and without gaps, whoever writes to it. AFTER the insert, since the
    -- position may be left to SQLite, which takes the next one.
    CREATE TRIGGER events_in_order AFTER INSERT ON events
    WHEN NEW.position < (SELECT max(position) FROM events)
        OR NOT (NEW.position = 1 OR EXISTS (
            SELECT 1 FROM events WHERE position = NEW.position - 1))
    BEGIN SELECT raise(ABORT, 'events must be inserted at the next position'); END;
    CREATE TRIGGER events_in_version BEFORE INSERT ON events
    WHEN NEW.version IS NOT (
        SELECT coalesce(max(version), 0) + 1 FROM events
        WHERE aggregate_id = NEW.aggregate_id AND aggregate = NEW.aggregate)
    BEGIN SELECT raise(ABORT, 'events must continue the version of their aggregate'); END;
    -- INSERT OR REPLACE deletes what is in its way without any DELETE trigger.
    CREATE TRIGGER events_once BEFORE INSERT ON events
    WHEN EXISTS (SELECT 1 FROM events WHERE id = NEW.id)
        OR EXISTS (SELECT 1 FROM events WHERE position = NEW.position)
    BEGIN SELECT raise(ABORT, 'events are never replaced'); END;
    CREATE TRIGGER commits_once BEFORE INSERT ON events
    WHEN NEW.commit_id IS NOT NULL AND (
        EXISTS (SELECT 1 FROM events WHERE commit_id = NEW.commit_id)
        OR EXISTS (SELECT 1 FROM empty_commits WHERE id = NEW.commit_id))
    BEGIN SELECT raise(ABORT, 'commits are never repeated'); END;
    CREATE TRIGGER events_stay BEFORE UPDATE ON events
    BEGIN SELECT raise(ABORT, 'events are never changed'); END;
    CREATE TRIGGER events_remain BEFORE DELETE ON events
    BEGIN SELECT raise(ABORT, 'events are never deleted'); END;

    -- A commit that were forgotten would be done a second time.
    CREATE TRIGGER empty_commits_once BEFORE INSERT ON empty_commits
    WHEN EXISTS (SELECT 1 FROM empty_commits WHERE id = NEW.id)
        OR EXISTS (SELECT 1 FROM events WHERE commit_id = NEW.id)
    BEGIN SELECT raise(ABORT, 'commits are never repeated'); END;
    CREATE TRIGGER empty_commits_stay BEFORE UPDATE ON empty_commits
    BEGIN SELECT raise(ABORT, 'commits are never changed'); END;
    CREATE TRIGGER empty_commits_remain BEFORE DELETE ON empty_commits
    BEGIN SELECT raise(ABORT, 'commits are never deleted'); END;

    CREATE TRIGGER store_stays BEFORE UPDATE ON store
    BEGIN SELECT raise(ABORT, 'the identity of a store never changes'); END;
    CREATE TRIGGER store_remains BEFORE DELETE ON store
    BEGIN SELECT raise(ABORT, 'the identity of a store never changes'); END;
    """,
)
