"""Runs reladiff or data-diff through its Python interface and prints the keys that it finds: MODULE SOURCE TARGET FACTOR."""

import importlib
import sys

module, source, target, factor = sys.argv[1:]
tool = importlib.import_module(module)
columns = ("parent", "at", "amount", "note", "body")


def side(url):
    return tool.connect_to_table(url, "copied", "id", thread_count=2, extra_columns=columns)


found = tool.diff_tables(
    side(source), side(target), bisection_factor=max(2, int(factor)), bisection_threshold=50_000, threaded=True,
    max_threadpool_size=2,
)
for key in {row[0] for _, row in found}:
    print(key)
