//! A node and its clients over loopback, as their users see them.

mod link;
mod raw;
mod support;

mod clients;
mod content;
mod hostile;
mod lender;
mod lent;
mod limits;
mod loan;
mod local;
mod lying;
mod moves;
mod mutation;
mod placed;
mod watched;
