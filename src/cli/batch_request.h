// A line of a batch's input and what it asks for.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "cli/json.h"
#include "cli/json_fields.h"
#include "engine/sampling_params.h"

namespace bolide {

// One prompt of a completion: a text, or token ids as they are.
struct BatchPrompt {
  std::optional<std::string> text;
  std::vector<int32_t> ids;
};

struct BatchRequest {
  int64_t line = 0;
  std::string custom_id;             // the line's number where it gives none
  bool chat = false;                 // messages, not prompts
  std::vector<BatchPrompt> prompts;  // at least one unless it is a chat
  Json messages, template_kwargs;    // chat: a list, the system message included; an object, with tools and add_generation_prompt
  SamplingParams params;             // the seed included; sequence_key is set for each choice
  int32_t n = 1;                     // sequences per prompt
  bool echo = false;
  bool add_special = true;
  std::string model;  // asked for; "" = nothing
};

// A line that is no request at all: there is nothing to answer with a status.
struct LineError : Error {
  LineError(const std::string& text, std::string id = "") : Error(text), custom_id(std::move(id)) {}
  std::string custom_id;  // where it was readable
};
// A request that cannot be served, which OpenAI answers with status 400.
struct RequestError : Error {
  RequestError(std::string id, std::string name, const std::string& text) : Error(text), custom_id(std::move(id)), field(std::move(name)) {}
  std::string custom_id, field;  // field: "" where none is to blame
};

enum class LineFormat : uint8_t { jsonl, text };

class RequestReader {
 public:
  struct Defaults {
    SamplingParams params;  // flags over generation_config.json; its seed is the whole run's
    int32_t n = 1;
    bool add_special = true;  // of completions
    bool strict = false;      // fields nobody knows are errors
    bool chat = false;        // prompts that are a text alone are what a user says
    Json system;              // message before conversations that begin with none of their own; null = nothing
    Json template_kwargs = Json::object();
  };
  RequestReader(LineFormat format, Defaults defaults) : format_(format), defaults_(std::move(defaults)) {}

  // Throws LineError or RequestError. What depends on the model (its vocabulary, its context) is left to the engine.
  BatchRequest read(const std::string& line, int64_t number);

  // Fields that were ignored because nobody knows them, and models that were asked for, as seen so far (the first 20 of each).
  const std::set<std::string>& unknown_fields() const { return unknown_; }
  const std::set<std::string>& models() const { return models_; }

 private:
  void read_object(const Json& object, BatchRequest& request);
  void read_body(JsonFields& body, BatchRequest& request);
  void begin_chat(BatchRequest& request, const std::string& prompt) const;
  void check_unread(const JsonFields& fields);

  LineFormat format_;
  Defaults defaults_;
  std::set<std::string> unknown_, models_;
};

// The seed of a line that gives none: it depends on the run's seed and the line's number alone. 32 bits, which any JSON reader keeps.
uint64_t line_seed(uint64_t run_seed, int64_t line);

// An error text that speaks of flags ("--top-p 3 is outside ...") as one that speaks of fields ("top_p 3 is ..."), and the field.
struct FieldText {
  std::string field, text;
};
FieldText field_text(const std::string& flag_text);

}  // namespace bolide
