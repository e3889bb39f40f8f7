//! How full tables are.

use crate::{
    api::types::Table,
    compile::{Limits, Usage},
};

/// A table with its entries.
pub fn table(table: &str, entries: usize, capacity: usize) -> Table {
    Table { table: table.into(), entries: entries as u64, capacity: capacity as u64 }
}

/// Those that a policy fills when it is loaded.
pub fn of_policy(usage: &Usage, limits: &Limits) -> Vec<Table> {
    vec![
        table("blocks", usage.blocks, limits.blocks),
        table("clauses", usage.clauses, limits.clauses),
        table("hosts4", usage.hosts4, limits.hosts),
        table("hosts6", usage.hosts6, limits.hosts),
    ]
}
