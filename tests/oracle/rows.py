#!/usr/bin/env python3
"""Makes legacy rows with the hazards of their systems, the same for the same seed.

    rows.py MIGRATION SEED DIR
"""

import json
import random
import sys
import uuid
from pathlib import Path

MODELS = [None, "sentence-transformers/all-MiniLM-L6-v2", "Qwen/Qwen3-Embedding-0.6B", "a:b, user 1)", ""]
DAY = "2025-06-24"


def write(folder, table, rows):
    """One table as JSON lines."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    Path(folder, f"{table}.jsonl").write_text(text, encoding="utf-8")


def time_text(draw):
    """A moment of few, in one of the mixed forms, so that moments are often equal and differ in text."""
    hour, minute, micros = draw.randrange(20), draw.randrange(3), draw.choice([0, 59_000, 450_192])
    return draw.choice([
        f"{DAY}T{hour:02}:{minute:02}:07.{micros // 1000:03}Z",
        f"{DAY}T{hour:02}:{minute:02}:07.{micros:06}",
        f"{DAY} {hour:02}:{minute:02}:07.{micros:06}",
        f"{DAY}T{hour:02}:{minute:02}:07",
        f"{DAY}T{hour + 2:02}:{minute:02}:07.{micros:06}+02:00",
    ])


def now_and_then(draw, usual, others, chance=0.04):
    """Mostly the usual."""
    return draw.choice(others) if draw.random() < chance else usual


def semantik(draw, folder):
    """Jobs, documents and users."""
    jobs = []
    for number in range(60):
        identifier = str(uuid.UUID(int=draw.getrandbits(128), version=4))
        identifier = now_and_then(draw, identifier, [identifier.upper(), f"client {number}", f"ü{number}"], 0.2)
        others = [job["id"] for job in jobs] or [None]
        jobs.append({
            "id": identifier, "name": draw.choice(["Docs", "docs ", "Архив"]), "description": draw.choice([None, "", "d"]),
            "status": now_and_then(draw, draw.choice(["created", "scanning", "pending", "running", "processing", "indexing",
                                                      "completed", "failed", "cancelled"]), ["Completed", "", "paused"]),
            "created_at": now_and_then(draw, time_text(draw), ["", "yesterday", "2025-02-30T00:00:00"]),
            "updated_at": time_text(draw), "directory_path": draw.choice(["/data/a", "/data/b", "/data/ü c"]),
            "model_name": draw.choice(MODELS), "chunk_size": draw.choice([None, 600]),
            "chunk_overlap": draw.choice([None, 64, 900]), "batch_size": draw.choice([None, 96]),
            "vector_dim": draw.choice([None, 1024]), "quantization": draw.choice([None, "float16", "float32"]),
            "instruction": draw.choice([None, "", "Represent:"]), "error": draw.choice([None, "it broke\n"]),
            "user_id": draw.choice([None, 1, 2, 3]),
            "parent_job_id": draw.choice([None, None, identifier, "gone", draw.choice(others)]),
            "job_type": now_and_then(draw, draw.choice([None, "index", "append", "reindex"]), ["create", ""]),
            "start_time": now_and_then(draw, draw.choice([None, time_text(draw)]), ["soon"]),
        })
    documents = []
    for number in range(1, 501):
        content = draw.choice([None, f"symlink:{number}", f"{draw.randrange(120):064x}", f"{draw.randrange(120):064x}"])
        path = f"{draw.choice(['/data/a', '/data/b/'])}/{draw.choice(['x', 'y z', '파일'])} {draw.randrange(90)}.md"
        documents.append({
            "id": number, "job_id": now_and_then(draw, draw.choice(jobs)["id"], ["nobody"]),
            "path": now_and_then(draw, path, ["/", "plain", "dir/"]), "size": now_and_then(draw, draw.randrange(10**6), [2**40]),
            "modified": time_text(draw), "extension": ".md", "content_hash": content,
            "doc_id": draw.choice([None, f"{number:016x}"]),
            "status": now_and_then(draw, draw.choice(["pending", "completed", "failed"]), ["done", "deleted"]),
            "error": draw.choice([None, "x"]), "chunks_created": draw.randrange(20),
            "created_at": now_and_then(draw, time_text(draw), ["?"], 0.02),
        })
    draw.shuffle(jobs)
    draw.shuffle(documents)
    write(folder, "jobs", jobs)
    write(folder, "documents", documents)
    write(folder, "users", [{"id": number, "username": f"u{number}"} for number in (1, 2, 3)])


def moment(draw):
    """A time of few seconds, also before 1970."""
    second = draw.choice(["1969-12-31T23:59:59", "2024-10-09T04:03:46", "2025-09-27T19:07:41"])
    return f"{second}.{draw.choice([0, 1, 37_001, 999_999]):06}+00:00"


def jobs(draw, folder):
    """Jobs of both kinds, their progress, and content types."""
    text = lambda *more: draw.choice([None, "", "두 수의 합", "emoji 🎉\n", *more])  # noqa: E731
    some = lambda *more: draw.choice(["", "백준", "baekjoon", *more])  # noqa: E731
    tags = ["[]", '["수학","구현"]', '[1,1.10,1E-7,null,true,{"a":[{}]},"🔥"]', '"dp"', "null", '{"k":0.50}', "7"]
    scripts, extractions, progress = [], [], []
    for number in range(1, 41):
        base = {"platform": some(), "problem_id": some("1A"), "status": draw.choice(["PENDING", "COMPLETED", "FAILED", ""]),
                "celery_task_id": text(), "error_message": text(), "created_at": moment(draw), "updated_at": moment(draw)}
        scripts.append({"id": number, **base, "title": some(), "problem_url": text("https://x/?a=1&b=2"),
                        "tags": now_and_then(draw, draw.choice([None, *tags]), ["[" + "9" * 39 + "]", "[1E126]", "[-1E-131]"], 0.1),
                        "solution_code": text("code\n" * 50), "language": some(), "constraints": some(),
                        "generator_code": text()})
        extractions.append({"id": number * 3, **base, "problem_url": some(), "problem_identifier": some("p-1")})
    for number in range(1, 301):
        progress.append({"id": number, "content_type_id": draw.choice([11, 12, 12, 7, 99] if number % 9 == 0 else [11, 12]),
                         "object_id": draw.randrange(1, 60), "step": some("Saving"), "message": some("진행 중… 50%"),
                         "status": draw.choice(["started", "completed"]),
                         "created_at": now_and_then(draw, moment(draw), ["infinity", "-infinity"])})
    extractions[0]["updated_at"] = "infinity"
    types = [(7, "auth", "user"), (11, "api", "scriptgenerationjob"), (12, "api", "problemextractionjob")]
    write(folder, "django_content_type", [dict(zip(("id", "app_label", "model"), row)) for row in types])
    write(folder, "script_generation_jobs", scripts)
    write(folder, "problem_extraction_jobs", extractions)
    draw.shuffle(progress)
    write(folder, "job_progress_history", progress)


def main():
    """The command."""
    migration, seed, folder = sys.argv[1:]
    {"semantik": semantik, "jobs": jobs}[migration](random.Random(int(seed)), folder)


if __name__ == "__main__":
    main()
