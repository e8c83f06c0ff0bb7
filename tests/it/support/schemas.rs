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
