//! Owns the tests.
//! Refuses.
