#!/usr/bin/env python3
"""An independent oracle of the `jobs` migration (three tables to one DynamoDB table).

It was written from the specification alone, not from the mapping. Plain Python 3.11, standard library only.

    jobs.py DIR > out.jsonl

Input: DIR holds the four tables, one row a line, SQL NULL as `null`, jsonb as a string of JSON text. Output: as `luthien.py`
says, in any order; `columns` are the attributes of an item in DynamoDB JSON, numbers by value.
"""

import json
import sys
import uuid
from collections import Counter
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

from luthien import number_text, parse

NAMESPACE = uuid.UUID("3d9c5b7a-0000-5000-8000-000000000000")
TABLE = "algoitny_main"
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
KINDS = {"scriptgenerationjob": "script", "problemextractionjob": "extraction"}
SCRIPT = {"plt": "platform", "pid": "problem_id", "tit": "title", "url": "problem_url", "sol": "solution_code",
          "lng": "language", "con": "constraints", "gen": "generator_code", "sts": "status", "tid": "celery_task_id",
          "err": "error_message"}
EXTRACTION = {"plt": "platform", "pid": "problem_id", "url": "problem_url", "pidt": "problem_identifier", "sts": "status",
              "tid": "celery_task_id", "err": "error_message"}
TABLES = {"script_generation_jobs": ("script", SCRIPT, "SGJOB", "sgjob"),
          "problem_extraction_jobs": ("extraction", EXTRACTION, "PEJOB", "pejob")}
PROGRESS = "job_progress_history"


class Refused(Exception):
    """A row cannot be mapped; the argument is the reason."""


def job_uuid(kind, number):
    """The new id of a job."""
    return str(uuid.uuid5(NAMESPACE, json.dumps([kind, str(number)], separators=(",", ":"))))


def typed(value):
    """A value in DynamoDB JSON."""
    if value is None:
        return {"NULL": True}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, (int, Decimal)):
        digits = Decimal(value).normalize().as_tuple() if len(Decimal(value).as_tuple().digits) <= 28 else Decimal(value).as_tuple()
        significant = "".join(map(str, digits.digits)).strip("0")
        first = Decimal(value).adjusted()
        if value and (len(significant) > 38 or not -130 <= first <= 125):
            raise Refused("number_out_of_range")
        return {"N": number_text(Decimal(value))}
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, list):
        return {"L": [typed(item) for item in value]}
    return {"M": {name: typed(member) for name, member in value.items()}}


def micros(text):
    """Microseconds since 1970."""
    if text in ("infinity", "-infinity"):
        raise Refused("time_not_finite")
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1)


def seconds(text):
    """Whole seconds since 1970, floored."""
    return micros(text) // 1_000_000


def read(folder, name):
    """The rows of a table."""
    return [json.loads(line) for line in (Path(folder) / f"{name}.jsonl").read_bytes().split(b"\n") if line]


def job_item(row, kind, names, prefix, type_name):
    """The item of a job."""
    identifier, created = job_uuid(kind, row["id"]), seconds(row["created_at"])
    dat = {short: "" if row[long] is None else row[long] for short, long in names.items()}
    dat["lid"] = row["id"]
    if kind == "script":
        tags = None if row["tags"] is None else parse(row["tags"])
        dat["tag"] = [] if tags is None else tags
    else:
        dat["tit"] = ""
    return {"PK": f"{prefix}#{identifier}", "SK": "META", "tp": type_name, "dat": dat, "crt": created,
            "upd": seconds(row["updated_at"]), "GSI1PK": f"{prefix}#STATUS#{row['status']}",
            "GSI1SK": f"{created:020}#{identifier}"}


def progress_item(row, kinds):
    """The item of an entry of progress."""
    kind = kinds.get(row["content_type_id"])
    if kind is None:
        raise Refused("unknown_content_type")
    time = micros(row["created_at"])
    word = {"script": "generation", "extraction": "extraction"}[kind]
    return kind, {"PK": f"JOB#{word}#{job_uuid(kind, row['object_id'])}",
                  "SK": f"PROG#{time // 1_000_000}.{time % 1_000_000:06}#{row['id']}", "tp": "prog",
                  "dat": {"stp": row["step"], "msg": row["message"], "sts": row["status"]}, "crt": time // 1_000_000}


def run(folder):
    """Everything that comes of a folder."""
    accounts = {name: {"mapped": 0, "dropped": {}, "quarantined": Counter()} for name in (*TABLES, PROGRESS)}
    counts, lines, known = Counter(orphan_progress=0), [], set()

    def add(name, make):
        try:
            item = typed(make())["M"]
        except Refused as error:
            accounts[name]["quarantined"][str(error)] += 1
            return False
        accounts[name]["mapped"] += 1
        lines.append({"table": TABLE, "key": [item["PK"], item["SK"]], "columns": item})
        return True

    for name, (kind, *rest) in TABLES.items():
        for row in read(folder, name):
            known.add((kind, row["id"]))
            add(name, lambda row=row, kind=kind, rest=rest: job_item(row, kind, *rest))
    kinds = {row["id"]: KINDS[row["model"]] for row in read(folder, "django_content_type") if row["model"] in KINDS}
    for row in read(folder, PROGRESS):
        if add(PROGRESS, lambda row=row: progress_item(row, kinds)[1]):
            counts["orphan_progress"] += (kinds[row["content_type_id"]], row["object_id"]) not in known
    lines.extend({"account": {"table": name, **account}} for name, account in accounts.items())
    return [*lines, {"counts": counts}]


def main():
    """The command."""
    for line in run(sys.argv[1]):
        sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
