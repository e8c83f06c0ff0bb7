//! What a migration requires of its target before anything is written: rows of the application's own.

use crate::event::key_text;
use crate::mapping::schema::Store;
use crate::postgres::target::has_row;
use crate::source::{Finding, Severity};
use crate::target::{Error as TargetError, Target as _, TargetKey, TargetTable};

use super::{Engine, Error};

impl Engine {
    /// Every required row that the target lacks.
    ///
    /// # Errors
    /// When the target cannot be reached.
    pub async fn unmet(&self) -> Result<Vec<Finding>, Error> {
        if self.migration.requirements().is_empty() {
            return Ok(Vec::new());
        }
        match self.migration.target_store() {
            Store::Postgres => self.unmet_in_postgres().await,
            Store::DynamoDb => self.unmet_in_dynamo().await,
        }
    }

    async fn unmet_in_postgres(&self) -> Result<Vec<Finding>, Error> {
        let pool = self.target_server()?.reached_pool(1).await?;
        let mut findings = Vec::new();
        for required in self.migration.requirements() {
            let (what, fix) = match has_row(&pool, &required.table, &required.columns).await {
                Ok(true) => continue,
                Ok(false) => {
                    (lacking(&required.columns), "let the application insert it, or name another in mapping.toml")
                }
                Err(TargetError::Refused { code, message, .. }) => {
                    let fix = "let the application make the table, and grant SELECT on it to this role";
                    (format!("a row that the mapping needs cannot be looked for: {code} {message}"), fix)
                }
                Err(error) => return Err(error.into()),
            };
            findings.push(finding(&required.table, what, fix));
        }
        pool.close().await;
        Ok(findings)
    }

    async fn unmet_in_dynamo(&self) -> Result<Vec<Finding>, Error> {
        let target = self.dynamo_target().await?;
        let mut findings = Vec::new();
        for required in self.migration.requirements() {
            let table = self.tables.iter().position(|table| table.name == required.table);
            let Some(table) = table.and_then(|place| u16::try_from(place).ok()).map(TargetTable) else { continue };
            let values = required.columns.iter().map(|(_, value)| value.clone()).collect();
            if target.read(&[TargetKey::new(table, values)]).await?.into_iter().flatten().next().is_none() {
                let fix = "let the application put it, or name another in mapping.toml";
                findings.push(finding(&required.table, lacking(&required.columns), fix));
            }
        }
        Ok(findings)
    }
}

/// The row that is not there; its values are literals of the mapping.
fn lacking(columns: &[(Box<str>, crate::event::Value)]) -> String {
    let part = |(name, value): &(Box<str>, _)| format!("{name} = {}", key_text(std::slice::from_ref(value)));
    format!("it has no row with {}, which the mapping needs", columns.iter().map(part).collect::<Vec<_>>().join(", "))
}

fn finding(table: &str, what: String, fix: &str) -> Finding {
    Finding { what, place: format!("target table {table}"), fix: fix.to_owned(), severity: Severity::Error }
}
