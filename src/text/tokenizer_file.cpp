#include "text/tokenizer_file.h"

#include <algorithm>
#include <vector>

#include "core/error.h"
#include "text/json_node.h"

namespace bolide {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxDepth = 64;

class Reader : public nlohmann::json_sax<Json> {
 public:
  Reader(TokenizerFile& file, const std::string& source) : file_(file), source_(source) {}

  bool null() override { return value(nullptr); }
  bool boolean(bool v) override { return value(v); }
  bool number_float(number_float_t v, const string_t&) override { return value(v); }
  bool binary(binary_t&) override { return fail("holds binary data"); }

  bool number_integer(number_integer_t v) override {
    if (mode_ == Mode::vocab) return vocab_fail();
    return value(v);
  }

  bool number_unsigned(number_unsigned_t v) override {
    if (mode_ != Mode::vocab) return value(v);
    if (v > static_cast<number_unsigned_t>(kMaxTokenId)) return vocab_fail();
    file_.vocabulary.add(key_, static_cast<int32_t>(v));
    return true;
  }

  bool string(string_t& v) override {
    if (mode_ == Mode::merges) {
      if (v.starts_with("#version")) return true;
      const size_t blank = v.find(' ');
      if (blank == std::string::npos || v.find(' ', blank + 1) != std::string::npos) return merge_fail();
      file_.merges.add(std::string_view(v).substr(0, blank), std::string_view(v).substr(blank + 1));
      return true;
    }
    if (mode_ == Mode::merge_pair) {
      if (pair_size_ == 2) return merge_fail();
      pair_[pair_size_++] = std::move(v);
      return true;
    }
    return value(std::move(v));
  }

  bool key(string_t& v) override {
    key_ = std::move(v);
    return true;
  }

  bool start_object(size_t) override {
    if (mode_ == Mode::tree && in_model() && key_ == "vocab") {
      mode_ = Mode::vocab;
      file_.has_vocabulary = true;
      return true;
    }
    return open(Json::object());
  }

  bool start_array(size_t) override {
    if (mode_ == Mode::merges) {
      mode_ = Mode::merge_pair;
      pair_size_ = 0;
      return true;
    }
    if (mode_ == Mode::tree && in_model() && key_ == "merges") {
      mode_ = Mode::merges;
      file_.has_merges = true;
      return true;
    }
    return open(Json::array());
  }

  bool end_object() override {
    if (mode_ == Mode::vocab) {
      mode_ = Mode::tree;
      return true;
    }
    return close();
  }

  bool end_array() override {
    if (mode_ == Mode::merge_pair) {
      if (pair_size_ != 2) return merge_fail();
      file_.merges.add(pair_[0], pair_[1]);
      mode_ = Mode::merges;
      return true;
    }
    if (mode_ == Mode::merges) {
      mode_ = Mode::tree;
      return true;
    }
    return close();
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) override {
    return fail(fmt::format("is not valid JSON: unexpected input at byte {}. Fetch the file again", position));
  }

 private:
  enum class Mode { tree, vocab, merges, merge_pair };

  bool fail(const std::string& what) const { throw ModelError(fmt::format("{}: {}", source_, what)); }
  bool vocab_fail() const {
    return fail(fmt::format("model.vocab: the token '{}' has an id that is not an integer from 0 to {}", key_, kMaxTokenId));
  }
  bool merge_fail() const { return fail(fmt::format("model.merges[{}] is neither \"a b\" nor [\"a\", \"b\"]", file_.merges.size())); }
  bool in_model() const { return open_.size() == 2 && open_[0]->is_object() && open_[1] == model_; }

  Json* attach(Json&& v) {
    if (open_.empty()) return &(file_.rest = std::move(v));
    Json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(v));
      return &parent.back();
    }
    return &(parent[key_] = std::move(v));
  }
  template <class T>
  bool value(T&& v) {
    if (mode_ == Mode::vocab) return vocab_fail();
    if (mode_ != Mode::tree) return merge_fail();
    attach(Json(std::forward<T>(v)));
    return true;
  }
  bool open(Json&& container) {
    if (mode_ == Mode::vocab) return vocab_fail();
    if (mode_ != Mode::tree) return merge_fail();
    if (open_.size() >= kMaxDepth) return fail(fmt::format("nests deeper than {} levels", kMaxDepth));
    const bool is_model = open_.size() == 1 && open_[0]->is_object() && key_ == "model";
    open_.push_back(attach(std::move(container)));
    if (is_model) model_ = open_.back();
    return true;
  }
  bool close() {
    if (open_.back() == model_) model_ = nullptr;
    open_.pop_back();
    return true;
  }

  TokenizerFile& file_;
  const std::string& source_;
  Mode mode_ = Mode::tree;
  std::vector<Json*> open_;      // containers from the root to here
  const Json* model_ = nullptr;  // while it is open
  std::string key_;
  std::string pair_[2];
  size_t pair_size_ = 0;
};

}  // namespace

TokenizerFile read_tokenizer_file(std::string_view text, const std::string& source) {
  TokenizerFile file;
  Reader reader(file, source);
  Json::sax_parse(text, &reader);
  return file;
}

}  // namespace bolide
