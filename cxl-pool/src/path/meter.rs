//! What a device below the path does, as somebody sees it who stands there.

/// What a device has done since somebody began to count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceTotals {
    pub requests: u64,
    /// Their time from issue to completion, together.
    pub nanos: u64,
}

impl DeviceTotals {
    /// What was done since `earlier`; counters that were started over have done nothing.
    pub(super) fn since(self, earlier: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            nanos: self.nanos.saturating_sub(earlier.nanos),
        }
    }
}

/// Whoever sees the requests of a device. Called by the thread of the path, some hundred times a
/// second at most.
pub trait DeviceMeter: Send {
    /// All requests so far, whoever made them; `None` if that cannot be told any more.
    fn totals(&mut self) -> Option<DeviceTotals>;
}
