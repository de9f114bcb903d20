//! What is admitted, before anything of it runs.

use super::*;
