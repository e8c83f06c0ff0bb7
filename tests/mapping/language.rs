//! What is wrong in a migration's files is told with its place and its remedy; nothing panics.

use rehome::mapping::{LoadError, Migration, SourceFile, Sources};

use crate::support::{luthien_sources, root};

/// luthien with one text replaced in one file.
fn broken(file: &str, from: &str, to: &str) -> LoadError {
    broken_in(luthien_sources(), file, from, to)
}

fn broken_in(mut sources: Sources, file: &str, from: &str, to: &str) -> LoadError {
    let slot = match file {
        "legacy.toml" => &mut sources.legacy,
        "mapping.toml" => &mut sources.mapping,
        "target.sql" | "target.toml" => &mut sources.target,
        other => panic!("no file {other}"),
    };
    assert!(slot.text.contains(from), "`{from}` is not in {file}");
    *slot = SourceFile::new(slot.name.clone(), slot.text.replacen(from, to, 1));
    Migration::compile(&sources).expect_err("it is broken")
}

#[test]
fn each_mistake_is_told_with_its_place_and_its_remedy() {
    let mistakes = [
        (
            "legacy.toml",
            "[table.calls.columns]",
            "[table.calls.alias]\ncal_id = \"callId\"\n\n[table.calls.columns]",
            "unknown column of `calls` `cal_id`",
            "did you mean `call_id`?",
        ),
        (
            "legacy.toml",
            "[table.calls.columns]",
            "[table.calls.alias]\nprovider = \"status\"\n\n[table.calls.columns]",
            "`provider` and `status` have one live name",
            "name a column of the live table for each",
        ),
        (
            "legacy.toml",
            "[table.calls]\n",
            "[table.look]\nname = \"conversation_calls\"\nkey = [\"call_id\"]\nrole = \"lookup\"\ncolumns = { call_id = \"text\" }\n\n\
             [table.calls]\n",
            "`look` and `calls` are one live table, and its rows come once",
            "declare it once",
        ),
        (
            "mapping.toml",
            "[unit]\n",
            "[[require]]\ntarget_table = \"policy_events\"\nwhere = { idd = \"x\" }\n\n[unit]\n",
            "unknown column of `policy_events` `idd`",
            "did you mean `id`?",
        ),
        (
            "mapping.toml",
            "[unit]\n",
            "[[require]]\ntarget_table = \"theirs\"\nwhere = { id = { template = \"{@unit}\" } }\n\n[unit]\n",
            "unknown output here `unit`",
            "",
        ),
        (
            "mapping.toml",
            "provider = \".provider\"",
            "provider = \".providr\"",
            "unknown column of `calls` `providr`",
            "did you mean `provider`?",
        ),
        (
            "mapping.toml",
            "to = \"policy_events\"",
            "to = \"policy_event\"",
            "unknown target table `policy_event`",
            "did you mean `policy_events`?",
        ),
        (
            "mapping.toml",
            "duplicate = \"duplicate_chunk\"",
            "duplicate = \"duplicate_chunks\"",
            "unknown reason of dropping",
            "did you mean `duplicate_chunk`?",
        ),
        (
            "mapping.toml",
            "provider = \".provider\"",
            "provider = \".created_at\"",
            "this is timestamp, the column `provider` is TEXT",
            "wrap it: { text = … }",
        ),
        (
            "mapping.toml",
            "created_at = \".created_at\"\ncompleted_at",
            "created_at = \".completed_at\"\ncompleted_at",
            "is NOT NULL",
            "add a last resort",
        ),
        (
            "mapping.toml",
            "provider = \".provider\"\n",
            "",
            "nothing produces `conversation_calls_v2.provider`",
            "add it to a map's columns",
        ),
        (
            "mapping.toml",
            "payload = \"@payload\"",
            "payload = \"@paylod\"",
            "unknown output here `paylod`",
            "did you mean `payload`?",
        ),
        ("mapping.toml", "wire = [", "wires = [", "unknown field `wires`", "did you mean `wire`?"),
        ("mapping.toml", "foreign = \"unit\"", "foreign = \"units\"", "unknown scope `units`", "did you mean `unit`?"),
        (
            "mapping.toml",
            "not_storable = \"unit\"",
            "",
            "the reason `not_storable` has no scope",
            "add it under [quarantine]",
        ),
        (
            "mapping.toml",
            "denormalised = \"says",
            "spare = \"x\"\ndenormalised = \"says",
            "nothing uses `spare`",
            "remove it",
        ),
        (
            "mapping.toml",
            ", \"id\"]\n\n[assembly.class]",
            "]\n\n[assembly.class]",
            "this order leaves rows undecided",
            "end it with the columns of the key",
        ),
        (
            "mapping.toml",
            "case = \"status\", of = \".status\", null",
            "case = \"zebra\", of = \".status\", null",
            "unknown table of cases `zebra`",
            "known are: status",
        ),
        (
            "mapping.toml",
            "uuid5 = [\"@unit\", \"tool_call_recorded\", \".id\"]",
            "uuid5 = [\".tool_call_id\"]",
            "a part of an id may be null",
            "always there",
        ),
        ("legacy.toml", "provider = \"text\"", "provider = \"txt\"", "unknown type `txt`", "did you mean `text`?"),
        (
            "legacy.toml",
            "key = [\"call_id\"]",
            "key = [\"callid\"]",
            "unknown column of `calls` `callid`",
            "did you mean `call_id`?",
        ),
        (
            "legacy.toml",
            "trace_id = \"the new schema has no traces\"\nmetadata",
            "metadata",
            "the column `trace_id` of `calls` is neither mapped nor dropped",
            "map it, or add",
        ),
        (
            "legacy.toml",
            "role = \"unit\"",
            "role = \"lookup\"",
            "a lookup has rows of no unit",
            "take it out of [unit]",
        ),
        ("legacy.toml", "role = \"unit\"", "role = \"lookups\"", "unknown role `lookups`", "did you mean `lookup`?"),
        (
            "target.sql",
            "call_id TEXT PRIMARY KEY",
            "call_id TEXT PRIMARY",
            "cannot read the SQL",
            "as Postgres would take it",
        ),
        (
            "legacy.toml",
            "provider = \"text\"",
            "provider = \"jsonb as text\"",
            "`jsonb` is read as what it is",
            "without `as text`",
        ),
        ("target.sql", "provider TEXT,", "provider POLYGON,", "is not one that rehome maps to", "use one of"),
    ];
    for (file, from, to, message, fix) in mistakes {
        let error = broken(file, from, to);
        let found = error.problems.iter().find(|problem| problem.message.contains(message));
        let Some(problem) = found else { panic!("{file}: `{from}` → `{to}` gave\n{error}") };
        assert!(problem.fix.contains(fix), "{}: {}", problem.message, problem.fix);
        assert!(problem.file.name.ends_with(file), "{} is not {file}", problem.file.name);
        assert!(!problem.file.text.is_empty());
    }
}

#[test]
fn rows_are_ordered_and_told_apart_by_values_that_have_an_order() {
    let document = "json has no order here";
    let column = "use a column of numbers, times or texts";
    let term = "wrap it: { text = … }";
    let typed = "take it as one type: { number = … } or { string = … }";
    let mistakes = [
        ("luthien", "order = [\"sequence\",", "order = [\"payload\", \"sequence\",", "\"payload\"", document, column),
        (
            "semantik",
            "order = [\"@created\", \".id\"]",
            "order = [{ object = { n = \".name\" } }, \".id\"]",
            "{ object = { n = \".name\" } }",
            document,
            term,
        ),
        (
            "semantik",
            "by = [\".directory_path\"]",
            "by = [{ object = { n = \".name\" } }]",
            "{ object = { n = \".name\" } }",
            document,
            term,
        ),
        (
            "semantik",
            "documents = [\"@content\"]",
            "documents = [{ object = { n = \".path\" } }]",
            "{ object = { n = \".path\" } }",
            document,
            term,
        ),
        ("delphi", "config = []", "config = [\".any\"]", "\".any\"", "a DynamoDB value has no order here", typed),
    ];
    for (migration, from, to, place, message, fix) in mistakes {
        let sources = Sources::read(&root("schemas").join(migration)).expect("the folder is there");
        let error = broken_in(sources, "mapping.toml", from, to);
        let found = error.problems.iter().find(|problem| problem.message == message);
        let Some(problem) = found else { panic!("{migration}: `{to}` gave\n{error}") };
        assert_eq!(problem.fix, fix);
        assert!(problem.file.name.ends_with("mapping.toml"));
        let (line, column) = problem.position();
        let text = problem.file.text.lines().nth(line - 1).expect("a line");
        assert!(text[column - 1..].starts_with(place), "{text}");
    }
}

#[test]
fn a_problem_stands_where_the_mistake_is() {
    let error = broken("mapping.toml", "payload = \"@payload\"", "payload = \"@paylod\"");
    let [problem] = error.problems.as_slice() else { panic!("{error}") };
    let (line, column) = problem.position();
    let text = problem.file.text.lines().nth(line - 1).expect("a line");
    assert_eq!(&text[column - 1..], "\"@paylod\"");
    assert!(error.to_string().contains(&format!("mapping.toml:{line}:{column}: ")), "{error}");
}

#[test]
fn a_report_shows_the_file_the_line_and_the_remedy() {
    let error = broken("mapping.toml", "payload = \"@payload\"", "payload = \"@paylod\"");
    let theme = miette::GraphicalTheme::unicode_nocolor();
    let mut shown = String::new();
    miette::GraphicalReportHandler::new_themed(theme).render_report(&mut shown, &error).expect("a report");
    for part in ["luthien/mapping.toml:", "payload = \"@paylod\"", "did you mean `payload`?"] {
        assert!(shown.contains(part), "{part} is not in\n{shown}");
    }
}

#[test]
fn a_column_of_a_type_without_a_kind_takes_nothing_but_a_column_of_the_same_type() {
    let compile = |legacy: &str, target: &str| {
        let mut sources = luthien_sources();
        let swap = |file: &SourceFile, from: &str, to: String| {
            assert!(file.text.contains(from), "{from}");
            SourceFile::new(file.name.clone(), file.text.replacen(from, &to, 1))
        };
        sources.legacy = swap(&sources.legacy, "provider = \"text\"", format!("provider = '{legacy}'"));
        sources.target = swap(&sources.target, "provider TEXT,", format!("provider {target},"));
        Migration::compile(&sources).map(drop)
    };
    for (legacy, target) in [
        ("date as text", "DATE"),
        ("text[] as text", "TEXT[]"),
        ("_numeric as text", "NUMERIC(10, 2)[]"),
        ("date as text", "TEXT"),
        ("\"Mood\" as text", "TEXT"),
    ] {
        compile(legacy, target).unwrap_or_else(|error| panic!("{legacy} into {target}: {error}"));
    }
    for (legacy, target, column) in
        [("text", "DATE", "date"), ("date as text", "TIME", "time"), ("text[] as text", "INT[]", "_int4")]
    {
        let error = compile(legacy, target).expect_err("another type");
        let told = format!("the column `provider` is {column}, and this is no column of that type");
        assert_eq!(error.problems[0].message, told);
        assert_eq!(error.problems[0].file.name, "luthien/mapping.toml");
    }
}

#[test]
fn all_mistakes_of_all_files_are_told_at_once() {
    let mut sources = luthien_sources();
    let swap = |file: &mut SourceFile, from: &str, to: &str| {
        *file = SourceFile::new(file.name.clone(), file.text.replace(from, to));
    };
    swap(&mut sources.mapping, "provider = \".provider\"", "provider = \".providr\"");
    swap(&mut sources.mapping, "payload = \"@payload\"", "payload = \"@paylod\"");
    swap(&mut sources.legacy, "provider = \"text\"", "provider = \"txt\"");
    swap(&mut sources.target, "provider TEXT,", "provider POLYGON,");
    let error = Migration::compile(&sources).expect_err("it is broken");
    assert!(error.problems.len() >= 4, "{error}");
}

#[test]
fn no_prefix_of_the_files_panics() {
    let whole = luthien_sources();
    let cut = |file: &SourceFile, at: usize| {
        let at = (0..=at).rev().find(|at| file.text.is_char_boundary(*at)).unwrap_or(0);
        SourceFile::new(file.name.clone(), &file.text[..at])
    };
    let mut refused = 0;
    for step in 0..60 {
        let part = |file: &SourceFile| cut(file, file.text.len() * step / 60);
        for sources in [
            Sources { legacy: part(&whole.legacy), ..whole.clone() },
            Sources { mapping: part(&whole.mapping), ..whole.clone() },
            Sources { target: part(&whole.target), ..whole.clone() },
            Sources { cases: whole.cases.iter().map(part).collect(), ..whole.clone() },
        ] {
            refused += usize::from(Migration::compile(&sources).is_err());
        }
    }
    assert!(refused > 150, "only {refused} were refused");
}

#[test]
fn comments_and_examples_do_not_change_the_generation() {
    let sources = luthien_sources();
    let base = Migration::compile(&sources).expect("it compiles").generation();
    let mut commented = sources.clone();
    commented.mapping = SourceFile::new("mapping.toml", format!("# a note\n{}", sources.mapping.text));
    commented.cases.clear();
    assert_eq!(Migration::compile(&commented).expect("it compiles").generation(), base);
    let mut changed = sources;
    changed.mapping = SourceFile::new(
        "mapping.toml",
        changed.mapping.text.replace("stream_summary = \"success\"", "stream_summary = \"done\""),
    );
    assert_ne!(Migration::compile(&changed).expect("it compiles").generation(), base);
}

#[test]
fn each_mistake_in_places_groups_and_items_is_told() {
    let (semantik, jobs, delphi) = ("schemas/semantik", "schemas/jobs", "schemas/delphi");
    let mistakes = [
        (semantik, "mapping.toml", "id = \"@job.unit\"", "id = \"@job.unti\"", "unknown output here `job.unti`"),
        (semantik, "mapping.toml", "match = [\".id\"]", "match = [\".user_id\"]", "not one that rows are found by"),
        (
            semantik,
            "mapping.toml",
            "unresolved = \"quarantine:orphan_document\"",
            "unresolved = \"later\"",
            "unknown policy `later`",
        ),
        (
            semantik,
            "mapping.toml",
            "quarantine:orphan_document",
            "quarantine:orphan",
            "unknown reason of quarantine `orphan`",
        ),
        (
            semantik,
            "mapping.toml",
            "root = { equal = [\"@base\", \".id\"] }",
            "root = { equal = [\"@root\", \".id\"] }",
            "leads back to itself",
        ),
        (semantik, "mapping.toml", "default_model = \"", "spare = 1\ndefault_model = \"", "nothing uses `spare`"),
        (
            semantik,
            "mapping.toml",
            "order = [\"@created\", \".id\"]\nothers",
            "order = [\"@created\"]\nothers",
            "leaves rows undecided",
        ),
        (semantik, "mapping.toml", "totals = { documents = 1,", "totals = { document = 1,", "unknown total `document`"),
        (semantik, "mapping.toml", "zone = \"UTC\"", "zone = \"Europe/Warsaw\"", "is no zone here"),
        (semantik, "mapping.toml", "else = { if = { all", "els = { if = { all", "unknown field `els`"),
        (semantik, "mapping.toml", "then = \"ready\"", "then = \"done\"", "unknown label of `status` `done`"),
        (
            semantik,
            "mapping.toml",
            "source_type = \"directory\"",
            "source_type = { min = \".nam\" }",
            "unknown column of `jobs` `nam`",
        ),
        (
            semantik,
            "mapping.toml",
            "task_id = \"the",
            "status = \"the",
            "is left NULL, and yet a term gives it a value",
        ),
        (
            semantik,
            "mapping.toml",
            "file_size = \".size\"",
            "file_size = { total = \"bytes\", refuse = \"number_out_of_range\" }",
            "are not seen here",
        ),
        (
            semantik,
            "mapping.toml",
            "user_id = \"@owner\"",
            "user_id = { min = \"@owner\" }",
            "no rows here to take together",
        ),
        (
            semantik,
            "legacy.toml",
            "role = \"lookup\"",
            "role = \"lookup\"\nunit_lookup = \"scan\"",
            "a lookup has rows of no unit",
        ),
        (semantik, "target.sql", "('pending', 'ready'", "('ready'", "unknown label of `status` `pending`"),
        (jobs, "mapping.toml", "SK = \"META\"\n", "", "is in the key of `algoitny_main` and gets no value"),
        (jobs, "mapping.toml", "SK = \"META\"", "SK = \".tags\"", "this is json, the key attribute `SK` is S"),
        (jobs, "mapping.toml", "crt = \"@created\"", "crt = \".created_at\"", "DynamoDB has no type for a time"),
        (jobs, "mapping.toml", "number_out_of_range = \"row\"", "", "the reason `number_out_of_range` has no scope"),
        (jobs, "mapping.toml", "{ items = [] }", "{ set = [] }", "DynamoDB has no empty sets"),
        (jobs, "target.toml", "projection = \"all\"", "projection = \"most\"", "unknown projection `most`"),
        (jobs, "target.toml", "GSI3SK = \"N\"", "GSI3SK = \"L\"", "unknown type of a key `L`"),
        (jobs, "legacy.toml", "source = \"postgres\"", "source = \"mysql\"", "unknown kind of store `mysql`"),
        (
            delphi,
            "mapping.toml",
            "like = \"{zid}:{tick:whole}\"",
            "like = \"{zid}{tick:whole}\"",
            "nothing stands between",
        ),
        (delphi, "mapping.toml", "take = \"zid\"", "take = \"zod\"", "unknown part of the pattern `zod`"),
        (
            delphi,
            "mapping.toml",
            "agreed = \"@queue.conversation\"",
            "agreed = \"@report\"",
            "not what a reference finds",
        ),
        (delphi, "mapping.toml", "zid = \"@zid\"\n", "zid = { native = \".zid\" }\n", "could not be told to be alike"),
        (delphi, "mapping.toml", "zid = \"@zid\"\n", "zid = \"@tick\"\n", "the key attribute `zid` is S"),
        (delphi, "mapping.toml", "zid = \"@zid\"\n", "job_id = \"@zid\"\n", "stands under attributes or drop too"),
        (delphi, "mapping.toml", "attribute_type = \"row\"\n", "", "unknown reason of quarantine `attribute_type`"),
        (
            delphi,
            "mapping.toml",
            "to = \"Delphi_UMAPGraph\"",
            "to = \"Delphi_UMAPGraph_ByJob\"",
            "unknown target table `Delphi_UMAPGraph_ByJob`",
        ),
    ];
    for (folder, file, from, to, message) in mistakes {
        let sources = Sources::read(&root(folder)).expect("the folder is there");
        let error = broken_in(sources, file, from, to);
        let found = error.problems.iter().any(|problem| problem.message.contains(message));
        assert!(found, "{folder}/{file}: `{from}` → `{to}` gave\n{error}");
    }
}

#[test]
fn each_mistake_in_queries_is_told() {
    let (semantik, jobs, delphi) = ("schemas/semantik", "schemas/jobs", "schemas/delphi");
    let mistakes = [
        (
            delphi,
            "where = { job_id = \"{job}\" }",
            "where = { zid = \"{job}\" }",
            "no condition gives `job_id`, the hash key",
        ),
        (
            delphi,
            "index = \"ReportIdTimestampIndex\"",
            "index = \"ReportIndex\"",
            "unknown index of `Delphi_NarrativeReports`",
        ),
        (delphi, "parameters = [\"job\"]", "parameters = [\"jab\"]", "unknown parameter `job`"),
        (delphi, "parameters = [\"job\"]", "parameters = [\"job\", \"more\"]", "nothing uses the parameter `more`"),
        (delphi, "name = \"by-job\"", "name = \"jobs\"", "the query `jobs` stands twice"),
        (delphi, "where = { report_id = \"{report}\" }", "where = { report_id = \"{report\" }", "opens no parameter"),
        (delphi, "rank = 4\nscan = true", "rank = 4", "no condition gives `job_id`"),
        (jobs, "SK = \"META\" }", "tp = \"sgjob\" }", "`tp` is not in the key that is read"),
        (jobs, "\"dat.sts\", \"crt\", \"upd\"]", "\"dut.sts\", \"crt\", \"upd\"]", "unknown column or attribute `dut`"),
        (jobs, "iso = \"crt\"", "iso = \"created\"", "unknown column or attribute `created`"),
        (jobs, "describe = [\"algoitny_main\"]", "", "must read rows or describe tables"),
        (semantik, "scan = true\n", "", "no key or index of `collections` begins with"),
        (semantik, "where = { owner_id =", "where = { name_of =", "unknown column of `collections` `name_of`"),
        (semantik, "where = { owner_id = \"{user}\" }", "where = { updated_at = \"{user}\" }", "cannot be compared so"),
        (
            semantik,
            "where = { owner_id = \"{user}\" }",
            "where = { owner_id = { starts_with = \"{user}\" } }",
            "cannot be compared so",
        ),
        (
            semantik,
            "where = { owner_id =",
            "index = \"collections_owner\"\nwhere = { owner_id =",
            "Postgres chooses its index itself",
        ),
        (semantik, "order = [\"owner_id\", \"name\"]", "order = [\"owner\"]", "unknown column or attribute `owner`"),
    ];
    for (folder, from, to, message) in mistakes {
        let sources = Sources::read(&root(folder)).expect("the folder is there");
        let error = broken_in(sources, "mapping.toml", from, to);
        let found = error.problems.iter().find(|problem| problem.message.contains(message));
        let Some(problem) = found else { panic!("{folder}: `{from}` → `{to}` gave\n{error}") };
        assert!(problem.position().0 > 1 && !problem.fix.is_empty(), "{error}");
    }
}

#[test]
fn queries_do_not_change_the_generation() {
    let sources = Sources::read(&root("schemas/jobs")).expect("the folder is there");
    let base = Migration::compile(&sources).expect("it compiles");
    assert!(!base.queries().is_empty());
    let mut without = sources.clone();
    let (mapping, _) = sources.mapping.text.split_once("\n[[query]]").expect("queries");
    without.mapping = SourceFile::new("mapping.toml", mapping);
    let changed = Migration::compile(&without).expect("it compiles");
    assert!(changed.queries().is_empty());
    assert_eq!(changed.generation(), base.generation());
}
