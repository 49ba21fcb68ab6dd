//! Choices that are valid and may still surprise.
