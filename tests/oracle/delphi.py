#!/usr/bin/env python3
"""What delphi's legacy items become: a second implementation, for comparison (see `luthien.py` for its kin).

It was written from the specification alone, not from the mapping. Plain Python 3.11, standard library only.

    delphi.py DIR > out.jsonl

Input: DIR holds the tables, one item in DynamoDB JSON a line; a table that is not there has no items. Output: as `jobs.py`
says, in any order.
"""

import json
import re
import sys
from collections import Counter, defaultdict
from decimal import Decimal
from pathlib import Path

from luthien import number_text

CONFIG, RESULTS = "Delphi_PCAConversationConfig", "Delphi_PCAResults"
REPRESENTATIVE, TOPICS = "Delphi_RepresentativeComments", "Delphi_CommentClustersLLMTopicNames"
REPORTS, QUEUE = "Delphi_NarrativeReports", "Delphi_JobQueue"
# The sort key of each new table.
MATH = {CONFIG: "zid", RESULTS: "zid", "Delphi_KMeansClusters": "group_id", "Delphi_CommentRouting": "comment_id",
        REPRESENTATIVE: "group_comment", "Delphi_PCAParticipantProjections": "participant_id"}
UMAP = {"Delphi_UMAPConversationConfig": "conversation_id", "Delphi_CommentEmbeddings": "comment_id",
        "Delphi_CommentHierarchicalClusterAssignments": "comment_id", "Delphi_CommentClustersStructureKeywords": "cluster_key",
        "Delphi_UMAPGraph": "edge_id", "Delphi_CommentClustersFeatures": "cluster_key", TOPICS: "topic_key"}
WHOLE = r"(0|-?[1-9][0-9]*)"
NO_JOB = ("", "none", "unknown_job")


class Refused(Exception):
    """A row cannot be mapped; the argument is the reason."""


def text(item, name):
    """A string attribute that is not empty; None for anything else."""
    return item.get(name, {}).get("S") or None


def number(item, name):
    """A number attribute; None for anything else."""
    found = item.get(name, {}).get("N")
    return None if found is None else Decimal(found)


def plain(value):
    """A number as text."""
    return number_text(value)


def same(value):
    """A value in DynamoDB JSON, numbers by value."""
    (kind, inner), = value.items()
    if kind == "N":
        return {"N": number_text(Decimal(inner))}
    if kind == "L":
        return {"L": [same(item) for item in inner]}
    if kind == "M":
        return {"M": {name: same(member) for name, member in inner.items()}}
    return value


def read(folder, name):
    """The items of a table."""
    path = Path(folder) / f"{name}.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


class World:
    """What rows say to others."""

    def __init__(self, folder):
        self.tables = {name: read(folder, name) for name in (*MATH, *UMAP, REPORTS, QUEUE)}
        self.current, self.updated, self.dated = {}, {}, {}
        for item in self.tables[CONFIG]:
            zid, tick = item["zid"]["S"], number(item, "latest_math_tick")
            if tick is not None:
                self.current[zid] = tick
                self.updated[zid] = number(item, "last_updated")
        for item in self.tables[RESULTS]:
            time = number(item, "timestamp")
            if time is not None:
                self.dated[item["zid"]["S"], number(item, "math_tick")] = time
        self.conversations = defaultdict(set)
        for item in self.tables[QUEUE]:
            report, conversation = text(item, "report_id"), text(item, "conversation_id")
            if report and conversation:
                self.conversations[report].add(conversation)

    def time_of(self, zid, tick):
        """Epoch seconds of a run."""
        if (zid, tick) in self.dated:
            return self.dated[zid, tick]
        return self.updated[zid] if tick is not None and self.current.get(zid) == tick else None


def carried_job(item):
    """The job that a row knows."""
    job = text(item, "job_id")
    if job and job not in NO_JOB:
        return job
    found = re.fullmatch(f"([^#]+)#{WHOLE}#{WHOLE}", text(item, "topic_key") or "")
    return found[1] if found and found[1] not in NO_JOB else None


def add(new, item, name, kind, value):
    """Adds an attribute; one that is there wins, when it is of the type."""
    if name in item:
        if list(item[name]) != [kind] or (kind == "S" and not item[name]["S"]):
            raise Refused("attribute_type")
    elif value is not None:
        new[name] = {kind: value if kind == "S" else plain(value)}


def math_row(world, name, item):
    """A row of the six math tables."""
    own = text(item, "zid")
    group = None
    if name == CONFIG:
        zid, tick = item["zid"]["S"], number(item, "latest_math_tick")
    elif name == RESULTS:
        zid, tick = item["zid"]["S"], number(item, "math_tick")
    else:
        three = name == REPRESENTATIVE
        key = item["zid_tick_gid" if three else "zid_tick"]["S"]
        found = re.fullmatch(f"([^:]+):{WHOLE}" + (f":{WHOLE}" if three else ""), key)
        if not found:
            raise Refused("malformed_key")
        zid, tick = own or found[1], Decimal(found[2])
        group = found[3] if three else None
    job = carried_job(item)
    if job is None:
        older = name != CONFIG and world.current.get(zid) != tick
        job = f"legacy-{zid}-tick-{plain(tick)}" if older else f"legacy-{zid}"
    new = dict(item)
    if group is not None:
        new["group_comment"] = {"S": f"{group}#{item['comment_id']['S']}"}
    add(new, item, "zid", "S", zid)
    add(new, item, "math_tick", "N", tick)
    add(new, item, "timestamp", "N", world.time_of(zid, tick))
    return job, new


def report_row(world, item):
    """A narrative report; whether its jobs disagree comes with it."""
    report = text(item, "report_id")
    if report is None:
        found = re.fullmatch("([^#]+)#([^#]+)#([^#]+)", item["rid_section_model"]["S"])
        if not found:
            raise Refused("malformed_key")
        report = found[1]
    known = world.conversations.get(report, set())
    zid = next(iter(known)) if len(known) == 1 else None
    job = carried_job(item) or (f"legacy-{zid}" if zid else f"legacy-report-{report}")
    new = dict(item)
    new["report_key"] = {"S": f"{item['rid_section_model']['S']}#{item['timestamp']['S']}"}
    add(new, item, "zid", "S", zid)
    if "report_id" in item and text(item, "report_id") is None:
        raise Refused("attribute_type")
    return job, new, len(known) > 1


def run(folder):
    """Everything that comes of a folder."""
    world = World(folder)
    made, ambiguous = [], 0
    accounts = {name: {"mapped": 0, "dropped": {}, "quarantined": Counter()} for name in (*MATH, *UMAP, REPORTS)}
    for name, key in {**MATH, **UMAP, REPORTS: "report_key"}.items():
        for item in world.tables[name]:
            try:
                differ = False
                if name in MATH:
                    job, new = math_row(world, name, item)
                elif name == REPORTS:
                    job, new, differ = report_row(world, item)
                else:
                    job, new = carried_job(item) or f"legacy-{item['conversation_id']['S']}", dict(item)
                if len(new[key].get("S", "").encode()) > 1024:
                    raise Refused("key_too_long")
            except Refused as error:
                accounts[name]["quarantined"][str(error)] += 1
                continue
            ambiguous += differ
            accounts[name]["mapped"] += 1
            new["job_id"] = {"S": job}
            new = {attribute: same(value) for attribute, value in new.items()}
            made.append({"table": f"{name}_ByJob", "key": [new["job_id"], new[key]], "columns": new})
    made.extend({"account": {"table": name, **account}} for name, account in accounts.items())
    return [*made, {"counts": {"ambiguous_lookup": ambiguous}}]


def main():
    """The command."""
    for line in run(sys.argv[1]):
        sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
