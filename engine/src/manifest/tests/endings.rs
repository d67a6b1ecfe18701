//! Where the ends of a text come from.

use super::*;

#[test]
fn ends_of_text_come_from_the_generation_config_first() {
    let folder = TempDir::new().expect("a temporary folder");
    let eos = || Manifest::open(folder.path()).expect("opens").special.eos;
    Llama::SMALL.write_folder(folder.path(), r#""eos_token_id": [3, 4]"#);
    assert_eq!(eos(), [3, 4]);
    write(
        folder.path(),
        "generation_config.json",
        br#"{"temperature": 0.6}"#,
    );
    assert_eq!(eos(), [3, 4]);
    write(
        folder.path(),
        "generation_config.json",
        br#"{"eos_token_id": [5, 6, 7]}"#,
    );
    assert_eq!(eos(), [5, 6, 7]);
    let file = folder.path().join("model.gguf");
    let mut gguf = Llama::SMALL.gguf();
    gguf.key_u32("tokenizer.ggml.eot_token_id", 9)
        .key_u32("tokenizer.ggml.eom_token_id", 2);
    gguf.write(&file);
    assert_eq!(Manifest::open(&file).expect("opens").special.eos, [2, 9]);
}
