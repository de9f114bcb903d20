//! Who is it.
