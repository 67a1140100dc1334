//! C interface of the Rust libraries that cake uses: minijinja for chat templates, and llguidance for texts that must
//! keep to a JSON schema, a regular expression or a grammar.

mod call;
mod environment;
mod filters;
mod guide;
mod json;
mod methods;
mod print;
mod schema;
mod tags;
mod template;
