// Fields of an untrusted JSON object: each is read once, checked for its type and range, and what nobody read is known afterwards.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/json.h"
#include "core/error.h"

namespace bolide {

// A field that is missing, of the wrong type, out of range or not supported. The text names it.
struct FieldError : Error {
  FieldError(std::string name, const std::string& text) : Error(text), field(std::move(name)) {}
  std::string field;
};

class JsonFields {
 public:
  // `object` must outlive it.
  explicit JsonFields(const Json& object) : object_(object) {}

  // Null when absent; null values count as absent everywhere.
  const Json* find(const char* name);
  std::optional<bool> boolean(const char* name);
  // Any finite number.
  std::optional<float> number(const char* name);
  std::optional<int64_t> integer(const char* name, int64_t lowest, int64_t largest);
  std::optional<std::string> text(const char* name);
  // A string, or a list of strings.
  std::optional<std::vector<std::string>> texts(const char* name);
  std::optional<std::vector<int32_t>> ids(const char* name);

  // Fields of the object that were never asked for.
  std::vector<std::string> unread() const;

 private:
  const Json& object_;
  std::vector<std::string> read_;
};

// Throws FieldError: "NAME must be WHAT, not VALUE".
[[noreturn]] void wrong_field(const std::string& name, const std::string& what, const Json& value);

// A list of token ids; `name` is said in errors.
std::vector<int32_t> ids_of(const Json& value, const std::string& name);

}  // namespace bolide
