//! Proxying (RFC 3261 §16), one file per step.
