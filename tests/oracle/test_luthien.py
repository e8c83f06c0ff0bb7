#!/usr/bin/env python3
"""Tests of the oracle: hand-checked units of the data folder, and small made units for the rules the data lacks.

    python3 test_luthien.py [DIR]     (DIR: the folder with the four jsonl files; default from LUTHIEN_DATA)

The expected values below were written from the legacy rows by reading them, not copied from the oracle's output.
"""

import json
import os
import sys
import tempfile
import unittest
import uuid
from pathlib import Path

import luthien as oracle

DATA = os.environ.get("LUTHIEN_DATA", "../shared/data/luthien")
NAMESPACE = uuid.UUID(oracle.DEFAULT_NAMESPACE)
BRIEF = {"role": "system", "content": "Be brief."}
WEATHER = {"role": "user", "content": "What is the weather in Kraków?"}
ASK = {"messages": [BRIEF, WEATHER], "model": "gpt-4o-mini"}


def v5(*parts):
    """The version 5 uuid over the parts."""
    return str(uuid.uuid5(NAMESPACE, json.dumps(list(parts), ensure_ascii=False, separators=(",", ":"))))


def says(content, **more):
    """An assistant's message."""
    return {"role": "assistant", "content": content, **more}


def call(identifier, name, arguments):
    """A tool call in a message."""
    return {"id": identifier, "type": "function", "function": {"name": name, "arguments": arguments}}


def response(message, status, finish=None, **more):
    """A response payload."""
    return {"message": message, "finish_reason": finish, "status": status, **more}


# unit: (call row's (model, status, created_at, completed_at), [(type, payload, created_at)], [(type, …)])
DAY = "2025-10-09T00:"
ZONE = "+00:00"
HAND_CHECKED = {
    # A synthetic completion after the first tool chunk; flat chunks whose rendering is cut; ids "0" continue.
    "bfb4402b-1633-4436-b0c9-afae5c51fad4": (
        ("gpt-4o-mini", "success", "07:21.871298", "07:22.170312"),
        [("request", ASK, "07:21.871298"),
         ("response", response(says("Let me look. ", tool_calls=[call(
             "call_06914d941f696adde70e", "get_weather", '{"location":"Łódź 🌀"}')]), "success", "tool_calls"),
          "07:21.918112")], []),
    # A failure with text already streamed keeps the text.
    "f5161978-75c6-41e0-97a5-2f1059465ff2": (
        ("gpt-4o-mini", "failure", "11:28.680507", "11:28.891535"),
        [("request", ASK, "11:28.680507"),
         ("response", response(says("plan to 답 this"), "failure"), "11:28.682610")], []),
    # A failure without text.
    "827dc9a0-4d8a-4e56-86f9-d0d00f82b9d4": (
        ("gpt-4o-mini", "failure", "10:27.005040", "10:27.044570"),
        [("request", ASK, "10:27.005040"), ("response", response({}, "failure"), "10:27.044570")], []),
    # The call says failure, its completion a stream summary: the completion's status wins.
    "48fdbae1-48c9-4fa5-b0f2-efb33e97acf1": (
        ("gpt-4o-mini", "success", "23:26.041258", "23:26.085468"),
        [("request", ASK, "23:26.041258"), ("response", response(says("done"), "success"), "23:26.085468")], []),
    # Two choices, raw; usage on a chunk without choices; no completion.
    "b1e0459c-7762-45fa-8226-8146e36e5b46": (
        ("gpt-4o-mini", "started", "15:33.805680", None),
        [("request", ASK, "15:33.805680"),
         ("response", response(says("and a file this end0"), "started", "stop", model="gpt-4o",
                               usage={"total_tokens": 99}, choices=[
             {"index": 0, "message": says("and a file this end0"), "finish_reason": "stop"},
             {"index": 1, "message": says(" to data of short end1", tool_calls=[
                 call("call_0fc137e598f068f4b1fc", "f", "{}")]), "finish_reason": "length"}]),
          "15:33.827552")], []),
    # Tool rows that fill a name and arguments; one equal as JSON; an unknown id; no id.
    "9ef15479-992f-4b8f-b59f-9fb0595f30bf": (
        ("gpt-4o-mini", "success", "19:10.939378", "19:11.026394"),
        [("request", ASK, "19:10.939378"),
         ("response", response(says(None, tool_calls=[
             call("call_6bd3a806ad58f15b76f5", "f", '{"x":1}'),
             call("call_66359d3adea85ae025b3", "g", '{"a": ["é", 9007199254740993], "bb": 1.1}'),
             call("call_04d86468747c45c39f7e", "h", '{"y": 2, "z": [1.50, null]}')]), "success", "tool_calls"),
          "19:11.026394")],
        [("tool_call_recorded", "c18a695b-9775-4dad-9cc3-d2b7657a57d0", "19:11.193696",
          {"tool_call_id": "call_83901aacae1fcfef25e8", "name": "unknown", "arguments": {"q": 1},
           "status": "emitted"}),
         ("tool_call_recorded", "73855851-a030-4c24-a368-6811167bac97", "19:11.193696",
          {"name": "without id", "status": "emitted"})]),
    # A tool row with a response says more.
    "cf88ddfa-961e-4882-b96d-909c349e857e": (
        ("gpt-4o-mini", "success", "19:40.177260", "19:40.183836"),
        [("request", ASK, "19:40.177260"),
         ("response", response(says(None, tool_calls=[call("call_d6a49cc9f8efed92ef91", "answer", '{"n":1}')]),
                               "success", "tool_calls"), "19:40.183836")],
        [("tool_call_recorded", "0724d723-1d66-4bb2-928e-2042e6d06938", "19:40.183836",
          {"tool_call_id": "call_d6a49cc9f8efed92ef91", "name": "answer", "arguments": "", "status": "completed",
           "response": {"ok": True, "big": 12345678901234567890}, "chunks_buffered": 1})]),
    # Text from the column, from the payload, from neither; the variants differ.
    "7892457e-b030-4e1d-bead-b6e16ecdd1d8": (
        ("gpt-4o-mini", "started", "21:53.710673", None),
        [("request", ASK, "21:53.710673"),
         ("response", response(says("is answerfrom the payloadonly the column"), "started"), "21:53.761556"),
         ("response", response(says("is answer"), "started"), "21:53.761556")],
        [("response_modified", 1, 2, "21:53.761556")]),
    # A completion alone: request_messages serve, its two texts differ, nobody knows the model.
    "ff306dca-8156-40ff-adf7-9611749d6d14": (
        (None, "success", "16:29.938070", "16:29.938070"),
        [("request", {"messages": [BRIEF, WEATHER]}, "16:29.938070"),
         ("response", response(says("Hello"), "success"), "16:29.938070"),
         ("response", response(says("Hello, friend"), "success"), "16:29.938070")],
        [("response_modified", 1, 2, "16:29.938070")]),
    # Four turns under one call id: failure, success, no answer, an answer without completion.
    "955f6623-efa8-4650-9d93-de12f57147f8": (
        ("gpt-4o-mini", "failure", "23:06.564939", "23:06.930652"),
        [("request", ASK, "23:06.564939"),
         ("response", response({}, "failure"), "23:06.643108"),
         ("request", {"messages": [BRIEF, WEATHER, {"role": "user", "content": "again"}], "model": "gpt-4.1"},
          "23:06.680861"),
         ("response", response(says("to with with and"), "success"), "23:06.708502"),
         ("request", ASK, "23:06.977595"),
         ("request", {"messages": [BRIEF, WEATHER, BRIEF, WEATHER], "model": "gpt-4o-mini"}, "23:07.025685"),
         ("response", response(says("to answer a"), "started"), "23:07.075582")], []),
    # A request that the policy changed.
    "e00169eb-a652-4039-8c3c-0353ffb9906b": (
        ("gpt-4o-mini", "success", "08:54.305458", "08:54.391738"),
        [("request", ASK, "08:54.305458"),
         ("request", {"messages": [BRIEF, WEATHER, {"role": "system", "content": "Do not name cities."}],
                      "model": "gpt-4o-mini"}, "08:54.305458"),
         ("response", response(says("ok"), "success"), "08:54.391738")],
        [("request_modified", 0, 1, "08:54.305458")]),
    # An orphan: a synthesised call row.
    "1edfc3da-ef35-40bd-9115-c6a743452d28": (
        ("orphan-model", "success", "17:36.471416", None),
        [("request", ASK | {"model": "orphan-model"}, "17:36.471416"),
         ("response", response(says("short 😀 is"), "success"), "17:36.545380")], []),
    # Raw response objects of a completion; parameters of a raw request, the null one removed.
    "18bb18d8-a25d-4a2d-9c24-8d5d40fb677a": (
        ("gpt-4o-mini", "success", "04:12.446499", "04:12.471184"),
        [("request", ASK | {"temperature": 0.7, "max_tokens": 100}, "04:12.446499"),
         ("response", response(says("12 °C"), "success", "stop", model="gpt-4o-mini-2024-07-18", usage={
             "prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}), "04:12.471184")], []),
}


def stamp(short):
    """A full timestamp of a short one."""
    return None if short is None else DAY + short + ZONE


def hand_rows(call_id):
    """The expected target rows of a hand-checked unit, as {(table, key): columns with parsed JSON}."""
    (model, status, created, completed), events, policies = HAND_CHECKED[call_id]
    provider = "openai" if call_id.startswith("18bb18d8") else None
    rows = {("conversation_calls_v2", call_id): {
        "call_id": call_id, "model_name": model, "provider": provider, "status": status,
        "created_at": stamp(created), "completed_at": stamp(completed)}}
    ids = []
    for sequence, (kind, payload, at) in enumerate(events):
        ids.append(v5(call_id, kind, str(sequence)))
        rows["conversation_events_v2", ids[-1]] = {
            "id": ids[-1], "call_id": call_id, "event_type": kind, "sequence": sequence, "payload": payload,
            "created_at": stamp(at)}
    for kind, *rest in policies:
        if kind == "tool_call_recorded":
            named_by, at, metadata = rest
            original = modified = None
        else:
            original, modified, at = ids[rest[0]], ids[rest[1]], rest[2]
            named_by, metadata = modified, None
        identifier = v5(call_id, kind, named_by)
        rows["policy_events", identifier] = {
            "id": identifier, "call_id": call_id, "policy_class": "unknown", "policy_config": None,
            "event_type": kind, "original_event_id": original, "modified_event_id": modified,
            "metadata": metadata, "created_at": stamp(at)}
    return rows


def parsed(columns):
    """Columns with their JSON texts parsed."""
    return {name: json.loads(value) if name in ("payload", "policy_config", "metadata") and value else value
            for name, value in columns.items()}


class HandChecked(unittest.TestCase):
    """The real folder."""

    @classmethod
    def setUpClass(cls):
        cls.lines = oracle.run(DATA)
        cls.rows = [line for line in cls.lines if "table" in line]

    def test_hand_checked_units(self):
        for call_id in HAND_CHECKED:
            with self.subTest(call_id):
                found = {(line["table"], line["key"][0]): parsed(line["columns"])
                         for line in self.rows if line["columns"]["call_id"] == call_id}
                self.assertEqual(found, hand_rows(call_id))

    def test_every_row_is_accounted_for(self):
        accounts = {line["account"]["table"]: line["account"] for line in self.lines if "account" in line}
        for table in oracle.LEGACY:
            read = (Path(DATA) / f"{table}.jsonl").read_bytes().count(b"\n")
            account = accounts[table]
            total = account["mapped"] + sum(account["dropped"].values()) + sum(account["quarantined"].values())
            self.assertGreater(read, 0)
            self.assertEqual(total, read)

    def test_foreign_keys_and_sequences_hold(self):
        calls = {line["key"][0] for line in self.rows if line["table"] == "conversation_calls_v2"}
        events = [line["columns"] for line in self.rows if line["table"] == "conversation_events_v2"]
        ids = {event["id"] for event in events} | {None}
        self.assertEqual(len({line["key"][0] for line in self.rows}), len(self.rows))
        for line in self.rows:
            columns = line["columns"]
            self.assertIn(columns["call_id"], calls)
            if line["table"] == "policy_events":
                self.assertIn(columns["original_event_id"], ids)
                self.assertIn(columns["modified_event_id"], ids)
        for call_id in calls:
            numbers = sorted(event["sequence"] for event in events if event["call_id"] == call_id)
            self.assertEqual(numbers, list(range(len(numbers))))


def event(kind, number, payload=None, **columns):
    """A made event row."""
    row = {"id": str(uuid.UUID(int=columns.pop("id", number + 1))), "call_id": "c", "trace_id": None,
           "event_type": kind, "hook": "h", "sequence": number, "chunk_index": None, "choice_index": None,
           "role": None, "delta_text": None, "raw_chunk": None, "payload": payload,
           "created_at": f"2025-01-01T00:00:{number % 60:02}.000000+00:00"}
    row.update(columns)
    for column in ("payload", "raw_chunk"):
        if row[column] is not None and not (column == "raw_chunk" and isinstance(row[column], bytes)):
            row[column] = json.dumps(row[column])
    return row


def raw(number, delta, kind="original_chunk", finish=None, **more):
    """A made raw chunk of one choice."""
    return event(kind, number, {}, raw_chunk={
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}, **more)


def flat(number, text, tool_calls=(), kind="original_chunk", **more):
    """A made chunk without raw."""
    return event(kind, number, {"delta": text, "tool_calls": list(tool_calls)}, delta_text=text, **more)


def tool(identifier, name, arguments, **columns):
    """A made tool row."""
    row = {"id": str(uuid.UUID(int=columns.pop("id", 900))), "call_id": "c", "trace_id": None,
           "tool_call_id": identifier, "name": name, "status": "emitted", "response": None,
           "arguments": None if arguments is None else json.dumps(arguments), "chunks_buffered": None,
           "created_at": "2025-01-01T00:01:00.000000+00:00"}
    return row | columns


def run(events=(), tools=(), calls=None, judges=()):
    """Run the oracle over made rows: (payloads by sequence, whole output)."""
    if calls is None:
        calls = [{"call_id": "c", "trace_id": None, "model_name": None, "provider": None, "status": None,
                  "created_at": "2025-01-01T00:00:00+00:00", "completed_at": None, "metadata": None,
                  "updated_at": "2025-01-01T00:00:00+00:00"}]
    with tempfile.TemporaryDirectory() as folder:
        for table, rows in zip(oracle.LEGACY, (calls, events, tools, judges)):
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (Path(folder) / f"{table}.jsonl").write_text(text, encoding="utf-8")
        lines = oracle.run(folder)
    found = [line["columns"] for line in lines if line.get("table") == "conversation_events_v2"]
    return [json.loads(row["payload"]) for row in sorted(found, key=lambda row: row["sequence"])], lines


def account(lines, table):
    """The account of a legacy table."""
    return next(line["account"] for line in lines if line.get("account", {}).get("table") == table)


class Made(unittest.TestCase):
    """Rules that the data folder does not exercise."""

    def test_raw_fragments_of_one_index_with_another_id_are_two_calls(self):
        def piece(**fields):
            return {"tool_calls": [{"index": 0, **fields}]}
        payloads, _ = run([
            raw(0, piece(id="a", function={"name": "f", "arguments": "{"})),
            raw(1, piece(function={"arguments": "}"})),
            raw(2, piece(id="b", function={"name": "g", "arguments": "[]"}))])
        self.assertEqual(payloads, [response(says(None, tool_calls=[call("a", "f", "{}"), call("b", "g", "[]")]),
                                             "unknown", "tool_calls")])

    def test_a_flat_id_equal_to_its_position_is_missing(self):
        payloads, _ = run([flat(0, "[tool f][tool] x", [
            {"id": "real", "name": "f", "arguments": ""}, {"id": "1", "arguments": "x"}])])
        self.assertEqual(payloads[0]["message"], says(None, tool_calls=[call("real", "f", "x")]))

    def test_a_fragment_before_any_call_has_id_null_and_name_null(self):
        payloads, _ = run([flat(0, "see [tool] {}", [{"id": "0", "arguments": "{}"}])])
        self.assertEqual(payloads[0]["message"], says("see ", tool_calls=[call(None, None, "{}")]))

    def test_a_raw_chunk_in_a_string_is_read_and_one_that_does_not_parse_is_absent(self):
        inner = json.dumps({"choices": [{"index": 0, "delta": {"content": "raw"}}]})
        payloads, _ = run([event("original_chunk", 0, {}, raw_chunk=inner, delta_text="flat"),
                           event("original_chunk", 1, {}, raw_chunk="{no", delta_text=" flat")])
        self.assertEqual(payloads[0]["message"], says("raw flat"))

    def test_a_nul_in_a_parsed_string_parks_the_unit(self):
        inner = '{"choices":[{"index":0,"delta":{"content":"\\u0000"}}]}'
        payloads, lines = run([event("original_chunk", 0, {}, raw_chunk=inner)])
        self.assertEqual(payloads, [])
        self.assertIn({"parked": {"unit": "c", "reason": "not_storable"}}, lines)
        self.assertEqual(account(lines, "conversation_calls")["quarantined"], {"not_storable": 1})

    def test_duplicates_and_conflicts_count_within_a_turn_and_numbers_are_equal_by_value(self):
        same = {"delta": "a", "n": 1}
        rows = [event("original_chunk", 0, same, delta_text="a", chunk_index=0, id=1),
                event("original_chunk", 0, same | {"n": 1.0}, delta_text="a", chunk_index=0, id=2),
                event("original_chunk", 0, same, delta_text="b", chunk_index=0, id=3)]
        payloads, lines = run(rows)
        self.assertEqual(payloads[0]["message"]["content"], "ab")
        self.assertEqual(account(lines, "conversation_events")["dropped"], {"duplicate_chunk": 1})
        self.assertIn({"counts": {"synthesised_parent": 0, "chunk_index_conflict": 1}}, lines)

    def test_raw_messages_only_where_every_variant_has_them(self):
        image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}]
        plain = [{"role": "user", "content": ""}]
        start = {"original_messages": plain, "final_messages": plain, "model": "m",
                 "raw_original": {"data": {"messages": image, "seed": 1, "stop": None}},
                 "raw_result": {"request_data": {"messages": image, "model": "raw"}}}
        payloads, _ = run([event("request_started", 0, start)])
        self.assertEqual(payloads, [{"messages": image, "model": "m"}, {"messages": image, "model": "raw"}])
        del start["raw_result"]
        payloads, _ = run([event("request_started", 0, start)])
        self.assertEqual(payloads, [{"messages": plain, "model": "m"}])

    def test_a_superseded_completion_is_dropped_and_its_failure_counts(self):
        rows = [event("request_completed", 0, {"status": "failure", "final_response": "one"}),
                event("request_completed", 1, {"status": "success", "final_response": "two"})]
        payloads, lines = run(rows)
        self.assertEqual(payloads, [response(says("two"), "failure")])
        self.assertEqual(account(lines, "conversation_events")["dropped"], {"superseded_completion": 1})

    def test_an_empty_flat_text_is_absent_beside_another_source_and_serves_alone(self):
        payloads, _ = run([flat(0, "x"), event("request_completed", 1, {"status": "success", "final_response": ""})])
        self.assertEqual(payloads, [response(says("x"), "success")])
        payloads, _ = run([event("request_completed", 1, {"status": "success", "final_response": ""})])
        self.assertEqual(payloads, [response(says(""), "success")])

    def test_an_anthropic_object_of_a_stream_summary(self):
        body = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "hi"}],
                "stop_reason": "end_turn", "usage": {"output_tokens": 1}, "model": "claude"}
        payloads, _ = run([event("request_completed", 0, {
            "status": "stream_summary", "final_response": "hi", "raw_result": {"response_obj": body}})])
        self.assertEqual(payloads, [response(says(body["content"]), "success", "end_turn", model="claude",
                                             usage={"output_tokens": 1})])

    def test_variants_equal_but_for_an_unknown_finish_reason_are_one_event(self):
        payloads, _ = run([raw(0, {"content": "x"}), raw(1, {"content": "x"}, "final_chunk", "stop")])
        self.assertEqual(payloads, [response(says("x"), "unknown", "stop")])
        payloads, _ = run([raw(0, {"content": "x"}, finish="length"), raw(1, {"content": "x"}, "final_chunk", "stop")])
        self.assertEqual(len(payloads), 2)

    def test_function_call_and_refusal_are_assembled(self):
        payloads, _ = run([raw(0, {"function_call": {"name": "f", "arguments": "{"}, "refusal": "n"}),
                           raw(1, {"function_call": {"arguments": "}"}, "refusal": "o"})])
        self.assertEqual(payloads[0]["message"], says(
            "", function_call={"name": "f", "arguments": "{}"}, refusal="no"))

    def test_tool_rows_agree_by_prefix_and_artefacts_are_dropped(self):
        chunk = flat(0, "", [{"id": "a", "name": "f", "arguments": '{"n": 1.10}'}])
        _, lines = run([chunk], [tool("a", "f", '{"n"', id=901), tool("0", None, {"x": 1}, id=902),
                                 tool("", "", None, id=903)])
        self.assertEqual(account(lines, "conversation_tool_calls")["dropped"], {"denormalised": 3})
        _, lines = run([chunk], [tool("a", "f", {"n": 1.1}, id=901)])
        self.assertEqual(account(lines, "conversation_tool_calls")["dropped"], {"denormalised": 1})
        _, lines = run([chunk], [tool("a", "g", {"n": 1.1}, id=901)])
        self.assertEqual(account(lines, "conversation_tool_calls")["mapped"], 1)

    def test_an_unknown_event_type_quarantines_that_row_alone(self):
        payloads, lines = run([flat(0, "x"), event("other", 1)])
        self.assertEqual(len(payloads), 1)
        self.assertEqual(account(lines, "conversation_events")["quarantined"], {"unknown_event_type": 1})

    def test_nulls_last_rows_belong_to_the_last_turn(self):
        rows = [event("request_started", 1, {"final_messages": [1]}),
                event("request_started", 2, {"final_messages": [2]}),
                flat(0, "late", sequence=None)]
        payloads, _ = run(rows)
        self.assertEqual([set(payload) for payload in payloads],
                         [{"messages"}, {"messages"}, {"message", "finish_reason", "status"}])

    def test_a_judge_probability_that_is_not_finite_is_a_string(self):
        judge = dict.fromkeys(oracle.JSONB["conversation_judge_decisions"])
        judge |= {"id": str(uuid.UUID(int=5)).upper(), "call_id": "c", "trace_id": "t", "tool_call_id": None,
                  "probability": "NaN", "explanation": "", "judge_response_text": None, "timing": "null",
                  "created_at": "2025-01-01T02:00:00+02:00"}
        _, lines = run(calls=[], judges=[judge])
        row = next(line["columns"] for line in lines if line.get("table") == "policy_events")
        self.assertEqual(json.loads(row["metadata"]), {"probability": "NaN", "explanation": ""})
        self.assertEqual(row["created_at"], "2025-01-01T00:00:00.000000+00:00")
        self.assertIsNone(row["policy_config"])
        self.assertIn({"counts": {"synthesised_parent": 1, "chunk_index_conflict": 0}}, lines)

    def test_numbers_are_printed_by_value(self):
        def printed(text):
            return oracle.canonical(oracle.parse(text))
        for text, expected in (("1.10", "1.1"), ("1e2", "100"), ("-0.0", "0"), ("1.5E-3", "0.0015"), ("100", "100"),
                               ("12345678901234567890.50", "12345678901234567890.5"), ("1e65", "1e65"),
                               ("-1.50e-70", "-1.5e-70"), ("0e9", "0")):
            self.assertEqual(printed(text), expected)
        printed_by_postgres = oracle.postgres_text(oracle.parse('{"bb":1.50e1,"a":[-0,1e2]}'))
        self.assertEqual(printed_by_postgres, '{"a": [0, 100], "bb": 15.0}')


if __name__ == "__main__":
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        DATA = sys.argv.pop(1)
    unittest.main()
