//! Gemini's dialect: where its requests carry what the router looks at.
//!
//! The path names the model. Some bodies repeat it, as `models/M`, at the top, in each of `requests`
//! (batchEmbedContents) or in `generateContentRequest` (countTokens); Google refuses a body whose model differs from
//! the path's, so a provider prefix must come off all of them.

use super::body::Places;

/// Messages stand in `contents`, at the top or in `generateContentRequest`. Google takes names in either spelling, and
/// its own examples leave out the brackets around one message and around one part.
pub(super) const PLACES: Places = Places {
    message_lists: &["contents"],
    content: "parts",
    roleless_is_user: true,
    tool_results: &["functionResponse", "function_response"],
    bare_ones: true,
    model_lists: &["requests"],
    model_objects: &["generateContentRequest", "generate_content_request"],
};

/// What a body puts before a model's name and a path has as its own segment.
pub(super) const MODEL_RESOURCE: &str = "models/";
