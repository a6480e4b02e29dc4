"""The tables and functions of a store, and their migrations.

``{schema}`` and ``{prefix}`` stand before every name, ``{lock}`` is the key of the advisory lock
that the order of events is kept by.
"""

from __future__ import annotations

MIGRATIONS = (
    """
    CREATE TABLE {schema}.{prefix}events (
        position bigint PRIMARY KEY,
        id uuid NOT NULL UNIQUE,
        name text NOT NULL,
        schema_version integer NOT NULL,
        time timestamptz NOT NULL,
        aggregate text NOT NULL,
        aggregate_id uuid NOT NULL,
        version bigint NOT NULL CHECK (version > 0),
        -- Not jsonb: that knows no \\u0000, and forgets how numbers were written.
        data json NOT NULL,
        metadata json NOT NULL,
        -- The commit, at its last event only.
        commit_id uuid,
        commit_size integer,
        digest bytea,
        UNIQUE (aggregate_id, aggregate, version),
        CHECK (position > 0)
    );
    CREATE INDEX ON {schema}.{prefix}events (name, position);
    CREATE INDEX ON {schema}.{prefix}events (time, position);
    CREATE UNIQUE INDEX ON {schema}.{prefix}events (commit_id) WHERE commit_id IS NOT NULL;

    CREATE TABLE {schema}.{prefix}empty_commits (
        id uuid PRIMARY KEY,
        head bigint NOT NULL,
        digest bytea NOT NULL
    );
    CREATE INDEX ON {schema}.{prefix}empty_commits (head, id);

    -- Which kinds of events there are; it also leads from an aggregate to its events' names.
    CREATE TABLE {schema}.{prefix}event_kinds (
        aggregate text,
        name text,
        schema_version integer,
        PRIMARY KEY (aggregate, name, schema_version)
    );

    CREATE TABLE {schema}.{prefix}checkpoints (
        projection text PRIMARY KEY,
        generation bigint NOT NULL,
        position bigint NOT NULL,
        shape text NOT NULL,
        store uuid NOT NULL
    );

    CREATE TABLE {schema}.{prefix}snapshots (
        aggregate_id uuid,
        aggregate text,
        version bigint NOT NULL,
        event_id uuid NOT NULL,
        shape text NOT NULL,
        state bytea NOT NULL,
        PRIMARY KEY (aggregate_id, aggregate)
    );

    -- Appends what it is given, if all aggregates are at the versions expected and none of the
    -- commits is known; returns the head that it found then, and else null. One call is one round
    -- trip, and its statements see what was committed before the lock was had. Commits without
    -- events (``empty``) are told after how many events of the call they come; ``known_head``, if
    -- given, must be the head.
    CREATE FUNCTION {schema}.{prefix}append(
        expected json, commits uuid[], events json, empty json, kinds json, known_head bigint)
    RETURNS bigint LANGUAGE plpgsql AS $$
    DECLARE head bigint; unchecked text;
    BEGIN
        PERFORM pg_advisory_xact_lock({lock});
        SELECT coalesce(max(position), 0) INTO head FROM {schema}.{prefix}events;
        IF known_head <> head
            OR EXISTS (SELECT FROM {schema}.{prefix}events WHERE commit_id = ANY (commits))
            OR EXISTS (SELECT FROM {schema}.{prefix}empty_commits WHERE id = ANY (commits))
            OR EXISTS (
                SELECT FROM json_to_recordset(expected)
                    AS wanted(aggregate text, id uuid, version bigint)
                WHERE wanted.version IS DISTINCT FROM coalesce((
                    SELECT known.version FROM {schema}.{prefix}events AS known
                    WHERE known.aggregate_id = wanted.id AND known.aggregate = wanted.aggregate
                    ORDER BY known.version DESC LIMIT 1), 0))
        THEN RETURN NULL; END IF;
        unchecked := set_config('shop.appending', 'on', true);
        INSERT INTO {schema}.{prefix}events
        SELECT head + number, id, name, schema_version, time, aggregate, aggregate_id,
            version, data::json, metadata::json, commit_id, commit_size, decode(digest, 'hex')
        FROM ROWS FROM (json_to_recordset(events) AS (id uuid, name text, schema_version integer,
                time timestamptz, aggregate text, aggregate_id uuid, version bigint, data text,
                metadata text, commit_id uuid, commit_size integer, digest text))
            WITH ORDINALITY AS new(id, name, schema_version, time, aggregate, aggregate_id,
                version, data, metadata, commit_id, commit_size, digest, number);
        unchecked := set_config('shop.appending', 'off', true);
        IF empty IS NOT NULL THEN
            INSERT INTO {schema}.{prefix}empty_commits
            SELECT id, head + after, decode(digest, 'hex')
            FROM json_to_recordset(empty) AS new(id uuid, after bigint, digest text);
        END IF;
        IF kinds IS NOT NULL THEN
            INSERT INTO {schema}.{prefix}event_kinds
            SELECT kind ->> 0, kind ->> 1, (kind ->> 2)::integer
            FROM json_array_elements(kinds) AS kind ON CONFLICT DO NOTHING;
        END IF;
        RETURN head;
    END $$;

    -- The log is append-only and without gaps, whoever writes to it. What the function above has
    -- checked for all of its events at once need not be checked again for each.
    CREATE FUNCTION {schema}.{prefix}check_order() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.position > 1 AND NOT EXISTS (
            SELECT FROM {schema}.{prefix}events WHERE position = NEW.position - 1)
        THEN RAISE EXCEPTION 'events must be inserted at the next position'; END IF;
        IF NEW.version > 1 AND NOT EXISTS (
            SELECT FROM {schema}.{prefix}events WHERE aggregate_id = NEW.aggregate_id
                AND aggregate = NEW.aggregate AND version = NEW.version - 1)
        THEN RAISE EXCEPTION 'events must continue the version of their aggregate'; END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER in_order BEFORE INSERT ON {schema}.{prefix}events FOR EACH ROW
    WHEN (current_setting('shop.appending', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION {schema}.{prefix}check_order();

    -- A commit that were known twice might be done twice.
    CREATE FUNCTION {schema}.{prefix}check_commit() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (SELECT FROM {schema}.{prefix}events WHERE commit_id = NEW.id)
        THEN RAISE EXCEPTION 'commits are never repeated'; END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER once BEFORE INSERT ON {schema}.{prefix}empty_commits FOR EACH ROW
    EXECUTE FUNCTION {schema}.{prefix}check_commit();

    CREATE FUNCTION {schema}.{prefix}refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$;
    CREATE TRIGGER stays BEFORE UPDATE OR DELETE OR TRUNCATE ON {schema}.{prefix}events
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.{prefix}refuse();
    CREATE TRIGGER stays BEFORE UPDATE OR DELETE OR TRUNCATE ON {schema}.{prefix}empty_commits
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.{prefix}refuse();
    """,
)
