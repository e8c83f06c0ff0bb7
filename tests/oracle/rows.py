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


TICKS = [25001, 32858, 34990]
JOBS = ["", "none", "unknown_job", "j-1", "5b9d3b14-d774-46de-9d93-313bd1013f2f"]


def attribute(value):
    """A value in DynamoDB JSON; a dict of one upper-case member is one already."""
    if isinstance(value, dict) and len(value) == 1 and next(iter(value)) in ("S", "N", "NULL", "BOOL", "L", "M"):
        return value
    if value is None:
        return {"NULL": True}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, (int, float)):
        return {"N": repr(value)}
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, list):
        return {"L": [attribute(item) for item in value]}
    return {"M": {name: attribute(member) for name, member in value.items()}}


def delphi(draw, folder):
    """Conversations with several runs, of which some know their job; half of the keys of each table are unusual."""
    zids = ["19548", "77001", "3", "ü 4", "none"]
    tables = {}

    def put(table, key, **more):
        """An item; one key stands once."""
        if draw.random() < 0.15:
            more["job_id"] = draw.choice([*JOBS, None, 5, ["j"]])
        item = {name: attribute(value) for name, value in {**key, **more}.items() if value != "absent"}
        tables.setdefault(f"Delphi_{table}", {})[json.dumps([item[name] for name in key])] = item

    def unusual(usual, *others):
        return now_and_then(draw, usual, others, 0.08)

    for zid in zids[:4]:
        latest = draw.choice([32858, 25001, 1, "32858", None, "absent", {"N": "32858.0"}, {"N": "2.5001E4"}])
        put("PCAConversationConfig", {"zid": zid}, latest_math_tick=latest, last_updated=unusual(1763140003, "now", "absent"))
        for tick in TICKS:
            if draw.random() < 0.7:
                time = draw.choice([1763050000 + tick, 1763050000 + tick, "absent", "soon", {"N": "1.5"}])
                put("PCAResults", {"zid": zid, "math_tick": tick}, timestamp=time, pca={"center": [0.1, {"N": "1E-7"}]})
    for number in range(400):
        zid, tick = draw.choice(zids), draw.choice([*TICKS, *TICKS, 7])
        key = unusual(f"{zid}:{tick}", zid, f":{tick}", f"{zid}:0{tick}", f"{zid}:{tick}:1", f"{zid}:-5", f"{zid}:1.5")
        own = {"zid": unusual(draw.choice(["absent", zid]), "", None, 19548, "77001"),
               "timestamp": unusual("absent", 5, "x", None), "math_tick": unusual("absent", 6, "32858")}
        number = draw.randrange(60)
        put("KMeansClusters", {"zid_tick": key, "group_id": number % 7}, members=[1, 2, number], **own)
        put("CommentRouting", {"zid_tick": key, "comment_id": str(number)}, stats={"agree": 1, "x": None}, **own)
        put("PCAParticipantProjections", {"zid_tick": key, "participant_id": str(number)}, coordinates=[0.5, -0.25], **own)
        group = unusual(f"{zid}:{tick}:{number % 3}", f"{zid}:{tick}", f"{zid}:{tick}:", f"{zid}:{tick}:x", f"{zid}:{tick}:-1")
        put("RepresentativeComments", {"zid_tick_gid": group, "comment_id": str(number)}, repness=1.5, group_id=9, **own)
        edge = f"{number}_{number + draw.randrange(2)}"
        put("UMAPGraph", {"conversation_id": zid, "edge_id": edge}, position=draw.choice([None, {"x": 1, "y": 2}]))
        topic = draw.choice([f"layer{number % 3}_{number}", f"{draw.choice(JOBS)}#{number % 3}#{number - 9}", f"a#{number}",
                             f"a#b#{number}", f"a#0#0{number}"])
        put("CommentClustersLLMTopicNames", {"conversation_id": zid, "topic_key": topic}, topic_name=f"{number}:")
        for table in ("CommentEmbeddings", "CommentHierarchicalClusterAssignments"):
            put(table, {"conversation_id": zid, "comment_id": number}, embedding={"vector": [{"N": "0.50"}, {"N": "9" * 38}]})
        for table in ("CommentClustersStructureKeywords", "CommentClustersFeatures"):
            put(table, {"conversation_id": zid, "cluster_key": f"layer0_{number}"}, top_words=draw.choice([[], None, ["a", ""]]))
        put("UMAPConversationConfig", {"conversation_id": zid}, metadata={"zid": 5, "owner": ""})
        report = draw.choice(["r1", "r2", "r3", "r4"])
        section = unusual("global_groups", "s" * 1000)
        put("NarrativeReports", {"rid_section_model": unusual(f"{report}#{section}#m", report, f"{report}#{section}"),
                                 "timestamp": f"2025-11-14T17:26:{number:02}.{draw.choice(['000044', '000Z', '000+00:00'])}"},
            report_id=unusual(report, "absent", "", 5, None), zid=unusual("absent", "5", 5, None, ""), report_data="{")
    for number in range(12):
        put("JobQueue", {"job_id": f"q{number}"}, report_id=draw.choice(["r1", "r2", "r2", "r3", "", "absent", 5]),
            conversation_id=draw.choice(["19548", "19548", "77001", "", None, "absent", 5]))
    for table, items in tables.items():
        write(folder, table, list(items.values()))


def main():
    """The command."""
    migration, seed, folder = sys.argv[1:]
    {"semantik": semantik, "jobs": jobs, "delphi": delphi}[migration](random.Random(int(seed)), folder)


if __name__ == "__main__":
    main()
