//! Copies of migrations with other words in them.

use std::path::Path;

/// Copies a migration's folder into `folder` with replacements in every file; answers the folder of schemas for `--schemas`.
pub fn edited(folder: &Path, migration: &str, edits: &[(&str, &str)]) -> String {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join(migration);
    let schemas = folder.join("schemas");
    copy(&from, &schemas.join(from.file_name().expect("a name")), edits);
    schemas.display().to_string()
}

fn copy(from: &Path, to: &Path, edits: &[(&str, &str)]) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry").path();
        let to = to.join(entry.file_name().expect("a name"));
        if entry.is_dir() {
            copy(&entry, &to, edits);
            continue;
        }
        let text = std::fs::read_to_string(&entry).expect("a file");
        std::fs::write(to, edits.iter().fold(text, |text, (old, new)| text.replace(old, new))).expect("a file");
    }
}

/// The files of a small migration, as they are now: `labels` of `things`, with a further table and a reference.
pub fn labelled(folder: &Path, table: &str, reference: &str, label: &str) -> String {
    let place = folder.join("schemas/labelled");
    std::fs::create_dir_all(&place).expect("a folder");
    let things = "[table.things]\nkey = [\"id\"]\nrole = \"unit\"\nunit_lookup = \"key\"\n\
        columns = { id = \"int8 not null\", code = \"text not null\" }\n";
    let mapping = "migration = \"labelled\"\nnamespace = \"5d0c2f3a-0000-5000-8000-000000000000\"\nforeign = \"row\"\n\
        [quarantine]\nnot_storable = \"row\"\nunreadable_json = \"row\"\nkey_collision = \"row\"\n[unit]\nthings = \"id\"\n";
    let map = format!("[[map]]\nfrom = \"things\"\nto = \"labels\"\ncolumns = {{ id = \".id\", label = {label} }}\n");
    for (file, text) in [
        ("legacy.toml", format!("source = \"postgres\"\n{table}{things}")),
        ("mapping.toml", format!("{mapping}{reference}{map}")),
        ("target.sql", "CREATE TABLE labels (id bigint PRIMARY KEY, label text NOT NULL);".to_owned()),
    ] {
        std::fs::write(place.join(file), text).expect("a file");
    }
    folder.join("schemas").to_str().expect("text").to_owned()
}
