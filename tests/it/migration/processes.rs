//! The real thing: gateways, servers and the command itself.
