//! OpenAI's dialect: where its requests carry what the router looks at.

use super::body::Places;

/// Chat keeps its messages in `messages`, responses in `input`; both are looked at on every path, because some
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
