CREATE TABLE copied (
    id bigint PRIMARY KEY,
    parent uuid NOT NULL,
    at timestamptz NOT NULL,
    amount numeric,
    note text,
    body text
);
