//! Bad use of nodes: each is one clear line.

use crate::engine::{Run, fails, larder};
use crate::files::asset;
use crate::ground::Ground;
use crate::trial::CONTEXT;

#[test]
fn bad_use_of_nodes_is_one_clear_line() {
    let ground = Ground::loopback(3);
    let _nodes = [0, 1].map(|number| ground.start(number, "48MiB"));
    let (tier, more) = (ground.tier(0), ground.tier(1));
    let story = asset("larder-story.gguf");
    let story = story.to_str().expect("text");
    let tiny = asset("tiny/tiny-f32.gguf");
    let tiny = tiny.to_str().expect("text");
    let named = |model, into| {
        larder(&ground, &["load", model, "--name", "m", "--into", into]);
    };
    named(story, &tier);
    named(tiny, &more);
    let run = |tiers: &[&str]| {
        let mut arguments = vec!["run", "remote://m", "-p", "x"];
        arguments.extend(tiers.iter().flat_map(|tier| ["--tier", tier]));
        fails(&ground, &arguments)
    };
    let expect = |found: (String, i32), code: i32, part: &str| {
        assert!(
            found.1 == code && found.0.contains(part),
            "{found:?}, not {part}"
        );
    };
    expect(run(&[&tier, &more]), 1, "two models are named 'm'");
    expect(run(&[]), 1, "no node for remote://m");
    let missing = ["run", "remote://absent", "-p", "x", "--tier", &tier];
    expect(fails(&ground, &missing), 1, "they have m");
    expect(
        run(&["remote=tcp://127.0.0.1:1"]),
        1,
        "is `larder node` running there?",
    );
    expect(fails(&ground, &["rm", &tier, "absent"]), 1, "absent");
    expect(fails(&ground, &["ls", "nvme=/x,1MiB"]), 2, "a memory node");
    let node = ["node", "--listen", "tcp://0.0.0.0:0", "--mem", "1MiB"];
    expect(fails(&ground, &node), 1, "--token-file or --insecure");
    expect(fails(&ground, &["node", "--mem", "x"]), 2, "--mem");
    let both = ["--tier", "nvme=spill,16MiB", "--tier"];
    let slow = format!("{tier},limit=1MB/s");
    let slow = [&["run", story, "-p", "x"][..], &both, &[&slow]].concat();
    expect(fails(&ground, &slow), 1, "add ,force");
    let small = ["--tier", "nvme=small,64KiB"];
    let plan = ["plan", story, "--context", "256", "--fast", "64MiB"];
    let least = larder(&ground, &[&plan[..], &small].concat());
    let least = least["min_fast_bytes"].to_string();
    let arguments = [
        &[
            "run",
            story,
            "-p",
            "x",
            "-n",
            "200",
            "--ignore-eos",
            "--context",
            CONTEXT,
        ][..],
        &["--fast", &least],
        &small,
    ]
    .concat();
    expect(fails(&ground, &arguments), 1, "of kv on nvme");
    let _full = ground.start(2, "256KiB");
    let load = ["load", story, "--into", &ground.tier(2)];
    expect(fails(&ground, &load), 1, &ground.address(2));
}

#[test]
fn a_node_that_restarts_is_an_error_never_other_bytes() {
    let ground = Ground::new(1);
    let node = ground.start(0, "48MiB");
    let story = asset("larder-story.gguf");
    let story = story.to_str().expect("text");
    larder(&ground, &["load", story, "--into", &ground.tier(0)]);
    let slow = format!("{},limit=2MB/s", ground.tier(0));
    let model = ["run", "remote://larder-story", "-p", "Once", "--ignore-eos"];
    let little = ["--context", CONTEXT, "--fast", "700KiB", "--tier", &slow];
    let mut run = Run::start(&ground, &[&model[..], &little].concat());
    run.go_on_until(0, 3 << 20);
    drop(node);
    let _again = ground.start(0, "48MiB");
    // The only replica of the model is gone.
    let (said, code) = run.fail();
    assert!(code == 1 && said.contains(&ground.address(0)), "{said}");
}
