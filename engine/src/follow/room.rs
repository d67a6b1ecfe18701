//! How much is brought in: the budget, and less where the kernel takes it away again at once.

/// Half of the room goes after so many windows of loss.
const PATIENCE: u32 = 2;

/// Never less than this, in bytes: without any, nothing would show that there is room again.
const LEAST: u64 = 4 << 20;

/// See the module.
#[derive(Debug)]
pub(crate) struct Room {
    budget: u64,
    now: u64,
    /// Windows of loss, one after the other.
    lossy: u32,
}

impl Room {
    pub(crate) fn new(budget: u64) -> Self {
        Self {
            budget,
            now: budget,
            lossy: 0,
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.now
    }

    pub(crate) fn is_short(&self) -> bool {
        self.now < self.budget
    }

    /// A window ended in which `brought` bytes were asked for and `lost` were gone soon after they
    /// had come.
    pub(crate) fn close_window(&mut self, brought: u64, lost: u64) {
        if lost == 0 || lost * 2 <= brought {
            self.lossy = 0;
            self.now = (self.now + self.now / 4).min(self.budget);
            return;
        }
        self.lossy += 1;
        if self.lossy >= PATIENCE {
            self.lossy = 0;
            self.now = (self.now / 2).max(LEAST.min(self.budget));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_halves_the_room_and_calm_gives_it_back() {
        let mut room = Room::new(64 << 20);
        room.close_window(10, 10);
        assert!(!room.is_short(), "once may be chance");
        room.close_window(10, 10);
        assert_eq!(room.bytes(), 32 << 20);
        for _ in 0..100 {
            room.close_window(10, 6);
        }
        assert_eq!(room.bytes(), LEAST);
        for _ in 0..20 {
            room.close_window(10, 5);
        }
        assert_eq!(room.bytes(), 64 << 20);
        let mut small = Room::new(4096);
        small.close_window(9, 9);
        small.close_window(9, 9);
        assert_eq!(small.bytes(), 4096);
    }
}
