#!/usr/bin/env python3
"""An independent oracle of the `luthien` migration (streaming chunks to request/response).

It was written from the specification alone, without a look at the engine, so that the two can be compared.
Plain Python 3.11, standard library only.

    luthien.py [--namespace UUID] [--policy-class NAME] DIR > out.jsonl

Input: DIR holds `conversation_calls.jsonl`, `conversation_events.jsonl`, `conversation_tool_calls.jsonl` and
`conversation_judge_decisions.jsonl`: one row a line; SQL NULL is `null`; a jsonb column is a string that holds the
JSON text; a timestamptz is ISO text; a double that JSON cannot say is the string `NaN`, `Infinity`, `-Infinity`.

Output: one JSON object a line, LF, UTF-8, non-ASCII unescaped, in this order:

1. `{"table": T, "key": [...], "columns": {name: value}}`: one line per target row, sorted by (table, key); `columns` in
   the order of `COLUMNS`. SQL NULL is `null`; a jsonb column is a string holding canonical JSON text; `sequence`
   is a number; a timestamp is `2025-10-09T00:00:58.404171+00:00`; a uuid is lower case.
2. `{"account": {"table": T, "mapped": n, "dropped": {reason: n}, "quarantined": {reason: n}}}`: one per legacy table.
3. `{"counts": {"synthesised_parent": n, "chunk_index_conflict": n}}`: one line.
4. `{"parked": {"unit": call_id, "reason": reason}}`: one per unit quarantined whole, sorted by unit.

Canonical JSON: keys sorted by their UTF-8 bytes, no blanks, only `"`, `\\` and U+0000 to U+001F escaped (the short
escapes where JSON has one, else `\\u001f`); a number by value: no trailing zeros, no sign on zero; written out in
full when the exponent of its first digit is within -64..64, else as `1.5e70` or `1.5e-70`.
"""

import argparse
import json
import re
import sys
import uuid
from collections import defaultdict
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

DEFAULT_NAMESPACE = "6f1d7c1e-0000-5000-8000-000000000000"
DEFAULT_POLICY_CLASS = "luthien_proxy.policies.tool_call_judge.ToolCallJudgePolicy"

CALLS, EVENTS = "conversation_calls", "conversation_events"
TOOLS, JUDGES = "conversation_tool_calls", "conversation_judge_decisions"
LEGACY = (CALLS, EVENTS, TOOLS, JUDGES)
JSONB = {
    CALLS: ("metadata",),
    EVENTS: ("raw_chunk", "payload"),
    TOOLS: ("arguments", "response"),
    JUDGES: ("tool_call", "judge_prompt", "original_request", "original_response", "stream_chunks",
             "blocked_response", "timing", "judge_config"),
}

CALLS_V2, EVENTS_V2, POLICY = "conversation_calls_v2", "conversation_events_v2", "policy_events"
COLUMNS = {
    CALLS_V2: ("call_id", "model_name", "provider", "status", "created_at", "completed_at"),
    EVENTS_V2: ("id", "call_id", "event_type", "sequence", "payload", "created_at"),
    POLICY: ("id", "call_id", "policy_class", "policy_config", "event_type", "original_event_id",
             "modified_event_id", "metadata", "created_at"),
}

STARTED, COMPLETED = "request_started", "request_completed"
CHUNK_TYPES = {"original": "original_chunk", "final": "final_chunk"}
KNOWN_TYPES = {STARTED, COMPLETED, *CHUNK_TYPES.values()}
STATUS = {"success": "success", "stream_summary": "success", "failure": "failure", "streaming": "started",
          "started": "started", None: "unknown"}
PARAMETERS = ("temperature", "max_tokens", "tools", "tool_choice", "top_p", "stop", "stream")
UNWRAP = ("response", "response_obj", "raw_response")
JUDGE_METADATA = ("probability", "explanation", "tool_call", "tool_call_id", "judge_prompt", "judge_response_text",
                  "original_request", "original_response", "stream_chunks", "blocked_response", "timing")
TOOL_METADATA = ("tool_call_id", "name", "arguments", "status", "response", "chunks_buffered")


class NotStorable(Exception):
    """The unit holds text that Postgres cannot store; it is quarantined whole."""


# ---------------------------------------------------------------------------------------------------------------
# JSON: numbers are decimals, never doubles


def parse(text):
    """Parse JSON strictly; every number becomes a Decimal. Raises ValueError on anything that is not JSON."""
    def refuse(word):
        raise ValueError(f"not JSON: {word}")
    value = json.loads(text, parse_int=Decimal, parse_float=Decimal, parse_constant=refuse)
    for string in strings_in(value):
        if any(0xD800 <= ord(c) <= 0xDFFF for c in string):
            raise ValueError("not JSON text: half of a surrogate pair")
    return value


def try_parse(text):
    """The pair (parsed?, value): a text that does not parse is no error."""
    try:
        return True, parse(text)
    except (ValueError, ArithmeticError, RecursionError):
        return False, None


def strings_in(value):
    """Every string inside a JSON value, keys included."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            stack.extend(item.keys())
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


def number_text(number):
    """A number by value (see the head of the file)."""
    sign, digits, exponent = number.as_tuple()
    digits = list(digits)
    while len(digits) > 1 and digits[-1] == 0:
        digits.pop()
        exponent += 1
    if digits == [0]:
        return "0"
    text = "".join(map(str, digits)).lstrip("0")
    minus, first = ("-" if sign else ""), exponent + len(text) - 1
    if not -64 <= first <= 64:
        return f"{minus}{text[0]}{'.' + text[1:] if len(text) > 1 else ''}e{first}"
    if exponent >= 0:
        return minus + text + "0" * exponent
    if first >= 0:
        return f"{minus}{text[:first + 1]}.{text[first + 1:]}"
    return minus + "0." + "0" * (-first - 1) + text


def canonical(value):
    """Canonical JSON text (see the head of the file)."""
    if isinstance(value, (Decimal, int)) and not isinstance(value, bool):
        return number_text(Decimal(value))
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: key.encode("utf-8"))
        return "{" + ",".join(f"{quoted(key)}:{canonical(value[key])}" for key in keys) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    return {None: "null", True: "true", False: "false"}[value] if not isinstance(value, str) else quoted(value)


def quoted(text):
    """A JSON string, non-ASCII unescaped."""
    return json.dumps(text, ensure_ascii=False)


def postgres_text(value):
    """The text Postgres prints for a jsonb: keys by length, then bytes; blanks; numbers keep their scale."""
    if isinstance(value, Decimal):
        text = format(value, "f")
        return text.removeprefix("-") if value == 0 else text
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: (len(key.encode("utf-8")), key.encode("utf-8")))
        return "{" + ", ".join(f"{quoted(key)}: {postgres_text(value[key])}" for key in keys) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(postgres_text, value)) + "]"
    return canonical(value)


def same(left, right):
    """Equality of two JSON values, numbers by value."""
    return canonical(left) == canonical(right)


def text_or_none(value):
    """A string that is not empty, else None."""
    return value if isinstance(value, str) and value else None


def index_or(default, value):
    """A whole number, else the default."""
    if isinstance(value, Decimal) and value == value.to_integral_value():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def without_nulls(pairs):
    """A dict of the pairs whose value is not null (a JSON null counts as a null key)."""
    return {key: value for key, value in pairs if value is not None}


# ---------------------------------------------------------------------------------------------------------------
# Legacy rows


class Row(dict):
    """A legacy row by column name. jsonb columns are parsed (SQL NULL and JSON null both read as None)."""

    def __init__(self, table, line):
        super().__init__(parse(line))
        self.table = table
        self.is_sql_null = {column: self[column] is None for column in JSONB[table]}
        for column in JSONB[table]:
            if self[column] is not None:
                self[column] = parse(self[column])
        for column in ("sequence", "chunk_index", "choice_index", "chunks_buffered"):
            if isinstance(self.get(column), Decimal):
                self[column] = int(self[column])
        if "id" in self:
            self["id"] = str(uuid.UUID(self["id"]))
        self.reason = None      # why the row is dropped or quarantined
        self.fate = "mapped"    # mapped, dropped, quarantined

    def drop(self, reason):
        """Account for the row as dropped."""
        self.fate, self.reason = "dropped", reason

    def quarantine(self, reason):
        """Account for the row as quarantined."""
        self.fate, self.reason = "quarantined", reason

    def payload(self, key):
        """A key of the payload; None when the payload is no object or lacks it."""
        payload = self["payload"]
        return payload.get(key) if isinstance(payload, dict) else None

    def everything_but_id_and_time(self):
        """What makes two chunk rows duplicates: every column but id and created_at."""
        return tuple(
            (column, None if self.is_sql_null.get(column) else canonical(value))
            for column, value in sorted(self.items()) if column not in ("id", "created_at"))


TIME = re.compile(r"(\d{4,})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?(Z|[+-]\d\d(?::?\d\d)?)?$")


def instant(text):
    """A sortable value of a timestamptz: (side of infinity, microseconds)."""
    if text in ("infinity", "-infinity"):
        return (1, 0) if text == "infinity" else (-1, 0)
    match = TIME.match(text)
    if not match:
        raise ValueError("a timestamp that is not ISO text")
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    moment = datetime(year, month, day, hour, minute, second, int((match[7] or "").ljust(6, "0")))
    zone = match[8]
    if zone and zone != "Z":
        digits = zone[1:].replace(":", "").ljust(4, "0")
        offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
        moment = moment - offset if zone[0] == "+" else moment + offset
    return (0, (moment - datetime(1970, 1, 1)) // timedelta(microseconds=1))


def time_text(text):
    """A timestamp as ISO UTC text with six digits."""
    if text is None:
        return None
    side, micros = instant(text)
    if side:
        return text
    moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=micros)
    return moment.isoformat(timespec="microseconds")


def earliest(rows):
    """The earliest created_at of some rows, as text."""
    return time_text(min((row["created_at"] for row in rows), key=instant))


def nulls_last(value):
    """A sort key of a nullable integer, null after every number."""
    return (value is None, value or 0)


def turn_order(row):
    """The order in which events make up turns."""
    return (nulls_last(row["sequence"]), instant(row["created_at"]), row["event_type"] != STARTED,
            nulls_last(row["chunk_index"]), row["id"])


def chunk_order(row):
    """The order of chunks."""
    return (nulls_last(row["sequence"]), instant(row["created_at"]), nulls_last(row["chunk_index"]), row["id"])


# ---------------------------------------------------------------------------------------------------------------
# Requests


def request_in(envelope):
    """The request inside a hook's envelope: `.data`, else `.request_data`, else itself if it has `messages`."""
    if not isinstance(envelope, dict):
        return None
    for key in ("data", "request_data"):
        if isinstance(envelope.get(key), dict):
            return envelope[key]
    return envelope if envelope.get("messages") is not None else None


def request_payload(messages, raw, payload_model):
    """The target payload of a request, null keys removed."""
    raw = raw or {}
    model = raw.get("model")
    pairs = [("messages", messages), ("model", payload_model if model is None else model)]
    return without_nulls(pairs + [(key, raw.get(key)) for key in PARAMETERS])


def requests_of_row(row):
    """The payloads a request_started row gives: one, or two that differ (original first)."""
    variants = [
        (row.payload(flat), request_in(row.payload(envelope)))
        for flat, envelope in (("original_messages", "raw_original"), ("final_messages", "raw_result"))]
    model = row.payload("model")

    def raw_messages(raw):
        return raw.get("messages") if raw else None

    present = [(flat, raw) for flat, raw in variants if flat is not None or raw_messages(raw) is not None]
    if not present:
        raw = variants[1][1] or variants[0][1]
        return [request_payload(None, raw, model)]
    use_raw = all(raw_messages(raw) is not None for _, raw in present)
    payloads = []
    for flat, raw in present:
        messages = raw_messages(raw) if use_raw or flat is None else flat
        payloads.append(request_payload(messages, raw, model))
    if len(payloads) == 2 and same(payloads[0], payloads[1]):
        payloads.pop()
    return payloads


# ---------------------------------------------------------------------------------------------------------------
# Responses: variants


class Variant:
    """One reading of a response: assembled chunks, a raw response object, or a flat text."""

    def __init__(self, kind, rows, choices, usage=None, model=None):
        self.kind = kind            # "chunks", "object" or "text"
        self.rows = rows            # the legacy rows behind it
        self.choices = choices      # {index: (message, finish_reason)}
        self.usage = usage
        self.model = model

    def text(self):
        """The text of the first choice; null reads as ""."""
        return content_text(self.choices[min(self.choices)][0].get("content"))

    def is_empty_text(self):
        """Is this a flat text of no length?"""
        return self.kind == "text" and self.text() == ""

    def says_something(self):
        """Is there any text or tool call in any choice?"""
        return any(
            value not in (None, "", []) for message, _ in self.choices.values()
            for key, value in message.items() if key != "role")


def content_text(content):
    """The text of a message's content, a string or a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = (part.get("text") if isinstance(part, dict) else part for part in content)
        return "".join(part for part in parts if isinstance(part, str))
    return ""


class ToolCall:
    """A tool call while it is being streamed."""

    def __init__(self, identifier=None):
        self.id = identifier
        self.name = None
        self.type = None
        self.arguments = []

    def add(self, name, kind, arguments):
        """Take a fragment: the first name and type, all arguments."""
        self.name = self.name or text_or_none(name)
        self.type = self.type or text_or_none(kind)
        if arguments is not None:
            self.arguments.append(arguments if isinstance(arguments, str) else postgres_text(arguments))

    def message_part(self):
        """The call as OpenAI writes it in a message."""
        function = {"name": self.name, "arguments": "".join(self.arguments)}
        return {"id": self.id, "type": self.type or "function", "function": function}


class Choice:
    """One choice of a response while it is being streamed."""

    def __init__(self):
        self.text, self.refusal, self.role, self.column_role, self.finish = [], [], None, None, None
        self.calls, self.by_index, self.latest = [], {}, None
        self.function_call = None

    def take_delta(self, delta):
        """A raw delta."""
        self.role = self.role or text_or_none(delta.get("role"))
        self.text.append(content_text(delta.get("content")))
        if isinstance(delta.get("refusal"), str):
            self.refusal.append(delta["refusal"])
        if isinstance(delta.get("function_call"), dict):
            self.function_call = self.function_call or ToolCall()
            call = delta["function_call"]
            self.function_call.add(call.get("name"), None, call.get("arguments"))
        fragments = delta.get("tool_calls")
        for fragment in fragments if isinstance(fragments, list) else []:
            if isinstance(fragment, dict):
                self.take_raw_fragment(fragment)

    def take_raw_fragment(self, fragment):
        """A raw tool-call fragment: by index; another non-empty id under the same index starts a new call."""
        identifier, index = text_or_none(fragment.get("id")), index_or(None, fragment.get("index"))
        call = self.latest if index is None else self.by_index.get(index)
        if call is None or (identifier and call.id and identifier != call.id):
            call = self.start(identifier)
        call.id = call.id or identifier
        self.latest = call
        if index is not None:
            self.by_index[index] = call
        function = fragment.get("function") if isinstance(fragment.get("function"), dict) else {}
        call.add(function.get("name"), fragment.get("type"), function.get("arguments"))

    def take_flat_fragment(self, position, fragment):
        """A normalised fragment: id "0", empty, missing or equal to its position continues the latest call."""
        identifier = text_or_none(fragment.get("id"))
        if identifier in ("0", str(position)):
            identifier = None
        if identifier is None:
            call = self.latest or self.start(None)
        else:
            call = next((known for known in self.calls if known.id == identifier), None) or self.start(identifier)
        self.latest = call
        call.add(fragment.get("name"), fragment.get("type"), fragment.get("arguments"))

    def start(self, identifier):
        """A new call."""
        call = ToolCall(identifier)
        self.calls.append(call)
        return call

    def message(self):
        """The assembled message."""
        text = "".join(self.text)
        message = {"role": self.role or self.column_role or "assistant",
                   "content": text if text or not self.calls else None}
        if self.calls:
            message["tool_calls"] = [call.message_part() for call in self.calls]
        if self.function_call:
            message["function_call"] = self.function_call.message_part()["function"]
        if any(self.refusal):
            message["refusal"] = "".join(self.refusal)
        return message


def raw_chunk_of(row):
    """The raw chunk of a row: an object, or a string that holds one; else None."""
    for raw in (row["raw_chunk"], row.payload("raw_chunk")):
        if isinstance(raw, str):
            parsed, raw = try_parse(raw)
            if parsed and isinstance(raw, dict) and any("\0" in string for string in strings_in(raw)):
                raise NotStorable
        if isinstance(raw, dict):
            return raw
    return None


def rendering(tool_calls):
    """The old writer's text for the tool calls of a chunk."""
    parts = []
    for call in tool_calls:
        name, arguments = text_or_none(call.get("name")), call.get("arguments")
        if arguments is not None and not isinstance(arguments, str):
            arguments = postgres_text(arguments)
        parts.append((f"[tool {name}]" if name else "[tool]") + (f" {arguments}" if arguments else ""))
    return "".join(parts)


def take_flat_chunk(row, choices):
    """A chunk without raw: text of the column (else of the payload), less the rendering of its tool calls."""
    index = row["choice_index"]
    if index is None:
        index = row.payload("choice_index")
    choice = choices[index_or(0, index)]
    listed = row.payload("tool_calls")
    fragments = [call if isinstance(call, dict) else {} for call in listed] if isinstance(listed, list) else []
    text = row["delta_text"] if row["delta_text"] is not None else row.payload("delta")
    text = text if isinstance(text, str) else ""
    choice.text.append(text.removesuffix(rendering(fragments)))
    for position, fragment in enumerate(fragments):
        choice.take_flat_fragment(position, fragment)
    return choice


def assemble(rows):
    """A variant of the kept chunk rows, in order."""
    choices, usage, model = defaultdict(Choice), None, None
    for row in rows:
        raw = raw_chunk_of(row)
        if raw is not None:
            usage = raw["usage"] if raw.get("usage") is not None else usage
            model = raw.get("model") if model is None else model
        if raw is None or not isinstance(raw.get("choices"), list):
            take_flat_chunk(row, choices)
        else:
            for position, part in enumerate(raw["choices"]):
                if isinstance(part, dict):
                    take_raw_choice(part, position, choices)
        column_choice = choices.get(row["choice_index"] or 0)
        if column_choice is not None:
            column_choice.column_role = column_choice.column_role or text_or_none(row["role"])
    if not choices:
        choices[0].column_role = next((row["role"] for row in rows if row["role"]), None)
    messages = {index: (choice.message(), choice.finish) for index, choice in choices.items()}
    return Variant("chunks", rows, messages, usage, model)


def take_raw_choice(part, position, choices):
    """One choice of a raw chunk: its delta (a `message` serves when there is no delta), its finish_reason."""
    choice = choices[index_or(position, part.get("index"))]
    delta = part.get("delta")
    if not isinstance(delta, dict):
        delta = part.get("message")
    if isinstance(delta, dict):
        choice.take_delta(delta)
    if part.get("finish_reason") is not None:
        choice.finish = part["finish_reason"]


def response_object(row, raw):
    """A variant of a completion's raw response object (OpenAI's or Anthropic's shape), or None."""
    if row.payload("status") == "stream_summary" and isinstance(raw, dict):
        raw = next((raw[key] for key in UNWRAP if isinstance(raw.get(key), dict)), raw)
    if not isinstance(raw, dict):
        return None
    if isinstance(raw.get("choices"), list):
        choices = {}
        for position, part in enumerate(raw["choices"]):
            if isinstance(part, dict) and isinstance(part.get("message"), dict):
                choices[index_or(position, part.get("index"))] = (part["message"], part.get("finish_reason"))
        return Variant("object", [row], choices, raw.get("usage"), raw.get("model")) if choices else None
    if raw.get("content") is not None:
        role = text_or_none(raw.get("role")) or text_or_none(row["role"]) or "assistant"
        choices = {0: ({"role": role, "content": raw["content"]}, raw.get("stop_reason"))}
        return Variant("object", [row], choices, raw.get("usage"), raw.get("model"))
    return None


def completion_variant(row, which):
    """What a completion says of the original or the final response: its raw object, else its flat text, or None."""
    variant = response_object(row, row.payload("raw_original" if which == "original" else "raw_result"))
    if variant is None:
        text = row.payload(f"{which}_response")
        if isinstance(text, str):
            message = {"role": text_or_none(row["role"]) or "assistant", "content": text}
            variant = Variant("text", [row], {0: (message, None)})
    return variant


# ---------------------------------------------------------------------------------------------------------------
# Responses: comparing and writing


def variants_equal(original, final):
    """Equal: a flat text by text alone; else messages, and finish_reason unless unknown on one side."""
    if "text" in (original.kind, final.kind):
        return original.text() == final.text()
    if set(original.choices) != set(final.choices):
        return False
    for index, (message, finish) in original.choices.items():
        other_message, other_finish = final.choices[index]
        if not same(message, other_message):
            return False
        if finish is not None and other_finish is not None and not same(finish, other_finish):
            return False
    return True


def merged(original, final):
    """The one variant of two equal ones: the assembled message; the rest from the original, else the final."""
    kept, other = (final, original) if original.kind == "text" != final.kind else (original, final)
    choices = {}
    for index, (message, _) in kept.choices.items():
        reasons = [side.choices.get(index, (None, None))[1] for side in (original, final)]
        choices[index] = (message, next((reason for reason in reasons if reason is not None), None))
    usage = original.usage if original.usage is not None else final.usage
    model = original.model if original.model is not None else final.model
    return Variant(kept.kind, kept.rows + other.rows, choices, usage, model)


def response_payload(variant, status):
    """The target payload of a response."""
    choices = []
    for index in sorted(variant.choices):
        message, finish = variant.choices[index]
        if finish is None and variant.kind == "chunks" and message.get("tool_calls"):
            finish = "tool_calls"
        choices.append({"index": index, "message": message, "finish_reason": finish})
    payload = {"message": choices[0]["message"], "finish_reason": choices[0]["finish_reason"], "status": status}
    payload |= without_nulls([("model", variant.model), ("usage", variant.usage)])
    if len(choices) > 1:
        payload["choices"] = choices
    return payload


# ---------------------------------------------------------------------------------------------------------------
# Turns


class Turn:
    """The events from one request_started to the next."""

    def __init__(self, rows):
        self.started = next((row for row in rows if row["event_type"] == STARTED), None)
        self.completions = [row for row in rows if row["event_type"] == COMPLETED]
        self.chunks = {which: sorted((row for row in rows if row["event_type"] == name), key=chunk_order)
                       for which, name in CHUNK_TYPES.items()}
        self.conflicts = 0
        self.variants = {}
        self.request_source = None

    def read(self):
        """Drop duplicates, choose among completions, assemble the two variants."""
        chosen = self.choose_completions()
        for which in CHUNK_TYPES:
            rows = self.kept_chunks(which)
            self.variants[which] = assemble(rows) if rows else chosen[which]
        original, final = self.variants["original"], self.variants["final"]
        if original and final:
            if original.is_empty_text() and not final.is_empty_text():
                self.variants["original"] = None
            elif final.is_empty_text() and not original.is_empty_text():
                self.variants["final"] = None

    def kept_chunks(self, which):
        """The chunk rows of a variant without duplicates; counts index conflicts."""
        kept, seen, indexes = [], set(), set()
        for row in self.chunks[which]:
            content = row.everything_but_id_and_time()
            if content in seen:
                row.drop("duplicate_chunk")
                continue
            seen.add(content)
            if row["chunk_index"] is not None and row["chunk_index"] in indexes:
                self.conflicts += 1
            indexes.add(row["chunk_index"])
            kept.append(row)
        return kept

    def choose_completions(self):
        """Original, final and request_messages each from the last completion that has it; drop the superseded."""
        chosen, differs, serves = {}, set(), set()
        for field in ("original", "final", "messages"):
            candidates = [(row, self.value(row, field)) for row in self.completions]
            candidates = [(row, value) for row, value in candidates if value is not None]
            if field != "messages" and any(not value.is_empty_text() for _, value in candidates):
                candidates = [(row, value) for row, value in candidates if not value.is_empty_text()]
            if not candidates:
                chosen[field] = None
                continue
            last_row, chosen[field] = candidates[-1]
            serves.add(last_row["id"])
            if field == "messages":
                self.request_source = last_row
            for row, value in candidates[:-1]:
                if not self.same_value(field, value, chosen[field]):
                    differs.add(row["id"])
        for row in self.completions:
            if row["id"] in differs and row["id"] not in serves:
                row.drop("superseded_completion")
        return chosen

    @staticmethod
    def value(row, field):
        """What a completion has of a field; None for null, and for empty request messages."""
        if field == "messages":
            messages = row.payload("request_messages")
            return None if messages in (None, []) else messages
        return completion_variant(row, field)

    @staticmethod
    def same_value(field, left, right):
        """Do two completions say the same of a field?"""
        if field == "messages":
            return same(left, right)
        if "text" in (left.kind, right.kind):
            return left.text() == right.text()
        facts = [[[index, *value] for index, value in sorted(side.choices.items())] + [side.usage, side.model]
                 for side in (left, right)]
        return same(facts[0], facts[1])

    def fails(self):
        """Does a completion say failure?"""
        return any(row.payload("status") == "failure" for row in self.completions)

    def status(self, call_status):
        """The status of the turn's response: failure, else the last completion's, else the call's mapped one."""
        return strongest([row.payload("status") for row in self.completions]) or call_status

    def requests(self):
        """The request payloads of the turn with the row behind them."""
        if self.started:
            return [(payload, [self.started]) for payload in requests_of_row(self.started)]
        if self.request_source:
            row = self.request_source
            return [(request_payload(row.payload("request_messages"), None, row.payload("model")), [row])]
        return []

    def responses(self, call_status):
        """The response payloads of the turn (none, one, or two that differ) with the rows behind them."""
        status = self.status(call_status)
        variants = [variant for variant in (self.variants["original"], self.variants["final"]) if variant]
        if not variants and not self.fails():
            return []
        if status == "failure" and not any(variant.says_something() for variant in variants):
            failed = [row for row in self.completions if row.payload("status") == "failure"]
            behind = failed or [row for variant in variants for row in variant.rows]
            payload = {"message": {}, "finish_reason": None, "status": status}
            for key in ("model", "usage"):
                values = [getattr(variant, key) for variant in variants]
                payload |= without_nulls([(key, next((value for value in values if value is not None), None))])
            return [(payload, behind)]
        if len(variants) == 2 and variants_equal(*variants):
            variants = [merged(*variants)]
        return [(response_payload(variant, status), variant.rows) for variant in variants]


def strongest(statuses):
    """The mapped status of several completions: failure beats all, else the last one said; None when none says."""
    mapped = [STATUS.get(status, status) for status in statuses if isinstance(status, str)]
    if "failure" in mapped:
        return "failure"
    return mapped[-1] if mapped else None


def split_turns(events):
    """The turns of a call. Rows before the first request_started belong to the first turn."""
    turns, current, begun = [], [], False
    for row in sorted(events, key=turn_order):
        if row["event_type"] == STARTED:
            if begun:
                turns.append(current)
                current = []
            begun = True
        current.append(row)
    if current:
        turns.append(current)
    return [Turn(rows) for rows in turns]


# ---------------------------------------------------------------------------------------------------------------
# Tool rows


def fills(row):
    """May this tool row fill gaps and be compared at all? The writer's own artefacts may not."""
    return not (row["tool_call_id"] in ("0", "") and not row["name"] and row["response"] is None)


def fill_tool_calls(turns, tool_rows):
    """Fill missing names and arguments of streamed calls; returns the ids of rows that filled something."""
    used, by_id = set(), {}
    for row in sorted(tool_rows, key=lambda row: (instant(row["created_at"]), row["id"])):
        if row["tool_call_id"] is not None and fills(row):
            by_id.setdefault(row["tool_call_id"], row)
    for turn in turns:
        for variant in turn.variants.values():
            if variant is None or variant.kind != "chunks":
                continue
            for message, _ in variant.choices.values():
                for call in message.get("tool_calls") or []:
                    row = by_id.get(call["id"])
                    if row is not None and fill(call["function"], row):
                        used.add(row["id"])
    return used


def fill(function, row):
    """Fill one call from one row; says whether anything was filled."""
    filled = False
    if not function["name"] and row["name"]:
        function["name"], filled = row["name"], True
    if function["arguments"] == "" and row["arguments"] not in (None, ""):
        arguments = row["arguments"]
        function["arguments"] = arguments if isinstance(arguments, str) else postgres_text(arguments)
        filled = True
    return filled


def calls_in(payload):
    """Every tool call a response payload holds, as (id, name, arguments text or None, arguments value or None)."""
    messages = [choice["message"] for choice in payload.get("choices", [])] or [payload["message"]]
    for message in messages:
        listed = message.get("tool_calls")
        for call in listed if isinstance(listed, list) else []:
            function = call.get("function") if isinstance(call, dict) else None
            if isinstance(function, dict):
                text = function.get("arguments")
                if isinstance(text, str):
                    yield call.get("id"), function.get("name"), text, try_parse(text)
                else:
                    yield call.get("id"), function.get("name"), None, (text is not None, text)
        content = message.get("content")
        for block in content if isinstance(content, list) else []:
            if isinstance(block, dict) and block.get("type") == "tool_use":
                yield block.get("id"), block.get("name"), None, (True, block.get("input"))


def agrees(row, calls):
    """Does a tool row say no more than some response of the call?"""
    if row["response"] is not None or row["status"] not in (None, "emitted") or row["tool_call_id"] is None:
        return False
    said = row["arguments"]
    for identifier, name, text, (parsed, value) in calls:
        if identifier != row["tool_call_id"] or (row["name"] is not None and row["name"] != name):
            continue
        if said in (None, ""):
            return True
        if isinstance(said, str) and text is not None and text.startswith(said):
            return True
        if parsed and same(said, value):
            return True
    return False


# ---------------------------------------------------------------------------------------------------------------
# Units


class Unit:
    """All legacy rows of one call_id and what they become."""

    def __init__(self, call_id, options):
        self.call_id = call_id
        self.options = options
        self.legacy = {table: [] for table in LEGACY}
        self.rows = []          # (table, columns)
        self.synthesised = 0
        self.conflicts = 0
        self.parked = None
        self.last_response = (None, None)

    def every_row(self):
        """All legacy rows."""
        return [row for table in LEGACY for row in self.legacy[table]]

    def derived_id(self, *parts):
        """A version 5 uuid over [call_id, parts…] as compact JSON text."""
        name = json.dumps([self.call_id, *map(str, parts)], ensure_ascii=False, separators=(",", ":"))
        return str(uuid.uuid5(self.options.namespace, name))

    def map(self):
        """Map the unit, or park it."""
        for row in self.legacy[EVENTS]:
            if row["event_type"] not in KNOWN_TYPES:
                row.quarantine("unknown_event_type")
        try:
            if len(self.legacy[CALLS]) > 1:
                self.park("key_collision")
                return
            self.map_rows()
            if any("\0" in string for _, columns in self.rows for string in strings_in(columns)):
                raise NotStorable
        except NotStorable:
            self.park("not_storable")

    def park(self, reason):
        """Quarantine the whole unit."""
        self.rows, self.synthesised, self.conflicts, self.parked = [], 0, 0, reason
        for row in self.every_row():
            if row.reason != "unknown_event_type":
                row.quarantine(reason)

    def map_rows(self):
        """The target rows of the unit; nothing when all its rows are quarantined."""
        if all(row.fate == "quarantined" for row in self.every_row()):
            return
        events = [row for row in self.legacy[EVENTS] if row.fate != "quarantined"]
        turns = split_turns(events)
        for turn in turns:
            turn.read()
            self.conflicts += turn.conflicts
        filled = fill_tool_calls(turns, self.legacy[TOOLS])
        call = self.legacy[CALLS][0] if self.legacy[CALLS] else None
        legacy_status = call["status"] if call else None
        call_status = STATUS.get(legacy_status, legacy_status)
        payloads = self.map_turns(turns, call_status)
        self.map_call(call, call_status, events, payloads)
        self.map_tools(filled, payloads["response"])
        self.map_judges()

    def map_turns(self, turns, call_status):
        """Events in sequence, and the policy events that link two variants."""
        payloads = {"request": [], "response": []}
        sequence = 0
        for turn in turns:
            for kind, found in (("request", turn.requests()), ("response", turn.responses(call_status))):
                ids = []
                for payload, behind in found:
                    payload = json_copy(payload)
                    created_at = earliest(behind)
                    ids.append(self.derived_id(kind, sequence))
                    self.put(EVENTS_V2, id=ids[-1], call_id=self.call_id, event_type=kind, sequence=sequence,
                             payload=canonical(payload), created_at=created_at)
                    payloads[kind].append(payload)
                    sequence += 1
                if len(ids) == 2:
                    self.policy(f"{kind}_modified", ids[1], created_at, original=ids[0], modified=ids[1])
                if kind == "response" and ids:
                    self.last_response = (ids[0], ids[1] if len(ids) == 2 else None)
        return payloads

    def map_call(self, call, call_status, events, payloads):
        """The call row, synthesised when there is none."""
        chunks = sorted((row for row in events if row["event_type"] in CHUNK_TYPES.values()), key=turn_order)
        models = [call["model_name"] if call else None]
        models += [payload.get("model") for payload in payloads["request"]]
        models += [(raw_chunk_of(row) or {}).get("model") for row in chunks]
        completions = sorted((row for row in events if row["event_type"] == COMPLETED), key=turn_order)
        status = strongest([row.payload("status") for row in completions]) or call_status
        if call is None:
            self.synthesised = 1
            created_at = earliest(row for row in self.every_row() if row.fate != "quarantined")
        else:
            created_at = time_text(call["created_at"])
        self.put(CALLS_V2, call_id=self.call_id,
                 model_name=next((model for model in models if isinstance(model, str)), None),
                 provider=call["provider"] if call else None, status=status, created_at=created_at,
                 completed_at=time_text(call["completed_at"]) if call else None)

    def map_tools(self, filled, responses):
        """Tool rows: artefacts and agreeing rows are dropped, fillers are mapped, the rest become policy events."""
        calls = [call for payload in responses for call in calls_in(payload)]
        for row in self.legacy[TOOLS]:
            if not fills(row):
                row.drop("denormalised")
            elif agrees(row, calls):
                if row["id"] not in filled:
                    row.drop("denormalised")
            else:
                metadata = without_nulls((key, row[key]) for key in TOOL_METADATA)
                self.policy("tool_call_recorded", row["id"], time_text(row["created_at"]), metadata=metadata)

    def map_judges(self):
        """Judge decisions keep their id."""
        for row in self.legacy[JUDGES]:
            metadata = without_nulls((key, row[key]) for key in JUDGE_METADATA)
            config = None if row.is_sql_null["judge_config"] else canonical(row["judge_config"])
            self.put(POLICY, id=row["id"], call_id=self.call_id, policy_class=self.options.policy_class,
                     policy_config=config, event_type="judge_decision", original_event_id=self.last_response[0],
                     modified_event_id=self.last_response[1], metadata=canonical(metadata),
                     created_at=time_text(row["created_at"]))

    def policy(self, event_type, named_by, created_at, original=None, modified=None, metadata=None):
        """A policy event that is not a judge decision."""
        self.put(POLICY, id=self.derived_id(event_type, named_by), call_id=self.call_id, policy_class="unknown",
                 policy_config=None, event_type=event_type, original_event_id=original, modified_event_id=modified,
                 metadata=None if metadata is None else canonical(metadata), created_at=created_at)

    def put(self, table, **columns):
        """Add a target row."""
        for name in ("payload", "policy_config", "metadata"):
            if columns.get(name) is not None and any("\0" in text for text in strings_in(parse(columns[name]))):
                raise NotStorable
        self.rows.append((table, {name: columns[name] for name in COLUMNS[table]}))


def json_copy(value):
    """A deep copy, so that no payload shares parts with a variant."""
    if isinstance(value, dict):
        return {key: json_copy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [json_copy(item) for item in value]
    return value


# ---------------------------------------------------------------------------------------------------------------
# The whole


def read_units(folder, options):
    """The units of a folder, by call_id."""
    units = {}
    for table in LEGACY:
        text = (Path(folder) / f"{table}.jsonl").read_bytes().decode("utf-8")
        for line in text.split("\n"):
            if line.strip():
                row = Row(table, line)
                unit = units.setdefault(row["call_id"], Unit(row["call_id"], options))
                unit.legacy[table].append(row)
    return units


def key_of(table, columns):
    """The key of a target row, as text."""
    return (table, columns["call_id"] if table == CALLS_V2 else columns["id"])


def park_collisions(units):
    """Rows that map to one target key: none wins; their units are quarantined whole."""
    owners = defaultdict(list)
    for unit in units:
        for table, columns in unit.rows:
            owners[key_of(table, columns)].append(unit)
    for group in owners.values():
        if len(group) > 1:
            for unit in group:
                unit.park("key_collision")


def accounts_of(units):
    """The accounts by legacy table; every row is in exactly one place."""
    accounts = {table: {"mapped": 0, "dropped": defaultdict(int), "quarantined": defaultdict(int)} for table in LEGACY}
    for unit in units:
        for row in unit.every_row():
            account = accounts[row.table]
            if row.fate == "mapped":
                account["mapped"] += 1
            else:
                account[row.fate][row.reason] += 1
    return accounts


def output_lines(units):
    """All lines of the output."""
    rows = sorted(((key_of(*row), row) for unit in units for row in unit.rows), key=lambda item: item[0])
    for (table, key), (_, columns) in rows:
        yield {"table": table, "key": [key], "columns": columns}
    for table, account in sorted(accounts_of(units).items()):
        parts = {name: dict(sorted(account[name].items())) for name in ("dropped", "quarantined")}
        yield {"account": {"table": table, "mapped": account["mapped"], **parts}}
    yield {"counts": {"synthesised_parent": sum(unit.synthesised for unit in units),
                      "chunk_index_conflict": sum(unit.conflicts for unit in units)}}
    for unit in sorted(units, key=lambda unit: unit.call_id):
        if unit.parked:
            yield {"parked": {"unit": unit.call_id, "reason": unit.parked}}


def run(folder, namespace=DEFAULT_NAMESPACE, policy_class=DEFAULT_POLICY_CLASS):
    """Map a folder; returns the output as objects."""
    options = argparse.Namespace(namespace=uuid.UUID(str(namespace)), policy_class=policy_class)
    units = list(read_units(folder, options).values())
    for unit in units:
        unit.map()
    park_collisions(units)
    return list(output_lines(units))


def main():
    """The command."""
    parser = argparse.ArgumentParser(description="Independent oracle of the luthien migration.")
    parser.add_argument("folder")
    parser.add_argument("--namespace", type=uuid.UUID, default=uuid.UUID(DEFAULT_NAMESPACE))
    parser.add_argument("--policy-class", default=DEFAULT_POLICY_CLASS)
    options = parser.parse_args()
    for line in run(options.folder, options.namespace, options.policy_class):
        text = json.dumps(line, ensure_ascii=False, separators=(",", ":"))
        sys.stdout.buffer.write(text.encode("utf-8") + b"\n")


if __name__ == "__main__":
    main()


# ---------------------------------------------------------------------------------------------------------------
# Ambiguities: sentences of the specification that admit more than one reading, and the reading taken here.
# Those marked * change the output for the data folder; the others need rows that the folder does not have.
#
# Calls
#  1.* "a synthesised call row (`status` `unknown` …)". Taken: it stands in for the legacy row, so the rules of
#      Calls apply to it: a completion's status wins over `unknown`, model_name comes from requests and chunks.
#      Other reading: the target's status is `unknown` whatever the completions say. completed_at is null.
#  2.* "a request_completed row's status wins over the call's where they differ (`failure` over `success`)". Taken:
#      the parenthesis ranks completions among themselves; a call that says failure whose only completion says
#      stream_summary becomes success. Other reading: failure beats success on either side.
#  3.  Completions with statuses other than failure that differ: failure beats all; else the last completion that
#      has a status wins. A completion with no (or a null, or a non-text) status says nothing.
#  4.  "a request payload's `model`": that of the target request events, in sequence (raw request's model, else
#      payload.model). "a raw chunk's": raw chunks in turn order. Only text counts (the column is text); "" counts.
#  5.  "the earliest of its rows": rows quarantined as unknown_event_type do not count, and a unit with no other
#      row than those gets no synthesised call row (it would be a target row of nothing but quarantined rows).
#
# Turns and requests
#  6.  A message list is "there" when it is not null; [] is there in request_started (only empty request_messages
#      are said to make no request). A variant is there raw when its raw request has non-null `messages`.
#  7.  A variant that is there only raw while another is there only flat: "else the flat lists" leaves it none; it
#      keeps its raw messages.
#  8.  A request_started row without any messages still "gives a request event": payload without `messages`
#      (parameters of the final raw request, else of the original one).
#  9.  `.data` or `.request_data` that is no object counts as absent.
# 10.  request_messages of a completion: model from that row's payload.model when it has one.
# 11.  "null keys removed" is about the top level of the request payload; nulls inside messages and tools stay. In a
#      response payload `finish_reason` stays when null.
#
# Chunks
# 12.  "A chunk equal in all but id and times" with "sequence and payload count": trace_id and hook count too; jsonb
#      is compared by value; SQL NULL and JSON null differ.
# 13.* "The same chunk_index with other content … counted": every kept row whose (not null) chunk_index was already
#      kept in the same variant and turn counts one, also when only its sequence differs.
# 14.* Text of a chunk without raw: the column, else payload.delta. choice_index: the column, else the payload's,
#      else 0. In order, a null chunk_index comes last.
# 15.  A raw_chunk column that is absent (or does not parse): payload.raw_chunk serves when it is an object or holds
#      one. A raw object without a `choices` list gives usage and model; its text is the flat one.
# 16.* A raw choice with both `delta` and `message`: the delta alone counts; `message` serves when no delta is there.
# 17.  "Parsed text with U+0000": anywhere in a raw chunk parsed from a string, even in a key that is not used.
# 18.  A raw fragment without index: another non-empty id starts a call, otherwise it continues the latest one.
# 19.  A flat id that appeared before is not new: its fragment goes to that call, which is then the latest.
# 20.  Name and type of a call: the first that is not empty. An "" role is no role. The column's role: the first
#      that is not empty among the rows of that choice.
# 21.  `function_call` is no tool call here: content stays "" and finish_reason null beside it.
# 22.  finish_reason `tool_calls` as "nothing else is known" is put in last, after variants were compared and merged,
#      so it does not make two variants differ; for assembled chunks only.
# 23.  `model` of an assembled response: the first raw chunk's that is not null.
#
# Completions and variants
# 24.* "An earlier one whose value differs is dropped": a "" beside another's text is not had at all, so it does not
#      differ; the synthetic completion before a real one is mapped (its status counts). Other reading: dropped.
# 25.  A completion of which one value is superseded and another one serves is mapped. Values are compared and rows
#      dropped also where chunks win in the end, and for request_messages beside a request_started.
# 26.  "not "" if another has text": "another" is another completion, of the same field; a raw object is text.
# 27.  A completion that says nothing at all (no status, no value) is mapped: no reason to drop it is named.
# 28.  Raw objects are unwrapped only for `status` stream_summary, once. An object with neither choices that hold
#      messages nor `content` is no response object; the flat text serves.
# 29.  A flat text is compared "by text alone" with a raw object too; the text is that of the choice with the lowest
#      index; of a list content the texts of its parts joined.
# 30.  Two flat texts that are both "": neither is absent; they are equal: one event.
# 31.  `message` and `finish_reason` of several choices: those of the lowest index; `choices` in order of index.
# 32.  "A failed call without text gives {}": the turn's status is failure and no variant of it has text, tool calls
#      or any other content. `model` and `usage` are kept where known. Without a failed completion in the turn
#      (the call's own status is failure) created_at is that of the variant's rows.
# 33.* "A turn without completion takes the call's mapped status": the call row's own status mapped by the table, not
#      the target's, which completions of other turns may have changed.
#
# Tool rows
# 34.* A row that filled a gap and agrees afterwards contributed to a target row: mapped, not `denormalised`.
# 35.  Filling comes before variants are compared; it fills streamed calls of both variants in all turns, not the
#      calls inside raw response objects. `"name": ""` and arguments "" are missing.
# 36.* A row without tool_call_id matches no call, not even one with id null: tool_call_recorded.
# 37.  "a prefix of the response's text": for arguments that are JSON strings; other values only "equal as JSON".
# 38.  Links of tool_call_recorded (original_event_id, modified_event_id) are null: none are named.
# 39.  tool_use blocks of an Anthropic-shaped message are tool calls of the response for the comparison.
#
# Judge decisions
# 40.  "the call's last original response event … the final one when there are two": both of the last turn that has
#      a response; a lone response event is the original one, whichever variant it came from.
# 41.  judge_config that is a JSON null is carried as a JSON null; SQL NULL as SQL NULL.
#
# Accounting
# 42.  In a parked unit a row of an unknown event type keeps its own reason; counts of a parked unit are not counted.
