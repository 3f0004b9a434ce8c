#include "cli/batch_record.h"

#include "core/digest.h"

namespace bolide {
namespace {

// A byte that is no whole character alone has no bytes to show: the vocabulary's text stands for it.
Json token_bytes(const std::string& text) {
  if (text.find("\uFFFD") != std::string::npos) return nullptr;
  Json bytes = Json::array();
  for (const char c : text) bytes.push_back(static_cast<unsigned char>(c));
  return bytes;
}

Json stop_reason(const SequenceResult& result) {
  if (result.stop_match) return *result.stop_match;
  if (result.stop_token) return *result.stop_token;
  return nullptr;
}

}  // namespace

std::string RecordWriter::id(const char* prefix, int64_t line) const {
  Digest digest;
  digest.add(fmt::format("{} {:016x} {:016x} {}", line, run_.input, run_.settings, run_.seed));
  return prefix + digest.hex();
}

std::string RecordWriter::token_text(int32_t id) const {
  return tokenizer_.token(id) ? tokenizer_.decode(std::span(&id, 1), false) : std::string();
}

Json RecordWriter::record(int64_t line, const std::string& custom_id) const {
  return {{"id", id("batch_req_", line)},
          {"custom_id", custom_id.empty() ? Json() : Json(custom_id)},
          {"response", nullptr},
          {"error", nullptr},
          {"line", line},
          {"seed", nullptr},
          {"run",
           {{"schema_version", kBatchSchemaVersion},
            {"input", fmt::format("{:016x}", run_.input)},
            {"settings", fmt::format("{:016x}", run_.settings)},
            {"seed", run_.seed}}}};
}

std::string RecordWriter::line_error(int64_t line, const std::string& custom_id, const std::string& text) const {
  Json object = record(line, custom_id);
  object["error"] = {{"code", "invalid_line"}, {"message", fmt::format("line {}: {}", line, text)}};
  return json_text(object) + "\n";
}

std::string RecordWriter::request_error(int64_t line, const std::string& custom_id, int status, const std::string& field,
                                        const std::string& text) const {
  const bool too_long = text.starts_with("prompt has ");
  Json object = record(line, custom_id);
  const Json error{{"message", text},
                   {"type", status == 400 ? "invalid_request_error" : "server_error"},
                   {"param", field.empty() ? Json() : Json(field)},
                   {"code", too_long ? Json("context_length_exceeded") : Json()}};
  object["response"] = {{"status_code", status}, {"request_id", id("req_", line)}, {"body", {{"error", error}}}};
  return json_text(object) + "\n";
}

std::string RecordWriter::answer(const BatchJob& job, std::time_t created) const {
  const BatchRequest& request = job.request();
  Json object = record(request.line, request.custom_id);
  object["response"] = {{"status_code", 200}, {"request_id", id("req_", request.line)}, {"body", body(job, created)}};
  object["seed"] = request.params.seed;
  return json_text(object) + "\n";
}

Json RecordWriter::body(const BatchJob& job, std::time_t created) const {
  const bool chat = job.request().chat;
  Json choices = Json::array();
  for (size_t i = 0; i < job.choices().size(); ++i) choices.push_back(choice(job, i));
  const int64_t prompt = job.prompt_tokens(), output = job.output_tokens();
  return {{"id", id(chat ? "chatcmpl-" : "cmpl-", job.request().line)},
          {"object", chat ? "chat.completion" : "text_completion"},
          {"created", static_cast<int64_t>(created)},
          {"model", model_},
          {"choices", std::move(choices)},
          {"usage", {{"prompt_tokens", prompt}, {"completion_tokens", output}, {"total_tokens", prompt + output}}}};
}

Json RecordWriter::choice(const BatchJob& job, size_t index) const {
  const BatchRequest& request = job.request();
  const BatchJob::Choice& made = *job.choices()[index];
  const bool logprobs = request.params.logprobs >= 0;
  Json object{{"index", index}};
  if (request.chat) {
    object["message"] = {{"role", "assistant"}, {"content", made.result.text}};
    object["logprobs"] = logprobs ? chat_logprobs(made) : Json();
  } else {
    const std::string prompt = request.echo ? prompts_.echoed(request.prompts[index / static_cast<size_t>(request.n)]) : "";
    object["text"] = prompt + made.result.text;
    object["logprobs"] = logprobs ? completion_logprobs(made) : Json();
  }
  object["finish_reason"] = finish_reason_name(made.result.reason);
  object["stop_reason"] = stop_reason(made.result);
  return object;
}

Json RecordWriter::completion_logprobs(const BatchJob::Choice& choice) const {
  Json tokens = Json::array(), values = Json::array(), tops = Json::array(), offsets = Json::array();
  for (const LogprobToken& token : choice.tokens) {
    tokens.push_back(token_text(token.id));
    values.push_back(json_number(token.logprob));
    offsets.push_back(token.offset);
    Json top = Json::object();
    for (const TokenLogprob& entry : token.top) {
      // Different tokens can have one text (bytes of a character that is not whole): the most probable one keeps it.
      if (const std::string text = token_text(entry.id); !top.contains(text)) top[text] = json_number(entry.logprob);
    }
    tops.push_back(std::move(top));
  }
  return {{"tokens", std::move(tokens)},
          {"token_logprobs", std::move(values)},
          {"top_logprobs", std::move(tops)},
          {"text_offset", std::move(offsets)}};
}

Json RecordWriter::chat_logprobs(const BatchJob::Choice& choice) const {
  const auto entry = [&](int32_t token, float logprob) {
    const std::string text = token_text(token);
    return Json{{"token", text}, {"logprob", json_number(logprob)}, {"bytes", token_bytes(text)}};
  };
  Json content = Json::array();
  for (const LogprobToken& token : choice.tokens) {
    Json object = entry(token.id, token.logprob);
    Json top = Json::array();
    for (const TokenLogprob& other : token.top) top.push_back(entry(other.id, other.logprob));
    object["top_logprobs"] = std::move(top);
    content.push_back(std::move(object));
  }
  return {{"content", std::move(content)}};
}

}  // namespace bolide
