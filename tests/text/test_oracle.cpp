// Agreement with the original libraries, row by row (the rows come from tests/text/make_oracle.py).
#include "catch.h"
#include "fixtures.h"

using namespace bolide;
using bolide::test::oracle_cases;
using bolide::test::published_cases;
using bolide::test::streamed;
using bolide::test::tokenizer;

namespace {

using Ids = std::vector<int32_t>;

void check_row(const Tokenizer& t, const nlohmann::json& row) {
  const Ids ids = row.at("ids").get<Ids>();
  if (!row.contains("decode_only")) {
    const std::string text = row.at("text").get<std::string>();
    INFO("text " << nlohmann::json(text).dump());
    CHECK(t.encode(text, {}) == ids);
    CHECK(t.encode(text, {.add_special = true}) == row.value("ids_with_special", ids));
    CHECK(t.encode(text, {.parse_special = false}) == row.value("ids_plain", ids));
  }
  if (row.contains("decoded")) {
    INFO("ids " << row.at("ids").dump());
    CHECK(t.decode(ids, false) == row.at("decoded").get<std::string>());
    CHECK(t.decode(ids, true) == row.at("decoded_skip").get<std::string>());
  }
  for (const bool skip : {false, true}) CHECK(streamed(t, ids, skip) == t.decode(ids, skip));
}

}  // namespace

TEST_CASE("published tokenizers agree with the reference rows") {
  for (const char* name : {"qwen3", "llama2"}) {
    const Tokenizer& t = tokenizer(name);
    for (const nlohmann::json& row : published_cases(name)) {
      const std::string text = row.at("text").get<std::string>();
      INFO(name << " " << nlohmann::json(text).dump());
      const Ids ids = row.at("ids").get<Ids>();
      CHECK(t.encode(text, {}) == ids);
      CHECK(t.encode(text, {.add_special = true}) == row.at("ids_with_special").get<Ids>());
      CHECK(t.decode(ids, false) == row.at("decoded").get<std::string>());
      CHECK(t.decode(ids, true) == row.at("decoded_skip").get<std::string>());
      CHECK(streamed(t, ids, false) == row.at("decoded").get<std::string>());
      CHECK(streamed(t, ids, true) == row.at("decoded_skip").get<std::string>());
    }
  }
}

TEST_CASE("published tokenizers agree with their library on random text") {
  for (const char* name : {"qwen3", "llama2"}) {
    const std::vector<nlohmann::json> rows = oracle_cases(name);
    CHECK(rows.size() >= 1000);
    for (const nlohmann::json& row : rows) {
      INFO(name);
      check_row(tokenizer(name), row);
    }
  }
}

TEST_CASE("every supported node agrees with the library on random text") {
  for (const std::string& name : bolide::test::synthetic_names()) {
    for (const nlohmann::json& row : oracle_cases(name)) {
      INFO(name);
      check_row(tokenizer(name), row);
    }
  }
}
