#include "cli/batch_request.h"

#include <algorithm>

#include "cli/batch_fields.h"
#include "core/messages.h"
#include "core/philox.h"
#include "text/utf8.h"

namespace bolide {
namespace {

constexpr size_t kMaxNoted = 20;
constexpr uint64_t kLineSeedStream = 0x6C696E65;  // apart from the streams that tokens are drawn from

void note(std::set<std::string>& names, const std::string& name) {
  if (names.size() < kMaxNoted) names.insert(name.substr(0, 80));
}

constexpr int kMaxNesting = 200;

// Whether brackets outside of strings nest deeper than any request does: such a value would take the stack when it is walked.
bool nests_too_deep(std::string_view json) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (in_string) {
      if (c == '\\')
        ++i;
      else if (c == '"')
        in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kMaxNesting) return true;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return false;
}

// Where the object is OpenAI's batch form: the fields around the body.
struct Envelope {
  const Json* body;
  bool chat;
};
Envelope open_envelope(JsonFields& outer, const std::string& custom_id) {
  const auto wrong = [&](const std::string& text) -> LineError { return {text, custom_id}; };
  const Json* body = outer.find("body");
  if (!body || !body->is_object()) throw wrong("there is no \"body\" that is an object");
  const auto url = outer.text("url");
  if (!url) throw wrong("there is no \"url\": /v1/chat/completions or /v1/completions");
  if (const auto method = outer.text("method"); method && *method != "POST")
    throw wrong(fmt::format("\"method\" {} is not \"POST\"", in_quotes(*method)));
  if (*url == "/v1/chat/completions") return {body, true};
  if (*url == "/v1/completions") return {body, false};
  throw wrong(fmt::format("\"url\" {} is neither /v1/chat/completions nor /v1/completions", in_quotes(*url)));
}

bool begins_with_system(const Json& messages) {
  const auto& role = messages.front().at("role").get_ref<const std::string&>();
  return role == "system" || role == "developer";
}

}  // namespace

uint64_t line_seed(uint64_t run_seed, int64_t line) { return philox4x32(run_seed, static_cast<uint64_t>(line), kLineSeedStream).v[0]; }

FieldText field_text(const std::string& flag_text) {
  if (!flag_text.starts_with("--")) return {"", flag_text};
  const size_t end = std::min(flag_text.find_first_of(" :,", 2), flag_text.size());
  std::string field = flag_text.substr(2, end - 2);
  std::replace(field.begin(), field.end(), '-', '_');
  if (field == "repeat_penalty") field = "repetition_penalty";
  if (field == "stop_token_id") field = "stop_token_ids";
  return {field, field + flag_text.substr(end)};
}

BatchRequest RequestReader::read(const std::string& line, int64_t number) {
  BatchRequest request;
  request.line = number;
  request.custom_id = std::to_string(number);
  request.params = defaults_.params;
  request.params.seed = line_seed(defaults_.params.seed, number);
  request.n = defaults_.n;
  request.add_special = defaults_.add_special;
  if (format_ == LineFormat::text) {
    if (const auto offset = first_invalid_utf8(line))
      throw LineError(fmt::format("not valid UTF-8 at byte {}", *offset), request.custom_id);
    if (defaults_.chat)
      begin_chat(request, line);
    else
      request.prompts.push_back({line, {}});
    return request;
  }
  if (nests_too_deep(line)) throw LineError(fmt::format("nested deeper than {} levels", kMaxNesting));
  Json object;
  try {
    object = parse_json(line);
  } catch (const Error& error) {
    throw LineError(error.what());
  }
  if (!object.is_object()) throw LineError("not a JSON object");
  try {
    read_object(object, request);
    request.params.validate(std::numeric_limits<int32_t>::max());
  } catch (const FieldError& error) {
    throw RequestError(request.custom_id, error.field, error.what());
  } catch (const UsageError& error) {
    const FieldText field = field_text(error.what());
    throw RequestError(request.custom_id, field.field, field.text);
  }
  return request;
}

void RequestReader::read_object(const Json& object, BatchRequest& request) {
  JsonFields outer(object);
  const bool enveloped = object.contains("body") || object.contains("url") || object.contains("method");
  if (const Json* id = outer.find("custom_id")) {
    if (!id->is_string() || id->get_ref<const std::string&>().empty()) throw LineError("\"custom_id\" is no string, or an empty one");
    request.custom_id = id->get<std::string>();
  } else if (enveloped) {
    throw LineError("there is no \"custom_id\"");
  }
  if (enveloped) {
    const Envelope envelope = open_envelope(outer, request.custom_id);
    request.chat = envelope.chat;
    check_unread(outer);
    JsonFields body(*envelope.body);
    read_body(body, request);
    check_unread(body);
    return;
  }
  const bool prompt = object.contains("prompt"), messages = object.contains("messages");
  if (prompt == messages)
    throw LineError(prompt ? "there are both \"prompt\" and \"messages\"" : "there is neither \"prompt\", \"messages\" nor \"body\"",
                    request.custom_id);
  request.chat = messages;
  if (const Json* text = outer.find("prompt"); text && text->is_string() && defaults_.chat) begin_chat(request, text->get<std::string>());
  read_body(outer, request);
  check_unread(outer);
}

// The conversation that a text alone is with --chat.
void RequestReader::begin_chat(BatchRequest& request, const std::string& prompt) const {
  request.chat = true;
  request.messages = Json::array();
  if (!defaults_.system.is_null()) request.messages.push_back(defaults_.system);
  request.messages.push_back({{"role", "user"}, {"content", prompt}});
  request.template_kwargs = defaults_.template_kwargs;
  request.template_kwargs["add_generation_prompt"] = true;
}

void RequestReader::read_body(JsonFields& body, BatchRequest& request) {
  if (const auto model = body.text("model")) {
    request.model = *model;
    note(models_, *model);
  }
  read_sampling_fields(body, request);
  if (request.chat) {
    if (request.template_kwargs.is_null()) request.template_kwargs = defaults_.template_kwargs;
    if (request.messages.is_null()) request.messages = read_messages(body);
    if (!defaults_.system.is_null() && !begins_with_system(request.messages))
      request.messages.insert(request.messages.begin(), defaults_.system);
    read_chat_fields(body, request);
  } else {
    read_completion_fields(body, request);
  }
  refuse_unsupported(body, request);
}

void RequestReader::check_unread(const JsonFields& fields) {
  for (const std::string& name : fields.unread()) {
    if (defaults_.strict) throw FieldError(name.substr(0, 80), fmt::format("unknown field {}", in_quotes(name, 80)));
    note(unknown_, name);
  }
}

}  // namespace bolide
