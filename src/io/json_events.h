// Base of the event parsers for safetensors headers and indexes. Parsing by events keeps memory proportional to what is kept, whatever
// the nesting of hostile JSON, and sees duplicate keys, which a document tree hides.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace bolide {

// Every event is an error unless the derived parser expects it.
class JsonEvents : public nlohmann::json_sax<nlohmann::json> {
 public:
  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("a boolean"); }
  bool number_integer(number_integer_t) override { return unexpected("a negative number"); }
  bool number_unsigned(number_unsigned_t) override { return unexpected("a number"); }
  bool number_float(number_float_t, const string_t&) override { return unexpected("a number that is no 64-bit integer"); }
  bool string(string_t&) override { return unexpected("a string"); }
  bool binary(binary_t&) override { return unexpected("binary data"); }
  bool start_object(size_t) override { return unexpected("an object"); }
  bool end_object() override { return unexpected("the end of an object"); }
  bool start_array(size_t) override { return unexpected("an array"); }
  bool end_array() override { return unexpected("the end of an array"); }
  bool key(string_t&) override { return unexpected("a key"); }
  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception&) override;

  // What stopped the parser; empty if nothing did.
  const std::string& error() const { return error_; }

 protected:
  bool fail(std::string text) {
    error_ = std::move(text);
    return false;
  }
  virtual bool unexpected(std::string_view what) = 0;

 private:
  std::string error_;
};

// Feeds `text` to `events`; true if all of it was accepted. Otherwise events.error() says why.
bool parse_json_events(std::string_view text, JsonEvents& events);

}  // namespace bolide
