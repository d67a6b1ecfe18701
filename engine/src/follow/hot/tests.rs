use super::*;

fn chosen(blocks: &HotBlocks, most: usize) -> Vec<usize> {
    let mut chosen = vec![false; blocks.blocks.len()];
    blocks.choose(most, &mut chosen);
    indices(&chosen)
}

fn indices(chosen: &[bool]) -> Vec<usize> {
    (0..chosen.len()).filter(|&index| chosen[index]).collect()
}

/// Windows in which only `block` is used.
fn windows(blocks: &mut HotBlocks, count: u32, block: usize) {
    for _ in 0..count {
        blocks.touch(block);
        blocks.close_window();
    }
}

#[test]
fn what_stays_mapped_stays_hot_and_what_nobody_comes_back_to_does_not() {
    let mut blocks = HotBlocks::new(64, Uses::Faults);
    blocks.touch(7);
    blocks.touch(20);
    blocks.close_window();
    windows(&mut blocks, 3 * WINDOWS, 40);
    assert_eq!(chosen(&blocks, 64), [7, 20, 40], "silence says nothing");
    blocks.take(7);
    blocks.take(20);
    windows(&mut blocks, WINDOWS - 1, 40);
    assert_eq!(chosen(&blocks, 64), [7, 20, 40], "not gone yet");
    blocks.touch(20);
    windows(&mut blocks, 1, 40);
    assert_eq!(chosen(&blocks, 64), [20, 40]);
    assert!(blocks.is_known(20) && !blocks.is_known(7));
}

#[test]
fn a_reader_that_rests_tells_nothing() {
    let mut blocks = HotBlocks::new(64, Uses::Faults);
    blocks.touch(7);
    blocks.close_window();
    blocks.take(7);
    for _ in 0..1000 {
        blocks.close_window();
    }
    assert_eq!(chosen(&blocks, 64), [7]);
}

#[test]
fn sampled_loads_need_two_windows_and_silence_counts() {
    let mut blocks = HotBlocks::new(64, Uses::Loads);
    for _ in 0..5 {
        blocks.touch(7);
    }
    assert_eq!(blocks.hot_count(), 0, "one window, however many uses");
    blocks.close_window();
    blocks.touch(7);
    assert_eq!(blocks.hot_count(), 1);
    blocks.close_window();
    windows(&mut blocks, WINDOWS, 40);
    assert_eq!(chosen(&blocks, 64), [40], "7 was mapped all the time");
}

#[test]
fn a_hot_block_leaves_later_than_it_came() {
    let mut blocks = HotBlocks::new(64, Uses::Loads);
    windows(&mut blocks, 2, 7);
    windows(&mut blocks, WINDOWS - 1, 40);
    assert_eq!(blocks.blocks[7].history.count_ones(), 1, "too few to come");
    assert!(chosen(&blocks, 64).contains(&7), "enough to stay");
}

#[test]
fn a_budget_goes_to_the_hottest_and_a_scan_does_not_turn_it_over() {
    let mut blocks = HotBlocks::new(64, Uses::Faults);
    for index in [3, 30, 50] {
        windows(&mut blocks, 2, index);
        blocks.take(index);
    }
    for index in 0..64 {
        blocks.touch(index);
    }
    assert_eq!(chosen(&blocks, 3), [3, 30, 50]);
    // Blocks of one rank: who is there stays, however often the others come by.
    let mut scan = HotBlocks::new(64, Uses::Faults);
    let mut fixed = vec![false; 64];
    for _ in 0..4 {
        for index in 0..64 {
            scan.touch(index);
            scan.choose(16, &mut fixed);
            scan.take(index);
        }
        scan.close_window();
    }
    assert_eq!(indices(&fixed), (0..16).collect::<Vec<_>>());
}

#[test]
fn neighbours_are_chosen_where_half_are_hot_and_merged() {
    let mut blocks = HotBlocks::new(40, Uses::Faults);
    for index in (0..16).step_by(2).chain([20, 21, 39]) {
        blocks.touch(index);
    }
    let mut fewer = vec![false; 40];
    blocks.choose(18, &mut fewer);
    assert_eq!(indices(&fewer).len(), 11, "no room for all neighbours");
    let mut all = vec![false; 40];
    blocks.choose(40, &mut all);
    assert_eq!(ranges(&all), [0..16, 20..22, 39..40]);
    assert!(ranges(&[false; 4]).is_empty());
}
