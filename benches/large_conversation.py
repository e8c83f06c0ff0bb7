"""Measures live changes of a large and a small conversation; run by `large_conversation`, which starts the server."""

import asyncio
import concurrent.futures
import http.client
import json
import multiprocessing
import os
import pathlib
import random
import statistics
import subprocess
import sys
import threading
import time

PORT = int(os.environ["REHOME_DYNAMODB_PORT"])
FOLDER = pathlib.Path(os.environ["TMPDIR"]) / "rehome"
SCHEMAS = pathlib.Path(os.environ["BENCH_SCHEMAS"])
LARGE, SMALL = "10001", "10002"
# The run that is current first, and the one that takes turns with it.
TICKS = [25_000, 33_000]
# A run whose rows stay what they are whichever of the two is current.
OTHER_TICK = 41_000
# What is measured of a change ends so long after its write: streams are asked each second, so each window holds two rounds of that.
WINDOW_S = 2.0
# The server's answers that tell of a change hold this.
TOLD = b'"eventID"'


class Server:
    """One connection to DynamoDB Local, which looks at no signature but wants one."""

    def __init__(self):
        self.connection = http.client.HTTPConnection("127.0.0.1", PORT)

    def call(self, action, body):
        headers = {
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": "DynamoDB_20120810." + action,
            "Authorization": "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/dynamodb/aws4_request, "
            "SignedHeaders=host, Signature=0",
        }
        self.connection.request("POST", "/", json.dumps(body), headers)
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            sys.exit(f"{action}: {answer.status} {content[:500]!r}")
        return json.loads(content)

    def put(self, table, item):
        self.call("PutItem", {"TableName": table, "Item": item})


def text(value):
    return {"S": value}


def number(value):
    return {"N": str(value)}


def edge(conversation, source, target, weight):
    return {
        "conversation_id": text(conversation),
        "edge_id": text(f"{source}_{target}"),
        "source_id": number(source),
        "target_id": number(target),
        "weight": number(weight),
        "distance": number(f"0.0{source * 7919 % 10**15:015}"),
        "is_nearest_neighbor": {"BOOL": True},
        "shared_cluster_layers": {"L": [number(0), number(1)]},
        "position": {"NULL": True},
    }


def config(conversation, tick):
    return {
        "zid": text(conversation),
        "latest_math_tick": number(tick),
        "participant_count": number(300),
        "last_updated": number(1_759_320_000 + tick),
    }


def rows(conversation, edges):
    """All items of a conversation, with their tables."""
    yield "Delphi_PCAConversationConfig", config(conversation, TICKS[0])
    for tick in TICKS:
        yield "Delphi_PCAResults", {"zid": text(conversation), "math_tick": number(tick), "timestamp": number(1_759_320_000 + tick)}
        for group in range(2):
            yield "Delphi_KMeansClusters", {"zid_tick": text(f"{conversation}:{tick}"), "group_id": number(group), "member_count": number(2)}
        yield "Delphi_RepresentativeComments", {"zid_tick_gid": text(f"{conversation}:{tick}:0"), "comment_id": text("1"), "repness": number("0.5")}
    for person in range(max(edges // 20, 1)):
        yield "Delphi_PCAParticipantProjections", {
            "zid_tick": text(f"{conversation}:{OTHER_TICK}"),
            "participant_id": text(str(person)),
            "coordinates": {"L": [number("0.25"), number(0)]},
        }
    for source in range(edges):
        yield "Delphi_UMAPGraph", edge(conversation, source, source + 1, "-0.25")


def load(edges):
    """Makes the tables and fills them, and enables their streams only then. Answers how many items there are."""
    tables = json.loads((SCHEMAS / "delphi/demo/legacy.json").read_text())
    streams = {table["TableName"]: table.pop("StreamSpecification") for table in tables}
    server = Server()
    for table in tables:
        server.call("CreateTable", table)
    writers = threading.local()
    gate = threading.Semaphore(16)

    def write(batch):
        if not hasattr(writers, "server"):
            writers.server = Server()
        requests = {}
        for table, item in batch:
            requests.setdefault(table, []).append({"PutRequest": {"Item": item}})
        while requests:
            requests = writers.server.call("BatchWriteItem", {"RequestItems": requests})["UnprocessedItems"]
        gate.release()

    count, batch, pending = 0, [], []
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        def send():
            gate.acquire()
            pending.append(pool.submit(write, list(batch)))
            batch.clear()
        for conversation, size in [(SMALL, 10), (LARGE, edges)]:
            for row in rows(conversation, size):
                count += 1
                batch.append(row)
                if len(batch) == 25:
                    send()
        if batch:
            send()
        for written in pending:
            written.result()
    # The server closes a connection that was left alone for half a minute.
    server = Server()
    for table, stream in streams.items():
        server.call("UpdateTable", {"TableName": table, "StreamSpecification": stream})
    return count


def relay(port, told_at):
    """Passes connections on to the server, and notes when an answer tells of a change."""

    async def pass_on(reader, writer, looks):
        before = b""
        try:
            while chunk := await reader.read(1 << 16):
                if looks and TOLD in before + chunk:
                    told_at.value = time.monotonic()
                before = chunk[-len(TOLD):]
                writer.write(chunk)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def accepted(reader, writer):
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", PORT)
        await asyncio.gather(pass_on(reader, there_writer, False), pass_on(there_reader, writer, True))

    async def serve():
        listening = await asyncio.start_server(accepted, "127.0.0.1", 0)
        port.value = listening.sockets[0].getsockname()[1]
        await listening.serve_forever()

    asyncio.run(serve())


def command(port, *arguments):
    return [
        os.environ["BENCH_REHOME"], *arguments, "--schemas", str(SCHEMAS), "--state", str(FOLDER / "state"),
        "--source", f"dynamodb+local://127.0.0.1:{port}", "--target", f"dynamodb+local://127.0.0.1:{PORT}",
    ]


class Run:
    """The running `rehome run`."""

    def __init__(self, port):
        self.port = port
        self.process = subprocess.Popen(command(port, "run", "delphi"), stdout=subprocess.DEVNULL, stderr=(FOLDER / "run.log").open("w"))
        self.proc = pathlib.Path(f"/proc/{self.process.pid}")

    def status(self):
        """What `status` says, when nothing is on its way."""
        while True:
            if self.process.poll() is not None:
                sys.exit("the run ended: " + (FOLDER / "run.log").read_text()[-2000:])
            answer = subprocess.run(command(self.port, "status", "delphi", "--json"), capture_output=True, text=True)
            status = json.loads(answer.stdout or "{}")
            still = status.get("phase") == "caught_up" and status.get("dirty") == 0
            if still and status["applied"] == status["log_end"]:
                return status
            time.sleep(0.2)

    def memory(self):
        """Resident KiB: now, and at the peak since the last `forget_peak`."""
        fields = dict(line.split(":", 1) for line in (self.proc / "status").read_text().splitlines())
        return [int(fields[name].split()[0]) for name in ["VmRSS", "VmHWM"]]

    def forget_peak(self):
        (self.proc / "clear_refs").write_text("5")

    def processor(self):
        """Milliseconds of processor time of all threads."""
        return sum(int((task / "schedstat").read_text().split()[0]) for task in (self.proc / "task").iterdir()) / 1e6


def edge_written(server, conversation, source, weight):
    """An edge with a weight: what to write, and what tells that it arrived."""
    item = edge(conversation, source, source + 1, weight)
    key = {"job_id": text(f"legacy-{conversation}"), "edge_id": item["edge_id"]}
    wanted = {"TableName": "Delphi_UMAPGraph_ByJob", "Key": key, "ConsistentRead": True}

    def there():
        found = server.call("GetItem", wanted).get("Item")
        return found is not None and found["weight"] == item["weight"]
    return "Delphi_UMAPGraph", item, there


def run_moved(server, conversation, turn):
    """The other of two runs becomes the current one: what to write, and what tells that all rows of both have moved."""
    current, other = TICKS[(turn + 1) % 2], TICKS[turn % 2]
    # Of each row of a run: its table, its range key, and the attribute that tells its run.
    rows_of_run = [
        ("PCAResults", {"zid": text(conversation)}, "math_tick", lambda tick: number(tick)),
        ("KMeansClusters", {"group_id": number(0)}, "zid_tick", lambda tick: text(f"{conversation}:{tick}")),
        ("KMeansClusters", {"group_id": number(1)}, "zid_tick", lambda tick: text(f"{conversation}:{tick}")),
        ("RepresentativeComments", {"group_comment": text("0#1")}, "zid_tick_gid", lambda tick: text(f"{conversation}:{tick}:0")),
    ]
    # Target table, key, an attribute and what it holds; nothing where no item may be.
    job = f"legacy-{conversation}"
    wanted = [("PCAConversationConfig", {"job_id": text(job), "zid": text(conversation)}, "latest_math_tick", number(current))]
    for table, key, attribute, of_tick in rows_of_run:
        wanted.append((table, {"job_id": text(job), **key}, attribute, of_tick(current)))
        wanted.append((table, {"job_id": text(f"{job}-tick-{other}"), **key}, attribute, of_tick(other)))
        wanted.append((table, {"job_id": text(f"{job}-tick-{current}"), **key}, attribute, None))
    request = {}
    for table, key, _, _ in wanted:
        request.setdefault(f"Delphi_{table}_ByJob", {"ConsistentRead": True, "Keys": []})["Keys"].append(key)

    def there():
        found = server.call("BatchGetItem", {"RequestItems": request})["Responses"]

        def held(table, key, attribute):
            items = (item for item in found[f"Delphi_{table}_ByJob"] if key.items() <= item.items())
            return next((item[attribute] for item in items), None)
        return all(held(table, key, attribute) == value for table, key, attribute, value in wanted)
    return "Delphi_PCAConversationConfig", config(conversation, current), there


def measure(server, run, told_at, table, item, there):
    """One change: milliseconds from the write and from when it was told, processor milliseconds, KiB above what there was."""
    run.forget_peak()
    resident, _ = run.memory()
    processor = run.processor()
    told_at.value = 0.0
    began = time.monotonic()
    server.put(table, item)
    written = time.monotonic()
    while not there():
        if time.monotonic() - written > 60:
            sys.exit("a change did not arrive within a minute")
        time.sleep(0.001)
    arrived = time.monotonic()
    told = told_at.value
    time.sleep(max(began + WINDOW_S - time.monotonic(), 0.3))
    used = (run.processor() - processor) * WINDOW_S / (time.monotonic() - began)
    return (arrived - written) * 1000, (arrived - told) * 1000 if told else None, used, run.memory()[1] - resident


def main():
    edges, changes = map(int, sys.argv[1:])
    FOLDER.mkdir()
    print("loading", file=sys.stderr)
    began = time.monotonic()
    items = load(edges)
    print(f"{items} items in {time.monotonic() - began:.0f} s", file=sys.stderr)

    subprocess.run(command(PORT, "up", "delphi"), check=True, stdout=subprocess.DEVNULL)
    began = time.monotonic()
    first = subprocess.Popen(command(PORT, "run", "delphi", "--until", "caught-up"), stdout=subprocess.DEVNULL, stderr=(FOLDER / "first.log").open("w"))
    _, status, usage = os.wait4(first.pid, 0)
    first_s = time.monotonic() - began
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit("the first migration failed: " + (FOLDER / "first.log").read_text()[-2000:])
    print(f"first migration: {first_s:.1f} s", file=sys.stderr)

    port, told_at = multiprocessing.Value("i", 0), multiprocessing.Value("d", 0.0)
    multiprocessing.Process(target=relay, args=(port, told_at), daemon=True).start()
    while port.value == 0:
        time.sleep(0.05)
    run = Run(port.value)
    evaluated = [run.status()["progress"]["units"]]
    time.sleep(5)
    before, before_peak = run.memory()

    phases = random.Random(1)
    idle = []
    for _ in range(10):
        processor, began = run.processor(), time.monotonic()
        time.sleep(WINDOW_S + phases.random())
        idle.append((run.processor() - processor) * WINDOW_S / (time.monotonic() - began))
    idle = statistics.median(idle)
    sizes = {LARGE: edges, SMALL: 10}
    server = Server()

    def one_more(conversation, turn):
        return edge_written(server, conversation, sizes[conversation] * 2 + turn, "0.5")

    def one_changed(conversation, turn):
        # Spread over all of them, each another one as long as there are.
        size = sizes[conversation]
        return edge_written(server, conversation, turn * max(size // (changes + 1), 1) % size, f"0.{turn + 1:06}1")

    kinds = {
        "an edge more": one_more,
        "an edge changed": one_changed,
        "another run is the current one": lambda conversation, turn: run_moved(server, conversation, turn),
    }
    measured, peak = {}, 0
    for kind, make in kinds.items():
        # The first of each kind warms up what it goes through, and does not count.
        for turn in range(changes + 1):
            for conversation in [LARGE, SMALL] if turn % 2 else [SMALL, LARGE]:
                # Not in step with the second's wait between two looks at a stream.
                time.sleep(phases.random())
                result = measure(server, run, told_at, *make(conversation, turn))
                if turn > 0:
                    measured.setdefault((kind, conversation), []).append(result)
                peak = max(peak, run.memory()[1])
        evaluated.append(run.status()["progress"]["units"])
        print(f"{kind}: done", file=sys.stderr)
    after, _ = run.memory()
    subprocess.run(command(run.port, "stop", "delphi"), check=True, stdout=subprocess.DEVNULL)
    run.process.wait()

    def mib(kib):
        return f"{kib / 1024:.0f} MiB"

    print(f"First migration: {items:,} items in {first_s:.1f} s, {items / first_s:,.0f} a second, peak {mib(usage.ru_maxrss)}.")
    print(f"The running process: {mib(before)} before the changes (peak {mib(before_peak)}), {mib(after)} after them, peak meanwhile {mib(peak)}.")
    print(f"Processor when nothing changes: {idle:.1f} ms in {WINDOW_S:.0f} s, taken off below.\n")
    print("| change | edges | write to target, median ms | slowest | told to target, median ms | slowest | processor ms | more memory, median KiB | most |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for kind, conversation in [(kind, conversation) for kind in kinds for conversation in [LARGE, SMALL]]:
        total, told, used, memory = zip(*measured[kind, conversation])
        told = [one for one in told if one is not None]
        print(
            f"| {kind} | {sizes[conversation]:,} | {statistics.median(total):.0f} | {max(total):.0f} | {statistics.median(told):.1f} | {max(told):.1f} "
            f"| {statistics.median(used) - idle:.1f} | {statistics.median(memory):.0f} | {max(memory)} |"
        )
    print()
    for kind, one, two in zip(kinds, evaluated, evaluated[1:]):
        print(f"Evaluated for {2 * (changes + 1)} times \"{kind}\": {two - one} parts.")


if __name__ == "__main__":
    main()
