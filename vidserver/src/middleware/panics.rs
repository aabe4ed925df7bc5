//! A panic in a route is that request's 500; the connection and the other requests go on.

use std::any::Any;

use axum::response::{IntoResponse, Response};
use tower_http::catch_panic::ResponseForPanic;

use crate::problem::Problem;

/// Turns a caught panic into a problem whose text only the log sees.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PanicProblem;

impl ResponseForPanic for PanicProblem {
    type ResponseBody = axum::body::Body;

    fn response_for_panic(&mut self, panic: Box<dyn Any + Send + 'static>) -> Response {
        let text = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
            (Some(text), _) => (*text).to_owned(),
            (_, Some(text)) => text.clone(),
            _ => "a value that is no text".to_owned(),
        };
        Problem::internal(format!("panic: {text}")).into_response()
    }
}
