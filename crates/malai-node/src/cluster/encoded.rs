//! The encoded configuration, kept while members fetch it.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use malai_cluster::Snapshot;
use malai_wire::frame::Tagged;
use malai_wire::peer::sync::{Content, Fetched};
use parking_lot::Mutex;

/// The configuration in force as a frame, encoded once for all members that fetch it at the same time.
#[derive(Debug, Default)]
pub(crate) struct EncodedSnapshot(Mutex<Weak<Frame>>);

#[derive(Debug)]
struct Frame {
    snapshot: Arc<Snapshot>,
    bytes: Vec<u8>,
}

struct Shared(Arc<Frame>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0.bytes
    }
}

impl EncodedSnapshot {
    /// The frame of the given snapshot: the cached one, if it is of that snapshot and still in use somewhere.
    pub(crate) fn frame(&self, snapshot: Arc<Snapshot>) -> Bytes {
        let mut cached = self.0.lock();
        let same = cached
            .upgrade()
            .filter(|frame| Arc::ptr_eq(&frame.snapshot, &snapshot));
        let frame = same.unwrap_or_else(|| {
            let content = Fetched::Content(Content {
                header: snapshot.header().clone(),
                content: snapshot.content().to_owned(),
            });
            let bytes = content.to_frame();
            let frame = Arc::new(Frame { snapshot, bytes });
            *cached = Arc::downgrade(&frame);
            frame
        });
        Bytes::from_owner(Shared(frame))
    }
}
