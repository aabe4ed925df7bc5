//! The platform: settings, the choice of back ends, and the services built over them.

pub mod settings;

pub use settings::Settings;
