//! The operating system under larder, each facility in a module of its own.
