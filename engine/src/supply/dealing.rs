//! Which home each block that streams is given.

/// What a home is to be given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Ration {
    /// In proportion to its bandwidth, in bytes per second.
    Link(f64),
    /// As much as it has room for, in bytes: it is read in place.
    Room(u64),
}

/// The home of each of `blocks`, which are bytes in the order of their use, beside an origin of
/// `origin` bytes per second; `None` of what only that has. Whatever the share of a home, its
/// blocks are spread evenly between the others, so that links never idle.
pub(super) fn deal(blocks: &[u64], origin: f64, rations: &[Ration]) -> Vec<Option<u8>> {
    let mut dealt = vec![None; blocks.len()];
    let whole: u64 = blocks.iter().sum();
    let mut left = whole;
    let rooms = rations.iter().enumerate();
    for (home, room) in rooms.filter_map(|(home, ration)| Some((home, ration.room()?))) {
        let mut room = room.min(left);
        let share = room as f64 / left.max(1) as f64;
        let mut due = 0.0;
        let free = dealt.iter_mut().zip(blocks);
        for (of, &bytes) in free.filter(|(of, _)| of.is_none()) {
            due += bytes as f64 * share;
            // Half a block early or late; what there is no room for is not promised.
            if due >= bytes as f64 / 2.0 && bytes <= room {
                due -= bytes as f64;
                room -= bytes;
                left -= bytes;
                *of = Some(home as u8);
            }
        }
    }
    let rates: Vec<f64> = rations.iter().map(Ration::rate).chain([origin]).collect();
    // Each block goes where it would have come over the link first.
    let mut busy = vec![0.0; rates.len()];
    let free = dealt.iter_mut().zip(blocks);
    for (of, &bytes) in free.filter(|(of, _)| of.is_none()) {
        let ends = rates.iter().zip(&busy);
        let ends = ends.map(|(rate, busy)| busy + bytes as f64 / rate);
        let first = ends.enumerate().min_by(|(_, a), (_, b)| a.total_cmp(b));
        let (tier, end) = first.expect("the origin is one of them");
        busy[tier] = end;
        *of = (tier < rations.len()).then_some(tier as u8);
    }
    dealt
}

impl Ration {
    const fn room(&self) -> Option<u64> {
        match *self {
            Self::Link(_) => None,
            Self::Room(bytes) => Some(bytes),
        }
    }

    const fn rate(&self) -> f64 {
        match *self {
            Self::Link(rate) => rate,
            Self::Room(_) => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(dealt: &[Option<u8>], home: Option<u8>) -> usize {
        dealt.iter().filter(|&&of| of == home).count()
    }

    #[test]
    fn links_share_by_what_they_carry() {
        let dealt = deal(&[10; 120], 100.0, &[Ration::Link(200.0), Ration::Link(0.0)]);
        assert_eq!((count(&dealt, Some(0)), count(&dealt, Some(1))), (80, 0));
        for some in dealt.chunks(12) {
            assert_eq!(count(some, None), 4, "{some:?}");
        }
    }

    #[test]
    fn a_home_read_in_place_is_given_what_it_has_room_for_from_even_distances() {
        let blocks = [10; 120];
        let dealt = deal(&blocks, 100.0, &[Ration::Link(100.0), Ration::Room(409)]);
        let counts = [Some(0), Some(1), None].map(|home| count(&dealt, home));
        assert_eq!(counts, [40, 40, 40]);
        for some in dealt.chunks(12) {
            assert!((3..=5).contains(&count(some, Some(1))), "{some:?}");
        }
        for (room, given) in [(0, 0), (9, 0), (u64::MAX, 120)] {
            let dealt = deal(&blocks, 100.0, &[Ration::Room(room)]);
            assert_eq!(
                (count(&dealt, Some(0)), count(&dealt, None)),
                (given, 120 - given)
            );
        }
        let dealt = deal(&blocks, 1.0, &[Ration::Room(600), Ration::Room(600)]);
        assert_eq!(count(&dealt, Some(0)), 60);
        assert_eq!(count(&dealt, Some(1)), 60);
        assert!(deal(&[], 1.0, &[Ration::Room(5)]).is_empty());
    }
}
