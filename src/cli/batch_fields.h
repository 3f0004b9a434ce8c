// The fields of OpenAI's completion and chat requests, vLLM's additions included.
#pragma once

#include "cli/batch_request.h"

namespace bolide {

// Sampling, limits and stop conditions over what `request` holds already. Throws FieldError.
void read_sampling_fields(JsonFields& body, BatchRequest& request);
// "prompt" in its four forms, echo, logprobs.
void read_completion_fields(JsonFields& body, BatchRequest& request);
// "messages": each an object with a role, its content a text or null.
Json read_messages(JsonFields& body);
// Tools, template arguments, logprobs.
void read_chat_fields(JsonFields& body, BatchRequest& request);
// Fields that would change the result and are not served: only their neutral values pass. Marks fields without influence as read.
void refuse_unsupported(JsonFields& body, const BatchRequest& request);

}  // namespace bolide
