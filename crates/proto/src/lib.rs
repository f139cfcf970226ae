//! Generated code of `proto/` and its descriptor set; nothing else.
#![allow(missing_docs, clippy::all, clippy::pedantic)]

/// Everything below `proto/` as an encoded `FileDescriptorSet`, with comments and custom options.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

pub mod google {
    pub mod api {
        tonic::include_proto!("google.api");
    }
}

pub mod candlefish {
    pub mod access {
        pub mod v1 {
            tonic::include_proto!("candlefish.access.v1");
        }
    }
    pub mod delivery {
        pub mod v1 {
            tonic::include_proto!("candlefish.delivery.v1");
        }
    }
    pub mod deploy {
        pub mod v1 {
            tonic::include_proto!("candlefish.deploy.v1");
        }
    }
    pub mod event {
        pub mod v1 {
            tonic::include_proto!("candlefish.event.v1");
        }
    }
}

pub use candlefish::{
    access::v1 as access, delivery::v1 as delivery, deploy::v1 as deploy, event::v1 as event,
};
