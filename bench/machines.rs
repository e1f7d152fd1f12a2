//! Many machines of one cluster in one process, for `bench/run`.

use std::io::Read;
use std::path::Path;

use malai_testing::machines::{USAGE, serve};

/// How many files a machine has open.
const DESCRIPTORS_EACH: u64 = 16;

fn main() {
    malai_node::keep_descriptors();
    let mut args = std::env::args().skip(1);
    let (Some(folder), Some(count), Some(manager)) = (args.next(), args.next(), args.next()) else {
        panic!("{USAGE}");
    };
    let count: usize = count.parse().expect("a number of machines");
    // Not if a machine's usual limit is enough: with more than that, each command is forked, and this is a large process.
    malai_node::raise_limit(count as u64 * DESCRIPTORS_EACH);
    let dead: usize = args
        .next()
        .map_or(0, |dead| dead.parse().expect("a number"));
    let (ended, end) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = ended.send(());
    });
    let say = |news: String| println!("{news}");
    serve(Path::new(&folder), count, dead, &manager, say, end);
}
