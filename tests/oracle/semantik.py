#!/usr/bin/env python3
"""An independent oracle of the `semantik` migration (jobs to collections).

It was written from the specification alone, not from the mapping. Plain Python 3.11, standard library only.

    semantik.py DIR > out.jsonl

Input: DIR holds `jobs.jsonl`, `documents.jsonl` and `users.jsonl`, one row a line, SQL NULL as `null`. Output: as `luthien.py`
says, in any order: target rows, one account per legacy table, counts, parked units.
"""

import hashlib
import json
import re
import sys
import uuid
from collections import Counter, defaultdict
from datetime import datetime, timezone
from pathlib import Path

from luthien import canonical

NAMESPACE = uuid.UUID("b8f1a6d2-0000-5000-8000-000000000000")
DEFAULT_OWNER, DEFAULT_MODEL = 1, "sentence-transformers/all-MiniLM-L6-v2"
JOB_STATUS = {"created": "pending", "scanning": "pending", "pending": "pending", "running": "processing",
              "processing": "processing", "indexing": "processing", "completed": "completed", "failed": "failed",
              "cancelled": "cancelled"}
JOB_TYPE = {"index": "index", "reindex": "reindex", "append": "append", None: "index"}
DOCUMENT_STATUS = ("pending", "completed", "failed")
UUID_TEXT = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
BIGINT_MAX = 2**63 - 1


class Refused(Exception):
    """A row cannot be mapped; the argument is the reason."""


def v5(*parts):
    """The version 5 uuid of a legacy key."""
    return uuid.uuid5(NAMESPACE, json.dumps([str(part) for part in parts], ensure_ascii=False, separators=(",", ":")))


def bits63(identifier):
    """The first 63 bits of a uuid."""
    return identifier.int >> 65


def instant(text):
    """A point in time; a naive one is UTC."""
    if text is None:
        return None
    if len(text) < 16:
        raise Refused("bad_timestamp")
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise Refused("bad_timestamp") from None
    return (time if time.tzinfo else time.replace(tzinfo=timezone.utc)).astimezone(timezone.utc)


def shown(time):
    """A point in time as text."""
    return None if time is None else time.strftime("%Y-%m-%dT%H:%M:%S.%f+00:00")


def storable(row):
    """Refuses what a Postgres text cannot hold."""
    if any(isinstance(value, str) and "\0" in value for value in row.values()):
        raise Refused("not_storable")


def job_of(row):
    """A job as the target sees it."""
    storable(row)
    job = dict(row)
    job["owner"] = DEFAULT_OWNER if row["user_id"] is None else row["user_id"]
    job["model"] = DEFAULT_MODEL if row["model_name"] is None else row["model_name"]
    job["created"], job["updated"] = instant(row["created_at"]), instant(row["updated_at"])
    job["started"] = instant(row["start_time"])
    if row["status"] not in JOB_STATUS:
        raise Refused("unknown_job_status")
    if row["job_type"] not in JOB_TYPE:
        raise Refused("unknown_job_type")
    job["state"], job["type"] = JOB_STATUS[row["status"]], JOB_TYPE[row["job_type"]]
    job["root"] = row["parent_job_id"] in (None, row["id"])
    job["store"] = "job_" + (row["id"] if job["root"] else row["parent_job_id"])
    return job


def read(folder, name):
    """The rows of a file."""
    return [json.loads(line) for line in (Path(folder) / f"{name}.jsonl").read_bytes().split(b"\n") if line]


class Output:
    """Target rows and accounts."""

    def __init__(self):
        self.rows = []
        self.accounts = {name: {"mapped": 0, "dropped": Counter(), "quarantined": Counter()}
                         for name in ("jobs", "documents")}
        self.counts = Counter(default_owner=0, path_as_content=0)
        self.parked = []

    def add(self, table, columns):
        """A target row."""
        self.rows.append({"table": table, "key": [columns["id"]], "columns": columns})

    def lines(self):
        """Everything, one object each."""
        yield from self.rows
        for name, account in self.accounts.items():
            yield {"account": {"table": name, **account}}
        yield {"counts": self.counts}
        for unit, reason in self.parked:
            yield {"parked": {"unit": unit, "reason": reason}}


def documents_of(out, rows, jobs, refused):
    """Documents by collection and content, the earliest first."""
    groups = defaultdict(list)
    for row in rows:
        account = out.accounts["documents"]
        if row["job_id"] not in jobs:
            account["quarantined"]["job_quarantined" if row["job_id"] in refused else "orphan_document"] += 1
            continue
        try:
            storable(row)
            created = instant(row["created_at"])
            if row["status"] not in DOCUMENT_STATUS:
                raise Refused("unknown_document_status")
        except Refused as error:
            account["quarantined"][str(error)] += 1
            continue
        job, content = jobs[row["job_id"]], row["content_hash"]
        by_path = content is None or content.startswith("symlink:")
        out.counts["path_as_content"] += by_path
        if by_path:
            content = hashlib.sha256(row["path"].encode()).hexdigest()
        groups[job["owner"], job["model"], content].append((created, row["id"], row, by_path))
    for group in groups.values():
        group.sort(key=lambda item: item[:2])
    return groups


def write_document(out, key, group):
    """One content of one collection."""
    owner, model, content = key
    created, _, row, by_path = group[0]
    job = row["job"]
    meta = {name: row[name] for name in ("job_id", "doc_id", "extension", "modified")}
    if by_path:
        meta["hash_of"] = "path:" + row["path"]
        if row["content_hash"] is not None:
            meta["legacy_content_hash"] = row["content_hash"]
    if len(group) > 1:
        meta["duplicates"] = [other["path"] for _, _, other, _ in group[1:]]
    parts = [part for part in row["path"].split("/") if part]
    out.add("documents_v2", {
        "id": str(v5(owner, model, content)), "collection_id": str(v5(owner, model)),
        "source_id": bits63(v5(owner, model, job["directory_path"])), "file_path": row["path"],
        "file_name": parts[-1] if parts else row["path"], "file_size": row["size"], "mime_type": None,
        "content_hash": content, "status": row["status"], "error_message": row["error"],
        "chunk_count": row["chunks_created"], "created_at": shown(created), "updated_at": shown(created),
        "meta": canonical(meta)})
    account = out.accounts["documents"]
    account["mapped"] += 1
    if len(group) > 1:
        account["dropped"]["duplicate_content"] += len(group) - 1


def collection_row(key, jobs, kept):
    """The collection of some jobs, in order of time; `kept` are its documents."""
    owner, model = key
    latest, roots = jobs[-1], [job for job in jobs if job["root"]]
    store = "job_" + (roots[0] if roots else jobs[0])["id"]
    stores = list(dict.fromkeys(job["store"] for job in jobs))
    states = {job["state"] for job in jobs}
    counters = [len(kept), sum(row["chunks_created"] for row in kept), sum(row["size"] for row in kept)]
    if max(counters) > BIGINT_MAX:
        raise Refused("number_out_of_range")
    fallback = lambda value, other: other if value is None else value  # noqa: E731
    return {
        "id": str(v5(owner, model)), "name": f"Migrated Documents ({model}, user {owner})", "description": None,
        "owner_id": owner, "vector_store_name": store, "embedding_model": model,
        "quantization": fallback(latest["quantization"], "float32"),
        "chunk_size": fallback(latest["chunk_size"], 1000), "chunk_overlap": fallback(latest["chunk_overlap"], 200),
        "is_public": False, "created_at": shown(min(job["created"] for job in jobs)),
        "updated_at": shown(max(job["updated"] for job in jobs)), "meta": None,
        "status": "ready" if "completed" in states else "error" if states <= {"failed", "cancelled"} else "pending",
        "status_message": None, "qdrant_collections": canonical([name for name in stores if name != store]),
        "qdrant_staging": None, "document_count": counters[0], "vector_count": counters[1],
        "total_size_bytes": counters[2]}


def operation_row(job):
    """The operation of a job."""
    is_uuid = UUID_TEXT.fullmatch(job["id"]) is not None
    config = {name: job[name] for name in ("directory_path", "chunk_size", "chunk_overlap", "batch_size", "vector_dim",
                                           "instruction", "quantization")}
    meta = {"name": job["name"], "description": job["description"]}
    if not is_uuid:
        meta["job_id"] = job["id"]
    ended = job["state"] in ("completed", "failed", "cancelled")
    return {
        "id": bits63(v5(job["id"])), "uuid": job["id"] if is_uuid else str(v5(job["id"])),
        "collection_id": str(v5(job["owner"], job["model"])), "user_id": job["owner"], "type": job["type"],
        "status": job["state"], "task_id": None, "config": canonical(config), "error_message": job["error"],
        "created_at": shown(job["created"]), "started_at": shown(job["started"]),
        "completed_at": shown(job["updated"]) if ended else None, "meta": canonical(meta)}


def write_collection(out, key, jobs, kept):
    """The collection of some jobs with its sources and operations."""
    account = out.accounts["jobs"]
    try:
        collection = collection_row(key, jobs, kept)
    except Refused as error:
        account["quarantined"][str(error)] += len(jobs)
        out.parked.append((f"{key[0]}:{key[1]}", str(error)))
        return
    out.add("collections", collection)
    for path in {job["directory_path"] for job in jobs}:
        of_path = [job for job in jobs if job["directory_path"] == path]
        out.add("collection_sources", {
            "id": bits63(v5(*key, path)), "collection_id": collection["id"], "source_path": path,
            "source_type": "directory", "document_count": None, "size_bytes": None, "last_indexed_at": None,
            "created_at": shown(min(job["created"] for job in of_path)),
            "updated_at": shown(max(job["updated"] for job in of_path)), "meta": None})
    for job in jobs:
        out.add("operations", operation_row(job))
        account["mapped"] += 1
        out.counts["default_owner"] += job["user_id"] is None


def run(folder):
    """Everything that comes of a folder."""
    out, jobs, refused = Output(), {}, set()
    for row in read(folder, "jobs"):
        try:
            jobs[row["id"]] = job_of(row)
        except Refused as error:
            refused.add(row["id"])
            out.accounts["jobs"]["quarantined"][str(error)] += 1
    documents = read(folder, "documents")
    groups = documents_of(out, documents, jobs, refused)
    kept = defaultdict(list)
    for (owner, model, content), group in groups.items():
        first = group[0][2]
        first["job"] = jobs[first["job_id"]]
        kept[owner, model].append(first)
        write_document(out, (owner, model, content), group)
    collections = defaultdict(list)
    for job in sorted(jobs.values(), key=lambda job: (job["created"], job["id"])):
        collections[job["owner"], job["model"]].append(job)
    for key, of_key in collections.items():
        write_collection(out, key, of_key, kept[key])
    return list(out.lines())


def main():
    """The command."""
    for line in run(sys.argv[1]):
        sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
