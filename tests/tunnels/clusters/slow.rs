//! Cases that take a minute and more; ignored by default, run by `make test-long`.

mod families;
mod hour;
mod node;
mod paths;
mod proxy;
