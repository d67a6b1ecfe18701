//! What returns, what leaves, and what is told of it.

use super::*;

fn id(index: u32) -> BlockId {
    BlockId::new(index)
}

fn use_all(returns: &mut Returns, blocks: impl IntoIterator<Item = u32>, slots: usize) {
    for block in blocks {
        returns.used(id(block), slots, 1.0);
    }
}

#[test]
fn ends_of_runs_and_branches_left_aside_are_told_apart() {
    let mut returns = Returns::new(Kinds::Runs);
    // A prompt of 1 2 3 with an end, then the same prompt with another.
    use_all(&mut returns, [1, 2, 3, 4, 1], 100);
    assert_eq!(returns.blocks[&id(4)].class, END);
    assert_eq!(returns.blocks[&id(3)].class, class::class_in_run(1, 0, 4));
    use_all(&mut returns, [2, 5, 6, 7], 100);
    assert_eq!(returns.blocks[&id(3)].class, PASSED_BY);
    assert_eq!(returns.blocks[&id(4)].class, PASSED_BY);
    assert_ne!(returns.blocks[&id(2)].class, PASSED_BY);
    // A use makes it one of the others again.
    use_all(&mut returns, [3], 100);
    assert_ne!(returns.blocks[&id(3)].class, PASSED_BY);
}

#[test]
fn a_shared_prefix_leaves_nothing_aside() {
    let mut returns = Returns::new(Kinds::Runs);
    for branch in 0..20 {
        use_all(&mut returns, [0, 10 + branch * 2, 11 + branch * 2], 200);
    }
    assert_eq!(returns.blocks[&id(10)].class, PASSED_BY);
    assert_ne!(returns.blocks[&id(46)].class, PASSED_BY);
}

#[test]
fn what_never_returns_leaves_before_what_does() {
    let mut returns = Returns::new(Kinds::Runs);
    // Prompts that are asked twice, the second time 30 prompts later; their ends differ.
    for prompt in 0..2000u32 {
        let asked = |prompt: u32| (0..4).map(move |at| prompt * 8 + at);
        let end = |half: u32| prompt * 8 + 4 + half;
        use_all(&mut returns, asked(prompt).chain([end(0)]), 150);
        if let Some(before) = prompt.checked_sub(30) {
            use_all(&mut returns, asked(before).chain([end(1)]), 150);
        }
    }
    let held = |at: u32| {
        let of_prompt = |prompt: u32| returns.holds(id(prompt * 8 + at));
        (1971..2000).filter(|&prompt| of_prompt(prompt)).count()
    };
    // The last used would be those of 15 prompts.
    assert!(held(1) > 20 && held(1) > held(4), "{} {}", held(1), held(4));
    let counted: usize = returns.held.iter().map(BTreeMap::len).sum();
    assert_eq!((counted, returns.count), (149, 149));
}

/// A prompt, its blocks, and its answer if it has ended.
fn ask(returns: &mut Returns, prompt: u64, blocks: &[u32], answer: Option<u64>, slots: usize) {
    returns.prompt(PromptId::new(prompt));
    use_all(returns, blocks.iter().copied(), slots);
    if let Some(tokens) = answer {
        returns.answered(PromptId::new(prompt), tokens);
    }
}

#[test]
fn who_got_a_short_answer_is_waited_for_if_such_readers_return_late() {
    let mut returns = Returns::new(Kinds::Prompts);
    // Of eight prompts one has a short answer, and comes back 40 prompts later; three come back
    // after 10, and four never.
    let comes_back = |at: u32, after: u32| match at % 8 {
        0 => after == 40,
        1..=3 => after == 10,
        _ => false,
    };
    for at in 0..6000u32 {
        let blocks: Vec<u32> = (0..5).map(|block| at * 8 + block).collect();
        let tokens = if at % 8 == 0 { 5 } else { 500 };
        ask(&mut returns, u64::from(at), &blocks, Some(tokens), 120);
        for after in [10, 40] {
            let before = at.checked_sub(after);
            if let Some(before) = before.filter(|&before| comes_back(before, after)) {
                let again: Vec<u32> = (0..4).chain([5]).map(|block| before * 8 + block).collect();
                let prompt = u64::from(after * 10_000 + at);
                ask(&mut returns, prompt, &again, None, 120);
            }
        }
    }
    // The last used would be those of 22 prompts.
    let held = |at: &u32| returns.holds(id(at * 8 + 1));
    let short = (5960..6000).filter(|at| at % 8 == 0 && held(at)).count();
    let long = (5960..5985).filter(|at| at % 8 != 0 && held(at)).count();
    assert!(short == 5 && long < 15, "{short} {long}");
    let counted: usize = returns.held.iter().map(BTreeMap::len).sum();
    assert_eq!((counted, returns.count), (119, 119));
    assert!(returns.answers.len() <= ANSWERS_MAX);
}

#[test]
fn of_a_prompt_the_deepest_leave_first_and_turns_are_counted() {
    let mut returns = Returns::new(Kinds::Prompts);
    ask(&mut returns, 1, &[1, 2, 3, 4], None, 9);
    ask(&mut returns, 2, &[1, 2, 3, 5, 6], None, 9);
    ask(&mut returns, 3, &[11, 12, 13, 14], None, 9);
    let turns = [4, 3, 5].map(|block| returns.blocks[&id(block)].turn);
    assert_eq!(turns, [0, 1, 1]);
    let held = [1, 2, 3, 5, 6].map(|block| returns.holds(id(block)));
    assert_eq!(held, [true, true, true, true, false]);
    // Nobody asked this one; blocks left aside stay so, however short the answer.
    returns.answered(PromptId::new(77), 1);
    returns.answered(PromptId::new(1), 1);
    assert_eq!(returns.blocks[&id(4)].class, PASSED_BY);
}

#[test]
fn a_cache_without_room_holds_nothing() {
    let mut returns = Returns::new(Kinds::Runs);
    use_all(&mut returns, [1, 2, 1, 3], 1);
    assert_eq!(returns.count, 0);
    use_all(&mut returns, [1, 2, 3, 4], 3);
    assert_eq!(returns.count, 2);
    assert!(returns.used(id(9), 0, 1.0).len() == 2);
}
