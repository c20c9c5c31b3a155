//! The bodies of facts: one file per kind. What surrounds them is in [`crate::journal`] and [`crate::derived`].

mod alert;
mod assignment;
mod command;
mod consultation;
mod device;
mod reading;
mod registry;
mod staff;
mod system;
mod window;

pub use alert::*;
pub use assignment::*;
pub use command::*;
pub use consultation::*;
pub use device::*;
pub use reading::*;
pub use registry::*;
pub use staff::*;
pub use system::*;
pub use window::*;
