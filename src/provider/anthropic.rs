//! Anthropic's dialect: where its requests carry what the router looks at, and the prefix of its OAuth tokens.

use super::body::Places;

/// Messages stand in `messages`; the system prompt stands apart from them.
pub(super) const PLACES: Places = Places {
    message_lists: &["messages"],
    content: "content",
    roleless_is_user: false,
    tool_results: &["tool_result"],
    bare_ones: false,
    model_lists: &[],
    model_objects: &[],
};

/// Tokens of a subscription log-in; Anthropic takes them as `Authorization: Bearer` and not as `x-api-key`.
pub(super) const OAUTH_TOKEN_PREFIX: &[u8] = b"sk-ant-oat";
