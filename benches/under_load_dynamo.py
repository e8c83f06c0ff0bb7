"""Compares tables of DynamoDB while the source is written to; run by `under_load_dynamo`, which starts the server."""

import json
import random
import subprocess
import sys
import threading
import time

from large_conversation import FOLDER, LARGE, PORT, SMALL, Run, Server, command, edge, load, number, text

WRITERS = 2
TARGET = "Delphi_UMAPGraph_ByJob"


class Writers:
    """Write edges of the large conversation at a rate, until they are told to rest."""

    def __init__(self, edges, rate):
        self.edges, self.pause = edges, WRITERS / rate
        self.written, self.resting = [0] * WRITERS, threading.Event()
        self.threads = [threading.Thread(target=self.write, args=(place,)) for place in range(WRITERS)]
        for thread in self.threads:
            thread.start()

    def write(self, place):
        server, chance = Server(), random.Random(place)
        due = time.monotonic()
        while not self.resting.is_set():
            kind, known, new = chance.randrange(5), chance.randrange(self.edges), self.edges * 2 + chance.randrange(self.edges)
            if kind == 0:
                server.put("Delphi_UMAPGraph", edge(LARGE, new, new + 1, "0.5"))
            elif kind == 1:
                key = {"conversation_id": text(LARGE), "edge_id": text(f"{new}_{new + 1}")}
                server.call("DeleteItem", {"TableName": "Delphi_UMAPGraph", "Key": key})
            else:
                server.put("Delphi_UMAPGraph", edge(LARGE, known, known + 1, f"0.{chance.randrange(10**6):06}1"))
            self.written[place] += 1
            due += self.pause
            time.sleep(max(due - time.monotonic(), 0))

    def count(self):
        return sum(self.written)

    def rest(self):
        self.resting.set()
        for thread in self.threads:
            thread.join()


def weigh(server, weight):
    """Gives an item of the target that nobody writes a weight."""
    server.call("UpdateItem", {
        "TableName": TARGET,
        "Key": {"job_id": text(f"legacy-{SMALL}"), "edge_id": text("7_8")},
        "UpdateExpression": "SET weight = :weight",
        "ExpressionAttributeValues": {":weight": number(weight)},
    })


def compare(writers):
    """One comparison, as a line of the table."""
    before, began = writers.count(), time.monotonic()
    answer = subprocess.run(command(PORT, "reconcile", "delphi", "--reports", str(FOLDER / "reports"), "--json"), capture_output=True, text=True)
    if answer.returncode > 2:
        sys.exit(answer.stderr)
    seconds = time.monotonic() - began
    summary = json.loads(answer.stdout)
    rows = sum(target["expected"]["rows"] for target in summary["targets"])
    states = summary["details"]["states"]
    confirmed, unsettled = states.get("confirmed", 0), states.get("unsettled", 0)
    rate = (writers.count() - before) / seconds
    verdict = ": ".join([summary["verdict"], *(f"{why['code']} {why['count']}" for why in summary["why"])])
    print(f"| {rate:,.0f} | {verdict} | {seconds:.1f} | {rows:,} | {confirmed} | {unsettled} | {unsettled / rows:.3%} |", flush=True)


def quiet(run):
    """Waits until the streams have told nothing for a while."""
    told = None
    while told != (told := run.status()["log_end"]):
        time.sleep(5)


def main():
    edges, rate, runs = map(int, sys.argv[1:])
    FOLDER.mkdir()
    print("loading", file=sys.stderr)
    load(edges)
    subprocess.run(command(PORT, "up", "delphi"), check=True, stdout=subprocess.DEVNULL)
    run = Run(PORT)
    run.status()
    writers = Writers(edges, rate)
    time.sleep(3)
    print("| writes a second | verdict | s | items | confirmed | unsettled | of all |")
    print("|--:|---|--:|--:|--:|--:|--:|")
    server = Server()
    for turn in range(runs):
        if turn + 1 == runs:
            weigh(server, "-0.75")
        compare(writers)
    writers.rest()
    # The server closes a connection that was left alone for half a minute.
    weigh(Server(), "-0.25")
    quiet(run)
    compare(writers)
    run.process.terminate()
    run.process.wait()


if __name__ == "__main__":
    main()
