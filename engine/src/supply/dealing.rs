//! Which home each block that streams is given.

/// What a home is to be given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Ration {
    /// In proportion to its bandwidth, in bytes per second.
    Link(f64),
    /// As much as it has room for, in bytes: it is read in place.
    Room(u64),
}

/// A block to deal out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dealt {
    pub(super) bytes: u64,
    /// It begins to stream only when the text has grown.
    pub(super) is_late: bool,
}

/// The home of each of `blocks`, in the order of their use, beside an origin of `origin` bytes per
/// second; `None` of what only that has. Whatever the share of a home, its blocks are spread evenly
/// between the others, so that links never idle.
pub(super) fn deal(blocks: &[Dealt], origin: f64, rations: &[Ration]) -> Vec<Option<u8>> {
    let mut dealt = vec![None; blocks.len()];
    for (home, ration) in rations.iter().enumerate() {
        // Room that late blocks had would be of no use before.
        let room = ration.room() - fill(&mut dealt, blocks, home, (ration.room(), false));
        fill(&mut dealt, blocks, home, (room, true));
    }
    let rates: Vec<f64> = rations.iter().map(Ration::rate).chain([origin]).collect();
    // Each block goes where it would have come over the link first.
    let mut busy = vec![0.0; rates.len()];
    let free = dealt.iter_mut().zip(blocks);
    for (of, block) in free.filter(|(of, _)| of.is_none()) {
        let ends = rates.iter().zip(&busy);
        let ends = ends.map(|(rate, busy)| busy + block.bytes as f64 / rate);
        let first = ends.enumerate().min_by(|(_, a), (_, b)| a.total_cmp(b));
        let (tier, end) = first.expect("the origin is one of them");
        busy[tier] = end;
        *of = (tier < rations.len()).then_some(tier as u8);
    }
    dealt
}

/// Gives `home` as many of the blocks that have none, late ones or the others, as `room` bytes
/// hold, from even distances; their bytes.
fn fill(
    dealt: &mut [Option<u8>],
    blocks: &[Dealt],
    home: usize,
    (room, is_late): (u64, bool),
) -> u64 {
    let is_meant =
        |(of, block): &(&mut Option<u8>, &Dealt)| of.is_none() && block.is_late == is_late;
    let free = dealt.iter_mut().zip(blocks).filter(is_meant);
    let free: Vec<_> = free.collect();
    let whole: u64 = free.iter().map(|(_, block)| block.bytes).sum();
    let room = room.min(whole);
    let share = room as f64 / whole.max(1) as f64;
    let (mut due, mut given) = (0.0, 0);
    for (of, block) in free {
        due += block.bytes as f64 * share;
        // Half a block early or late; what there is no room for is not promised.
        if due >= block.bytes as f64 / 2.0 && given + block.bytes <= room {
            due -= block.bytes as f64;
            given += block.bytes;
            *of = Some(home as u8);
        }
    }
    given
}

impl Ration {
    const fn room(&self) -> u64 {
        match *self {
            Self::Link(_) => 0,
            Self::Room(bytes) => bytes,
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

    fn blocks(count: usize, late: usize) -> Vec<Dealt> {
        let block = |index| Dealt {
            bytes: 10,
            is_late: index % count < late,
        };
        (0..count).map(block).collect()
    }

    #[test]
    fn links_share_by_what_they_carry() {
        let rations = [Ration::Link(200.0), Ration::Link(0.0)];
        let dealt = deal(&blocks(120, 0), 100.0, &rations);
        assert_eq!((count(&dealt, Some(0)), count(&dealt, Some(1))), (80, 0));
        for some in dealt.chunks(12) {
            assert_eq!(count(some, None), 4, "{some:?}");
        }
    }

    #[test]
    fn a_home_read_in_place_is_given_what_it_has_room_for_from_even_distances() {
        let all = blocks(120, 0);
        let dealt = deal(&all, 100.0, &[Ration::Link(100.0), Ration::Room(409)]);
        let counts = [Some(0), Some(1), None].map(|home| count(&dealt, home));
        assert_eq!(counts, [40, 40, 40]);
        for some in dealt.chunks(12) {
            assert!((3..=5).contains(&count(some, Some(1))), "{some:?}");
        }
        for (room, given) in [(0, 0), (9, 0), (u64::MAX, 120)] {
            let dealt = deal(&all, 100.0, &[Ration::Room(room)]);
            let counts = (count(&dealt, Some(0)), count(&dealt, None));
            assert_eq!(counts, (given, 120 - given));
        }
        let dealt = deal(&all, 1.0, &[Ration::Room(600), Ration::Room(600)]);
        assert_eq!(count(&dealt, Some(0)), 60);
        assert_eq!(count(&dealt, Some(1)), 60);
        assert!(deal(&[], 1.0, &[Ration::Room(5)]).is_empty());
    }

    #[test]
    fn what_streams_late_has_what_room_is_left() {
        for (room, now, late) in [(300, 30, 0), (950, 90, 5), (u64::MAX, 90, 30)] {
            let dealt = deal(&blocks(120, 30), 1.0, &[Ration::Room(room)]);
            let (first, rest) = dealt.split_at(30);
            assert_eq!((count(rest, Some(0)), count(first, Some(0))), (now, late));
        }
    }
}
