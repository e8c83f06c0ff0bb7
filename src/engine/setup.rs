//! What `check`, `up` and `down` do in both databases and in the state folder.

use std::path::PathBuf;

use crate::postgres::preflight::{Finding, Severity, preflight};
use crate::postgres::target::{Provisioned, Removed as TargetRemoved, provision, unprovision};

use super::{Engine, Error, shapes};

/// What `up` found and made.
#[derive(Debug, Clone)]
pub struct Up {
    /// Warnings of the preflight.
    pub findings: Vec<Finding>,
    /// At the target.
    pub target: Provisioned,
}

/// What `down` removed and left.
#[derive(Debug, Clone)]
pub struct Down {
    /// In the source.
    pub source: crate::postgres::provision::Removed,
    /// At the target.
    pub target: TargetRemoved,
    /// The state folder, which was removed.
    pub folder: PathBuf,
}

impl Engine {
    /// Looks both databases over, creates what the target lacks, and prepares the state folder.
    pub async fn up(&self) -> Result<Up, Error> {
        let findings = self.preflight().await?;
        if findings.iter().any(|finding| finding.severity == Severity::Error) {
            return Err(Error::NotReady(findings));
        }
        let pool = self.target_server()?.pool(1);
        let target = provision(&pool, self.migration.target_sql(), &self.tables).await?;
        pool.close().await;
        let owned = self.own().await?;
        owned.digest_key()?;
        Ok(Up { findings, target })
    }

    /// Everything the source lacks.
    pub async fn preflight(&self) -> Result<Vec<Finding>, Error> {
        let mut connection = self.source()?.connect().await?;
        Ok(preflight(&mut connection, &shapes::expectations(&self.sources), None).await?)
    }

    /// Removes what rehome made in both databases, and the state folder.
    pub async fn down(&self) -> Result<Down, Error> {
        if !self.folder.exists() {
            return Err(Error::NotUp(self.settings.state.clone()));
        }
        let owned = self.own().await?;
        let mut connection = self.source()?.connect().await?;
        let source = crate::postgres::provision::down(&mut connection, &self.prefix()).await?;
        let pool = self.target_server()?.pool(1);
        let target = unprovision(&pool, self.migration.name(), &self.tables).await?;
        pool.close().await;
        let path = self.settings.state.clone();
        drop(owned);
        std::fs::remove_dir_all(&path).map_err(|source| Error::File {
            action: "remove",
            path: path.clone(),
            source,
        })?;
        Ok(Down { source, target, folder: path })
    }
}
