//! Values: what is copied and what is streamed are the same, whatever the database's settings.

use rehome::event::{Event, Float, Op, Timestamp, Value};
use rehome::postgres::Server;
use rehome::postgres::live::{LiveTable, read_unit};

use crate::support::capture::{live, public};
use crate::support::cluster::Database;

/// Columns of many types; generated and dropped ones among them.
const TABLE: &str = "
    create type mood as enum ('sad', 'o''k');
    create domain positive as int4 check (value > 0);
    create domain tiny as positive;
    create type pair as (a int, b text);
    create table t (
        id int8 primary key, gone int4, i2 int2, i4 int4, dom tiny, num numeric, num2 numeric(20, 4), f4 real,
        f8 double precision, b bool, txt text, vc varchar(20), ch char(5), nm name, c1 \"char\", u uuid, by bytea, ts timestamp,
        tz timestamptz, d date, tm time, tmz timetz, iv interval, j json, jb jsonb, ip inet, net cidr, mac macaddr,
        arr int4[], tarr text[], farr float8[], tzarr timestamptz[], r int4range, mr int4multirange, m mood, p pair, mon money,
        x xml, bits bit varying, pt point, ts_v tsvector, oid_c oid, reg regclass,
        gen int4 generated always as (coalesce(i2, 0) + 1) stored);
    alter table t drop column gone;";

/// Rows, by the types' own literals.
const ROWS: [&str; 4] = [
    "-32768, -2147483648, 1, 'NaN', -0.0100, 'NaN', 'NaN', true, '', 'v', 'ab', 'n', 'c', \
     '00000000-0000-0000-0000-000000000001', '\\x00ff5c27', 'infinity', '-infinity', 'infinity', '24:00:00', '24:00:00+05:30', \
     '-1 year 2 mons -3 days 04:05:06.000007', '{\"a\": 1,  \"a\": 1.10}', '{\"b\": 1e3, \"a\": 12345678901234567890.10}', \
     '10.0.0.1', '10.0.0.0/8', '08:00:2b:01:02:03', '[0:2]={1,NULL,3}', '{NULL,\"NULL\",\"a,b\",\"q\\\"\"}', \
     '{0.30000000000000004,NaN,-0}', '{2024-02-01 10:00:00+02,infinity}', '[1,5)', '{[1,2),[5,6)}', 'o''k', '(1,\"x,y\")', '-1234.50', '<?xml version=\"1.0\" encoding=\"UTF-8\"?><a>1</a>', '101', '(1.1,-2)', \
     'a:1 b:2', 4294967295, 'pg_class'",
    "32767, 2147483647, 2147483647, 'Infinity', 9999999999999999.9999, '-Infinity', 0.30000000000000004, false, \
     e'tab\\tnew\\nline \u{1F600}', '', '', '', '', 'ffffffff-ffff-ffff-ffff-ffffffffffff', '', '0044-03-15 12:00:00.000001 BC', \
     '0044-03-15 12:00:00 BC', '4714-11-24 BC', '00:00:00', '23:59:59.999999-15:59', '178000000 years', 'null', 'null', '::1', '::/0', 'ff:ff:ff:ff:ff:ff', \
     '{{1,2},{3,4}}', '{}', '{}', '{}', 'empty', '{}', 'sad', '(,)', '0', '<b/>', '', '(0,0)', '', 0, 't'",
    "0, 0, 1, '-Infinity', 0, 3.4028235e38, 1.7976931348623157e308, true, 'x', 'y', 'zzzzz', 'w', ' ', \
     '01234567-89ab-cdef-0123-456789abcdef', '\\xdeadbeef', '294276-12-31 23:59:59.999999', '294276-12-31 23:59:59.999999+00', \
     '5874897-12-31', '12:34:56.5', '12:34:56+00', '00:00:00', '\"\\u0041\"', '[1, 2.50, \"x\"]', '192.168.0.0/24', '192.168.0.0/24', \
     '01:02:03:04:05:06', null, null, null, null, null, null, null, row(null, null), null, null, null, null, null, null, null",
    "null, null, null, 123456789012345678901234567890.000000000000000000012300, null, 1.1, -0.0, null, null, null, null, null, null, null, null, \
     null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, \
     null, null",
];

/// Settings that change how values are written (P9).
const HOSTILE: &str = "
    alter database {} set datestyle = 'SQL, DMY';
    alter database {} set timezone = 'Asia/Kolkata';
    alter database {} set extra_float_digits = 0;
    alter database {} set bytea_output = 'escape';
    alter database {} set intervalstyle = 'sql_standard';
    alter database {} set default_transaction_read_only = on;
    alter database {} set statement_timeout = '1s';
    alter database {} set search_path = 'public';";

/// Copies the rows, streams them again under other ids, and gives both.
async fn copied_and_streamed(hostile: bool) -> Vec<(Event, Event)> {
    let mut database = Database::new().await;
    database.run(TABLE).await;
    for (id, row) in ROWS.iter().enumerate() {
        database.run(format!("insert into t values ({id}, {row})")).await;
    }
    if hostile {
        database.run(HOSTILE.replace("{}", &database.name)).await;
    }
    let mut running = live(&database, &["t"]).await;
    for (id, row) in ROWS.iter().enumerate() {
        database.run(format!("insert into t values ({}, {row})", id + 100)).await;
    }
    running.settled(&mut database).await;
    let copied = running.changes(&[Op::Read]).await;
    let streamed = running.changes(&[Op::Insert]).await;
    running.stop().await.expect("a clean end");
    assert_eq!((copied.len(), streamed.len()), (ROWS.len(), ROWS.len()));
    assert!(copied.iter().chain(&streamed).all(|event| event.relation == copied[0].relation), "one shape for both");
    copied.into_iter().zip(streamed).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn p10_copied_values_equal_streamed_values() {
    for (copied, streamed) in copied_and_streamed(false).await {
        let (copied, streamed) = (copied.after.expect("a row").0, streamed.after.expect("a row").0);
        assert_eq!(copied.len(), 42);
        assert_eq!(copied[1..], streamed[1..]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_read_live_equal_those_of_copy_and_stream() {
    let mut database = Database::new().await;
    database.run(TABLE).await;
    for (id, row) in ROWS.iter().enumerate() {
        database.run(format!("insert into t values ({id}, {row})")).await;
    }
    let running = live(&database, &["t"]).await;
    let copied = running.changes(&[Op::Read]).await;
    let columns = running.relation(&copied[0]).columns.clone();
    running.stop().await.expect("a clean end");
    let table = LiveTable {
        relation: public("t"),
        columns: columns.into_iter().map(|column| (column.name, column.type_name)).collect(),
    };
    let pool = Server::parse(&database.url).expect("a URL").pool(1);
    let mut read = read_unit(&pool, &[(table, Vec::new())]).await.expect("it reads").rows.remove(0);
    let id = |row: &Vec<Value>| if let Value::Int(id) = row[0] { id } else { panic!("an id") };
    read.sort_by_key(id);
    let copied: Vec<Vec<Value>> = copied
        .into_iter()
        .map(|event| event.after.expect("a row").0.iter().filter_map(|cell| cell.value().cloned()).collect())
        .collect();
    assert_eq!(read, copied);
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_settings_of_the_database_do_not_leak_into_values() {
    let plain = copied_and_streamed(false).await;
    let hostile = copied_and_streamed(true).await;
    for ((plain_copy, plain_stream), (copied, streamed)) in plain.into_iter().zip(hostile) {
        assert_eq!(plain_copy.after, copied.after);
        assert_eq!(plain_stream.after, streamed.after);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p10_p11_special_values_keep_every_digit() {
    let rows: Vec<Vec<Value>> = copied_and_streamed(false)
        .await
        .into_iter()
        .map(|(copied, _)| {
            copied.after.expect("a row").0.into_iter().filter_map(|cell| cell.value().cloned()).collect()
        })
        .collect();
    let decimal = |text: &str| Value::Decimal(text.parse_decimal());
    assert_eq!(rows[0][4], decimal("NaN"));
    assert_eq!(rows[0][5], decimal("-0.0100"));
    assert_eq!(rows[1][4], decimal("Infinity"));
    assert_eq!(rows[3][4], decimal("123456789012345678901234567890.000000000000000000012300"));
    assert_eq!(rows[1][7], Value::Float(Float(0.300_000_000_000_000_04)));
    assert_eq!(rows[3][6], Value::Float(Float(f64::from(1.1f32))));
    assert_eq!(rows[0][15], Value::Bytes([0, 255, 0x5c, 0x27].into()));
    assert_eq!(rows[0][16], Value::Timestamp(Timestamp::INFINITY));
    assert_eq!(rows[2][17], Value::Timestamp(Timestamp(9_223_371_331_199_999_999)));
    assert_eq!(rows[0][22], Value::Json("{\"a\": 1,  \"a\": 1.10}".into()), "json keeps spaces and twins");
    assert_eq!(rows[0][23], Value::Json("{\"a\": 12345678901234567890.10, \"b\": 1000}".into()));
    assert_eq!(rows[0][11], Value::text("ab   "), "char(n) keeps its padding");
    assert_eq!(rows[0][24], Value::text("10.0.0.1"), "the type's output, not its cast");
    assert_eq!(rows[0][27], Value::text("[0:2]={1,NULL,3}"));
    assert_eq!(rows[2][34], Value::text("(,)"), "a row of nulls is no null");
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_generated_columns_are_absent_in_copy_and_stream() {
    let mut database = Database::new().await;
    database.run("create table g (id int4 primary key, a int4, twice int4 generated always as (a * 2) stored)").await;
    database.run("insert into g values (1, 10)").await;
    let mut running = live(&database, &["g"]).await;
    database.run("insert into g values (2, 20)").await;
    running.settled(&mut database).await;
    let events = running.changes(&[Op::Read, Op::Insert]).await;
    assert_eq!(events.len(), 2);
    for event in &events {
        let relation = running.relation(event);
        assert_eq!(relation.name, public("g"));
        assert_eq!(relation.columns.iter().map(|column| &*column.name).collect::<Vec<_>>(), ["id", "a"]);
    }
    assert_eq!(events[0].relation, events[1].relation);
    running.stop().await.expect("a clean end");
}

/// Reads a decimal in a test.
trait ParseDecimal {
    /// See [`rehome::event::Decimal::parse`].
    fn parse_decimal(&self) -> rehome::event::Decimal;
}

impl ParseDecimal for str {
    fn parse_decimal(&self) -> rehome::event::Decimal {
        rehome::event::Decimal::parse(self).expect("a decimal")
    }
}
