//! What the PostgreSQL store promises beyond the contract of all stores.
