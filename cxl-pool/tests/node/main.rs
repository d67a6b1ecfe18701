//! A node and its clients over loopback, as their users see them.

mod support;

mod content;
