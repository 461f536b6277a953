//! Frames of bodies that can be sent more than once.

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::Frame;

/// Any failure of a body: its peer's, or one of the reasons in this folder.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A frame that can be sent again.
#[derive(Clone, Debug)]
pub(super) enum ReplayFrame {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl ReplayFrame {
    /// The frame to keep; `None` for a kind of frame that HTTP doesn't define.
    pub(super) fn from_frame(frame: Frame<Bytes>) -> Option<Self> {
        match frame.into_data() {
            Ok(data) => Some(Self::Data(data)),
            Err(frame) => frame.into_trailers().ok().map(Self::Trailers),
        }
    }

    /// The frame to send.
    pub(super) fn into_frame(self) -> Frame<Bytes> {
        match self {
            Self::Data(data) => Frame::data(data),
            Self::Trailers(trailers) => Frame::trailers(trailers),
        }
    }

    /// Bytes of data in it.
    pub(super) fn data_len(&self) -> usize {
        match self {
            Self::Data(data) => data.len(),
            Self::Trailers(_) => 0,
        }
    }
}
