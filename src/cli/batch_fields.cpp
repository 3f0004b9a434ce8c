#include "cli/batch_fields.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>

namespace bolide {
namespace {

constexpr int64_t kMaxInt = std::numeric_limits<int32_t>::max();
constexpr int64_t kMaxChoices = 128;    // per prompt
constexpr size_t kMaxSequences = 4096;  // per line

int32_t id_of_key(const std::string& key, const Json& value) {
  int32_t id = 0;
  const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
  if (error != std::errc() || end != key.data() + key.size()) wrong_field("logit_bias", "an object of token ids and biases", value);
  return id;
}

void read_logit_bias(JsonFields& body, SamplingParams& params) {
  const Json* value = body.find("logit_bias");
  if (!value) return;
  if (!value->is_object()) wrong_field("logit_bias", "an object of token ids and biases", *value);
  params.logit_bias.clear();
  for (const auto& [key, bias] : value->items()) {
    if (!bias.is_number()) wrong_field("logit_bias", "an object of token ids and biases", *value);
    params.logit_bias.push_back({id_of_key(key, *value), bias.get<float>()});
  }
}

void read_max_tokens(JsonFields& body, SamplingParams& params) {
  // The chat API's newer name goes before the older one.
  const auto newer = body.integer("max_completion_tokens", 0, kMaxInt), older = body.integer("max_tokens", 0, kMaxInt);
  if (newer || older) params.max_tokens = static_cast<int32_t>(newer ? *newer : *older);
}

template <typename T>
void set(T& target, const std::optional<T>& value) {
  if (value) target = *value;
}
void set(int32_t& target, const std::optional<int64_t>& value) {
  if (value) target = static_cast<int32_t>(*value);
}

std::vector<BatchPrompt> read_prompts(const Json& value) {
  static constexpr const char* what = "a string, a list of token ids, or a list of either";
  if (value.is_string()) return {{value.get<std::string>(), {}}};
  if (!value.is_array() || value.empty()) wrong_field("prompt", what, value);
  if (value.front().is_number()) return {{std::nullopt, ids_of(value, "prompt")}};
  std::vector<BatchPrompt> prompts;
  for (const Json& one : value) {
    if (one.is_string())
      prompts.push_back({one.get<std::string>(), {}});
    else if (one.is_array())
      prompts.push_back({std::nullopt, ids_of(one, "prompt")});
    else
      wrong_field("prompt", what, value);
  }
  return prompts;
}

// OpenAI's "content": a string, or a list of parts of which only texts can be read.
Json message_content(const Json& content, const std::string& where) {
  if (content.is_string() || content.is_null()) return content;
  if (!content.is_array()) wrong_field(where, "a string or a list of text parts", content);
  std::string text;
  for (const Json& part : content) {
    const auto type = part.is_object() ? part.find("type") : part.end();
    if (!part.is_object() || type == part.end()) wrong_field(where, "a string or a list of text parts", content);
    if (*type != "text")
      throw FieldError("messages", fmt::format("'{}' holds a part of type {}; only text is read", where, json_text(*type)));
    const auto held = part.find("text");
    if (held == part.end() || !held->is_string()) wrong_field(where, "a list of parts with a \"text\" each", content);
    text += held->get<std::string>();
  }
  return text;
}

}  // namespace

void read_sampling_fields(JsonFields& body, BatchRequest& request) {
  SamplingParams& params = request.params;
  set(params.temperature, body.number("temperature"));
  set(params.top_p, body.number("top_p"));
  set(params.min_p, body.number("min_p"));
  set(params.top_k, body.integer("top_k", -1, kMaxInt));
  if (params.top_k == -1) params.top_k = 0;
  set(params.repetition_penalty, body.number("repetition_penalty"));
  set(params.presence_penalty, body.number("presence_penalty"));
  set(params.frequency_penalty, body.number("frequency_penalty"));
  read_logit_bias(body, params);
  if (const auto seed = body.integer("seed", 0, std::numeric_limits<int64_t>::max())) params.seed = static_cast<uint64_t>(*seed);
  read_max_tokens(body, params);
  set(params.stop, body.texts("stop"));
  set(params.stop_token_ids, body.ids("stop_token_ids"));
  set(params.ignore_eos, body.boolean("ignore_eos"));
  set(params.include_stop, body.boolean("include_stop_str_in_output"));
  set(params.skip_special, body.boolean("skip_special_tokens"));
  set(request.n, body.integer("n", 1, kMaxChoices));
  set(request.add_special, body.boolean("add_special_tokens"));
}

void read_completion_fields(JsonFields& body, BatchRequest& request) {
  const Json* prompt = body.find("prompt");
  if (!prompt) throw FieldError("prompt", "there is no 'prompt'");
  request.prompts = read_prompts(*prompt);
  if (request.prompts.size() * static_cast<size_t>(request.n) > kMaxSequences)
    throw FieldError("prompt", fmt::format("{} prompts with n = {} are more than {} sequences. Spread them over several lines",
                                           request.prompts.size(), request.n, kMaxSequences));
  set(request.echo, body.boolean("echo"));
  set(request.params.logprobs, body.integer("logprobs", 0, kMaxTopLogprobs));
  if (request.echo && request.params.logprobs >= 0)
    throw FieldError("echo", "'echo' together with 'logprobs' is not supported: leave one of them out");
}

Json read_messages(JsonFields& body) {
  const Json* found = body.find("messages");
  if (!found) throw FieldError("messages", "there are no 'messages'");
  const Json& value = *found;
  if (!value.is_array() || value.empty()) wrong_field("messages", "a list of messages", value);
  Json messages = value;
  for (size_t i = 0; i < messages.size(); ++i) {
    Json& message = messages[i];
    const std::string where = fmt::format("messages[{}]", i);
    if (!message.is_object()) wrong_field(where, "an object with role and content", message);
    const auto role = message.find("role");
    if (role == message.end() || !role->is_string())
      throw FieldError("messages", fmt::format("'{}' has no \"role\" that is a string", where));
    const auto content = message.find("content");
    if (content == message.end()) {
      if (!message.contains("tool_calls")) throw FieldError("messages", fmt::format("'{}' has no \"content\"", where));
    } else {
      *content = message_content(*content, where + ".content");
    }
  }
  return messages;
}

void read_chat_fields(JsonFields& body, BatchRequest& request) {
  if (const Json* kwargs = body.find("chat_template_kwargs")) {
    if (!kwargs->is_object()) wrong_field("chat_template_kwargs", "an object", *kwargs);
    request.template_kwargs.update(*kwargs);
  }
  if (const Json* tools = body.find("tools")) {
    if (!tools->is_array()) wrong_field("tools", "a list", *tools);
    request.template_kwargs["tools"] = *tools;
  }
  if (const Json* documents = body.find("documents")) request.template_kwargs["documents"] = *documents;
  const bool goes_on = body.boolean("continue_final_message").value_or(false);
  if (goes_on) request.template_kwargs["continue_final_message"] = true;
  request.template_kwargs["add_generation_prompt"] = body.boolean("add_generation_prompt").value_or(!goes_on);
  const auto top = body.integer("top_logprobs", 0, kMaxTopLogprobs);
  const auto wanted = body.boolean("logprobs");
  if (top && wanted != true) throw FieldError("top_logprobs", "'top_logprobs' needs \"logprobs\": true");
  if (wanted) request.params.logprobs = *wanted ? static_cast<int32_t>(top.value_or(0)) : -1;
}

void refuse_unsupported(JsonFields& body, const BatchRequest& request) {
  const auto refuse = [&](const char* name, std::initializer_list<Json> neutral) {
    const Json* value = body.find(name);
    if (!value || std::find(neutral.begin(), neutral.end(), *value) != neutral.end()) return;
    throw FieldError(name, fmt::format("'{}' is not supported in a batch: leave it out", name));
  };
  refuse("stream", {false});
  refuse("best_of", {1, request.n});
  refuse("suffix", {""});
  refuse("min_tokens", {0});
  refuse("response_format", {Json{{"type", "text"}}});
  refuse("tool_choice", {"auto", "none"});
  refuse("use_beam_search", {false});
  refuse("modalities", {Json::array({"text"})});
  for (const char* name : {"prompt_logprobs", "truncate_prompt_tokens", "guided_json", "guided_regex", "guided_choice", "guided_grammar",
                           "structured_outputs", "functions", "function_call", "audio", "prediction", "logits_processors", "bad_words"}) {
    refuse(name, {});
  }
  // Of no influence on the text.
  for (const char* name : {"user", "metadata", "store", "service_tier", "stream_options", "parallel_tool_calls", "prompt_cache_key",
                           "safety_identifier", "request_id", "priority"}) {
    body.find(name);
  }
}

}  // namespace bolide
