//! What operators read of requests: the log, the traces, and that neither holds a secret.

mod logs;
mod secrets;
#[cfg(feature = "otlp")]
mod traces;
