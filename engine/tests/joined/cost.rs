//! What a dying node costs: at most the computation of what was lost with it.

use crate::trial::{DENSE, FIRST, Trial};

/// Bytes that the node has sent when it dies: KV of some dozens of steps.
const SENT: u64 = 2 << 20;
/// One run of a pair may be this much slower than the other by itself.
const NOISE: f64 = 0.3;

/// Weights come from a file, whose link sets the pace, so nothing but KV is lost with the node.
#[test]
fn a_dying_node_costs_what_was_lost_with_it() {
    let trial = Trial::new(DENSE, false);
    let node = trial.ground.start(FIRST, "48MiB");
    let undisturbed = trial.end(trial.start_from_file());
    assert_eq!(undisturbed.recomputed(), 0, "{}", undisturbed.report);

    let mut run = trial.start_from_file();
    run.go_on_until(FIRST, SENT);
    drop(node);
    let disturbed = trial.end(run);

    // What the undisturbed run needed for as many tokens: its prompt, then step by step.
    let number = |name: &str| undisturbed.report[name].as_f64().expect("a number");
    let lost = disturbed.recomputed() as f64;
    let steps = lost - number("prompt_tokens");
    assert!(steps > 0.0, "{}", disturbed.report);
    let again = number("ttft_ms") / 1e3 + steps / number("decode_tok_s");
    let whole = undisturbed.time.as_secs_f64();
    let more = disturbed.time.as_secs_f64() - whole;
    println!(
        "{whole:.2} s undisturbed, {more:.2} s more with a node that dies; the {lost} tokens that \
         were lost take {again:.2} s to compute"
    );
    assert!(more <= again + NOISE * whole, "{}", disturbed.report);
}
