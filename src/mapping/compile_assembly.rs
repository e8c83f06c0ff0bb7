//! Compiles `[assembly]`.

use std::collections::BTreeMap;

use super::compile::Shaper;
use super::compile_term::{Scope as Outputs, Setting, Sort, Totals, orders};
use super::plan::{
    Assembly, Chunk, Completion, Fragment, OrderPart, Places, PositionId, Rendered, Request, Response, RowClass, Side,
    Tools, Unwrap, Wire,
};
use super::raw;
use super::schema::{Kind, SourceTableDef, Store};
use super::term::{Output, Term};

/// The part of an order that stands for the kind of row.
const REQUEST_FIRST: &str = "request first";

/// Outputs of the payload of a request.
const OF_REQUEST: [(Output, Sort); 3] = [
    (Output::Messages, Sort::maybe(Kind::Json)),
    (Output::Model, Sort::maybe(Kind::Json)),
    (Output::Raw, Sort::maybe(Kind::Json)),
];
/// Outputs of the payload of a response.
const OF_RESPONSE: [(Output, Sort); 6] = [
    (Output::Message, Sort::always(Kind::Json)),
    (Output::FinishReason, Sort::maybe(Kind::Json)),
    (Output::Usage, Sort::maybe(Kind::Json)),
    (Output::Choices, Sort::maybe(Kind::Json)),
    (Output::Model, Sort::maybe(Kind::Json)),
    (Output::Status, Sort::maybe(Kind::Text)),
];
/// Outputs of the rows of events.
const OF_EVENT: [(Output, Sort); 5] = [
    (Output::Unit, Sort::always(Kind::Text)),
    (Output::Type, Sort::always(Kind::Text)),
    (Output::Sequence, Sort::always(Kind::Int)),
    (Output::Payload, Sort::always(Kind::Json)),
    (Output::Time, Sort::always(Kind::Timestamp)),
];
/// Outputs of the rows that link a pair.
const OF_PAIR: [(Output, Sort); 5] = [
    (Output::Unit, Sort::always(Kind::Text)),
    (Output::Type, Sort::always(Kind::Text)),
    (Output::Original, Sort::always(Kind::Uuid)),
    (Output::Modified, Sort::always(Kind::Uuid)),
    (Output::Time, Sort::always(Kind::Timestamp)),
];
/// Outputs of the rows that record a tool call.
const OF_TOOL: [(Output, Sort); 1] = [(Output::Unit, Sort::always(Kind::Text))];

/// Compiles an assembly; `None` after problems were noted.
pub(super) fn compile(shaper: &mut Shaper<'_, '_>, raw: &raw::Assembly) -> Option<Assembly> {
    let (stream, table) = shaper.source(&raw.from)?;
    let (parent, parent_table) = shaper.source(&raw.parent)?;
    let names = shaper.names;
    let row = Setting::row(table, names);
    let bare = |outputs| Setting { table: None, outputs, names, totals: Totals::Unseen };
    let wire = wire(shaper, &raw.wire);
    let order = order(shaper, &raw.order, table);
    let class_by = shaper.compiler.of_kind(&raw.class.by, row, Kind::Text);
    let classes = classes(shaper, raw);
    let unknown = quarantined(shaper, &raw.class.unknown);
    let request = request(shaper, &raw.request, row);
    let response = response(shaper, &raw.response, parent_table);
    let chunk = chunk(shaper, &raw.chunk, table);
    let completion = completion(shaper, &raw.completion, row);
    let tools = raw.tools.as_ref().map(|raw| tools(shaper, raw));
    let events = shaper.emit(&raw.events.to, &raw.events.columns, bare(&OF_EVENT));
    let modified = shaper.emit(&raw.modified.to, &raw.modified.columns, bare(&OF_PAIR));
    if let Some(emit) = &events
        && !single_key(shaper, emit.table.0)
    {
        let fix = "give its table a primary key of one uuid column, in DynamoDB a hash key of type S alone";
        shaper.compiler.problems.push(
            raw.events.to.span(),
            "events are linked by their key, which must be one value",
            fix,
        );
    }
    Some(Assembly {
        stream,
        parent,
        wire,
        order,
        class_by: class_by?,
        classes,
        unknown,
        request: request?,
        response: response?,
        chunk: chunk?,
        completion: completion?,
        tools: match tools {
            Some(compiled) => Some(compiled?),
            None => None,
        },
        events: events?,
        modified: modified?,
    })
}

/// Whether one value is the whole key of a table, so that a row that links two others can name them.
fn single_key(shaper: &Shaper<'_, '_>, table: u16) -> bool {
    let wanted = match shaper.migration.target_store {
        Store::Postgres => Kind::Uuid,
        Store::DynamoDb => Kind::Text,
    };
    let table = &shaper.migration.targets[usize::from(table)];
    matches!(table.key.as_slice(), [only] if table.columns[*only].kind == wanted)
}

fn wire(shaper: &mut Shaper<'_, '_>, names: &[raw::Name]) -> Vec<Wire> {
    let known = [("openai.chat", Wire::OpenAiChat), ("anthropic.messages", Wire::AnthropicMessages)];
    let mut formats = Vec::new();
    for name in names {
        match known.iter().find(|(word, _)| word == name.get_ref()) {
            Some((_, format)) => formats.push(*format),
            None => {
                let words = known.iter().map(|(word, _)| *word);
                shaper.compiler.problems.unknown(name.span(), "wire format", name.get_ref(), words);
            }
        }
    }
    formats
}

fn order(shaper: &mut Shaper<'_, '_>, names: &[raw::Name], table: &SourceTableDef) -> Vec<OrderPart> {
    let mut parts = Vec::new();
    for name in names {
        if name.get_ref() == REQUEST_FIRST {
            parts.push(OrderPart::RequestFirst);
            continue;
        }
        match table.column(name.get_ref()) {
            Some(index) => {
                shaper.compiler.used.insert((table.alias.clone(), index));
                parts.push(OrderPart::Column(index));
                let kind = table.columns[index].kind;
                if !orders(kind) {
                    let message = format!("{} has no order here", kind.word());
                    shaper.compiler.problems.push(name.span(), message, "use a column of numbers, times or texts");
                }
            }
            None => {
                let known = table.columns.iter().map(|column| &*column.name).chain([REQUEST_FIRST]);
                shaper.compiler.problems.unknown(name.span(), "part of an order", name.get_ref(), known);
            }
        }
    }
    let total = table.key.iter().all(|key| parts.contains(&OrderPart::Column(*key)));
    if let (false, Some(last)) = (total, names.last()) {
        let fix = "end it with the columns of the key";
        shaper.compiler.problems.push(last.span(), "this order leaves rows undecided", fix);
    }
    parts
}

fn classes(shaper: &mut Shaper<'_, '_>, raw: &raw::Assembly) -> BTreeMap<Box<str>, RowClass> {
    let class = &raw.class;
    let listed = [
        (&class.request, RowClass::Request),
        (&class.original, RowClass::Chunk(Side::Original)),
        (&class.modified, RowClass::Chunk(Side::Final)),
        (&class.completion, RowClass::Completion),
    ];
    let mut classes = BTreeMap::new();
    for (names, kind) in listed {
        for name in names {
            if classes.insert(Box::from(name.as_str()), kind).is_some_and(|before| before != kind) {
                let message = format!("`{name}` is listed for two kinds of rows");
                shaper.compiler.problems.push(class.by.span(), message, "list it once");
            }
        }
    }
    classes
}

fn quarantined(shaper: &mut Shaper<'_, '_>, name: &raw::Name) -> Box<str> {
    shaper.compiler.named.insert(name.get_ref().clone());
    let known = &shaper.migration.quarantine;
    if !known.contains_key(name.get_ref().as_str()) {
        let declared = known.keys().map(|key| &**key);
        shaper.compiler.problems.unknown(name.span(), "reason of quarantine", name.get_ref(), declared);
    }
    name.get_ref().as_str().into()
}

fn dropped(shaper: &mut Shaper<'_, '_>, name: &raw::Name) -> Box<str> {
    let migration = shaper.migration;
    shaper.declared(name, "reason of dropping", &migration.drop)
}

fn optional(
    shaper: &mut Shaper<'_, '_>,
    raw: Option<&raw::Placed>,
    place: Setting<'_>,
    kind: Kind,
) -> Option<Option<Term>> {
    match raw {
        Some(raw) => shaper.compiler.of_kind(raw, place, kind).map(Some),
        None => Some(None),
    }
}

fn places(shaper: &mut Shaper<'_, '_>, raw: &raw::Places, place: Setting<'_>) -> Option<Places> {
    let wire = optional(shaper, raw.raw.as_ref(), place, Kind::Json);
    let flat = shaper.compiler.of_kind(&raw.flat, place, Kind::Json);
    Some(Places { raw: wire?, flat: flat? })
}

fn boxed(names: &[String]) -> Vec<Box<str>> {
    names.iter().map(|name| name.as_str().into()).collect()
}

fn request(shaper: &mut Shaper<'_, '_>, raw: &raw::Request, row: Setting<'_>) -> Option<Request> {
    let original = places(shaper, &raw.original, row);
    let last = places(shaper, &raw.last, row);
    let model = optional(shaper, raw.model.as_ref(), row, Kind::Json);
    let fallback = optional(shaper, raw.fallback.as_ref(), row, Kind::Json);
    let payload = payload(shaper, &raw.payload, &OF_REQUEST);
    Some(Request {
        kind: raw.kind.as_str().into(),
        modified: raw.modified.as_str().into(),
        places: [original?, last?],
        unwrap: boxed(&raw.unwrap),
        model: model?,
        fallback: fallback?,
        payload: payload?,
    })
}

fn payload(shaper: &mut Shaper<'_, '_>, raw: &raw::Placed, outputs: &Outputs) -> Option<Term> {
    let place = Setting { table: None, outputs, names: shaper.names, totals: Totals::Unseen };
    shaper.compiler.of_kind(raw, place, Kind::Json)
}

fn response(shaper: &mut Shaper<'_, '_>, raw: &raw::Response, parent: &SourceTableDef) -> Option<Response> {
    let row = Setting::row(parent, shaper.names);
    let status = shaper.compiler.of_kind(&raw.status, row, Kind::Text);
    let whole = payload(shaper, &raw.payload, &OF_RESPONSE);
    Some(Response {
        kind: raw.kind.as_str().into(),
        modified: raw.modified.as_str().into(),
        status: status?,
        payload: whole?,
    })
}

fn chunk(shaper: &mut Shaper<'_, '_>, raw: &raw::Chunk, table: &SourceTableDef) -> Option<Chunk> {
    let row = Setting::row(table, shaper.names);
    let index = shaper.compiler.of_kind(&raw.index, row, Kind::Int);
    let choice = shaper.compiler.of_kind(&raw.choice, row, Kind::Int);
    let role = shaper.compiler.of_kind(&raw.role, row, Kind::Text);
    let wire = shaper.compiler.of_kind(&raw.raw, row, Kind::Json);
    let text = shaper.compiler.of_kind(&raw.text, row, Kind::Text);
    let tools = shaper.compiler.of_kind(&raw.tools, row, Kind::Json);
    let mut ignored = Vec::new();
    for name in &raw.same_but {
        match table.column(name.get_ref()) {
            Some(index) => ignored.push(index),
            None => {
                let known = table.columns.iter().map(|column| &*column.name);
                shaper.compiler.problems.unknown(name.span(), "column", name.get_ref(), known);
            }
        }
    }
    let fragment = fragment(shaper, &raw.fragment);
    let rendered = match &raw.rendered {
        Some(raw) => Some(rendered(shaper, raw)?),
        None => None,
    };
    let migration = shaper.migration;
    Some(Chunk {
        index: index?,
        choice: choice?,
        role: role?,
        raw: wire?,
        text: text?,
        tools: tools?,
        fragment,
        rendered,
        compared: (0..table.columns.len()).filter(|index| !ignored.contains(index)).collect(),
        duplicate: dropped(shaper, &raw.duplicate),
        conflict: shaper.declared(&raw.conflict, "count", &migration.count),
    })
}

fn fragment(shaper: &mut Shaper<'_, '_>, raw: &raw::Fragment) -> Fragment {
    let position = match raw.position.get_ref().as_str() {
        "no id" => PositionId::NoId,
        other => {
            if other != "id" {
                shaper.compiler.problems.unknown(raw.position.span(), "meaning", other, ["id", "no id"]);
            }
            PositionId::Id
        }
    };
    Fragment {
        id: raw.id.as_str().into(),
        kind: raw.kind.as_str().into(),
        name: raw.name.as_str().into(),
        arguments: raw.arguments.as_str().into(),
        no_id: boxed(&raw.no_id),
        position,
    }
}

fn rendered(shaper: &mut Shaper<'_, '_>, raw: &raw::Rendered) -> Option<Rendered> {
    let mut around = |template: &raw::Name, slot: &str| match template.get_ref().split_once(slot) {
        Some((before, after)) => Some((Box::from(before), Box::from(after))),
        None => {
            let fix = format!("write {slot} where it stands");
            shaper.compiler.problems.push(template.span(), format!("there is no {slot} here"), fix);
            None
        }
    };
    let named = around(&raw.named, "{name}");
    let arguments = around(&raw.arguments, "{arguments}");
    Some(Rendered { named: named?, unnamed: raw.unnamed.as_str().into(), arguments: arguments? })
}

fn completion(shaper: &mut Shaper<'_, '_>, raw: &raw::Completion, row: Setting<'_>) -> Option<Completion> {
    let status = shaper.compiler.of_kind(&raw.status, row, Kind::Text);
    let original = places(shaper, &raw.original, row);
    let last = places(shaper, &raw.last, row);
    let unwrap = match &raw.unwrap {
        Some(raw) => Some(Unwrap {
            when: shaper.compiler.of_kind(&raw.when, row, Kind::Text)?,
            is: boxed(&raw.is),
            members: boxed(&raw.members),
        }),
        None => None,
    };
    Some(Completion {
        status: status?,
        failure: raw.failure.as_str().into(),
        places: [original?, last?],
        unwrap,
        superseded: dropped(shaper, &raw.superseded),
    })
}

fn tools(shaper: &mut Shaper<'_, '_>, raw: &raw::Tools) -> Option<Tools> {
    let (from, table) = shaper.source(&raw.from)?;
    let row = Setting { outputs: &OF_TOOL, ..Setting::row(table, shaper.names) };
    let id = shaper.compiler.of_kind(&raw.id, row, Kind::Text);
    let name = shaper.compiler.of_kind(&raw.name, row, Kind::Text);
    let arguments = shaper.compiler.of_kind(&raw.arguments, row, Kind::Json);
    let response = shaper.compiler.of_kind(&raw.response, row, Kind::Json);
    let status = shaper.compiler.of_kind(&raw.status, row, Kind::Text);
    let record = shaper.emit(&raw.record.to, &raw.record.columns, row);
    Some(Tools {
        from,
        id: id?,
        name: name?,
        arguments: arguments?,
        response: response?,
        status: status?,
        plain_status: boxed(&raw.plain_status),
        no_id: boxed(&raw.no_id),
        agrees: dropped(shaper, &raw.agrees),
        record: record?,
    })
}
