"""Measures tools that compare two tables; run by `compare`, which makes the server and the environments."""

import argparse
import json
import os
import pathlib
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
TEMPORARY = pathlib.Path(os.environ["TMPDIR"])
URL = "postgresql://rehome:rehome@127.0.0.1:{}/{}"
COLUMNS = ["parent", "at", "amount", "note", "body"]


def url(database):
    return URL.format(os.environ["PGPORT"], database)


def sql(database, statement):
    command = ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", statement]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def timed(command):
    """Runs a shell command; seconds, peak memory in MiB of its largest process, exit code, standard output's file."""
    # What a child of ours is told to have had at most begins with what we have ourselves, which is much after millions of differences.
    out, peak = tempfile.TemporaryFile(), tempfile.NamedTemporaryFile()
    measured = ["/usr/bin/time", "--quiet", "--format=%M", f"--output={peak.name}", "bash", "-c", "exec " + command]
    began = time.monotonic()
    child = subprocess.Popen(measured, stdout=out, stderr=subprocess.PIPE)
    errors = child.stderr.read()
    code = child.wait()
    seconds = time.monotonic() - began
    out.seek(0)
    return seconds, int(peak.read()) / 1024, code, out, errors


def fill(rows):
    """The same rows in two databases that others are made from."""
    for database in ["source_base", "target_base"]:
        sql("postgres", f"CREATE DATABASE {database}")
        sql(database, f"CREATE TABLE copied ({os.environ['BENCH_DEFINITION']})")
        sql(database, f"INSERT INTO copied SELECT i, {os.environ['BENCH_ROW']} FROM generate_series(1, {rows}) AS i")
        sql(database, "CREATE EXTENSION pgcmp")
        sql(database, "VACUUM (ANALYZE, FREEZE) copied")
    sql("postgres", "CHECKPOINT")


def damage(rows, kind, count):
    """Source and target anew, with differences spread evenly; answers with their ids."""
    for side in ["source", "target"]:
        sql("postgres", f"DROP DATABASE IF EXISTS {side} WITH (FORCE)")
        sql("postgres", f"CREATE DATABASE {side} TEMPLATE {side}_base STRATEGY FILE_COPY")
    ids = [i * rows // count for i in range(1, count + 1)] if count else []
    if ids:
        sql("target", "CREATE TABLE differing (id bigint PRIMARY KEY)")
        sql("source", "CREATE TABLE differing (id bigint PRIMARY KEY)")
        side = "source" if kind == "extra" else "target"
        sql(side, f"INSERT INTO differing SELECT i * {rows} / {count} FROM generate_series(1, {count}::bigint) AS i")
        if kind == "changed":
            sql(side, "UPDATE copied SET note = note || '!' WHERE id IN (SELECT id FROM differing)")
        else:
            sql(side, "DELETE FROM copied WHERE id IN (SELECT id FROM differing)")
        sql(side, "DROP TABLE differing")
        sql("target" if side == "source" else "source", "DROP TABLE differing")
        sql(side, "VACUUM (ANALYZE, FREEZE) copied")
    sql("postgres", "CHECKPOINT")
    return set(ids)


# Each tool: a shell command, and what reads the keys that it found out of its output.

def floor():
    read = "psql -Xq -d {} -c 'COPY copied TO STDOUT (FORMAT binary)' >/dev/null"
    return f"bash -c {shlex.quote(read.format('source') + ' & ' + read.format('target') + ' & wait')}", None


def hashtext():
    read = "psql -Xq -d {} -c 'SELECT sum(hashtext(copied::text)) FROM copied' >/dev/null"
    return f"bash -c {shlex.quote(read.format('source') + ' & ' + read.format('target') + ' & wait')}", None


def ordered_diff():
    read = "<(psql -Xq -d {} -c 'COPY (SELECT * FROM copied ORDER BY id) TO STDOUT')"
    return f"diff {read.format('source')} {read.format('target')}", lambda out: {
        int(line[2:].split(b"\t", 1)[0]) for line in out if line[:2] in (b"< ", b"> ")
    }


def pg_comparator():
    side = "pgsql://rehome:rehome@127.0.0.1:{}/{}/copied?id:{}"
    sides = [shlex.quote(side.format(os.environ["PGPORT"], name, ",".join(COLUMNS))) for name in ["source", "target"]]
    command = f"/usr/lib/postgresql/15/bin/pg_comparator --checksum-function=ck --aggregate=sum {' '.join(sides)}"
    return command, lambda out: {int(found[1]) for found in map(re.compile(rb"^(?:UPDATE|INSERT|DELETE) (\d+)").match, out) if found}


def python_tool(name, module):
    def tool():
        python = f"{os.environ['BENCH_PEERS']}/{name}/bin/python"
        command = [python, str(HERE / "compare_peer.py"), module, url("source"), url("target"), sql("source", "SELECT greatest(count(*), 40000) / 40000 FROM copied").strip()]
        return shlex.join(command), lambda out: {int(line) for line in out}
    return tool


def rehome():
    folder = tempfile.mkdtemp(dir=TEMPORARY)
    command = [
        os.environ["BENCH_REHOME"], "reconcile", "identity", "--schemas", os.environ["BENCH_SCHEMAS"],
        "--source", url("source"), "--target", url("target"), "--state", folder + "/state",
        "--reports", folder + "/reports", "--spill", folder,
    ]

    def found(_):
        lines = next(pathlib.Path(folder).glob("reports/*/*/discrepancies.jsonl")).open()
        return {int(json.loads(line)["key"]) for line in lines}
    return shlex.join(command), found


TOOLS = {
    "floor": ("binary COPY of both to nowhere", floor, 0),
    "rehome": ("rehome reconcile", rehome, None),
    "pg_comparator": ("pg_comparator", pg_comparator, None),
    "hashtext": ("sum(hashtext) of both, no localisation", hashtext, 0),
    "diff": ("ordered COPY into diff", ordered_diff, None),
    "reladiff": ("reladiff", python_tool("reladiff", "reladiff"), 0),
    "data-diff": ("data-diff", python_tool("data-diff", "data_diff"), 0),
}


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--differences", default="0,10,1%,all")
    options.add_argument("--kinds", default="changed,missing,extra")
    options.add_argument("--tools", default=",".join(TOOLS))
    options = options.parse_args()
    fill(options.rows)
    print("| differences | tool | median s | pairs/s | of the floor | peak MiB | recall | precision |", flush=True)
    print("|---|---|--:|--:|--:|--:|--:|--:|", flush=True)
    for difference in options.differences.split(","):
        count = options.rows if difference == "all" else int(difference.rstrip("%"))
        count = options.rows * count // 100 if difference.endswith("%") else count
        for kind in options.kinds.split(",") if count else ["changed"]:
            measure(options, kind, count)


def measure(options, kind, count):
    truth = damage(options.rows, kind, count)
    results = {name: [] for name in options.tools.split(",")}
    for _ in range(options.runs):
        for name, runs in results.items():
            _, tool, exit_code = TOOLS[name]
            command, keys = tool()
            seconds, memory, status, out, errors = timed(command)
            if status not in ((exit_code,) if exit_code is not None else (0, 1, 2)):
                print(f"{name}: exit code {status}: {errors.decode()[-500:]}", file=sys.stderr)
            found = keys(out) if keys else None
            runs.append((seconds, memory, found))
            print(f"{count} {kind}: {name}: {seconds:.2f} s, exit code {status}", file=sys.stderr)
    base = statistics.median(seconds for seconds, _, _ in results["floor"]) if "floor" in results else None
    label = f"{count:,} {kind}" if count else "none"
    for name, runs in results.items():
        median = statistics.median(seconds for seconds, _, _ in runs)
        memory = max(memory for _, memory, _ in runs)
        of_floor = f"{base / median:.2f}" if base else ""
        found = runs[-1][2]
        recall = "" if found is None else f"{len(found & truth) / len(truth):.4f}" if truth else "1"
        precision = "" if found is None else f"{len(found & truth) / len(found):.4f}" if found else "1"
        rate = options.rows / median
        print(f"| {label} | {TOOLS[name][0]} | {median:.2f} | {rate:,.0f} | {of_floor} | {memory:.0f} | {recall} | {precision} |", flush=True)


main()
