//! Any text as cluster.toml: never a panic, and a valid one renders to text that means the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let checked = malai_cluster::check("cluster.toml", text);
    for diagnostic in &checked.diagnostics {
        let _ = diagnostic.to_string();
    }
    if let Some(cluster) = checked.cluster {
        let content = cluster.render();
        let again = malai_cluster::read_content(&content);
        assert_eq!(again.map(|cluster| cluster.render()).ok(), Some(content));
    }
});
