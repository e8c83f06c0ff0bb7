#!/usr/bin/env python3
"""Compares a target with what the oracle makes of the legacy rows.

    compare.py LEGACY TARGET

LEGACY is a folder as `luthien.py` takes it. TARGET is a file of one JSON object a line: `{"table": T, "columns": {…}}`,
values as in the oracle's output, but jsonb as Postgres prints it. Prints one JSON object: counts, accounts, parked
units, and keys and columns of what differs. Plain Python 3.11, standard library only.
"""

import json
import sys
from pathlib import Path

import luthien as oracle

TARGET_JSONB = {("conversation_events_v2", "payload"), ("policy_events", "policy_config"), ("policy_events", "metadata")}


def canonical(table, columns):
    """The columns of a target row with JSON in its canonical form."""
    return {
        name: oracle.canonical(oracle.parse(value)) if value is not None and (table, name) in TARGET_JSONB else value
        for name, value in columns.items()
    }


def target_rows(path):
    """Target rows by table and key."""
    rows = {}
    for line in Path(path).read_bytes().decode("utf-8").split("\n"):
        if line:
            row = json.loads(line)
            columns = canonical(row["table"], row["columns"])
            rows[oracle.key_of(row["table"], columns)] = columns
    return rows


def main():
    """The command."""
    lines = oracle.run(sys.argv[1])
    expected = {oracle.key_of(line["table"], line["columns"]): canonical(line["table"], line["columns"])
                for line in lines if "table" in line}
    actual = target_rows(sys.argv[2])
    differences = []
    for key in sorted(expected.keys() | actual.keys()):
        want, found = expected.get(key), actual.get(key)
        if want is None or found is None:
            differences.append([*key, "missing" if found is None else "extra"])
        else:
            differences.extend([*key, name] for name in want if want[name] != found.get(name))
    accounts = {line["account"]["table"]: line["account"] for line in lines if "account" in line}
    parked = {line["parked"]["unit"]: line["parked"]["reason"] for line in lines if "parked" in line}
    counts = next(line["counts"] for line in lines if "counts" in line)
    print(json.dumps({"expected": len(expected), "actual": len(actual), "differences": differences,
                      "accounts": accounts, "parked": parked, "counts": counts}))


if __name__ == "__main__":
    main()
