//! OpenAI's dialect: where its requests carry what the router looks at.

use super::body::Places;

/// Chat keeps its messages in `messages`, responses in `input`; both are looked at on both paths, because some
/// applications post a responses-shaped body to chat completions.
pub(super) const PLACES: Places = Places {
    message_lists: &["messages", "input"],
    content: "content",
    roleless_is_user: false,
    tool_results: &[],
    bare_ones: false,
    model_lists: &[],
    model_objects: &[],
};

/// What embeddings, moderations, audio and images take is no conversation, though it may be called `input`.
pub(super) const PLACES_WITHOUT_MESSAGES: Places = Places {
    message_lists: &[],
    ..PLACES
};
